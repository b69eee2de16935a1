"""Reads the text of a symbolic dimension.

Exporters and shape inference tools write expressions into ``dim_param``: ``2*N``,
``floor(H/2 - 1/2) + 1`` and ``Min(512, s0)`` (sympy's spelling), ``((s0 - 1)//2) + 1`` (Python's).
What is not an expression of sums, products, floor, ceiling, min, max, ``//`` and ``%`` is one
symbol as a whole, so reading never fails.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir import polynomial as pl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_TEXT: Final = 256  # also bounds the recursion
_MAX_POWER: Final = 4
_TOKEN: Final = re.compile(r"\s*(?:(\d+)|([^\W\d][\w.]*)|(\*\*|//|[-+*/%(),]))")
_NAME: Final = re.compile(r"[^\W\d][\w.]*")

_Rational: TypeAlias = tuple[pl.Poly, int]
"""A polynomial over a positive number."""


class _NotAnExpressionError(ValueError):
    pass


@lru_cache(maxsize=1 << 15)
def parse(text: str) -> pl.Poly:
    """The polynomial that `text` spells; a text that is no expression is one symbol."""
    if len(text) <= _MAX_TEXT:
        try:
            return _Reader(text).read()
        except (_NotAnExpressionError, pl.TooLargeError):
            pass
    return pl.symbol(text)


def is_printable(poly: pl.Poly) -> bool:
    """Whether the canonical text of a polynomial reads back as the same polynomial.

    False when a symbol that is no identifier, such as ``batch size``, stands in an expression.
    """
    return all(_NAME.fullmatch(name) for name in pl.symbols(poly))


class _Reader:
    """Recursive descent over ``sum > product > sign > power > item``."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        end = 0
        text = text.rstrip()
        while end < len(text):
            found = _TOKEN.match(text, end)
            if found is None:
                raise _NotAnExpressionError
            self.tokens.append(found.group().lstrip())
            end = found.end()
        self.next = 0

    def read(self) -> pl.Poly:
        value = _whole(self.sum())
        if self.next != len(self.tokens):
            raise _NotAnExpressionError
        return value

    def peek(self) -> str:
        return self.tokens[self.next] if self.next < len(self.tokens) else ""

    def take(self, *tokens: str) -> str:
        found = self.peek()
        if found and found in tokens:
            self.next += 1
            return found
        return ""

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise _NotAnExpressionError

    def sum(self) -> _Rational:
        value = self.product()
        while sign := self.take("+", "-"):
            right, over = self.product()
            right = pl.scaled(right, value[1] * (1 if sign == "+" else -1))
            value = pl.plus(pl.scaled(value[0], over), right), value[1] * over
        return value

    def product(self) -> _Rational:
        value = self.sign()
        while operator := self.take("*", "//", "/", "%"):
            value = _OPERATORS[operator](value, self.sign())
        return value

    def sign(self) -> _Rational:
        if self.take("-"):
            value, over = self.sign()
            return pl.scaled(value, -1), over
        return self.power()

    def power(self) -> _Rational:
        value = self.item()
        if not self.take("**"):
            return value
        exponent = pl.as_number(_whole(self.item()))
        if exponent is None or not 1 <= exponent <= _MAX_POWER:
            raise _NotAnExpressionError
        result = value
        for _ in range(exponent - 1):
            result = _multiply(result, value)
        return result

    def item(self) -> _Rational:
        token = self.peek()
        self.next += 1
        if token.isdecimal():
            return pl.number(int(token)), 1
        if token == "(":
            value = self.sum()
            self.expect(")")
            return value
        if not _NAME.fullmatch(token):
            raise _NotAnExpressionError
        if not self.take("("):
            return pl.symbol(token), 1
        operands = [self.sum()]
        while self.take(","):
            operands.append(self.sum())
        self.expect(")")
        return _call(token, operands), 1


def _call(name: str, operands: list[_Rational]) -> pl.Poly:
    if name in ("min", "max", "Min", "Max"):
        return pl.extreme(name.lower(), [_whole(operand) for operand in operands])
    if name in ("floor", "ceiling", "ceil") and len(operands) == 1:
        value, over = operands[0]
        return pl.floor(value if name == "floor" else pl.plus(value, pl.number(over - 1)), over)
    if name in ("Mod", "FloorDiv") and len(operands) == 2:
        return _OPERATORS["%" if name == "Mod" else "//"](operands[0], operands[1])[0]
    raise _NotAnExpressionError


def _whole(value: _Rational) -> pl.Poly:
    """The value, which must have integer coefficients."""
    poly, over = value
    if any(factor % over for _, factor in poly):
        raise _NotAnExpressionError
    return tuple((monomial, factor // over) for monomial, factor in poly)


def _multiply(a: _Rational, b: _Rational) -> _Rational:
    return pl.times(a[0], b[0]), a[1] * b[1]


def _divide(a: _Rational, b: _Rational) -> _Rational:
    divisor = pl.as_number(_whole(b))
    if divisor is None or divisor <= 0:
        raise _NotAnExpressionError
    return a[0], a[1] * divisor


def _floor_divide(a: _Rational, b: _Rational) -> _Rational:
    found = pl.quotient(_whole(a), _whole(b))
    if found is None:
        raise _NotAnExpressionError
    return found, 1


def _remainder(a: _Rational, b: _Rational) -> _Rational:
    whole = pl.times(_floor_divide(a, b)[0], _whole(b))
    return pl.minus(_whole(a), whole), 1


_OPERATORS: Final[Mapping[str, Callable[[_Rational, _Rational], _Rational]]] = {
    "*": _multiply,
    "/": _divide,
    "//": _floor_divide,
    "%": _remainder,
}
