"""Sums over pairs of expected and actual elements, from which errors and similarity follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from optc.numerics.values import Array

_CHUNK: Final = 1 << 14  # elements at a time: all temporaries stay in cache (seven times as fast)


@dataclass
class ErrorStats:
    """Running sums in float64 over all pairs seen.

    A pair where both are the same infinity, or both NaN, counts as equal and adds nothing. A pair
    where only one is finite, or the infinities differ, is `misplaced` and adds nothing else.

    Attributes:
        count: number of pairs.
        misplaced: pairs whose NaN or infinity do not agree.
        unequal: pairs that differ at all, misplaced ones included.
        signal: sum of squares of the expected elements.
        energy: sum of squares of the actual ones.
        product: sum of the products.
        noise: sum of squares of the differences.
        absolute: sum of the absolute differences.
        peak_error: largest absolute difference.
        peak_signal: largest absolute expected element.
        peak_relative: largest difference relative to its own expected element; infinite where
            that one is zero.
        worst: position of the largest difference, or of the last misplaced pair, row-major in the
            arrays of its update; -1 when there is none.
    """

    count: int = 0
    misplaced: int = 0
    unequal: int = 0
    signal: float = 0.0
    energy: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    absolute: float = 0.0
    peak_error: float = 0.0
    peak_signal: float = 0.0
    peak_relative: float = 0.0
    worst: int = -1

    def update(self, expected: Array, actual: Array) -> None:
        """Add all elements of two numeric arrays of the same shape."""
        for start, a, b in _chunks(expected, actual):
            with np.errstate(all="ignore"):
                self._add(start, a, b)

    def _add(self, start: int, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> None:
        self.count += a.size
        odd = ~(np.isfinite(a) & np.isfinite(b))
        if odd.any():
            agree = (a == b) | (np.isnan(a) & np.isnan(b))
            wrong = np.flatnonzero(odd & ~agree)
            self.misplaced += wrong.size
            self.unequal += wrong.size
            if wrong.size:
                self.worst = start + int(wrong[-1])
            a, b = np.where(odd, 0.0, a), np.where(odd, 0.0, b)
        error = np.abs(a - b)
        magnitude = np.abs(a)
        self.unequal += int(np.count_nonzero(error))
        # Not dot products: BLAS would start threads for so little.
        self.signal += float((a * a).sum())
        self.energy += float((b * b).sum())
        self.product += float((a * b).sum())
        self.noise += float((error * error).sum())
        self.absolute += float(error.sum())
        self.peak_signal = max(self.peak_signal, float(magnitude.max(initial=0.0)))
        where = int(error.argmax()) if error.size else 0
        if error.size and error[where] > self.peak_error:
            self.peak_error = float(error[where])
            if not self.misplaced:
                self.worst = start + where
        differing = error > 0
        if differing.any():
            relative = float((error[differing] / magnitude[differing]).max())
            self.peak_relative = max(self.peak_relative, relative)

    @property
    def mean_abs_error(self) -> float:
        """Mean absolute difference; infinite when a pair is misplaced."""
        if self.misplaced:
            return math.inf
        return self.absolute / self.count if self.count else 0.0

    @property
    def max_abs_error(self) -> float:
        """Largest absolute difference; infinite when a pair is misplaced."""
        return math.inf if self.misplaced else self.peak_error

    @property
    def rms_error(self) -> float:
        """Root of the mean squared difference; infinite when a pair is misplaced."""
        if self.misplaced:
            return math.inf
        return math.sqrt(self.noise / self.count) if self.count else 0.0

    @property
    def rms_signal(self) -> float:
        """Root of the mean square of the expected elements."""
        return math.sqrt(self.signal / self.count) if self.count else 0.0

    @property
    def sqnr(self) -> float:
        """Signal-to-quantization-noise ratio in dB: 10 log10(sum expected² / sum difference²).

        Infinite without any difference; minus infinity for a difference from a signal of zero,
        and when a pair is misplaced.
        """
        if self.misplaced:
            return -math.inf
        if self.noise == 0.0:
            return math.inf
        return 10.0 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two, as vectors over all elements.

        1 when both are zero, 0 when one is; NaN when a pair is misplaced.
        """
        if self.misplaced:
            return math.nan
        norm = math.sqrt(self.signal) * math.sqrt(self.energy)
        if norm == 0.0:
            return 1.0 if self.signal == self.energy else 0.0
        return max(-1.0, min(1.0, self.product / norm)) if self.noise else 1.0


def _chunks(
    expected: Array, actual: Array
) -> Iterator[tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    a, b = _flat(expected), _flat(actual)
    for start in range(0, a.size, _CHUNK):
        stop = start + _CHUNK
        yield start, a[start:stop].astype(np.float64), b[start:stop].astype(np.float64)


def _flat(array: Array) -> npt.NDArray[Any]:
    """All elements in a row; a complex one is two, so that each part is compared."""
    flat = np.asarray(array, order="C").reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat
