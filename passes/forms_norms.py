"""Forms of normalizations.

    LayerNormalization     (x - mean) / √(mean((x - mean)²) + epsilon) · scale + bias
    RMSNormalization       x / √(mean(x²) + epsilon) · scale
    GroupNormalization     InstanceNormalization of groups as channels, then scale and bias

Mean and variance are over the axes from `axis` on. ONNX Runtime takes LayerNormalization and
SimplifiedLayerNormalization (its name for RMSNormalization over the last axis) in ONNX's own domain
in a model of any opset; that is the form ``microsoft``.
Source: ONNX operators LayerNormalization-17, RMSNormalization-23, GroupNormalization-21,
InstanceNormalization-6; contrib operators of ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import DType, TensorType, ops
from optc.ir.shape_site import shape_of
from optc.passes.forms import MICROSOFT, PRIMITIVES, Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.driver import Builder

_AXES_OPERAND_SINCE: Final = 18
_FLOAT_STASH: Final = 1


def _operands(graph: Graph, node: Node) -> tuple[Value, Value, Value | None]:
    x, weight = graph.operand(node, 0), graph.operand(node, 1)
    assert x is not None
    assert weight is not None
    return x, weight, graph.operand(node, 2)


def _rank(graph: Graph, value: Value) -> int | None:
    shape = shape_of(graph, value)
    return None if shape is None else len(shape)


def _dtype(value: Value) -> DType:
    return value.type.dtype if isinstance(value.type, TensorType) else DType.UNDEFINED


def _axes(graph: Graph, node: Node) -> list[int]:
    """The normalized axes, counted from the end."""
    axis = int(ops.attribute(graph, node, "axis"))
    if axis >= 0:
        rank = _rank(graph, _operands(graph, node)[0])
        assert rank is not None
        axis -= rank
    return list(range(axis, 0))


def _axis_obstacle(graph: Graph, node: Node) -> str | None:
    x = _operands(graph, node)[0]
    if int(ops.attribute(graph, node, "axis")) >= 0 and _rank(graph, x) is None:
        return f"rank of {x.name} is not known, so the normalized axes are not"
    if any(value is not None and graph.is_used(value) for value in node.outputs[1:]):
        return "mean or deviation are used"
    if _dtype(x).is_float:
        return None
    return f"element type of {x.name} is not known"


def _mean(build: Builder, x: Value, axes: Sequence[int]) -> Value:
    if build.graph.opset < _AXES_OPERAND_SINCE:
        return build.ReduceMean(x, axes=list(axes), keepdims=1)
    operand = build.constant(list(axes), dtype=DType.I64, name=f"{x.node.key}_axes")
    return build.ReduceMean(x, operand, keepdims=1)


def _stash(build: Builder, node: Node, x: Value) -> tuple[Value, DType | None]:
    """The value that statistics are taken of, in f32 where the operator says so."""
    dtype = _dtype(x)
    wide = ops.attribute(build.graph, node, "stash_type") == _FLOAT_STASH
    if not wide or dtype in (DType.F32, DType.F64):
        return x, None
    return build.Cast(x, to=DType.F32.onnx), dtype


def _scaled(
    build: Builder, normal: Value, narrow: DType | None, weight: Value, bias: Value | None
) -> Sequence[Value | None]:
    if narrow is not None:
        normal = build.Cast(normal, to=narrow.onnx)
    scaled = build.Mul(normal, weight)
    return (scaled if bias is None else build.Add(scaled, bias),)


def _layer(build: Builder, node: Node) -> Sequence[Value | None]:
    x, weight, bias = _operands(build.graph, node)
    axes = _axes(build.graph, node)
    epsilon = ops.attribute(build.graph, node, "epsilon")
    wide, narrow = _stash(build, node, x)
    centred = build.Sub(wide, _mean(build, wide, axes))
    variance = _mean(build, build.Mul(centred, centred), axes)
    deviation = build.Sqrt(build.Add(variance, _epsilon(build, wide, x, epsilon)))
    found = _scaled(build, build.Div(centred, deviation), narrow, weight, bias)
    return (*found, *(None,) * (len(node.outputs) - 1))


def _rms(build: Builder, node: Node) -> Sequence[Value | None]:
    x, weight, _ = _operands(build.graph, node)
    axes = _axes(build.graph, node)
    epsilon = ops.attribute(build.graph, node, "epsilon")
    wide, narrow = _stash(build, node, x)
    square = _mean(build, build.Mul(wide, wide), axes)
    deviation = build.Sqrt(build.Add(square, _epsilon(build, wide, x, epsilon)))
    return _scaled(build, build.Div(wide, deviation), narrow, weight, None)


def _epsilon(build: Builder, wide: Value, x: Value, epsilon: float) -> Value:
    dtype = _dtype(x) if wide is x else DType.F32
    return build.constant(epsilon, dtype=dtype, name=f"{wide.node.key}_epsilon")


# ---- ONNX Runtime ------------------------------------------------------------------------------


def _float_obstacle(graph: Graph, node: Node) -> str | None:
    dtype = _dtype(_operands(graph, node)[0])
    if dtype in (DType.F32, DType.F64):
        return None
    return f"the kernel is for f32 and f64, the operand is {dtype.value}"


def _microsoft_layer(build: Builder, node: Node) -> Sequence[Value | None]:
    operands = build.graph.operands(node)
    made = build.node("LayerNormalization", operands, like=node, outputs=1, domain="")
    return (made.output, *(None,) * (len(node.outputs) - 1))


def _layer_obstacle(graph: Graph, node: Node) -> str | None:
    if any(value is not None and graph.is_used(value) for value in node.outputs[1:]):
        return "mean or deviation are used"
    return _float_obstacle(graph, node)


def _rms_obstacle(graph: Graph, node: Node) -> str | None:
    weight = _operands(graph, node)[1]
    if _rank(graph, weight) != 1 or ops.attribute(graph, node, "axis") != -1:
        return "the kernel scales one vector along the last axis"
    return _float_obstacle(graph, node)


def _microsoft_rms(build: Builder, node: Node) -> Sequence[Value | None]:
    operands = build.graph.operands(node)
    return build.node("SimplifiedLayerNormalization", operands, like=node, domain="").outputs


# ---- GroupNormalization ------------------------------------------------------------------------


def _group_obstacle(graph: Graph, node: Node) -> str | None:
    x = _operands(graph, node)[0]
    shape = shape_of(graph, x)
    if shape is None or len(shape) < 3:
        return f"rank of {x.name} is not known"
    channels = shape[1]
    if not isinstance(channels, int):
        return f"number of channels of {x.name} is not known"
    if _dtype(x) in (DType.F32, DType.F64):
        return None
    return f"statistics of {_dtype(x).value} would be taken in that type"


def _group(build: Builder, node: Node) -> Sequence[Value | None]:
    graph = build.graph
    x, weight, bias = _operands(graph, node)
    assert bias is not None
    shape = shape_of(graph, x)
    assert shape is not None
    groups = int(ops.attribute(graph, node, "num_groups"))
    flat = build.Reshape(x, _ints(build, x, [0, groups, -1]))
    one = build.constant([1.0] * groups, dtype=_dtype(x), name=f"{node.key}_ones")
    zero = build.constant([0.0] * groups, dtype=_dtype(x), name=f"{node.key}_zeros")
    epsilon = ops.attribute(graph, node, "epsilon")
    normal = build.InstanceNormalization(flat, one, zero, epsilon=epsilon)
    column = [-1, *[1] * (len(shape) - 2)]
    back = build.Reshape(normal, _whole(build, x))
    scale = build.Reshape(weight, _ints(build, weight, column))
    shift = build.Reshape(bias, _ints(build, bias, column))
    return (build.Add(build.Mul(back, scale), shift),)


def _ints(build: Builder, near: Value, numbers: Sequence[int]) -> Value:
    return build.constant(list(numbers), dtype=DType.I64, name=f"{near.node.key}_shape")


def _whole(build: Builder, x: Value) -> Value:
    """The shape of a value as an operand: a constant where at most one size is not a number."""
    shape = shape_of(build.graph, x)
    assert shape is not None
    numbers = [dim if isinstance(dim, int) else -1 for dim in shape]
    return build.Shape(x) if numbers.count(-1) > 1 else _ints(build, x, numbers)


FORMS: Final = (
    Form("LayerNormalization", PRIMITIVES, _layer, _axis_obstacle),
    Form("LayerNormalization", MICROSOFT, _microsoft_layer, _layer_obstacle),
    Form("RMSNormalization", PRIMITIVES, _rms, _axis_obstacle),
    Form("RMSNormalization", MICROSOFT, _microsoft_rms, _rms_obstacle),
    Form("GroupNormalization", PRIMITIVES, _group, _group_obstacle),
)
"""Forms by operator, besides the operator itself."""
