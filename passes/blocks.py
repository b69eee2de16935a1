"""Rearrangements between channels and blocks of pixels, in the ways that exporters write them.

Blocks of b·b pixels become channels: channel (i, j, c) of the result, in some order of the three,
holds pixel (i, j) of every block of channel c. ONNX has the order (i, j, c), SpaceToDepth. The way
back, channels to blocks of pixels, is DepthToSpace in the orders (i, j, c), mode DCR, and
(c, i, j), mode CRD.

    Reshape to [N, C, H/b, b, W/b, b], Transpose, Reshape       permutation decides the order
    Concat of x[:, :, i::b, j::b] along the channels            the operands' order decides it

Source: ONNX operators DepthToSpace-13, SpaceToDepth-13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import dims
from optc.ir.shape_rules_move import END, slice_bounds
from optc.ir.shape_site import Site, shape_of
from optc.passes.layouts import perm_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Dim, Graph, Node, Shape, Value

_DCR: Final = ((0, 3, 4, 1, 5, 2), (1, 2, 3))  # permutation, axes that hold the blocks and channels
_CRD: Final = ((0, 1, 4, 2, 5, 3), (2, 3, 1))
_TO_CHANNELS: Final[Mapping[tuple[int, ...], tuple[int, int, int]]] = {
    (0, 3, 5, 1, 2, 4): (0, 1, 2),  # order (i, j, c): SpaceToDepth
    (0, 1, 3, 5, 2, 4): (2, 0, 1),  # order (c, i, j): PixelUnshuffle
}


@dataclass(frozen=True)
class ToPixels:
    """Channels that become blocks of pixels.

    Attributes:
        source: the data.
        size: b.
        mode: of DepthToSpace.
    """

    source: Value
    size: int
    mode: str


@dataclass(frozen=True)
class ToChannels:
    """Blocks of pixels that become channels.

    Attributes:
        source: the data.
        size: b.
        order: for each channel of the result, its number in the order of SpaceToDepth; None when
            all are in that order.
    """

    source: Value
    size: int
    order: tuple[int, ...] | None


def rearranged(graph: Graph, node: Node) -> ToPixels | ToChannels | str | None:
    """What a Reshape or Concat does to blocks, or why not quite; None for anything else."""
    if node.is_op("Concat"):
        return _strided(graph, node)
    return _reshaped(graph, node) if node.is_op("Reshape") else None


# ---- three operations ----------------------------------------------------------------------------


def _reshaped(graph: Graph, node: Node) -> ToPixels | ToChannels | str | None:
    transposed = graph.operand(node, 0)
    perm = None if transposed is None else perm_of(graph, transposed.node)
    parted = None if perm is None or transposed is None else graph.operand(transposed.node, 0)
    if perm is None or transposed is None or parted is None or not parted.node.is_op("Reshape"):
        return None
    source = graph.operand(parted.node, 0)
    shapes = [None if v is None else shape_of(graph, v) for v in (source, parted, node.output)]
    before, six, after = shapes
    if source is None or before is None or six is None or after is None:
        return None
    if len(before) != 4 or len(after) != 4:
        return None
    if len(six) == 5 and perm == (0, 2, 1, 3, 4):
        return "ONNX has no operator that shuffles channels"
    if len(six) != 6:
        return None
    if graph.only_use(transposed) is None or graph.only_use(parted) is None:
        return f"a result between {parted.node.label} and {node.label} is used elsewhere"
    for mode, (wanted, places) in (("DCR", _DCR), ("CRD", _CRD)):
        if perm == wanted:
            return _to_pixels(source, before, six, after, mode, places)
    order = _TO_CHANNELS.get(perm)
    return None if order is None else _to_channels(source, before, six, after, order)


def _to_pixels(
    source: Value, before: Shape, six: Shape, after: Shape, mode: str, places: Sequence[int]
) -> ToPixels | str:
    size = six[places[0]]
    batch, channels, height, width = before
    if not isinstance(size, int) or size != six[places[1]]:
        return "the blocks are not square, or their size is not known"
    parted = [batch, None, None, None, height, width]
    parted[places[0]] = parted[places[1]] = size
    parted[places[2]] = dims.floordiv(channels, size * size)
    joined = (batch, parted[places[2]], dims.mul(height, size), dims.mul(width, size))
    if not _same(parted, six) or not _same(joined, after):
        return "the reshapes do not part and join channels and pixels"
    return ToPixels(source, size, mode)


def _to_channels(
    source: Value, before: Shape, six: Shape, after: Shape, order: tuple[int, int, int]
) -> ToChannels | str:
    size = six[3]
    batch, channels, height, width = before
    if not isinstance(size, int) or size != six[5]:
        return "the blocks are not square, or their size is not known"
    rows, columns = dims.floordiv(height, size), dims.floordiv(width, size)
    whole = dims.equal(dims.mul(rows, size), height) and dims.equal(dims.mul(columns, size), width)
    joined = (batch, dims.mul(channels, size * size), rows, columns)
    if not whole or not _same((batch, channels, rows, size, columns, size), six):
        return "the reshapes do not part and join channels and pixels"
    if not _same(joined, after):
        return "the reshapes do not part and join channels and pixels"
    if order == (0, 1, 2):
        return ToChannels(source, size, None)
    if not isinstance(channels, int):
        return "the number of channels is not known"
    numbers = np.arange(size * size * channels).reshape(size, size, channels).transpose(order)
    return ToChannels(source, size, tuple(numbers.reshape(-1).tolist()))


def _same(one: Sequence[Dim], other: Sequence[Dim]) -> bool:
    return all(map(dims.equal, one, other))


# ---- slices --------------------------------------------------------------------------------------


def _strided(graph: Graph, node: Node) -> ToChannels | str | None:
    operands = graph.operands(node)
    size = int(len(operands) ** 0.5)
    slices = [value.node for value in operands if value is not None]
    if size < 2 or len(slices) != size * size or not all(one.is_op("Slice") for one in slices):
        return None
    sources = {graph.operand(one, 0) for one in slices}
    source = next(iter(sources))
    shape = None if source is None else shape_of(graph, source)
    if len(sources) != 1 or source is None or shape is None or len(shape) != 4:
        return None
    starts = [_starts(graph, one, shape, size) for one in slices]
    if None in starts or len(set(starts)) != len(starts):
        return None
    if node.get("axis") not in (1, -3):
        return "the blocks become no channels: it is another axis"
    if any(graph.only_use(value) is None for value in operands if value is not None):
        return f"a slice before {node.label} is used elsewhere"
    order = [i * size + j for i, j in (start for start in starts if start is not None)]
    if order == sorted(order):
        return ToChannels(source, size, None)
    channels = shape[1]
    if not isinstance(channels, int):
        return "the number of channels is not known"
    numbers = np.arange(size * size * channels).reshape(size * size, channels)[order]
    return ToChannels(source, size, tuple(numbers.reshape(-1).tolist()))


def _starts(graph: Graph, node: Node, shape: Shape, size: int) -> tuple[int, int] | None:
    """Row and column of the pixel of each block that a slice takes."""
    bounds = slice_bounds(Site(graph, node, {}), 4) or {}
    if set(bounds) != {2, 3}:
        return None
    found: list[int] = []
    for axis in (2, 3):
        start, end, step = bounds[axis]
        total = shape[axis]
        whole = isinstance(end, int) and (end >= END or (isinstance(total, int) and end >= total))
        if step != size or not isinstance(start, int) or not 0 <= start < size or not whole:
            return None
        if isinstance(total, int) and total % size:
            return None
        found.append(start)
    return found[0], found[1]
