"""From statistics of a value to the range that a quantizer maps to its integers.

Every method takes what was seen, and cuts rare extremes so that the steps get finer:

    percentile   (1 - p) / 2 of the elements are cut at each end
    entropy      the threshold at which the quantized distribution diverges least from the real one
                 (Kullback-Leibler; Migacz, "8-bit Inference with TensorRT", GTC 2017)
    mse          the clipping that leaves the least squared error of rounding and clipping
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from optc.numerics.histogram import Histogram

_CLIPS: Final = tuple(float(r) for r in np.linspace(1.0, 0.05, 96))
"""Clipping ratios that mse tries: steps of one percent."""
_THRESHOLDS: Final = 128
"""Thresholds that entropy tries: steps below one percent of the greatest magnitude."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """The finite values that a tensor takes.

    Attributes:
        low: least value; at most `high`.
        high: greatest value.
    """

    low: float
    high: float

    def clip(self, other: Range) -> Range:
        """The part of this range that lies in the other one."""
        return Range(
            min(max(self.low, other.low), other.high), max(min(self.high, other.high), other.low)
        )


def percentile_range(histogram: Histogram, percent: float) -> Range:
    """The range that holds `percent` of the elements, as many cut at each end.

    Within a bin elements are taken as evenly spread.
    """
    cut = (1 - percent / 100) / 2 * histogram.total
    below = np.concatenate([[0], np.cumsum(histogram.counts)]).astype(np.float64)
    edges = histogram.edges
    # Flat pieces of the distribution (empty bins) belong to the cut side.
    low_bin = int(np.searchsorted(below, cut, side="right")) - 1
    high_bin = int(np.searchsorted(below, histogram.total - cut, side="left"))
    return Range(
        _at(cut, below, edges, low_bin), _at(histogram.total - cut, below, edges, high_bin - 1)
    )


def _at(rank: float, below: Floats, edges: Floats, bin: int) -> float:
    bin = min(max(bin, 0), len(edges) - 2)
    inside = below[bin + 1] - below[bin]
    part = (rank - below[bin]) / inside if inside else 0.0
    return float(edges[bin] + part * (edges[bin + 1] - edges[bin]))


def entropy_range(histogram: Histogram, seen: Range, bits: int) -> Range:
    """The threshold with the least Kullback-Leibler divergence, for both signs.

    P is the distribution of the magnitudes below the threshold, with all that lies beyond added to
    its last bin; Q is P without that, brought to the levels of the quantizer: every level spreads
    its mass evenly over the bins of it that are not empty. Thresholds need not be multiples of the
    number of levels. A last level that holds nothing but what is clipped counts as one element:
    the divergence would be without bound, whatever little is clipped. At least half of the elements
    stay unclipped: P and Q of a threshold below all of them are equal.
    """
    counts = histogram.magnitudes
    levels = 1 << (bits - 1 if seen.low < 0 < seen.high else bits)
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= levels:
        return seen
    below = np.concatenate([[0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    logs = np.concatenate([[0.0], np.cumsum(_xlogx(counts))])
    # From the top down: of equally good thresholds the first one is taken, which cuts least.
    tried = np.unique(np.linspace(used, levels, _THRESHOLDS).astype(np.int64))[::-1]
    tried = tried[2 * below[tried] >= below[-1]]
    divergences = _divergences(counts, below, filled, logs, tried, levels)
    threshold = int(tried[np.argmin(divergences)]) * histogram.width
    return Range(-threshold, threshold).clip(seen)


def _divergences(
    counts: npt.NDArray[np.int64],
    below: npt.NDArray[np.int64],
    filled: npt.NDArray[np.int64],
    logs: Floats,
    tried: npt.NDArray[np.int64],
    levels: int,
) -> Floats:
    """KL(P || Q) for the threshold after so many bins each, from sums over the bins before each."""
    total, last = float(below[-1]), counts[tried - 1]
    beyond = below[-1] - below[tried]
    edges = np.arange(levels + 1) * tried[:, None] // levels  # a row per threshold
    mass = np.diff(below[edges])
    spread = np.diff(filled[edges])
    real = mass.astype(np.float64)
    real[:, -1] += beyond
    fills = (beyond > 0) & (last == 0)  # P has mass in the last bin there, so Q has as well
    spread[fills, -1] += 1
    mass[fills, -1] = np.maximum(mass[fills, -1], 1)
    own = logs[tried] - _xlogx(last) + _xlogx(last + beyond)
    held = mass > 0
    quantized = np.ones_like(real)  # whose logarithm is 0
    np.divide(mass, spread * mass.sum(axis=1, keepdims=True), out=quantized, where=held)
    cross = (real * np.log(quantized)).sum(axis=1)
    found: Floats = own / total - np.log(total) - cross / total
    return found


def _xlogx(counts: npt.NDArray[np.int64]) -> Floats:
    return np.asarray(counts * np.log(np.maximum(counts, 1)), np.float64)


def mse_range(histogram: Histogram, seen: Range, bits: int, symmetric: bool) -> Range:
    """The clipping with the least squared error of quantizing the elements.

    Both ends are first clipped by the same ratio, then each alone. A symmetric quantizer has one
    threshold for both signs, and its steps follow from the positive integers, of which there is one
    less: an end that lies within the threshold is not clipped.
    """
    points, weights = _points(histogram)

    def error(step: float, least: float, most: float) -> float:
        if not step:
            return float("inf")
        levels = np.clip(np.rint(points / step), least, most)
        return float(weights @ np.square(levels * step - points))

    if symmetric:
        half, greatest = 1 << (bits - 1), max(-seen.low, seen.high)
        tried = [ratio * greatest for ratio in _CLIPS]
        limit = min(tried, key=lambda limit: error(limit / (half - 1), -half, half - 1))
        return Range(-limit, limit).clip(seen)

    top = (1 << bits) - 1

    def clipped(low: float, high: float) -> float:
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / top
        zero = np.rint(-low / step) if step else 0.0
        return error(step, -zero, top - zero)

    both = min(_CLIPS, key=lambda ratio: clipped(seen.low * ratio, seen.high * ratio))
    if not seen.low < 0 < seen.high:
        return Range(seen.low * both, seen.high * both)
    wider = [ratio for ratio in _CLIPS if ratio >= both]
    high = min(wider, key=lambda ratio: clipped(seen.low * both, seen.high * ratio))
    low = min(wider, key=lambda ratio: clipped(seen.low * ratio, seen.high * high))
    return Range(seen.low * low, seen.high * high)


def _points(histogram: Histogram) -> tuple[Floats, Floats]:
    """Where the elements lie, and their shares: middles of the bins that are not empty.

    That of bin 0 is zero, which every quantizer represents: activations are often exactly zero.
    """
    used = np.flatnonzero(histogram.counts)
    edges = histogram.edges
    return (edges[used] + edges[used + 1]) / 2, histogram.counts[used] / histogram.total
