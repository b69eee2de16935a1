"""Element types of results, as far as the operator schemas decide them from the operands'.

ONNX's own inference gives them as well, but stops behind the first operator that it does not know.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir import ops
from optc.ir.shape_rules_contrib import DTYPE_OPERAND
from optc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node

_Source: TypeAlias = "int | DType | None"
"""The operand that has the type, the type itself, or None when something else decides."""

_NAMES: Final[Mapping[str, DType]] = {
    "tensor(float)": DType.F32,
    "tensor(double)": DType.F64,
    "tensor(float16)": DType.F16,
    "tensor(int64)": DType.I64,
    "tensor(int32)": DType.I32,
    "tensor(uint8)": DType.U8,
    "tensor(bool)": DType.BOOL,
    "tensor(string)": DType.STRING,
}


def result_dtype(graph: Graph, node: Node, index: int = 0) -> DType | None:
    """The element type of a tensor result of an operation; None when it cannot be said.

    Results whose type an attribute decides are left to ONNX, except for Cast.
    """
    if (node.domain, node.op_type, node.overload) in graph.model.functions:
        return None
    if node.is_op("Cast"):
        return _cast_dtype(node.get("to"))
    opset = ops.version(graph, node)
    foreign = bool(node.operator[0])
    source = _contrib(node, index) if foreign else _source(node.op_type, "", opset, index)
    if not isinstance(source, int):
        return source
    operand = graph.operand(node, source)
    if operand is None or not isinstance(operand.type, TensorType):
        return None
    return operand.type.dtype if operand.type.dtype is not DType.UNDEFINED else None


def _cast_dtype(number: object) -> DType | None:
    try:
        return DType.from_onnx(number) if isinstance(number, int) else None
    except ValueError:
        return None


def _contrib(node: Node, index: int) -> _Source:
    known = node.domain == ops.MICROSOFT and index == 0
    return DTYPE_OPERAND.get(node.op_type) if known else None


@cache
def _source(op_type: str, domain: str, opset: int, index: int) -> _Source:
    schema = ops.schema(op_type, domain, opset)
    if schema is None or not schema.outputs:
        return None
    formal = schema.outputs[min(index, len(schema.outputs) - 1)]
    name = formal.type_str
    if len(formal.types) == 1:
        return _NAMES.get(next(iter(formal.types)))
    # A heterogeneous variadic operand (Loop, Scan) has a type of its own in every place.
    places = (
        place
        for place, operand in enumerate(schema.inputs)
        if operand.type_str == name and operand.is_homogeneous
    )
    return next(places, None)
