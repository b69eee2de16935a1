"""Arithmetic on dimensions: numbers, symbols, expressions of symbols, and the unknown.

A `Dim` is a number, a text or None. A text is a symbol (``N``) or an expression whose canonical
spelling (``2*N``, ``floor((H + 1)/2)``, ``min(512, L)``) is also what goes into ``dim_param``.
A symbol stands for a size of at least zero; equal symbols stand for equal sizes (ONNX IR
specification, "Static tensor shapes"). Everything here is total: what cannot be computed, or only
as an expression too large to be of use, is None. So is what exporters and their users write for
"some size": a text without a letter (``-1``) or that begins with a question mark, and words like
``dynamic`` and ``None``, which often stand for several sizes at once.

Expressions hold for every run of a model that does not fail.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from optc.ir import polynomial as pl
from optc.ir.dim_text import is_printable, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optc.ir.types import Dim, Shape

_CACHE: Final = 1 << 15
_MAX_TEXT: Final = 128
_LIMIT: Final = 2**63
_PLACEHOLDERS: Final = frozenset(
    {"any", "dim", "dyn", "dynamic", "nan", "none", "null", "undefined", "unk", "unknown", "var"}
)

_Known: TypeAlias = int | str


def clean(dim: Dim) -> Dim:
    """The dimension, or None when it is a placeholder for an unknown size."""
    return _clean_text(dim) if isinstance(dim, str) else dim


@lru_cache(maxsize=_CACHE)
def _clean_text(text: str) -> Dim:
    if text.startswith("?") or text.lower() in _PLACEHOLDERS:
        return None
    return text if any(char.isalpha() for char in text) else None


@lru_cache(maxsize=_CACHE)
def clean_shape(shape: Shape | None) -> Shape | None:
    """The shape with placeholders replaced by None."""
    return None if shape is None else tuple(map(clean, shape))


def _poly(dim: _Known) -> pl.Poly:
    return parse(dim) if isinstance(dim, str) else pl.number(dim)


def _dim(poly: pl.Poly | None) -> Dim:
    if poly is None:
        return None
    value = pl.as_number(poly)
    if value is not None:
        return value if -_LIMIT <= value < _LIMIT else None
    text = pl.to_text(poly)
    if len(text) > _MAX_TEXT:
        return None
    return text if text == _lone_symbol(poly) or is_printable(poly) else None


def _lone_symbol(poly: pl.Poly) -> str | None:
    monomial, factor = poly[0]
    return monomial[0].text if len(poly) == 1 and factor == 1 and len(monomial) == 1 else None


@lru_cache(maxsize=_CACHE)
def canonical(dim: Dim) -> Dim:
    """The canonical spelling of a dimension; a number when it is one."""
    dim = clean(dim)
    return _dim(parse(dim)) if isinstance(dim, str) else dim


@lru_cache(maxsize=_CACHE)
def _combined(operation: str, a: _Known, b: _Known) -> Dim:
    left, right = _poly(a), _poly(b)
    try:
        if operation == "+":
            return _dim(pl.plus(left, right))
        if operation == "-":
            return _dim(pl.minus(left, right))
        if operation == "*":
            return _dim(pl.times(left, right))
        if operation == "/":
            return _dim(pl.quotient(left, right))
        return _dim(pl.extreme(operation, (left, right)))
    except pl.TooLargeError:
        return None


def _apply(operation: str, a: Dim, b: Dim) -> Dim:
    a, b = clean(a), clean(b)
    return None if a is None or b is None else _combined(operation, a, b)


def add(a: Dim, b: Dim) -> Dim:
    """The sum."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if b == 0 or a == 0:  # keeps the spelling
        return clean(a if b == 0 else b)
    return _apply("+", a, b)


def sub(a: Dim, b: Dim) -> Dim:
    """The difference."""
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    return clean(a) if b == 0 else _apply("-", a, b)


def mul(a: Dim, b: Dim) -> Dim:
    """The product; zero when one factor is, whatever the other."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    if a == 0 or b == 0:
        return 0
    if a == 1 or b == 1:
        return clean(b if a == 1 else a)
    return _apply("*", a, b)


def floordiv(a: Dim, b: Dim) -> Dim:
    """The quotient rounded down, where `b` is positive.

    A divisor that is not a number must be a factor of `a`, else the result is None; the result
    then holds wherever the divisor is not zero.
    """
    if isinstance(b, int) and b <= 0:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return clean(a) if b == 1 else _apply("/", a, b)


def ceildiv(a: Dim, b: int) -> Dim:
    """The quotient by a positive number, rounded up; None when the number is not positive."""
    return floordiv(add(a, b - 1), b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller one."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else _apply("min", a, b)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger one."""
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else _apply("max", a, b)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of all; 1 for none."""
    result: Dim = 1
    for dim in dims:
        result = mul(result, dim)
    return result


@lru_cache(maxsize=_CACHE)
def lower_bound(dim: Dim) -> int | None:
    """A number that the dimension is never below; None when there is no such number at hand."""
    dim = clean(dim)
    if not isinstance(dim, str):
        return dim
    try:
        return pl.lower(parse(dim))
    except pl.TooLargeError:
        return None


def at_least(dim: Dim, bound: Dim) -> bool:
    """Whether the dimension is provably not below `bound`."""
    if isinstance(dim, int) and isinstance(bound, int):
        return dim >= bound
    lower = lower_bound(sub(dim, bound))
    return lower is not None and lower >= 0


@lru_cache(maxsize=_CACHE)
def equal(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are provably equal. None equals nothing."""
    a, b = clean(a), clean(b)
    if a is None or b is None:
        return False
    return a == b or _poly(a) == _poly(b)


