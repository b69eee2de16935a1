"""Scale and shift the channels of a linear operation: the weight algebra of the folding passes.

For a linear operation y = W·x + b (see `optc.passes.linear`), with s and t constant per channel:

    after     s (W·x + b) + t  =  (s_o W[o, i])·x + (s b + t)
    before    W·(s x + t) + b  =  (W[o, i] s_i)·x + (b + W·t)

The first always holds. In the second, W·t must be the same at every place of the result, so when
t is not zero: a Conv must not pad (the zeros of its border are not shifted), a ConvTranspose must
be pointwise (else places differ in how many taps reach them), and a MatMul must have one matrix.

All arithmetic is in float64; results are stored in the type of the weight. A fold is refused when
a scaled weight would overflow that type. In f16, whose subnormals begin at 6e-5, it is also refused
when weights would lose precision: when the largest of all would become subnormal, and before the
operation, where small weights meet large data, the largest of any input channel. (A few channels
that a training has left with weights near 1e-40 are no reason to keep an operation.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from optc.ir import DType, TensorType, ops
from optc.passes.linear import other_use, shape_of, use_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir import Graph, Node, Tensor, Value
    from optc.passes.linear import Linear
    from optc.rewrite.driver import Builder

Array: TypeAlias = npt.NDArray[np.float64]

FLOATS: Final = (DType.F32, DType.F16, DType.BF16, DType.F64)
"""Element types that weight arithmetic is done for."""


@dataclass(frozen=True)
class ChannelAffine:
    """The map x * scale + shift with one value per channel, as float64 vectors.

    Attributes:
        scale: factors; None for none.
        shift: summands; None for none. A shift of zeros is none.
    """

    scale: Array | None
    shift: Array | None

    def __post_init__(self) -> None:
        if self.shift is not None and not self.shift.any():
            object.__setattr__(self, "shift", None)


# ---- constants ---------------------------------------------------------------------------------


def not_per_channel(constant: Tensor, axis: int, channels: int, rank: int | None) -> str | None:
    """Why a broadcast constant is not one value per channel, or None when it is.

    Args:
        constant: the constant operand of an elementwise operation.
        axis: channel axis of the other operand, counted from the end.
        channels: number of channels.
        rank: dimensions of the other operand (what it has at least, when that is all that is
            known); a constant with more would enlarge the result. None: nothing is known.
    """
    shape = constant.shape
    if len(shape) > (rank or 0):
        if rank is None:
            return f"the constant {constant.type} may enlarge the result"
        return f"the constant {constant.type} would enlarge the result"
    place = len(shape) + axis
    if any(size != 1 for i, size in enumerate(shape) if i != place):
        return f"the constant {constant.type} is not one value per channel"
    if place >= 0 and shape[place] not in (1, channels):
        return f"the constant {constant.type} does not fit {channels} channels"
    return None


def vector(values: Array | None, channels: int) -> Array | None:
    """One value per channel out of a constant that `not_per_channel` accepts."""
    return None if values is None else np.broadcast_to(values.reshape(-1), (channels,))


def range_error(values: Array, dtype: DType, what: str) -> str | None:
    """Why values cannot be stored in a type, or None when they can."""
    if not np.isfinite(values).all():
        return f"{what} is not finite"
    if values.size and np.abs(values).max() > ml_dtypes.finfo(dtype.numpy).max:
        return f"{what} overflows {dtype.value}"
    return None


def factor_error(values: Array, dtype: DType, what: str) -> str | None:
    """Like `range_error`, and also refuses values that become subnormal, which lose precision."""
    sizes = np.abs(values)
    tiny = ml_dtypes.finfo(dtype.numpy).smallest_normal
    if reason := range_error(values, dtype, what):
        return reason
    if ((sizes > 0) & (sizes < tiny)).any():
        return f"{what} underflows {dtype.value}"
    return None


# ---- legality ----------------------------------------------------------------------------------


def check_after(graph: Graph, linear: Linear, affine: ChannelAffine, root: Node) -> str | None:
    """Why an affine map of the result of a linear operation cannot be folded, or None.

    Args:
        graph: the graph.
        linear: the operation.
        affine: the map, over output channels.
        root: the node that computes the map.
    """
    inside = (linear.node, linear.last, root)
    for node in inside[:2]:
        if other := other_use(graph, node.output, inside):
            return f"{node.op_type} output {use_text(other, 'also feeds')}"
    return (
        _not_finite(affine)
        or _scale_blocked(graph, linear, affine.scale)
        or _bias_blocked(linear)
        or _scale_overflow(linear, affine.scale, after=True)
        or _bias_overflow(linear, _bias_after, affine)
    )


def check_before(
    graph: Graph, linear: Linear, affine: ChannelAffine, root: Node, *, with_others: bool = False
) -> str | None:
    """Why an affine map of the data of a linear operation cannot be folded, or None.

    What `blocked_before` says of the graph, and then `overflow_before` of the numbers.
    """
    return blocked_before(graph, linear, affine, root, with_others=with_others) or overflow_before(
        linear, affine
    )


def blocked_before(
    graph: Graph, linear: Linear, affine: ChannelAffine, root: Node, *, with_others: bool = False
) -> str | None:
    """Why the place of an affine map does not let it be folded into what reads it, or None.

    Args:
        graph: the graph.
        linear: the operation.
        affine: the map, over input channels.
        root: the node that computes the map.
        with_others: the caller folds the map into all that uses the data.
    """
    if not with_others and (other := other_use(graph, linear.data, (linear.node,))):
        return f"{root.op_type} output {use_text(other, 'also feeds')}"
    if linear.adder and (other := other_use(graph, linear.node.output, (linear.adder,))):
        return f"{linear.node.op_type} output {use_text(other, 'also feeds')}"
    if linear.data is linear.bias:
        return f"{root.op_type} output is also the bias of {linear.node.label}"
    if reason := _not_finite(affine) or _scale_blocked(graph, linear, affine.scale):
        return reason
    if affine.shift is None:
        return None
    if linear.weight.constant is None:
        return f"weight {linear.weight.name} is not constant"
    return _shift_error(graph, linear) or _bias_blocked(linear)


def overflow_before(linear: Linear, affine: ChannelAffine) -> str | None:
    """Why the numbers of such a fold leave their type, or None; this reads the whole weight."""
    reason = _scale_overflow(linear, affine.scale, after=False)
    if reason or affine.shift is None:
        return reason
    return _bias_overflow(linear, _bias_before, affine)


def _shift_error(graph: Graph, linear: Linear) -> str | None:
    """Why a shift of the data does not shift every place of the result alike, or None."""
    if linear.is_batched:
        return "weight of MatMul holds several matrices"
    if linear.node.op_type == "Conv" and pads_data(graph, linear):
        return "Conv pads its input: the shift would not reach the border"
    if linear.node.op_type == "ConvTranspose" and not _is_pointwise(linear):
        return "ConvTranspose is not pointwise: the shift would not reach every place alike"
    return None


def _not_finite(affine: ChannelAffine) -> str | None:
    for values, what in ((affine.scale, "scale"), (affine.shift, "shift")):
        if values is not None and not np.isfinite(values).all():
            return f"{what} is not finite"
    return None


def _scale_blocked(graph: Graph, linear: Linear, scale: Array | None) -> str | None:
    dtype = _dtype(linear)
    if dtype not in FLOATS:
        return f"{dtype.value} arithmetic is not folded"
    if scale is None:
        return None
    weight = linear.weight
    if weight.constant is None:
        return f"weight {weight.name} is not constant"
    if other := other_use(graph, weight, (linear.node,)):
        return f"weight {use_text(other, 'is shared by')}"
    return None


def _scale_overflow(linear: Linear, scale: Array | None, *, after: bool) -> str | None:
    if scale is None:
        return None
    dtype = _dtype(linear)
    shape = linear.outs if after else linear.ins
    peaks = _peaks(_tensor(linear.weight), linear.view, shape) * np.abs(scale)
    if dtype is not DType.F16:
        return range_error(peaks, dtype, "the scaled weight")
    return factor_error(peaks.max(keepdims=True) if after else peaks, dtype, "the scaled weight")


def _bias_blocked(linear: Linear) -> str | None:
    if linear.bias is not None and linear.bias.constant is None:
        return f"bias {linear.bias.name} is not constant"
    return None


def _bias_overflow(
    linear: Linear,
    compute: Callable[[Linear, ChannelAffine], Array | None],
    affine: ChannelAffine,
) -> str | None:
    bias = compute(linear, affine)
    return None if bias is None else range_error(bias, _dtype(linear), "the bias")


def _dtype(linear: Linear) -> DType:
    assert isinstance(linear.weight.type, TensorType)
    return linear.weight.type.dtype


def _peaks(weight: Tensor, view: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The largest magnitude of each channel, without a copy of the weight in float64."""
    array = weight.numpy()
    if array.dtype.itemsize < 4:
        array = array.astype(np.float32)
    array = array.reshape(view)
    axes = tuple(i for i, size in enumerate(shape) if size == 1)
    peaks = np.maximum(array.max(axis=axes), -array.min(axis=axes)).reshape(-1)
    return np.asarray(peaks, np.float64)


