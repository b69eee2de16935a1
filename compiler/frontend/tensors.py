"""ONNX TensorProto and its kin to the tensors of the IR.

Source: onnx.proto, messages TensorProto and SparseTensorProto; onnx-data.proto for test data.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx

from optc.errors import ModelError
from optc.frontend.external import ExternalFiles
from optc.frontend.source import Source, decode
from optc.frontend.strings import pairs, text
from optc.ir import (
    DType,
    MapType,
    OptionalType,
    SequenceType,
    SparseTensor,
    SparseTensorType,
    Tensor,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from optc.ir import ExternalData, Type

Datum: TypeAlias = "Tensor | SparseTensor | tuple[Datum, ...] | dict[int | bytes, Datum] | None"
"""A value of any ONNX type: tensor, sequence, map, or None for an empty optional."""

# Typed field of each element type (where raw_data is not used), and how its numbers are stored.
_Field: TypeAlias = "tuple[str, np.dtype[Any]]"
_FLOAT: _Field = ("float_data", np.dtype(np.float32))
_DOUBLE: _Field = ("double_data", np.dtype(np.float64))
_INT64: _Field = ("int64_data", np.dtype(np.int64))
_UINT64: _Field = ("uint64_data", np.dtype(np.uint64))
_INT32: _Field = ("int32_data", np.dtype(np.int32))
_FIELDS = {
    DType.F32: _FLOAT,
    DType.C64: _FLOAT,
    DType.F64: _DOUBLE,
    DType.C128: _DOUBLE,
    DType.I64: _INT64,
    DType.U64: _UINT64,
    DType.U32: _UINT64,
}
_ONE_BYTE_PER_ELEMENT = (DType.F6E2M3, DType.F6E3M2)


class TensorReader:
    """Reads the tensors of one model."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._files = ExternalFiles(source)

    def dense(self, proto: onnx.TensorProto, raw: memoryview | None = None) -> Tensor:
        """The tensor; external data stays in its file.

        Args:
            proto: the message.
            raw: its raw_data, when that was cut out of the message.

        Raises:
            ModelError: unknown element type, negative dimension, or data that does not fit both.
        """
        try:
            dtype = DType.from_onnx(proto.data_type)
        except ValueError as error:
            raise self._broken(proto, str(error)) from error
        shape = tuple(proto.dims)
        if shape and min(shape) < 0:
            raise self._broken(proto, f"its shape {list(shape)} has a negative size")
        if dtype is DType.UNDEFINED:
            raise self._broken(proto, "it has no element type")
        if proto.HasField("segment"):
            raise self._broken(proto, "it is stored in segments, which no exporter writes")
        doc = text(proto.doc_string)
        metadata = tuple(pairs(proto.metadata_props).items())
        try:
            data = self._data(proto, dtype, shape) if raw is None else raw
            return Tensor(dtype, shape, data, doc, metadata)
        except ValueError as error:
            raise self._broken(proto, str(error)) from error

    def _data(
        self, proto: onnx.TensorProto, dtype: DType, shape: tuple[int, ...]
    ) -> bytes | tuple[bytes, ...] | ExternalData:
        if proto.data_location != proto.EXTERNAL:
            return _inline(proto, dtype)
        if dtype is DType.STRING:
            raise self._broken(proto, "strings cannot be stored in a file")
        return self._files.locate(proto, (math.prod(shape) * dtype.bits + 7) // 8)

    def sparse(self, proto: onnx.SparseTensorProto) -> SparseTensor:
        """The sparse tensor, in either index format.

        Raises:
            ModelError: values and indices do not fit each other and the shape.
        """
        values, indices = self.dense(proto.values), self._indices(proto)
        shape = tuple(proto.dims)
        if shape and min(shape) < 0:
            raise self._broken(proto.values, f"its shape {list(shape)} has a negative size")
        rows = indices.shape[:1]
        if len(values.shape) != 1 or indices.dtype is not DType.I64 or rows != values.shape:
            raise self._broken(
                proto.values,
                f"{values.type} sparse values do not go with {indices.type} indices",
            )
        return SparseTensor(values, indices, shape)

    def _indices(self, proto: onnx.SparseTensorProto) -> Tensor:
        if proto.HasField("indices"):
            return self.dense(proto.indices)
        return Tensor(DType.I64, (0,), b"")

    def _broken(self, proto: onnx.TensorProto, why: str) -> ModelError:
        return self._source.error(
            "tensor-invalid",
            f"tensor {proto.name!r} is not valid: {why}",
            "export the model again; its exporter or a tool after it broke this tensor",
        )


def _inline(proto: onnx.TensorProto, dtype: DType) -> bytes | tuple[bytes, ...]:
    if dtype is DType.STRING:
        return tuple(proto.string_data)
    if proto.HasField("raw_data"):
        raw: bytes = proto.raw_data
        return raw
    field, storage = _FIELDS.get(dtype, _INT32)
    numbers = np.array(getattr(proto, field), dtype=storage)
    return _repack(numbers, dtype)


def _repack(numbers: npt.NDArray[Any], dtype: DType) -> bytes:
    """Bytes of `dtype` from the numbers of a typed field, which hold values or bit patterns."""
    if dtype is DType.BOOL:
        return numbers.astype(np.bool_).tobytes()
    if dtype in _ONE_BYTE_PER_ELEMENT:
        elements = numbers.astype(np.uint8).view(dtype.numpy)
        return Tensor.from_numpy(elements, dtype).raw()
    if _FIELDS.get(dtype, _INT32) is _INT32 or dtype is DType.U32:
        # Narrowing keeps the low bits, which hold the value or the pattern. A packed type has
        # one byte in each number.
        return numbers.astype(f"u{max(1, dtype.bits // 8)}").tobytes()
    return numbers.tobytes()


def read_tensor(data: bytes, type: Type | None = None) -> tuple[str, Datum]:
    """Name and content of a file of a test_data_set folder.

    Args:
        data: the file, a serialized TensorProto, SequenceProto, OptionalProto or MapProto.
        type: the type of the graph input or output that it belongs to. The file does not say
            which message it holds; None means a tensor.

    Raises:
        ModelError: the bytes are not such a message, or a tensor in it is not valid.
    """
    source = Source("<data>")
    problem = source.error(
        "data-truncated", "the data is truncated or not an ONNX tensor", "copy it again"
    )
    proto = decode(_MESSAGES.get(type.__class__, onnx.TensorProto), data, problem)
    datum = _read_datum(proto, TensorReader(source))
    named = proto.values if type.__class__ is SparseTensorType else proto
    return text(named.name), datum


_MESSAGES: dict[object, Any] = {
    SequenceType: onnx.SequenceProto,
    OptionalType: onnx.OptionalProto,
    MapType: onnx.MapProto,
    SparseTensorType: onnx.SparseTensorProto,
}


def _read_datum(proto: Any, reader: TensorReader) -> Datum:
    kind = proto.DESCRIPTOR.name
    if kind == "TensorProto":
        return reader.dense(proto)
    if kind == "SparseTensorProto":
        return reader.sparse(proto)
    if kind == "MapProto":
        return _read_map(proto, reader)
    if kind == "SequenceProto":
        items = (item for field in _KINDS for item in getattr(proto, f"{field}_values"))
        return tuple(_read_datum(item, reader) for item in items)
    for field in _KINDS:
        if proto.HasField(f"{field}_value"):
            return _read_datum(getattr(proto, f"{field}_value"), reader)
    return None


def _read_map(proto: onnx.MapProto, reader: TensorReader) -> Datum:
    keys = proto.string_keys or proto.keys
    values = _read_datum(proto.values, reader)
    if not isinstance(values, tuple) or len(values) != len(keys):
        raise ModelError("data-invalid", "a map has more keys than values, or fewer")
    return dict(zip(keys, values, strict=True))


_KINDS = ("tensor", "sparse_tensor", "sequence", "map", "optional")
