"""Reads the named canonical text of a graph back (`print_graph` with ``named=True``).

What comes out is the graph as far as the text tells it: operations with their operands, types and
provenance, subgraphs and functions. Contents of constants stay descriptions (`Described`), values
of attributes stay text (`Literal`), names of nodes are not there. Printing it gives the same text,
and `diff_graphs` compares two of them; nothing else can be done with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir.graph import Graph
from optc.ir.line import Line, parse_type
from optc.ir.literals import Literal
from optc.ir.model import Function
from optc.ir.nodes import Attr, AttrKind, Kind
from optc.ir.tensor import Described
from optc.ir.text import ORIGIN_MARK
from optc.ir.types import DType, SparseTensorType, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir.nodes import Value


def read_graph(text: str, *, location: str = "canonical text") -> Graph:
    """The graph that a named canonical text describes.

    Lines that begin with ``#`` are comments.

    Args:
        text: what `print_graph` gave with ``named=True``.
        location: what errors call it, e.g. a file name.

    Raises:
        ModelError: ``text-invalid``, with the line that cannot be read.
    """
    reader = _Reader(text, location)
    try:
        return reader.model()
    except ValueError as error:  # a name that is taken, say
        reader.lines[reader.next - 1].wrong(f"something else ({error})")


class _Reader:
    def __init__(self, text: str, location: str) -> None:
        self.lines = [
            Line(line.strip(), f"{location}:{number}")
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip() and not line.startswith("#")
        ]
        self.next = 0
        self.end = Line("", location)

    def line(self) -> Line:
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
                graph.add_output(value, name, line.one_type())
            elif line.take("yield "):
                self._yield(line, graph)
            else:
                self._definition(line, graph)

    def _input(self, line: Line, graph: Graph) -> None:
        name = line.reference()
        if name is None:
            line.wrong("the name of an input")
        value = graph.add_input(name, line.one_type())
        if line.take(" = "):
            value.node.tensor = _described(line, line.literal(ORIGIN_MARK, ",", ")"))

    def _yield(self, line: Line, graph: Graph) -> None:
        names = [line.reference()]
        while line.take(", "):
            names.append(line.reference())
        types = line.types() or [None] * len(names)
        for index, name in enumerate(names):
            value = self._find(line, graph, name)
            graph.add_output(value, f"result {index}", types[index])

    # ---- operations and constants --------------------------------------------------------------

    def _definition(self, line: Line, graph: Graph) -> None:
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

    def _operation(self, line: Line, graph: Graph, results: list[str | None]) -> None:
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

    def _captures(self, line: Line) -> Iterator[str]:
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

    def _find(self, line: Line, graph: Graph, name: str | None) -> Value:
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


def _described(line: Line, text: str) -> Described:
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
