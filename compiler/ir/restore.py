"""Graphs from the JSON data that `optc.ir.dump` wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from optc.ir.dump import NO_TYPE, SINGLE, TYPES, names_of
from optc.ir.graph import Graph
from optc.ir.model import Function, ModelInfo
from optc.ir.nodes import Attr, AttrKind, Kind, Node, Value
from optc.ir.tensor import SparseTensor
from optc.ir.types import (
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir.dump import Origins, Tensors
    from optc.ir.types import Type

_KINDS: Final = {kind.value: kind for kind in Kind}


def load_graph(data: Mapping[str, Any], tensors: Tensors, origins: Origins) -> Graph:
    """The graph that `dump_graph` wrote.

    Raises:
        KeyError: a tensor is gone.
    """
    reader = _Reader(data["types"], tensors, origins)
    fields = dict(data["model"])
    model = ModelInfo(**fields | {"opaque": _transparent(fields["opaque"])})
    for item in data["functions"]:
        function = reader.function(item)
        model.functions[function.domain, function.name, function.overload] = function
    return reader.root(data["graph"], model)


def _transparent(fields: Mapping[str, Sequence[str]]) -> dict[str, tuple[bytes, ...]]:
    return {name: tuple(_bytes(part) for part in parts) for name, parts in fields.items()}


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


class _Reader:
    def __init__(self, types: Sequence[Any], tensors: Tensors, origins: Origins) -> None:
        self._tensors = tensors
        self._origins = origins
        self._types: list[Type] = []
        for row in types:
            self._types.append(self._make_type(*row))

    def function(self, data: Mapping[str, Any]) -> Function:
        return Function(
            data["name"],
            data["domain"],
            data["overload"],
            self.root(data["body"]),
            tuple(data["attributes"]),
            self._attributes(data["defaults"], None),
            data["doc"],
            data["metadata"],
        )

    def root(self, data: Mapping[str, Any], model: ModelInfo | None = None) -> Graph:
        graph = Graph(data["name"], data["opsets"], model=model)
        self._fill(graph, data)
        graph._taken.update(names_of(graph))
        graph._taken.update(data["taken"])
        graph._suffix.update(data["suffix"])
        return graph

    def _nested(self, data: Mapping[str, Any], parent: Graph | None) -> Graph:
        graph = Graph(data["name"], parent=parent)
        self._fill(graph, data)
        return graph

    def _fill(self, graph: Graph, data: Mapping[str, Any]) -> None:
        graph.doc, graph.metadata = data["doc"], data["metadata"]
        graph.opaque = _transparent(data["opaque"])
        nodes = [self._node(row, graph) for row in data["nodes"]]
        graph._g.add_nodes_from(nodes)
        graph._size = sum(node.kind is Kind.OP for node in nodes)
        edges: dict[tuple[int, int], dict[int | str, dict[str, Value | None]]] = {}
        for number, row in enumerate(data["uses"]):
            outputs = nodes[number].outputs
            for user, keys in row:
                made = edges[number, user] = {key: {"value": outputs[i]} for key, i in keys}
                graph._g._succ[nodes[number]][nodes[user]] = made  # type: ignore[attr-defined]
        for number, sources in enumerate(data["operands"]):
            for source in sources:
                made = edges[source, number]
                graph._g._pred[nodes[number]][nodes[source]] = made  # type: ignore[attr-defined]
        for node in nodes:
            graph._values.update((v.name, v) for v in node.outputs if v is not None)
        graph._inputs.extend(nodes[number] for number in data["inputs"])
        graph._outputs.extend(nodes[number] for number in data["outputs"])
        graph._output_names.update(node.name for node in graph._outputs)

    def _node(self, row: Mapping[str, Any], graph: Graph) -> Node:
        get = row.get
        node = Node(_KINDS[row["kind"]], get("op_type", ""), get("name", ""), get("domain", ""))
        node.overload, node.doc = get("overload", ""), get("doc", "")
        node.outputs = tuple(
            None if item is None else self._value(item, node, i)
            for i, item in enumerate(row["outputs"])
        )
        node.origin = self._origins.origin(get("origin"))
        if "attributes" in row:
            graph._set_attributes(node, self._attributes(row["attributes"], graph))
        if "tensor" in row:
            node.tensor = self._tensors.load(row["tensor"])
        if "sparse" in row:
            node.sparse = self._sparse(row["sparse"])
        if "declared" in row:
            node.declared = self._type(row["declared"])
        node.metadata = get("metadata", node.metadata)
        node.opaque = _bytes(get("opaque", ""))
        return node

    def _value(self, row: Sequence[Any], node: Node, index: int) -> Value:
        value = Value(row[0], self._type(row[1]), node, index)
        if len(row) > 2:
            value.doc, value.metadata = row[2], row[3]
        return value

    def _sparse(self, row: Sequence[Any]) -> SparseTensor:
        load = self._tensors.load
        return SparseTensor(load(row[0]), load(row[1]), tuple(row[2]))

    def _attributes(self, data: Mapping[str, Any], graph: Graph | None) -> dict[str, Attr]:
        found = {}
        for name, (number, content, ref, doc) in data.items():
            kind = AttrKind(number)
            found[name] = Attr(kind, self._attribute(kind, content, graph), ref, doc)
        return found

    def _attribute(self, kind: AttrKind, content: Any, graph: Graph | None) -> Any:
        if content is None:
            return None
        single = SINGLE.get(kind)
        if single is not None:
            return tuple(self._item(single, item, graph) for item in content)
        return self._item(kind, content, graph)

    def _item(self, kind: AttrKind, item: Any, graph: Graph | None) -> Any:
        if kind is AttrKind.STRING:
            return _bytes(item)
        if kind is AttrKind.TENSOR:
            return self._tensors.load(item)
        if kind is AttrKind.GRAPH:
            return self._nested(item, graph)
        if kind is AttrKind.SPARSE_TENSOR:
            return self._sparse(item)
        if kind is AttrKind.TYPE:
            return self._type(item)
        return item

    def _type(self, number: int) -> Type | None:
        return None if number == NO_TYPE else self._types[number]

    def _make_type(self, kind: int, denotation: str, *rest: Any) -> Type:
        made = TYPES[kind]
        if made is TensorType:
            shape = None if rest[1] is None else tuple(rest[1])
            return TensorType(DType(rest[0]), shape, denotation, tuple(rest[2]))
        if made is SparseTensorType:
            shape = None if rest[1] is None else tuple(rest[1])
            return SparseTensorType(DType(rest[0]), shape, denotation)
        if made is SequenceType:
            return SequenceType(self._type(rest[0]), denotation)
        if made is OptionalType:
            return OptionalType(self._type(rest[0]), denotation)
        if made is MapType:
            return MapType(DType(rest[0]), self._type(rest[1]), denotation)
        return OpaqueType(rest[0], rest[1], denotation)
