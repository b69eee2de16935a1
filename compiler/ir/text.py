"""The canonical text of a graph: the golden format, and the form of bug reports.

    opsets ai.onnx 17, com.microsoft 1

    graph classifier {
      input %x : f32[N,3,32,32]
      %0 = const f32[16,3,3,3] sha256:1a2b3c4d
      %1 = Conv(%x, %0, _, pads=[1, 1, 1, 1]) : f32[N,16,32,32]
      %2 = const f32[1] {0.5}
      %3 = Mul(%1, %2) : f32[N,16,32,32]
      %4 = If(%c) captures(%3) : f32[N,16,32,32] {
        then_branch {
          %5 = Relu(%3) : f32[N,16,32,32]
          yield %5
        }
        …
      }
      output y = %4 : f32[N,16,32,32]
    }

- Operations stand in lexicographic topological order (`Graph.ordered`), a constant just before the
  first operation that uses it, constants without a use at the end.
- Values are numbered in order of definition, through subgraphs as well: a number means one value.
  Inputs of the graph and of functions keep their names: they are the interface. So do outputs,
  which are lines of their own. Inputs and outputs of subgraphs are positional and have no names.
- A captured value has the name of the outer value; ``captures(…)`` lists what an operation's
  subgraphs use.
- Attributes are sorted and written as they are in the model: defaults are not added. ``_`` is an
  operand or result that is left out, ``?`` an unknown type or dimension, ``[*]`` an unknown rank.
- Node names, doc strings, metadata and provenance are not part of it.

The text is for reading and comparing. Its named form can be read back, as far as it tells a graph
(`optc.ir.reader`): that is what golden graphs are compared by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir.literals import (
    format_attribute,
    format_name,
    format_sparse,
    format_tensor,
    format_type,
)
from optc.ir.nodes import AttrKind, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from optc.ir.graph import Graph
    from optc.ir.model import Function
    from optc.ir.nodes import Attr, Node, Value
    from optc.ir.types import Type

_STEP: Final = "  "
ORIGIN_MARK: Final = "  # "
"""What stands before the name of the pass that made what a line defines."""

_MADE_DIGITS: Final = 6  # a float32 has seven, of which kernels of other CPUs may change the last


def print_graph(
    graph: Graph,
    *,
    weights: bool = True,
    named: bool = False,
    origins: bool = False,
    data: Mapping[Node, str] | None = None,
) -> str:
    """The canonical text of a graph with the functions of its model.

    Equal graphs give equal bytes on every machine, whatever order they were built in. Linear in
    the size of the graph; large constants are read once, for their digest. A broken graph is
    printed as well as it goes: a cycle in order of names, a value of unknown origin as ``%!name``.

    Args:
        graph: a root graph; a subgraph is printed like one, its captures by their inner names.
        weights: print digests of large constants; False compares structure only.
        named: print the names of values instead of numbers. Such a text is not canonical, but two
            of them can be compared line by line.
        origins: end the lines of what a pass made with its name, as ``# fold-affine``. Floats that
            it computed for attributes are rounded to six digits.
        data: how to write the contents of some constants instead of as `weights` says.
    """
    printer = _Printer(weights=weights, named=named, origins=origins, data=data or {})
    printer.line(f"opsets {_opsets(graph.opsets)}")
    printer.line("")
    printer.root(f"graph {format_name(graph.name)}" if graph.name else "graph", graph)
    if graph.parent is None:
        for key in sorted(graph.model.functions):
            printer.function(graph.model.functions[key])
    return "\n".join(printer.lines) + "\n"


def _opsets(opsets: Mapping[str, int]) -> str:
    return ", ".join(f"{d or 'ai.onnx'} {opsets[d]}" for d in sorted(opsets)) or "none"


class _Printer:
    def __init__(
        self, *, weights: bool, named: bool, origins: bool, data: Mapping[Node, str]
    ) -> None:
        self.lines: list[str] = []
        self._weights = weights
        self._named = named
        self._origins = origins
        self._texts = data
        self._count = 0
        self._indent = ""
        self._names: dict[Value, str] = {}

    def line(self, text: str) -> None:
        self.lines.append(self._indent + text if text else "")

    # ---- graphs --------------------------------------------------------------------------------

    def root(self, head: str, graph: Graph, preamble: Iterable[str] = ()) -> None:
        self._names, self._count = {}, 0
        self._open(head)
        for text in preamble:
            self.line(text)
        for value in graph.inputs:
            self._names[value] = name = f"%{format_name(value.name)}"
            self.line(f"input {name}{_types([value.type])}{self._default(value.node)}")
        for node in graph.nodes(Kind.CAPTURE):
            self._names[node.output] = f"%{format_name(node.output.name)}"
        self._body(graph)
        for node in graph.outputs:
            source = self._ref(graph.operand(node, 0))
            self.line(f"output {format_name(node.name)} = {source}{_types([node.declared])}")
        self._close()

    def function(self, function: Function) -> None:
        parameters = [f"attribute {format_name(name)}" for name in sorted(function.attributes)]
        parameters += [
            f"attribute {format_name(name)} = {self._attribute(function.defaults[name], name)}"
            for name in sorted(function.defaults)
        ]
        overload = f":{function.overload}" if function.overload else ""
        name = format_name(f"{function.domain}::{function.name}{overload}")
        opsets = f"opsets {_opsets(function.body.opsets)}"
        self.line("")
        self.root(f"function {name}", function.body, [opsets, *parameters])

    def _subgraph(self, name: str, graph: Graph, captured: Mapping[str, Value]) -> None:
        formals = []
        for value in graph.inputs:
            formal = self._define(value)
            formals.append(f"{formal}{_types([value.type])}{self._default(value.node)}")
        self._open(f"{name}({', '.join(formals)})" if formals else name)
        for node in graph.nodes(Kind.CAPTURE):
            outer = captured.get(node.output.name)
            if outer is not None:
                self._names[node.output] = self._ref(outer)
        self._body(graph)
        results = [self._ref(graph.operand(node, 0)) for node in graph.outputs]
        declared = [node.declared for node in graph.outputs]
        self.line(f"yield {', '.join(results)}{_types(declared)}")
        self._close()

    def _body(self, graph: Graph) -> None:
        for node in _order(graph):
            self._operation(graph, node)
        for node in graph.outputs:
            self._constants([graph.operand(node, 0)])
        idle = (value for value in graph.constants() if value not in self._names)
        unused = sorted(idle, key=lambda value: value.name)
        self._constants(unused)

    def _open(self, head: str, tail: str = "") -> None:
        self.line(f"{head} {{{tail}")
        self._indent += _STEP

    def _close(self) -> None:
        self._indent = self._indent[: -len(_STEP)]
        self.line("}")

    # ---- lines ---------------------------------------------------------------------------------

    def _operation(self, graph: Graph, node: Node) -> None:
        operands = graph.operands(node)
        self._constants(operands)
        nested = tuple(node.subgraphs())
        captured = graph.captures(node) if nested else {}
        self._constants(captured.values())
        results = ", ".join("_" if v is None else self._define(v) for v in node.outputs)
        items = ["_" if v is None else self._ref(v) for v in operands]
        items += [
            f"{format_name(name)}={self._attribute(node.attributes[name], name, node)}"
            for name in sorted(node.attributes)
            if not node.attributes[name].graphs
        ]
        head = f"{results} = " if results else ""
        call = f"{_operator(node)}({', '.join(items)})"
        types = _types([None if v is None else v.type for v in node.outputs])
        text = f"{head}{call}{self._captures(captured)}{types}"
        if not nested:
            self.line(text + self._made_by(node))
            return
        self._open(text, self._made_by(node))
        for name, inner in _labels(node):
            self._subgraph(name, inner, captured)
        self._close()

    def _constants(self, values: Iterable[Value | None]) -> None:
        for value in values:
            if value is None or value.node.kind is not Kind.CONSTANT or value in self._names:
                continue
            name = self._define(value)
            self.line(f"{name} = const {self._data(value.node)}{self._made_by(value.node)}")

    def _made_by(self, node: Node) -> str:
        made_by = node.origin.made_by if self._origins and node.origin else ""
        return f"{ORIGIN_MARK}{made_by}" if made_by else ""

    def _data(self, node: Node) -> str:
        if (text := self._texts.get(node)) is not None:
            return text
        if node.sparse is not None:
            return format_sparse(node.sparse, weights=self._weights)
        if node.tensor is not None:
            return format_tensor(node.tensor, weights=self._weights)
        return "?"

    def _default(self, node: Node) -> str:
        without = node.tensor is None and node.sparse is None
        return "" if without else f" = {self._data(node)}"

    def _attribute(self, attribute: Attr, name: str, node: Node | None = None) -> str:
        made = node is not None and self._made_by(node)
        digits = _MADE_DIGITS if made else None
        return format_attribute(attribute, name, weights=self._weights, digits=digits)

    # ---- names ---------------------------------------------------------------------------------

    def _define(self, value: Value) -> str:
        if self._named:
            name = f"%{format_name(value.name)}"
        else:
            name = f"%{self._count}"
            self._count += 1
        self._names[value] = name
        return name

    def _ref(self, value: Value | None) -> str:
        if value is None:
            return "_"
        return self._names.get(value) or f"%!{format_name(value.name)}"

    def _captures(self, captured: Mapping[str, Value]) -> str:
        # Not in order of the inner names, which mean nothing; shorter first puts %9 before %10.
        refs = sorted({self._ref(v) for v in captured.values()}, key=lambda ref: (len(ref), ref))
        return f" captures({', '.join(refs)})" if refs else ""


def _order(graph: Graph) -> Sequence[Node]:
    try:
        return graph.ordered()
    except ValueError:
        return sorted(graph.nodes(), key=lambda node: node.key)


def _labels(node: Node) -> Iterator[tuple[str, Graph]]:
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        for index, graph in enumerate(attribute.graphs):
            suffix = f"[{index}]" if attribute.kind is AttrKind.GRAPHS else ""
            yield format_name(name) + suffix, graph


def _operator(node: Node) -> str:
    name = node.qualified_op
    return format_name(f"{name}:{node.overload}" if node.overload else name)


def _types(types: Sequence[Type | None]) -> str:
    if all(type is None for type in types):
        return ""
    return f" : {', '.join(map(format_type, types))}"
