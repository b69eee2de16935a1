"""Recognise activations by what they compute, however they are spelled.

    Gelu         x/2 (1 + erf(x/√2));  tanh form  x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))
    HardSwish    x clip(x/6 + 1/2)         HardSigmoid  clip(a x + b)      clip into [0, 1]
    Swish        x sigmoid(a x)            Mish         x tanh(log(1 + e^x))
    Sigmoid, Tanh, Softplus log(1 + e^x), Softsign x / (1 + |x|)
    Relu max(x, 0), LeakyRelu, PRelu, Elu, Clip

Source: ONNX operators Gelu-20, HardSwish-22, HardSigmoid-22, Swish-24, Mish-22, Sigmoid-13,
Tanh-13, Softplus-22, Softsign-22, Relu-14, LeakyRelu-16, PRelu-16, Elu-22, Clip-13.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from optc.passes import formula_functions as functions
from optc.passes.formula import X, close, number, sigmoid
from optc.passes.ideas import Idea, IdeasPass, attribute_bounds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir import Value
    from optc.passes.formula import Formula, Monomial
    from optc.passes.ideas import Found, Writer
    from optc.rewrite.driver import Builder

_LEAF: Final = X.terms[0][0]
_MAX0: Final = functions.relu(X)
_RELU: Final = _MAX0.terms[0][0]
_LOOSE: Final = 1e-5  # √(2/π) is written as 0.79788
_ROOT: Final = 5e-6  # Paddle writes √2 as 1.41421

_GELU: Final = X.times(0.5) + X.times(0.5) * functions.erf(X.times(math.sqrt(0.5)))
_CUBIC: Final = (X + X.power(3).times(0.044715)).times(2 * math.sqrt(2 / math.pi))
_GELU_TANH: Final = X * sigmoid(_CUBIC)
_HARDSWISH: Final = X * functions.clip01(X.times(1 / 6) + number(0.5))
_SOFTPLUS: Final = functions.log(number(1) + functions.exp(X))
_MISH: Final = X * functions.tanh(_SOFTPLUS)
_ABS: Final = functions.relu(X).times(2) - X
_SOFTSIGN: Final = X * (number(1) + _ABS).power(-1)


def _fixed(
    name: str, op_type: str, formula: Formula, digits: float = 2e-6, **attributes: Any
) -> Idea:
    """An idea without free numbers."""

    def match(found: Found) -> Writer | None:
        if found.root.is_op(op_type) or not close(found.formula, formula, digits):
            return None
        return lambda build: getattr(build, op_type)(found.leaf, **attributes)

    return Idea(name, match)


def _numbers(formula: Formula) -> Mapping[Monomial, float]:
    return dict(formula.terms)


def _unary(op_type: str, found: Found, **attributes: float) -> Writer | None:
    if found.root.is_op(op_type):
        return None

    def write(build: Builder) -> Value:
        made: Value = getattr(build, op_type)(found.leaf, **attributes)
        return made

    return write


def _line(formula: Formula) -> tuple[float, float] | None:
    """A and b of a x + b, or None."""
    numbers = dict(_numbers(formula))
    slope, offset = numbers.pop(_LEAF, 0.0), numbers.pop((), 0.0)
    return (slope, offset) if slope and not numbers else None


def _inner_line(formula: Formula, kind: str, *, times_x: bool) -> tuple[float, float] | None:
    """A and b of f(a x + b), or of x f(a x + b), where nothing else is in the formula."""
    if len(formula.terms) != 1 or abs(formula.terms[0][1] - 1) > 2e-6:
        return None
    monomial = formula.terms[0][0]
    inner = [atom for atom, exponent in monomial if atom.kind == kind and exponent == 1]
    rest = tuple(pair for pair in monomial if pair[0].kind != kind)
    if len(inner) != 1 or rest != (_LEAF if times_x else ()) or inner[0].inner is None:
        return None
    return _line(inner[0].inner)


def _swish(found: Found) -> Writer | None:
    line = _inner_line(found.formula, "sigmoid", times_x=True)
    if line is None or abs(line[1]) > 1e-9:
        return None
    return _unary("Swish", found, alpha=line[0])


def _hardsigmoid(found: Found) -> Writer | None:
    line = _inner_line(found.formula, "clip01", times_x=False)
    if line is None:
        return None
    if close(found.formula, functions.clip01(X)):
        return None  # the Clip that it is
    return _unary("HardSigmoid", found, alpha=line[0], beta=line[1])


def _leaky(found: Found) -> Writer | None:
    numbers = dict(_numbers(found.formula))
    slope, rest = numbers.pop(_LEAF, 0.0), numbers.pop(_RELU, 0.0)
    if numbers or not slope or not rest or abs(slope + rest - 1) > 2e-6 or slope < 0:
        return None
    return _unary("LeakyRelu", found, alpha=slope)


def _is_bent(formula: Formula, *kinds: str) -> bool:
    """Whether it has a function of these kinds of a x + b: a look before formulas are built."""
    return any(
        atom.kind in kinds and atom.inner is not None and _line(atom.inner) is not None
        for monomial, _ in formula.terms
        for atom, _ in monomial
    )


def _prelu(found: Found) -> Writer | None:
    if not _is_bent(found.formula, "relu"):
        return None
    values = {
        atom.value
        for monomial, _ in found.formula.terms
        for atom, _ in monomial
        if atom.kind == "value"
    }
    if len(values) != 1 or found.root.is_op("PRelu"):
        return None
    slope = values.pop()
    assert slope is not None
    weight = functions.parameter(slope)
    for sign in (1.0, -1.0):
        below = weight.times(sign)
        if close(found.formula, _MAX0 * (number(1) - below) + X * below):
            return lambda build: build.PRelu(found.leaf, _signed(build, slope, sign))
    return None


def _signed(build: Builder, value: Value, sign: float) -> Value:
    if sign > 0:
        return value
    assert value.constant is not None
    return build.like(-value.constant.numpy().astype(np.float64), value)


def _elu(found: Found) -> Writer | None:
    alpha = -found.formula.constant
    kinds = {atom.kind for monomial, _ in found.formula.terms for atom, _ in monomial}
    if not alpha or "exp" not in kinds:
        return None
    below = functions.exp(X - functions.relu(X)) - number(1)
    branch = (functions.exp(X) - number(1)).times(alpha)
    steps = (functions.step(X, strict=strict) for strict in (True, False))
    chosen = (branch + step * (X - branch) for step in steps)
    spellings = (functions.relu(X) + below.times(alpha), *chosen)
    if any(close(found.formula, spelling) for spelling in spellings):
        return _unary("Elu", found, alpha=alpha)
    return None


def _clip(found: Found) -> Writer | None:
    bounds = _bounds(found.formula)
    if bounds is None or found.root.is_op("HardSigmoid"):
        return None
    if found.root.is_op("Clip") and found.graph.operand(found.root, 0) is found.leaf:
        return None
    if found.root.is_op("Max", "Min", "Relu") and None in bounds:
        return None  # one operation for one

    def write(build: Builder) -> Value:
        names = zip(("min", "max"), bounds, strict=True)
        if attribute_bounds(found.graph):
            given = {name: bound for name, bound in names if bound is not None}
            return build.node("Clip", [found.leaf], attributes=given).output
        operands = [
            None
            if bound is None
            else build.constant(bound, dtype=found.dtype, name=f"{found.root.key}_{name}")
            for name, bound in names
        ]
        while operands[-1] is None:
            operands.pop()
        return build.node("Clip", [found.leaf, *operands]).output

    return write


def _bounds(formula: Formula) -> tuple[float | None, float | None] | None:
    """Bounds of the Clip that a formula is, None for an open one; None when it is no Clip."""
    if not _is_bent(formula, "relu", "clip01"):
        return None
    low = formula.constant
    if close(formula, number(low) + functions.relu(X - number(low))):
        return (low, None)
    for monomial, coefficient in formula.terms:
        if len(monomial) != 1 or monomial[0][0].inner is None:
            continue
        kind, inner = monomial[0][0].kind, monomial[0][0].inner
        if kind == "clip01" and close(formula, functions.clip(X, low, low + coefficient)):
            return (low, low + coefficient)
        if kind == "relu":
            high = -inner.constant
            if close(formula, functions.clip(X, -math.inf, high)):
                return (None, high)
    return None


def _relu(found: Found) -> Writer | None:
    if found.root.is_op("Relu", "Clip") or not close(found.formula, _MAX0):
        return None
    return lambda build: build.Relu(found.leaf)


def _named(name: str, match: Callable[[Found], Writer | str | None]) -> Idea:
    return Idea(name, match)


class RaiseActivations(IdeasPass):
    """Write what is computed as an activation as that operator.

    Refuses: another formula than that of an activation, which the reason tells; an operation of it
    that costs time and whose result something else uses.
    """

    name: ClassVar[str] = "raise-activations"
    ideas: ClassVar[tuple[Idea, ...]] = (
        _fixed("gelu", "Gelu", _GELU, _ROOT),
        _fixed("gelu", "Gelu", _GELU_TANH, _LOOSE, approximate="tanh"),
        _fixed("hard-swish", "HardSwish", _HARDSWISH),
        _fixed("mish", "Mish", _MISH),
        _named("swish", _swish),
        _fixed("sigmoid", "Sigmoid", sigmoid(X)),
        _fixed("tanh", "Tanh", functions.tanh(X)),
        _fixed("softplus", "Softplus", _SOFTPLUS),
        _fixed("softsign", "Softsign", _SOFTSIGN),
        _named("relu", _relu),
        _named("leaky-relu", _leaky),
        _named("prelu", _prelu),
        _named("elu", _elu),
        _named("hard-sigmoid", _hardsigmoid),
        _named("clip", _clip),
    )
    marks: ClassVar[Mapping[str, str]] = {
        "Erf": "gelu",
        "Tanh": "gelu",
        "Sigmoid": "swish",
        "HardSigmoid": "hard-swish",
        "Clip": "hard-swish",
        "Exp": "sigmoid",
        "Softplus": "mish",
        "Relu": "leaky-relu",
        "Abs": "softsign",
        "Max": "clip",
        "Min": "clip",
        "Where": "leaky-relu",
    }
    always: ClassVar[frozenset[str]] = frozenset({"Erf"})
    longest: ClassVar[int] = 16
    parameters: ClassVar[int] = 1  # the slope of PRelu
