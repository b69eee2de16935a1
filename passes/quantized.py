"""QuantizeLinear and DequantizeLinear as they stand in a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optc.ir import DType, TensorType, ops
from optc.numerics.quantize import LIMITS, QuantParams

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value

_ROUNDING = 2.0**-20
"""Relative difference of scales that are equal but for the rounding of their float32 numbers."""


def params_of(graph: Graph, node: Node) -> QuantParams | None:
    """The parameters of a QuantizeLinear or DequantizeLinear; None where they are not constant.

    None as well for blocks, and for other types than those of `QuantParams`.
    """
    if not node.is_op("QuantizeLinear", "DequantizeLinear") or node.get("block_size", 0):
        return None
    scale, zero = graph.operand(node, 1), graph.operand(node, 2)
    dtype = _integer_type(graph, node)
    if scale is None or scale.constant is None or scale.constant.dtype is not DType.F32:
        return None
    if dtype not in LIMITS or (zero is not None and zero.constant is None):
        return None
    scales = scale.constant.numpy().reshape(-1)
    zeros = np.zeros(scales.size, np.int64)
    if zero is not None and zero.constant is not None:
        zeros = np.resize(zero.constant.numpy().astype(np.int64), scales.size)
    if not scales.size or not (np.isfinite(scales).all() and (scales > 0).all()):
        return None
    axis = None if scales.size == 1 else _axis(graph, node)
    if axis is None and scales.size > 1:
        return None
    return QuantParams(dtype, tuple(scales.tolist()), tuple(zeros.tolist()), axis)


def _integer_type(graph: Graph, node: Node) -> DType:
    integers = node.output if node.is_op("QuantizeLinear") else graph.operand(node, 0)
    kind = None if integers is None else integers.type
    if isinstance(kind, TensorType) and kind.dtype is not DType.UNDEFINED:
        return kind.dtype
    zero = graph.operand(node, 2)
    return DType.U8 if zero is None or zero.constant is None else zero.constant.dtype


def _axis(graph: Graph, node: Node) -> int | None:
    value = graph.operand(node, 0)
    rank = value.type.rank if value is not None and isinstance(value.type, TensorType) else None
    axis = int(ops.attribute(graph, node, "axis") or 0)
    if axis >= 0:
        return axis
    return None if rank is None else axis + rank


def dequantize_before(graph: Graph, value: Value | None) -> Node | None:
    """The DequantizeLinear that a value comes from."""
    if value is None or not value.node.is_op("DequantizeLinear"):
        return None
    return value.node


def quantize_behind(graph: Graph, value: Value) -> Node | None:
    """The QuantizeLinear that is all that uses a value."""
    use = graph.only_use(value)
    return use.node if use and use.key == 0 and use.node.is_op("QuantizeLinear") else None


def integers_before(graph: Graph, value: Value | None) -> Value | None:
    """What is dequantized to give a value."""
    node = dequantize_before(graph, value)
    return None if node is None else graph.operand(node, 0)


def same_but_for_rounding(one: QuantParams, other: QuantParams) -> bool:
    """Whether two parameters differ in the rounding of their scales only."""
    if (one.dtype, one.zero_points, one.axis) != (other.dtype, other.zero_points, other.axis):
        return False
    pairs = zip(one.scales, other.scales, strict=True)
    return all(abs(a - b) <= _ROUNDING * max(a, b) for a, b in pairs)


def covers(outer: QuantParams, inner: QuantParams) -> bool:
    """Whether the interval of one scale holds that of another, but for half a step of it."""
    (low, high), (least, most) = outer.interval, inner.interval
    slack = 0.5 * inner.scales[0]
    return low - slack <= least and most <= high + slack
