"""Bounds: their derivation, the recipe's, and widening by measured noise."""

import math

import pytest

from optc.numerics.tolerance import EXACT, Noise, Tolerance

U = 2.0**-24


def test_fp32_grows_with_the_square_root_of_the_roundings() -> None:
    bound = Tolerance.for_fp32(10_000)
    assert bound.relative == pytest.approx(4 * U * 100)  # 2.4e-5
    assert bound.peak == pytest.approx(8 * bound.relative)
    assert bound.absolute == 2.0**-126
    assert bound.flips == 0
    assert bound.reason == "10000 roundings in float32"


def test_there_is_at_least_one_rounding() -> None:
    assert Tolerance.for_fp32(0).relative == 4 * U


def test_a_floor_is_an_absolute_error() -> None:
    assert Tolerance.from_variance(U**2, floor=1e-6).absolute == 1e-6


def test_bounds_of_the_recipe_replace_derived_ones() -> None:
    derived = Tolerance.for_fp32(100)
    assert derived.with_bounds() is derived
    given = derived.with_bounds(rtol=1e-3)
    assert (given.relative, given.peak, given.absolute) == (1e-3, 1e-3, derived.absolute)
    given = derived.with_bounds(atol=1e-2)
    assert (given.relative, given.peak, given.absolute) == (derived.relative, derived.peak, 1e-2)
    assert given.reason == "given by the recipe"


def test_the_loosest_of_two_takes_the_larger_bound_each() -> None:
    first, second = Tolerance(1e-5, 1e-3, 0, reason="a"), Tolerance(1e-4, 1e-4, 1e-6, reason="b")
    assert first.loosest(second) == Tolerance(1e-4, 1e-3, 1e-6, reason="b")


def test_noise_widens_by_a_factor_of_four() -> None:
    bound = Tolerance(1e-5, 1e-4, reason="derived").widened(Noise(1e-5, 2e-6, flips=0.001))
    assert bound.relative == pytest.approx(4e-5)
    assert bound.peak == 1e-4
    assert bound.flips == pytest.approx(0.004)
    assert bound.reason == "derived; widened to 4 times the source's own noise"


def test_small_noise_changes_nothing() -> None:
    bound = Tolerance(1e-5, 1e-4)
    assert bound.widened(Noise(1e-6, 1e-6)) is bound


def test_noise_widens_within_limits() -> None:
    bound = EXACT.widened(Noise(math.inf, 0.5, flips=0.9))
    assert (bound.relative, bound.peak, bound.flips) == (2.0**-5, 2.0**-4, 2.0**-5)


def test_an_unstable_output_is_not_compared() -> None:
    assert not EXACT.widened(Noise(stable=False)).stable
