"""Quantized linear operations beside what they were: the integers as real numbers, and the weight.

x ─ Q ─ DQ ─┐
       W' ─ DQ ─ Conv ─ …        against        x ─ Conv(W) ─ …
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optc.ir import Kind
from optc.passes.int8_sites import PRODUCTS
from optc.passes.layers import Layer, layer_of, matrix_of, outputs_of
from optc.passes.linear import bias_adder
from optc.passes.quantized import params_of
from optc.rewrite.driver import remove_unused

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.numerics.quantize import QuantParams
    from optc.passes.layers import Floats


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """A linear operation whose weight comes out of a DequantizeLinear.

    Attributes:
        node: the operation.
        before: it in the graph before quantization, with its real weight.
        matrix: its weight as it comes back from integers, like `Layer.matrix`.
        weights: parameters of the weight.
        data: parameters of its data; None where that is not quantized right before it.
    """

    node: Node
    before: Layer
    matrix: Floats
    weights: QuantParams
    data: QuantParams | None

    def layer(self, graph: Graph) -> Layer:
        """The operation on its data as it is now, before it is rounded, with its real weight."""
        data = graph.operand(self.node, 0)
        assert data is not None
        data = unquantized(graph, data)
        return replace(self.before, linear=replace(self.before.linear, node=self.node, data=data))

    def error(self, rows: Floats) -> Floats:
        """What rounding of data and weight changes in the products of rows."""
        data = self.data
        rounded = rows if data is None else data.dequantize(data.quantize(rows))
        found: Floats = outputs_of(rounded, self.matrix) - outputs_of(rows, self.before.matrix)
        return found


def quantized_layers(graph: Graph, reference: Graph) -> list[QuantizedLayer]:
    """Quantized linear operations of a graph that the reference has under the same name."""
    known = {node.key: node for node in reference.ordered()}
    found: list[QuantizedLayer] = []
    for node in graph.ordered():
        if not node.is_op("Conv", "MatMul", "Gemm") or node.key not in known:
            continue
        before, weight = layer_of(reference, known[node.key]), graph.operand(node, 1)
        data = graph.operand(node, 0)
        if isinstance(before, str) or weight is None or data is None:
            continue
        params, integers = params_of(graph, weight.node), graph.operand(weight.node, 0)
        if params is None or integers is None or integers.constant is None:
            continue
        real = params.dequantize(integers.constant.numpy())
        matrix = matrix_of(before.linear, real)
        scale = params_of(graph, data.node)
        uniform = scale if scale is not None and scale.axis is None else None
        found.append(QuantizedLayer(node, before, matrix, params, uniform))
    return found


def unquantized(graph: Graph, value: Value) -> Value:
    """What a value was before it went to integers and back; itself when it did not."""
    if not value.node.is_op("DequantizeLinear"):
        return value
    integers = graph.operand(value.node, 0)
    if integers is None or not integers.node.is_op("QuantizeLinear"):
        return value
    source = graph.operand(integers.node, 0)
    return value if source is None else source


def added_constant(graph: Graph, product: Node) -> tuple[Node, int] | None:
    """Where a constant is added to a MatMul: the Add and which operand of it that is."""
    adder = bias_adder(graph, product) if product.is_op("MatMul") else None
    if adder is None:
        return None
    for index, value in enumerate(graph.operands(adder)):
        if value is not None and value.constant is not None:
            return adder, index
    return None


def remove_idle_pairs(graph: Graph) -> None:
    """Remove quantization of values that reaches no convolution or matrix product on integers.

    Operations between pairs (pools, sums, movers, and the clamp behind a product) are on integers
    as long as they are connected, through pairs, with such a product.
    """
    pairs = [
        node.output
        for node in graph.ordered()
        if unquantized(graph, node.output) is not node.output
    ]
    busy: set[Value] = set()
    stack = [
        pair for pair in pairs if any(_is_product(graph, node) for node in _around(graph, pair))
    ]
    while stack:
        pair = stack.pop()
        if pair in busy:
            continue
        busy.add(pair)
        for node in _around(graph, pair):
            if node.kind is Kind.OP and _on_integers(graph, node):
                stack.extend(v for v in graph.operands(node) if v in pairs)
                stack.extend(other for other in pairs if node in _around(graph, other))
    for pair in pairs:
        if pair not in busy:
            graph.replace_uses(pair, unquantized(graph, pair))
            remove_unused(graph, [pair.node])


def makers(graph: Graph, pair: Value) -> list[Node]:
    """What makes the value that goes into a pair; of a clamp also what is before it."""
    maker = unquantized(graph, pair).node
    source = graph.operand(maker, 0) if maker.is_op("Relu", "Clip") else None
    return [maker] if source is None else [maker, source.node]


def _around(graph: Graph, pair: Value) -> list[Node]:
    """What uses a pair, and what makes the value that goes into it."""
    return [*(use.node for use in graph.uses(pair)), *makers(graph, pair)]


def _on_integers(graph: Graph, node: Node) -> bool:
    """Whether all operands that are computed, and a weight, come out of a DequantizeLinear."""
    operands = [v for v in graph.operands(node) if v is not None and v.constant is None]
    weight = graph.operand(node, 1) if node.is_op(*PRODUCTS) else None
    if weight is not None and weight.constant is not None:
        return False
    return bool(operands) and all(v.node.is_op("DequantizeLinear") for v in operands)


def _is_product(graph: Graph, node: Node) -> bool:
    return node.is_op(*PRODUCTS) and _on_integers(graph, node)