def differ(a: Dim, b: Dim) -> bool:
    """Whether two dimensions are provably different whatever the symbols are."""
    if a is None or b is None or a == b:
        return False
    if isinstance(a, int) and isinstance(b, int):
        return True
    return at_least(sub(a, b), 1) or at_least(sub(b, a), 1)


@lru_cache(maxsize=_CACHE)
def conflict(a: Shape | None, b: Shape | None) -> bool:
    """Whether two shapes cannot both be right: ranks or a dimension differ."""
    if a is None or b is None or a == b:
        return False
    return len(a) != len(b) or any(differ(x, y) for x, y in zip(a, b, strict=True))


@lru_cache(maxsize=_CACHE)
def broadcast(a: Dim, b: Dim) -> Dim:
    """The dimension that two broadcast to (ONNX, "Multidirectional Broadcasting").

    For a pair that cannot be broadcast it is None, like one that may give either.
    """
    a, b = clean(a), clean(b)
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int):
        return None if differ(a, b) and differ(b, 1) else a
    if isinstance(b, int):
        return broadcast(b, a)
    # What is never 1 is the result: the other one is equal to it, or 1.
    for dim in (a, b):
        if dim is not None and _never_one(dim):
            return dim
    if a is None or b is None:
        return None
    if equal(a, b):
        return a
    return a if _clipped(b, a) else b if _clipped(a, b) else None


def spans(dim: Dim, size: Dim) -> bool:
    """Whether a dimension that broadcasts to `size` is provably as large, so not repeated."""
    dim, size = clean(dim), clean(size)
    if dim is None or isinstance(dim, int):
        return dim is not None and (dim != 1 or size == 1)
    if equal(dim, size) or _never_one(dim):
        return True
    return isinstance(size, str) and _clipped(dim, size)


def _never_one(dim: str) -> bool:
    """Whether a dimension is at least 2, or a multiple of such a number."""
    return at_least(dim, 2) or math.gcd(*(factor for _, factor in parse(dim))) > 1


def _clipped(dim: str, size: str) -> bool:
    """Whether `dim` is the minimum of `size` and sizes from two on.

    Then ``size`` is what both broadcast to: where one of them is 1, so is the other.
    """
    poly = parse(dim)
    if _lone_symbol(poly) is None or poly[0][0][0].kind != "min":
        return False
    operands = poly[0][0][0].operands
    own = parse(size)
    return own in operands and all(
        operand == own or (pl.lower(operand) or 0) >= 2 for operand in operands
    )


@lru_cache(maxsize=_CACHE)
def broadcast_shapes(*shapes: Shape | None) -> Shape | None:
    """The shape that several broadcast to; None when the rank of one is not known."""
    result: Shape = ()
    for shape in shapes:
        if shape is None:
            return None
        if shape == result:
            continue
        longer, shorter = (result, shape) if len(result) >= len(shape) else (shape, result)
        padded = (1,) * (len(longer) - len(shorter)) + shorter
        result = tuple(broadcast(x, y) for x, y in zip(longer, padded, strict=True))
    return result


def refine(dim: Dim, other: Dim) -> Dim:
    """The more precise of two descriptions of one size: a number, then a text; `dim` on a tie."""
    dim, other = clean(dim), clean(other)
    if isinstance(dim, int) or other is None:
        return dim
    return other if dim is None or isinstance(other, int) else dim


@lru_cache(maxsize=_CACHE)
def refine_shape(shape: Shape | None, other: Shape | None) -> Shape | None:
    """`refine` by dimension; `shape` where the ranks differ."""
    if shape is None or other is None or len(shape) != len(other):
        return other if shape is None else shape
    return tuple(map(refine, shape, other))


def symbols(dim: Dim) -> frozenset[str]:
    """The symbols that occur in a dimension."""
    return pl.symbols(parse(dim)) if isinstance(clean(dim), str) else frozenset()


def substitute(dim: Dim, sizes: Mapping[str, Dim]) -> Dim:
    """The dimension with symbols replaced; None when a replacement that it needs is None.

    The spelling is kept when no symbol of it is replaced.
    """
    dim = clean(dim)
    found = sorted(symbols(dim) & sizes.keys())
    if not isinstance(dim, str) or not found:
        return dim
    known = {name: sizes[name] for name in found}
    if None in known.values():
        return None
    polys = {name: _poly(cast("_Known", size)) for name, size in known.items()}
    try:
        return _dim(pl.substituted(parse(dim), polys))
    except pl.TooLargeError:
        return None
