"""Statistics of the values of a graph over samples: gathered, added up, kept in files.

Statistics of two sets of samples add up to those of both, whatever the order, so calibration can be
split over processes and machines and taken up again. Memory does not grow with the samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from optc.numerics.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.numerics.values import Array

SUBSET: Final = 1 << 13
"""Elements of a value and sample that a histogram counts. Counting all of them takes several times
as long as computing them."""
_RUN: Final = 64  # elements in a row that the subset takes: whole cache lines


class Store(Protocol):
    """Keeps bytes under a key between runs; what it gives back may be damaged, and is checked."""

    def get(self, key: str) -> bytes | None:
        """What was put under this key, or None."""

    def put(self, key: str, content: bytes) -> None:
        """Keep `content` under `key`, in one step."""


@dataclass(frozen=True)
class ValueStatistics:
    """What is kept of one value.

    Attributes:
        samples: samples that had a finite element.
        low: least finite element.
        high: greatest finite element.
        low_sum: sum of the least elements of the samples.
        high_sum: sum of the greatest elements of the samples.
        histogram: of the finite elements; None when the method needs none. Extremes are then those
            of the elements counted.
    """

    samples: int = 0
    low: float = math.inf
    high: float = -math.inf
    low_sum: float = 0.0
    high_sum: float = 0.0
    histogram: Histogram | None = None

    @classmethod
    def of(cls, array: Array, *, count: bool) -> ValueStatistics:
        """The statistics of one sample.

        Args:
            array: the value, of numbers of any type.
            count: whether to count a subset for the histogram, instead of looking at all elements.
        """
        flat = _floating(array).reshape(-1)
        elements = thin(flat) if count else flat
        extremes = _extremes(elements)
        if extremes is None or not all(map(math.isfinite, extremes)):
            elements = elements[np.isfinite(elements)]
            extremes = _extremes(elements)
        if extremes is None:
            return cls(histogram=Histogram.empty() if count else None)
        low, high = extremes
        return cls(1, low, high, low, high, Histogram.of(elements) if count else None)

    def __add__(self, other: ValueStatistics) -> ValueStatistics:
        mine, others = self.histogram, other.histogram
        return ValueStatistics(
            self.samples + other.samples,
            min(self.low, other.low),
            max(self.high, other.high),
            self.low_sum + other.low_sum,
            self.high_sum + other.high_sum,
            mine + others if mine is not None and others is not None else mine or others,
        )


def statistics_of(arrays: Mapping[str, Array], *, count: bool) -> dict[str, ValueStatistics]:
    """The statistics of the values of one sample, by name; see `ValueStatistics.of`."""
    return {name: ValueStatistics.of(array, count=count) for name, array in arrays.items()}


def merged(
    one: Mapping[str, ValueStatistics], other: Mapping[str, ValueStatistics]
) -> dict[str, ValueStatistics]:
    """Statistics over the samples of both."""
    nothing = ValueStatistics()
    return {name: one.get(name, nothing) + other.get(name, nothing) for name in {**one, **other}}


def thin(flat: Array) -> Array:
    """About `SUBSET` elements, in runs that are evenly spread; all when there are few more.

    Which ones depends on their number alone, so that statistics do not depend on the order of
    samples. The distance of runs is odd: rows and channels of images have even sizes.
    """
    if flat.size < 2 * SUBSET:
        return flat
    distance = (flat.size * _RUN // SUBSET) | 1
    runs = (flat.size - _RUN) // distance + 1
    step = flat.itemsize
    window = np.lib.stride_tricks.as_strided(flat, (runs, _RUN), (distance * step, step))
    return window.reshape(-1)


def _floating(array: Array) -> Array:
    """The elements in float32 or, for float64 and integers beyond 24 bits, float64."""
    if array.dtype in (np.float32, np.float64):
        return np.ascontiguousarray(array)
    wide = array.dtype.kind in "iu" and array.dtype.itemsize > 2
    return array.astype(np.float64 if wide else np.float32)


def _extremes(elements: Array) -> tuple[float, float] | None:
    return (float(elements.min()), float(elements.max())) if elements.size else None
