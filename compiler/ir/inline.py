"""Puts the operations of a subgraph into the graph that its owner stands in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optc.ir import dims
from optc.ir.clone import carry_node, carry_value, clone_attributes
from optc.ir.nodes import Kind, Origin
from optc.ir.types import OptionalType, SequenceType, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.ir.types import Type


class Inliner:
    """Copies a subgraph into the enclosing graph, once or several times.

    What the subgraph captures is the value that the enclosing graph has for it, and its constants
    are added once for all copies. Names are those of the subgraph with a suffix until its owner is
    removed; `settle` then gives the plain ones back.

    Attributes:
        made: operations and constants that were added.
    """

    def __init__(self, graph: Graph, owner: Node, body: Graph, made_by: str) -> None:
        self._graph = graph
        self._owner = owner
        self._body = body
        self._made_by = made_by
        self._fixed: dict[Value, Value] = {}
        self._names: list[tuple[Value, str, str]] = []
        self.made: list[Node] = []
        captures = graph.captures(owner)
        for node in body.nodes(Kind.CAPTURE):
            self._fixed[node.output] = captures[node.name]

    def copy(
        self,
        inputs: Sequence[Value | None] = (),
        *,
        skip: int = 0,
        suffix: str = "",
        repeated: bool = False,
    ) -> list[Value]:
        """Add the operations of the subgraph once more.

        Args:
            inputs: what its inputs are; None for one that no operation uses.
            skip: how many of its first outputs are not wanted.
            suffix: of the names of operations, so that copies can be told apart.
            repeated: whether the subgraph runs more than once. The symbols in its types then stand
                for another size in each run, and are left out.

        Returns:
            What the outputs of the subgraph are, in order.
        """
        pairs = zip(self._body.inputs, inputs, strict=True)
        values = self._fixed | {formal: actual for formal, actual in pairs if actual is not None}
        for node in self._body.ordered():
            self._copy_node(node, values, suffix, repeated)
        outputs = (self._body.operand(node, 0) for node in self._body.outputs[skip:])
        return [self._inside(value, values) for value in outputs if value is not None]

    def _inside(self, value: Value, values: dict[Value, Value]) -> Value:
        """What stands for a value of the subgraph; constants are added when they are needed."""
        if value not in values:
            node = value.node
            data = node.tensor or node.sparse
            assert node.kind is Kind.CONSTANT
            assert data is not None
            name = self._graph.fresh_name(value.name)
            made = self._graph.add_constant(data, name, self._origin(node))
            values[value] = self._fixed[value] = carry_value(value, made)
            self._note(made, value.name)
        return values[value]

    def _copy_node(
        self, node: Node, values: dict[Value, Value], suffix: str, repeated: bool
    ) -> None:
        graph, body = self._graph, self._body
        operands = [v if v is None else self._inside(v, values) for v in body.operands(node)]
        captures = {
            name: self._inside(value, values) for name, value in body.captures(node).items()
        }
        names = [
            None if value is None else graph.fresh_name(value.name + suffix)
            for value in node.outputs
        ]
        made = graph.add(
            node.op_type,
            operands,
            outputs=names,
            domain=node.domain,
            name=node.name and node.name + suffix,
            attributes=clone_attributes(node.attributes, graph),
            types=[None if value is None else value.type for value in node.outputs],
            captures=captures,
            origin=self._origin(node),
        )
        carry_node(node, made)
        if repeated:
            _forget_symbols(graph, made)
        for old, new in zip(node.outputs, made.outputs, strict=True):
            if old is not None and new is not None:
                values[old] = carry_value(old, new)
                self._note(new, old.name + suffix)
        self.made.append(made)

    def _origin(self, node: Node) -> Origin:
        return Origin(self._made_by, (node.source_origin(), self._owner.source_origin()))

    def _note(self, value: Value, name: str) -> None:
        if value.node.kind is Kind.CONSTANT:
            self.made.append(value.node)
        self._names.append((value, value.name, name))

    def settle(self) -> None:
        """Let what was added have the plain names, now that the owner is removed."""
        for _, body in self._owner.subgraphs():
            self._graph.release_names(body)
        for value, given, name in self._names:
            left = value.node in self._graph and value.name == given != name
            if left and self._graph.fresh_name(name) == name:
                self._graph.rename(value, name)


def _forget_symbols(graph: Graph, node: Node) -> None:
    """Keep only the sizes that are numbers in the types of results and of nested graphs."""
    for value in node.outputs:
        if value is not None:
            graph.set_type(value, _numbers_only(value.type))
    for inner in _nested(node):
        for item in inner.nodes(*Kind):
            inner.set_declared(item, _numbers_only(item.declared))
            for value in item.outputs:
                if value is not None:
                    inner.set_type(value, _numbers_only(value.type))


def _nested(node: Node) -> Iterator[Graph]:
    for _, body in node.subgraphs():
        yield from body.walk()


def _numbers_only(type_: Type | None) -> Type | None:
    if isinstance(type_, SequenceType | OptionalType):
        return replace(type_, element=_numbers_only(type_.element))
    if isinstance(type_, TensorType) and type_.shape is not None:
        shape = tuple(dim if isinstance(dim, int) else None for dim in type_.shape)
        return replace(type_, shape=shape)
    return type_


def refine_types(graph: Graph, value: Value, other: Type | None) -> None:
    """Add to the type of a value what that of another one of equal content says more."""
    own = value.type
    if own is None:
        graph.set_type(value, other)
    elif isinstance(own, TensorType) and isinstance(other, TensorType):
        if dims.conflict(own.shape, other.shape) or own.dtype is not other.dtype:
            return
        graph.set_type(value, replace(own, shape=dims.refine_shape(own.shape, other.shape)))
