"""Serialized models without a copy of their weights.

Parsing a model with protobuf copies every weight into the message, and reading the weight copies it
again. So the large ones are cut out of the bytes first: what is parsed is the model without them,
and a tensor is a view of the file's own bytes. Only ModelProto.graph, GraphProto.initializer and
TensorProto.raw_data are looked at; anything that is not as expected is left to protobuf.

Source: protobuf encoding specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import onnx

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGE = 1 << 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER


class _Field(NamedTuple):
    number: int  # 0 when it is not length-delimited
    start: int  # of the tag
    body: int  # of the content, behind tag and length
    end: int


def cut_weights(data: bytes) -> tuple[bytes, dict[int, memoryview]]:
    """A serialized model without its large weights, and these by index of their initializer.

    Raises:
        ValueError: the bytes do not have the form of protobuf messages.
    """
    weights: dict[int, memoryview] = {}
    parts: list[bytes | memoryview] = []
    view = memoryview(data)
    count = 0
    for field in _fields(view, 0, len(view)):
        if field.number == _GRAPH:
            graph, count = _cut_graph(view, field, weights, count)
            parts += [_head(_GRAPH, sum(map(len, graph))), *graph]
        else:
            parts.append(view[field.start : field.end])
    return b"".join(parts), weights


def _cut_graph(
    data: memoryview, graph: _Field, weights: dict[int, memoryview], count: int
) -> tuple[list[bytes | memoryview], int]:
    parts: list[bytes | memoryview] = []
    copied = graph.body
    for field in _fields(data, graph.body, graph.end):
        if field.number != _INITIALIZER:
            continue
        if field.end - field.body > _LARGE:
            tensor = _cut_tensor(data, field, weights, count)
            parts += [data[copied : field.start], _head(_INITIALIZER, len(tensor)), tensor]
            copied = field.end
        count += 1
    return [*parts, data[copied : graph.end]], count


def _cut_tensor(
    data: memoryview, tensor: _Field, weights: dict[int, memoryview], index: int
) -> bytes:
    rest = b""
    for field in _fields(data, tensor.body, tensor.end):
        if field.number == _RAW_DATA:
            weights[index] = data[field.body : field.end]
        else:
            rest += data[field.start : field.end]
    return rest


def _fields(data: memoryview, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message between two offsets."""
    while start < end:
        tag, body = _varint(data, start)
        kind = tag & 7
        if kind == _BYTES:
            length, body = _varint(data, body)
            stop = body + length
        elif kind == _VARINT:
            _, stop = _varint(data, body)
        elif kind in (_FIXED32, _FIXED64):
            stop = body + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {kind}")
        if stop > end:
            raise ValueError("a field is longer than its message")
        yield _Field(tag >> 3 if kind == _BYTES else 0, start, body, stop)
        start = stop


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70 and at < len(data):
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number does not end")


def _head(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field."""
    return _encode(number << 3 | _BYTES) + _encode(length)


def _encode(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
