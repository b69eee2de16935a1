"""Running errors of one tensor over all samples: nothing is kept but sums."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.numerics.scores import Hits, class_axis
from optc.numerics.stats import ErrorStats
from optc.numerics.values import is_floating

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from optc.numerics.values import Array

    _Sums = npt.NDArray[np.float64]

# A channel weaker than this, in power and against the mean of all, is a small difference of large
# terms, whose error says nothing: it is held against this much power instead.
WEAK: Final = 2.0**-6
_FEW: Final = 16
_ONE: Final = 2.0**-24  # no noise is below one rounding
TOP: Final = 5


class TensorError:
    """How far a tensor of B is from that of A.

    Attributes:
        stats: sums over all elements.
        problem: what is different besides the numbers; empty when nothing is.
        compared: whether the elements of all samples could be compared.
        dtype: element type in A; empty before the first sample.
        shape: shape in A of the first sample.
        exact: whether elements are integers, bools or strings, which are equal or not.

    Floating-point tensors of different types are compared: that is what lower precision is.
    """

    def __init__(self) -> None:
        self.stats = ErrorStats()
        self.problem = ""
        self.compared = True
        self.dtype = ""
        self.shape: tuple[int, ...] = ()
        self.exact = False

    def reject(self, problem: str) -> None:
        """Say why there is nothing to compare; no sample counts from then on."""
        self.problem = self.problem or problem
        self.compared = False

    def update(self, expected: Array, actual: Array) -> None:
        """Add a sample, unless it or one before cannot be compared."""
        if not self.dtype:
            self.dtype, self.shape = expected.dtype.name, expected.shape
            self.exact = not is_floating(expected) and expected.dtype.kind != "c"
        self._check(expected, actual)
        if not self.compared:
            return
        if self.exact:
            self.stats.count += expected.size
            self.stats.unequal += int(np.count_nonzero(expected != actual))
            return
        self.stats.update(expected, actual)
        self._add(expected, actual)

    def _add(self, expected: Array, actual: Array) -> None:
        """What subclasses sum up of floating-point samples."""

    def _check(self, a: Array, b: Array) -> None:
        texts = a.dtype.kind in "OUT" and b.dtype.kind in "OUT"
        if a.dtype != b.dtype and not texts:
            problem = f"{a.dtype.name} became {b.dtype.name}"
            if is_floating(a) and is_floating(b):
                self.problem = self.problem or problem
            else:
                self.reject(problem)
        if a.shape != b.shape:
            self.reject(f"shape {list(a.shape)} became {list(b.shape)}")

    @property
    def unequal(self) -> float:
        """Share of elements that are not equal."""
        return self.stats.unequal / self.stats.count if self.stats.count else 0.0

    @property
    def relative(self) -> float:
        """rms(error) / rms(expected); for exact elements the share of unequal ones."""
        stats = self.stats
        if self.exact:
            return self.unequal
        if not stats.rms_error:
            return 0.0
        return stats.rms_error / stats.rms_signal if stats.signal else math.inf


class OutputError(TensorError):
    """With the agreement of classes, where there is an axis of them (`optc.numerics.scores`)."""

    def __init__(self) -> None:
        super().__init__()
        self._hits: dict[int, Hits] = {}

    def _add(self, expected: Array, actual: Array) -> None:
        if expected.ndim < 2 or expected.dtype.kind == "c":
            return
        for top in (1, TOP):
            if expected.shape[class_axis(expected.ndim)] > top:
                hits = self._hits.setdefault(top, Hits(top))
                hits.update({"": expected}, {"": actual}, None)

    def agreement(self, top: int) -> float | None:
        """Share of positions where A's best class is among B's `top` best; None without classes."""
        return self._hits[top].compute() if top in self._hits else None


class LayerError(TensorError):
    """With the errors of each channel.

    Channels are taken along the second axis and along the last, where convolutions and matrix
    products have their outputs: an error in one weight is an error in one channel.
    """

    def __init__(self) -> None:
        super().__init__()
        self._channels: dict[int, tuple[_Sums, _Sums]] = {}

    def _add(self, expected: Array, actual: Array) -> None:
        if expected.ndim < 2 or expected.dtype.kind == "c" or not expected.size:
            return
        wide: Any = np.float64 if expected.dtype.itemsize > 4 else np.float32
        a: Array = expected.astype(wide, copy=False)
        b: Array = actual.astype(wide, copy=False)
        with np.errstate(all="ignore"):
            error = a - b
        usable = np.isfinite(error)
        if not usable.all():  # equal infinities, or what `stats` counts as misplaced
            error, a = np.where(usable, error, 0), np.where(usable, a, 0)
        for axis in {1, a.ndim - 1}:
            noise, signal = self._channels.get(axis, (np.zeros(0), np.zeros(0)))
            found = _add(noise, _power(error, axis)), _add(signal, _power(a, axis))
            self._channels[axis] = found

    def channels(self) -> dict[int, _Sums]:
        """Relative error of each channel, by axis."""
        found = {}
        for axis, (noise, signal) in self._channels.items():
            floor = float(signal.mean()) * WEAK
            if floor:
                found[axis] = np.sqrt(noise / np.maximum(signal, floor))
        return found

    @property
    def level(self) -> float:
        """As `relative`, of the channel where it is largest."""
        if self.stats.misplaced:
            return math.inf
        return max([self.relative, *(float(e.max()) for e in self.channels().values())])

    def excess(self, noise: LayerError, bound: float) -> float:
        """How many times as large as `noise` the error is for sure, in the worst channel.

        Noise of which there are few draws may be small by luck. So that of the whole tensor counts
        as if 16 more draws had given `bound`, and that of a channel as if 16 more had given what
        the noisiest channel shows.

        Args:
            noise: of the same tensor, in a model that is rounded differently.
            bound: relative error that rounding may make by derivation.
        """
        draws = noise.stats.count
        whole = math.sqrt(_tempered(noise.relative**2, draws, bound**2))
        noisy = max(noise.level, whole) ** 2

        def own(moved: _Sums) -> _Sums:
            tempered: _Sums = _tempered(moved**2, draws / len(moved), noisy)
            return np.maximum(np.sqrt(tempered), whole)

        return self._ratio(noise, whole, own)

    def possible_excess(self, noise: LayerError) -> float:
        """The same where few draws count as they are: how large the excess may be.

        A scale of which there is one per sample may have little noise by luck, and hands its error
        on to a tensor of many elements.
        """
        if self.exact:
            return math.inf if self.unequal else 0.0
        draws = noise.stats.count

        def own(moved: _Sums) -> _Sums:
            return moved if draws < _FEW * len(moved) else np.maximum(moved, noise.relative)

        return self._ratio(noise, noise.relative, own)

    @property
    def passed_on(self) -> float:
        """What of `relative` a layer that reads the tensor can have in its result by that alone."""
        return math.sqrt(self.unequal) if self.exact else self.relative

    def _ratio(self, noise: LayerError, whole: float, own: Callable[[_Sums], _Sums]) -> float:
        """The largest ratio of error and noise: of the whole tensor, of each channel."""
        if not math.isfinite(noise.level):
            return 0.0
        if self.stats.misplaced:
            return math.inf
        worst = self.relative / max(whole, _ONE)
        moved = noise.channels()
        for axis, errors in self.channels().items():
            if axis in moved:
                shared = min(len(errors), len(moved[axis]))
                scale = np.maximum(own(moved[axis])[:shared], _ONE)
                worst = max(worst, float((errors[:shared] / scale).max()))
        return worst


def _tempered(measured: Any, draws: float, prior: float) -> Any:
    """A variance measured from so many draws, moved towards one that is assumed."""
    return (measured * draws + prior * _FEW) / (draws + _FEW)


def _power(array: npt.NDArray[Any], axis: int) -> _Sums:
    """Sum of squares by index of an axis; in float64 without a copy of that size."""
    axes = list(range(array.ndim))
    result: _Sums = np.einsum(array, axes, array, axes, [axis], dtype=np.float64)
    return result


def _add(a: _Sums, b: _Sums) -> _Sums:
    """The sum, where the axis may have another length in each sample."""
    total = np.zeros(max(len(a), len(b)))
    total[: len(a)] += a
    total[: len(b)] += b
    return total
