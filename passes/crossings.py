"""Operations that an affine map per channel can cross: f(s x + t) = s' f'(x) + t'.

    Relu, LeakyRelu, PRelu             positive scale, no shift
    Clip                               positive map of one value; the bounds are mapped
    Transpose, Reshape, Flatten, …     the axis is followed
    MaxPool, ReduceMax, …              positive scale
    AveragePool                        a shift only where padding is not counted
    ReduceMean, Resize (nearest, linear)     weights sum to one: any map

Each entry says which result axis is which operand axis; a map with one value for all has no axis
and crosses whatever the axes do.
Source: ONNX operators Relu-14, LeakyRelu-16, PRelu-16, Clip-13, Transpose-25, Reshape-25,
Flatten-25, Squeeze-25, Unsqueeze-25, Resize-19, Upsample-9, AveragePool-22, MaxPool-22,
ReduceMean-18, GlobalAveragePool-22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import ml_dtypes
import numpy as np

from optc.ir import DType, dims, ops
from optc.ir.shape_site import constant_tensor, normal_axes
from optc.passes.channel_maps import ChannelMap, mapped, reshaped
from optc.passes.linear import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from optc.ir import Graph, Node, Shape, Value
    from optc.rewrite.driver import Builder

_Maker: TypeAlias = "Callable[[Graph, Node, Shape | None, Shape | None], Crossing | str]"

_BOUNDS_OPERANDS_SINCE: Final = 11


@dataclass(frozen=True)
class Crossing:
    """How maps cross one operation between operand 0 and result 0.

    Attributes:
        node: the operation.
        source: shape of the operand, None when its rank is not known.
        target: shape of the result likewise.
        axes: for each axis of the result, the operand axis whose elements it holds one to one, or
            None; None when that is not known. Not used by a Reshape.
        needs_positive: only positive scales cross.
        no_shift: None when shifts cross; else what to say of the operation for why they do not.
        reshapes: the elements keep their order in memory, and axes are followed by sizes.
        bounds: the operation is a Clip.
    """

    node: Node
    source: Shape | None
    target: Shape | None
    axes: tuple[int | None, ...] | None = None
    needs_positive: bool = False
    no_shift: str | None = None
    reshapes: bool = False
    bounds: bool = False

    def up(self, found: ChannelMap) -> ChannelMap | str:
        """The map of the operand that does what `found` does to the result, or why none does."""
        if reason := self._obstacle(found):
            return reason
        if self.reshapes:
            return reshaped(found, self.target, self.source)
        if found.axis is None:
            return found
        axis = self.axes[found.axis] if self.axes is not None else None
        return self._lost(found) if axis is None else found.on_axis(axis)

    def down(self, found: ChannelMap) -> ChannelMap | str:
        """The map of the result that does what `found` does to the operand, or why none does."""
        if reason := self._obstacle(found):
            return reason
        if self.reshapes:
            return reshaped(found, self.source, self.target)
        if found.axis is None:
            return found
        if self.axes is None or found.axis not in self.axes:
            return self._lost(found)
        return found.on_axis(self.axes.index(found.axis))

    def rebuild(self, graph: Graph, build: Builder, data: Value, found: ChannelMap) -> Node:
        """The operation on another operand; a Clip gets its bounds mapped by `found`."""
        node = self.node
        rest = graph.operands(node)[1:]
        attributes: dict[str, float] = {}
        if self.bounds:
            rest, attributes = _mapped_bounds(graph, node, build, found)
        return build.node(
            node.op_type, (data, *rest), like=node, attributes=attributes, outputs=len(node.outputs)
        )

    def _obstacle(self, found: ChannelMap) -> str:
        where = f"{self.node.op_type} {self.node.label}"
        if self.needs_positive and not found.is_positive:
            return f"a scale that is not positive does not cross {where}"
        if self.no_shift is not None and found.shift is not None:
            return f"a shift does not cross {where}{self.no_shift}"
        if self.bounds and found.axis is not None:
            return f"a map per channel does not cross {where}, whose bounds are one value"
        return ""

    def _lost(self, found: ChannelMap) -> str:
        return f"axis {found.axis} is lost in {self.node.op_type} {self.node.label}"


def crossing_of(graph: Graph, node: Node) -> Crossing | str:
    """How maps cross an operation, or that they do not."""
    make = _TABLE.get(node.op_type) if node.operator[0] == "" else None
    data = graph.operand(node, 0)
    if make is None or data is None or node.outputs[0] is None:
        return f"{node.qualified_op} {node.label} is not crossed"
    return make(graph, node, shape_of(graph, data), shape_of(graph, node.outputs[0]))


def inverse(found: ChannelMap) -> ChannelMap:
    """The map that undoes one; infinite where a scale is zero."""
    with np.errstate(all="ignore"):
        scale = None if found.scale is None else 1.0 / found.scale
        shift = None if found.shift is None else -found.shift * (1.0 if scale is None else scale)
    return ChannelMap(scale, shift, found.axis)


def typed(graph: Graph, new: Value, old: Value) -> Value:
    """The new value, with the type of the one that it takes the place of."""
    graph.set_type(new, old.type)
    return new


def axis_of(graph: Graph, node: Node, value: Value) -> int | None:
    """The `axis` attribute counted from the front, or None when the rank is not known."""
    axis = int(ops.attribute(graph, node, "axis"))
    shape = shape_of(graph, value)
    if axis >= 0:
        return axis
    return None if shape is None else axis + len(shape)


def split_sizes(graph: Graph, node: Node) -> list[int] | None:
    """The sizes of the parts of a Split, when their types tell them all."""
    sizes: list[int] = []
    for value in node.outputs:
        shape = None if value is None else shape_of(graph, value)
        axis = None if value is None else axis_of(graph, node, value)
        size = None if shape is None or axis is None else shape[axis]
        if not isinstance(size, int):
            return None
        sizes.append(size)
    return sizes


# ---- the table ---------------------------------------------------------------------------------


def _same(shape: Shape | None) -> tuple[int | None, ...] | None:
    return None if shape is None else tuple(range(len(shape)))


def _rectifier(graph: Graph, node: Node, source: Shape | None, _: Shape | None) -> Crossing | str:
    if node.op_type == "PRelu":  # the slope may enlarge the data
        slope = graph.operand(node, 1)
        shape = None if slope is None else shape_of(graph, slope)
        if source is None or shape is None or dims.broadcast_shapes(source, shape) != source:
            return f"PRelu {node.label} may enlarge its operand"
    return Crossing(node, source, source, _same(source), needs_positive=True, no_shift="")


def _clip(graph: Graph, node: Node, source: Shape | None, _: Shape | None) -> Crossing | str:
    if any(v is not None and v.constant is None for v in graph.operands(node)[1:]):
        return f"a bound of Clip {node.label} is not constant"
    return Crossing(node, source, source, _same(source), needs_positive=True, bounds=True)


def _mapped_bounds(
    graph: Graph, node: Node, build: Builder, found: ChannelMap
) -> tuple[tuple[Value | None, ...], dict[str, float]]:
    if graph.opset < _BOUNDS_OPERANDS_SINCE:
        written = {name: node.get(name) for name in ("min", "max") if name in node.attributes}
        return (), {
            name: float(_bound(np.array(value), found, DType.F32))
            for name, value in written.items()
        }
    bounds: list[Value | None] = []
    for value in graph.operands(node)[1:]:
        tensor = None if value is None else value.constant
        if value is None or tensor is None:
            bounds.append(None)
        else:
            bounds.append(build.like(_bound(tensor.numpy(), found, tensor.dtype), value))
    return tuple(bounds), {}


def _bound(array: npt.NDArray[Any], found: ChannelMap, dtype: DType) -> npt.NDArray[np.float64]:
    """A bound with a map applied; one that exporters write for "none" stays the largest number."""
    values = array.astype(np.float64)
    limit = float(ml_dtypes.finfo(dtype.numpy).max)
    return np.where(np.isfinite(values), np.clip(mapped(values, found), -limit, limit), values)


def _transpose(_: Graph, node: Node, source: Shape | None, target: Shape | None) -> Crossing:
    perm = node.get("perm")
    if perm is None and source is not None:
        perm = tuple(reversed(range(len(source))))
    return Crossing(node, source, target, None if perm is None else tuple(perm))


def _reshape(_: Graph, node: Node, source: Shape | None, target: Shape | None) -> Crossing:
    return Crossing(node, source, target, reshapes=True)


def _resize(graph: Graph, node: Node, source: Shape | None, target: Shape | None) -> Crossing | str:
    mode = ops.attribute(graph, node, "mode")
    if mode not in (b"nearest", b"linear", b"bilinear"):
        return f"{mode.decode()} interpolation of {node.label} is not crossed"
    crop = ops.attribute(graph, node, "coordinate_transformation_mode") == b"tf_crop_and_resize"
    axes = None
    if source is not None and target is not None and len(source) == len(target) and not crop:
        pairs = zip(source, target, strict=True)
        axes = tuple(i if dims.equal(a, b) else None for i, (a, b) in enumerate(pairs))
    outside = ", which extrapolates" if crop else None
    return Crossing(node, source, target, axes, no_shift=outside)


def _max_pool(
    graph: Graph, node: Node, source: Shape | None, target: Shape | None
) -> Crossing | str:
    if sum(value is not None for value in node.outputs) > 1:
        return f"MaxPool {node.label} also gives indices"
    return Crossing(node, source, target, _outer(source), needs_positive=True)


def _average_pool(graph: Graph, node: Node, source: Shape | None, target: Shape | None) -> Crossing:
    pads = any(ops.attribute(graph, node, "pads") or ())
    same = ops.attribute(graph, node, "auto_pad") not in (b"NOTSET", b"VALID")
    counted = bool(ops.attribute(graph, node, "count_include_pad")) and (pads or same)
    # What a window that reaches beyond the end is divided by differs between implementations.
    counted |= bool(ops.attribute(graph, node, "ceil_mode"))
    return Crossing(
        node,
        source,
        target,
        _outer(source),
        no_shift=", which counts its padding" if counted else None,
    )


def _global_pool(_: Graph, node: Node, source: Shape | None, target: Shape | None) -> Crossing:
    return Crossing(
        node, source, target, _outer(source), needs_positive=node.op_type == "GlobalMaxPool"
    )


def _outer(source: Shape | None) -> tuple[int | None, ...]:
    """Batch and channels are kept, spatial axes are not."""
    return (0, 1) if source is None else (0, 1, *(None,) * (len(source) - 2))


def _reduce(graph: Graph, node: Node, source: Shape | None, target: Shape | None) -> Crossing | str:
    kept: tuple[int | None, ...] | None = None
    axes = _reduced(graph, node, source)
    if axes is not None and source is not None:
        keep = bool(ops.attribute(graph, node, "keepdims"))
        every = [None if i in axes else i for i in range(len(source))]
        kept = tuple(i for i in every if keep or i is not None)
    no_shift = "" if node.op_type == "ReduceSum" else None
    positive = node.op_type in ("ReduceMax", "ReduceMin")
    return Crossing(node, source, target, kept, needs_positive=positive, no_shift=no_shift)


def _reduced(graph: Graph, node: Node, source: Shape | None) -> Sequence[int] | None:
    if source is None:
        return None
    operand = graph.operand(node, 1)
    written = node.get("axes")
    if operand is not None:
        tensor = constant_tensor(operand)
        if tensor is None:
            return None
        written = [int(axis) for axis in tensor.numpy().reshape(-1)]
    if not written:
        empty = bool(ops.attribute(graph, node, "noop_with_empty_axes"))
        return [] if empty else list(range(len(source)))
    return normal_axes(written, len(source))


_TABLE: Final[Mapping[str, _Maker]] = {
    "Relu": _rectifier,
    "LeakyRelu": _rectifier,
    "PRelu": _rectifier,
    "Clip": _clip,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Resize": _resize,
    "Upsample": _resize,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "ReduceMax": _reduce,
    "ReduceMin": _reduce,
}
