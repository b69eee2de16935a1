"""Graphs of the IR to GraphProto and FunctionProto."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import onnx

from optc.emit.names import FreshNames, Names
from optc.emit.protos import add_pairs, provenance
from optc.errors import InternalError
from optc.ir import Kind, TensorType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.emit.protos import ProtoWriter
    from optc.ir import Attr, Function, Graph, Node, Tensor, Type, Value


class Store(Protocol):
    """Where the data of constants goes."""

    def add(self, graph: onnx.GraphProto, writer: ProtoWriter, tensor: Tensor, name: str) -> None:
        """Add an initializer to `graph`."""
        ...


class Inline:
    """Data goes into the initializer."""

    def add(self, graph: onnx.GraphProto, writer: ProtoWriter, tensor: Tensor, name: str) -> None:
        """Add an initializer with its data."""
        writer.tensor(graph.initializer.add(), tensor, name)


class Skeleton:
    """Data of large constants is left out: enough for shape inference, which reads small ones."""

    def add(self, graph: onnx.GraphProto, writer: ProtoWriter, tensor: Tensor, name: str) -> None:
        """Add an initializer, with data when it is small."""
        writer.tensor(graph.initializer.add(), tensor, name, data=tensor.is_small)


class GraphWriter:
    """Writes the graphs of one model.

    `internal` as for `Names`; `node_names` are written instead of the operations' own names; with
    `plain_canonical`, canonical operations become operators of ONNX's own domain.

    Attributes:
        writer: fills the messages, and knows the IR version that they need.
        has_canonical: whether a canonical operation was written, which only `internal` allows.
    """

    def __init__(
        self,
        root: Graph,
        writer: ProtoWriter,
        store: Store,
        *,
        internal: bool = False,
        node_names: Mapping[Node, str] | None = None,
        plain_canonical: bool = False,
    ) -> None:
        self._internal = internal
        self._plain_canonical = plain_canonical
        self._node_names = node_names or {}
        self._fresh = FreshNames(root)
        self.writer = writer
        self._store = store
        self.has_canonical = False

    def write(self, proto: onnx.GraphProto, graph: Graph) -> None:
        """Write a root graph."""
        self._graph(proto, graph, Names(graph, self._fresh, internal=self._internal))

    def function(self, proto: onnx.FunctionProto, function: Function) -> None:
        """Write a model-local function."""
        self.writer.need(8)
        body = function.body
        proto.name, proto.domain = function.name, function.domain
        if function.overload:
            self.writer.need(10)
            proto.overload = function.overload
        proto.attribute.extend(function.attributes)
        for name, attr in function.defaults.items():
            self.writer.need(9)
            self.writer.attribute(proto.attribute_proto.add(), name, attr)
        if function.doc:
            proto.doc_string = function.doc
        add_pairs(proto, function.metadata)
        for domain, version in body.opsets.items():
            proto.opset_import.add(domain=domain, version=version)
        names = Names(body, FreshNames(body))
        proto.input.extend(names.of[value] for value in body.inputs)
        proto.output.extend(names.targets)
        for value in body.inputs:
            self._info(proto, value, names)
        self._nodes(proto, body, names, frozenset())

    def _graph(self, proto: onnx.GraphProto, graph: Graph, names: Names) -> None:
        proto.name = graph.name or "graph"  # onnx.checker wants one
        if graph.doc:
            proto.doc_string = graph.doc
        add_pairs(proto, graph.metadata)
        for data in graph.opaque.get("quantization_annotation", ()):
            self.writer.need(5)
            proto.quantization_annotation.add().ParseFromString(data)
        self._inputs(proto, graph, names)
        for value in graph.constants():
            self._constant(proto, value, names)
        self._nodes(proto, graph, names, frozenset(names.targets))
        # Two outputs have one name only where outputs go by their values.
        for target, node in dict(zip(names.targets, graph.outputs, strict=True)).items():
            type = _result_type(graph, node)
            info = proto.output.add()
            self.writer.value_info(info, target, type, node.doc, node.metadata)

    def _inputs(self, proto: onnx.GraphProto, graph: Graph, names: Names) -> None:
        for value in graph.inputs:
            name, node = names.of[value], value.node
            self.writer.value_info(proto.input.add(), name, value.type, value.doc, value.metadata)
            if node.tensor is not None:
                self._store.add(proto, self.writer, node.tensor, name)
            elif node.sparse is not None:
                self.writer.sparse(proto.sparse_initializer.add(), node.sparse, name)

    def _constant(self, proto: onnx.GraphProto, value: Value, names: Names) -> None:
        self.writer.need(4)  # before, every initializer had to be an input
        name, node = names.of[value], value.node
        if node.sparse is not None:
            self.writer.sparse(proto.sparse_initializer.add(), node.sparse, name)
            made = proto.sparse_initializer[-1].values
        else:
            assert node.tensor is not None
            self._store.add(proto, self.writer, node.tensor, name)
            made = proto.initializer[-1]
        if node.doc and not made.doc_string:
            made.doc_string = node.doc
        add_pairs(made, {**node.metadata, **provenance(node.origin)})
        if value.doc or value.metadata:
            self.writer.value_info(
                proto.value_info.add(), name, value.type, value.doc, value.metadata
            )

    # ---- nodes ---------------------------------------------------------------------------------

    def _nodes(
        self,
        proto: onnx.GraphProto | onnx.FunctionProto,
        graph: Graph,
        names: Names,
        described: frozenset[str],
    ) -> None:
        for node in graph.ordered():
            self._node(proto.node.add(), node, graph, names)
            for value in node.outputs:
                if value is not None:
                    names.defined.add(names.of[value])
                    if names.of[value] not in described:
                        self._info(proto, value, names)
        for value, target in names.copies:
            proto.node.add(op_type="Identity", input=[names.of[value]], output=[target])

    def _domain(self, node: Node) -> str:
        if not node.is_canonical:
            return node.domain
        if self._plain_canonical:
            return ""
        if not self._internal:
            raise InternalError(
                "canonical-operation", f"{node.label}: {node.qualified_op} has not been lowered"
            )
        self.has_canonical = True
        return node.domain

    def _node(self, proto: onnx.NodeProto, node: Node, graph: Graph, names: Names) -> None:
        proto.op_type = node.op_type
        operands = graph.operands(node)
        proto.input.extend("" if value is None else names.of[value] for value in operands)
        proto.output.extend("" if value is None else names.of[value] for value in node.outputs)
        if name := self._node_names.get(node, node.name):
            proto.name = name
        if node.domain:
            proto.domain = self._domain(node)
        if node.attributes:
            self._attributes(proto, node, graph, names)
        if node.overload:
            self.writer.need(10)
            proto.overload = node.overload
        if node.doc:
            proto.doc_string = node.doc
        if node.metadata or node.origin is not None:
            add_pairs(proto, {**node.metadata, **provenance(node.origin)})
        if node.opaque:
            self.writer.need(11)
            proto.MergeFromString(node.opaque)

    def _attributes(self, proto: onnx.NodeProto, node: Node, graph: Graph, names: Names) -> None:
        captured: Mapping[str, str] = {}
        if any(attr.graphs for attr in node.attributes.values()):
            captures = graph.captures(node)
            captured = {inner: names.of[value] for inner, value in captures.items()}
        for name, attr in node.attributes.items():
            made = proto.attribute.add()
            if attr.graphs:
                self._subgraphs(made, name, attr, names, captured)
            else:
                self.writer.attribute(made, name, attr)

    def _subgraphs(
        self,
        proto: onnx.AttributeProto,
        name: str,
        attr: Attr,
        names: Names,
        captured: Mapping[str, str],
    ) -> None:
        proto.name = name
        proto.type = attr.kind.value
        if attr.doc:
            proto.doc_string = attr.doc
        for graph in attr.graphs:
            inner = Names(graph, self._fresh, names, captured)
            made = proto.g if attr.kind.value == onnx.AttributeProto.GRAPH else proto.graphs.add()
            self._graph(made, graph, inner)

    def _info(
        self, proto: onnx.GraphProto | onnx.FunctionProto, value: Value, names: Names
    ) -> None:
        if value.type is not None or value.doc or value.metadata:
            self.writer.value_info(
                proto.value_info.add(), names.of[value], value.type, value.doc, value.metadata
            )


def _result_type(graph: Graph, node: Node) -> Type | None:
    """Type of a graph output: as declared, with what the declaration leaves open filled in.

    Outputs of subgraphs need no type. Those that are constants get one all the same, because
    ONNX's inference does not look for it in the initializer.
    """
    value, declared = graph.operand(node, 0), node.declared
    assert value is not None
    if graph.parent is not None and value.node.kind is not Kind.CONSTANT:
        return declared
    known = value.type
    if declared is None:
        return known
    if not isinstance(declared, TensorType) or not isinstance(known, TensorType):
        return declared
    if declared.shape is not None or declared.dtype is not known.dtype:
        return declared
    return replace(declared, shape=known.shape)
