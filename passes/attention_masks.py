"""The mask of attention: what is added to the logits, or a condition that says what is seen.

    Σ factor · numbers + Σ Where(condition, 0, fill)      of numbers, in the type of the queries
    condition                                             alone, where its fill is minus infinity

Numbers of another view, e.g. (windows, heads, …) for (batch · windows, heads, …), are repeated and
reshaped. A mask takes the whole size of queries and keys: kernels do not broadcast it there.

A row all of whose keys are hidden by minus infinity has no softmax: it is NaN, and zero in the
operator Attention, so also where NaN is replaced by zero after the Softmax.
Source: ONNX operators Attention-24, Where-16, Expand-13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import DType, TensorType, dims
from optc.ir.shape_site import constant_tensor, shape_of
from optc.passes.attention_views import equal_shapes, reshaped, writable
from optc.passes.bounds import Bounds, bounds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Dim, Graph, Shape, Value
    from optc.passes.attention_logits import Mask
    from optc.rewrite.driver import Builder

_LEAST: Final = {
    DType.F16: 65504.0,
    DType.BF16: 3.3895313892515355e38,
    DType.F32: float(np.finfo(np.float32).max),
    DType.F64: float(np.finfo(np.float64).max),
}


@dataclass(frozen=True)
class Placed:
    """A mask and how it gets to the shape that Attention takes.

    Attributes:
        mask: the mask.
        repeat: the shape to expand it to first; None for not at all.
        shape: the shape to reshape it to then; None for not at all.
    """

    mask: Mask
    repeat: Shape | None = None
    shape: Shape | None = None


def place(graph: Graph, mask: Mask, shape: Shape) -> Placed | str:
    """How a mask becomes one that broadcasts to (batch, heads, queries, keys)."""
    own = shape_of(graph, mask.value)
    if own is None:
        return f"rank of {mask.value.name} is not known"
    if equal_shapes(mask.view, shape) or len(own) <= 2:
        return Placed(mask)
    padded = (*(1,) * (len(mask.view) - len(own)), *own)
    lead, view = padded[:-2], mask.view[:-2]
    if all(dim == 1 for dim in lead):
        return Placed(mask) if len(own) <= len(shape) else _checked(mask, None, own[-2:])
    cut = _cut(view, shape[0], shape[1])
    if cut is None:
        return f"leading dimensions of {mask.value.name} are not those of queries and keys"
    batch, heads = _part(lead[:cut], view[:cut]), _part(lead[cut:], view[cut:])
    repeat = (*batch, *heads, *own[-2:])
    folded = (dims.product(batch), dims.product(heads), *own[-2:])
    return _checked(mask, None if equal_shapes(repeat, padded) else repeat, folded)


def _checked(mask: Mask, repeat: Shape | None, shape: Shape) -> Placed | str:
    if not writable(shape) or (repeat is not None and not all(isinstance(d, int) for d in repeat)):
        return f"{mask.value.name} cannot be reshaped: its sizes are not known"
    return Placed(mask, repeat, shape)


def _cut(view: Sequence[Dim], batch: Dim, heads: Dim) -> int | None:
    """How many of the leading dimensions are the batch; the others are the heads."""
    for cut in range(len(view) + 1):
        parts = dims.product(view[:cut]), dims.product(view[cut:])
        if dims.equal(parts[0], batch) and dims.equal(parts[1], heads):
            return cut
    return None


def _part(own: Sequence[Dim], view: Sequence[Dim]) -> tuple[Dim, ...]:
    """The dimensions of a mask before they are folded: all 1, or all of the view."""
    return tuple(own) if all(dim == 1 for dim in own) else tuple(view)


def build_mask(
    build: Builder, placed: Sequence[Placed], dtype: DType, rows: tuple[Value, Value], shape: Shape
) -> Value | None:
    """The operand `attn_mask`; None without masks.

    Args:
        build: builder.
        placed: the masks.
        dtype: element type of the queries.
        rows: queries and keys, of rank 4.
        shape: (batch, heads, queries, keys).
    """
    if not placed:
        return None
    if len(placed) == 1 and placed[0].mask.fill == -math.inf:
        only = placed[0]
        value = build.Not(only.mask.value) if only.mask.hides else only.mask.value
        return _whole(build, _shaped(build, value, only, DType.BOOL), rows, shape)
    total: Value | None = None
    for item in reversed(placed):
        value = _shaped(build, _numbers(build, item.mask, dtype), item, dtype)
        if total is not None:
            own = shape_of(build.graph, total), shape_of(build.graph, value)
            value = _typed(build, build.Add(total, value), dtype, dims.broadcast_shapes(*own))
        total = value
    assert total is not None
    return _whole(build, total, rows, shape)


def _numbers(build: Builder, mask: Mask, dtype: DType) -> Value:
    def constant(number: float) -> Value:
        return build.constant(number, dtype=dtype, name=f"{mask.value.node.key}_fill")

    if mask.fill is None:
        return mask.value if mask.factor == 1 else build.Mul(mask.value, constant(mask.factor))
    yes, no = constant(mask.fill if mask.hides else 0.0), constant(0.0 if mask.hides else mask.fill)
    return build.Where(mask.value, yes, no)


def _shaped(build: Builder, value: Value, placed: Placed, dtype: DType) -> Value:
    """A mask that broadcasts to (batch, heads, queries, keys)."""
    _typed(build, value, dtype, shape_of(build.graph, placed.mask.value))
    if placed.repeat is not None:
        numbers = [dim for dim in placed.repeat if isinstance(dim, int)]
        sizes = build.constant(numbers, dtype=DType.I64, name=f"{value.name}_sizes")
        value = _typed(build, build.Expand(value, sizes), dtype, placed.repeat)
    return value if placed.shape is None else reshaped(build, value, placed.shape)


def _whole(build: Builder, mask: Value, rows: tuple[Value, Value], shape: Shape) -> Value:
    """A mask with all queries and keys in its last two dimensions."""
    own = shape_of(build.graph, mask) or ()
    padded = (*(1,) * (2 - len(own)), *own)[-2:]
    missing = [not dims.spans(dim, size) for dim, size in zip(padded, shape[-2:], strict=True)]
    if not any(missing) and len(own) > 1:
        return mask
    sizes = [
        _size(build, rows[i], shape[2 + i]) if missing[i] else _int(build, mask, 1)
        for i in range(2)
    ]
    numbers = [int(size.constant.numpy().reshape(-1)[0]) for size in sizes if size.constant]
    if len(numbers) == len(sizes):
        target = build.constant(numbers, dtype=DType.I64, name=f"{mask.name}_shape")
    else:
        target = build.Concat(*sizes, axis=0)
    assert isinstance(mask.type, TensorType)
    whole = (*own[:-2], *shape[-2:])
    return _typed(build, build.Expand(mask, target), mask.type.dtype, whole)


def _typed(build: Builder, value: Value, dtype: DType, shape: Shape | None) -> Value:
    if value.type is None:
        build.graph.set_type(value, TensorType(dtype, shape))
    return value


def _size(build: Builder, rows: Value, dim: Dim) -> Value:
    """The number of rows, as a vector of one element."""
    if isinstance(dim, int):
        return _int(build, rows, dim)
    return build.Gather(build.Shape(rows), _int(build, rows, 2), axis=0)


def _int(build: Builder, near: Value, number: int) -> Value:
    return build.constant([number], dtype=DType.I64, name=f"{near.node.key}_size")


# ---- rows that are hidden ----------------------------------------------------------------------


def may_hide_row(graph: Graph, value: Value) -> bool:
    """Whether a mask, of numbers or a condition, may be minus infinity for all keys of a query."""
    dtype = value.type.dtype if isinstance(value.type, TensorType) else DType.UNDEFINED
    tensor = constant_tensor(value)
    if tensor is not None and tensor.shape and tensor.elements:
        array = tensor.numpy()
        seen = array if dtype is DType.BOOL else array.astype(np.float64) > -math.inf
        return not bool(seen.any(axis=-1).all())
    if dtype is DType.BOOL:
        return bounds_of(graph, value, first_column=True).low < 1
    return all(_low(graph, value, first) < -_LEAST.get(dtype, 0) for first in (False, True))


def masks_may_hide(graph: Graph, masks: Sequence[Mask], dtype: DType) -> Mask | None:
    """The mask that, with the others, may hide all keys of a query; None when none does."""
    if len(masks) == 1 and masks[0].fill is None and masks[0].factor == 1:
        return masks[0] if may_hide_row(graph, masks[0].value) else None
    for first in (False, True):
        lows = [_term(graph, mask, first) for mask in masks]
        if sum(lows) >= -_LEAST.get(dtype, 0):
            return None
    return masks[lows.index(min(lows))]


def _term(graph: Graph, mask: Mask, first: bool) -> float:
    found = bounds_of(graph, mask.value, first_column=first)
    if mask.fill is None:
        products = [0.0 if mask.factor == 0 else mask.factor * end for end in found]
        return min(products)
    seen = Bounds(1 - found.high, 1 - found.low) if mask.hides else found
    return 0.0 if seen.low == 1 else mask.fill


def _low(graph: Graph, value: Value, first: bool) -> float:
    return bounds_of(graph, value, first_column=first).low
