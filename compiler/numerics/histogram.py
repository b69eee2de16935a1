"""Histograms whose bins have power-of-two widths, so that they can be added up exactly.

    bin i counts the x with  trunc(x / 2^e) = i        |i| < 2^11

The exponent e is the least one with which all elements fit: it follows from the greatest magnitude
alone. When that grows, bins are merged: trunc(trunc(x / 2^e) / 2) = trunc(x / 2^(e + 1)). All of
it is exact (what underflows is in bin 0), so addition is associative and commutative, and the
histogram of a data set does not depend on its order or on how it was split. Bin 0 is twice as wide
as the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from optc.numerics.values import Array

MAGNITUDE_BITS: Final = 11
"""Bins per sign as a power of two: between 1024 and 2048 of them are in use on the longer side,
as many as TensorRT's calibration has."""
BINS: Final = (2 << MAGNITUDE_BITS) - 1
ZERO_BIN: Final = BINS // 2
"""Index of bin 0."""
_LEAST_EXPONENT: Final = -112  # 2^112 scales any float32 without overflow of what stays below it
_CHUNK: Final = 1 << 14  # elements that stay in the second-level cache with their indices

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Histogram:
    """How often elements fall into each bin.

    Attributes:
        exponent: e above.
        counts: `BINS` numbers; bin 0 is at `ZERO_BIN`.
    """

    exponent: int
    counts: Counts

    @classmethod
    def empty(cls) -> Histogram:
        """The neutral element of addition."""
        return cls(_LEAST_EXPONENT, np.zeros(BINS, np.int64))

    @classmethod
    def of(cls, elements: Array) -> Histogram:
        """The histogram of finite floating-point elements, in one dimension."""
        if not elements.size:
            return cls.empty()
        greatest = max(abs(float(elements.min())), abs(float(elements.max())))
        exponent = _exponent(greatest)
        scale = elements.dtype.type(math.ldexp(1.0, -exponent))
        counts = np.zeros(BINS, np.int64)
        for start in range(0, elements.size, _CHUNK):
            indices = (elements[start : start + _CHUNK] * scale).astype(np.int64)
            indices += ZERO_BIN
            counts += np.bincount(indices, minlength=BINS)
        return cls(exponent, counts)

    def __add__(self, other: Histogram) -> Histogram:
        exponent = max(self.exponent, other.exponent)
        mine, others = self._at(exponent), other._at(exponent)
        return Histogram(exponent, mine + others)

    def _at(self, exponent: int) -> Counts:
        """The counts with wider bins."""
        shift = exponent - self.exponent
        if not shift:
            return self.counts
        used = np.flatnonzero(self.counts)
        bins = np.trunc(np.ldexp(used - float(ZERO_BIN), -shift)).astype(np.int64)
        merged = np.zeros(BINS, np.int64)
        np.add.at(merged, bins + ZERO_BIN, self.counts[used])
        return merged

    @property
    def total(self) -> int:
        """Number of elements."""
        return int(self.counts.sum())

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Where the bins begin and end: one number more than bins."""
        steps = np.arange(BINS + 1, dtype=np.float64) - (ZERO_BIN + 1)
        steps[ZERO_BIN + 1 :] += 1
        return np.ldexp(steps, self.exponent)

    @property
    def magnitudes(self) -> Counts:
        """Counts of the magnitudes, from zero up."""
        folded = self.counts[ZERO_BIN:].copy()
        folded[1:] += self.counts[:ZERO_BIN][::-1]
        return folded


def _exponent(greatest: float) -> int:
    """The least e with ``|x| / 2^e < 2^11`` for all ``|x| <= greatest``."""
    if not greatest:
        return _LEAST_EXPONENT
    return max(math.frexp(greatest)[1] - MAGNITUDE_BITS, _LEAST_EXPONENT)
