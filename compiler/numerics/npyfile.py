"""Arrays in ``.npy`` files and ``.npz`` members, read row by row without loading the whole.

Only plain data is read: an array of Python objects would be a pickle, which can run code, and is
refused. Source: the NPY format, numpy.lib.format.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from optc.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optc.numerics.values import Array

# What zipfile, zlib and numpy raise for damaged files. RuntimeError: an encrypted member.
_DAMAGE: Final = (
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class ArrayFile:
    """An array on disk.

    Attributes:
        path: the file.
        key: the member of an ``.npz``; empty for an ``.npy``.
        shape: all dimensions.
        dtype: element type, in the byte order of the file.
        fortran: whether the first dimension varies fastest; such an array is read at once.
        offset: where the elements start, counted in bytes of the (unpacked) stream.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool
    offset: int

    @property
    def label(self) -> str:
        """How messages describe it, e.g. ``float32[20,3,480,480]``."""
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"

    def blocks(self, rows: int) -> Iterator[Array]:
        """The array in order, `rows` leading rows at a time; the last block may be shorter.

        Raises:
            DataError: ``data-unreadable``: the file is damaged.
        """
        with _reading(self.path, self.key), _stream(self.path, self.key) as (file, _):
            _exactly(file, self.offset)
            if self.fortran:
                raw = _exactly(file, math.prod(self.shape) * self.dtype.itemsize)
                whole = np.frombuffer(raw, self.dtype).reshape(self.shape[::-1]).T
                for start in range(0, self.shape[0], rows):
                    yield whole[start : start + rows]
                return
            for start in range(0, self.shape[0], rows):
                shape = (min(rows, self.shape[0] - start), *self.shape[1:])
                raw = _exactly(file, math.prod(shape) * self.dtype.itemsize)
                yield np.frombuffer(raw, self.dtype).reshape(shape)


def npz_keys(path: Path) -> list[str]:
    """Names of the arrays in an ``.npz``, in order of the file.

    Raises:
        DataError: ``data-unreadable``.
    """
    with _reading(path, ""), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def open_array(path: Path, key: str = "") -> ArrayFile:
    """Read the header of an ``.npy`` file, or of one array of an ``.npz``.

    Raises:
        DataError: ``data-unreadable``: damaged, truncated, or of an unknown version;
            ``data-object-array``: the elements are Python objects.
    """
    with _reading(path, key), _stream(path, key) as (file, size):
        version = np.lib.format.read_magic(file)
        match version:
            case (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            case (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
            case _:
                raise ValueError(f"NPY version {version[0]}.{version[1]} holds no plain arrays")
        found = ArrayFile(path, key, shape, dtype, fortran, file.tell())
        if dtype.hasobject:
            raise DataError(
                "data-object-array",
                f"{_place(key)} holds Python objects, which would have to be unpickled",
                location=str(path),
                hint="save numbers, or strings with a fixed-size dtype such as '<U20'",
            )
        missing = found.offset + math.prod(shape) * dtype.itemsize - size
        if missing > 0:
            raise ValueError(f"{found.label} needs {missing} bytes more than there are")
        return found


@contextmanager
def _stream(path: Path, key: str) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of an ``.npy`` and their number."""
    if not key:
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as member:
        yield member, archive.getinfo(f"{key}.npy").file_size


def _exactly(file: IO[bytes], count: int) -> bytes:
    raw = file.read(count)
    if len(raw) != count:
        raise ValueError(f"the data ends {count - len(raw)} bytes early")
    return raw


@contextmanager
def _reading(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DataError(
            "data-unreadable",
            f"{_place(key)} cannot be read: {error or type(error).__name__}",
            location=str(path),
            hint="the file is damaged or incomplete: write or copy it again",
        ) from error


def _place(key: str) -> str:
    return f"array {key!r}" if key else "the file"
