"""Operators on integers for operations between DequantizeLinear and QuantizeLinear.

ONNX has QLinearConv and QLinearMatMul; ONNX Runtime has others in com.microsoft. What moves data
runs on integers as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import DType, TensorType
from optc.ir.ops import MICROSOFT, Trait, info
from optc.passes.int8_sites import channel_axis
from optc.passes.quantized import dequantize_before, params_of, quantize_behind
from optc.rewrite.driver import Builder, remove_unused, replace_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from optc.ir import Graph, Node, Value
    from optc.rewrite.trace import Trace

    Maker = Callable[["Fusion"], "Node | str"]

RULE: Final = "integer-operator"
_VERSION: Final = 1


class Fusion:
    """An operation with the DequantizeLinear of its operands and the QuantizeLinear behind it.

    Attributes:
        graph: the graph.
        node: the operation.
        behind: the QuantizeLinear of its result; None when the result stays in floats.
        build: adds what takes its place.
    """

    def __init__(self, graph: Graph, node: Node, trace: Trace) -> None:
        self.graph = graph
        self.node = node
        self.behind = quantize_behind(graph, node.output)
        parents = [node] if self.behind is None else [node, self.behind]
        self.build = Builder(graph, trace.pass_name, parents)
        self._zeros: list[Value] = []

    def quantized(self, index: int) -> list[Value | None]:
        """Integers, scale and zero point of an operand; empty when it is not dequantized."""
        before = dequantize_before(self.graph, self.graph.operand(self.node, index))
        if before is None or params_of(self.graph, before) is None:
            return []
        integers, scale = self.graph.operand(before, 0), self.graph.operand(before, 1)
        return [integers, scale, self.graph.operand(before, 2) or self._zero(before)]

    def _zero(self, before: Node) -> Value:
        """The zero point that is left out: zeros in the shape of the scales."""
        params = params_of(self.graph, before)
        assert params is not None
        array = params.zero_point_array
        zero = self.build.constant(array, dtype=params.dtype, name=f"{before.key}_zero_point")
        self._zeros.append(zero)
        return zero

    def undo(self) -> None:
        """Remove constants that were made for nothing."""
        remove_unused(self.graph, [zero.node for zero in self._zeros])

    def result(self) -> list[Value | None]:
        """Scale and zero point of the result."""
        if self.behind is None:
            return []
        return [self.graph.operand(self.behind, 1), self.graph.operand(self.behind, 2)]

    def bias(self, index: int) -> Value | str | None:
        """The int32 bias; None when there is none, or why it cannot be one."""
        value = self.graph.operand(self.node, index)
        if value is None:
            return None
        before = dequantize_before(self.graph, value)
        params = None if before is None else params_of(self.graph, before)
        if before is None or params is None or params.dtype is not DType.I32:
            return f"its bias {value.name} is not int32"
        return self.graph.operand(before, 0)

    def axis(self, index: int) -> int | None:
        """The axis that the scales of an operand differ along."""
        before = dequantize_before(self.graph, self.graph.operand(self.node, index))
        params = None if before is None else params_of(self.graph, before)
        return None if params is None else params.axis


def fuse_operator(graph: Graph, node: Node, trace: Trace) -> bool:
    """Write one operation as an operator on integers; refusals go to the trace."""
    make = _MAKERS.get(node.op_type) if not node.operator[0] else None
    moves = info(node).has(Trait.DATA_MOVEMENT) or node.is_op("MaxPool")
    fusion = Fusion(graph, node, trace) if make is not None or moves else None
    if fusion is None or dequantize_before(graph, graph.operand(node, 0)) is None:
        return False
    if not fusion.quantized(0):
        made: Node | str = "the parameters of its operand are not constant"
    else:
        made = make(fusion) if make is not None else _moved(fusion)
    if isinstance(made, str):
        fusion.undo()
        trace.refused(RULE, node, made)
        return False
    if made.domain and made.domain not in graph.opsets:
        graph.set_opset(made.domain, _VERSION)
    old = node if fusion.behind is None else fusion.behind
    graph.set_type(made.output, old.output.type)
    trace.applied(RULE, node)
    trace.decided(RULE, made, "int8", f"{made.op_type} computes on integers")
    replace_node(graph, old, [made.output], fusion.build.made)
    return True


def _conv(fusion: Fusion) -> Node | str:
    weight, bias = fusion.quantized(1), fusion.bias(2)
    if fusion.behind is None or not weight:
        return "its weight or its result is not quantized"
    if fusion.axis(1) not in (None, 0):
        return "its scales are not of output channels"
    if isinstance(bias, str):
        return bias
    operands = [*fusion.quantized(0), *weight, *fusion.result()]
    return fusion.build.node(
        "QLinearConv", operands if bias is None else [*operands, bias], like=fusion.node
    )


def _matmul(fusion: Fusion) -> Node | str:
    left, right = fusion.quantized(0), fusion.quantized(1)
    if not right:
        return "its second operand is not quantized"
    if fusion.axis(1) not in (None, channel_axis(fusion.node, 2)):
        return "its scales are not of columns"
    if fusion.behind is not None:
        operands = [*left, *right, *fusion.result()]
        return fusion.build.node("QLinearMatMul", operands, like=fusion.node)
    (a, a_scale, a_zero), (b, b_scale, b_zero) = left, right
    operands = [a, b, a_scale, b_scale, a_zero, b_zero]
    return _microsoft(fusion, "MatMulIntegerToFloat", operands)


def _gemm(fusion: Fusion) -> Node | str:
    weight, bias = fusion.quantized(1), fusion.bias(2)
    if not weight:
        return "its weight is not quantized"
    if isinstance(bias, str):
        return bias
    if fusion.node.get("transA", 0) or fusion.node.get("beta", 1.0) != 1.0:
        return "transA or beta is set"
    if fusion.axis(1) not in (None, channel_axis(fusion.node, 2)):
        return "its scales are not of columns"
    operands = [*fusion.quantized(0), *weight, bias, *fusion.result()]
    while operands[-1] is None:
        operands.pop()
    made = _microsoft(fusion, "QGemm", operands)
    fusion.graph.set_attributes(
        made, {name: attr for name, attr in made.attributes.items() if name != "beta"}
    )
    return made


def _elementwise(fusion: Fusion) -> Node | str:
    right = fusion.quantized(1)
    if fusion.behind is None or not right:
        return "an operand or its result is not quantized"
    operands = [*fusion.quantized(0), *right, *fusion.result()]
    return _microsoft(fusion, f"QLinear{fusion.node.op_type}", operands)


def _unary(fusion: Fusion) -> Node | str:
    if fusion.behind is None:
        return "its result is not quantized"
    operands = [*fusion.quantized(0), *fusion.result()]
    return _microsoft(fusion, f"QLinear{fusion.node.op_type}", operands)


def _concat(fusion: Fusion) -> Node | str:
    count = len(fusion.graph.operands(fusion.node))
    parts = [fusion.quantized(index) for index in range(count)]
    if fusion.behind is None or not all(parts):
        return "an operand or its result is not quantized"
    operands = [*fusion.result(), *(value for part in parts for value in part)]
    return _microsoft(fusion, "QLinearConcat", operands)


def _moved(fusion: Fusion) -> Node | str:
    """The operation itself on integers: it does not compute."""
    before = dequantize_before(fusion.graph, fusion.graph.operand(fusion.node, 0))
    if before is None or fusion.behind is None or len(fusion.node.outputs) != 1:
        return "its result is not quantized"
    params = params_of(fusion.graph, before)
    if (
        params is None
        or params.axis is not None
        or params_of(fusion.graph, fusion.behind) != params
    ):
        return "its operand and its result have different scales"
    others = fusion.graph.operands(fusion.node)[1:]
    if any(_is_float(value) and value.constant is None for value in others if value is not None):
        return "another operand is not quantized"
    operands = [fusion.graph.operand(before, 0), *others]
    return fusion.build.node(fusion.node.op_type, operands, like=fusion.node)


def _is_float(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype.is_float


def _microsoft(fusion: Fusion, op_type: str, operands: list[Value | None]) -> Node:
    return fusion.build.node(op_type, operands, like=fusion.node, domain=MICROSOFT)


_MAKERS: Final[dict[str, Maker]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _elementwise,
    "Mul": _elementwise,
    "Sigmoid": _unary,
    "LeakyRelu": _unary,
    "AveragePool": _unary,
    "GlobalAveragePool": _unary,
    "Concat": _concat,
}
