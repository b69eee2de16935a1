"""Differences that become a root or a divisor: what cancels in them counts in full.

    variance = E[x^2] - E[x]^2        y = (x - E[x]) / sqrt(variance + eps)

Where the mean is large against the deviation, both terms agree in their first digits, and the ones
that are left are those that bf16 rounds away. A small error of a summand is a large one of the
factor that everything is multiplied with. So the difference stays fp32, and so does what computes
its terms, back to the reductions: those sum in fp32, and roundings of what they sum average out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir.ops import Trait, info
from optc.ir.shape_site import constant_tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir import Graph, Node, Value

_ROOTS: Final = ("Sqrt", "Reciprocal", "Log", "Pow")
_STEPS: Final = 6
"""Operations between a difference and its root, or its terms: exporters write up to four."""


def rooted_differences(graph: Graph) -> dict[Node, str]:
    """The operations of a graph that must stay fp32 for such a difference, with the reason."""
    found: dict[Node, str] = {}
    for node in graph.ordered():
        if not node.is_op("Sub"):
            continue
        root = _root(graph, node.output, _STEPS)
        if root is None:
            continue
        for term in _terms(graph, node, _STEPS):
            found.setdefault(
                term,
                f"it computes a term of the difference {node.label}, of which {root.label} "
                "takes a root or divides by it",
            )
        found[node] = (
            f"its terms may cancel, and {root.label} takes the root of what is left, or divides by "
            "it"
        )
    return found


def _root(graph: Graph, value: Value, steps: int) -> Node | None:
    """The root or division that a value goes into, over operations on it and constants alone."""
    for node, key in graph.uses(value):
        if node.is_op(*_ROOTS) or (node.is_op("Div") and key == 1):
            return node
        row = info(node)
        passes = row.has(Trait.ELEMENTWISE) or row.has(Trait.DATA_MOVEMENT)
        if steps and passes and _is_alone(graph, node, value):
            found = _root(graph, node.output, steps - 1)
            if found is not None:
                return found
    return None


def _is_alone(graph: Graph, node: Node, value: Value) -> bool:
    """Whether all other operands of an operation are constants."""
    others = (other for other in graph.operands(node) if other is not None and other is not value)
    return all(constant_tensor(other) is not None for other in others)


def _terms(graph: Graph, node: Node, steps: int) -> Iterator[Node]:
    """What computes the operands of an operation, back to reductions."""
    for value in graph.operands(node):
        maker = None if value is None else value.node
        if maker is None or not steps:
            continue
        row = info(maker)
        if row.has(Trait.REDUCTION):
            yield maker
        elif row.has(Trait.ELEMENTWISE) or row.has(Trait.DATA_MOVEMENT):
            # Only where a reduction lies behind: elements that are subtracted as they come are
            # rounded already.
            behind = list(_terms(graph, maker, steps - 1))
            if behind:
                yield maker
                yield from behind
