"""Constant data behind a handle: shape, type and digest are at hand, bytes are read when asked for.

A handle never keeps what it reads from a file: a model larger than memory can be imported,
rewritten and emitted tensor by tensor. Raw bytes are little-endian, row-major, and types below
eight bits are packed, lowest bits first (ONNX IR specification, TensorProto.raw_data).
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from optc.errors import ModelError
from optc.ir.types import DType, TensorType, element_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from optc.ir.types import Shape

_CHUNK = 1 << 22
_SMALL = 1 << 12

if sys.byteorder != "little":  # pragma: no cover - Xeon is little-endian
    raise ImportError("optc reads raw tensor bytes as they are and needs a little-endian machine")


@dataclass(frozen=True, slots=True)
class ExternalData:
    """A byte range of a file that holds one tensor.

    Attributes:
        path: the file; already checked to lie inside the model's folder.
        offset: first byte.
        length: number of bytes.
        stamp: identity of the file when it was checked; None to read whatever is there.
    """

    path: Path
    offset: int
    length: int
    stamp: tuple[int, ...] | None = None

    @classmethod
    def whole(cls, path: Path) -> ExternalData:
        """All of a file, as it is now; OSError when it cannot be read."""
        status = path.stat()
        return cls(path, 0, status.st_size, _stamp(status))

    def chunks(self) -> Iterator[bytes]:
        """The bytes, a few megabytes at a time.

        Raises:
            ModelError: the file is gone, changed, or shorter than it was.
        """
        left = self.length
        try:
            with self.path.open("rb") as file:
                self._check_unchanged(os.fstat(file.fileno()))
                file.seek(self.offset)
                while left:
                    chunk = file.read(min(left, _CHUNK))
                    if not chunk:
                        break
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise ModelError(
                "external-data-unreadable", f"cannot read: {error}", location=str(self.path)
            ) from error
        if left:
            raise ModelError(
                "external-data-truncated",
                f"the file ends {left} bytes before the tensor does",
                location=str(self.path),
                hint="export the model again, or copy the data file again",
            )

    def _check_unchanged(self, status: os.stat_result) -> None:
        # Overwritten weights (say, by saving a model over its source) would be read as garbage.
        if self.stamp is not None and self.stamp != _stamp(status):
            raise ModelError(
                "external-data-changed",
                "the file changed after the model was loaded",
                location=str(self.path),
                hint="load the model again",
            )


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Tensor:
    """An immutable tensor. Make one with `from_numpy`, `from_raw`, `from_strings` or `external`.

    Attributes:
        dtype: element type.
        shape: dimensions, all numbers.
    """

    __slots__ = ("_data", "_digest", "doc", "dtype", "metadata", "shape")

    def __init__(
        self,
        dtype: DType,
        shape: Sequence[int],
        data: bytes | memoryview | tuple[bytes, ...] | ExternalData,
        doc: str = "",
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.dtype = dtype
        self.shape = tuple(shape)
        self.doc = doc
        self.metadata = metadata
        self._data = data
        self._digest: str | None = None
        expected, found = self.nbytes, self._stored()
        if expected != found:
            unit = "strings" if dtype is DType.STRING else "bytes"
            raise ValueError(f"{self.type} needs {expected} {unit}, got {found}")

    def _stored(self) -> int:
        return self._data.length if isinstance(self._data, ExternalData) else len(self._data)

    @classmethod
    def from_numpy(cls, array: npt.ArrayLike, dtype: DType | None = None) -> Tensor:
        """A tensor with a copy of `array`, converted to `dtype` (default: the array's own type).

        Float narrowing rounds to nearest, ties to even.
        """
        values = np.asarray(array)
        dtype = dtype or DType.from_numpy(values.dtype)
        if dtype is DType.STRING:
            flat = values.reshape(-1).tolist()
            return cls.from_strings([_as_bytes(item) for item in flat], values.shape)
        values = values.astype(dtype.numpy, copy=False)
        return cls(dtype, values.shape, _pack(values, dtype))

    @classmethod
    def from_raw(cls, dtype: DType, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
        """A tensor of packed little-endian bytes; ValueError when their number does not fit."""
        return cls(dtype, shape, raw)

    @classmethod
    def from_strings(cls, strings: Sequence[bytes], shape: Sequence[int]) -> Tensor:
        """A string tensor; ONNX strings are bytes, UTF-8 by convention."""
        return cls(DType.STRING, shape, tuple(strings))

    @classmethod
    def external(cls, dtype: DType, shape: Sequence[int], data: ExternalData) -> Tensor:
        """A tensor whose bytes stay in a file until they are needed."""
        return cls(dtype, shape, data)

    @property
    def type(self) -> TensorType:
        """The tensor type, with static shape."""
        return TensorType(self.dtype, cast("Shape", self.shape))

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = element_count(cast("Shape", self.shape))
        assert count is not None
        return count

    @property
    def nbytes(self) -> int:
        """Size of the packed data in bytes; for strings, the number of strings."""
        if self.dtype is DType.STRING:
            return self.elements
        return (self.elements * self.dtype.bits + 7) // 8

    @property
    def is_small(self) -> bool:
        """True when reading it costs nothing worth avoiding (at most 4 KiB)."""
        return self.nbytes <= _SMALL

    @property
    def file(self) -> Path | None:
        """The file that the bytes stay in; None when they are in memory."""
        return self._data.path if isinstance(self._data, ExternalData) else None

    @property
    def strings(self) -> tuple[bytes, ...]:
        """The elements of a string tensor, row-major."""
        assert isinstance(self._data, tuple)
        return self._data

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The packed bytes in order, at most a few megabytes at a time. Not for strings."""
        if isinstance(self._data, ExternalData):
            yield from self._data.chunks()
        elif isinstance(self._data, tuple):
            raise TypeError("a string tensor has no packed bytes")
        else:
            view = memoryview(self._data)
            for start in range(0, len(view), _CHUNK):
                yield view[start : start + _CHUNK]

    def raw(self) -> bytes:
        """All packed bytes. Not for strings."""
        return self._data if isinstance(self._data, bytes) else b"".join(self.chunks())

    def numpy(self) -> npt.NDArray[Any]:
        """The elements as a read-only array of `shape`; strings as an object array of bytes."""
        if isinstance(self._data, tuple):
            array = np.empty(len(self._data), dtype=object)
            array[:] = self._data
        else:
            data = self.raw() if isinstance(self._data, ExternalData) else self._data
            array = _unpack(data, self.dtype, self.elements)
            if not array.flags.aligned:  # a view into the middle of a file
                array = array.copy()
        array = array.reshape(self.shape)
        array.flags.writeable = False
        return array

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over type, shape and packed bytes: equal digests mean equal tensors."""
        if self._digest is None:
            sha = hashlib.sha256(f"{self.type}".encode())
            if isinstance(self._data, tuple):
                for item in self._data:
                    sha.update(len(item).to_bytes(8, "little"))
                    sha.update(item)
            else:
                for chunk in self.chunks():
                    sha.update(chunk)
            self._digest = sha.hexdigest()
        return self._digest

    def same_as(self, other: Tensor) -> bool:
        """True when type, shape and every bit agree."""
        if self is other:
            return True
        if self.dtype is not other.dtype or self.shape != other.shape:
            return False
        return self.digest == other.digest

    def __repr__(self) -> str:
        return f"Tensor({self.type})"


class Described(Tensor):
    """A tensor of which only the type and a description are known: one read from canonical text.

    Two of them are the same when their descriptions are. They have no elements.

    Attributes:
        text: the description, as the canonical text has it.
    """

    __slots__ = ("text",)

    def __init__(self, dtype: DType, shape: Sequence[int], text: str) -> None:
        self.text = text
        super().__init__(dtype, shape, b"")

    def _stored(self) -> int:
        return self.nbytes

    @property
    def digest(self) -> str:
        """The description, which stands for the contents."""
        return self.text

    @property
    def strings(self) -> tuple[bytes, ...]:
        """Raises TypeError: there are none."""
        raise TypeError(f"{self.text} is a description: it has no elements")

    def chunks(self) -> Iterator[bytes | memoryview]:
        """Raises TypeError: there are none."""
        raise TypeError(f"{self.text} is a description: it has no elements")

    def raw(self) -> bytes:
        """Raises TypeError: there are none."""
        return b"".join(self.chunks())

    def numpy(self) -> npt.NDArray[Any]:
        """Raises TypeError: there are none."""
        return np.frombuffer(self.raw())


@dataclass(frozen=True, slots=True)
class SparseTensor:
    """A constant in coordinate format.

    Attributes:
        values: the non-default values, shape [nnz].
        indices: linear indices [nnz] or coordinates [nnz, rank], int64.
        shape: the dense shape.
    """

    values: Tensor
    indices: Tensor
    shape: tuple[int, ...]


def _as_bytes(item: object) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()


def _pack(values: npt.NDArray[Any], dtype: DType) -> bytes:
    if dtype.bits >= 8:
        return np.ascontiguousarray(values).tobytes()
    flat = np.ascontiguousarray(values).reshape(-1, 1).view(np.uint8)
    bits = np.unpackbits(flat, axis=1, count=dtype.bits, bitorder="little")
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def _unpack(raw: bytes | memoryview, dtype: DType, count: int) -> npt.NDArray[Any]:
    if dtype.bits >= 8:
        return np.frombuffer(raw, dtype.numpy)
    packed = np.frombuffer(raw, np.uint8)
    bits = np.unpackbits(packed, count=count * dtype.bits, bitorder="little")
    flat = np.packbits(bits.reshape(count, dtype.bits), axis=1, bitorder="little").reshape(-1)
    if dtype in (DType.I4, DType.I2):  # ml_dtypes keeps signed elements sign-extended
        sign = 1 << (dtype.bits - 1)
        flat = ((flat ^ sign).astype(np.int8) - np.int8(sign)).view(np.uint8)
    return flat.view(dtype.numpy)
