"""Formulas in a normal form: all spellings of one function are one formula.

A formula is a sum of terms, a term a coefficient times powers of atoms. Atoms are the leaf x, other
values, functions of formulas, and statistics of terms over axes. The rules that bring spellings
together hold exactly in real numbers:

    1 / (c + c e^p)  =  sigmoid(-p) / c            sigmoid(-p)  =  1 - sigmoid(p)
    tanh(p)  =  2 sigmoid(2 p) - 1                 erf(-p)  =  -erf(p)
    max(p, c)  =  c + relu(p - c)                  relu(-p)  =  relu(p) - p
    relu(k - relu(p))  =  k - k clip(p / k)        relu(min(p, k))  =  k clip(p / k)
    clip(p)  =  1 - clip(1 - p),  clip into [0, 1]
    |p|  =  2 relu(p) - p                          step(x) x  =  relu(x)
    [p > 0]  =  1 - [-p >= 0], which are step and reach: they differ at 0
    e^p sigmoid(p)  =  e^p - sigmoid(p)
    log(e^p q^n)  =  p + n log(q)                  for what is positive
    mean(a p)  =  a mean(p)                        a the same along the axes; the mean is linear

A sum over n places is n times the mean. Arithmetic is in float64; `close` compares formulas as
exactly as exporters write numbers.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optc.ir import Value

_MOST_TERMS: Final = 24
_MOST_POWER: Final = 4
_MOST_VALUES: Final = 3
_DEEPEST: Final = 5  # log(mean(exp(x - max(x)))) is the deepest idea
_DIGITS: Final = 2e-6
_LONG_KEY: Final = 80
_NONE: Final[frozenset[Value]] = frozenset()

Axes: TypeAlias = tuple[int, ...]
"""Axes of a statistic, ascending, counted from the start."""


class FormulaTooLongError(Exception):
    """A formula has more terms, parameters or levels than any idea: it is given up."""


class Atom:
    """A factor; never changed once it is made.

    Attributes:
        kind: ``leaf``, ``value``, ``group`` (a sum that is only known by a power of it), the name
            of a function, or ``mean``, ``sum`` and ``max`` over `axes`.
        inner: the formula that the function or statistic is of.
        axes: axes of a statistic.
        value: the value, for kind ``value``.
        depth: how many functions are nested in it.
        values: the parameters in it.
        sort_key: orders atoms, by nothing that depends on the run.
    """

    __slots__ = ("_hash", "axes", "depth", "inner", "kind", "sort_key", "value", "values")

    def __init__(
        self,
        kind: str,
        inner: Formula | None = None,
        axes: Axes = (),
        value: Value | None = None,
    ) -> None:
        self.kind, self.inner, self.axes, self.value = kind, inner, axes, value
        self.depth: int = 0 if inner is None else 1 + inner.depth
        if self.depth > _DEEPEST:
            raise FormulaTooLongError
        self._hash = hash((kind, inner, axes, value))
        own = _NONE if value is None else frozenset({value})
        self.values: frozenset[Value] = own if inner is None else inner.values
        name = "" if value is None else value.name
        self.sort_key: str = f"{kind}{axes or ''}{name}{inner.sort_key if inner else ''}"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Atom)
            and self._hash == other._hash
            and self.kind == other.kind
            and self.axes == other.axes
            and self.value is other.value
            and self.inner == other.inner
        )

    def constant_along(self, axes: Axes) -> bool:
        """Whether it is one number along all these axes."""
        if self.kind in _STATISTICS:
            return set(axes) <= set(self.axes)
        return self.inner is not None and self.inner.constant_along(axes)


_STATISTICS: Final = frozenset({"mean", "sum", "max"})
Monomial: TypeAlias = "tuple[tuple[Atom, float], ...]"


class Formula:
    """A sum of terms; never changed once it is made.

    Attributes:
        terms: powers of atoms and the coefficient, in canonical order; none for zero.
        depth: how many functions are nested in it.
        values: the parameters in it.
    """

    __slots__ = ("_hash", "_sort_key", "depth", "terms", "values")

    def __init__(self, terms: tuple[tuple[Monomial, float], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self._sort_key = ""
        depth = 0
        values = _NONE
        for monomial, _ in terms:
            for atom, _ in monomial:
                depth = max(depth, atom.depth)
                if atom.values and atom.values is not values:
                    values = values | atom.values if values else atom.values
        self.depth, self.values = depth, values

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Formula) or self._hash != other._hash:
            return False
        return self.terms == other.terms

    @property
    def sort_key(self) -> str:
        """Orders formulas, by nothing that depends on the run."""
        if not self._sort_key:
            key = "+".join(_key(monomial) for monomial, _ in self.terms)
            if len(key) > _LONG_KEY:
                key = blake2b(key.encode(), digest_size=16).hexdigest()
            self._sort_key = key
        return self._sort_key

    @property
    def number(self) -> float | None:
        """The number that it is, or None."""
        if not self.terms:
            return 0.0
        monomial, coefficient = self.terms[0]
        return coefficient if len(self.terms) == 1 and not monomial else None

    @property
    def constant(self) -> float:
        """The term without atoms."""
        return next((coefficient for monomial, coefficient in self.terms if not monomial), 0.0)

    def constant_along(self, axes: Axes) -> bool:
        """Whether it is one number along all these axes."""
        return all(atom.constant_along(axes) for monomial, _ in self.terms for atom, _ in monomial)

    def __add__(self, other: Formula) -> Formula:
        return _sum((*self.terms, *other.terms))

    def __sub__(self, other: Formula) -> Formula:
        return self + other.times(-1.0)

    def __mul__(self, other: Formula) -> Formula:
        products = ((_product(one, two), a * b) for one, a in self.terms for two, b in other.terms)
        return _sum(term for monomial, c in products for term in _reduced(monomial, c))

    def times(self, factor: float) -> Formula:
        """Every term times a number."""
        return Formula(tuple((m, c * factor) for m, c in self.terms)) if factor else ZERO

    def power(self, exponent: float) -> Formula:
        """A power; of sums, whole positive ones are multiplied out."""
        if exponent == int(exponent) and 0 <= exponent <= _MOST_POWER:
            result = number(1.0)
            for _ in range(int(exponent)):
                result = result * self
            return result
        if len(self.terms) == 1:
            return self._power_of_term(exponent)
        if (found := _logistic(self)) is not None and exponent == -1:
            return found
        return _group(self, exponent)

    def _power_of_term(self, exponent: float) -> Formula:
        ((monomial, coefficient),) = self.terms
        whole = exponent == int(exponent)
        if coefficient > 0 and (whole or all(is_positive(atom) for atom, _ in monomial)):
            powers = tuple((atom, e * exponent) for atom, e in monomial)
            return Formula(((powers, coefficient**exponent),))
        if whole and coefficient:
            powers = tuple((atom, e * exponent) for atom, e in monomial)
            return Formula(((powers, coefficient ** int(exponent)),))
        return _group(self, exponent)


def number(value: float) -> Formula:
    """A number as formula."""
    return Formula((((), value),)) if value else ZERO


def of(atom: Atom) -> Formula:
    """An atom as formula."""
    return Formula(((((atom, 1.0),), 1.0),))


ZERO: Final = Formula(())
X: Final = of(Atom("leaf"))
"""The leaf: the value that formulas are functions of."""


def _key(monomial: Monomial) -> str:
    if len(monomial) == 1 and monomial[0][1] == 1:  # as most are
        return monomial[0][0].sort_key + "^1"
    return "*".join(f"{atom.sort_key}^{exponent:g}" for atom, exponent in monomial)


def _sum(terms: Iterable[tuple[Monomial, float]]) -> Formula:
    found: dict[Monomial, float] = {}
    largest: dict[Monomial, float] = {}
    for monomial, coefficient in terms:
        if monomial in found:
            found[monomial] += coefficient
            largest[monomial] = max(largest[monomial], abs(coefficient))
        else:
            found[monomial], largest[monomial] = coefficient, abs(coefficient)
    # What is left of equal terms of opposite signs is rounding of the numbers in the model.
    kept = [(m, c) for m, c in found.items() if abs(c) > 1e-7 * largest[m]]
    if len(kept) > _MOST_TERMS:
        raise FormulaTooLongError
    if len(kept) > 1:
        kept.sort(key=lambda term: _key(term[0]))
    result = Formula(tuple(kept))
    if len(result.values) > _MOST_VALUES:
        raise FormulaTooLongError
    return result


def _product(one: Monomial, other: Monomial) -> Monomial:
    powers: dict[Atom, float] = dict(one)
    for atom, exponent in other:
        powers[atom] = powers.get(atom, 0.0) + exponent
    kept = [(atom, exponent) for atom, exponent in powers.items() if exponent]
    return tuple(sorted(kept, key=lambda pair: pair[0].sort_key))


_STEPS: Final = (Atom("step", X), Atom("reach", X))
_RELU: Final = Atom("relu", X)


def _reduced(monomial: Monomial, coefficient: float) -> Iterable[tuple[Monomial, float]]:
    """step(x) x = relu(x), step(x) step(x) = step(x), e^p sigmoid(p) = e^p - sigmoid(p)."""
    powers = dict(monomial)
    for atom in monomial_atoms(monomial, "sigmoid"):
        other = Atom("exp", atom.inner)
        if powers[atom] == 1 and powers.get(other) == 1:
            rest = [pair for pair in monomial if pair[0] not in (atom, other)]
            left, right = (_ordered([*rest, (item, 1.0)]) for item in (other, atom))
            return (left, coefficient), (right, -coefficient)
    for step in _STEPS:
        if powers.get(step, 0) < 1:
            continue
        leaf = X.terms[0][0][0][0]
        powers[step] = 1.0
        if powers.get(leaf, 0) >= 1:
            del powers[step]
            powers[leaf] -= 1
            powers[_RELU] = powers.get(_RELU, 0) + 1
        return ((_ordered((atom, e) for atom, e in powers.items() if e), coefficient),)
    return ((monomial, coefficient),)


def monomial_atoms(monomial: Monomial, kind: str) -> list[Atom]:
    """The factors of one kind."""
    return [atom for atom, _ in monomial if atom.kind == kind]


def _ordered(pairs: Iterable[tuple[Atom, float]]) -> Monomial:
    return tuple(sorted(pairs, key=lambda pair: pair[0].sort_key))


def is_positive(atom: Atom) -> bool:
    """Whether an atom is greater than zero wherever it is defined."""
    if atom.kind in {"mean", "sum"}:
        return _all_positive(atom)
    return atom.kind in {"exp", "sigmoid", "group"}


def _all_positive(atom: Atom) -> bool:
    assert atom.inner is not None
    return all(c > 0 and all(is_positive(a) for a, _ in m) for m, c in atom.inner.terms)


def lead(formula: Formula) -> float:
    """The coefficient that decides the sign of a formula: of its last term with atoms."""
    return next((c for monomial, c in reversed(formula.terms) if monomial), 0.0)


def _group(formula: Formula, exponent: float) -> Formula:
    """A power of a sum, scaled so that equal sums are one atom."""
    scale = abs(lead(formula)) or 1.0
    atom = Atom("group", formula.times(1 / scale))
    return Formula(((((atom, exponent),), scale**exponent),))


def _logistic(formula: Formula) -> Formula | None:
    """1 / (c + c exp(p)) as sigmoid, or None."""
    if len(formula.terms) != 2:
        return None
    (first, c), (second, d) = formula.terms
    pair = ((second, d), c) if not first else ((first, c), d)
    (monomial, factor), one = pair
    if len(monomial) != 1 or monomial[0][0].kind != "exp" or abs(factor - one) > 1e-6 * abs(one):
        return None
    if first and second:
        return None
    atom, power = monomial[0]
    assert atom.inner is not None
    return sigmoid(atom.inner.times(-power)).times(1 / one)


def sigmoid(inner: Formula) -> Formula:
    """1 / (1 + exp(-p))."""
    if lead(inner) < 0:
        return number(1) - of(Atom("sigmoid", inner.times(-1)))
    return of(Atom("sigmoid", inner))


# ---- comparison --------------------------------------------------------------------------------


def close(one: Formula, other: Formula, digits: float = _DIGITS) -> bool:
    """Whether formulas are equal but for the last digits of their numbers."""
    if len(one.terms) != len(other.terms):
        return False
    left = list(other.terms)
    for monomial, coefficient in one.terms:
        for index, (candidate, value) in enumerate(left):
            near = abs(coefficient - value) <= digits * max(abs(coefficient), abs(value))
            if near and _close_monomials(monomial, candidate, digits):
                del left[index]
                break
        else:
            return False
    return True


def _close_monomials(one: Monomial, other: Monomial, digits: float) -> bool:
    if len(one) != len(other):
        return False
    return all(
        e == f and _close_atoms(a, b, digits) for (a, e), (b, f) in zip(one, other, strict=True)
    )


def _close_atoms(one: Atom, other: Atom, digits: float) -> bool:
    if (one.kind, one.axes, one.value) != (other.kind, other.axes, other.value):
        return False
    if one.inner is None or other.inner is None:
        return one.inner is other.inner
    return close(one.inner, other.inner, digits)


# ---- printing ----------------------------------------------------------------------------------


def text(formula: Formula) -> str:
    """A formula for messages, its leaf as x."""
    if not formula.terms:
        return "0"
    return " + ".join(_term_text(m, c) for m, c in formula.terms).replace("+ -", "- ")


def _term_text(monomial: Monomial, coefficient: float) -> str:
    factors = [_atom_text(atom) + (f"^{e:g}" if e != 1 else "") for atom, e in monomial]
    if not factors or abs(coefficient - 1) > _DIGITS:
        factors.insert(0, f"{coefficient:.6g}")
    return " ".join(factors)


def _atom_text(atom: Atom) -> str:
    if atom.kind == "leaf":
        return "x"
    if atom.value is not None:
        return atom.value.name
    assert atom.inner is not None
    name = "" if atom.kind == "group" else atom.kind
    return f"{name}({text(atom.inner)})"
