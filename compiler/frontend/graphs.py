"""GraphProto and FunctionProto to graphs of the IR: names become edges.

`Constant` operations become constants of the graph they stand in, exactly as if their tensor were
an initializer: exporters choose between the two freely. Left as operations are those whose value
is sparse (a sparse initializer has another type than the dense tensor that `Constant` gives) and
those in function bodies, which have no initializers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from optc.frontend.records import AttributeReader, in_order
from optc.frontend.strings import pairs, text
from optc.frontend.tensors import TensorReader
from optc.frontend.types import read_type
from optc.ir import Attr, AttrKind, DType, Graph, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import onnx

    from optc.frontend.checks import OperatorCheck
    from optc.frontend.records import Record
    from optc.frontend.source import Source
    from optc.ir import Node, SparseTensor, Type, Value


@dataclass
class _Scope:
    """Names that a node of a graph can refer to.

    Attributes:
        graph: the graph.
        outer: scope of the enclosing graph at the node that owns this one; None for a root.
        values: values of the graph so far, captured ones included.
        captured: what the subgraphs of one owner take from the enclosing graph, by inner name.
        infos: what value_info says, by name.
        results: declared outputs by name; they give a type where value_info does not.
        in_function: whether this is a function body or lies in one.
    """

    graph: Graph
    outer: _Scope | None = None
    captured: dict[str, Value] = field(default_factory=dict)
    in_function: bool = False
    values: dict[str, Value] = field(default_factory=dict)
    infos: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    results: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)

    def find(self, name: str) -> Value | None:
        """The value of this name; one of an enclosing graph is captured on the way in."""
        value = self.values.get(name)
        if value is None and self.outer is not None:
            source = self.outer.find(name)
            if source is not None:
                value = self.graph.add_capture(name, source.type)
                self.values[name] = value
                self.captured[name] = source
        return value


class GraphReader:
    """Reads the graphs and function bodies of one model."""

    def __init__(self, source: Source, operators: OperatorCheck) -> None:
        self._source = source
        self._operators = operators
        self._tensors = TensorReader(source)
        self._attributes = AttributeReader(source, self._tensors)
        # Types are frozen, so values share them: a model has many values and few types.
        self._types: dict[bytes, Type | None] = {}

    def read(self, proto: onnx.GraphProto, graph: Graph, weights: Mapping[int, memoryview]) -> None:
        """Fill an empty root graph; `weights` is raw data that the initializers lack.

        Raises:
            ModelError: a tensor, type or attribute is not valid, a name is defined twice or not
                at all, an operator does not exist, or the nodes form a cycle.
        """
        self._fill(proto, _Scope(graph), weights)

    def attribute(self, proto: onnx.AttributeProto) -> Attr:
        """An attribute outside of nodes: the default of a function's parameter."""
        return self._attributes.read(proto)

    def read_function(self, proto: onnx.FunctionProto, body: Graph) -> None:
        """Fill the body of a model-local function.

        Raises:
            ModelError: as for `read`.
        """
        scope = _Scope(body, in_function=True)
        scope.infos = {text(info.name): info for info in proto.value_info}
        for name in map(text, proto.input):
            self._check_new(scope, name)
            info = scope.infos.get(name)
            self._define(scope, body.add_input(name, self._type(info)), info)
        self._nodes(proto.node, scope)
        for name in map(text, proto.output):
            self._add_output(scope, name)

    def _fill(
        self,
        proto: onnx.GraphProto,
        scope: _Scope,
        weights: Mapping[int, memoryview] = MappingProxyType({}),
    ) -> None:
        graph = scope.graph
        graph.doc = text(proto.doc_string)
        graph.metadata = pairs(proto.metadata_props)
        if proto.quantization_annotation:
            notes = (item.SerializeToString() for item in proto.quantization_annotation)
            graph.opaque["quantization_annotation"] = tuple(notes)
        scope.infos = {text(info.name): info for info in proto.value_info}
        scope.results = {text(info.name): info for info in proto.output}
        data = self._initializers(proto, weights)
        for info in proto.input:
            self._input(scope, info, data.pop(text(info.name), None))
        for name, tensor in data.items():
            self._constant(scope, name, tensor)
        self._nodes(proto.node, scope)
        for info in proto.output:
            self._output(scope, info)

    def _initializers(
        self, proto: onnx.GraphProto, weights: Mapping[int, memoryview]
    ) -> dict[str, Tensor | SparseTensor]:
        found: dict[str, Tensor | SparseTensor] = {}
        for index, dense in enumerate(proto.initializer):
            name = text(dense.name)
            self._check_name(name, found)
            found[name] = self._tensors.dense(dense, weights.get(index))
        for sparse in proto.sparse_initializer:
            name = text(sparse.values.name)
            self._check_name(name, found)
            found[name] = self._tensors.sparse(sparse)
        return found

    def _input(
        self, scope: _Scope, info: onnx.ValueInfoProto, default: Tensor | SparseTensor | None
    ) -> None:
        name = text(info.name)
        self._check_new(scope, name)
        value = scope.graph.add_input(name, self._type(info))
        if isinstance(default, Tensor):
            value.node.tensor = default
        else:
            value.node.sparse = default
        self._define(scope, value, info)

    def _constant(self, scope: _Scope, name: str, data: Tensor | SparseTensor) -> Node:
        self._check_new(scope, name)
        value = scope.graph.add_constant(data, name)
        self._define(scope, value, scope.infos.get(name))
        return value.node

    def _output(self, scope: _Scope, info: onnx.ValueInfoProto) -> None:
        node = self._add_output(scope, text(info.name), self._type(info))
        node.doc = text(info.doc_string)
        node.metadata = pairs(info.metadata_props)

    def _add_output(self, scope: _Scope, name: str, declared: Type | None = None) -> Node:
        value = self._resolve(scope, name, "a graph output")
        try:
            return scope.graph.add_output(value, name, declared)
        except ValueError as error:
            if scope.outer is not None:  # outputs of a subgraph go by position, so any name does
                return scope.graph.add_output(value, scope.graph.fresh_name(name), declared)
            raise self._source.error(
                "duplicate-output",
                f"the graph has two outputs named {name!r}",
                "give each output a name of its own, for example through Identity",
            ) from error

    # ---- nodes ---------------------------------------------------------------------------------

    def _nodes(self, protos: Iterable[onnx.NodeProto], scope: _Scope) -> None:
        records = in_order([self._attributes.record(proto) for proto in protos])
        if records is None:
            raise self._source.error(
                "graph-cycle", f"the nodes of graph {scope.graph.name!r} form a cycle"
            )
        for record in records:
            tensor = None if scope.in_function else _constant_of(record)
            if tensor is None:
                self._node(record, scope)
            else:
                node = self._constant(scope, record.outputs[0], tensor)
                node.doc = text(record.proto.doc_string)
                node.metadata = pairs(record.proto.metadata_props)

    def _node(self, record: Record, scope: _Scope) -> None:
        graph, proto, infos = scope.graph, record.proto, scope.infos
        self._operators.check(record, graph.opsets)
        find = scope.values.get
        operands = [
            (find(name) or self._resolve(scope, name, record.label)) if name else None
            for name in record.inputs
        ]
        captures: dict[str, Value] = {}
        attributes: Mapping[str, Attr] = record.attributes
        if record.graphs:
            attributes = self._with_subgraphs(record, scope, captures)
        for name in record.outputs:
            if name in scope.values:
                self._check_new(scope, name)
        node = graph.add(
            record.op_type,
            operands,
            outputs=[name or None for name in record.outputs],
            domain=record.domain,
            name=text(proto.name),
            attributes=attributes,
            types=[
                self._type(infos.get(name) or scope.results.get(name)) for name in record.outputs
            ],
            captures=captures,
        )
        node.overload = text(proto.overload)
        node.doc = text(proto.doc_string)
        if proto.metadata_props:
            node.metadata = pairs(proto.metadata_props)
        if proto.device_configurations:
            part = proto.__class__(device_configurations=proto.device_configurations)
            node.opaque = part.SerializeToString()
        for value in node.outputs:
            if value is not None:
                self._define(scope, value, infos.get(value.name))

    def _with_subgraphs(
        self, record: Record, scope: _Scope, captures: dict[str, Value]
    ) -> dict[str, Attr]:
        attributes = dict(record.attributes)
        for name, protos in record.graphs:
            graphs = []
            for proto in protos:
                inner = Graph(text(proto.name), parent=scope.graph)
                self._fill(proto, _Scope(inner, scope, captures, scope.in_function))
                graphs.append(inner)
            empty = attributes[name]
            value = graphs[0] if empty.kind is AttrKind.GRAPH else tuple(graphs)
            attributes[name] = replace(empty, value=value)
        return attributes

    # ---- values --------------------------------------------------------------------------------

    def _resolve(self, scope: _Scope, name: str, user: str) -> Value:
        value = scope.find(name)
        if value is None:
            raise self._source.error(
                "undefined-value",
                f"{user} uses {name!r}, which nothing defines",
                "the model is incomplete; export it again",
            )
        return value

    def _define(self, scope: _Scope, value: Value, info: onnx.ValueInfoProto | None) -> None:
        scope.values[value.name] = value
        if info is not None:
            value.doc = text(info.doc_string)
            if info.metadata_props:
                value.metadata = pairs(info.metadata_props)

    def _type(self, info: onnx.ValueInfoProto | None) -> Type | None:
        if info is None:
            return None
        key = info.type.SerializeToString()
        if key not in self._types:
            try:
                self._types[key] = read_type(info.type)
            except ValueError as error:
                raise self._source.error(
                    "type-invalid",
                    f"the type of {info.name!r} is not valid: {error}",
                    "upgrade the onnx package, or export the model again",
                ) from error
        return self._types[key]

    def _check_new(self, scope: _Scope, name: str) -> None:
        self._check_name(name, scope.values)

    def _check_name(self, name: str, taken: Mapping[str, object]) -> None:
        if name in taken:
            raise self._source.error(
                "duplicate-value",
                f"{name!r} is defined twice in one graph",
                "give each value a name of its own, or export the model again",
            )
        if not name:
            raise self._source.error("unnamed-value", "an input or initializer has no name")


