"""A graph as data to draw a picture from: operations, what feeds them, what holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from optc.ir.nodes import Kind
from optc.numerics.planned import plan_node

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph, Node, Value

    Feed: TypeAlias = int | str
    """What feeds an operation: the row of another one, or the name of a graph input."""


class Drawing:
    """The operations of a graph in execution order, those of nested graphs after all outer ones.

    A row has ``type``, that of its first output, and ``inputs``: rows of the operations and names
    of the graph inputs that feed it, each once, captured values included; constants, and the
    formal inputs of loop bodies, are left out. Rows of a nested graph have ``inside``: the row
    that owns the graph, and the attribute that holds it. A row stands below all it refers to.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._places: list[tuple[Graph, Node]] = []
        self._links: list[dict[str, object]] = []
        self._rows_of: dict[Node, int] = {}
        named: dict[Node, Feed | None] = {value.node: value.name for value in graph.inputs}
        self._draw(graph, named, None)
        sources = {node: graph.operand(node, 0) for node in graph.outputs}
        self._ends = {
            node: None if value is None else self._feed(value.node, named)
            for node, value in sources.items()
        }

    def _draw(
        self, graph: Graph, named: Mapping[Node, Feed | None], inside: tuple[int, str] | None
    ) -> None:
        """Note the operations of a graph, then those of the graphs that are nested in it."""
        for node in graph.ordered():
            self._rows_of[node] = len(self._places)
            self._places.append((graph, node))
            values = [*graph.operands(node), *graph.captures(node).values()]
            feeds = [self._feed(value.node, named) for value in values if value is not None]
            known = dict.fromkeys(feed for feed in feeds if feed is not None)
            link: dict[str, object] = {"inputs": list(known)}
            self._links.append(link | {"inside": list(inside)} if inside else link)
        for node in graph.ordered():
            captured = graph.captures(node)
            for attribute, inner in node.subgraphs():
                outer = {
                    capture: self._feed(captured[capture.output.name].node, named)
                    for capture in inner.nodes(Kind.CAPTURE)
                    if capture.output.name in captured
                }
                self._draw(inner, outer, (self._rows_of[node], attribute))

    def _feed(self, node: Node, named: Mapping[Node, Feed | None]) -> Feed | None:
        return self._rows_of.get(node, named.get(node))

    def rows(self) -> list[dict[str, object]]:
        """One row per operation."""
        types = (node.outputs[0] if node.outputs else None for _, node in self._places)
        return [{"type": _type(v)} | link for v, link in zip(types, self._links, strict=True)]

    def ends(self) -> dict[str, object]:
        """Types of the graph inputs by name; graph outputs with ``type`` and what feeds them."""
        return {
            "inputs": {value.name: _type(value) for value in self._graph.inputs},
            "outputs": {
                node.name: {"type": str(node.declared) if node.declared else None, "from": feed}
                for node, feed in self._ends.items()
            },
        }

    def describe(self) -> dict[str, object]:
        """All that is told of a source model: its ends, and rows with name and precision too."""
        names = (
            {"name": n.label, "op": n.qualified_op, "precision": plan_node(g, n).precision}
            for g, n in self._places
        )
        rows = [name | row for name, row in zip(names, self.rows(), strict=True)]
        return {**self.ends(), "nodes": rows}


def _type(value: Value | None) -> str | None:
    return None if value is None or value.type is None else str(value.type)
