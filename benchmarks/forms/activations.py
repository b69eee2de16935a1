"""Forms of activations, after a convolution and after a layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .case import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .maker import Maker

    Activation = Callable[[Maker, str], str]


def c(g: Maker, value: float) -> str:
    """A scalar constant."""
    return g.constant(value)


def newer(op: str, opset: int, **attributes: float | str) -> Activation:
    """An operation of a newer opset."""

    def build(g: Maker, x: str) -> str:
        g.needs(opset)
        return g.node(op, x, **attributes)  # type: ignore[return-value]

    return build


def clip(g: Maker, x: str) -> str:
    """The numerator: x + 3 between 0 and 6."""
    return g.Clip(g.Add(x, c(g, 3.0)), c(g, 0.0), c(g, 6.0))


def mish_ratio(g: Maker, x: str) -> str:
    """X n ÷ (n + 2) with n = e (e + 2), e = exp(x): tanh(log(1 + e)); x is cut where it is 1."""
    e = g.Exp(g.Min(x, c(g, 20.0)))
    n = g.Mul(e, g.Add(e, c(g, 2.0)))
    return g.Mul(x, g.Div(n, g.Add(n, c(g, 2.0))))


def softplus_stable(g: Maker, x: str) -> str:
    """As max(x, 0) + log(1 + exp(-|x|)), which does not overflow."""
    return g.Add(g.Relu(x), g.Log(g.Add(g.Exp(g.Neg(g.Abs(x))), c(g, 1.0))))


SIXTH = 1.0 / 6.0
HARDSWISH: Mapping[str, Activation] = {
    "HardSwish-14": newer("HardSwish", 18),
    "HardSwish-22": newer("HardSwish", 22),
    "x·HardSigmoid(x)": lambda g, x: g.Mul(x, g.HardSigmoid(x, alpha=SIXTH, beta=0.5)),
    "x·clip(x+3)÷6": lambda g, x: g.Div(g.Mul(x, clip(g, x)), c(g, 6.0)),
    "x·clip(x+3)·(1/6)": lambda g, x: g.Mul(g.Mul(x, clip(g, x)), c(g, SIXTH)),
    "x·(clip(x+3)÷6)": lambda g, x: g.Mul(x, g.Div(clip(g, x), c(g, 6.0))),
}
HARDSIGMOID: Mapping[str, Activation] = {
    "HardSigmoid": lambda g, x: g.HardSigmoid(x, alpha=SIXTH, beta=0.5),
    "clip(x+3)÷6": lambda g, x: g.Div(clip(g, x), c(g, 6.0)),
    "clip(x·a+b, 0, 1)": lambda g, x: g.Clip(
        g.Add(g.Mul(x, c(g, SIXTH)), c(g, 0.5)), c(g, 0.0), c(g, 1.0)
    ),
}
SILU: Mapping[str, Activation] = {
    "x·Sigmoid(x)": lambda g, x: g.Mul(x, g.Sigmoid(x)),
    "Sigmoid(x)·x": lambda g, x: g.Mul(g.Sigmoid(x), x),
    "QuickGelu alpha 1": lambda g, x: g.ms("QuickGelu", x, alpha=1.0),
    "Swish-24": newer("Swish", 24),
    "x÷(1+exp(-x))": lambda g, x: g.Div(x, g.Add(c(g, 1.0), g.Exp(g.Neg(x)))),
}
MISH: Mapping[str, Activation] = {
    "x·Tanh(Softplus(x))": lambda g, x: g.Mul(x, g.Tanh(g.Softplus(x))),
    "Mish-18": newer("Mish", 18),
    "x·n÷(n+2)": mish_ratio,
    "x·Tanh(stable Softplus)": lambda g, x: g.Mul(x, g.Tanh(softplus_stable(g, x))),
    "x·Tanh(Log(1+Exp(x)))": lambda g, x: g.Mul(x, g.Tanh(g.Log(g.Add(g.Exp(x), c(g, 1.0))))),
}
SOFTPLUS: Mapping[str, Activation] = {
    "Softplus": lambda g, x: g.Softplus(x),
    "max(x, 0)+Log(1+Exp(-|x|))": softplus_stable,
    "Log(1+Exp(x))": lambda g, x: g.Log(g.Add(g.Exp(x), c(g, 1.0))),
}
OTHERS: Mapping[str, Activation] = {
    "none": lambda g, x: x,
    "Relu": lambda g, x: g.Relu(x),
    "Clip 0 6": lambda g, x: g.Clip(x, c(g, 0.0), c(g, 6.0)),
    "LeakyRelu": lambda g, x: g.LeakyRelu(x, alpha=0.1),
    "Sigmoid": lambda g, x: g.Sigmoid(x),
    "Tanh": lambda g, x: g.Tanh(x),
    "HardSigmoid": lambda g, x: g.HardSigmoid(x, alpha=SIXTH, beta=0.5),
    "HardSwish": newer("HardSwish", 18),
    "Elu": lambda g, x: g.Elu(x),
    "PRelu": lambda g, x: g.PRelu(x, g.weight("slope", 64, 1, 1, scale=0.1)),
}


def erf(g: Maker, x: str) -> str:
    """The factor with Erf in it."""
    return g.Add(g.Erf(g.Div(x, c(g, math.sqrt(2.0)))), c(g, 1.0))


def tanh_inner(g: Maker, x: str) -> str:
    """1 + tanh(√(2/π)(x + 0.044715x³))."""
    cube = g.Mul(g.Pow(x, c(g, 3.0)), c(g, 0.044715))
    inner = g.Mul(g.Add(x, cube), c(g, math.sqrt(2.0 / math.pi)))
    return g.Add(g.Tanh(inner), c(g, 1.0))


def bias(g: Maker, x: str, n: int) -> str:
    """Add a bias."""
    return g.Add(x, g.weight("bias", n, scale=0.1))


def with_bias(activation: Activation, n: int) -> Activation:
    """Bias, then the activation."""
    return lambda g, x: activation(g, bias(g, x, n))


def gelu_forms(n: int) -> dict[str, Activation]:
    """Gelu of a layer with bias."""
    plain: dict[str, Activation] = {
        "Erf: x·(…)·0.5": lambda g, x: g.Mul(g.Mul(x, erf(g, x)), c(g, 0.5)),
        "Erf: x·0.5·(…)": lambda g, x: g.Mul(g.Mul(x, c(g, 0.5)), erf(g, x)),
        "Erf: x·((…)·0.5)": lambda g, x: g.Mul(x, g.Mul(erf(g, x), c(g, 0.5))),
        "Gelu-20": newer("Gelu", 20),
        "Gelu (microsoft)": lambda g, x: g.ms("Gelu", x),
    }
    return {name: with_bias(form, n) for name, form in plain.items()} | {
        "BiasGelu": lambda g, x: g.ms("BiasGelu", x, g.weight("bias", n, scale=0.1))
    }


def tanh_forms(n: int) -> dict[str, Activation]:
    """The tanh approximation of Gelu, of a layer with bias."""
    plain: dict[str, Activation] = {
        "Tanh: x·0.5·(…)": lambda g, x: g.Mul(g.Mul(x, c(g, 0.5)), tanh_inner(g, x)),
        "Tanh: 0.5·x·(…)": lambda g, x: g.Mul(g.Mul(c(g, 0.5), x), tanh_inner(g, x)),
        "Gelu-20 approximate": newer("Gelu", 20, approximate="tanh"),
        "FastGelu": lambda g, x: g.ms("FastGelu", x),
    }
    return {name: with_bias(form, n) for name, form in plain.items()} | {
        "FastGelu with bias": lambda g, x: g.ms("FastGelu", x, g.weight("bias", n, scale=0.1))
    }


def after_conv(activation: Activation, channels: int, size: int) -> Callable[[Maker], str]:
    """Conv 1x1, the activation, Conv 1x1."""

    def build(g: Maker) -> str:
        x = g.draw("x", 1, 32, size, size)
        y = g.Conv(x, g.weight("k1", channels, 32, 1, 1), g.weight("b1", channels, scale=0.1))
        return g.Conv(activation(g, y), g.weight("k2", 32, channels, 1, 1))

    return build


def after_matmul(activation: Activation, n: int, tokens: int) -> Callable[[Maker], str]:
    """MatMul, the activation, MatMul."""

    def build(g: Maker) -> str:
        x = g.MatMul(g.draw("x", 1, tokens, 64), g.weight("w1", 64, n))
        return g.MatMul(activation(g, x), g.weight("w2", n, 64))

    return build


_TABLES = {
    "HardSwish": HARDSWISH,
    "HardSigmoid": HARDSIGMOID,
    "Silu": SILU,
    "Mish": MISH,
    "Softplus": SOFTPLUS,
}
CASES = (
    *(
        Case(
            "1-activation",
            f"{name} after Conv 64x56x56",
            {form: after_conv(a, 64, 56) for form, a in table.items()},
        )
        for name, table in (_TABLES | {"activations": OTHERS}).items()
    ),
    *(
        Case(
            "1-activation",
            f"{name} after MatMul 128x768",
            {form: after_matmul(a, 768, 128) for form, a in table.items()},
        )
        for name, table in _TABLES.items()
    ),
    Case(
        "2-gelu",
        "Gelu, bias, 128x3072",
        {form: after_matmul(a, 3072, 128) for form, a in gelu_forms(3072).items()},
    ),
    Case(
        "2-gelu",
        "Gelu, bias, 1x3072",
        {form: after_matmul(a, 3072, 1) for form, a in gelu_forms(3072).items()},
    ),
    Case(
        "2-gelu",
        "Gelu tanh, bias, 128x3072",
        {form: after_matmul(a, 3072, 128) for form, a in tanh_forms(3072).items()},
    ),
)
