"""The read side of a graph: its nodes, their order, operands and uses."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

import networkx as nx

from optc.ir.model import ModelInfo
from optc.ir.nodes import Kind, Node, Use, Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.ir.graph import Graph

_Adjacency: TypeAlias = "Mapping[Node, Mapping[Node, Mapping[int | str, dict[str, Value]]]]"


class Watcher(Protocol):
    """Looks on while a graph is changed."""

    def added(self, graph: Graph, node: Node) -> None:
        """An operation was added."""

    def removing(self, graph: Graph, node: Node) -> None:
        """An operation is about to be removed; its operands are still there."""


class GraphReading:
    """State of a graph and everything that only reads it; `Graph` adds the mutators.

    Attributes:
        name: graph name.
        doc: doc string.
        metadata: metadata_props of the graph.
        opaque: protobuf fields carried without reading, by field name.
        model: what the model carries; subgraphs share their root's.
        parent: the graph that holds the operation that owns this subgraph, or None.
    """

    def __init__(
        self,
        name: str = "",
        opsets: Mapping[str, int] | None = None,
        *,
        parent: Graph | None = None,
        model: ModelInfo | None = None,
    ) -> None:
        self.name = name
        self.doc = ""
        self.metadata: dict[str, str] = {}
        self.opaque: dict[str, tuple[bytes, ...]] = {}
        self.parent = parent
        # `parent is None`, never `not parent`: a graph without operations has length zero.
        self.model: ModelInfo = (model or ModelInfo()) if parent is None else parent.model
        self._opsets: dict[str, int] = dict(opsets or {})
        self._g: nx.MultiDiGraph[Node] = nx.MultiDiGraph()
        # The same dictionaries without networkx's views, which cost three times as much to read.
        self._succ: _Adjacency = self._g._succ  # type: ignore[attr-defined] # not in the stubs
        self._pred: _Adjacency = self._g._pred  # type: ignore[attr-defined] # not in the stubs
        self._values: dict[str, Value] = {}
        self._inputs: list[Node] = []
        self._outputs: list[Node] = []
        self._output_names: set[str] = set()
        # Names of all scopes below the root: a new name must not shadow or be shadowed.
        self._taken: Counter[str] = Counter() if parent is None else parent._taken
        self._suffix: dict[str, int] = {} if parent is None else parent._suffix
        # Told about operations that come and go, in nested graphs too; see `Graph.watched_by`.
        self._watchers: list[Watcher] = [] if parent is None else parent._watchers
        # Operations, and those of them that own subgraphs: most models have none, and every pass
        # asks for both.
        self._size = 0
        self._owners: set[Node] = set()
        self._version = 0
        self._order: tuple[int, tuple[Node, ...]] = (-1, ())

    @property
    def root(self) -> Graph:
        """The main graph (or function body) that this graph is nested in."""
        return cast("Graph", self) if self.parent is None else self.parent.root

    @property
    def opsets(self) -> Mapping[str, int]:
        """Opset version by domain; ONNX's own domain is the empty string."""
        return self.root._opsets

    @property
    def opset(self) -> int:
        """Version of ONNX's own operator set; 0 when the model does not import it."""
        return self.root._opsets.get("", 0)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Graph inputs, in order."""
        return tuple(node.output for node in self._inputs)

    @property
    def outputs(self) -> tuple[Node, ...]:
        """Output nodes, in order; `operand(node, 0)` is the value."""
        return tuple(self._outputs)

    def __len__(self) -> int:
        return self._size

    def __contains__(self, node: object) -> bool:
        return node in self._g

    def nodes(self, *kinds: Kind) -> Iterator[Node]:
        """All nodes of these kinds (default: operations), in insertion order."""
        wanted = kinds or (Kind.OP,)
        return (node for node in tuple(self._g) if node.kind in wanted)

    def constants(self) -> Iterator[Value]:
        """All constants, dense and sparse, in insertion order."""
        return (node.output for node in self.nodes(Kind.CONSTANT))

    def ordered(self) -> tuple[Node, ...]:
        """Operations in lexicographic topological order, by the name of their first output.

        Raises:
            ValueError: the graph has a cycle.
        """
        if self._order[0] != self._version:
            try:
                order = tuple(nx.lexicographical_topological_sort(self._g, key=_order_key))
            except nx.NetworkXUnfeasible as error:
                raise ValueError("the graph has a cycle") from error
            self._order = (self._version, tuple(n for n in order if n.kind is Kind.OP))
        return self._order[1]

    def walk(self) -> Iterator[Graph]:
        """This graph and all graphs nested in it, outer before inner."""
        yield cast("Graph", self)
        if not self._owners:
            return
        for node in self.ordered():
            if node in self._owners:
                for _, graph in node.subgraphs():
                    yield from graph.walk()

    def value(self, name: str) -> Value:
        """The value of this name in this graph; KeyError when there is none."""
        return self._values[name]

    def has_value(self, name: str) -> bool:
        """Whether this graph (not an enclosing one) has a value of this name."""
        return name in self._values

    def operands(self, node: Node) -> tuple[Value | None, ...]:
        """Operands of a node by index; None where an optional one is left out."""
        if node._operands is None:
            slots: dict[int, Value] = {}
            for edges in self._pred[node].values():
                for key, data in edges.items():
                    if isinstance(key, int):
                        slots[key] = data["value"]
            node._operands = tuple(slots.get(i) for i in range(max(slots, default=-1) + 1))
        return node._operands

    def operand(self, node: Node, index: int) -> Value | None:
        """One operand, or None when it is left out."""
        operands = self.operands(node)
        return operands[index] if index < len(operands) else None

    def captures(self, node: Node) -> dict[str, Value]:
        """Values that the subgraphs of a node capture, by inner name, sorted."""
        found = [
            (key, data["value"])
            for edges in self._pred[node].values()
            for key, data in edges.items()
            if isinstance(key, str)
        ]
        return dict(sorted(found, key=lambda item: item[0]))

    def uses(self, value: Value) -> Iterator[Use]:
        """All uses of a value: operands, captures by subgraphs, graph outputs."""
        for consumer, edges in self._succ[value.node].items():
            for key, data in edges.items():
                if data["value"] is value:
                    yield Use(consumer, key)

    def only_use(self, value: Value) -> Use | None:
        """The use of a value that has exactly one, else None. Stops at the second."""
        found: Use | None = None
        for use in self.uses(value):
            if found is not None:
                return None
            found = use
        return found

    def is_used(self, value: Value) -> bool:
        """Whether a value has any use."""
        return next(self.uses(value), None) is not None

    def is_output(self, value: Value) -> bool:
        """Whether a value is a graph output."""
        return any(use.node.kind is Kind.OUTPUT for use in self.uses(value))


def _order_key(node: Node) -> str:
    # Everything but operations is ready at once and does not take part in the order.
    return node.key if node.kind is Kind.OP else ""
