"""What a node computes in and what it moves, with quantization folded into the operators.

In a graph with QuantizeLinear and DequantizeLinear the element types say fp32 where a runtime
computes in int8. Here an operator between dequantized operands is int8, values count with the
bytes of their quantized form, and the quantization that a runtime folds away counts nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir.cost import bytes_moved
from optc.ir.nodes import Kind
from optc.ir.ops import Trait, info
from optc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.targets.capabilities import Precision

_PRECISIONS: Final[dict[DType, Precision]] = {
    DType.F32: "fp32",
    DType.F16: "fp16",
    DType.BF16: "bf16",
}
_BYTES: Final = frozenset({DType.U8, DType.I8})


def precision(graph: Graph, node: Node) -> Precision | None:
    """What a node computes in: int8 also between DequantizeLinear; None for other arithmetic."""
    row = info(node)
    operands = [value for value in graph.operands(node)[:2] if value is not None]
    if row.has(Trait.QUANTIZE) and (row.has(Trait.MAC) or _is_on_integers(node, operands)):
        return "int8"
    if not row.has(Trait.MAC) and not row.has(Trait.DATA_MOVEMENT) and _is_between(graph, node):
        return "int8"
    if row.has(Trait.MAC) and operands and all(_dequantizes(value.node) for value in operands):
        quantized = [graph.operand(value.node, 0) for value in operands]
        if all(value is not None and _dtype(value) in _BYTES for value in quantized):
            return "int8"
    for value in (*node.outputs, *operands):
        if value is not None and _dtype(value) in _PRECISIONS:
            return _PRECISIONS[_dtype(value)]
    return None


def _is_on_integers(node: Node, operands: list[Value]) -> bool:
    """Whether an operator of ONNX Runtime computes on bytes, and does not only convert."""
    converts = node.op_type in {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
    return not converts and any(_dtype(value) in _BYTES for value in operands)


def _is_between(graph: Graph, node: Node) -> bool:
    """Whether what an operation computes on is dequantized, and its result quantized."""
    operands = [v for v in graph.operands(node) if v is not None and _dtype(v) in _PRECISIONS]
    if not operands or len(node.outputs) != 1 or not _is_folded(graph, node.output):
        return False
    return all(_dequantizes(value.node) for value in operands)


def traffic(graph: Graph, node: Node) -> int | None:
    """Bytes that a node reads and writes when each is touched once; None when not known."""
    full = bytes_moved(graph, node)
    if full is None or not full:
        return full
    operands = [value for value in graph.operands(node) if value is not None]
    results = [value for value in node.outputs if value is not None]
    if _dequantizes(node):
        outside = [value for value in results if graph.is_output(value)]
        return _total(graph, outside)
    if node.is_op("QuantizeLinear") and operands and _is_folded(graph, operands[0]):
        return 0
    touched = sum(_size(value) for value in (*operands, *results, *graph.captures(node).values()))
    if touched != full:  # an operator that reads only a part: its bytes are not those of operands
        return full
    captured = graph.captures(node).values()
    return _total(graph, (*operands, *results, *captured))


def _total(graph: Graph, values: Iterable[Value]) -> int:
    return sum(_quantized_size(graph, value) for value in values)


def _quantized_size(graph: Graph, value: Value) -> int:
    """Bytes of a value as a runtime keeps it: quantized, where quantization is folded away."""
    if _dequantizes(value.node) and not graph.is_output(value):
        source = graph.operand(value.node, 0)
        return _size(value) if source is None else _size(source)
    if _is_folded(graph, value):
        quantized = next(iter(graph.uses(value))).node.outputs[0]
        return _size(value) if quantized is None else _size(quantized)
    return _size(value)


def _is_folded(graph: Graph, value: Value) -> bool:
    """Whether an operator's result is only ever quantized, so that it can be made quantized."""
    if value.node.kind is not Kind.OP:
        return False
    uses = list(graph.uses(value))
    return bool(uses) and all(use.node.is_op("QuantizeLinear") and use.key == 0 for use in uses)


def _dequantizes(node: Node) -> bool:
    return node.is_op("DequantizeLinear")


def _dtype(value: Value) -> DType:
    return value.type.dtype if isinstance(value.type, TensorType) else DType.UNDEFINED


def _size(value: Value) -> int:
    size = value.type.nbytes if isinstance(value.type, TensorType) else None
    return size or 0
