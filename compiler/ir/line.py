"""Reads the parts of one line of canonical text: names, references, literals, types."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn

from optc.errors import ModelError
from optc.ir.nodes import Origin
from optc.ir.text import ORIGIN_MARK
from optc.ir.types import (
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from optc.ir.types import Dim, Type

_NAME: Final = re.compile(r"[\w/.:$@-]+", re.ASCII)
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[({]|[\])}]|  # |[^"\[\](){}, ]+|.')
_QUOTED: Final = json.JSONDecoder()


class Line:
    """One line and how far it is read.

    Attributes:
        text: the line without its indentation.
        place: what errors call it.
        at: how far it is read.
    """

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self.place = place
        self.at = 0

    def wrong(self, wanted: str) -> NoReturn:
        """Raise ModelError ``text-invalid``: something else than `wanted` comes next."""
        raise ModelError(
            "text-invalid",
            f"expected {wanted} at '{self.text[self.at :][:40]}'",
            location=self.place,
            hint="the text was written by another version of optc, or edited: write it anew",
        )

    @property
    def ends(self) -> bool:
        """Whether all of it is read."""
        return self.at >= len(self.text)

    def take(self, word: str) -> bool:
        """Whether `word` comes next; reads it then."""
        if not self.text.startswith(word, self.at):
            return False
        self.at += len(word)
        return True

    def expect(self, word: str) -> None:
        """Read `word`, which must come next."""
        if not self.take(word):
            self.wrong(f"'{word.strip()}'")

    def name(self) -> str:
        """A name, quoted or not."""
        if self.text.startswith('"', self.at):
            try:
                found, self.at = _QUOTED.raw_decode(self.text, self.at)
            except ValueError:
                self.wrong("a quoted name")
            return str(found)
        match = _NAME.match(self.text, self.at)
        if match is None:
            self.wrong("a name")
        self.at = match.end()
        return match[0]

    def reference(self) -> str | None:
        """The name of a value; None for ``_``."""
        if self.take("%"):
            return self.name()
        self.expect("_")
        return None

    def literal(self, *stops: str) -> str:
        """Everything up to one of `stops` outside of brackets and quotes, or the end."""
        start, depth = self.at, 0
        while not self.ends:
            match = _TOKEN.match(self.text, self.at)
            token = match[0] if match else self.text[self.at]
            if depth == 0 and token in stops:
                break
            if token in "[({":
                depth += 1
            elif token in "])}":
                depth -= 1
            self.at += len(token)
        return self.text[start : self.at]

    def types(self) -> list[Type | None]:
        """What follows a colon, if one comes next."""
        if not self.take(" : "):
            return []
        found = [self.type()]
        while self.take(", "):
            found.append(self.type())
        return found

    def one_type(self) -> Type | None:
        """The type that follows a colon, if one comes next; None when none does."""
        return self.type() if self.take(" : ") else None

    def type(self) -> Type | None:
        """A type; None for ``?``."""
        text = self.literal(",", " ", ")", "  # ")
        try:
            return parse_type(text)
        except ValueError:
            self.wrong(f"a type instead of {text}")

    def origin(self) -> Origin | None:
        """The pass that made it, if the line says so; the line ends then."""
        found = Origin(self.text[self.at :], ()) if self.take(ORIGIN_MARK) else None
        if found is None and not self.ends:
            self.wrong("the end of the line")
        return found


# ---- types -------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def parse_type(text: str) -> Type | None:
    """The type that `format_type` writes so.

    Raises:
        ValueError: it writes nothing so.
    """
    if text == "?":
        return None
    head, _, rest = text.partition("(")
    inner = rest.removesuffix(")")
    match head if rest.endswith(")") else "":
        case "seq":
            return SequenceType(parse_type(inner))
        case "optional":
            return OptionalType(parse_type(inner))
        case "map":
            key, _, value = inner.partition(", ")
            return MapType(DType(key), parse_type(value))
        case "opaque":
            domain, _, name = inner.partition(", ")
            return OpaqueType(_unquote(domain), _unquote(name))
        case "sparse":
            dense = parse_type(inner)
            if isinstance(dense, TensorType):
                return SparseTensorType(dense.dtype, dense.shape)
    dtype, bracket, dims = text.partition("[")
    if not bracket or not dims.endswith("]"):
        raise ValueError(text)
    return TensorType(DType(dtype), _shape(dims[:-1]))


def _shape(text: str) -> tuple[Dim, ...] | None:
    if text == "*":
        return None
    found: list[Dim] = []
    line = Line(text, "")
    while not line.ends:
        dim = line.literal(",")
        line.take(",")
        if dim == "?":
            found.append(None)
        else:
            found.append(int(dim) if dim.lstrip("-").isdigit() else _unquote(dim))
    return tuple(found)


def _unquote(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text
