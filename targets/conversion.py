"""Which operations of a graph a runtime's converter cannot take, before it is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.targets.loading import CONVERTED_NAMES, shipped_conversions

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.targets.conversion_table import Conversion


@dataclass(frozen=True)
class Unconvertible:
    """One operation that the converter cannot take.

    Attributes:
        node: label of the operation.
        op: its operator, with the domain.
        entry: what is known about it: outcome, reason, repair and evidence.
    """

    node: str
    op: str
    entry: Conversion

    @property
    def reason(self) -> str:
        """Why, in words for people."""
        return self.entry.reason

    @property
    def instead(self) -> str:
        """What to write instead."""
        return self.entry.instead


def unconvertible(
    graph: Graph, runtime: str, version: str | None = None
) -> tuple[Unconvertible, ...]:
    """The operations that the converter of a runtime rejects, or converts wrongly.

    Subgraphs and bodies of model-local functions are looked into. What the table of the runtime
    does not know passes: it is for the converter to refuse.

    Args:
        graph: a root graph.
        runtime: name of the runtime; one that runs ONNX itself refuses nothing.
        version: version of the runtime, e.g. ``2026.4.1``; None: the newest.

    Returns:
        One per operation, in the order of the graph; outer graphs before inner ones.
    """
    if runtime not in CONVERTED_NAMES:
        return ()
    table = shipped_conversions(runtime)
    roots = (graph, *(function.body for function in graph.model.functions.values()))
    return tuple(
        Unconvertible(node.label, node.qualified_op, entry)
        for root in roots
        for nested in root.walk()
        for node in nested.ordered()
        if (entry := table.find(nested, node, version)) is not None
    )
