"""Runtime values: kinds of tensors, conversion of what the frontend reads."""

import ml_dtypes
import numpy as np
import pytest

from optc.ir.tensor import SparseTensor, Tensor
from optc.ir.types import DType
from optc.numerics.comparison import json_number
from optc.numerics.values import (
    float_tensors,
    from_datum,
    is_floating,
    is_small_integer,
    native,
)

KINDS = [dtype for dtype in DType if dtype is not DType.UNDEFINED]


@pytest.mark.parametrize("dtype", KINDS)
def test_floating_and_small_integer_types_are_told_apart(dtype: DType) -> None:
    array = np.zeros(1, dtype.numpy)
    assert is_floating(array) == dtype.is_float
    assert is_small_integer(array) == (dtype in (DType.U4, DType.I4, DType.U2, DType.I2))


def test_native_keeps_zero_dimensions_and_swaps_bytes() -> None:
    assert native(np.array(1.0)).shape == ()
    swapped = native(np.array([1, 2], dtype=">i4"))
    assert swapped.dtype.isnative
    assert swapped.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.5, 1.5), (np.inf, "inf"), (-np.inf, "-inf"), (np.nan, "nan")],
)
def test_json_numbers(value: float, expected: float | str) -> None:
    assert json_number(value) == expected


def test_float_tensors_are_found_inside_sequences() -> None:
    half = np.zeros(2, ml_dtypes.bfloat16)
    found = dict(float_tensors({"i": np.zeros(2, int), "s": [half, half.astype(int)], "n": None}))
    assert list(found) == ["s[0]"]
    assert found["s[0]"] is half


def test_what_the_frontend_reads_becomes_values() -> None:
    text = from_datum(Tensor.from_strings(["é".encode()], (1,)))
    assert isinstance(text, np.ndarray)
    assert text.tolist() == ["é"]
    floats = Tensor.from_numpy(np.array([1, 2], np.float32))
    sequence = from_datum((floats, None))
    assert isinstance(sequence, list)
    assert np.array_equal(np.asarray(sequence[0]), [1, 2])
    assert sequence[1] is None
    mapped = from_datum({b"a": floats, 3: None})
    assert isinstance(mapped, dict)
    assert list(mapped) == ["a", 3]


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]], ids=["linear", "coordinates"])
def test_sparse_tensors_become_dense(indices: list[int]) -> None:
    values = Tensor.from_numpy(np.array([7, 8], np.float32))
    dense = from_datum(SparseTensor(values, Tensor.from_numpy(np.array(indices)), (2, 3)))
    assert np.array_equal(np.asarray(dense), [[0, 7, 0], [0, 0, 8]])
