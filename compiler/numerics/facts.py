"""What inputs a graph takes: their types, and which indices are valid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir.ops import Trait, attribute, info
from optc.ir.types import DType, TensorType

if TYPE_CHECKING:
    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.ir.types import Shape, Type
    from optc.numerics.values import Array


def required_inputs(graph: Graph) -> dict[str, Type]:
    """Types of the inputs that a run must be given, in order: those without a default.

    An input whose type the graph does not know is an `UNDEFINED` tensor.
    """
    return {
        value.name: value.type or TensorType(DType.UNDEFINED)
        for value in graph.inputs
        if value.node.tensor is None
    }


def retyped_outputs(graph: Graph, other: Graph) -> dict[str, DType]:
    """Outputs that are of fewer bits in another form of a graph: their type in the graph itself."""
    floats = {name: dtype for name, dtype in _output_types(graph).items() if dtype.is_float}
    return {
        name: floats[name]
        for name, dtype in _output_types(other).items()
        if dtype.is_float and name in floats and dtype.numpy.itemsize < floats[name].numpy.itemsize
    }


def _output_types(graph: Graph) -> dict[str, DType]:
    values = ((node.name, graph.operand(node, 0)) for node in graph.outputs)
    return {
        name: value.type.dtype
        for name, value in values
        if value is not None and isinstance(value.type, TensorType)
    }


def index_limits(graph: Graph) -> dict[str, int]:
    """For integer inputs that select elements of a tensor: one more than the greatest valid index.

    Follows an input through casts and operations that only move data, up to the Gather, OneHot or
    comparison with many numbers that takes it. Inputs of which nothing is found have no entry.
    """
    limits: dict[str, int] = {}
    for value in graph.inputs:
        if isinstance(value.type, TensorType) and value.type.dtype.is_integer:
            limit = _limit(graph, value)
            if limit is not None:
                limits[value.name] = limit
    return limits


def _limit(graph: Graph, start: Value) -> int | None:
    found: int | None = None
    stack, seen = [start], {start}
    while stack:
        value = stack.pop()
        for node, key in graph.uses(value):
            size = _indexed_size(graph, node, key)
            if size is not None:
                found = size if found is None else min(found, size)
            elif _passes_on(node, key):
                fresh = [output for output in node.outputs if output and output not in seen]
                stack.extend(fresh)
                seen.update(fresh)
    return found


def _indexed_size(graph: Graph, node: Node, key: int | str) -> int | None:
    """The size of the axis that operand `key` selects from; None when it selects nothing."""
    if node.is_op("OneHot") and key == 0:
        depth = _constant(graph.operand(node, 1))
        return None if depth is None else int(depth.item())
    if node.is_op("Equal"):  # a one-hot code written as comparison with 0, 1, 2, …
        other = _constant(graph.operand(node, 1 if key == 0 else 0))
        return None if other is None or other.size <= 2 else int(other.max()) + 1
    shape = _shape(graph.operand(node, 0))
    axis = attribute(graph, node, "axis") or 0
    if key != 1 or not node.is_op("Gather", "GatherElements"):
        return None
    size = shape[axis] if shape and -len(shape) <= axis < len(shape) else None
    return size if isinstance(size, int) else None


def _constant(value: Value | None) -> Array | None:
    tensor = None if value is None else value.constant
    return None if tensor is None else tensor.numpy()


def _passes_on(node: Node, key: int | str) -> bool:
    """Whether the outputs of a node consist of elements of this operand."""
    if node.is_op("Cast") or (node.is_op("Where") and key in (1, 2)) or node.is_op("Concat"):
        return True
    return key == 0 and info(node).has(Trait.DATA_MOVEMENT) and not node.is_op("Where")


def _shape(value: Value | None) -> Shape | None:
    return value.type.shape if value is not None and isinstance(value.type, TensorType) else None
