"""Forms of small elementwise ideas, of means and of broadcasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .case import Case
from .movement import bodies, enclosed

if TYPE_CHECKING:
    from .maker import Maker
    from .movement import Body, Form


def broadcast(how: str) -> Body:
    """A row added to every token."""

    def body(g: Maker, x: str) -> str:
        row = g.Tanh(g.draw("row", 1, 1, 768))
        if how == "Expand, Add":
            row = g.Expand(row, g.ints(1, 128, 768))
        elif how == "Tile, Add":
            row = g.Tile(row, g.ints(1, 128, 1))
        return g.Add(x, row)

    return body


def divided(how: str) -> Body:
    """A computed divisor per token."""

    def body(g: Maker, x: str) -> str:
        d = g.Sqrt(g.Add(g.ReduceMean(g.Abs(x), g.ints(-1)), g.constant(1.0)))
        if how == "Div":
            return g.Div(x, d)
        if how == "Reciprocal, Mul":
            return g.Mul(x, g.Reciprocal(d))
        if how == "1 ÷ d, Mul":
            return g.Mul(x, g.Div(g.constant(1.0), d))
        return g.Mul(x, g.Pow(d, g.constant(-1.0)))

    return body


def axis(how: str) -> Body:
    """Softmax over an axis that is not the last."""

    def body(g: Maker, x: str) -> str:
        if how == "Softmax axis 1":
            return g.Softmax(x, axis=1)
        y = g.Softmax(g.Transpose(x, perm=[0, 2, 1]), axis=-1)
        return g.Transpose(y, perm=[0, 2, 1])

    return body


def reduced(how: str) -> Body:
    """Mean of the last axis."""

    def body(g: Maker, x: str) -> str:
        if how == "ReduceMean":
            m = g.ReduceMean(x, g.ints(-1))
        elif how == "ReduceMean, Unsqueeze":
            m = g.Unsqueeze(g.ReduceMean(x, g.ints(-1), keepdims=0), g.ints(-1))
        elif how == "ReduceSum, Div":
            m = g.Div(g.ReduceSum(x, g.ints(-1)), g.constant(768.0))
        else:
            m = g.MatMul(x, g.constant(np.full((768, 1), 1 / 768, np.float32)))
        return g.Sub(x, m)

    return body


_UNARY: dict[str, dict[str, Body]] = {
    "square": {
        "Mul(x, x)": lambda g, x: g.Mul(x, x),
        "Pow 2": lambda g, x: g.Pow(x, g.constant(2.0)),
    },
    "cube": {
        "Mul, Mul": lambda g, x: g.Mul(g.Mul(x, x), x),
        "Pow 3": lambda g, x: g.Pow(x, g.constant(3.0)),
    },
    "square root of Abs": {
        "Sqrt": lambda g, x: g.Sqrt(g.Abs(x)),
        "Pow 0.5": lambda g, x: g.Pow(g.Abs(x), g.constant(0.5)),
    },
    "divide by a constant": {
        "Mul": lambda g, x: g.Mul(x, g.constant(1 / 8)),
        "Div": lambda g, x: g.Div(x, g.constant(8.0)),
    },
    "clip": {
        "Clip": lambda g, x: g.Clip(x, g.constant(-1.0), g.constant(1.0)),
        "Min, Max": lambda g, x: g.Max(g.Min(x, g.constant(1.0)), g.constant(-1.0)),
    },
    "relu": {
        "Relu": lambda g, x: g.Relu(x),
        "Max 0": lambda g, x: g.Max(x, g.constant(0.0)),
        "Clip from 0": lambda g, x: g.Clip(x, g.constant(0.0)),
        "LeakyRelu 0": lambda g, x: g.LeakyRelu(x, alpha=0.0),
    },
    "negative": {
        "Neg": lambda g, x: g.Neg(x),
        "Mul -1": lambda g, x: g.Mul(x, g.constant(-1.0)),
        "0 - x": lambda g, x: g.Sub(g.constant(0.0), x),
    },
    "subtract a constant": {
        "Add": lambda g, x: g.Add(x, g.weight("c", 768)),
        "Sub": lambda g, x: g.Sub(x, g.Neg(g.weight("c", 768))),
    },
    "nothing": {
        "nothing": lambda g, x: x,
        "Identity": lambda g, x: g.Identity(x),
        "Dropout": lambda g, x: g.Dropout(x),
        "Cast to itself": lambda g, x: g.Cast(x, to=1),
        "Cast to double and back": lambda g, x: g.Cast(g.Cast(x, to=11), to=1),
    },
    "sigmoid": {
        "Sigmoid": lambda g, x: g.Sigmoid(x),
        "1÷(1+exp(-x))": lambda g, x: g.Div(
            g.constant(1.0), g.Add(g.constant(1.0), g.Exp(g.Neg(x)))
        ),
    },
}


_CASES: tuple[tuple[str, dict[str, Form]], ...] = (
    ("row added", bodies(enclosed, broadcast, "Add", "Expand, Add", "Tile, Add")),
    (
        "computed divisor",
        bodies(enclosed, divided, "Div", "Reciprocal, Mul", "1 ÷ d, Mul", "Pow -1, Mul"),
    ),
    (
        "Softmax over axis 1",
        bodies(enclosed, axis, "Softmax axis 1", "Transpose, Softmax, Transpose"),
    ),
    (
        "mean of the last axis",
        bodies(
            enclosed,
            reduced,
            "ReduceMean",
            "ReduceMean, Unsqueeze",
            "ReduceSum, Div",
            "MatMul",
        ),
    ),
    *(
        (name, {form: enclosed(body, 128, 768) for form, body in table.items()})
        for name, table in _UNARY.items()
    ),
)
CASES = tuple(Case("7-movement", name, forms) for name, forms in _CASES)
