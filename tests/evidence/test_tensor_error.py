"""Errors of one tensor over samples: what is summed, what is refused, what counts as noise."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from optc.evidence.tensor_error import LayerError, OutputError, TensorError


def measured(*samples: tuple[object, object]) -> LayerError:
    error = LayerError()
    for a, b in samples:
        error.update(np.asarray(a), np.asarray(b))
    return error


def test_the_worst_channel_shows_what_the_whole_tensor_hides() -> None:
    expected = np.ones((1, 64, 8, 8), np.float32)
    actual = expected.copy()
    actual[0, 5] += 1e-3
    error = measured((expected, actual))
    assert error.relative == pytest.approx(1e-3 / 8, rel=1e-3)
    assert error.level == pytest.approx(1e-3, rel=1e-3)


def test_channels_lie_along_the_last_axis_too() -> None:
    expected = np.ones((1, 7, 64), np.float32)
    actual = expected.copy()
    actual[..., 3] += 1e-3
    assert measured((expected, actual)).level == pytest.approx(1e-3, rel=1e-3)


def test_a_weak_channel_is_held_against_an_eighth_of_the_others() -> None:
    expected = np.ones((1, 64, 4, 4), np.float32)
    expected[0, 5] = 0.0
    actual = expected.copy()
    actual[0, 5] = 1e-3
    assert measured((expected, actual)).level == pytest.approx(8e-3, rel=0.02)


def test_samples_of_other_lengths_add_up() -> None:
    error = measured(
        (np.ones((1, 3, 4), np.float32), np.ones((1, 3, 4), np.float32)),
        (np.ones((1, 5, 4), np.float32), np.full((1, 5, 4), 1.5, np.float32)),
    )
    assert error.stats.count == 32
    assert error.level == pytest.approx(0.5)


def test_integers_are_equal_or_not() -> None:
    error = measured(([1, 2, 3, 4], [1, 2, 3, 5]))
    assert error.exact
    assert (error.unequal, error.relative, error.level) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("a", "b", "problem"),
    [
        (np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32), "shape [2, 3] became [3, 2]"),
        (np.zeros(2, np.float32), np.zeros(2, np.int8), "float32 became int8"),
        (np.zeros(2, np.int64), np.zeros(2, np.int32), "int64 became int32"),
    ],
)
def test_what_cannot_be_compared_says_why(a: object, b: object, problem: str) -> None:
    error = measured((a, b), (np.ones(2), np.ones(2)))
    assert (error.compared, error.problem) == (False, problem)
    assert error.stats.count == 0


@pytest.mark.parametrize("kind", [OutputError, LayerError])
def test_another_float_type_is_compared_and_said(kind: type[TensorError]) -> None:
    error = kind()
    error.update(np.array([1.0, 2.0], np.float32), np.array([1.0, 2.0], ml_dtypes.bfloat16))
    assert (error.compared, error.problem) == (True, "float32 became bfloat16")
    assert error.relative == 0.0


def test_nan_at_another_place_is_an_infinite_error() -> None:
    error = measured((np.ones((1, 2), np.float32), np.array([[1, np.nan]], np.float32)))
    assert error.level == math.inf
    same = measured((np.array([[1, np.nan, np.inf]]), np.array([[1, np.nan, np.inf]])))
    assert same.level == 0.0


def test_the_excess_is_that_of_the_worst_channel() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((1, 32, 30, 30)).astype(np.float32)
    noise = measured((a, a + 1e-6 * rng.standard_normal(a.shape).astype(np.float32)))
    same = measured((a, a + 1e-6 * rng.standard_normal(a.shape).astype(np.float32)))
    assert same.excess(noise, 1e-6) == pytest.approx(1.0, abs=0.3)
    wrong = a.copy()
    wrong[0, 3] *= 1 + 5e-5
    assert measured((a, wrong)).excess(noise, 1e-6) == pytest.approx(50, rel=0.2)


def test_little_noise_in_few_draws_is_luck() -> None:
    a = np.ones((1, 1), np.float32)
    lucky, error = measured((a, a)), measured((a, a + np.float32(1e-6)))
    assert error.excess(lucky, 1e-6) < 1.2
    assert error.possible_excess(lucky) > 10


def test_where_the_reference_is_not_finite_nothing_is_in_excess() -> None:
    a = np.ones((1, 4), np.float32)
    wild = measured((a, np.full((1, 4), np.nan, np.float32)))
    assert wild.excess(wild, 1e-6) == 0.0
    assert wild.excess(measured((a, a)), 1e-6) == math.inf
