"""Runtime values: what goes into a model and what comes out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from optc.ir.tensor import SparseTensor, Tensor
from optc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.ir.types import Type

Array: TypeAlias = npt.NDArray[Any]
"""A tensor. Small floats and integers below 8 bits are ml_dtypes arrays, one element per item;
strings are object arrays of `str`."""

Value: TypeAlias = "Array | np.generic | list[Value] | dict[Any, Value] | float | str | None"
"""A tensor, a sequence (list), a map (dict with int, float or str items), an absent optional;
a numpy scalar counts as a tensor without dimensions."""

Datum: TypeAlias = "Tensor | SparseTensor | tuple[Datum, ...] | dict[int | bytes, Datum] | None"
"""A value as the ONNX frontend reads it from a file."""

Feeds: TypeAlias = "dict[str, Value]"
"""One set of inputs, or of outputs, by name."""


def is_floating(array: Array) -> bool:
    """True for real floating-point elements of any width, ml_dtypes included."""
    # ml_dtypes registers its types with kind V; numpy casts them all to float64 without loss.
    if array.dtype.kind == "f":
        return True
    return array.dtype.isbuiltin == 2 and "float" in array.dtype.name


def is_small_integer(array: Array) -> bool:
    """True for the ml_dtypes integers of 2 and 4 bits."""
    return array.dtype.isbuiltin == 2 and "int" in array.dtype.name


def native(array: Array) -> Array:
    """`array` in row-major order and native byte order; zero dimensions stay zero dimensions."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return np.asarray(array, order="C")


def fed(value: Value, type_: Type | None) -> Value:
    """A value as an input of this type takes it.

    numpy has no bfloat16: floating-point numbers for such an input are rounded, to nearest even.
    """
    if not isinstance(type_, TensorType) or type_.dtype is not DType.BF16:
        return value
    if not isinstance(value, np.ndarray | np.generic) or not is_floating(np.asarray(value)):
        return value
    rounded: Array = np.asarray(value).astype(DType.BF16.numpy, copy=False)
    return rounded


def widened(outputs: Mapping[str, Value], types: Mapping[str, DType]) -> Feeds:
    """Outputs with the tensors of these names in the floating-point types that are given."""
    return {
        name: value.astype(types[name].numpy)
        if name in types and isinstance(value, np.ndarray)
        else value
        for name, value in outputs.items()
    }


def text_array(array: Array) -> Array:
    """An array of strings of any kind as object array of `str`.

    Bytes that are no UTF-8 become lone surrogates: onnxruntime then refuses the array.
    """
    texts = np.empty(array.size, dtype=object)
    texts[:] = [_text(item) for item in array.reshape(-1).tolist()]
    return texts.reshape(array.shape)


def _text(item: object) -> str:
    return item.decode(errors="surrogateescape") if isinstance(item, bytes) else str(item)


def from_datum(datum: Datum) -> Value:
    """A value from what the ONNX frontend reads; a sparse tensor is made dense."""
    match datum:
        case Tensor():
            array = datum.numpy()
            return text_array(array) if datum.dtype is DType.STRING else array
        case SparseTensor():
            return _dense(datum)
        case tuple():
            return [from_datum(item) for item in datum]
        case dict():
            return {_key(key): from_datum(item) for key, item in datum.items()}
        case _:
            return None


def _dense(sparse: SparseTensor) -> Array:
    values, indices = sparse.values.numpy(), sparse.indices.numpy()
    dense = np.zeros(sparse.shape, dtype=values.dtype)
    where = np.unravel_index(indices, sparse.shape) if indices.ndim == 1 else tuple(indices.T)
    dense[where] = values
    return dense


def _key(key: int | bytes) -> int | str:
    return key if isinstance(key, int) else _text(key)


def float_tensors(outputs: Mapping[str, Value]) -> Iterator[tuple[str, Array]]:
    """All floating-point tensors among the outputs; elements of sequences as ``name[i]``."""
    for name, value in outputs.items():
        if isinstance(value, list):
            yield from float_tensors({f"{name}[{i}]": item for i, item in enumerate(value)})
        elif isinstance(value, np.ndarray) and is_floating(value):
            yield name, value