def _constant_of(record: Record) -> Tensor | None:
    """The tensor of a `Constant` operation; None for other nodes, and where it must stay one."""
    if record.op_type != "Constant" or record.domain or len(record.attributes) != 1:
        return None
    ((name, attribute),) = record.attributes.items()
    if attribute.ref or len(record.outputs) != 1 or not record.outputs[0]:
        return None
    make = _CONSTANT_FORMS.get((name, attribute.kind))
    if make is None:
        return None
    return make(attribute.value)


def _vector(dtype: DType, items: tuple[float, ...]) -> Tensor:
    return Tensor.from_numpy(np.array(items, dtype=dtype.numpy), dtype)


_CONSTANT_FORMS: dict[tuple[str, AttrKind], Callable[[Any], Tensor]] = {
    ("value", AttrKind.TENSOR): lambda value: value,
    ("value_float", AttrKind.FLOAT): lambda value: Tensor.from_numpy(value, DType.F32),
    ("value_floats", AttrKind.FLOATS): lambda value: _vector(DType.F32, value),
    ("value_int", AttrKind.INT): lambda value: Tensor.from_numpy(value, DType.I64),
    ("value_ints", AttrKind.INTS): lambda value: _vector(DType.I64, value),
    ("value_string", AttrKind.STRING): lambda value: Tensor.from_strings([value], ()),
    ("value_strings", AttrKind.STRINGS): lambda value: Tensor.from_strings(value, (len(value),)),
}
