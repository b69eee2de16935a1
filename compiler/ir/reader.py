"""Reads the named canonical text of a graph back (`print_graph` with ``named=True``).

What comes out is the graph as far as the text tells it: operations with their operands, types and
provenance, subgraphs and functions. Contents of constants stay descriptions (`Described`), values
of attributes stay text (`Literal`), names of nodes are not there. Printing it gives the same text,
and `diff_graphs` compares two of them; nothing else can be done with it.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn

from optc.errors import ModelError
from optc.ir.graph import Graph
from optc.ir.literals import Literal
from optc.ir.model import Function
from optc.ir.nodes import Attr, AttrKind, Kind, Origin
from optc.ir.tensor import Described
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
    from collections.abc import Iterator

    from optc.ir.nodes import Value
    from optc.ir.types import Dim, Type

_NAME: Final = re.compile(r"[\w/.:$@-]+", re.ASCII)
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[\[({]|[\])}]|  # |[^"\[\](){}, ]+|.')
_QUOTED: Final = json.JSONDecoder()


def read_graph(text: str, *, location: str = "canonical text") -> Graph:
    """The graph that a named canonical text describes.

    Lines that begin with ``#`` are comments.

    Args:
        text: what `print_graph` gave with ``named=True``.
        location: what errors call it, e.g. a file name.

    Raises:
        ModelError: ``text-invalid``, with the line that cannot be read.
    """
    return _Reader(text, location).model()


class _Line:
    """One line and how far it is read."""

    def __init__(self, text: str, place: str) -> None:
        self.text = text
        self.place = place
        self.at = 0

    def wrong(self, wanted: str) -> NoReturn:
        raise ModelError(
            "text-invalid",
            f"expected {wanted} at '{self.text[self.at :][:40]}'",
            location=self.place,
            hint="the text was written by another version of optc, or edited: write it anew",
        )

    @property
    def ends(self) -> bool:
        return self.at >= len(self.text)

    def take(self, word: str) -> bool:
        """Whether `word` comes next; reads it then."""
        if not self.text.startswith(word, self.at):
            return False
        self.at += len(word)
        return True

    def expect(self, word: str) -> None:
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

    def type(self) -> Type | None:
        text = self.literal(",", " ", "  # ")
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


class _Reader:
    def __init__(self, text: str, location: str) -> None:
        self.lines = [
            _Line(line.strip(), f"{location}:{number}")
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip() and not line.startswith("#")
        ]
        self.next = 0
        self.end = _Line("", location)

    def line(self) -> _Line:
        if self.next >= len(self.lines):
            self.end.wrong("more")
        self.next += 1
        return self.lines[self.next - 1]

    def take(self, word: str) -> bool:
        """Whether the next line is just this."""
        if self.next < len(self.lines) and self.lines[self.next].text == word:
            self.next += 1
            return True
        return False

    # ---- graphs --------------------------------------------------------------------------------

    def model(self) -> Graph:
        opsets = self._opsets()
        head = self.line()
        head.expect("graph ")
        graph = Graph("" if head.take("{") else head.name(), opsets)
        self._body(graph)
        while self.next < len(self.lines):
            function = self._function()
            key = (function.domain, function.name, function.overload)
            graph.model.functions[key] = function
        return graph

    def _opsets(self) -> dict[str, int]:
        line = self.line()
        line.expect("opsets ")
        found: dict[str, int] = {}
        while not line.take("none") and not line.ends:
            domain = line.literal(" ")
            line.expect(" ")
            version = line.name()
            if not version.isdecimal():
                line.wrong("the number of an opset")
            found["" if domain == "ai.onnx" else domain] = int(version)
            line.take(", ")
        return found

    def _function(self) -> Function:
        head = self.line()
        head.expect("function ")
        domain, name, overload = _operator(head.name())
        body = Graph(name, self._opsets())
        function = Function(name, domain, overload, body)
        while self.next < len(self.lines) and self.lines[self.next].take("attribute "):
            line = self.line()
            parameter = line.name()
            if line.take(" = "):
                default = Attr(AttrKind.STRING, Literal(line.literal()))
                function.defaults = {**function.defaults, parameter: default}
            else:
                function.attributes = (*function.attributes, parameter)
        self._body(body)
        return function

    def _body(self, graph: Graph) -> None:
        """The lines of a graph up to the brace that closes it."""
        while not self.take("}"):
            line = self.line()
            if line.take("input "):
                self._input(line, graph)
            elif line.take("output "):
                name = line.name()
                line.expect(" = ")
                value = self._find(line, graph, line.reference())
                graph.add_output(value, name, next(iter(line.types()), None))
            elif line.take("yield "):
                self._yield(line, graph)
            else:
                self._definition(line, graph)

    def _input(self, line: _Line, graph: Graph) -> None:
        name = line.reference()
        if name is None:
            line.wrong("the name of an input")
        value = graph.add_input(name, next(iter(line.types()), None))
        if line.take(" = "):
            value.node.tensor = _described(line, line.literal(ORIGIN_MARK, ",", ")"))

    def _yield(self, line: _Line, graph: Graph) -> None:
        names = [line.reference()]
        while line.take(", "):
            names.append(line.reference())
        types = line.types() or [None] * len(names)
        for index, name in enumerate(names):
            value = self._find(line, graph, name)
            graph.add_output(value, f"result {index}", types[index])

    # ---- operations and constants --------------------------------------------------------------

    def _definition(self, line: _Line, graph: Graph) -> None:
        results: list[str | None] = []
        if line.text.startswith(("%", "_")):
            results.append(line.reference())
            while line.take(", "):
                results.append(line.reference())
            line.expect(" = ")
        if results and results[0] is not None and line.take("const "):
            data = _described(line, line.literal(ORIGIN_MARK))
            value = graph.add_constant(data, results[0], line.origin())
            if data.text.startswith("sparse("):
                graph.set_type(value, SparseTensorType(data.dtype, data.type.shape))
            return
        self._operation(line, graph, results)

    def _operation(self, line: _Line, graph: Graph, results: list[str | None]) -> None:
        domain, op_type, overload = _operator(line.name())
        line.expect("(")
        operands: list[Value | None] = []
        attributes: dict[str, Attr] = {}
        while not line.take(")"):
            if line.text.startswith(("%", "_,", "_)"), line.at):
                name = line.reference()
                operands.append(None if name is None else self._find(line, graph, name))
            else:
                key = line.name()
                line.expect("=")
                attributes[key] = Attr(AttrKind.STRING, Literal(line.literal(",", ")")))
            line.take(", ")
        captured = list(self._captures(line))
        types = line.types()
        nested = line.take(" {")
        origin = line.origin()
        if nested:
            attributes |= self._subgraphs(graph)
        inner = (g for a in attributes.values() for g in a.graphs)
        captured += [node.name for g in inner for node in g.nodes(Kind.CAPTURE)]
        node = graph.add(
            op_type,
            operands,
            outputs=results,
            domain=domain,
            attributes=attributes,
            types=types,
            captures={name: self._find(line, graph, name) for name in dict.fromkeys(captured)},
            origin=origin,
        )
        node.overload = overload

    def _captures(self, line: _Line) -> Iterator[str]:
        if not line.take(" captures("):
            return
        while not line.take(")"):
            name = line.reference()
            if name is not None:
                yield name
            line.take(", ")

    def _subgraphs(self, graph: Graph) -> dict[str, Attr]:
        found: dict[str, list[Graph]] = {}
        lists: set[str] = set()
        while not self.take("}"):
            line = self.line()
            label = line.name()
            if line.take("["):
                lists.add(label)
                line.literal("]")
                line.expect("]")
            inner = Graph(parent=graph)
            if line.take("("):
                while not line.take(")"):
                    self._input(line, inner)
                    line.take(", ")
            line.expect(" {")
            self._body(inner)
            found.setdefault(label, []).append(inner)
        return {
            name: Attr(AttrKind.GRAPHS, tuple(graphs))
            if name in lists
            else Attr(AttrKind.GRAPH, graphs[0])
            for name, graphs in found.items()
        }

    def _find(self, line: _Line, graph: Graph, name: str | None) -> Value:
        """A value that was defined above, captured from an enclosing graph where it is of one."""
        if name is None:
            line.wrong("the name of a value")
        if graph.has_value(name):
            return graph.value(name)
        if graph.parent is None:
            line.wrong(f"a value that is defined above, not %{name},")
        outer = self._find(line, graph.parent, name)
        return graph.add_capture(name, outer.type)


def _operator(text: str) -> tuple[str, str, str]:
    """Domain, name and overload of a qualified operator."""
    domain, _, rest = text.rpartition("::")
    name, _, overload = rest.partition(":")
    return domain, name, overload


def _described(line: _Line, text: str) -> Described:
    head = text.split(" ", 1)[0] if not text.startswith("sparse(") else text.split(")", 1)[0] + ")"
    try:
        found = parse_type(head) if text != "?" else TensorType(DType.UNDEFINED, ())
    except ValueError:
        found = None
    if isinstance(found, TensorType | SparseTensorType):
        sizes = [dim for dim in found.shape or () if isinstance(dim, int)]
        if len(sizes) == len(found.shape or ()):
            return Described(found.dtype, sizes, text)
    line.wrong(f"a tensor instead of {text}")


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
    line = _Line(text, "")
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
