"""Copies of graphs: fresh nodes and values, shared tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optc.ir.graph import Graph
from optc.ir.nodes import Attr, AttrKind, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir.model import Function, ModelInfo
    from optc.ir.nodes import Node, Value


def clone(graph: Graph) -> Graph:
    """A copy of a root graph with its functions; constants share their data.

    Nothing done to the copy shows in the original.
    """
    model = _clone_model(graph.model)
    return _clone_graph(graph, Graph(graph.name, graph.opsets, model=model))


def _clone_model(model: ModelInfo) -> ModelInfo:
    functions = {key: _clone_function(function) for key, function in model.functions.items()}
    return replace(
        model, metadata=dict(model.metadata), functions=functions, opaque=dict(model.opaque)
    )


def _clone_function(function: Function) -> Function:
    body = function.body
    return replace(function, body=_clone_graph(body, Graph(body.name, body.opsets)))


def _clone_graph(source: Graph, target: Graph) -> Graph:
    target.doc = source.doc
    target.metadata = dict(source.metadata)
    target.opaque = dict(source.opaque)
    values: dict[Value, Value] = {}
    for old in source.inputs:
        values[old] = carry_value(old, target.add_input(old.name, old.type, old.node.tensor))
        values[old].node.sparse = old.node.sparse
    for node in source.nodes(Kind.CONSTANT, Kind.CAPTURE):
        old = node.output
        data = node.tensor or node.sparse
        if data is not None:
            values[old] = carry_value(old, target.add_constant(data, old.name, node.origin))
        else:
            values[old] = carry_value(old, target.add_capture(old.name, old.type))
    for node in source.ordered():
        _clone_node(source, node, target, values)
    for node in source.outputs:
        operand = source.operand(node, 0)
        assert operand is not None
        made = target.add_output(values[operand], node.name, node.declared)
        made.doc, made.metadata = node.doc, node.metadata
    return target


def _clone_node(source: Graph, node: Node, target: Graph, values: dict[Value, Value]) -> None:
    made = target.add(
        node.op_type,
        [None if value is None else values[value] for value in source.operands(node)],
        outputs=[None if value is None else value.name for value in node.outputs],
        domain=node.domain,
        name=node.name,
        attributes=clone_attributes(node.attributes, target),
        types=[None if value is None else value.type for value in node.outputs],
        captures={name: values[value] for name, value in source.captures(node).items()},
        origin=node.origin,
    )
    carry_node(node, made)
    for old, new in zip(node.outputs, made.outputs, strict=True):
        if old is not None and new is not None:
            values[old] = carry_value(old, new)


def carry_node(old: Node, new: Node) -> None:
    """Give an operation the fields of another that are carried without reading."""
    new.overload, new.doc = old.overload, old.doc
    new.metadata, new.opaque = old.metadata, old.opaque


def clone_attributes(attributes: Mapping[str, Attr], parent: Graph) -> dict[str, Attr]:
    """Attributes for a node of `parent`: subgraphs are copied, everything else is shared."""
    return {
        name: _clone_attribute(attribute, parent) if attribute.graphs else attribute
        for name, attribute in attributes.items()
    }


def _clone_attribute(attribute: Attr, parent: Graph) -> Attr:
    copies = tuple(
        _clone_graph(graph, Graph(graph.name, parent=parent)) for graph in attribute.graphs
    )
    return replace(attribute, value=copies[0] if attribute.kind is AttrKind.GRAPH else copies)


def carry_value(old: Value, new: Value) -> Value:
    """Give a value, and a node that only makes it, what is carried with another; returns it."""
    new.doc, new.metadata = old.doc, old.metadata
    new.node.doc, new.node.metadata = old.node.doc, old.node.metadata
    new.node.sparse = old.node.sparse  # also the default of an input
    return new
