"""Error sums against cases computed by hand."""

import math

import ml_dtypes
import numpy as np
import pytest

from optc.numerics import stats as module
from optc.numerics.stats import ErrorStats


def stats(expected: object, actual: object, dtype: type = np.float64) -> ErrorStats:
    found = ErrorStats()
    found.update(np.array(expected, dtype), np.array(actual, dtype))
    return found


def test_a_case_by_hand() -> None:
    found = stats([3, 4, 0], [3, 2, 1])
    assert (found.count, found.unequal, found.misplaced) == (3, 2, 0)
    assert found.signal == 25
    assert found.energy == 14
    assert found.product == 17
    assert found.noise == 5
    assert found.mean_abs_error == 1
    assert found.max_abs_error == 2
    assert found.peak_signal == 4
    assert found.worst == 1
    assert found.rms_error == math.sqrt(5 / 3)
    assert found.rms_signal == math.sqrt(25 / 3)
    assert found.sqnr == pytest.approx(10 * math.log10(5))
    assert found.cosine == pytest.approx(17 / math.sqrt(25 * 14))
    assert found.peak_relative == math.inf  # one against zero


def test_updates_add_up() -> None:
    found = stats([1, 2], [1, 3])
    found.update(np.array([5.0]), np.array([4.0]))
    assert (found.count, found.noise, found.peak_signal) == (3, 2, 5)
    assert found.mean_abs_error == pytest.approx(2 / 3)


def test_equal_arrays() -> None:
    found = stats([1, 2], [1, 2])
    assert (found.sqnr, found.cosine, found.unequal, found.worst) == (math.inf, 1, 0, -1)
    assert found.max_abs_error == found.mean_abs_error == found.peak_relative == 0


@pytest.mark.parametrize(
    ("expected", "actual", "sqnr", "cosine"),
    [([0, 0], [0, 0], math.inf, 1), ([0, 0], [0, 1], -math.inf, 0), ([1, 0], [0, 0], 0, 0)],
)
def test_zero_signals(
    expected: list[float], actual: list[float], sqnr: float, cosine: float
) -> None:
    found = stats(expected, actual)
    assert (found.sqnr, found.cosine) == (sqnr, cosine)


def test_opposite_vectors_have_cosine_minus_one() -> None:
    assert stats([3, 4], [-3, -4]).cosine == -1


def test_agreeing_nan_and_infinity_count_as_equal() -> None:
    found = stats([math.nan, math.inf, -math.inf, 1], [math.nan, math.inf, -math.inf, 2])
    assert (found.misplaced, found.unequal, found.noise, found.worst) == (0, 1, 1, 3)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [(math.nan, 1.0), (1.0, math.nan), (math.inf, -math.inf), (math.inf, math.nan), (1, math.inf)],
)
def test_misplaced_nan_and_infinity_make_every_figure_bad(expected: float, actual: float) -> None:
    found = stats([0, expected], [0, actual])
    assert (found.misplaced, found.worst) == (1, 1)
    assert found.max_abs_error == found.mean_abs_error == found.rms_error == math.inf
    assert found.sqnr == -math.inf
    assert math.isnan(found.cosine)


def test_no_elements_are_no_error() -> None:
    found = stats([], [])
    assert found.max_abs_error == found.mean_abs_error == found.rms_error == found.rms_signal == 0


def test_the_parts_of_complex_numbers_are_compared() -> None:
    found = stats([1 + 2j], [1 + 4j], np.complex64)
    assert (found.count, found.max_abs_error, found.worst) == (2, 2, 1)


def test_small_floats_are_compared_as_numbers() -> None:
    assert stats([1, 2], [1, 2.5], ml_dtypes.bfloat16).max_abs_error == 0.5


def test_long_arrays_are_taken_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, actual = np.arange(10.0), np.arange(10.0)
    actual[7] = 0
    whole = stats(expected, actual)
    monkeypatch.setattr(module, "_CHUNK", 3)
    assert stats(expected, actual) == whole
    assert whole.worst == 7
