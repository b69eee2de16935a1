"""Values seen through operations that only move: transposed, with folded leading dimensions.

Exporters write the transposed keys of attention in many ways, e.g. as

    Reshape(Transpose(Reshape(K, [B·H, S, D]), [0, 2, 1]), [B, H, D, S])

All these are one K of shape (…, S, D) here. A reshape *keeps rows* when the last two dimensions
are the same before and after: the leading ones, in row-major order, are the same then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import DType, TensorType, dims
from optc.ir.shape_site import shape_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Dim, Graph, Node, Shape, Value
    from optc.rewrite.driver import Builder


_AXES_OPERAND_SINCE: Final = 13


def equal_shapes(first: Shape | None, second: Shape | None) -> bool:
    """Whether two shapes are known and provably equal."""
    if first is None or second is None or len(first) != len(second):
        return False
    return all(dims.equal(a, b) for a, b in zip(first, second, strict=True))


def same_shape(graph: Graph, first: Value, second: Value) -> bool:
    """Whether two values have provably equal shapes."""
    return equal_shapes(shape_of(graph, first), shape_of(graph, second))


def keeps_rows(before: Shape, after: Shape) -> bool:
    """Whether a reshape between these shapes keeps the last two dimensions."""
    return len(before) > 1 and len(after) > 1 and equal_shapes(before[-2:], after[-2:])


def row_views(graph: Graph, value: Value) -> list[Value]:
    """The value, and what it was before reshapes that keep rows."""
    found = [value]
    while (value := found[-1]).node.is_op("Reshape", "Unsqueeze", "Squeeze"):
        above = graph.operand(value.node, 0)
        assert above is not None
        before, after = shape_of(graph, above), shape_of(graph, value)
        if before is None or after is None or not keeps_rows(before, after):
            break
        found.append(above)
    return found


def perm_of(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """The permutation of a Transpose; None when it is left out and the rank is not known."""
    written = node.get("perm")
    if written is not None:
        return tuple(written)
    shape = shape_of(graph, node.output)
    return None if shape is None else tuple(reversed(range(len(shape))))


def swapped(rank: int) -> tuple[int, ...]:
    """The permutation that exchanges the last two dimensions."""
    return (*range(rank - 2), rank - 1, rank - 2)


def view_before_swap(graph: Graph, value: Value) -> Value | None:
    """What a value was before its last two dimensions were exchanged, leading ones folded or not.

    None when no operation does just that.
    """
    for view in row_views(graph, value):
        if not view.node.is_op("Transpose"):
            continue
        perm = perm_of(graph, view.node)
        if perm is not None and len(perm) > 1 and perm == swapped(len(perm)):
            return graph.operand(view.node, 0)
    return None


def transposed(build: Builder, value: Value, perm: Sequence[int]) -> Value:
    """A value transposed; merged with a Transpose that made it."""
    graph = build.graph
    if value.node.is_op("Transpose"):
        inner = perm_of(graph, value.node)
        above = graph.operand(value.node, 0)
        assert above is not None
        if inner is not None:
            perm, value = [inner[i] for i in perm], above
    if list(perm) == list(range(len(perm))):
        return value
    made = build.Transpose(value, perm=list(perm))
    shape = shape_of(graph, value)
    if isinstance(value.type, TensorType) and shape is not None:
        graph.set_type(made, TensorType(value.type.dtype, tuple(shape[i] for i in perm)))
    return made


def writable(shape: Sequence[Dim]) -> bool:
    """Whether a reshape to this shape can be written as a constant."""
    return sum(not isinstance(dim, int) for dim in shape) <= 1 and 0 not in shape


def one_more(before: Shape | None, after: Shape) -> int | None:
    """The axis at which a shape has one dimension of size 1 more than another; None elsewhere."""
    if before is None or len(before) + 1 != len(after):
        return None
    for axis, dim in enumerate(after):
        if dim == 1 and equal_shapes(before, (*after[:axis], *after[axis + 1 :])):
            return axis
    return None


def unsqueezed(build: Builder, value: Value, axis: int) -> Value:
    """A value with one more dimension."""
    if build.graph.opset < _AXES_OPERAND_SINCE:
        return build.Unsqueeze(value, axes=[axis])
    return build.Unsqueeze(value, build.constant([axis], dtype=DType.I64, name="axis"))


def reshaped(build: Builder, value: Value, shape: Sequence[Dim]) -> Value:
    """A value in another shape, which must be `writable` unless it has that shape already."""
    graph = build.graph
    if equal_shapes(shape_of(graph, value), tuple(shape)):
        return value
    axis = one_more(shape_of(graph, value), tuple(shape))
    if axis is not None and not writable(shape):
        made = unsqueezed(build, value, axis)
    else:
        numbers = [dim if isinstance(dim, int) else -1 for dim in shape]
        operand = build.constant(numbers, dtype=DType.I64, name=f"{value.node.key}_shape")
        made = build.Reshape(value, operand)
    if isinstance(value.type, TensorType):
        graph.set_type(made, TensorType(value.type.dtype, tuple(shape)))
    return made
