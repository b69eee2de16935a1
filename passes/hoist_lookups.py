"""Apply elementwise operations to a table rather than to what is looked up in it.

    f(Gather(T, i))          =  Gather(f(T), i)             f elementwise in one operand
    Gather(T, i) ∘ c         =  Gather(T ∘ c, i)            c constant along the rows of T

Done where the table is smaller than what is looked up; `fold-constants` then computes f(T) once.
Source: ONNX operator Gather-13.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from optc.ir import TensorType, ops
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassResult
from optc.passes.linear import other_use, use_text
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULE = "lookup"


class HoistLookups(Pass):
    """Move elementwise operations in front of Gather, onto its constant table.

    Refuses: a looked-up value that something else uses; a table that is not known to be smaller
    than what is looked up; an axis other than the first; a constant that differs between rows of
    what is looked up.
    """

    name: ClassVar[str] = "hoist-lookups"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Hoist in the graph and all its subgraphs, in order, so that chains move as a whole."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and (gather := _lookup_before(nested, node)) is not None:
                    self._hoist(nested, node, gather, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)

    def _hoist(self, graph: Graph, node: Node, gather: Node, trace: Trace) -> None:
        if reason := _obstacle(graph, node, gather):
            trace.refused(_RULE, node, reason)
            return
        table, index = graph.operands(gather)
        assert table is not None
        build = Builder(graph, self.name, (node, gather))
        rank = len(shape_of(graph, table) or ())
        operands = [
            table if v is gather.output else _along_rows(build, v, rank)
            for v in graph.operands(node)
        ]
        made = build.node(node.op_type, operands, like=node, domain=node.domain).output
        if isinstance(table.type, TensorType) and isinstance(node.output.type, TensorType):
            graph.set_type(made, TensorType(node.output.type.dtype, table.type.shape))
        looked_up = build.Gather(made, index, like=gather)
        trace.applied(_RULE, node)
        replace_node(graph, node, [looked_up], build.made)


def _lookup_before(graph: Graph, node: Node) -> Node | None:
    """The Gather in a constant table, or in what was computed of one, that a node is applied to."""
    row = ops.info(node)
    if not row.has(ops.Trait.ELEMENTWISE) or row.has(ops.Trait.RANDOM) or len(node.outputs) != 1:
        return None
    for value in graph.operands(node):
        if value is not None and value.node.is_op("Gather"):
            table = graph.operand(value.node, 0)
            if table is not None and _is_constant(graph, table):
                return value.node
    return None


def _is_constant(graph: Graph, value: Value) -> bool:
    """Whether a value is constant, or an elementwise function of constants."""
    while value.constant is None:
        if not ops.info(value.node).has(ops.Trait.ELEMENTWISE):
            return False
        others = [v for v in graph.operands(value.node) if v is not None and v.constant is None]
        if len(others) != 1:
            return bool(not others)
        value = others[0]
    return True


def _obstacle(graph: Graph, node: Node, gather: Node) -> str | None:
    table, index = graph.operands(gather)
    assert table is not None
    assert index is not None
    if other := other_use(graph, gather.output, (node,)):
        return f"the looked-up value {use_text(other, 'also feeds')}"
    if ops.attribute(graph, gather, "axis") != 0:
        return "the Gather is not along the first axis"
    height, found = shape_of(graph, table), shape_of(graph, index)
    if height is None or not all(isinstance(dim, int) for dim in height):
        return f"the shape of table {table.name} is not known"
    numbers = [dim for dim in found or () if isinstance(dim, int)]
    if found is None or math.prod(numbers) < height[0]:  # type: ignore[operator] # numbers, above
        return "the table is not known to be smaller than what is looked up"
    values = [v for v in graph.operands(node) if v is not None and v is not gather.output]
    ranks = (len(height), len(found) + len(height) - 1)
    return next((why for v in values if (why := _value_obstacle(v, *ranks))), None)


def _value_obstacle(value: Value, rank: int, result_rank: int) -> str | None:
    """Why another operand cannot be applied to the table as it is to the rows, or None.

    Args:
        value: the operand.
        rank: dimensions of the table.
        result_rank: dimensions of what is looked up.
    """
    if value.constant is None:
        return f"{value.name} is not constant"
    shape = value.constant.shape
    if len(shape) >= rank and any(size != 1 for size in shape[: len(shape) - rank + 1]):
        return f"the constant {value.constant.type} differs between rows"
    if len(shape) > result_rank:
        return f"the constant {value.constant.type} would enlarge the result"
    return None


def _along_rows(build: Builder, value: Value | None, rank: int) -> Value | None:
    """A constant without the axes of size 1 that the table does not have."""
    if value is None or value.constant is None or len(value.constant.shape) < rank:
        return value
    shape = value.constant.shape[len(value.constant.shape) - rank + 1 :]
    array = value.constant.numpy().reshape(shape)
    return build.constant(array, dtype=value.constant.dtype, name=value.name)
