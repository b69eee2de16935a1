"""Tables of cosines and sines for rotary embeddings, in the layout of the operator.

Exporters write a table as wide as a head, each angle twice: halves that are equal, or neighbours.

    halves        [c₀, c₁, …, c₀, c₁, …]        Concat(f, f), or a constant
    neighbours    [c₀, c₀, c₁, c₁, …]           f repeated, or a constant

`half` finds [c₀, c₁, …]: what an operation per element or a move of other axes makes of the
repeated angles, it makes of the single ones. RotaryEmbedding takes (batch, sequence, half).
Source: ONNX operator RotaryEmbedding-23.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import DType, Kind, TensorType, dims, ops
from optc.ir.ops import Trait
from optc.ir.shape_site import constant_tensor, shape_of
from optc.passes.attention_logits import number
from optc.passes.attention_views import equal_shapes, unsqueezed

if TYPE_CHECKING:
    import numpy.typing as npt

    from optc.ir import Dim, Graph, Node, Shape, Value
    from optc.rewrite.driver import Builder

_DEPTH: Final = 16
_AXES_OPERAND_SINCE: Final = 13


def repeats(graph: Graph, value: Value, *, neighbours: bool, depth: int = _DEPTH) -> bool:
    """Whether each angle stands twice along the last axis."""
    tensor = constant_tensor(value)
    if tensor is not None:
        return bool(tensor.shape) and _twice(tensor.numpy(), neighbours)
    node = value.node
    if node.kind is not Kind.OP or depth == 0:
        return False
    if _joined(graph, node, neighbours=neighbours) is not None:
        return True
    above = _above(graph, node)
    return above is not None and repeats(graph, above, neighbours=neighbours, depth=depth - 1)


def _twice(array: npt.NDArray[np.generic], neighbours: bool) -> bool:
    if array.shape[-1] % 2:
        return False
    middle = array.shape[-1] // 2
    if neighbours:
        return bool(np.array_equal(array[..., ::2], array[..., 1::2]))
    return bool(np.array_equal(array[..., :middle], array[..., middle:]))


def _joined(graph: Graph, node: Node, *, neighbours: bool) -> Value | None:
    """Find f in Concat(f, f), or in the same for neighbours."""
    if neighbours:
        return _doubled(graph, node)
    shape = shape_of(graph, node.output)
    if not node.is_op("Concat") or shape is None or node.get("axis") not in (-1, len(shape) - 1):
        return None
    parts = graph.operands(node)
    return parts[0] if len(parts) == 2 and parts[0] is parts[1] else None


def _doubled(graph: Graph, node: Node) -> Value | None:
    """Find f in Reshape(Concat(g, g)) or Reshape(Expand(g)) of g = Unsqueeze(f, -1)."""
    if not node.is_op("Reshape"):
        return None
    wide = graph.operand(node, 0)
    assert wide is not None
    source = graph.operand(wide.node, 0) if wide.node.is_op("Concat", "Expand", "Tile") else None
    if source is None or not source.node.is_op("Unsqueeze", "Reshape"):
        return None
    single = graph.operand(source.node, 0)
    before = None if single is None else shape_of(graph, single)
    pair, after = shape_of(graph, wide), shape_of(graph, node.output)
    if single is None or before is None or pair is None or after is None:
        return None
    if wide.node.is_op("Concat") and set(graph.operands(wide.node)) != {source}:
        return None
    fits = equal_shapes(shape_of(graph, source), (*before, 1)) and equal_shapes(pair, (*before, 2))
    return single if fits and dims.equal(after[-1], dims.mul(before[-1], 2)) else None


def _above(graph: Graph, node: Node) -> Value | None:
    """The operand whose last axis goes through the operation unchanged, element by element."""
    first = graph.operand(node, 0)
    if first is None:
        return None
    if Trait.UNARY in ops.info(node).traits and len(graph.operands(node)) == 1:
        return first
    if node.is_op("Mul", "Div"):
        second = graph.operand(node, 1)
        if number(second) is not None:
            return first
        return second if number(first) is not None and node.op_type == "Mul" else None
    before, after = shape_of(graph, first), shape_of(graph, node.output)
    if not before or not after or not dims.equal(before[-1], after[-1]):
        return None
    return first if _keeps_last(graph, node, before, after) else None


def _keeps_last(graph: Graph, node: Node, before: Shape, after: Shape) -> bool:
    if node.is_op("Unsqueeze", "Squeeze"):
        longer = after if node.op_type == "Unsqueeze" else before
        return longer[-1] != 1
    if node.is_op("Slice"):
        return True  # all of the last axis is left, in its order unless a step is negative
    if node.is_op("Gather"):
        return int(ops.attribute(graph, node, "axis")) % len(before) != len(before) - 1
    if node.is_op("GatherND"):
        indices = graph.operand(node, 1)
        depth = None if indices is None else (shape_of(graph, indices) or (None,))[-1]
        batch = int(ops.attribute(graph, node, "batch_dims"))
        return isinstance(depth, int) and batch + depth < len(before)
    return node.is_op("Expand", "Reshape")


def half(build: Builder, value: Value, *, neighbours: bool) -> Value:
    """The angles once each; `repeats` must hold for the value."""
    graph = build.graph
    if constant_tensor(value) is None:
        single = _joined(graph, value.node, neighbours=neighbours)
        if single is not None:
            return single
        node, above = value.node, _above(graph, value.node)
        if above is not None and not node.is_op("Expand", "Reshape", "Slice"):
            inner = half(build, above, neighbours=neighbours)
            operands = [inner if operand is above else operand for operand in graph.operands(node)]
            attributes = dict(node.attributes)
            made = build.node(node.op_type, operands, attributes=attributes, domain=node.domain)
            return typed(build, made.output, value, _halved(shape_of(graph, value)))
    shape = shape_of(graph, value)
    assert shape is not None
    halved = _halved(shape)
    tensor = constant_tensor(value)
    if tensor is not None:
        array = tensor.numpy()
        picked = array[..., ::2] if neighbours else array[..., : array.shape[-1] // 2]
        return build.constant(picked, dtype=tensor.dtype, name=value.name)
    end, step = (2**62, 2) if neighbours else (int(str(halved[-1])), 1)
    numbers = ([0], [end], [len(shape) - 1], [step])
    operands = [build.constant(n, dtype=DType.I64, name=f"{value.name}_half") for n in numbers]
    return typed(build, build.Slice(value, *operands), value, halved)


def _halved(shape: Shape | None) -> Shape:
    assert shape is not None
    return (*shape[:-1], dims.floordiv(shape[-1], 2))


def typed(build: Builder, value: Value, like: Value, shape: Shape) -> Value:
    """A new value with the element type of another one."""
    if isinstance(like.type, TensorType):
        build.graph.set_type(value, TensorType(like.type.dtype, shape))
    return value


def layout(table: Shape, x: Shape) -> bool | None:
    """Where the heads of x are, given a table that is broadcast over them.

    Returns:
        True for (batch, heads, sequence, size), False for (batch, sequence, heads, size), None
        where the table is neither one per position.
    """
    padded = (*(1,) * (len(x) - len(table)), *table)
    if len(padded) != len(x) or not (padded[0] == 1 or dims.equal(padded[0], x[0])):
        return None
    if padded[1] == 1 and dims.spans(padded[2], x[2]):
        return True
    return False if padded[2] == 1 and dims.spans(padded[1], x[1]) else None


def placed(build: Builder, table: Value, x: Value, *, heads_first: bool) -> Value:
    """A table as (batch, sequence, half)."""
    graph = build.graph
    shape, rows = shape_of(graph, table), shape_of(graph, x)
    assert shape is not None
    assert rows is not None
    axis = 1 if heads_first else 2
    while len(shape) < 3:
        shape = (1, *shape)
        table = typed(build, unsqueezed(build, table, 0), table, shape)
    if len(shape) == len(rows):
        shape = (*shape[:axis], *shape[axis + 1 :])
        table = typed(build, _squeezed(build, table, axis), table, shape)
    elif not heads_first:
        shape = (1, shape[0], shape[2])
        inner = _squeezed(build, table, 1)
        table = typed(build, unsqueezed(build, inner, 0), table, shape)
    if dims.equal(shape[0], rows[0]):
        return table
    sizes = [_batch(build, x, rows[0]), build.constant([1, 1], dtype=DType.I64, name="ones")]
    target = build.Concat(*sizes, axis=0)
    return typed(build, build.Expand(table, target), table, (rows[0], *shape[1:]))


def _squeezed(build: Builder, value: Value, axis: int) -> Value:
    if value.node.is_op("Unsqueeze") and build.graph.opset >= _AXES_OPERAND_SINCE:
        axes = build.graph.operand(value.node, 1)
        tensor = None if axes is None else constant_tensor(axes)
        above = build.graph.operand(value.node, 0)
        if tensor is not None and above is not None and tensor.numpy().tolist() == [axis]:
            return above
    if build.graph.opset < _AXES_OPERAND_SINCE:
        return build.Squeeze(value, axes=[axis])
    return build.Squeeze(value, build.constant([axis], dtype=DType.I64, name="axis"))


def _batch(build: Builder, x: Value, dim: Dim) -> Value:
    if isinstance(dim, int):
        return build.constant([dim], dtype=DType.I64, name="batch")
    index = build.constant([0], dtype=DType.I64, name="index")
    return build.Gather(build.Shape(x), index, axis=0)
