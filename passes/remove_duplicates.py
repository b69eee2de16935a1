"""Compute equal things once.

Constants of equal type, shape and bits become one; operations of the same operator with equal
attributes and the same operands become one, where operand order does not matter in any order.
Constants are compared by digest, and only those that could be equal are read.
Source: common subexpression elimination by value numbering (hash-consing in topological order).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optc.ir import AttrKind, DType, Kind, ops
from optc.passes.base import Pass, PassResult
from optc.rewrite.driver import replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from optc.ir import Attr, Graph, Node, SparseTensor, Tensor, Value
    from optc.passes.base import PassContext

_PEEKED_BYTES = 64


class RemoveDuplicates(Pass):
    """Merge equal constants and equal operations of one graph; subgraphs are graphs of their own.

    Refuses: operations that may give another result on each run (random, custom operators), and
    operations with subgraphs, which are not compared; a constant that is itself a graph output.
    """

    name = "remove-duplicates"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Constants first, then one sweep over the operations in order of execution."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            _merge_constants(nested, trace)
            _merge_operations(nested, trace)
            for owner in nested.ordered():
                if owner.attributes:
                    _merge_captures(nested, owner)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _merge_captures(graph: Graph, owner: Node) -> None:
    """Let each subgraph capture a value once; this is not to be seen in the graph, so no change."""
    captures = graph.captures(owner)
    if len(set(captures.values())) == len(captures):
        return
    left: set[str] = set()
    for _, inner in owner.subgraphs():
        first: dict[Value, Value] = {}
        for node in sorted(inner.nodes(Kind.CAPTURE), key=lambda item: item.name):
            kept = first.setdefault(captures[node.name], node.output)
            if kept is node.output:
                left.add(node.name)
            else:
                inner.replace_uses(node.output, kept)
                inner.remove(node)
    for name in captures:
        if name not in left:
            graph.set_operand(owner, name, None)


# ---- constants ---------------------------------------------------------------------------------


def _merge_constants(graph: Graph, trace: Trace) -> None:
    outputs = {graph.operand(node, 0): node.name for node in graph.outputs}
    # By name, so that which one survives does not depend on the order in the file.
    constants = [v for v in graph.constants() if v.constant is not None]
    constants.sort(key=lambda value: value.name)
    alike: dict[Hashable, list[Value]] = {}
    for value in constants:
        alike.setdefault(_outline(value.node.tensor), []).append(value)
    for group in alike.values():
        if len(group) > 1:
            _merge_group(graph, group, outputs, trace)


def _merge_group(
    graph: Graph, group: list[Value], outputs: dict[Value | None, str], trace: Trace
) -> None:
    first: dict[str, Value] = {}
    for value in group:
        assert value.constant is not None
        kept = first.setdefault(value.constant.digest, value)
        if kept is value:
            continue
        if value in outputs:
            trace.refused("equal-constant", value.node, f"it is the graph output {outputs[value]}")
            continue
        graph.replace_uses(value, kept)
        graph.remove(value.node)
        trace.applied("equal-constant", value.node)


def _outline(tensor: Tensor | None) -> Hashable:
    """What is cheap to know and equal for equal tensors: type, shape and the first bytes."""
    assert tensor is not None
    if tensor.dtype is DType.STRING:
        return tensor.type, tensor.strings[:1]
    head = next(iter(tensor.chunks()), b"")
    return tensor.type, bytes(head[:_PEEKED_BYTES])


# ---- operations --------------------------------------------------------------------------------


def _merge_operations(graph: Graph, trace: Trace) -> None:
    first: dict[Hashable, Node] = {}
    for node in graph.ordered():
        kept = first.setdefault(_key(graph, node), node)
        if kept is node:
            continue
        if reason := _keeps_apart(graph, node):
            trace.refused("equal-operation", node, reason)
            continue
        replace_node(graph, node, [value for value in kept.outputs if value is not None])
        trace.applied("equal-operation", node)


def _keeps_apart(graph: Graph, node: Node) -> str | None:
    """Why two operations that look equal are not merged, or None."""
    if node.is_op("Identity"):
        return "whether an Identity is needed is decided by remove-identity"
    if any(attribute.graphs for attribute in node.attributes.values()):
        return f"{node.qualified_op} has subgraphs, which are not compared"
    if not ops.is_deterministic(graph, node):
        return f"{node.qualified_op} may give another result on each run"
    return None


def _key(graph: Graph, node: Node) -> Hashable:
    """Equal for operations that compute the same, as far as their subgraphs are not looked at."""
    operands: Iterable[Value | None] = graph.operands(node)
    if ops.info(node).has(ops.Trait.COMMUTATIVE):
        operands = sorted((value for value in operands if value is not None), key=id)
    attributes = sorted(node.attributes.items())
    return (
        node.op_type,
        node.domain,
        node.overload,
        tuple(operands),
        tuple((name, content(attribute)) for name, attribute in attributes),
        tuple(graph.captures(node).items()) if attributes else (),
        tuple(value is None for value in node.outputs),
        node.opaque,
    )


def content(attribute: Attr) -> Hashable:
    """Equal for attributes of equal kind and value, to the bit; subgraphs are not looked at."""
    if attribute.ref or attribute.graphs:
        return attribute.kind, attribute.ref
    value = attribute.value
    items = value if isinstance(value, tuple) else (value,)
    return attribute.kind, isinstance(value, tuple), tuple(_item(attribute, i) for i in items)


def _item(attribute: Attr, item: Any) -> Hashable:
    match attribute.kind:
        case AttrKind.FLOAT | AttrKind.FLOATS:
            return float(item).hex()  # tells 0.0 from -0.0, and finds NaN equal to NaN
        case AttrKind.TENSOR | AttrKind.TENSORS:
            return str(item.digest)
        case AttrKind.SPARSE_TENSOR | AttrKind.SPARSE_TENSORS:
            return _sparse(item)
        case _:
            hashable: Hashable = item
            return hashable


def _sparse(tensor: SparseTensor) -> Hashable:
    return tensor.shape, tensor.values.digest, tensor.indices.digest
