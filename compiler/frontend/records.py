"""NodeProtos unpacked into plain Python, and put into an order in which operands come first."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from optc.frontend.strings import domain_of, text
from optc.frontend.types import read_type
from optc.ir import Attr, AttrKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import onnx

    from optc.frontend.source import Source
    from optc.frontend.tensors import TensorReader


class Record(NamedTuple):
    """One node, read once: field access on protobuf messages is what import time is made of.

    Attributes:
        proto: the message, for what is rarely set.
        op_type: operator name.
        domain: operator domain; ONNX's own is empty.
        inputs: operand names; empty where one is left out.
        outputs: names of outputs; empty where one is left out.
        attributes: by name; those that hold subgraphs have no value yet.
        graphs: name and messages of those.
    """

    proto: onnx.NodeProto
    op_type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attr]
    graphs: tuple[tuple[str, tuple[onnx.GraphProto, ...]], ...]

    @property
    def label(self) -> str:
        """How messages name the node."""
        name = self.proto.name or next((name for name in self.outputs if name), "")
        return f"{self.op_type} {name!r}"


_NONE: Mapping[str, Attr] = MappingProxyType({})
_KINDS = {kind.value: kind for kind in AttrKind}
_GRAPHS = (AttrKind.GRAPH.value, AttrKind.GRAPHS.value)


class AttributeReader:
    """Reads the attributes of the nodes of one model."""

    def __init__(self, source: Source, tensors: TensorReader) -> None:
        self._source = source
        self._values: dict[int, Callable[[Any], Any]] = {
            1: lambda a: a.f,
            2: lambda a: a.i,
            3: lambda a: a.s,
            4: lambda a: tensors.dense(a.t),
            6: lambda a: tuple(a.floats),
            7: lambda a: tuple(a.ints),
            8: lambda a: tuple(a.strings),
            9: lambda a: tuple(tensors.dense(t) for t in a.tensors),
            11: lambda a: tensors.sparse(a.sparse_tensor),
            12: lambda a: tuple(tensors.sparse(t) for t in a.sparse_tensors),
            13: lambda a: read_type(a.tp),
            14: lambda a: tuple(read_type(t) for t in a.type_protos),
        }

    def read(self, proto: onnx.AttributeProto) -> Attr:
        """One attribute that is not a graph.

        Raises:
            ModelError: it has no type, or one that this version does not know.
        """
        number = proto.type
        if number not in _KINDS:
            raise self._source.error(
                "attribute-invalid",
                f"attribute {proto.name!r} has type number {number}, which is none of ONNX",
                "export the model again with IR version 2 or newer",
            )
        if proto.ref_attr_name:
            return Attr(_KINDS[number], None, text(proto.ref_attr_name), text(proto.doc_string))
        try:
            value = self._values[number](proto)
        except ValueError as error:
            raise self._source.error(
                "attribute-invalid", f"attribute {proto.name!r}: {error}"
            ) from error
        return Attr(_KINDS[number], value, doc=text(proto.doc_string))

    def record(self, proto: onnx.NodeProto) -> Record:
        """Unpack one node.

        Raises:
            ModelError: an attribute is not valid or given twice.
        """
        attributes: Mapping[str, Attr] = _NONE
        graphs: tuple[tuple[str, tuple[onnx.GraphProto, ...]], ...] = ()
        if proto.attribute:
            attributes, graphs = self._attributes(proto)
        return Record(
            proto,
            text(proto.op_type),
            domain_of(proto.domain),
            tuple(map(text, proto.input)),
            tuple(map(text, proto.output)),
            attributes,
            graphs,
        )

    def _attributes(
        self, proto: onnx.NodeProto
    ) -> tuple[dict[str, Attr], tuple[tuple[str, tuple[onnx.GraphProto, ...]], ...]]:
        attributes: dict[str, Attr] = {}
        graphs = []
        for item in proto.attribute:
            name = text(item.name)
            if name in attributes:
                raise self._source.error(
                    "attribute-invalid",
                    f"node {proto.name or proto.op_type!r} has two attributes named {name!r}",
                )
            if item.type in _GRAPHS and not item.ref_attr_name:
                parts = (item.g,) if item.type == AttrKind.GRAPH.value else tuple(item.graphs)
                graphs.append((name, parts))
                attributes[name] = Attr(_KINDS[item.type], None, doc=text(item.doc_string))
            else:
                attributes[name] = self.read(item)
        return attributes, tuple(graphs)


def in_order(records: list[Record]) -> list[Record] | None:
    """The records with every operand before its use; None when there is a cycle.

    ONNX demands this order. Models that break it exist and mean the same, so they are sorted;
    a list that is in order comes back as it is.
    """
    pending = {name for record in records for name in record.outputs if name}
    for record in records:
        if not pending.isdisjoint(_needs(record)):
            return _sorted(records)
        pending.difference_update(record.outputs)
    return records


def _sorted(records: list[Record]) -> list[Record] | None:
    producer = {name: i for i, record in enumerate(records) for name in record.outputs if name}
    waiting: list[set[int]] = []
    users: list[list[int]] = [[] for _ in records]
    for i, record in enumerate(records):
        needed = {producer[name] for name in _needs(record) if name in producer}
        waiting.append(needed)
        for other in sorted(needed):
            users[other].append(i)
    ready = [i for i, needed in enumerate(waiting) if not needed]
    order: list[Record] = []
    for i in ready:  # grows while it is walked
        order.append(records[i])
        for user in users[i]:
            waiting[user].discard(i)
            if not waiting[user]:
                ready.append(user)
    return order if len(order) == len(records) else None


def _needs(record: Record) -> Iterable[str]:
    if not record.graphs:
        return record.inputs
    free = (name for _, parts in record.graphs for part in parts for name in _free(part))
    return (*record.inputs, *free)


def _free(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that a subgraph uses and does not define; some may be named more than once."""
    own = {text(info.name) for info in graph.input}
    own.update(text(tensor.name) for tensor in graph.initializer)
    own.update(text(tensor.values.name) for tensor in graph.sparse_initializer)
    used: dict[str, None] = {}
    for node in graph.node:
        own.update(map(text, node.output))
        used.update(dict.fromkeys(map(text, node.input)))
        for item in node.attribute:
            parts = (item.g,) if item.HasField("g") else item.graphs
            used.update((name, None) for part in parts for name in _free(part))
    used.update((text(info.name), None) for info in graph.output)
    return (name for name in used if name and name not in own)
