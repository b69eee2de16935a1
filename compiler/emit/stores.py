"""Where the data of large constants goes, other than into the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import onnx

from optc.ir import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.emit.protos import ProtoWriter
    from optc.ir import Tensor

_SAMPLE = 4096
_SMALLEST = 1024
_PAGE = 4096


class ExternalWriter:
    """Puts tensors of 1 KiB and more into a file beside the model, and equal ones there once.

    Tensors of 64 KiB and more start at a multiple of 4096, as onnx.proto asks so that they can be
    mapped into memory; smaller ones at a multiple of 64, the width of a vector register.

    Args:
        file: open for writing, at its start.
        location: its path as the model states it, relative to the model's folder.
    """

    def __init__(self, file: BinaryIO, location: str) -> None:
        self._file = file
        self._location = location
        self._end = 0
        self._written: dict[tuple[DType, int, bytes], list[tuple[Tensor, int]]] = {}

    def add(self, graph: onnx.GraphProto, writer: ProtoWriter, tensor: Tensor, name: str) -> None:
        """Add an initializer; its data is read and written in chunks."""
        proto = graph.initializer.add()
        outside = tensor.dtype is not DType.STRING and tensor.nbytes >= _SMALLEST
        writer.tensor(proto, tensor, name, data=not outside)
        if outside:
            proto.data_location = proto.EXTERNAL
            entries = {"location": self._location, "offset": self._place(tensor)}
            for key, value in (entries | {"length": tensor.nbytes}).items():
                proto.external_data.add(key=key, value=str(value))

    def _place(self, tensor: Tensor) -> int:
        chunks = iter(tensor.chunks())
        first = next(chunks)
        # Digests cost a read of the whole tensor: ask for them only where it starts like another.
        known = self._written.setdefault((tensor.dtype, tensor.nbytes, bytes(first[:_SAMPLE])), [])
        for other, offset in known:
            if other.shape == tensor.shape and other.same_as(tensor):
                return offset
        align = _PAGE if tensor.nbytes >= 16 * _PAGE else 64
        self._file.write(bytes(-self._end % align))
        start = self._end + -self._end % align
        self._file.write(first)
        for chunk in chunks:
            self._file.write(chunk)
        self._end = start + tensor.nbytes
        known.append((tensor, start))
        return start


class Streamed:
    """Keeps large tensors of the main graph back, to be written behind it without a copy.

    Protobuf lets the fields of a message come in any order. So the graph is serialized without its
    initializers, and these follow one by one, each with its data last, chunk by chunk.

    Args:
        main: the message of the main graph.
    """

    def __init__(self, main: onnx.GraphProto) -> None:
        self._main = main
        self._late: dict[int, Tensor] = {}

    def add(self, graph: onnx.GraphProto, writer: ProtoWriter, tensor: Tensor, name: str) -> None:
        """Add an initializer, or keep its data back."""
        late = tensor.dtype is not DType.STRING and tensor.nbytes >= _SMALLEST
        late = late and graph is self._main
        if late:
            self._late[len(graph.initializer)] = tensor
        writer.tensor(graph.initializer.add(), tensor, name, data=not late)

    def finish(self, model: onnx.ModelProto) -> tuple[int, Iterator[bytes | memoryview]]:
        """Size and parts of the serialized model: `model`, which has no graph, and the graph.

        The graph loses its initializers.
        """
        heads = [self._head(i, proto) for i, proto in enumerate(self._main.initializer)]
        del self._main.initializer[:]
        body = self._main.SerializeToString(deterministic=True)
        tails = (self._late[i].nbytes if i in self._late else 0 for i in range(len(heads)))
        length = len(body) + sum(map(len, heads)) + sum(tails)
        before, behind = _around_graph(model)
        before += _field(onnx.ModelProto.GRAPH_FIELD_NUMBER, length)
        size = len(before) + length + len(behind)
        return size, self._parts(before + body, heads, behind)

    def _head(self, index: int, proto: onnx.TensorProto) -> bytes:
        head: bytes = proto.SerializeToString(deterministic=True)
        length = len(head)
        if index in self._late:
            size = self._late[index].nbytes
            head += _field(onnx.TensorProto.RAW_DATA_FIELD_NUMBER, size)
            length = len(head) + size
        return _field(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, length) + head

    def _parts(self, start: bytes, heads: list[bytes], end: bytes) -> Iterator[bytes | memoryview]:
        yield start
        for index, head in enumerate(heads):
            yield head
            if index in self._late:
                yield from self._late[index].chunks()
        yield end


def _around_graph(model: onnx.ModelProto) -> tuple[bytes, bytes]:
    """The fields of a model before and behind its graph, in the order of their numbers.

    Any order is valid. OpenVINO tells ONNX files by their first three fields, though, and rejects
    one where a field stands twice among them, as opset imports before the graph would.
    """
    parts = (onnx.ModelProto(), onnx.ModelProto())
    for part, before in zip(parts, (True, False), strict=True):
        part.CopyFrom(model)
        for field, _ in model.ListFields():
            if (field.number < onnx.ModelProto.GRAPH_FIELD_NUMBER) != before:
                part.ClearField(field.name)
    head, tail = (part.SerializeToString(deterministic=True) for part in parts)
    return head, tail


def _field(number: int, length: int) -> bytes:
    """Tag and length of a length-delimited field (protobuf encoding, wire type 2)."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
