"""Better integers for the weight of one quantized operation, from calibration data.

Three samples of four decide, the fourth says what that gains, and how far the correlation between
channels is to be believed: correlations of few rows are partly chance, and weights that are fitted
to chance err more on other data than those that are rounded to nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from optc.ir import DType
from optc.numerics.adaptive_rounding import Products
from optc.numerics.calibrate import SIGNIFICANT_BITS, round_significant
from optc.numerics.saturation import find_saturation, keep_safe
from optc.passes.correct_bias import bias_of
from optc.passes.int8_sites import channel_axis, product_of
from optc.passes.layers import KeptRows, decibels, energy, matrix_of, outputs_of, weight_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optc.ir import Graph, Node, Value
    from optc.numerics.saturation import Product
    from optc.passes.layers import Floats
    from optc.passes.quantized_layers import QuantizedLayer

Array = npt.NDArray[np.float64]

_DAMPING: Final = (0.01, 0.1, 1.0)
"""Multiples of the mean square of the data that are tried."""
_ROWS_OF_A_SAMPLE: Final = 256
_JUDGED: Final = 4  # every so-many-th sample
_MEMORY: Final = 2**28
"""Bytes of sums that are kept at a time."""


@dataclass(frozen=True)
class Rounding:
    """Integers for a weight.

    Attributes:
        integers: in the layout of the weight.
        count: how many are not the nearest.
        before: signal-to-noise ratio of the operation with the nearest, in dB.
        after: that with these, and with the shift taken back.
        shift: what the mean error is then, one per output; None where no bias takes it back.
    """

    integers: npt.NDArray[Any]
    count: int
    before: float
    after: float
    shift: Array | None

    @property
    def gain(self) -> float:
        """In dB."""
        return self.after - self.before


def integers_of(graph: Graph, node: Node) -> Value:
    """The integers of the weight of a quantized operation."""
    weight = graph.operand(node, 1)
    assert weight is not None
    integers = graph.operand(weight.node, 0)
    assert integers is not None
    return integers


class WeightRounding:
    """Collects data of an operation and chooses its integers.

    Attributes:
        layer: the operation.
        data: what it multiplies with its weight, before that is rounded.
        obstacle: why its weight stays as it is.
    """

    def __init__(self, graph: Graph, layer: QuantizedLayer) -> None:
        integers, weight = integers_of(graph, layer.node), graph.operand(layer.node, 1)
        assert weight is not None
        assert integers.constant is not None
        self.layer = layer
        self._seen = layer.layer(graph)
        self.data = self._seen.data
        self._old = integers.constant.numpy()
        self.obstacle: str | None = None
        if graph.only_use(weight) is None or graph.only_use(integers) is None:
            self.obstacle = "its weight is used by several operations"
        elif layer.weights.axis not in (None, channel_axis(layer.node, self._old.ndim)):
            self.obstacle = "its weight has scales along another axis than its outputs"
        self._centred = bias_of(graph, layer.node) is not None and layer.data is not None
        self._products: Products | None = None
        self._judged = KeptRows()

    @property
    def size(self) -> int:
        """Bytes of the sums."""
        groups, terms, outputs = self.layer.before.matrix.shape
        size: int = 8 * groups * terms * (terms + 3 * outputs)
        return size

    def take(self, sample: int, data: npt.NDArray[Any]) -> None:
        """Look at the data of a sample; samples come in order of their numbers."""
        if self.obstacle is not None or not data.size:
            return
        if not np.isfinite(data).all():
            self.obstacle = "its data is not finite"
            self._products = None
            return
        rows = self._seen.rows(data, _ROWS_OF_A_SAMPLE)
        if sample % _JUDGED == _JUDGED - 1:
            self._judged.add(sample, rows)
            return
        if self._products is None:
            weights = self.layer.before.matrix / self._grid()[0]
            self._products = Products(weights, self.layer.data)
        self._products.add(rows)

    def result(self) -> Rounding | str:
        """What is best on the samples that were kept apart; frees the sums."""
        products, self._products = self._products, None
        if self.obstacle is not None:
            return self.obstacle
        if products is None or not self._judged:
            return f"it needs {_JUDGED} samples of data with an element"
        rows, linear = self._judged.rows, self.layer.before.linear
        nearest = matrix_of(linear, self._old.astype(np.float64))
        before = self._sqnr(rows, nearest, None)
        best, after = nearest, self._sqnr(rows, nearest, products)
        (_, zeros), (low, high) = self._grid(), self.layer.weights.limits
        limits = (low - zeros, high - zeros)
        for damping in _DAMPING:
            made = products.round(nearest - zeros, limits, damping, centred=self._centred) + zeros
            sqnr = self._sqnr(rows, made, products)
            if sqnr > after:
                best, after = made, sqnr
        new = weight_from(linear, best, self._old.shape).astype(self._old.dtype)
        product = product_of(self.layer.node)
        if product is not None and self._is_safe(product):
            new = keep_safe(new, self._old, product)
            best = matrix_of(linear, new.astype(np.float64))
            after = self._sqnr(rows, best, products)
        shift = self._shift(products, best).reshape(-1) if self._centred else None
        return Rounding(new, int((new != self._old).sum()), before, after, shift)

    def _shift(self, products: Products, integers: Array) -> Array:
        """The mean error of the outputs: [groups, 1, outputs]."""
        params = self.layer.data
        assert params is not None
        scales, zeros = self._grid()
        found = products.shift(integers - zeros) * scales * params.scales[0]
        rounded = [round_significant(value, SIGNIFICANT_BITS) for value in found.reshape(-1)]
        return np.array(rounded).reshape(found.shape)

    def _is_safe(self, product: Product) -> bool:
        signed = self.layer.weights.dtype is DType.I8
        return signed and find_saturation(self._old, product) is None

    def _grid(self) -> tuple[Array, Array]:
        """Scales and zero points of the weight, for arrays like `Layer.matrix`."""
        params = self.layer.weights
        groups, _, outputs = self.layer.matrix.shape
        shape = (1, 1, 1) if params.axis is None else (groups, 1, outputs)
        zeros = np.array(params.zero_points, np.float64)
        return np.array(params.scales).reshape(shape), zeros.reshape(shape)

    def _sqnr(self, rows: Floats, integers: Array, products: Products | None) -> float:
        """Of the products of rounded rows with integers, in dB, rounded.

        With sums of products the mean error is taken back, where a bias does.
        """
        scales, zeros = self._grid()
        real = outputs_of(rows, self.layer.before.matrix)
        params = self.layer.data
        rounded = rows if params is None else params.dequantize(params.quantize(rows))
        error = outputs_of(rounded, ((integers - zeros) * scales).astype(np.float32)) - real
        if products is not None and self._centred:
            error = error - self._shift(products, integers).transpose(1, 0, 2)
        return decibels(energy(real), energy(error))


def batches(items: Sequence[WeightRounding]) -> Iterator[Sequence[WeightRounding]]:
    """The operations in groups whose sums fit into memory together; one that is larger is alone."""
    batch: list[WeightRounding] = []
    for item in items:
        if batch and sum(other.size for other in batch) + item.size > _MEMORY:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch
