"""How much two results may differ, derived from the arithmetic and not guessed.

Rounding errors are independent and of either sign, so they add like a random walk: after n
roundings of unit roundoff u, the error is about u sqrt(n) of the values' own size. How n is counted
in a graph, and what smaller types add, is in `optc.numerics.roundings`.

The error is measured against the size of the whole output, not against each element: an element
that is a small difference of large terms carries their error, in the source model as well. Two
bounds hold, the root mean square of the error against that of the output, and the largest error
against the largest element.

    relative = 4 u sqrt(n)     4: two results that differ from the exact one (sqrt 2), and layers
                               that amplify what comes in (measured up to 2.5 on real networks)
    peak     = 8 relative      the largest of 10^9 normal errors is 6 standard deviations

An output of zeros has no size: it may be off by `absolute`, the smallest normal float32, or a few
units of 1 where the last operation works on that scale.

What the derivation cannot know is how much a model amplifies: a steep sigmoid turns 1e-6 into
1e-4. So when an output misses its bound, the source model itself is run with other roundings
(`optc.numerics.noise`), and `Tolerance.widened` takes what was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

_SAFETY: Final = 4.0
_PEAK: Final = 8.0
_NOISE_FACTOR: Final = 4.0  # two more draws from the distribution that the noise is one draw of
# Beyond these a bound would accept wrong results. Quantized models come closest: onnxruntime's
# integer kernels round some elements to the neighbouring step, 1 % of the output on real networks.
_NOISE_LIMIT: Final = 2.0**-5
_PEAK_LIMIT: Final = 2.0**-4
# The same for results in bfloat16: an output that has nothing to do with the expected one is off by
# as much as all of it, or more.
_BF16_LIMIT: Final = 2.0**-1
_BF16_PEAK_LIMIT: Final = 1.0
_FP32: Final = 2.0**-24
_SMALLEST: Final = 2.0**-126  # float32 below this is subnormal, which kernels may flush to zero


@dataclass(frozen=True)
class Noise:
    """How far the source model's own result moves when it is rounded differently.

    Attributes:
        relative: root mean square of the difference, relative to that of the output.
        peak: largest difference, relative to the largest element.
        flips: share of integer, bool or string elements that change.
        stable: False when even the shape of the output changes.
    """

    relative: float = 0.0
    peak: float = 0.0
    flips: float = 0.0
    stable: bool = True


@dataclass(frozen=True)
class Tolerance:
    """Bounds on the difference of an output from what is expected.

    Attributes:
        relative: bound on rms(error) / rms(expected).
        peak: bound on max |error| / max |expected|.
        absolute: an error up to this is accepted whatever the output's size; same unit as it.
        flips: share of the elements of integer, bool and string outputs that may differ.
        stable: False leaves values and shape out of the comparison: the source does not agree
            with itself on them.
        reason: where the bounds come from.
    """

    relative: float = 0.0
    peak: float = 0.0
    absolute: float = 0.0
    flips: float = 0.0
    stable: bool = True
    reason: str = "exact"

    @classmethod
    def for_fp32(cls, roundings: float) -> Tolerance:
        """For rewrites that are exact but for `roundings` roundings in float32."""
        return cls.from_variance(roundings * _FP32**2)

    @classmethod
    def from_variance(cls, variance: float, *, floor: float = 0.0) -> Tolerance:
        """For results whose relative rounding error has this variance.

        Args:
            variance: sum of u² over the roundings; see `optc.numerics.roundings`.
            floor: absolute error that the last operation may add, e.g. a Sigmoid.
        """
        relative = _SAFETY * math.sqrt(max(variance, _FP32**2))
        return cls(
            relative=relative,
            peak=_PEAK * relative,
            absolute=max(floor, _SMALLEST),
            reason=f"{variance / _FP32**2:.0f} roundings in float32",
        )

    def loosest(self, other: Tolerance) -> Tolerance:
        """The larger of both bounds, each."""
        return replace(
            self if self.relative >= other.relative else other,
            relative=max(self.relative, other.relative),
            peak=max(self.peak, other.peak),
            absolute=max(self.absolute, other.absolute),
            flips=max(self.flips, other.flips),
            stable=self.stable and other.stable,
        )

    def with_bounds(self, *, rtol: float | None = None, atol: float | None = None) -> Tolerance:
        """With the bounds of a recipe in place of the derived ones, as far as they are given."""
        if rtol is None and atol is None:
            return self
        relative = self.relative if rtol is None else rtol
        return replace(
            self,
            relative=relative,
            peak=self.peak if rtol is None else rtol,
            absolute=self.absolute if atol is None else atol,
            reason="given by the recipe",
        )

    def widened(self, noise: Noise, *, bf16: bool = False) -> Tolerance:
        """At least four times the measured noise of the source model, within reason.

        Args:
            noise: what was measured.
            bf16: whether that is with roundings in bfloat16.

        Integer results such as ArgMax jump where two candidates are nearly equal. They may differ
        on four times the share of elements that jump in the source model itself; on none if none
        does.
        """
        most, most_peak = (_BF16_LIMIT, _BF16_PEAK_LIMIT) if bf16 else (_NOISE_LIMIT, _PEAK_LIMIT)
        relative = min(_NOISE_FACTOR * noise.relative, most)
        peak = min(_NOISE_FACTOR * noise.peak, most_peak)
        flips = min(_NOISE_FACTOR * noise.flips, most)
        wider = (relative > self.relative, peak > self.peak, flips > self.flips, not noise.stable)
        if not any(wider):
            return self
        return replace(
            self,
            relative=max(self.relative, relative),
            peak=max(self.peak, peak),
            flips=max(self.flips, flips),
            stable=self.stable and noise.stable,
            reason=f"{self.reason}; widened to {_NOISE_FACTOR:g} times the source's own noise",
        )


EXACT: Final = Tolerance()
"""No difference at all."""
