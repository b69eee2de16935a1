"""Linear operations as matrix products on calibration data: what accuracy passes compute with.

    y[r, g, :]  =  x[r, g, :] @ matrix[g]          r: a place of the result, g: a group

Conv, Gemm and MatMul with a constant weight at the right all have this form: the rows x of a Conv
are the patches that its kernel meets. A few hundred rows, spread evenly over samples and places,
stand for the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from optc.ir import DType
from optc.numerics.calibrate import round_significant
from optc.passes.linear import Linear, linear_ending_at, linear_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optc.ir import Graph, Node, Value
    from optc.numerics.observe import Observer

Floats = npt.NDArray[np.float32]

ROWS: Final = 512
"""Rows that are kept of a layer, at most."""
_ROWS_OF_A_SAMPLE: Final = 64


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear operation with a constant weight.

    Attributes:
        linear: the operation.
        matrix: its weight as float32 of shape (groups, elements of a patch, outputs per group).
        spatial: sizes of the kernel; empty for a product of matrices.
        channels: input channels of a group.
    """

    linear: Linear
    matrix: Floats
    spatial: tuple[int, ...]
    channels: int

    @property
    def node(self) -> Node:
        """The operation."""
        return self.linear.node

    @property
    def data(self) -> Value:
        """What it multiplies with its weight."""
        return self.linear.data

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.matrix)

    @property
    def axis(self) -> int:
        """The channel axis of arrays of `data`, from the end."""
        return -1 - len(self.spatial)

    def by_channel(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """One value per input channel, repeated for each element of a patch: (groups, elements)."""
        taps = math.prod(self.spatial)
        return np.repeat(values.reshape(self.groups, self.channels), taps, axis=1)

    def channel_peaks(self) -> Floats:
        """The greatest magnitude of a weight of every input channel."""
        peaks = np.abs(self.matrix).max(axis=2, initial=0.0)
        peaks = peaks.reshape(self.groups * self.channels, -1)
        found: Floats = peaks.max(axis=1, initial=0.0)
        return found

    def rows(self, data: npt.NDArray[Any], limit: int) -> Floats:
        """Up to `limit` rows of an array of `data`: (rows, groups, elements of a patch)."""
        if not self.spatial:
            flat = data.reshape(-1, self.channels)
            return _some(flat, limit).astype(np.float32).reshape(-1, 1, self.channels)
        return self._patches(data, limit)

    def _patches(self, data: npt.NDArray[Any], limit: int) -> Floats:
        """What the kernel meets at places that are evenly spread; beyond the border are zeros."""
        rank = len(self.spatial)
        gaps = self.node.get("dilations") or (1,) * rank
        reach = [(size - 1) * gap for size, gap in zip(self.spatial, gaps, strict=True)]
        padding = [(0, 0), (0, 0), *((r // 2, r - r // 2) for r in reach)]
        padded = np.pad(data, padding)
        places = (data.shape[0], *data.shape[2:])
        chosen = np.unravel_index(_some(np.arange(math.prod(places)), limit), places)
        offsets = [np.arange(size) * gap for size, gap in zip(self.spatial, gaps, strict=True)]
        grids = [
            start[:, None, None] + grid.reshape(1, 1, -1)
            for start, grid in zip(chosen[1:], np.meshgrid(*offsets, indexing="ij"), strict=True)
        ]
        channels = np.arange(data.shape[1])[None, :, None]
        found = padded[(chosen[0][:, None, None], channels, *grids)]
        rows: Floats = found.astype(np.float32).reshape(len(chosen[0]), self.groups, -1)
        return rows


def layer_of(graph: Graph, node: Node) -> Layer | str:
    """A linear operation as a layer, or why it is none."""
    if linear_ending_at(graph, node) != (node, None):
        return f"{node.op_type} is no linear operation"
    linear = linear_of(graph, node)
    if isinstance(linear, str):
        return linear
    tensor = linear.weight.constant
    if tensor is None:
        return f"weight {linear.weight.name} is not constant"
    if tensor.dtype is not DType.F32:
        return f"weight {linear.weight.name} is of type {tensor.dtype.value}"
    weight = tensor.numpy()
    right = node.is_op("MatMul") and graph.operand(node, 1) is linear.weight and weight.ndim == 2
    if not (node.is_op("Conv") or right or (node.is_op("Gemm") and not node.get("transA", 0))):
        return f"{node.op_type} of this form is not looked at"
    matrix = matrix_of(linear, weight)
    spatial = tuple(weight.shape[2:]) if node.is_op("Conv") else ()
    return Layer(linear, matrix, spatial, linear.inputs // len(matrix))


def matrix_of(linear: Linear, weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A weight of a layer in the form of `Layer.matrix`."""
    if linear.node.is_op("Conv"):
        groups, outputs = linear.view[:2]
        return weight.reshape(groups, outputs, -1).transpose(0, 2, 1)
    return weight.T[None] if linear.node.get("transB", 0) else weight[None]


def weight_from(
    linear: Linear, matrix: npt.NDArray[Any], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    """The weight of this shape that `matrix_of` gives the matrix of."""
    if linear.node.is_op("Conv"):
        return matrix.transpose(0, 2, 1).reshape(shape)
    whole: npt.NDArray[Any] = matrix[0]
    return whole.T if linear.node.get("transB", 0) else whole


@dataclass
class LayerData:
    """What was seen of the data of a layer.

    Attributes:
        low: least element of every input channel.
        high: greatest element of every input channel.
        rows: see `Layer.rows`; set when all is seen.
    """

    low: Floats
    high: Floats
    rows: Floats = field(default_factory=lambda: np.zeros((0, 1, 1), np.float32))

    @property
    def peaks(self) -> Floats:
        """The greatest magnitude of every input channel."""
        found: Floats = np.maximum(np.abs(self.low), np.abs(self.high))
        return found


class KeptRows:
    """Rows of every `stride`-th sample; the stride doubles where they become too many."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, Floats]] = []
        self._stride = 1

    def wants(self, sample: int) -> bool:
        """Whether rows of the sample of this number would be kept."""
        return sample % self._stride == 0

    def add(self, sample: int, rows: Floats) -> None:
        """Rows of a sample, in order of their numbers."""
        self._kept.append((sample, rows))
        while sum(len(item) for _, item in self._kept) > ROWS:
            self._stride *= 2
            self._kept = [item for item in self._kept if self.wants(item[0])]
            if len(self._kept) == 1:
                break

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._kept)

    @property
    def rows(self) -> Floats:
        """All of them."""
        return np.concatenate([rows for _, rows in self._kept])


def observe_layers(
    observer: Observer, graph: Graph, layers: Sequence[Layer], activity: str
) -> Mapping[Node, LayerData]:
    """What the data of layers looks like, by node; one inference per sample.

    A layer whose data never was finite, or never had an element, is left out.
    """
    values = list(dict.fromkeys(layer.data for layer in layers))
    found: dict[Node, LayerData] = {}
    rows: dict[Node, KeptRows] = {layer.node: KeptRows() for layer in layers}
    broken: set[Node] = set()
    for number, arrays in enumerate(observer.observe(graph, values, dict, activity=activity)):
        for layer in layers:
            data = arrays[layer.data.name]
            if not data.size or not np.isfinite(data).all():
                broken.update([layer.node] if data.size else ())
                continue
            _extend(found, layer, data)
            if rows[layer.node].wants(number):
                rows[layer.node].add(number, layer.rows(data, _ROWS_OF_A_SAMPLE))
    for node, seen in found.items():
        seen.rows = rows[node].rows
    return {node: seen for node, seen in found.items() if node not in broken}


def _extend(found: dict[Node, LayerData], layer: Layer, data: npt.NDArray[Any]) -> None:
    axes = tuple(i for i in range(data.ndim) if i != data.ndim + layer.axis)
    low, high = data.min(axis=axes), data.max(axis=axes)
    known = found.setdefault(layer.node, LayerData(low, high))
    known.low, known.high = np.minimum(known.low, low), np.maximum(known.high, high)


def outputs_of(rows: Floats, matrix: Floats) -> Floats:
    """The products of rows with the matrix of a layer: (rows, groups, outputs per group)."""
    found: Floats = np.matmul(rows.transpose(1, 0, 2), matrix).transpose(1, 0, 2)
    return found


def energy(values: Floats) -> float:
    """The sum of squares, in float64."""
    return float(np.square(values, dtype=np.float64).sum())


def decibels(signal: float, noise: float) -> float:
    """A signal-to-noise ratio of energies, rounded to what does not depend on kernels.

    999 where there is no noise, or nothing that there could be noise of.
    """
    return round_significant(10 * math.log10(signal / noise)) if signal and noise else 999.0


def _some(items: npt.NDArray[Any], limit: int) -> npt.NDArray[Any]:
    """Up to `limit` items, evenly spread."""
    if len(items) <= limit:
        return items
    places = (np.arange(limit) * len(items) + len(items) // 2) // limit
    return items[places]


def layers_in(graph: Graph, nodes: Iterable[Node]) -> list[Layer]:
    """Those of the operations that are layers."""
    found = (layer_of(graph, node) for node in nodes)
    return [layer for layer in found if isinstance(layer, Layer)]
