"""Graphs as JSON data, and back: everything that a pass can see, to the order of insertion.

A pass that runs over a graph that was read back makes what it would have made of the original. So
more is kept than a model file holds: the order of nodes and of uses, which passes walk in; the
numbers of names that were used up; and where nodes come from. Data of tensors and provenance are
not of the graph alone: `Tensors` and `Origins` say how they are written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from optc.ir.nodes import AttrKind, Kind, Origin
from optc.ir.tensor import SparseTensor, Tensor
from optc.ir.types import (
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optc.ir.graph import Graph
    from optc.ir.model import Function
    from optc.ir.nodes import Attr, Node, Value
    from optc.ir.types import Type

NO_TYPE: Final = -1
TYPES: Final = (TensorType, SparseTensorType, SequenceType, OptionalType, MapType, OpaqueType)
SINGLE: Final = {
    AttrKind.FLOATS: AttrKind.FLOAT,
    AttrKind.INTS: AttrKind.INT,
    AttrKind.STRINGS: AttrKind.STRING,
    AttrKind.TENSORS: AttrKind.TENSOR,
    AttrKind.GRAPHS: AttrKind.GRAPH,
    AttrKind.SPARSE_TENSORS: AttrKind.SPARSE_TENSOR,
    AttrKind.TYPES: AttrKind.TYPE,
}
"""The kind of the items of an attribute that is a list."""


class Tensors(Protocol):
    """How the tensors of a graph are written."""

    def dump(self, tensor: Tensor) -> Any:
        """JSON data that stands for a tensor."""
        ...

    def load(self, data: Any) -> Tensor:
        """The tensor that the data stands for; KeyError when it is gone."""
        ...


class Origins:
    """Provenance by number, so that what was one object is one object again.

    Numbers are given in the order in which origins are met; `news` tells those since the last time.
    """

    def __init__(self) -> None:
        self._known: list[Origin] = []
        self._numbers: dict[int, int] = {}
        self._told = 0

    def number(self, origin: Origin | None) -> int | None:
        """The number of an origin, with those of what it comes from before it."""
        if origin is None:
            return None
        stack = [origin]
        while stack:
            last = stack[-1]
            new = [p for p in last.parents if isinstance(p, Origin) and id(p) not in self._numbers]
            if new:
                stack.extend(reversed(new))
                continue
            stack.pop()
            if id(last) not in self._numbers:
                self._numbers[id(last)] = len(self._known)
                self._known.append(last)
        return self._numbers[id(origin)]

    def news(self) -> list[Any]:
        """The origins since the last call, as data."""
        fresh, self._told = self._known[self._told :], len(self._known)
        return [
            [o.made_by, [p if isinstance(p, str) else self._numbers[id(p)] for p in o.parents]]
            for o in fresh
        ]

    def learn(self, news: Iterable[Any]) -> None:
        """Take over what `news` gave, in the same order."""
        for made_by, parents in news:
            known = (p if isinstance(p, str) else self._known[p] for p in parents)
            origin = Origin(made_by, tuple(known))
            self._numbers[id(origin)] = len(self._known)
            self._known.append(origin)
        self._told = len(self._known)

    def origin(self, number: int | None) -> Origin | None:
        """The origin of a number."""
        return None if number is None else self._known[number]


def dump_graph(graph: Graph, tensors: Tensors, origins: Origins) -> dict[str, Any]:
    """A root graph with its model as JSON data."""
    writer = _Writer(tensors, origins)
    model = graph.model
    return {
        "model": {
            name: getattr(model, name)
            for name in ("ir_version", "producer_name", "producer_version", "domain")
        }
        | {"model_version": model.model_version, "doc": model.doc, "metadata": model.metadata}
        | {"opaque": _opaque(model.opaque)},
        "functions": [writer.function(function) for function in model.functions.values()],
        "graph": writer.root(graph),
        "types": writer.types,
    }


def all_tensors(graph: Graph) -> list[Tensor]:
    """Every tensor of a root graph and its nested graphs, in an order that is the model's own."""
    found: list[Tensor] = []
    for nested in graph.walk():
        for node in nested.nodes(*Kind):
            found.extend(_parts(node.tensor))
            found.extend(_parts(node.sparse))
            for attribute in node.attributes.values():
                items = (
                    attribute.value if isinstance(attribute.value, tuple) else (attribute.value,)
                )
                for item in items:
                    found.extend(_parts(item))
    return found


def _parts(item: object) -> tuple[Tensor, ...]:
    if isinstance(item, SparseTensor):
        return item.values, item.indices
    return (item,) if isinstance(item, Tensor) else ()


def _opaque(fields: Mapping[str, tuple[bytes, ...]]) -> dict[str, list[str]]:
    return {name: [_text(part) for part in parts] for name, parts in fields.items()}


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def names_of(graph: Graph) -> Counter[str]:
    """Names that the nodes of a root graph and of those nested in it take up."""
    found: Counter[str] = Counter()
    for nested in graph.walk():
        for node in nested.nodes(*Kind):
            if node.kind is Kind.OUTPUT:
                found[node.name] += 1
            found.update(value.name for value in node.outputs if value is not None)
    return found


