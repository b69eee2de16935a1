"""Ranges from histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from optc.ir import DType
from optc.numerics.histogram import Histogram
from optc.numerics.quantize import activation_params
from optc.numerics.ranges import Range, entropy_range, mse_range, percentile_range

if TYPE_CHECKING:
    from optc.numerics.values import Array


def normal(size: int = 200_000, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def seen(numbers: Array) -> Range:
    return Range(float(numbers.min()), float(numbers.max()))


def quantization_error(numbers: Array, found: Range, bits: int = 8) -> float:
    """Mean squared error of quantizing to unsigned integers with a zero point."""
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    step = (high - low) / (2**bits - 1)
    zero = np.rint(-low / step)
    levels = np.clip(np.rint(numbers / step) + zero, 0, 2**bits - 1)
    return float(np.mean(np.square((levels - zero) * step - numbers, dtype=np.float64)))


@pytest.mark.parametrize("percent", [80.0, 99.0, 99.9])
def test_percentile_is_that_of_the_elements(percent: float) -> None:
    numbers = normal()
    found = percentile_range(Histogram.of(numbers), percent)
    cut = (100 - percent) / 2
    expected = np.percentile(numbers, [cut, 100 - cut])
    # Bins are a 1024th of the greatest magnitude wide or less.
    width = Histogram.of(numbers).width
    assert abs(found.low - expected[0]) <= width
    assert abs(found.high - expected[1]) <= width


def test_all_percent_hold_everything() -> None:
    numbers = normal(1000)
    found = percentile_range(Histogram.of(numbers), 100)
    width = Histogram.of(numbers).width
    assert numbers.min() - width <= found.low <= numbers.min()
    assert numbers.max() <= found.high <= numbers.max() + width


def test_percentile_of_a_value_that_is_mostly_zero() -> None:
    numbers = np.zeros(10_000, np.float32)
    numbers[:5] = 8.0
    found = percentile_range(Histogram.of(numbers), 99.0)
    width = Histogram.of(numbers).width
    assert -width <= found.low <= found.high <= width
    assert found.clip(seen(numbers)).low == 0


def test_percentile_of_a_constant() -> None:
    numbers = np.full(100, -2.5, np.float32)
    width = Histogram.of(numbers).width
    found = percentile_range(Histogram.of(numbers), 99.0)
    assert -2.5 - width <= found.low <= found.high <= -2.5
    assert found.clip(seen(numbers)) == Range(-2.5, -2.5)


def test_entropy_cuts_an_outlier_and_keeps_the_bulk() -> None:
    numbers = np.append(normal(), np.float32(40.0))
    found = entropy_range(Histogram.of(numbers), seen(numbers), 8)
    assert 3.0 < found.high < 8.0
    assert -8.0 < found.low <= numbers.min() * 0.7
    signless = np.abs(numbers)
    found = entropy_range(Histogram.of(signless), seen(signless), 8)
    assert found.low == pytest.approx(signless.min())
    # 256 levels want 256 bins, of a width of 2^-5 here.
    assert 3.0 < found.high <= 8.0


def test_entropy_keeps_an_even_distribution_whole() -> None:
    """Clipping an even distribution moves mass to the end: the range stays, within its grid."""
    numbers = np.random.default_rng(0).uniform(-1, 1, 200_000).astype(np.float32)
    found = entropy_range(Histogram.of(numbers), seen(numbers), 8)
    assert found.high > 0.97
    assert found.low < -0.97


@pytest.mark.parametrize("numbers", [[0.0], [1.0], [-1.0, 1.0], [0.0, 1e-6, 1e6]])
def test_entropy_of_few_values_is_finite(numbers: list[float]) -> None:
    array = np.array(numbers, np.float32)
    found = entropy_range(Histogram.of(array), seen(array), 8)
    assert array.min() <= found.low <= found.high <= array.max()


@pytest.mark.parametrize("symmetric", [False, True])
def test_mse_is_better_than_all_that_was_seen(symmetric: bool) -> None:
    numbers = np.append(normal(), np.float32(20.0))
    found = mse_range(Histogram.of(numbers), seen(numbers), 8, symmetric)
    whole = seen(numbers)
    if symmetric:
        found, whole = (Range(-max(-r.low, r.high), max(-r.low, r.high)) for r in (found, whole))
    assert quantization_error(numbers, found) < 0.8 * quantization_error(numbers, whole)


def test_mse_has_the_least_error_on_its_grid() -> None:
    """On the elements themselves, not on the histogram that the method sees."""
    numbers = normal()
    found = mse_range(Histogram.of(numbers), seen(numbers), 4, symmetric=False)
    ours = quantization_error(numbers, found, 4)
    ratios = np.linspace(0.2, 1.0, 33)
    both = [Range(seen(numbers).low * r, seen(numbers).high * r) for r in ratios]
    # 1 %: bins stand for their middles; the errors differ by up to width^2 / 12 (1e-6 here), and
    # where elements fall on either side of a rounding boundary.
    assert ours <= 1.01 * min(quantization_error(numbers, item, 4) for item in both)


@pytest.mark.parametrize("sign", [1, -1])
def test_mse_of_a_symmetric_quantizer_has_the_least_error_that_it_makes(sign: int) -> None:
    """With the steps and the limits of `activation_params`; only the far end is clipped."""
    numbers = sign * np.append(normal(), np.float32(12.0))
    numbers = numbers[sign * numbers > -1.5]
    whole = seen(numbers)
    found = mse_range(Histogram.of(numbers), whole, 4, symmetric=True)

    def error(limits: Range) -> float:
        params = activation_params(limits.low, limits.high, DType.I8, symmetric=True, bits=4)
        step = params.scales[0]
        levels = np.clip(np.rint(numbers / step), -8, 7)
        return float(np.mean(np.square(levels * step - numbers, dtype=np.float64)))

    tried = [Range(-12.0 * r, 12.0 * r).clip(whole) for r in np.linspace(0.1, 1.0, 91)]
    # 1 %: as above, bins stand for their middles.
    assert error(found) <= 1.01 * min(error(item) for item in tried)
    near, far = (found.low, found.high) if sign > 0 else (found.high, found.low)
    assert near == (whole.low if sign > 0 else whole.high)
    assert abs(far) < 6.0


def test_mse_keeps_an_outlier_that_carries_the_signal() -> None:
    numbers = np.concatenate([np.zeros(1000), np.full(500, 10.0)]).astype(np.float32)
    found = mse_range(Histogram.of(numbers), seen(numbers), 8, symmetric=False)
    assert found.high == pytest.approx(10.0, rel=0.02)
