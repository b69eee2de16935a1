"""Which executed step computes an operation that the runtime fused away.

What a runtime executes names some operations of the graph: by its own name, or by the tensor it
makes. Those between belong to one of their named neighbours:

    DequantizeLinear                       to the step below, whose operand it is
    a product without a name of its own    to the step below, which is named after its last part
    anything behind such a product         to the same step
    any other one (activation, Add, …)     to the step above, the product where there are several
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from optc.ir import Kind
from optc.ir.ops import Trait, info

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph, Node

Step = TypeVar("Step")


class Attribution(Generic[Step]):
    """The step of every operation of one graph; subgraphs have one of their own.

    Args:
        graph: the graph.
        named: the step of each operation that a step names.
    """

    def __init__(self, graph: Graph, named: Mapping[Node, Step]) -> None:
        self._graph = graph
        self._named = named

    def step(self, node: Node) -> Step | None:
        """The step that computes an operation; None when it is gone before anything runs."""
        if node in self._named:
            return self._named[node]
        if self._is_constant(node):
            return None
        above = self._above(node)
        if above is not None and not node.is_op("DequantizeLinear") and not self._is_product(node):
            return above
        below = self._below(node)
        return above if below is None else below

    def _is_product(self, node: Node) -> bool:
        return info(node).has(Trait.MAC)

    def _above(self, node: Node) -> Step | None:
        """The step of the nearest named operation above; None behind a product without a name."""
        seen, level = {node}, [node]
        while level:
            over = [other for here in level for other in self._producers(here) if other not in seen]
            seen.update(over)
            if any(other not in self._named and self._is_product(other) for other in over):
                return None
            named = [other for other in over if other in self._named]
            if named:
                return self._named[max(named, key=self._is_product)]
            level = over
        return None

    def _below(self, node: Node) -> Step | None:
        """The step of the nearest named operation below."""
        seen, level = {node}, [node]
        while level:
            under = [other for here in level for other in self._users(here) if other not in seen]
            seen.update(under)
            named = [other for other in under if other in self._named]
            if named:
                return self._named[named[0]]
            level = under
        return None

    def _producers(self, node: Node) -> list[Node]:
        values = [value for value in self._graph.operands(node) if value is not None]
        return [value.node for value in values if value.node.kind is Kind.OP]

    def _users(self, node: Node) -> list[Node]:
        uses = (self._graph.uses(value) for value in node.outputs if value is not None)
        return [use.node for found in uses for use in found if use.node.kind is Kind.OP]

    def _is_constant(self, node: Node) -> bool:
        """Whether an operation is computed once, when the model is loaded.

        Not so a dequantized weight: that goes into the product.
        """
        stack, seen = [node], {node}
        while stack:
            here = stack.pop()
            values = [value for value in self._graph.operands(here) if value is not None]
            if here.is_op("DequantizeLinear") or not values:
                return False
            for value in values:
                if value.node.kind not in (Kind.CONSTANT, Kind.OP):
                    return False
                if value.node.kind is Kind.OP and value.node not in seen:
                    seen.add(value.node)
                    stack.append(value.node)
        return True
