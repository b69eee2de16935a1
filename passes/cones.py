"""Parts of a graph in which all paths to an operation come through one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.ir import DType, TensorType
from optc.passes.formula_of import COMPARED, FLOATS, READABLE, VIEWS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph, Node, Value


@dataclass(frozen=True)
class Cone:
    """Operations between a root and a value that everything else in them comes from.

    Attributes:
        leaf: the value.
        nodes: the operations, the root first.
    """

    leaf: Value
    nodes: tuple[Node, ...]


def cones(
    graph: Graph, root: Node, place: Mapping[Node, int], longest: int, parameters: int
) -> list[Cone]:
    """The cones of a root, smallest first.

    Args:
        graph: the graph.
        root: the operation that they end at.
        place: position of operations in the order of the graph.
        longest: the most operations of a cone.
        parameters: the most constants of several elements that they use.
    """
    frontier = {root.output}
    nodes: list[Node] = []
    found: list[Cone] = []
    used: set[Value] = set()
    while frontier and len(nodes) < longest:
        if len(frontier) == 1 and nodes:
            found.append(Cone(next(iter(frontier)), tuple(nodes)))
        last = max(frontier, key=lambda value: place.get(value.node, -1))
        if not last.node.is_op(*READABLE) or last.index or _is_foreign(last):
            break
        frontier.discard(last)
        nodes.append(last.node)
        operands = graph.operands(last.node)
        if last.node.is_op(*VIEWS):
            operands = operands[:1]
        for value in operands:
            if value is None:
                continue
            if (tensor := value.constant) is None:
                frontier.add(value)
            elif tensor.elements != 1 and tensor.dtype in FLOATS:
                used.add(value)
        if len(used) > parameters:
            break
    return found


def _is_foreign(value: Value) -> bool:
    kind = value.type
    if isinstance(kind, TensorType) and kind.dtype is DType.BOOL:
        return not value.node.is_op(*COMPARED)
    return not isinstance(kind, TensorType) or kind.dtype not in FLOATS
