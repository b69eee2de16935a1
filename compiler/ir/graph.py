"""The graph: operations, inputs, constants and outputs as nodes of a networkx MultiDiGraph.

An edge is one use of a value, keyed by the consumer's operand index, or by the inner name when a
subgraph of the consumer captures the value. networkx is the only truth about connectivity; all
changes go through the mutators here, which check first and change afterwards.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from optc.ir.nodes import Kind, Node, Value
from optc.ir.reading import GraphReading
from optc.ir.tensor import SparseTensor
from optc.ir.types import SparseTensorType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir.nodes import Attr, Origin
    from optc.ir.reading import Watcher
    from optc.ir.tensor import Tensor
    from optc.ir.types import Type


class Graph(GraphReading):
    """A graph, or a subgraph of a control-flow operation: what `GraphReading` shows, mutable."""

    @contextmanager
    def watched_by(self, watcher: Watcher) -> Iterator[None]:
        """Tell `watcher` what happens to the operations of the model while the block runs."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

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

    def release_names(self, body: Graph) -> None:
        """Free the names of a subgraph that is no more, because its owner was removed."""
        for graph in body.walk():
            for node in graph.nodes(*Kind):
                if node.kind is Kind.OUTPUT:
                    self._release(node.name)
                for value in node.outputs:
                    if value is not None:
                        self._release(value.name)

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
        if name in self._output_names:
            raise ValueError(f"the graph has an output named {name!r} already")
        node = Node(Kind.OUTPUT, name=name)
        node.declared = declared
        self._g.add_node(node)
        self._g.add_edge(value.node, node, key=0, value=value)
        self._outputs.append(node)
        self._output_names.add(name)
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
        self._set_attributes(node, attributes or {})
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
        self._size += 1
        self._version += 1
        for watcher in self._watchers:
            watcher.added(self, node)
        return node

    def _check_member(self, value: Value) -> None:
        if value.node not in self._g:
            raise ValueError(f"value {value.name!r} is not of this graph")

    # ---- changing ------------------------------------------------------------------------------

    def replace_uses(self, old: Value, new: Value) -> bool:
        """Let every use of `old` use `new`. Returns whether there was any.

        Raises:
            ValueError: a value is not of this graph, or the node of `new` itself uses `old`.
        """
        self._check_member(old)
        self._check_member(new)
        uses = [] if old is new else list(self.uses(old))
        if any(node is new.node for node, _ in uses):
            raise ValueError(f"{new.node.label} uses {old.name}; it would use its own result")
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
        if node.kind is Kind.OP:
            for watcher in self._watchers:
                watcher.removing(self, node)
            self._size -= 1
            self._owners.discard(node)
        elif node.kind is Kind.INPUT:
            self._inputs.remove(node)
        elif node.kind is Kind.OUTPUT:
            self._outputs.remove(node)
            self._output_names.discard(node.name)
            self._release(node.name)
        for value in node.outputs:
            if value is not None:
                del self._values[value.name]
                self._release(value.name)
        self._g.remove_node(node)
        self._version += 1

    def drop_output(self, value: Value) -> None:
        """Leave out an output of an operation that nothing uses; others keep their positions.

        The caller knows that the operator lets this output be left out.

        Raises:
            ValueError: the value has a use, or is the only output of its node.
        """
        node = value.node
        if node.kind is not Kind.OP or all(item in (None, value) for item in node.outputs):
            raise ValueError(f"{value.name} is all that {node.label} produces")
        if use := next(self.uses(value), None):
            raise ValueError(f"{value.name} cannot go: {use.node.label} uses it")
        outputs = [None if item is value else item for item in node.outputs]
        while outputs[-1] is None:
            outputs.pop()
        node.outputs = tuple(outputs)
        del self._values[value.name]
        self._release(value.name)
        self._version += 1

    def set_type(self, value: Value, type: Type | None) -> bool:
        """Record the type of a value. Returns whether that is news."""
        if value.type == type:
            return False
        value.type = type
        return True

    def set_declared(self, output: Node, type: Type | None) -> bool:
        """Declare the type of a graph output. Returns whether that is news."""
        if output.declared == type:
            return False
        output.declared = type
        return True

    def set_attributes(self, node: Node, attributes: Mapping[str, Attr]) -> None:
        """Replace all attributes of an operation; ValueError when it is not of this graph."""
        if node not in self._g:
            raise ValueError(f"{node.label} is not of this graph")
        self._set_attributes(node, attributes)

    def _set_attributes(self, node: Node, attributes: Mapping[str, Attr]) -> None:
        node.attributes = dict(attributes)
        if any(attribute.graphs for attribute in node.attributes.values()):
            self._owners.add(node)
        else:
            self._owners.discard(node)

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name.

        Raises:
            ValueError: the name is taken in this graph, or the value is a captured one, whose name
                is also the key of an edge in the enclosing graph.
        """
        if value.name == name:
            return
        if value.node.kind is Kind.CAPTURE:
            raise ValueError(f"{value.name} is a captured value and keeps its name")
        self._check_free([name])
        del self._values[value.name]
        self._release(value.name)
        value.name = name
        if value.node.kind is not Kind.OP:
            value.node.name = name
        self._claim(value)
        self._version += 1

    def set_opset(self, domain: str, version: int) -> None:
        """Import an operator set. Only `upgrade-opset` changes that of existing nodes."""
        self.root._opsets[domain] = version

    def freeze_input(self, value: Value) -> Value:
        """Turn an input with a default into a constant; ValueError when it has no default."""
        node = value.node
        if node.kind is not Kind.INPUT or (node.tensor is None and node.sparse is None):
            raise ValueError(f"{value.name} is not an input with a default")
        self._inputs.remove(node)
        node.kind = Kind.CONSTANT
        if node.tensor is not None:
            value.type = node.tensor.type
        self._version += 1
        return value
