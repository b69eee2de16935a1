"""How the rows of a stored array become values of a model input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from optc.errors import DataError
from optc.ir.types import DType, OptionalType, TensorType, format_shape
from optc.numerics.values import native, text_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir.types import Dim, Shape, Type
    from optc.numerics.npyfile import ArrayFile
    from optc.numerics.values import Array


@dataclass(frozen=True)
class Column:
    """The data of one input in one file: one sample per leading row.

    Attributes:
        name: the input.
        file: the stored array.
        dtype: element type that the input wants.
        whole: True when a row is the complete input, so that a run takes one row; False when rows
            lack the input's first dimension, the batch, so that a run takes any number of them.
        batch: size of the first dimension, when the model fixes it and `whole` is False.
        single: the file holds one sample, without an axis to count samples.
    """

    name: str
    file: ArrayFile
    dtype: DType
    whole: bool
    batch: int | None
    single: bool = False

    @property
    def samples(self) -> int:
        """Number of samples."""
        return 1 if self.single else self.file.shape[0]

    def blocks(self, rows: int) -> Iterator[Array]:
        """The data, `rows` samples at a time, in the input's element type."""
        if self.single:
            for part in self.file.blocks(max(self.file.shape[0], 1)):
                yield convert(part[np.newaxis], self.dtype)
            return
        for block in self.file.blocks(rows):
            yield convert(block, self.dtype)


def make_column(name: str, type_: Type, file: ArrayFile, *, one_per_file: bool = False) -> Column:
    """Match a stored array with an input.

    Args:
        name: the input.
        type_: its type.
        file: the array.
        one_per_file: accept an array that is one sample, without a leading axis of samples.

    Raises:
        DataError: ``data-shape`` or ``data-dtype``, with what the model wants and the file has.
    """
    tensor = type_.element if isinstance(type_, OptionalType) else type_
    if not isinstance(tensor, TensorType):
        raise DataError(
            "data-shape",
            f"input {name!r} is a {type_}; arrays only hold tensors",
            location=str(file.path),
            hint="give such data as ONNX test_data_set_* folders",
        )
    if not convertible(file.dtype, tensor.dtype):
        raise _wrong_dtype(name, tensor.dtype, file)
    shape = tensor.shape
    rows = file.shape[1:]
    if shape is None or (len(file.shape) > 0 and len(shape) > 0 and _fits(rows, shape[1:])):
        batch = shape[0] if shape else None
        return Column(name, file, tensor.dtype, False, batch if isinstance(batch, int) else None)
    if len(file.shape) > 0 and _fits(rows, shape):
        return Column(name, file, tensor.dtype, whole=True, batch=None)
    if one_per_file and len(shape) > 0 and _fits(file.shape, shape[1:]) and file.shape:
        return Column(name, file, tensor.dtype, False, None, single=True)
    raise _wrong_shape(name, shape, file)


def convertible(stored: np.dtype[np.generic], wanted: DType) -> bool:
    """Whether stored elements become `wanted` without loss, or are rounded to bfloat16.

    Only widening within a kind: unsigned or signed to larger integers, float to larger float.
    Never integer to float, which would hide a forgotten scaling. numpy has no bfloat16, so numbers
    for it lie in files as float32. It writes the types of ml_dtypes as opaque elements; those are
    taken as they are when the size fits.
    """
    if wanted is DType.STRING:
        return stored.kind in "UST"
    if stored.kind == "V":
        return wanted.numpy.isbuiltin == 2 and stored.itemsize == wanted.numpy.itemsize
    if wanted is DType.UNDEFINED:
        return False
    target = wanted.numpy
    if target.isbuiltin == 2:
        return wanted is DType.BF16 and stored.kind == "f"
    same_kind = stored.kind == target.kind or (stored.kind == "u" and target.kind == "i")
    return same_kind and np.can_cast(stored, target, "safe")


def convert(array: Array, wanted: DType) -> Array:
    """Elements as `wanted`; call `convertible` first."""
    if wanted is DType.STRING:
        return text_array(array)
    if array.dtype.kind == "V":
        return np.asarray(array, order="C").view(wanted.numpy)
    return native(array.astype(wanted.numpy, copy=False))


def _fits(sizes: tuple[int, ...], dims: Shape) -> bool:
    return len(sizes) == len(dims) and all(map(_same, sizes, dims))


def _same(size: int, dim: Dim) -> bool:
    return not isinstance(dim, int) or dim == size


def _wrong_dtype(name: str, wanted: DType, file: ArrayFile) -> DataError:
    has = f"input {name!r} wants {wanted.value}, the data is {file.label}"
    narrowing = file.dtype.kind == wanted.numpy.kind
    advice = f"save it with .astype(numpy.{wanted.numpy.name})"
    hint = advice if narrowing else f"check the preprocessing, then {advice}"
    return DataError("data-dtype", has, location=_location(file), hint=hint)


def _wrong_shape(name: str, shape: Shape, file: ArrayFile) -> DataError:
    rows = file.shape[1:]
    wanted = format_shape(shape[1:]) if shape else "[]"
    message = (
        f"input {name!r} has shape {format_shape(shape)}, so a sample has shape {wanted}; "
        f"the data is {file.label}"
    )
    if file.shape:
        message += f", {file.shape[0]} samples of shape {format_shape(rows)}"
    hint = "the first axis counts samples"
    if shape and _fits(file.shape, shape[1:]):
        hint = f"this is one sample without the axis that counts samples: save {name}[None]"
    elif len(rows) >= 2 and _fits((rows[-1], *rows[:-1]), shape[1:]):
        hint = (
            "the data has channels last, the model wants them first: save numpy.moveaxis(x, -1, 1)"
        )
    return DataError("data-shape", message, location=_location(file), hint=hint)


def _location(file: ArrayFile) -> str:
    return f"{file.path}[{file.key}]" if file.key else str(file.path)
