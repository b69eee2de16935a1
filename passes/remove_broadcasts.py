"""Remove Expand and Tile where the operation behind them broadcasts anyway.

    Mul(x, Expand(s, shape of x))  = Mul(x, s)
    Where(Expand(c, …), a, b)      = Where(c, a, b)
    MatMul(a, Expand(b, …))        = MatMul(a, b)          only batch dimensions are expanded
    Expand(Expand(x, s), t)        = Expand(x, t)

The result must have the shape that it had. Where the expansion is what decides a dimension of the
result, it stays. PyTorch writes ``expand_as``, ``repeat`` and masks of attention this way, keras
``tf.tile`` of pooled features.

Source: ONNX operators Expand-8, -13, Tile-6, -13, and "Multidirectional Broadcasting".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir import dims, ops
from optc.ir.shape_site import Site, shape_of
from optc.passes.base import Pass, PassResult
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Shape, Value
    from optc.passes.base import PassContext


class RemoveBroadcasts(Pass):
    """Let operations that broadcast read past Expand and Tile.

    Refuses: an expansion that decides the shape of the result; a shape that is not known, before
    or after; a Tile that repeats more than one element; expanded rows or columns of a MatMul.
    """

    name = "remove-broadcasts"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Every operand of every operation that broadcasts, in order of execution."""
        del context
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and _broadcasts(node):
                    _simplify(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _broadcasts(node: Node) -> bool:
    if node.domain or node.overload:
        return False
    if node.is_op("MatMul", "Expand"):
        return True
    traits = ops.info(node)
    return traits.has(ops.Trait.ELEMENTWISE) and not traits.has(ops.Trait.UNARY)


def _simplify(graph: Graph, node: Node, trace: Trace) -> None:
    count = 1 if node.is_op("Expand") else len(graph.operands(node))
    index = 0
    while index < count:
        value = graph.operand(node, index)
        if value is None or not value.node.is_op("Expand", "Tile"):
            index += 1
            continue
        source = graph.operand(value.node, 0)
        assert source is not None
        if reason := _needed(graph, node, index, value, source):
            trace.refused("broadcast", node, reason)
            index += 1
            continue
        graph.set_operand(node, index, source)
        trace.applied("broadcast", node)
        for gone in remove_unused(graph, [value.node]):
            trace.forget(gone)


def _needed(graph: Graph, node: Node, index: int, value: Value, source: Value) -> str | None:
    """Why an expansion has to stay, or None."""
    maker = value.node.label
    before, after = shape_of(graph, source), shape_of(graph, value)
    if before is None or after is None:
        return f"the shape before or after {maker} is not known"
    padded = (*(1,) * (len(after) - len(before)), *before)
    if not all(own == 1 or dims.equal(own, new) for own, new in zip(padded, after, strict=True)):
        return f"{maker} is not known to repeat only single elements"
    now = _result(graph, node, index, after)
    then = _result(graph, node, index, before)
    if now is None or then is None:
        return "the shape of the result is not known"
    if len(now) != len(then):
        return f"{maker} decides the rank of the result"
    for axis, (old, new) in enumerate(zip(now, then, strict=True)):
        if not dims.equal(old, new):
            return f"{maker} decides dimension {axis} of the result"
    return None


def _result(graph: Graph, node: Node, index: int, shape: Shape) -> Shape | None:
    """The shape of the result when an operand has this shape."""
    if node.is_op("Expand"):
        return dims.broadcast_shapes(shape, Site(graph, node, {}).sizes(1))
    shapes: list[Shape | None] = [
        None if operand is None else shape_of(graph, operand) for operand in graph.operands(node)
    ]
    shapes[index] = shape
    return _product(shapes) if node.is_op("MatMul") else dims.broadcast_shapes(*shapes)


def _product(shapes: Sequence[Shape | None]) -> Shape | None:
    left, right = shapes
    if left is None or right is None or len(left) < 2 or len(right) < 2:
        return None
    if not dims.equal(left[-1], right[-2]):
        return None  # rows or columns that are expanded
    batch = dims.broadcast_shapes(left[:-2], right[:-2])
    return None if batch is None else (*batch, left[-2], right[-1])
