"""Element types against onnx's own tables; value types and shapes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper
import pytest

from optc.ir import (
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
)
from optc.ir.types import element_count, format_shape, static

KNOWN = [dtype for dtype in DType if dtype is not DType.UNDEFINED]


def test_every_element_type_of_onnx_is_there_under_its_number() -> None:
    numbers = dict(onnx.TensorProto.DataType.items())
    assert {dtype.onnx for dtype in DType} == set(numbers.values())
    for dtype in DType:
        assert DType.from_onnx(dtype.onnx) is dtype
    with pytest.raises(ValueError, match="unknown element type number 99"):
        DType.from_onnx(99)


@pytest.mark.parametrize("dtype", [d for d in KNOWN if d is not DType.STRING])
def test_numpy_types_agree_with_onnx(dtype: DType) -> None:
    assert dtype.numpy == onnx.helper.tensor_dtype_to_np_dtype(dtype.onnx)
    assert DType.from_numpy(dtype.numpy) is dtype


@pytest.mark.parametrize("dtype", ["S3", "U5", object])
def test_numpy_strings(dtype: str) -> None:
    assert DType.from_numpy(np.dtype(dtype)) is DType.STRING


@pytest.mark.parametrize("dtype", ["datetime64[s]", ">f4"])
def test_numpy_types_that_onnx_lacks(dtype: str) -> None:
    with pytest.raises(ValueError, match="ONNX has no element type for numpy"):
        DType.from_numpy(np.dtype(dtype))


def test_bits_and_families() -> None:
    assert {d for d in DType if d.bits < 8} == {
        DType.UNDEFINED,
        DType.STRING,
        DType.U4,
        DType.I4,
        DType.U2,
        DType.I2,
        DType.F4E2M1,
        DType.F6E2M3,
        DType.F6E3M2,
    }
    assert (DType.F32.bits, DType.BF16.bits, DType.I4.bits, DType.U2.bits) == (32, 16, 4, 2)
    assert {d for d in DType if not d.is_float and not d.is_integer} == {
        DType.UNDEFINED,
        DType.STRING,
        DType.BOOL,
        DType.C64,
        DType.C128,
    }
    assert DType.BF16.is_float
    assert not DType.BF16.is_integer
    assert DType.U2.is_integer
    assert DType.F6E3M2.is_float


@pytest.mark.parametrize(
    ("shape", "count", "is_static", "text"),
    [
        (None, None, False, "[*]"),
        ((), 1, True, "[]"),
        ((2, 3), 6, True, "[2,3]"),
        ((2, 0), 0, True, "[2,0]"),
        (("N", 3), None, False, "[N,3]"),
        ((None, 3), None, False, "[?,3]"),
        (("N", 0), 0, False, "[N,0]"),
    ],
)
def test_shapes(shape: Shape | None, count: int | None, is_static: bool, text: str) -> None:
    assert element_count(shape) == count
    assert static(shape) is is_static
    assert format_shape(shape) == text
    type = TensorType(DType.F32, shape)
    assert type.elements == count
    assert type.is_static is is_static
    assert type.rank == (None if shape is None else len(shape))
    assert str(type) == f"f32{text}"


def test_bytes_of_packed_types() -> None:
    assert TensorType(DType.I4, (3,)).nbytes == 2
    assert TensorType(DType.U2, (5,)).nbytes == 2
    assert TensorType(DType.F32, (3,)).nbytes == 12
    assert TensorType(DType.F32, ("N",)).nbytes is None
    assert TensorType(DType.STRING, (3,)).nbytes is None
    assert TensorType(DType.UNDEFINED, (3,)).nbytes is None


def test_denotations_are_carried_and_not_compared() -> None:
    plain = TensorType(DType.F32, (1,))
    marked = TensorType(DType.F32, (1,), "IMAGE", ("DATA_BATCH",))
    assert plain == marked
    assert hash(plain) == hash(marked)
    assert SequenceType(plain, "a") == SequenceType(plain, "b")


def test_type_texts() -> None:
    tensor = TensorType(DType.I64, ("N",))
    assert str(SequenceType(tensor)) == "seq(i64[N])"
    assert str(SequenceType(None)) == "seq(?)"
    assert str(OptionalType(SequenceType(tensor))) == "optional(seq(i64[N]))"
    assert str(MapType(DType.STRING, tensor)) == "map(str, i64[N])"
    assert str(SparseTensorType(DType.F32, (2,))) == "sparse(f32[2])"
    assert str(OpaqueType("d", "n")) == "opaque(d, n)"
