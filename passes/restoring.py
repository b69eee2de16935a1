"""Give quantized operations of a graph back what they were before, in fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.numerics.planned import find_choice
from optc.numerics.written import written
from optc.passes.quantized_layers import added_constant, makers, remove_idle_pairs, unquantized
from optc.rewrite.driver import remove_unused

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from optc.ir import Graph, Node, Value
    from optc.targets.kernels import KernelTable


@dataclass(frozen=True)
class Restorer:
    """Lets operations compute in fp32 again.

    Attributes:
        reference: the graph before quantization.
        table: kernels of the runtime.
        capabilities: of the CPU.
    """

    reference: Graph
    table: KernelTable
    capabilities: Collection[str]

    def bring_back(self, graph: Graph, keys: Sequence[str]) -> None:
        """Restore operations, by their keys; remove quantization that this leaves idle."""
        nodes = {node.key: node for node in graph.ordered()}
        for key in keys:
            self._restore_constants(graph, nodes[key])
        for key in keys:
            self._restore_data(graph, nodes[key])
        if keys:
            remove_idle_pairs(graph)

    def _restore_constants(self, graph: Graph, node: Node) -> None:
        known = self.reference.value(node.key).node
        for index, _ in enumerate(graph.operands(node)):
            before = self.reference.operand(known, index)
            if before is not None and before.constant is not None:
                _replace(graph, node, index, _copied(graph, before))
        here, there = added_constant(graph, node), added_constant(self.reference, known)
        if here is not None and there is not None:
            old = self.reference.operand(*there)
            assert old is not None
            _replace(graph, *here, _copied(graph, old))

    def _restore_data(self, graph: Graph, node: Node) -> None:
        for index, value in enumerate(graph.operands(node)):
            if value is None or any(self._gives_integers(graph, m) for m in makers(graph, value)):
                continue
            _replace(graph, node, index, unquantized(graph, value))

    def _gives_integers(self, graph: Graph, node: Node) -> bool:
        """Whether a node is a product on integers that has no kernel giving floats."""
        spelled = written(graph, node)
        if spelled is None or not spelled.form.startswith("qdq") or spelled.output == "f32":
            return False
        choice = find_choice(self.table, self.capabilities, spelled, "f32")
        return choice is None or choice.outcome != "native"


def _copied(graph: Graph, constant: Value) -> Value:
    assert constant.constant is not None
    if graph.has_value(constant.name) and graph.value(constant.name).constant is constant.constant:
        return graph.value(constant.name)
    name = graph.fresh_name(constant.name)
    return graph.add_constant(constant.constant, name, constant.node.origin)


def _replace(graph: Graph, node: Node, index: int, new: Value) -> None:
    old = graph.operand(node, index)
    graph.set_operand(node, index, new)
    if old is not None and old is not new:
        remove_unused(graph, [old.node])
