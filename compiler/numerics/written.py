"""How a multiply-accumulate operation stands in the graph, in the terms of a kernel table.

The same product can be written on floats, between QuantizeLinear and DequantizeLinear, or as an
operator on integers; which one it is, and in which types, decides what a runtime makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir.nodes import Kind
from optc.ir.ops import Trait, info
from optc.ir.types import DType, TensorType
from optc.targets.kernels import spelled_types

if TYPE_CHECKING:
    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.targets.kernels import Element, Form, ZeroPoint

_ELEMENTS: Final[dict[DType, Element]] = {
    DType.F32: "f32",
    DType.F16: "f16",
    DType.BF16: "bf16",
    DType.U8: "u8",
    DType.I8: "s8",
    DType.U4: "u4",
    DType.I4: "s4",
    DType.I32: "s32",
}
_SYMMETRIC: Final = {DType.I8: 0, DType.U8: 128}
_LOWEST: Final = {DType.I8: -128, DType.U8: 0}
_CLAMPS: Final = ("Relu", "Clip")
# Operators on integers: the operator they compute, then the operand that is the weight.
_INTEGER_OPS: Final[dict[str, tuple[str, Form, int]]] = {
    "QLinearConv": ("Conv", "qoperator", 3),
    "QLinearMatMul": ("MatMul", "qoperator", 3),
    "ConvInteger": ("Conv", "integer", 1),
    "MatMulInteger": ("MatMul", "integer", 1),
}


@dataclass(frozen=True)
class Written:
    """The spelling of one operation.

    Attributes:
        op: the ONNX operator that is computed.
        form: how it stands in the graph.
        activation: element type of the first operand, quantized where it is.
        weight: element type of the second operand; None for forms on one type.
        output: element type of the result; None for forms on one type.
        zero_point: of the activations; ``any`` when they are not quantized or it is not constant.
        weight_zero_point: of the second operand, likewise; asymmetric where several differ.
    """

    op: str
    form: Form
    activation: Element
    weight: Element | None = None
    output: Element | None = None
    zero_point: ZeroPoint = "any"
    weight_zero_point: ZeroPoint = "any"

    @property
    def spelling(self) -> str:
        """Form and types: ``qdq of symmetric s8 x s8 -> s8``."""
        types = spelled_types(self.activation, self.weight, self.output, self.weight_zero_point)
        return f"{self.form} of {'' if self.zero_point == 'any' else f'{self.zero_point} '}{types}"


def written(graph: Graph, node: Node) -> Written | None:
    """How a multiply-accumulate operation is written; None for any other, and for foreign ones."""
    if node.kind is not Kind.OP or node.operator[0] or not info(node).has(Trait.MAC):
        return None
    if node.op_type in _INTEGER_OPS:
        return _on_integers(graph, node)
    first, second = graph.operand(node, 0), graph.operand(node, 1)
    left, right = _quantized(graph, first), _quantized(graph, second)
    if left is not None and right is not None:
        return _between(graph, node, left, right)
    if (activation := _element(first)) is None:
        return None
    if right is not None and (weight := _element(right)) is not None:
        return Written(node.op_type, "weight-only", activation, weight)
    weighted = second is None or _is_constant(graph, second)
    return Written(node.op_type, "plain" if weighted else "pair", activation)


def _between(graph: Graph, node: Node, left: Value, right: Value) -> Written | None:
    """The form of an operation between DequantizeLinear and, perhaps, QuantizeLinear."""
    activation, weight = _element(left), _element(right)
    if activation is None or weight is None:
        return None
    first, second = graph.operand(node, 0), graph.operand(node, 1)
    assert first is not None
    assert second is not None
    output, absorbed = _result(graph, node)
    form: Form = "qdq" if _is_constant(graph, right) else "qdq-pair"
    if form == "qdq" and not absorbed:
        form = "qdq-relu"
    zero, weights = _zero_point(graph, first.node), graph.operand(second.node, 2)
    other = _weight_zero_point(right, weights) if form == "qdq" else "any"
    return Written(node.op_type, form, activation, weight, output, zero, other)


def _result(graph: Graph, node: Node) -> tuple[Element, bool]:
    """Element type of the result, and whether a clamp in between is one that Q itself makes."""
    value: Value | None = node.output
    absorbed = True
    clamp = None
    while value is not None and (use := graph.only_use(value)) is not None:
        if use.node.is_op(*_CLAMPS) and clamp is None:
            clamp, value = use.node, use.node.output
            continue
        if not use.node.is_op("QuantizeLinear") or use.key != 0:
            break
        zero = graph.operand(use.node, 2)
        number = _scalar(zero)
        kind = _dtype(use.node.outputs[0]) or _dtype(zero) or DType.U8
        if clamp is not None and (number is None or number != _LOWEST.get(kind)):
            absorbed = False
        return _ELEMENTS.get(kind, "f32"), absorbed
    return "f32", True


def _on_integers(graph: Graph, node: Node) -> Written | None:
    op, form, place = _INTEGER_OPS[node.op_type]
    first, second = graph.operand(node, 0), graph.operand(node, place)
    activation, weight = _element(first), _element(second)
    if first is None or activation is None or weight is None:
        return None
    if first.node.is_op("DynamicQuantizeLinear"):
        return Written(op, "dynamic", activation, weight, "f32")
    if form == "integer":
        return Written(op, form, activation, weight, "s32")
    zero = _weight_zero_point(second, graph.operand(node, place + 2))
    output = _element(node.outputs[0])
    return Written(op, form, activation, weight, output, weight_zero_point=zero)


def _quantized(graph: Graph, value: Value | None) -> Value | None:
    """What a DequantizeLinear reads."""
    if value is None or not value.node.is_op("DequantizeLinear"):
        return None
    return graph.operand(value.node, 0)


def _is_constant(graph: Graph, value: Value) -> bool:
    """Whether a value is a constant, perhaps dequantized or transposed."""
    while value.node.is_op("DequantizeLinear", "Transpose", "Cast"):
        inner = graph.operand(value.node, 0)
        if inner is None:
            return False
        value = inner
    return value.constant is not None


def _zero_point(graph: Graph, dequantize: Node) -> ZeroPoint:
    zero = graph.operand(dequantize, 2)
    source = graph.operand(dequantize, 0)
    kind = _dtype(source)
    if zero is None:
        return "symmetric" if kind is DType.I8 else "lowest"
    number = _scalar(zero)
    if number is None or kind is None:
        return "any"
    if number == _SYMMETRIC.get(kind):
        return "symmetric"
    return "lowest" if number == _LOWEST.get(kind) else "asymmetric"


def _weight_zero_point(integers: Value | None, zero: Value | None) -> ZeroPoint:
    """Symmetric where all are the middle of the type; asymmetric else, any if not constant."""
    kind = _dtype(integers)
    if kind is None or (zero is not None and zero.constant is None):
        return "any"
    numbers = {0} if zero is None or zero.constant is None else set(zero.constant.numpy().flat)
    return "symmetric" if numbers == {_SYMMETRIC.get(kind)} else "asymmetric"


def _scalar(value: Value | None) -> int | None:
    """The number that a constant holds everywhere."""
    tensor = None if value is None else value.constant
    if tensor is None:
        return None
    numbers = np.unique(tensor.numpy())
    return int(numbers[0]) if numbers.size == 1 else None


def _element(value: Value | None) -> Element | None:
    kind = _dtype(value)
    return None if kind is None else _ELEMENTS.get(kind)


def _dtype(value: Value | None) -> DType | None:
    kind = value.type if value is not None else None
    if not isinstance(kind, TensorType) or kind.dtype is DType.UNDEFINED:
        return None
    return kind.dtype
