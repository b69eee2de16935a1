"""Forms of operators beside quantized ones that leave these their integer kernels.

    Resize(x; 8)       =  Reshape(Resize(Resize(Resize(Reshape(x); 2); 2); 2))     bytes, nearest
    MatMul(x, w) + b   =  MatMul(x, w) - (-b)

Both Reshapes keep the shape. ONNX Runtime computes convolutions on bytes with the channels last,
and moves the change of layout through a Resize, which then has no fast kernel; through a Reshape it
is not moved. In ONNX's own layout it has a fast kernel for twice the size alone.
Before it looks for integer kernels it makes a Gemm of a MatMul of known sizes and an Add: a Gemm
whose bias is no int32 is computed on floats. It does nothing to a Sub.
The results are the same to the bit.
Source: ONNX operators Resize-13, Reshape-13, Sub-14; benchmarks/results/resizes-2026-11.md; ONNX
Runtime, matmul_add_fusion.cc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import TensorType, ops
from optc.ir.shape_site import shape_of
from optc.passes.forms import DIFFERENCE, DOUBLINGS, Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.driver import Builder

_MATRIX: Final = 2
_SAME: Final = np.array([0, 0, 0, -1], np.int64)
_TWICE: Final = np.array([1, 1, 2, 2], np.float32)
_REPEATED: Final = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_NOT_ASKED: Final = ""  # nobody expects the form there


def _doublings(graph: Graph, node: Node) -> int:
    """How often the height and width of an image are doubled; 0 where that is not what it does."""
    scales = graph.operand(node, 2)
    if scales is None or scales.constant is None or node.get("axes") is not None:
        return 0
    found = scales.constant.numpy().tolist()
    if len(found) != _SAME.size or found[:2] != [1, 1] or found[2] != found[3] or found[2] < 2:
        return 0
    times = int(found[2]).bit_length() - 1
    return times if found[2] == 2**times else 0


def _obstacle(graph: Graph, node: Node) -> str | None:
    value, use = graph.operand(node, 0), graph.only_use(node.output)
    if value is None or not value.node.is_op("DequantizeLinear"):
        return _NOT_ASKED
    if use is None or not use.node.is_op("QuantizeLinear"):
        return _NOT_ASKED
    zero = graph.operand(value.node, 2)
    if zero is None or not isinstance(zero.type, TensorType) or zero.type.shape != ():
        return "its operand has several scales"
    if any(ops.attribute(graph, node, name) != how.encode() for name, how in _REPEATED.items()):
        return "it does not repeat pixels"
    times = _doublings(graph, node)
    if times == 1 and _follows(graph, value):
        return _NOT_ASKED
    return None if times else "it does not double height and width"


def _follows(graph: Graph, value: Value) -> bool:
    """Whether bytes come from what is written here in front of a doubling."""
    quantized = graph.operand(value.node, 0)
    if quantized is None or not quantized.node.is_op("QuantizeLinear"):
        return False
    source = graph.operand(quantized.node, 0)
    return source is not None and source.node.is_op("Reshape", "Resize")


def _write(build: Builder, node: Node) -> Sequence[Value]:
    graph = build.graph
    value = graph.operand(node, 0)
    assert value is not None
    scale, zero = graph.operands(value.node)[1:]

    def on_bytes(result: Value) -> Value:
        return build.DequantizeLinear(build.QuantizeLinear(result, scale, zero), scale, zero)

    same, twice = build.constant(_SAME), build.constant(_TWICE)
    value = on_bytes(build.Reshape(value, same))
    left = _doublings(graph, node)
    while left:
        left -= 1
        last = None if left else node  # which has the name
        value = build.node("Resize", (value, None, twice), like=last, attributes=_REPEATED).output
        value = on_bytes(value)
    return (build.Reshape(value, same),)


def _sum(graph: Graph, node: Node) -> tuple[Value, Value] | None:
    """A product of quantized values and the constant bias that ONNX Runtime would fuse with it."""
    left, right = graph.operands(node)
    for product, bias in ((left, right), (right, left)):
        if product is None or bias is None or not product.node.is_op("MatMul"):
            continue
        operands = graph.operands(product.node)
        if all(value is not None and value.node.is_op("DequantizeLinear") for value in operands):
            fused = graph.only_use(product) is not None and _becomes_gemm(graph, product, bias)
            return (product, bias) if fused else None
    return None


def _becomes_gemm(graph: Graph, product: Value, bias: Value) -> bool:
    """Whether the sizes are such that the product and its bias become a Gemm."""
    data, weight = graph.operands(product.node)
    assert data is not None
    assert weight is not None
    rows, columns = shape_of(graph, data), shape_of(graph, weight)
    if bias.constant is None or rows is None or columns is None or len(columns) != _MATRIX:
        return False
    if len(rows) == _MATRIX:
        return len(bias.constant.shape) in (1, _MATRIX)
    return len(bias.constant.shape) == 1 and all(isinstance(size, int) for size in rows)


def _sum_obstacle(graph: Graph, node: Node) -> str | None:
    return None if _sum(graph, node) else _NOT_ASKED


def _difference(build: Builder, node: Node) -> Sequence[Value]:
    found = _sum(build.graph, node)
    assert found is not None
    product, bias = found
    assert bias.constant is not None
    negative = build.constant(-bias.constant.numpy(), dtype=bias.constant.dtype, name=bias.name)
    return (build.Sub(product, negative, like=node),)


FORMS: Final = (
    Form("Resize", DOUBLINGS, _write, _obstacle),
    Form("Add", DIFFERENCE, _difference, _sum_obstacle),
)
"""Forms by operator, besides the operator itself."""
