"""Tensors behind handles: packing against onnx, lazy reading, digests."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.errors import ModelError
from optc.ir import DType, ExternalData, Tensor, TensorType

if TYPE_CHECKING:
    from pathlib import Path

NUMERIC = [d for d in DType if d not in (DType.UNDEFINED, DType.STRING)]


def sample(dtype: DType, shape: tuple[int, ...] = (3, 5)) -> np.ndarray:
    """Small integers, which every type holds: 0 and 1, and -1 or 2 where there is room."""
    count = int(np.prod(shape))
    values = np.arange(count) % 2
    if dtype not in (DType.BOOL, DType.F8E8M0, DType.I2) and dtype.bits > 2:
        values = np.arange(count) % 3
    if dtype is DType.F8E8M0:  # powers of two only
        values = values + 1
    return values.reshape(shape).astype(dtype.numpy)


@pytest.mark.parametrize("dtype", NUMERIC)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (8,)])
def test_arrays_survive(dtype: DType, shape: tuple[int, ...]) -> None:
    array = sample(dtype, shape)
    tensor = Tensor.from_numpy(array)
    assert (tensor.dtype, tensor.shape) == (dtype, shape)
    assert tensor.numpy().dtype == dtype.numpy
    assert tensor.numpy().tobytes() == array.tobytes()
    assert len(tensor.raw()) == tensor.nbytes == (array.size * dtype.bits + 7) // 8
    again = Tensor.from_raw(dtype, shape, tensor.raw())
    assert again.same_as(tensor)


@pytest.mark.parametrize("dtype", NUMERIC)
def test_packing_is_the_one_of_onnx(dtype: DType) -> None:
    array = sample(dtype)
    proto = onnx.numpy_helper.from_array(array)
    assert proto.data_type == dtype.onnx
    assert Tensor.from_numpy(array).raw() == proto.raw_data


@pytest.mark.parametrize("dtype", [DType.I2, DType.I4])
def test_small_signed_integers_keep_their_sign(dtype: DType) -> None:
    low = -(1 << (dtype.bits - 1))
    values = np.arange(low, -low).astype(dtype.numpy)
    assert Tensor.from_numpy(values).numpy().astype(int).tolist() == list(range(low, -low))


@given(st.binary(max_size=64))
def test_all_bytes_survive(raw: bytes) -> None:
    tensor = Tensor.from_raw(DType.U8, (len(raw),), raw)
    assert tensor.raw() == raw
    assert b"".join(bytes(chunk) for chunk in tensor.chunks()) == raw


def test_conversion_rounds_to_nearest_even() -> None:
    # bfloat16 has 8 significant bits: 1 + 2^-8 lies halfway between 1 and 1 + 2^-7.
    tensor = Tensor.from_numpy(np.array([1 + 2**-8, 1 + 3 * 2**-8]), DType.BF16)
    assert tensor.numpy().astype(float).tolist() == [1.0, 1 + 2**-6]


def test_lists_and_numbers_are_accepted() -> None:
    assert str(Tensor.from_numpy([1, 2]).type) == "i64[2]"
    assert str(Tensor.from_numpy(2.5).type) == "f64[]"
    assert str(Tensor.from_numpy([[1.0]], DType.F16).type) == "f16[1,1]"


def test_strings() -> None:
    tensor = Tensor.from_strings([b"a", b"\xff", b""], (3, 1))
    assert tensor.strings == (b"a", b"\xff", b"")
    assert tensor.numpy().tolist() == [[b"a"], [b"\xff"], [b""]]
    assert tensor.nbytes == 3
    from_text = Tensor.from_numpy(np.array(["a", "ö"]))
    assert from_text.strings == (b"a", "ö".encode())
    assert Tensor.from_numpy(np.array([b"a"], dtype=object)).strings == (b"a",)
    with pytest.raises(TypeError, match="no packed bytes"):
        list(tensor.chunks())


def test_strings_that_join_to_the_same_bytes_have_other_digests() -> None:
    one = Tensor.from_strings([b"ab", b"c"], (2,))
    other = Tensor.from_strings([b"a", b"bc"], (2,))
    assert one.digest != other.digest


def test_size_must_fit() -> None:
    with pytest.raises(ValueError, match=r"f32\[2\] needs 8 bytes, got 7"):
        Tensor.from_raw(DType.F32, (2,), b"x" * 7)
    with pytest.raises(ValueError, match=r"str\[2\] needs 2 strings, got 1"):
        Tensor.from_strings([b"a"], (2,))


def test_arrays_are_read_only_and_independent_of_what_they_came_from() -> None:
    source = np.zeros(3, np.float32)
    tensor = Tensor.from_numpy(source)
    source[0] = 1
    assert tensor.numpy().tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="read-only"):
        tensor.numpy()[0] = 1


def test_arrays_of_any_layout_are_stored_row_major() -> None:
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert Tensor.from_numpy(array.T).raw() == np.ascontiguousarray(array.T).tobytes()
    assert Tensor.from_numpy(array[:, ::-1]).numpy().tolist() == [[2, 1, 0], [5, 4, 3]]


def test_digest_is_over_type_shape_and_bytes() -> None:
    array = np.arange(6, dtype=np.float32)
    tensor = Tensor.from_numpy(array)
    assert tensor.digest == hashlib.sha256(b"f32[6]" + array.tobytes()).hexdigest()
    assert tensor.digest != Tensor.from_numpy(array.reshape(2, 3)).digest
    assert tensor.digest != Tensor.from_numpy(array.view(np.int32)).digest
    assert tensor.same_as(tensor)
    assert tensor.same_as(Tensor.from_numpy(array.copy()))
    assert not tensor.same_as(Tensor.from_numpy(-array))
    assert not tensor.same_as(Tensor.from_numpy(array.reshape(2, 3)))


def test_zeros_of_either_sign_are_not_the_same() -> None:
    zero, minus = (Tensor.from_numpy(np.array([x], np.float32)) for x in (0.0, -0.0))
    assert not zero.same_as(minus)


def test_small_is_at_most_four_kilobytes() -> None:
    assert Tensor.from_numpy(np.zeros(1024, np.float32)).is_small
    assert not Tensor.from_numpy(np.zeros(1025, np.float32)).is_small


# ---- external data -----------------------------------------------------------------------------


def external(path: Path, array: np.ndarray, offset: int = 0) -> Tensor:
    data = ExternalData(path, offset, array.nbytes)
    return Tensor.external(DType.from_numpy(array.dtype), array.shape, data)


def test_external_data_is_read_when_it_is_needed(tmp_path: Path) -> None:
    array = np.arange(1000, dtype=np.float32)
    path = tmp_path / "weights"
    tensor = external(path, array, offset=16)
    assert str(tensor.type) == "f32[1000]"
    path.write_bytes(b"\0" * 16 + array.tobytes() + b"\0" * 16)
    assert tensor.numpy().tolist() == array.tolist()
    assert tensor.digest == Tensor.from_numpy(array).digest
    assert tensor.same_as(Tensor.from_numpy(array))


def test_external_data_is_read_in_pieces(tmp_path: Path) -> None:
    array = np.arange(3 << 20, dtype=np.float32)  # 12 MiB
    path = tmp_path / "weights"
    array.tofile(path)
    chunks = list(external(path, array).chunks())
    assert len(chunks) == 3
    assert b"".join(chunks) == array.tobytes()


def test_external_data_that_is_gone_or_short(tmp_path: Path) -> None:
    array = np.zeros(10, np.float32)
    path = tmp_path / "weights"
    with pytest.raises(ModelError, match="cannot read") as missing:
        external(path, array).raw()
    assert missing.value.code == "external-data-unreadable"
    assert missing.value.location == str(path)
    path.write_bytes(b"\0" * 30)
    with pytest.raises(ModelError, match="the file ends 10 bytes before the tensor does") as short:
        external(path, array).raw()
    assert short.value.code == "external-data-truncated"


def test_repr_shows_the_type_only() -> None:
    assert repr(Tensor.from_numpy(np.zeros((2, 2)))) == "Tensor(f64[2,2])"
    assert Tensor.from_numpy([1]).type == TensorType(DType.I64, (1,))
