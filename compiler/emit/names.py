"""What each value is called in the emitted model.

The names of graph inputs and outputs are the interface, so they come first: the value that feeds
an output takes the output's name, and any other value of that name gets a new one. In a subgraph
nothing may have a name that an enclosing graph has given before (ONNX IR specification, "Names
within a graph"); a captured value goes by its outer name. All other values keep their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph, Node, Value


class FreshNames:
    """Makes names that no graph of a model uses."""

    def __init__(self, root: Graph) -> None:
        self._root = root
        self._taken: set[str] | None = None
        self._next: dict[str, int] = {}

    def make(self, base: str) -> str:
        """`base_1`, `base_2`, …: the first that is free; it is taken from then on."""
        if self._taken is None:
            self._taken = {name for graph in self._root.walk() for name in _names(graph)}
        number = self._next.get(base, 1)
        while f"{base}_{number}" in self._taken:
            number += 1
        self._next[base] = number + 1
        self._taken.add(f"{base}_{number}")
        return f"{base}_{number}"


def _names(graph: Graph) -> set[str]:
    kinds = tuple(Kind)
    names = {v.name for node in graph.nodes(*kinds) for v in node.outputs if v is not None}
    return names | {node.name for node in graph.outputs}


class Names:
    """Names of the values of one graph.

    With `internal`, values keep the names that they have in the IR, and outputs take those instead
    of their own: for a model whose interface does not matter.

    Attributes:
        outer: names of the enclosing graph; None for a root.
        of: the name of each value.
        targets: the emitted name of each graph output, in order.
        copies: values to copy with Identity, each with the name of an output: values that are not
            made here, or feed another output as well.
        defined: names that a subgraph of the next node can see; the writer adds to it.
    """

    def __init__(
        self,
        graph: Graph,
        fresh: FreshNames,
        outer: Names | None = None,
        captured: Mapping[str, str] | None = None,
        *,
        internal: bool = False,
    ) -> None:
        self.outer = outer
        self.of: dict[Value, str] = {}
        self.copies: list[tuple[Value, str]] = []
        self.defined: set[str] = set()
        self._fresh = fresh
        self._used: set[str] = set()
        for value in graph.inputs:
            self.of[value] = self._take(value.name)
        for node in graph.nodes(Kind.CAPTURE):
            if captured and node.name in captured:  # else nothing uses it any more
                self.of[node.output] = captured[node.name]
        self.targets = self._internal(graph) if internal else self._outputs(graph)
        for value in graph.constants():
            self._name(value)
        self.defined.update(self._used)
        for node in graph.ordered():
            for made in node.outputs:
                if made is not None:
                    self._name(made)

    def _internal(self, graph: Graph) -> list[str]:
        values = [graph.operand(node, 0) for node in graph.outputs]
        return [self._name(value) for value in values if value is not None]

    def _outputs(self, graph: Graph) -> list[str]:
        targets: dict[Node, str] = {}
        rest: list[tuple[Node, Value]] = []
        for node in graph.outputs:
            value = graph.operand(node, 0)
            assert value is not None
            # First the values that have the name already, wherever they come from.
            if value.name == node.name and value.node.kind is not Kind.CAPTURE:
                targets[node] = self._name(value)
            else:
                rest.append((node, value))
        for node, value in rest:
            targets[node] = self._take(node.name)
            if value.node.kind is Kind.OP and value not in self.of:
                self.of[value] = targets[node]
            else:
                self.copies.append((value, targets[node]))
        return [targets[node] for node in graph.outputs]

    def _name(self, value: Value) -> str:
        if value not in self.of:
            self.of[value] = self._take(value.name)
        return self.of[value]

    def _take(self, name: str) -> str:
        if name in self._used or self._is_visible(name):
            name = self._fresh.make(name)
        self._used.add(name)
        return name

    def _is_visible(self, name: str) -> bool:
        scope = self.outer
        while scope is not None:
            if name in scope.defined:
                return True
            scope = scope.outer
        return False
