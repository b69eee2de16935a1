"""Which operands and results of an operation share its element type, and which types that may be.

An ONNX schema gives operands and results type parameters: ``T`` of Conv is the type of the input,
the weight, the bias and the result alike, and the schema lists what ``T`` may be. The *ports* of an
operation are the operands and results of its main parameter, the one of the first result that can
be floating point, else of the first operand (Greater, ArgMax, Shape). They change type together;
everything else (sizes, axes, conditions, scales of their own parameter) keeps its type.
Multiply-accumulate and normalization operators that spread their operands over several parameters
(Attention, RMSNormalization) have all of them as ports: kernels of mixed types do not exist.

Source: ONNX operator schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

from optc.ir import ops
from optc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx.defs import OpSchema

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value

_FLOAT: Final = "tensor(float)"
_SPELLED: Final = {
    DType.F32: _FLOAT,
    DType.F64: "tensor(double)",
    DType.F16: "tensor(float16)",
    DType.BF16: "tensor(bfloat16)",
}


@dataclass(frozen=True)
class Ports:
    """The operands and results of an operation that change type together.

    Attributes:
        operands: indices of operands.
        results: indices of results.
    """

    operands: tuple[int, ...]
    results: tuple[int, ...]

    def __bool__(self) -> bool:
        return bool(self.operands or self.results)


def ports_of(graph: Graph, node: Node, dtype: DType = DType.F32) -> Ports:
    """The ports of an operation that have this element type; none where its operator has no schema.

    A port of another floating-point type ties the operation to it, and one whose type is not known
    may: there are no ports then.
    """
    schema = ops.schema(node.op_type, node.operator[0], ops.version(graph, node))
    if schema is None or _is_function(graph, node):
        return Ports((), ())
    names = _parameters(schema)
    operands = _places(graph.operands(node), schema.inputs, names)
    results = _places(node.outputs, schema.outputs, names)
    found = {_dtype(value) for _, value in (*operands, *results)}
    if None in found or found - {dtype} & _SPELLED.keys():
        return Ports((), ())
    return Ports(
        tuple(place for place, value in operands if _dtype(value) is dtype),
        tuple(place for place, value in results if _dtype(value) is dtype),
    )


def admits(graph: Graph, node: Node, dtype: DType) -> bool:
    """Whether the ports of an operation may have this type in the opset of the graph."""
    return opset_for(graph, node, dtype) == ops.version(graph, node)


def opset_for(graph: Graph, node: Node, dtype: DType) -> int | None:
    """The lowest opset, from the graph's own on, in which the ports may have this type.

    For a canonical operation it is at least the one that has its operator. None when no opset that
    the installed onnx package knows has it, and for other domains than ONNX's own.
    """
    if node.operator[0] or _is_function(graph, node):
        return None
    return _opset_for(node.op_type, graph.opset, dtype)


@cache
def _opset_for(op_type: str, opset: int, dtype: DType) -> int | None:
    for version in _versions(op_type, opset):
        schema = ops.schema(op_type, "", version)
        if schema is not None and not schema.deprecated and _takes(schema, dtype):
            return version
    return None


def _versions(op_type: str, opset: int) -> list[int]:
    """The opset itself, and those above it that define the operator anew."""
    newest = ops.newest_opset()
    changes = {ops.since(op_type, version) for version in range(opset, newest + 1)}
    return [opset, *sorted(version for version in changes if version and version > opset)]


def _takes(schema: OpSchema, dtype: DType) -> bool:
    names = _parameters(schema)
    formals = [*schema.inputs, *schema.outputs]
    return bool(names) and all(
        _SPELLED[dtype] in formal.types for formal in formals if formal.type_str in names
    )


def _parameters(schema: OpSchema) -> frozenset[str]:
    """The type parameters of the ports."""
    names = [
        formal.type_str
        for formal in (*schema.outputs, *schema.inputs)
        if _FLOAT in formal.types and len(formal.types) > 1 and formal.is_homogeneous
    ]
    row = ops.OPS.get((schema.domain, schema.name), ops.UNKNOWN)
    is_tied = row.has(ops.Trait.MAC) or row.has(ops.Trait.NORMALIZATION)
    return frozenset(names if is_tied else names[:1])


def _places(
    values: Sequence[Value | None],
    formals: Sequence[OpSchema.FormalParameter],
    names: frozenset[str],
) -> list[tuple[int, Value]]:
    """The values that are there and whose formal parameter has one of the type parameters."""
    return [
        (place, value)
        for place, value in enumerate(values)
        if value is not None and formals and formals[min(place, len(formals) - 1)].type_str in names
    ]


def _dtype(value: Value) -> DType | None:
    return value.type.dtype if isinstance(value.type, TensorType) else None


def _is_function(graph: Graph, node: Node) -> bool:
    return (node.domain, node.op_type, node.overload) in graph.model.functions
