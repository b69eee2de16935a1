"""Attention takes caches, and heads that are not split.

    past     Attention(Q, Concat(past key, K), Concat(past value, V))
          =  Attention(Q, K, V, past key, past value) with present keys and values as results
    heads    Reshape(Transpose(Attention(split q, split k, split v)))
          =  Attention(q, k, v, q_num_heads, kv_num_heads)
             where split x = Transpose(Reshape(x, [B, S, H, D]), [0, 2, 1, 3]), perhaps rotated

Source: ONNX operators Attention-24, RotaryEmbedding-23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir import Kind, TensorType, dims, ops
from optc.ir.shape_site import constant_tensor, shape_of
from optc.passes.attention_heads import RANK, head_split
from optc.passes.attention_views import equal_shapes, perm_of
from optc.rewrite.driver import Builder, replace_node

if TYPE_CHECKING:
    from optc.ir import Dim, Graph, Node, Value
    from optc.rewrite.trace import Trace

_PAST: Final = (4, 5)
_PRESENT: Final = (1, 2)


# ---- caches ------------------------------------------------------------------------------------


def absorb_past(graph: Graph, node: Node, trace: Trace) -> Node:
    """Let Attention append to the caches of keys and values; returns what stands there now."""
    operands = graph.operands(node)
    if len(operands) > 4 or len(node.outputs) > 1:
        return node
    keys, values = _join(graph, operands[1]), _join(graph, operands[2])
    if keys is None or values is None:
        return node
    if reason := _past_obstacle(graph, node, keys, values):
        trace.refused("attention-past", node, reason)
        return node
    (past_key, key), (past_value, value) = keys, values
    build = Builder(graph, trace.pass_name, (node, *(v.node for v in operands[1:3] if v)))
    mask = operands[3] if len(operands) > 3 else None
    made = build.node(
        node.op_type,
        [operands[0], key, value, mask, past_key, past_value],
        like=node,
        outputs=3,
    )
    for index, old in zip(_PRESENT, operands[1:3], strict=True):
        new = made.outputs[index]
        assert new is not None
        assert old is not None
        graph.set_type(new, old.type)
        for use in tuple(graph.uses(old)):
            if use.node is not node:
                graph.set_operand(use.node, use.key, new)
    trace.forget(node)
    trace.applied("attention-past", made)
    replace_node(graph, node, [made.output], build.made)
    for index, old in zip(_PRESENT, operands[1:3], strict=True):
        new = made.outputs[index]
        assert old is not None
        if new is not None and not graph.has_value(old.name):
            graph.rename(new, old.name)
    return made


def _join(graph: Graph, value: Value | None) -> tuple[Value, Value] | None:
    """Past and new rows of Concat(past, new) along the sequence."""
    if value is None or not value.node.is_op("Concat"):
        return None
    parts = graph.operands(value.node)
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    if value.node.get("axis") not in (2, -2) or len(shape_of(graph, value) or ()) != RANK:
        return None
    return parts[0], parts[1]


def _past_obstacle(
    graph: Graph, node: Node, key: tuple[Value, Value], value: tuple[Value, Value]
) -> str | None:
    for first, second in zip(key, value, strict=True):
        a, b = shape_of(graph, first), shape_of(graph, second)
        if a is None or b is None or not equal_shapes(a[:3], b[:3]):
            return f"{first.name} and {second.name} are of different lengths"
    for joined in graph.operands(node)[1:3]:
        assert joined is not None
        for use in graph.uses(joined):
            if use.node is not node and use.node.kind is not Kind.OUTPUT:
                return f"{joined.name} also feeds {use.node.label}"
    return None


# ---- heads -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Split:
    """Rows whose heads are split.

    Attributes:
        source: the value of shape (batch, sequence, heads · size).
        heads: number of heads.
        rotary: the RotaryEmbedding between; None for none.
    """

    source: Value
    heads: int
    rotary: Node | None = None

    def build(self, build: Builder) -> Value:
        """The value, rotated if it was."""
        if self.rotary is None:
            return self.source
        operands = [self.source, *build.graph.operands(self.rotary)[1:]]
        made = build.node(
            self.rotary.op_type,
            operands,
            like=self.rotary,
            attributes={"num_heads": self.heads},
        )
        build.graph.set_type(made.output, self.source.type)
        return made.output


@dataclass(frozen=True)
class _Merge:
    """How the heads of the result are joined.

    Attributes:
        last: the operation whose result is what Attention gives without heads.
        target: the operand `shape` of a reshape that has to follow; None for none.
    """

    last: Node
    target: Value | None


def absorb_heads(graph: Graph, node: Node, trace: Trace) -> Node:
    """Let Attention split and join heads; returns what stands there now."""
    operands = graph.operands(node)
    shape = shape_of(graph, node.output)
    if shape is None or len(shape) != RANK or node.get("q_num_heads"):
        return node
    query, key, value = (_split(graph, operand) for operand in operands[:3])
    merge = _merge(graph, node)
    if merge is None or query is None or key is None or value is None:
        reason = _heads_obstacle(graph, node, [query, key, value])
        trace.missed("attention-3d", node, 1, reason)
        return node
    build = Builder(graph, trace.pass_name, (node, merge.last))
    made = build.node(
        node.op_type,
        [*(part.build(build) for part in (query, key, value)), *operands[3:]],
        like=node,
        attributes={"q_num_heads": query.heads, "kv_num_heads": key.heads},
        outputs=len(node.outputs),
    )
    joined = dims.mul(shape[1], shape[3])
    assert isinstance(node.output.type, TensorType)
    flat = TensorType(node.output.type.dtype, (shape[0], shape[2], joined))
    graph.set_type(made.output, flat)
    result = made.output
    if merge.target is not None:
        result = build.Reshape(result, merge.target, like=merge.last)
    _move_presents(graph, node, made)
    trace.forget(node)
    trace.applied("attention-3d", made)
    replace_node(graph, merge.last, [result], build.made)
    return made


def _move_presents(graph: Graph, old: Node, new: Node) -> None:
    for before, after in zip(old.outputs[1:], new.outputs[1:], strict=True):
        if before is not None and after is not None:
            graph.set_type(after, before.type)
            graph.replace_uses(before, after)


def _split(graph: Graph, value: Value | None) -> _Split | None:
    if value is None:
        return None
    node = value.node
    if node.is_op("RotaryEmbedding") and not ops.attribute(graph, node, "num_heads"):
        above = graph.operand(node, 0)
        found = None if above is None else head_split(graph, above)
        return None if found is None else _Split(*found, node)
    found = head_split(graph, value)
    return None if found is None else _Split(*found)


def _merge(graph: Graph, node: Node) -> _Merge | None:
    """The Transpose and Reshape that join the heads of the result."""
    shape = shape_of(graph, node.output)
    use = graph.only_use(node.output)
    if use is None or shape is None or not isinstance(use.key, int):
        return None
    rows, below = node.output, use.node
    if below.is_op("Transpose") and perm_of(graph, below) == (0, 2, 1, 3):
        rows = below.output
        use = graph.only_use(rows)
        if use is None:
            return None
        below = use.node
    elif 1 not in shape[1:3]:
        return None
    if not below.is_op("Reshape", "Squeeze") or use.key != 0:
        return None
    joined = (shape[0], shape[2], dims.mul(shape[1], shape[3]))
    target = graph.operand(below, 1)
    if equal_shapes(shape_of(graph, below.output), joined):
        return _Merge(below, None)
    if target is None or not below.is_op("Reshape") or not _same_target(graph, below, target):
        return None
    return _Merge(below, target)


def _same_target(graph: Graph, node: Node, target: Value) -> bool:
    """Whether a reshape to it gives the same when heads and size are one dimension."""
    tensor = constant_tensor(target)
    if tensor is None:
        return False
    sizes: list[Dim] = [int(item) for item in tensor.numpy().reshape(-1)]
    return 0 not in sizes and not ops.attribute(graph, node, "allowzero")


def _heads_obstacle(graph: Graph, node: Node, splits: list[_Split | None]) -> str:
    for value, split in zip(graph.operands(node), splits, strict=False):
        if split is None:
            name = "an operand" if value is None else value.name
            return f"heads of {name} are not split by Reshape and Transpose"
    return "heads of the result are not joined by Transpose and Reshape"