class _Writer:
    def __init__(self, tensors: Tensors, origins: Origins) -> None:
        self.types: list[Any] = []
        self._tensors = tensors
        self._origins = origins
        self._type_numbers: dict[str, int] = {}

    def function(self, function: Function) -> dict[str, Any]:
        return {
            "name": function.name,
            "domain": function.domain,
            "overload": function.overload,
            "attributes": list(function.attributes),
            "defaults": self._attributes(function.defaults),
            "doc": function.doc,
            "metadata": dict(function.metadata),
            "body": self.root(function.body),
        }

    def root(self, graph: Graph) -> dict[str, Any]:
        own, taken = names_of(graph), graph._taken
        extra = {name: taken[name] - own[name] for name in taken if taken[name] != own[name]}
        return {
            **self._graph(graph),
            "opsets": dict(graph.opsets),
            "taken": extra,
            "suffix": dict(graph._suffix),
        }

    def _graph(self, graph: Graph) -> dict[str, Any]:
        nodes = list(graph._g)
        index = {node: number for number, node in enumerate(nodes)}
        uses = []
        for node in nodes:
            row = []
            for user, edges in graph._succ[node].items():
                keys = [[key, edge["value"].index] for key, edge in edges.items()]
                row.append([index[user], keys])
            uses.append(row)
        return {
            "name": graph.name,
            "doc": graph.doc,
            "metadata": graph.metadata,
            "opaque": _opaque(graph.opaque),
            "nodes": [self._node(node) for node in nodes],
            "uses": uses,
            "operands": [[index[source] for source in graph._pred[node]] for node in nodes],
            "inputs": [index[node] for node in graph._inputs],
            "outputs": [index[node] for node in graph._outputs],
        }

    def _node(self, node: Node) -> dict[str, Any]:
        """What is set of a node; what is not there is as a new node has it."""
        row: dict[str, Any] = {
            "kind": node.kind.value,
            "outputs": [None if v is None else self._value(v) for v in node.outputs],
        }
        for name in ("op_type", "name", "domain", "overload", "doc"):
            if text := getattr(node, name):
                row[name] = text
        if node.attributes:
            row["attributes"] = self._attributes(node.attributes)
        if node.tensor is not None:
            row["tensor"] = self._tensors.dump(node.tensor)
        if node.sparse is not None:
            row["sparse"] = self._sparse(node.sparse)
        if node.declared is not None:
            row["declared"] = self._type(node.declared)
        if node.origin is not None:
            row["origin"] = self._origins.number(node.origin)
        if node.metadata:
            row["metadata"] = dict(node.metadata)
        if node.opaque:
            row["opaque"] = _text(node.opaque)
        return row

    def _value(self, value: Value) -> list[Any]:
        row = [value.name, self._type(value.type)]
        if value.doc or value.metadata:
            row += [value.doc, dict(value.metadata)]
        return row

    def _sparse(self, sparse: SparseTensor) -> list[Any]:
        dump = self._tensors.dump
        return [dump(sparse.values), dump(sparse.indices), list(sparse.shape)]

    def _attributes(self, attributes: Mapping[str, Attr]) -> dict[str, Any]:
        return {
            name: [attr.kind.value, self._attribute(attr), attr.ref, attr.doc]
            for name, attr in attributes.items()
        }

    def _attribute(self, attr: Attr) -> Any:
        if attr.value is None:
            return None
        single = SINGLE.get(attr.kind)
        if single is not None:
            return [self._item(single, item) for item in attr.value]
        return self._item(attr.kind, attr.value)

    def _item(self, kind: AttrKind, item: Any) -> Any:
        if kind is AttrKind.STRING:
            return _text(item)
        if kind is AttrKind.TENSOR:
            return self._tensors.dump(item)
        if kind is AttrKind.GRAPH:
            return self._graph(item)
        if kind is AttrKind.SPARSE_TENSOR:
            return self._sparse(item)
        if kind is AttrKind.TYPE:
            return self._type(item)
        return item

    def _type(self, type: Type | None) -> int:
        if type is None:
            return NO_TYPE
        # Denotations do not count when types are compared, but in their text.
        key = repr(type)
        number = self._type_numbers.get(key)
        if number is None:
            data = self._type_data(type)
            number = self._type_numbers[key] = len(self.types)
            self.types.append(data)
        return number

    def _type_data(self, type: Type) -> list[Any]:
        head = [TYPES.index(type.__class__), type.denotation]
        if isinstance(type, TensorType):
            shape = None if type.shape is None else list(type.shape)
            return [*head, type.dtype.value, shape, list(type.dim_denotations)]
        if isinstance(type, SparseTensorType):
            return [*head, type.dtype.value, None if type.shape is None else list(type.shape)]
        if isinstance(type, SequenceType | OptionalType):
            return [*head, self._type(type.element)]
        if isinstance(type, MapType):
            return [*head, type.key.value, self._type(type.value)]
        return [*head, type.domain, type.name]
