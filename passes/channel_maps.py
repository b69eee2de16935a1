"""Affine maps over one axis of a value, and how they look behind a Reshape.

A `ChannelMap` is x * scale + shift with one value per element of `axis`, or one for all. It is what
`optc.passes.upward` moves through a graph until a linear operation takes it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from optc.ir import dims, ops
from optc.passes.linear import shape_of
from optc.passes.weights import ChannelAffine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Dim, Graph, Node, Shape
    from optc.passes.affine import Affine, Terms

Array: TypeAlias = npt.NDArray[np.float64]

MAX_ELEMENTS: Final = 1 << 16
"""A map is not spread over more elements than this, to see whether it still has one axis."""

_PARAMETERS: Final = 5


@dataclass(frozen=True)
class ChannelMap:
    """The map x * scale + shift over one axis.

    Attributes:
        scale: factors, one per element of `axis`, or one; None for none.
        shift: summands likewise. A shift of zeros is none.
        axis: the axis, counted from the front; None when there is one value for all.
    """

    scale: Array | None
    shift: Array | None
    axis: int | None = None

    @property
    def size(self) -> int:
        """The number of values."""
        return max(
            values.size for values in (self.scale, self.shift, np.ones(1)) if values is not None
        )

    @property
    def is_positive(self) -> bool:
        """Whether the map keeps the order of values."""
        return self.scale is None or bool((self.scale > 0).all())

    @property
    def is_finite(self) -> bool:
        """Whether all its numbers are finite."""
        return all(v is None or bool(np.isfinite(v).all()) for v in (self.scale, self.shift))

    @property
    def only_scale(self) -> ChannelMap:
        """The map without its shift."""
        return channel_map(self.scale, None, self.axis)

    def on_axis(self, axis: int | None) -> ChannelMap:
        """The same numbers over another axis."""
        return ChannelMap(self.scale, self.shift, None if self.axis is None else axis)

    def part(self, start: int, size: int) -> ChannelMap:
        """The map of a range of the elements of its axis."""
        if self.axis is None:
            return self
        cut = slice(start, start + size)
        scale = None if self.scale is None else self.scale[cut]
        shift = None if self.shift is None else self.shift[cut]
        return channel_map(scale, shift, self.axis)

    def placed(self, axis: int, before: int, size: int, total: int) -> ChannelMap:
        """The map on `size` elements from `before` on of `total`; identity on the others."""
        scale, shift = np.ones(total), np.zeros(total)
        cut = slice(before, before + size)
        if self.scale is not None:
            scale[cut] = self.scale
        if self.shift is not None:
            shift[cut] = self.shift
        return channel_map(scale if self.scale is not None else None, shift, axis)

    def for_channels(self, axis: int | None, channels: int) -> ChannelAffine | str:
        """The map as vectors over the channels of an operation, or why it is none.

        Args:
            axis: the channel axis, counted from the front; None when that is not known.
            channels: their number.
        """
        if self.axis is not None and self.axis != axis:
            return f"the map is over axis {self.axis}, the channels are axis {axis}"
        spread: list[Array | None] = []
        for values in (self.scale, self.shift):
            if values is not None and values.size not in (1, channels):
                return f"the map has {values.size} values for {channels} channels"
            spread.append(None if values is None else np.broadcast_to(values, (channels,)))
        return ChannelAffine(*spread)


def channel_map(scale: Array | None, shift: Array | None, axis: int | None) -> ChannelMap:
    """A map in its simplest form: no axis where all values are equal."""
    if shift is not None and not shift.any():
        shift = None
    there = [values for values in (scale, shift) if values is not None]
    if axis is None or all((values == values[:1]).all() for values in there):
        scale, shift = (None if v is None else v[:1] for v in (scale, shift))
        return ChannelMap(scale, shift, None)
    size = max(values.size for values in there)
    scale, shift = (None if v is None else np.broadcast_to(v, (size,)) for v in (scale, shift))
    return ChannelMap(scale, shift, axis)


def map_of_chain(graph: Graph, chain: Sequence[Affine], total: Terms) -> ChannelMap | str:
    """What a chain of affine operations does to the value that it begins with.

    The constants must not enlarge that value: its shape has to be known as far as they reach.
    """
    shape = shape_of(graph, chain[0].data)
    for affine in chain:
        constant = affine.tensor.shape
        if shape is None or len(constant) > len(shape):
            return f"the constant {affine.tensor.type} may enlarge {chain[0].data.name}"
        for dim, size in zip(reversed(shape), reversed(constant), strict=False):
            if size != 1 and dim != size:
                return f"the constant {affine.tensor.type} may enlarge {chain[0].data.name}"
    assert shape is not None
    axes = {_lone_axis(affine.tensor.shape, len(shape)) for affine in chain} - {None}
    if len(axes) > 1 or -1 in axes:
        return f"the constants of {chain[-1].node.label} are not one value per channel"
    scale, shift = (None if v is None else v.reshape(-1) for v in (total.scale, total.shift))
    return channel_map(scale, shift, axes.pop() if axes else None)


def _lone_axis(constant: tuple[int, ...], rank: int) -> int | None:
    """The axis that a constant varies over; None for none, -1 for several."""
    found = [rank - len(constant) + i for i, size in enumerate(constant) if size != 1]
    return -1 if len(found) > 1 else found[0] if found else None


def map_of_batchnorm(graph: Graph, node: Node) -> ChannelMap | str:
    """What a BatchNormalization in inference form does, or why it is not such a map."""
    if ops.attribute(graph, node, "training_mode") or sum(v is not None for v in node.outputs) > 1:
        return f"{node.label} is in training form"
    if ops.attribute(graph, node, "spatial") == 0:
        return f"{node.label} has parameters per place (spatial = 0)"
    for value in graph.operands(node)[1:_PARAMETERS]:
        if value is not None and value.constant is None:
            return f"{value.name} is not constant"
    return channel_map(*batchnorm_terms(graph, node), 1)


def batchnorm_terms(graph: Graph, node: Node) -> tuple[Array, Array]:
    """Scale and shift per channel of a BatchNormalization with constant parameters.

    Not finite where the variance is not positive.
    """
    gamma, beta, mean, variance = (
        value.constant.numpy().astype(np.float64)
        for value in graph.operands(node)[1:_PARAMETERS]
        if value is not None and value.constant is not None
    )
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + ops.attribute(graph, node, "epsilon"))
        return scale, beta - mean * scale


def mapped(array: Array, found: ChannelMap, rank: int | None = None) -> Array:
    """A constant with a map applied to it; `rank` of the value that it is broadcast to."""
    rank = array.ndim if rank is None else rank
    with np.errstate(all="ignore"):
        for values, combine in ((found.scale, np.multiply), (found.shift, np.add)):
            if values is not None:
                array = combine(array, spread(values, found.axis, rank))
    return np.asarray(array)


def spread(values: Array, axis: int | None, rank: int) -> Array:
    """A vector over an axis, in a shape that broadcasts against values of `rank` dimensions."""
    if axis is None:
        return values.reshape(())
    return values.reshape((-1,) + (1,) * (rank - axis - 1))


def for_constant(op_type: str, found: ChannelMap) -> ChannelMap:
    """The map of the constant right of an operator that does `found` to the result."""
    with np.errstate(all="ignore"):
        if op_type == "Div" and found.scale is not None:
            return ChannelMap(1.0 / found.scale, None, found.axis)
        if op_type == "Sub" and found.shift is not None:
            return ChannelMap(found.scale, -found.shift, found.axis)
    return found


def reaching(inner: Array, found: ChannelMap, rank: int) -> Array:
    """A constant with as many dimensions as it takes to hold the axis of a map."""
    if found.axis is None:
        return inner
    wanted = rank - found.axis
    return inner.reshape((1,) * max(0, wanted - inner.ndim) + inner.shape)


def reshaped(found: ChannelMap, source: Shape | None, target: Shape | None) -> ChannelMap | str:
    """A map of a value of shape `source`, for the same elements in shape `target`.

    The dimensions around the axis that make equal sizes on both sides are looked at; they must be
    numbers, so that where each element goes is known.
    """
    if found.axis is None:
        return found
    if source is None or target is None:
        return "the shapes of a Reshape are not known"
    group = _group(source, target, found.axis)
    if group is None:
        return "where a Reshape puts the channels is not known"
    (first, last), (start, end) = group
    inner = [dim for dim in source[first:last] if isinstance(dim, int)]
    outer = [dim for dim in target[start:end] if isinstance(dim, int)]
    if math.prod(inner) > MAX_ELEMENTS:
        return f"a map of {math.prod(inner)} elements is not followed through a Reshape"
    spread: list[Array | None] = []
    axes: set[int] = set()
    for values in (found.scale, found.shift):
        if values is None:
            spread.append(None)
            continue
        view = [1] * len(inner)
        view[found.axis - first] = values.size
        array = np.broadcast_to(values.reshape(view), inner).reshape(outer)
        axes |= {i for i in range(len(outer)) if (array != array.take([0], axis=i)).any()}
        spread.append(array)
    if len(axes) > 1:
        return "a Reshape spreads the channels over several axes"
    axis = axes.pop() if axes else 0
    lines = [
        None if a is None else np.moveaxis(a, axis, 0).reshape(outer[axis], -1)[:, 0]
        for a in spread
    ]
    return channel_map(lines[0], lines[1], start + axis)


def _group(
    source: Shape, target: Shape, axis: int
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The smallest ranges of dimensions with equal, static sizes on both sides around an axis."""
    for first in range(axis, -1, -1):
        for start in range(len(target)):
            if not dims.equal(_size(source[:first]), _size(target[:start])):
                continue
            for last in range(axis + 1, len(source) + 1):
                for end in range(start + 1, len(target) + 1):
                    if _same_static(source[first:last], target[start:end]):
                        return (first, last), (start, end)
    return None


def _size(shape: Sequence[Dim]) -> Dim:
    return dims.product(shape)


def _same_static(a: Sequence[Dim], b: Sequence[Dim]) -> bool:
    sizes = [[dim for dim in shape if isinstance(dim, int)] for shape in (a, b)]
    if len(sizes[0]) != len(a) or len(sizes[1]) != len(b):
        return False
    product = math.prod(sizes[0])
    return product > 0 and product == math.prod(sizes[1])
