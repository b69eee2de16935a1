"""Let DequantizeLinear write bf16 itself, where that rounds nothing else.

    Cast(DequantizeLinear(x, s, z), to=bf16)    becomes    DequantizeLinear(x, bf16(s), z)

The scale becomes bf16 as well, so it must be a number of bf16. That is not enough: OpenVINO makes
one FakeQuantize of QuantizeLinear and DequantizeLinear, and its limits, the least and the greatest
number that x can stand for, take the type of the result (version 2026.4.1, measured: with a scale
of 0.1 zero comes out as -0.0125). So those must be numbers of bf16, too, which holds for scales
that are powers of two. Source: ONNX operators DequantizeLinear-19, Cast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import DType, Graph, Tensor, TensorType
from optc.ir.nodes import Origin
from optc.passes.base import Pass, PassResult
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "dequantize-cast"
_SINCE: Final = 19
_RANGES: Final = {DType.U8: (0, 255), DType.I8: (-128, 127)}


class NarrowDequantize(Pass):
    """Replace a Cast of dequantized values to bf16 by a DequantizeLinear that writes bf16.

    Refuses: an opset below 19; a scale or zero point that is not constant; integers of other than
    8 bits; a scale, or a least or greatest number, that bf16 would round.
    """

    name = "narrow-dequantize"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Rewrite the graph and those nested in it."""
        del context
        trace = Trace(self.name)
        for nested in graph.walk():
            for node in nested.ordered():
                if _is_pair(nested, node):
                    _narrow(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _is_pair(graph: Graph, node: Node) -> bool:
    """Whether a node is a Cast to bf16 of what a DequantizeLinear gives in float32."""
    if not node.is_op("Cast") or node.get("to") != DType.BF16.onnx:
        return False
    value = graph.operand(node, 0)
    return value is not None and value.node.is_op("DequantizeLinear")


def _narrow(graph: Graph, cast: Node, trace: Trace) -> None:
    value = graph.operand(cast, 0)
    assert value is not None
    old = value.node
    scale = graph.operand(old, 1)
    if reason := _obstacle(graph, old, scale):
        trace.refused(_RULE, cast, reason)
        return
    assert scale is not None
    assert scale.constant is not None
    origin = Origin(trace.pass_name, (cast.source_origin(), old.source_origin()))
    tensor = Tensor.from_numpy(scale.constant.numpy(), DType.BF16)
    narrow = graph.add_constant(tensor, graph.fresh_name(scale.name), origin)
    result = cast.output
    made = graph.add(
        old.op_type,
        [graph.operand(old, 0), narrow, *graph.operands(old)[2:]],
        outputs=[graph.fresh_name(result.name)],
        name=cast.name,
        attributes={name: a for name, a in old.attributes.items() if name != "output_dtype"},
        types=[result.type],
        origin=origin,
    )
    trace.applied(_RULE, made)
    graph.replace_uses(result, made.output)
    for node in (cast, old):
        if not any(v is not None and graph.is_used(v) for v in node.outputs):
            graph.remove(node)


def _obstacle(graph: Graph, node: Node, scale: Value | None) -> str:
    """Why the result would not be the same; empty when it is."""
    if graph.opset < _SINCE:
        return f"opset {graph.opset} < {_SINCE}"
    source, zero = graph.operand(node, 0), graph.operand(node, 2)
    dtype = (
        source.type.dtype if source is not None and isinstance(source.type, TensorType) else None
    )
    if dtype not in _RANGES:
        return f"it takes {dtype.value if dtype else 'an unknown type'}, not 8 bits"
    if scale is None or scale.constant is None or (zero is not None and zero.constant is None):
        return "its scale or zero point is not constant"
    if scale.constant.dtype is not DType.F32:
        return f"its scale is {scale.constant.dtype.value}"
    zeros = np.zeros(1) if zero is None or zero.constant is None else zero.constant.numpy()
    numbers = scale.constant.numpy()
    ends = [(end - zeros.astype(np.float64)) * numbers for end in _RANGES[dtype]]
    names = ("scale", "least number", "greatest number")
    for name, array in zip(names, (numbers, *ends), strict=True):
        rounded = array.astype(DType.BF16.numpy).astype(array.dtype)
        if not np.array_equal(rounded, array):
            return f"bf16 would round its {name}"
    return ""