def pads_data(graph: Graph, linear: Linear) -> bool:
    """Whether a Conv may pad; SAME_* counts as padding unless it provably adds nothing."""
    node = linear.node
    auto_pad = ops.attribute(graph, node, "auto_pad")
    if auto_pad == b"VALID":
        return False
    if auto_pad == b"NOTSET":
        return any(node.get("pads", ()))
    kernel = _kernel(linear)
    ones = (1,) * len(kernel)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, node.get("dilations", ones), strict=True)]
    if max(reach) == 1:
        return False
    shape = shape_of(graph, linear.data)
    sizes = (None,) * len(kernel) if shape is None else shape[2:]
    strides = node.get("strides", ones)
    # SAME: total padding = (ceil(size / stride) - 1) * stride + reach - size, at least 0.
    return any(
        not isinstance(size, int) or (-(-size // stride) - 1) * stride + far > size
        for size, stride, far in zip(sizes, strides, reach, strict=True)
    )


def _is_pointwise(linear: Linear) -> bool:
    """Whether every place of a ConvTranspose's result sees exactly one place of its data."""
    node = linear.node
    plain = node.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not node.get(
        "output_shape"
    )
    steps = (*_kernel(linear), *node.get("strides", ()))
    return plain and set(steps) <= {1} and not any(node.get("output_padding", ()))


def _kernel(linear: Linear) -> tuple[int, ...]:
    assert linear.weight.constant is not None
    return linear.weight.constant.shape[2:]


# ---- folding -----------------------------------------------------------------------------------


def fold_after(build: Builder, linear: Linear, affine: ChannelAffine) -> Value:
    """Build the operation with an affine map of its result in it; `check_after` has passed."""
    weight = _scaled_weight(build, linear, affine.scale, linear.outs)
    return _rebuild(build, linear, linear.data, weight, _bias_after(linear, affine))


def fold_before(build: Builder, linear: Linear, affine: ChannelAffine, data: Value) -> Value:
    """Build the operation on `data`, the operand of the affine map; `check_before` has passed."""
    weight = _scaled_weight(build, linear, affine.scale, linear.ins)
    return _rebuild(build, linear, data, weight, _bias_before(linear, affine))


def _scaled_weight(
    build: Builder, linear: Linear, scale: Array | None, shape: tuple[int, ...]
) -> Value:
    if scale is None:
        return linear.weight
    array = _weight(linear)
    array *= scale.reshape(shape)
    return build.like(array.reshape(_tensor(linear.weight).shape), linear.weight)


def _weight(linear: Linear) -> Array:
    return _tensor(linear.weight).numpy().astype(np.float64).reshape(linear.view)


def _tensor(value: Value) -> Tensor:
    assert value.constant is not None
    return value.constant


def _bias_after(linear: Linear, affine: ChannelAffine) -> Array | None:
    """The bias s b + t; None when the bias stays as it is."""
    if linear.bias is None:
        return None if affine.shift is None else _column(linear, affine.shift)
    if affine.scale is None and affine.shift is None:
        return None
    bias = _bias(linear)
    if affine.scale is not None:
        bias = bias * _aligned(linear, affine.scale)
    if affine.shift is not None:
        bias = bias + _aligned(linear, affine.shift)
    return bias


def _bias_before(linear: Linear, affine: ChannelAffine) -> Array | None:
    """The bias b + W·t; None when the bias stays as it is."""
    if affine.shift is None:
        return None
    array = _weight(linear)
    array *= affine.shift.reshape(linear.ins)
    axes = tuple(i for i, size in enumerate(linear.outs) if size == 1)
    added = array.sum(axis=axes).reshape(-1) * linear.gain
    if linear.bias is None:
        return _column(linear, added)
    return _bias(linear) + _aligned(linear, added)


def _bias(linear: Linear) -> Array:
    assert linear.bias is not None
    return _tensor(linear.bias).numpy().astype(np.float64) * linear.bias_gain


def _aligned(linear: Linear, values: Array) -> Array:
    """A vector over output channels as it broadcasts against the bias."""
    if (values == values[0]).all():
        return values[:1].reshape(())  # keeps the shape of a bias that is smaller than a vector
    return _column(linear, values)


def _column(linear: Linear, values: Array) -> Array:
    return values.reshape((-1,) + (1,) * (-linear.bias_axis - 1))


def _rebuild(
    build: Builder, linear: Linear, data: Value, weight: Value, bias: Array | None
) -> Value:
    """The operation with other operands; `bias` None leaves that as it is."""
    node, added = linear.node, linear.bias
    attributes: Mapping[str, Any] = {}
    if bias is not None:
        if added is None:
            added = build.constant(bias, dtype=_dtype(linear), name=f"{node.key}_bias")
        else:
            added = build.like(bias, added)
        if node.op_type == "Gemm":
            attributes = {"beta": None}  # is in the bias now
    if node.op_type != "MatMul":
        operands = (data, weight) if added is None else (data, weight, added)
        return build.node(node.op_type, operands, like=node, attributes=attributes).output
    operands = (weight, data) if build.graph.operand(node, 0) is linear.weight else (data, weight)
    product = build.MatMul(*operands, like=node)
    if added is None:
        return product
    build.graph.set_type(product, node.output.type)
    return build.Add(product, added, like=linear.adder)
