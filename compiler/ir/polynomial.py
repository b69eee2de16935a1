"""Integer polynomials over symbolic sizes: the normal form behind `optc.ir.dims`.

A polynomial is a sum of products of atoms with integer coefficients. An atom is a symbol, which
stands for an integer of at least zero, or ``floor(p/d)``, ``min(p, …)`` or ``max(p, …)`` of
polynomials with a number `d`. Two polynomials in normal form are equal when their tuples are; the
converse does not hold (the identities of floor, min and max are used as far as shape arithmetic
needs them), so equality is proof and inequality is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CACHE: Final = 1 << 15
_MAX_TERMS: Final = 24  # larger sums are of no use to anybody and cost quadratic time
_MAX_RELAXED: Final = 8


class TooLargeError(ValueError):
    """Raised when a result has more terms than a dimension of a real model could have."""


@dataclass(frozen=True, slots=True)
class Atom:
    """An indivisible factor, compared by its canonical text.

    Attributes:
        text: canonical spelling.
        kind: ``symbol``, ``floor``, ``min`` or ``max``.
        operands: the operands of min and max; the numerator of floor.
        divisor: the divisor of floor.
    """

    text: str
    kind: str = field(default="symbol", compare=False)
    operands: tuple[Poly, ...] = field(default=(), compare=False)
    divisor: int = field(default=1, compare=False)


Monomial: TypeAlias = tuple[Atom, ...]
"""A product of atoms, sorted by text, with repetition; empty for the number one."""

Poly: TypeAlias = tuple[tuple[Monomial, int], ...]
"""Terms with non-zero coefficients: higher degrees first, then by text."""

ZERO: Final[Poly] = ()


def number(value: int) -> Poly:
    """The polynomial of a number."""
    return (((), value),) if value else ZERO


def symbol(text: str) -> Poly:
    """The polynomial of one symbol."""
    return single(Atom(text))


def single(atom: Atom) -> Poly:
    """The polynomial of one atom."""
    return (((atom,), 1),)


def as_number(poly: Poly) -> int | None:
    """The number that a polynomial is, or None."""
    if not poly:
        return 0
    return poly[0][1] if len(poly) == 1 and not poly[0][0] else None


def _order(term: tuple[Monomial, int]) -> tuple[int, tuple[str, ...]]:
    return (-len(term[0]), tuple(atom.text for atom in term[0]))


def _normal(terms: Mapping[Monomial, int]) -> Poly:
    kept = [(monomial, factor) for monomial, factor in terms.items() if factor]
    if len(kept) > _MAX_TERMS:
        raise TooLargeError
    return tuple(sorted(kept, key=_order))


def plus(*polys: Poly) -> Poly:
    """The sum."""
    terms: dict[Monomial, int] = {}
    for poly in polys:
        for monomial, factor in poly:
            terms[monomial] = terms.get(monomial, 0) + factor
    return _normal(terms)


def times(a: Poly, b: Poly) -> Poly:
    """The product."""
    terms: dict[Monomial, int] = {}
    for left, x in a:
        for right, y in b:
            monomial = tuple(sorted((*left, *right), key=lambda atom: atom.text))
            terms[monomial] = terms.get(monomial, 0) + x * y
    return _normal(terms)


def scaled(poly: Poly, factor: int) -> Poly:
    """The product with a number."""
    return tuple((monomial, value * factor) for monomial, value in poly) if factor else ZERO


def minus(a: Poly, b: Poly) -> Poly:
    """The difference."""
    return plus(a, scaled(b, -1))


def floor(poly: Poly, divisor: int) -> Poly:
    """``floor(poly/divisor)`` for a positive divisor.

    Whole multiples of the divisor leave the floor, common factors cancel, and
    ``floor((floor(n/a) + c)/b)`` becomes ``floor((n + a*c)/(a*b))``.
    """
    whole = _normal({monomial: value // divisor for monomial, value in poly})
    rest = _normal({monomial: value % divisor for monomial, value in poly})
    common = math.gcd(divisor, *(value for monomial, value in rest if monomial))
    rest = _normal({monomial: value // common for monomial, value in rest})
    divisor //= common
    if divisor == 1:
        return plus(whole, rest)
    moving = [(monomial, value) for monomial, value in rest if monomial]
    if not moving:
        return whole  # the constant is smaller than the divisor
    (monomial, value), offset = moving[0], constant_term(rest)
    if len(moving) == 1 and value == 1 and len(monomial) == 1 and monomial[0].kind == "floor":
        inner = monomial[0]
        numerator = plus(inner.operands[0], number(offset * inner.divisor))
        return plus(whole, floor(numerator, divisor * inner.divisor))
    text = to_text(rest)
    shown = text if len(rest) == 1 else f"({text})"
    return plus(whole, single(Atom(f"floor({shown}/{divisor})", "floor", (rest,), divisor)))


def constant_term(poly: Poly) -> int:
    """The term without atoms."""
    return poly[-1][1] if poly and not poly[-1][0] else 0


def quotient(a: Poly, b: Poly) -> Poly | None:
    """``floor(a/b)``, for values of the symbols at which `b` is positive.

    None unless `b` is a number, a single term that divides `a` up to a number, or `a` is a
    multiple of `b`.
    """
    if not b:
        return None
    (monomial, factor), rest = b[0], b[1:]
    if not rest:
        if factor < 0:
            return None
        parts = [(_without(term, monomial), value) for term, value in a]
        kept = {term: value for term, value in parts if term is not None}
        return floor(_normal(kept), factor) if len(kept) == len(a) else None
    times_, remainder = divmod(a[0][1], factor) if a else (0, 0)
    return number(times_) if not remainder and scaled(b, times_) == a else None


def _without(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in divisor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def extreme(kind: str, polys: Iterable[Poly]) -> Poly:
    """``min`` or ``max`` of polynomials; operands that cannot decide the result are dropped."""
    flat: list[Poly] = []
    for poly in polys:
        inner = poly[0][0][0] if _is_single(poly) else None
        flat.extend(inner.operands if inner is not None and inner.kind == kind else (poly,))
    sign = 1 if kind == "min" else -1
    kept: list[Poly] = []
    for poly in flat:
        if any(_at_most(other, poly, sign) for other in kept):
            continue
        kept = [other for other in kept if not _at_most(poly, other, sign)]
        kept.append(poly)
    if len(kept) == 1:
        return kept[0]
    kept.sort(key=to_text)
    text = f"{kind}({', '.join(to_text(poly) for poly in kept)})"
    return single(Atom(text, kind, tuple(kept)))


def _is_single(poly: Poly) -> bool:
    return len(poly) == 1 and poly[0][1] == 1 and len(poly[0][0]) == 1


def _at_most(a: Poly, b: Poly, sign: int) -> bool:
    bound = lower(minus(b, a) if sign > 0 else minus(a, b))
    return bound is not None and bound >= 0


@lru_cache(maxsize=_CACHE)
def lower(poly: Poly) -> int | None:
    """A number that the polynomial never goes below, or None when none was found.

    Symbols are at least zero. First each term by itself; then, because ``L - min(L, 512)`` and
    ``H - floor(H/2)`` are differences of what depends on the same symbols, with the first atom
    that something bounds replaced by its bound.
    """
    found = _sum_of_bounds(poly)
    if (found is not None and found >= 0) or len(poly) > _MAX_RELAXED:
        return found
    for monomial, value in poly:
        relaxed = _relaxed(poly, monomial[0], value) if len(monomial) == 1 else []
        if relaxed:
            return max((bound for bound in (found, *relaxed) if bound is not None), default=None)
    return found


def _sum_of_bounds(poly: Poly) -> int | None:
    total = 0
    for monomial, value in poly:
        bound = _monomial_lower(monomial) if value > 0 else _monomial_upper(monomial)
        if bound is None:
            return None
        total += value * bound
    return total


def _relaxed(poly: Poly, atom: Atom, value: int) -> list[int | None]:
    """Lower bounds of `poly` after replacing ``value * atom`` by something not larger."""
    rest = tuple(term for term in poly if term[0] != (atom,))
    if (atom.kind == "min" and value < 0) or (atom.kind == "max" and value > 0):
        return [lower(plus(rest, scaled(poly_, value))) for poly_ in atom.operands]
    if atom.kind == "floor":
        # d*floor(n/d) lies between n - d + 1 and n.
        numerator = atom.operands[0]
        if value > 0:
            numerator = minus(numerator, number(atom.divisor - 1))
        bound = lower(plus(scaled(rest, atom.divisor), scaled(numerator, value)))
        return [None if bound is None else -(-bound // atom.divisor)]
    return []


def _monomial_lower(monomial: Monomial) -> int | None:
    product = 1
    for atom in monomial:
        bound = _atom_lower(atom)
        if bound is None or (bound < 0 and len(monomial) > 1):
            return None
        product *= bound
    return product


def _monomial_upper(monomial: Monomial) -> int | None:
    product = 1
    for atom in monomial:
        low, high = _atom_lower(atom), _atom_upper(atom)
        if high is None or (len(monomial) > 1 and (low is None or low < 0)):
            return None
        product *= high
    return product


def _atom_lower(atom: Atom) -> int | None:
    if atom.kind == "symbol":
        return 0
    bounds = [lower(poly) for poly in atom.operands]
    known = [bound for bound in bounds if bound is not None]
    if atom.kind == "floor":
        return known[0] // atom.divisor if known else None
    if atom.kind == "max":
        return max(known, default=None)
    return min(known) if len(known) == len(bounds) else None


def _atom_upper(atom: Atom) -> int | None:
    if atom.kind == "symbol":
        return None
    bounds = [lower(scaled(poly, -1)) for poly in atom.operands]
    known = [-bound for bound in bounds if bound is not None]
    if atom.kind == "floor":
        return known[0] // atom.divisor if known else None
    if atom.kind == "min":
        return min(known, default=None)
    return max(known) if len(known) == len(bounds) else None


def substituted(poly: Poly, sizes: Mapping[str, Poly]) -> Poly:
    """The polynomial with symbols replaced."""
    total = ZERO
    for monomial, value in poly:
        product = number(value)
        for atom in monomial:
            product = times(product, _substituted_atom(atom, sizes))
        total = plus(total, product)
    return total


def _substituted_atom(atom: Atom, sizes: Mapping[str, Poly]) -> Poly:
    if atom.kind == "symbol":
        return sizes.get(atom.text, single(atom))
    operands = [substituted(poly, sizes) for poly in atom.operands]
    return (
        floor(operands[0], atom.divisor) if atom.kind == "floor" else extreme(atom.kind, operands)
    )


def symbols(poly: Poly) -> frozenset[str]:
    """The names of all symbols in it."""
    found: set[str] = set()
    for monomial, _ in poly:
        for atom in monomial:
            if atom.kind == "symbol":
                found.add(atom.text)
            else:
                found.update(*(symbols(operand) for operand in atom.operands))
    return frozenset(found)


def to_text(poly: Poly) -> str:
    """The canonical spelling, e.g. ``2*N*floor((H + 1)/2) - 3``."""
    if not poly:
        return "0"
    parts: list[str] = []
    for monomial, value in poly:
        factors = [atom.text for atom in monomial]
        if abs(value) != 1 or not factors:
            factors.insert(0, str(abs(value)))
        sign = "-" if value < 0 else "+"
        shown = "*".join(factors)
        if parts:
            parts.append(f" {sign} {shown}")
        else:
            parts.append(f"-{shown}" if value < 0 else shown)
    return "".join(parts)
