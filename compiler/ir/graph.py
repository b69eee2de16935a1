"""The graph: operations, inputs, constants and outputs as nodes of a networkx MultiDiGraph.

An edge is one use of a value, keyed by the consumer's operand index, or by the inner name when a
subgraph of the consumer captures the value. networkx is the only truth about connectivity; all
changes go through the mutators here, which check first and change afterwards.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import networkx as nx

from optc.ir.model import ModelInfo
from optc.ir.nodes import Kind, Node, Use, Value
from optc.ir.tensor import SparseTensor
from optc.ir.types import SparseTensorType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir.nodes import Attr, Origin
    from optc.ir.tensor import Tensor
    from optc.ir.types import Type

_Adjacency: TypeAlias = "Mapping[Node, Mapping[Node, Mapping[int | str, dict[str, Value]]]]"


class Graph:
    """A graph, or a subgraph of a control-flow operation.

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
        self.model: ModelInfo = parent.model if parent else model or ModelInfo()
        self._opsets: dict[str, int] = dict(opsets or {})
        self._g: nx.MultiDiGraph[Node] = nx.MultiDiGraph()
        # The same dictionaries without networkx's views, which cost three times as much to read.
        self._succ: _Adjacency = self._g._succ  # type: ignore[attr-defined] # not in the stubs
        self._pred: _Adjacency = self._g._pred  # type: ignore[attr-defined] # not in the stubs
        self._values: dict[str, Value] = {}
        self._inputs: list[Node] = []
        self._outputs: list[Node] = []
        # Names of all scopes below the root: a new name must not shadow or be shadowed.
        self._taken: Counter[str] = parent._taken if parent else Counter()
        self._suffix: dict[str, int] = parent._suffix if parent else {}
        self._version = 0
        self._order: tuple[int, tuple[Node, ...]] = (-1, ())

    # ---- reading -------------------------------------------------------------------------------

    @property
    def root(self) -> Graph:
        """The main graph (or function body) that this graph is nested in."""
        return self if self.parent is None else self.parent.root

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
        return sum(1 for node in self._g if node.kind is Kind.OP)

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
        yield self
        for node in self.ordered():
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

    # ---- names ---------------------------------------------------------------------------------

    def fresh_name(self, base: str) -> str:
        """`base`, or `base_1`, `base_2`, … : the first that no scope of the model uses."""
        base = base or "value"
        if not self._taken[base]:
            return base
        number = self._suffix.get(base, 0) + 1
        while self._taken[f"{base}_{number}"]:
            number += 1
        self._suffix[base] = number
        return f"{base}_{number}"

    def _claim(self, value: Value) -> None:
        self._values[value.name] = value
        self._taken[value.name] += 1

    def _release(self, name: str) -> None:
        self._taken[name] -= 1

    def _check_free(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._values:
                raise ValueError(f"the graph has a value named {name!r} already")
        if len(set(names)) != len(names):
            raise ValueError(f"a name is given twice: {', '.join(names)}")

    # ---- adding --------------------------------------------------------------------------------

    def add_input(self, name: str, type: Type | None, default: Tensor | None = None) -> Value:
        """Add a graph input, after the others; callers may leave out one with a `default`."""
        value = self._add_source(Kind.INPUT, name, type)
        value.node.tensor = default
        self._inputs.append(value.node)
        return value

    def add_constant(
        self, data: Tensor | SparseTensor, name: str, origin: Origin | None = None
    ) -> Value:
        """Add an initializer. `name` must be free: see `fresh_name`."""
        if isinstance(data, SparseTensor):
            value = self._add_source(
                Kind.CONSTANT, name, SparseTensorType(data.values.dtype, data.shape)
            )
            value.node.sparse = data
        else:
            value = self._add_source(Kind.CONSTANT, name, data.type)
            value.node.tensor = data
        value.node.origin = origin
        return value

    def add_capture(self, name: str, type: Type | None) -> Value:
        """Inside a subgraph: stand-in for a value of the enclosing graph, by its inner name."""
        return self._add_source(Kind.CAPTURE, name, type)

    def _add_source(self, kind: Kind, name: str, type: Type | None) -> Value:
        self._check_free([name])
        node = Node(kind, name=name)
        value = Value(name, type, node, 0)
        node.outputs = (value,)
        self._g.add_node(node)
        self._claim(value)
        self._version += 1
        return value

    def add_output(self, value: Value, name: str, declared: Type | None = None) -> Node:
        """Add a graph output, after the others. Its name is the interface, whatever the value's."""
        self._check_member(value)
        if any(node.name == name for node in self._outputs):
            raise ValueError(f"the graph has an output named {name!r} already")
        node = Node(Kind.OUTPUT, name=name)
        node.declared = declared
        self._g.add_node(node)
        self._g.add_edge(value.node, node, key=0, value=value)
        self._outputs.append(node)
        self._taken[name] += 1  # stays reserved when the value of this name goes
        self._version += 1
        return node

    def add(
        self,
        op_type: str,
        operands: Sequence[Value | None],
        *,
        outputs: Sequence[str | None],
        domain: str = "",
        name: str = "",
        attributes: Mapping[str, Attr] | None = None,
        types: Sequence[Type | None] = (),
        captures: Mapping[str, Value] | None = None,
        origin: Origin | None = None,
    ) -> Node:
        """Add an operation.

        Args:
            op_type: operator name.
            operands: values of this graph; None for an optional operand that is left out.
            outputs: a free name for each output; None for one that is left out.
            domain: operator domain, empty for ONNX's own.
            name: node name; may be empty.
            attributes: attributes as written; subgraphs must have this graph as parent.
            types: types of the outputs, as far as known.
            captures: values of this graph that the subgraphs use, by inner name.
            origin: provenance; None for a node of the source model.

        Raises:
            ValueError: an operand is not of this graph, or an output name is taken.
        """
        captured = captures or {}
        for value in (*operands, *captured.values()):
            if value is not None:
                self._check_member(value)
        self._check_free([item for item in outputs if item is not None])
        node = Node(Kind.OP, op_type, name, domain)
        node.attributes = dict(attributes or {})
        node.origin = origin
        node.outputs = tuple(
            None if item is None else Value(item, types[i] if i < len(types) else None, node, i)
            for i, item in enumerate(outputs)
        )
        self._g.add_node(node)
        for index, value in enumerate(operands):
            if value is not None:
                self._g.add_edge(value.node, node, key=index, value=value)
        for inner, value in captured.items():
            self._g.add_edge(value.node, node, key=inner, value=value)
        for made in node.outputs:
            if made is not None:
                self._claim(made)
        self._version += 1
        return node

    def _check_member(self, value: Value) -> None:
        if value.node not in self._g:
            raise ValueError(f"value {value.name!r} is not of this graph")

    # ---- changing ------------------------------------------------------------------------------

    def replace_uses(self, old: Value, new: Value) -> bool:
        """Let every use of `old` use `new`. Returns whether there was any."""
        self._check_member(old)
        self._check_member(new)
        uses = [] if old is new else list(self.uses(old))
        for node, key in uses:
            self._rewire(node, key, old, new)
        return bool(uses)

    def set_operand(self, node: Node, key: int | str, new: Value | None) -> None:
        """Let one operand (or capture) of a node be `new`; None leaves it out."""
        if new is not None:
            self._check_member(new)
        old = self.captures(node).get(key) if isinstance(key, str) else self.operand(node, key)
        self._rewire(node, key, old, new)

    def _rewire(self, node: Node, key: int | str, old: Value | None, new: Value | None) -> None:
        if old is not None:
            self._g.remove_edge(old.node, node, key=key)
        if new is not None:
            self._g.add_edge(new.node, node, key=key, value=new)
        node._operands = None
        self._version += 1

    def remove(self, node: Node) -> None:
        """Remove a node whose values have no use; ValueError when one has."""
        for value in node.outputs:
            if value is not None and (use := next(self.uses(value), None)):
                raise ValueError(f"{node.label} cannot go: {use.node.label} uses {value.name}")
        if node.kind is Kind.INPUT:
            self._inputs.remove(node)
        elif node.kind is Kind.OUTPUT:
            self._outputs.remove(node)
            self._release(node.name)
        for value in node.outputs:
            if value is not None:
                del self._values[value.name]
                self._release(value.name)
        self._g.remove_node(node)
        self._version += 1

    def set_type(self, value: Value, type: Type | None) -> bool:
        """Record the type of a value. Returns whether that is news."""
        if value.type == type:
            return False
        value.type = type
        return True

    def set_attributes(self, node: Node, attributes: Mapping[str, Attr]) -> None:
        """Replace all attributes of an operation."""
        node.attributes = dict(attributes)

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name, which must be free in this graph."""
        if value.name == name:
            return
        self._check_free([name])
        del self._values[value.name]
        self._release(value.name)
        value.name = name
        self._claim(value)
        self._version += 1

    def set_opset(self, domain: str, version: int) -> None:
        """Import an operator set. Only `upgrade-opset` changes that of existing nodes."""
        self.root._opsets[domain] = version

    def freeze_input(self, value: Value) -> Value:
        """Turn an input with a default into a constant; ValueError when it has no default."""
        node = value.node
        if node.kind is not Kind.INPUT or node.tensor is None:
            raise ValueError(f"{value.name} is not an input with a default")
        self._inputs.remove(node)
        node.kind = Kind.CONSTANT
        value.type = node.tensor.type
        self._version += 1
        return value


def _order_key(node: Node) -> str:
    # Everything but operations is ready at once and does not take part in the order.
    return node.key if node.kind is Kind.OP else ""
