"""Random tensors: the same everywhere, and of the right distribution."""

import hashlib

import numpy as np
import pytest

from optc.ir.types import DType
from optc.numerics.draw import draw_bell, draw_range, draw_strings, integer_limits

FLOATS = [dtype for dtype in DType if dtype.is_float]
INTEGERS = [dtype for dtype in DType if dtype.is_integer]


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def test_the_bytes_are_fixed_for_ever() -> None:
    """Another value here means that every verification on seeded inputs sees other inputs."""
    assert digest(draw_bell("s", DType.F32, (1000,))) == "6694561df5a3cf26"
    assert digest(draw_bell("s", DType.BF16, (1000,))) == "b2fdee5928f5047f"
    assert digest(draw_range("s", DType.F32, (1000,), -1.5, 2.5)) == "49ce1a562eb3c884"
    assert digest(draw_range("s", DType.I64, (1000,), -3, 1000)) == "8fff0cd88fa2edc9"
    assert "|".join(draw_strings("s", (6,)).tolist()) == "optc|a|two words|a|0|a"


def test_streams_are_independent() -> None:
    first, second = draw_bell("a", DType.F64, (10000,)), draw_bell("b", DType.F64, (10000,))
    # The correlation of independent samples has standard deviation 1/sqrt(10000).
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_the_bell_has_mean_zero_deviation_one_and_bounded_tails() -> None:
    values = draw_bell("s", DType.F64, (200_000,))
    # Standard errors: 1/sqrt(n) = 0.0022 of the mean, 1/sqrt(2n) = 0.0016 of the deviation.
    assert abs(values.mean()) < 0.01
    assert abs(values.std() - 1) < 0.01
    assert np.abs(values).max() < 6
    assert len(np.unique(values)) > 100_000


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 4)])
def test_every_float_type_has_finite_values(dtype: DType, shape: tuple[int, ...]) -> None:
    array = draw_bell("s", dtype, shape)
    assert array.dtype == dtype.numpy
    assert array.shape == shape
    assert np.isfinite(array.astype(np.float64)).all()


@pytest.mark.parametrize("dtype", [DType.C64, DType.C128])
def test_complex_numbers_have_independent_parts(dtype: DType) -> None:
    array = draw_bell("s", dtype, (100,))
    assert array.dtype == dtype.numpy
    assert not np.array_equal(array.real, array.imag)


@pytest.mark.parametrize("dtype", [*INTEGERS, DType.BOOL])
def test_integers_cover_their_whole_range(dtype: DType) -> None:
    low, high = integer_limits(dtype)
    array = draw_range("s", dtype, (4000,), low, high)
    assert array.dtype == dtype.numpy
    found = {int(item) for item in array.tolist()}
    if dtype.bits <= 8:  # 4000 draws miss one of 256 values with probability 4e-5
        assert found == set(range(low, high + 1))
    else:
        assert min(found) < low + (high - low) * 0.01
        assert max(found) > high - (high - low) * 0.01


def test_both_ends_of_an_integer_range_are_included() -> None:
    assert set(draw_range("s", DType.I32, (100,), -1, 2).tolist()) == {-1, 0, 1, 2}
    assert draw_range("s", DType.U64, (2,), 2**64 - 1, 2**64 - 1).tolist() == [2**64 - 1] * 2


def test_a_float_range_is_even_and_may_be_one_point() -> None:
    values = draw_range("s", DType.F32, (10000,), 2, 6)
    assert values.min() >= 2
    assert values.max() <= 6
    assert abs(values.mean() - 4) < 0.06  # standard error 4 / sqrt(12 * 10000) = 0.012
    assert draw_range("s", DType.F16, (3,), 0, 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("dtype", "low", "high", "message"),
    [
        (DType.F32, 2, 1, "2 to 1 is not a range"),
        (DType.F32, 0, float("inf"), "0 to inf is not a range"),
        (DType.U8, -1, 3, r"-1 to 3 are not both integers from 0 to 255 \(u8\)"),
        (DType.I64, 0, 0.5, "0 to 0.5 are not both integers from"),
        (DType.STRING, 0, 1, "elements of type str have no range"),
    ],
)
def test_a_range_must_fit_the_type(dtype: DType, low: float, high: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_range("s", dtype, (2,), low, high)


def test_strings_include_the_empty_and_the_foreign_one() -> None:
    found = set(draw_strings("s", (10, 20)).reshape(-1).tolist())
    assert {"", "naïve"} <= found
