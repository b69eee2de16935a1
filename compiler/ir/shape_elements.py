"""Arithmetic on single elements of shape tensors: numbers, symbolic sizes, the unknown.

Floats are computed in their own type with operations that IEEE 754 rounds correctly, so every
runtime gets the same. Integers are exact; whoever uses a result checks its range.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from optc.ir import dims
from optc.ir.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir.shape_site import Item, Site
    from optc.ir.types import Dim

ElementRule: TypeAlias = "Callable[..., Item]"
"""Called with the node's site, the element type of the operands, and one element of each."""

_INTEGERS: Final = {
    DType.I64: (-(2**63), 2**63 - 1),
    DType.I32: (-(2**31), 2**31 - 1),
    DType.U8: (0, 255),
    DType.I8: (-128, 127),
}


def fits(item: Item, dtype: DType) -> bool:
    """Whether an element is one that its type can hold."""
    if isinstance(item, int) and dtype in _INTEGERS:
        low, high = _INTEGERS[dtype]
        return low <= item <= high
    return True


def cast_item(item: Item, dtype: DType) -> Item:
    """An element converted to int64, int32, bool, float32 or float64; None where undefined."""
    if item is None or isinstance(item, str):
        return item if dtype in _INTEGERS else None
    if dtype is DType.BOOL:
        return bool(item)
    if dtype.is_float:
        with np.errstate(all="ignore"):
            return float(dtype.numpy.type(item))
    if not math.isfinite(item):
        return None
    number = int(item)  # toward zero
    return number if fits(number, dtype) else None


def _is_size(item: Item) -> bool:
    """Whether an element is provably at least zero."""
    if isinstance(item, str):
        return item.startswith("?") or dims.at_least(item, 0)
    return item is not None and item >= 0


def _arithmetic(
    on_sizes: Callable[[Dim, Dim], Dim], on_floats: Callable[[Any, Any], Any] | None
) -> ElementRule:
    def rule(site: Site, dtype: DType, *items: Item) -> Item:
        del site
        result = items[0]
        for item in items[1:]:
            result = combine(dtype, result, item)
        return result

    def combine(dtype: DType, a: Item, b: Item) -> Item:
        if not dtype.is_float:
            return on_sizes(a, b)  # type: ignore[arg-type] # no floats here
        if on_floats is None or not isinstance(a, float) or not isinstance(b, float):
            return None
        with np.errstate(all="ignore"):
            return float(on_floats(dtype.numpy.type(a), dtype.numpy.type(b)))

    return rule


def _divided(a: Dim, b: Dim) -> Dim:
    """Integer division, toward zero."""
    if b == 0 or a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    return dims.floordiv(a, b) if _is_size(a) and _is_size(b) else None


def _remainder(site: Site, dtype: DType, a: Item, b: Item) -> Item:
    """Mod: the sign of the divisor; with `fmod`, of the dividend."""
    if dtype.is_float or isinstance(a, float) or isinstance(b, float) or not b or a is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        if site.integer("fmod"):
            return abs(a) % abs(b) if a >= 0 else -(abs(a) % abs(b))
        return a % b
    if not isinstance(b, int) or b < 0 or not _is_size(a):
        return None
    return dims.sub(a, dims.mul(dims.floordiv(a, b), b))


def _where(site: Site, dtype: DType, condition: Item, a: Item, b: Item) -> Item:
    del site, dtype
    if condition is None or isinstance(condition, str):
        return a if a == b or _equal(a, b) is True else None
    return a if condition else b


def _equal(a: Item, b: Item) -> bool | None:
    if a is None or b is None:
        return None
    if isinstance(a, str) or isinstance(b, str):
        if a == b:
            return True
        if _below_sizes(a, b) or _below_sizes(b, a):
            return False
        if isinstance(a, float) or isinstance(b, float):
            return None
        return True if dims.equal(a, b) else False if dims.differ(a, b) else None
    return a == b


def _below_sizes(a: Item, b: Item) -> bool:
    """Whether `a` is negative and `b` is a size."""
    return isinstance(a, int) and a < 0 and _is_size(b)


def _greater(a: Item, b: Item, *, or_equal: bool) -> bool | None:
    if a is None or b is None:
        return None
    if not isinstance(a, str) and not isinstance(b, str):
        return a >= b if or_equal else a > b
    if isinstance(a, float) or isinstance(b, float):
        return None
    if _below_sizes(b, a) or dims.at_least(dims.sub(a, b), 0 if or_equal else 1):
        return True
    reverse = dims.at_least(dims.sub(b, a), 1 if or_equal else 0)
    return False if reverse or _below_sizes(a, b) else None


def _absolute(site: Site, dtype: DType, item: Item) -> Item:
    del site, dtype
    if isinstance(item, str) or item is None:
        return item if _is_size(item) else None
    return abs(item)


def _negated(site: Site, dtype: DType, item: Item) -> Item:
    del site, dtype
    return -item if isinstance(item, float) else dims.sub(0, item)


def _logic(function: Callable[[bool, bool], bool], decided_by: bool | None) -> ElementRule:
    def rule(site: Site, dtype: DType, a: Item, b: Item) -> Item:
        del site, dtype
        if a is None or b is None:
            return decided_by if decided_by is not None and decided_by in (a, b) else None
        return function(bool(a), bool(b))

    return rule


ELEMENTWISE: Final[Mapping[str, ElementRule]] = {
    "Add": _arithmetic(dims.add, lambda a, b: a + b),
    "Sub": _arithmetic(dims.sub, lambda a, b: a - b),
    "Mul": _arithmetic(dims.mul, lambda a, b: a * b),
    "Div": _arithmetic(_divided, lambda a, b: a / b),
    # Runtimes differ in what the smaller of two floats is where one is not a number.
    "Min": _arithmetic(dims.minimum, None),
    "Max": _arithmetic(dims.maximum, None),
    "Mod": _remainder,
    "Where": _where,
    "Equal": lambda site, dtype, a, b: _equal(a, b),
    "Greater": lambda site, dtype, a, b: _greater(a, b, or_equal=False),
    "GreaterOrEqual": lambda site, dtype, a, b: _greater(a, b, or_equal=True),
    "Less": lambda site, dtype, a, b: _greater(b, a, or_equal=False),
    "LessOrEqual": lambda site, dtype, a, b: _greater(b, a, or_equal=True),
    "And": _logic(lambda a, b: a and b, decided_by=False),
    "Or": _logic(lambda a, b: a or b, decided_by=True),
    "Xor": _logic(lambda a, b: a != b, decided_by=None),
    "Not": lambda site, dtype, item: None if item is None else not item,
    "Abs": _absolute,
    "Neg": _negated,
}
"""Rules of operators that work element by element on broadcast operands."""

UNARY_FLOAT: Final[Mapping[str, Callable[[Any], Any]]] = {
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.round,
    "Sqrt": np.sqrt,
}
"""Operators on floats of which every element is known; Round goes to even, as numpy does."""
