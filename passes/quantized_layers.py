"""Quantized linear operations beside what they were: the integers as real numbers, and the weight.

x ─ Q ─ DQ ─┐
       W' ─ DQ ─ Conv ─ …        against        x ─ Conv(W) ─ …
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optc.ir import DType
from optc.numerics.quantize import QuantParams
from optc.passes.layers import Layer, layer_of, matrix_of
from optc.passes.linear import bias_adder

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
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
        """The operation on its data as it is now, with its real weight."""
        data = graph.operand(self.node, 0)
        assert data is not None
        return replace(self.before, linear=replace(self.before.linear, node=self.node, data=data))


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
        found.append(QuantizedLayer(node, before, matrix, params, params_of(graph, data.node)))
    return found


def params_of(graph: Graph, node: Node) -> QuantParams | None:
    """The parameters of a DequantizeLinear; None for what is none, or not constant."""
    if not node.is_op("DequantizeLinear"):
        return None
    integers, scale, zero = (graph.operand(node, i) for i in range(3))
    if integers is None or scale is None or scale.constant is None:
        return None
    scales = scale.constant.numpy().reshape(-1)
    if zero is not None and zero.constant is None:
        return None
    dtype = getattr(integers.type, "dtype", DType.UNDEFINED)
    if zero is not None and zero.constant is not None:
        zeros, dtype = zero.constant.numpy().reshape(-1).astype(int), zero.constant.dtype
    else:
        zeros = scales.astype(int) * 0
    axis = None if not scale.constant.shape else int(node.get("axis", 1))
    try:
        return QuantParams(dtype, tuple(map(float, scales)), tuple(map(int, zeros)), axis)
    except (ValueError, KeyError):
        return None  # a type or form that is not quantized to here


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
