"""Functions and statistics of formulas; see `optc.passes.formula` for the rules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from optc.ir import DType
from optc.passes.formula import ZERO, Atom, Formula, is_positive, lead, number, of, sigmoid

if TYPE_CHECKING:
    from collections.abc import Callable

    from optc.ir import Tensor, Value
    from optc.passes.formula import Axes


def _odd(name: str) -> Callable[[Formula], Formula]:
    def apply(inner: Formula) -> Formula:
        if lead(inner) < 0:
            return of(Atom(name, inner.times(-1))).times(-1)
        return of(Atom(name, inner))

    return apply


erf: Final = _odd("erf")


def tanh(inner: Formula) -> Formula:
    """2 sigmoid(2 p) - 1."""
    return sigmoid(inner.times(2)).times(2) - number(1)


def exp(inner: Formula) -> Formula:
    """e^p."""
    return of(Atom("exp", inner)) if inner.number is None else number(math.exp(inner.number))


def log(inner: Formula) -> Formula:
    """Logarithm; of a product of positive atoms, the sum of theirs."""
    if len(inner.terms) == 1:
        ((monomial, coefficient),) = inner.terms
        if coefficient > 0 and all(is_positive(atom) for atom, _ in monomial):
            result = number(math.log(coefficient))
            for atom, exponent in monomial:
                result = result + _log_of(atom).times(exponent)
            return result
    return of(Atom("log", inner))


def _log_of(atom: Atom) -> Formula:
    if atom.kind == "exp":
        assert atom.inner is not None
        return atom.inner
    return of(Atom("log", of(atom)))


def relu(inner: Formula) -> Formula:
    """max(p, 0)."""
    value = inner.number
    if value is not None:
        return number(max(value, 0.0))
    if is_variance(inner):
        return inner  # a variance is never negative
    if (clipped := _clip_of_relu(inner)) is not None:
        return clipped
    scale = lead(inner)
    if scale < 0:
        return relu(inner.times(-1)) + inner
    return of(Atom("relu", inner.times(1 / scale))).times(scale)


def _clip_of_relu(inner: Formula) -> Formula | None:
    """The clip that relu(k - c relu(p)) or relu(min(p, k)) is; None for other formulas."""
    for term in inner.terms:
        monomial, coefficient = term
        if coefficient >= 0 or len(monomial) != 1 or monomial[0][0].kind != "relu":
            continue
        atom, exponent = monomial[0]
        if exponent != 1 or atom.inner is None:
            continue
        scaled = atom.inner.times(-coefficient)
        rest = Formula(tuple(other for other in inner.terms if other is not term))
        if (k := rest.number) is not None and k > 0:
            return number(k) - clip01(scaled.times(1 / k)).times(k)
        k = (rest - scaled).number
        if k is not None and k > 0:
            return clip01(rest.times(1 / k)).times(k)
    return None


def clip01(inner: Formula) -> Formula:
    """min(max(p, 0), 1)."""
    if lead(inner) < 0:
        return number(1) - clip01(number(1) - inner)
    return of(Atom("clip01", inner))


def clip(inner: Formula, low: float, high: float) -> Formula:
    """min(max(p, low), high)."""
    if low == -math.inf and high == math.inf:
        return inner
    if high == math.inf:
        return number(low) + relu(inner - number(low))
    if low == -math.inf:
        return number(high) - relu(number(high) - inner)
    width = high - low
    if width <= 0:
        return number(high)
    return number(low) + clip01((inner - number(low)).times(1 / width)).times(width)


def maximum(one: Formula, other: Formula) -> Formula:
    """The larger one."""
    if one.number is not None:
        one, other = other, one
    return other + relu(one - other)


def step(inner: Formula, *, strict: bool = True) -> Formula:
    """1 where p > 0, or where p >= 0 if not `strict`, else 0."""
    if inner.number is not None:
        return number(float(inner.number > 0 if strict else inner.number >= 0))
    scale = lead(inner)
    if scale < 0:
        return number(1) - step(inner.times(-1), strict=not strict)
    return of(Atom("step" if strict else "reach", inner.times(1 / scale)))


def is_variance(formula: Formula) -> bool:
    """Whether a formula is c (mean(p²) - mean(p)²) for a term p and c > 0."""
    if len(formula.terms) != 2:
        return False
    for (square, c), (mean, d) in (formula.terms, formula.terms[::-1]):
        if c <= 0 or abs(c + d) > 1e-6 * c or len(square) != 1 or len(mean) != 1:
            continue
        (first, one), (second, two) = square[0], mean[0]
        same = first.kind == second.kind == "mean" and first.axes == second.axes
        if same and one == 1 and two == 2 and first.inner is not None and second.inner is not None:
            return first.inner == second.inner * second.inner
    return False


_FAMILIAR: Final = (
    math.sqrt(2),
    math.sqrt(0.5),
    math.sqrt(2 / math.pi),
    0.044715,
    1.702,
    1 / 6,
)


def meant(tensor: Tensor) -> float:
    """The number of a constant of one element.

    In a 16-bit type it is the familiar one that is rounded to it: computing with that differs by
    no more than the rounding of the operation that the constant is in.
    """
    found = tensor.numpy().reshape(-1)[0]
    if tensor.dtype in (DType.F16, DType.BF16):
        for number in _FAMILIAR:
            if tensor.dtype.numpy.type(number) == found:
                return number
    return float(found)


def parameter(value: Value) -> Formula:
    """Another value than the leaf, as it is."""
    return of(Atom("value", value=value))


# ---- statistics --------------------------------------------------------------------------------


def mean(inner: Formula, axes: Axes) -> Formula:
    """The mean over axes: linear, and what is constant along the axes is a factor."""
    total = ZERO
    for monomial, coefficient in inner.terms:
        outside = tuple(pair for pair in monomial if pair[0].constant_along(axes))
        inside = tuple(pair for pair in monomial if not pair[0].constant_along(axes))
        factor = Formula(((outside, coefficient),))
        if inside:
            factor = factor * of(Atom("mean", Formula(((inside, 1.0),)), axes))
        total = total + factor
    return total


def statistic(kind: str, inner: Formula, axes: Axes) -> Formula:
    """A sum over axes of unknown size, or a maximum."""
    return of(Atom(kind, inner, axes))
