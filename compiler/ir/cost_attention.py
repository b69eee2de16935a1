"""What attention costs: multiply-accumulates of scores and of their product with the values.

Masks are not looked at: a runtime computes the scores of all pairs, causal or not.

Source: ONNX operator Attention-24; ONNX Runtime contrib operators Attention, MultiHeadAttention,
GroupQueryAttention, QAttention.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir.ops import MICROSOFT
from optc.ir.types import SparseTensorType, TensorType, static

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value

    Rule: TypeAlias = Callable[[Graph, Node], int | None]


def static_shape(value: Value | None) -> tuple[int, ...] | None:
    """The shape of a value when all of it is numbers."""
    if value is None or not isinstance(value.type, TensorType | SparseTensorType):
        return None
    shape = value.type.shape
    if shape is None or not static(shape):
        return None
    return tuple(dim for dim in shape if isinstance(dim, int))


def operand_shape(graph: Graph, node: Node, index: int) -> tuple[int, ...] | None:
    """The shape of an operand when all of it is numbers; None also where it is left out."""
    return static_shape(graph.operand(node, index))


def _earlier(graph: Graph, node: Node, past: int) -> int | None:
    """Steps in the cache of keys [batch, heads, steps, size]; 0 without one."""
    if graph.operand(node, past) is None:
        return 0
    shape = operand_shape(graph, node, past)
    return shape[2] if shape is not None and len(shape) == 4 else None


def _attention(graph: Graph, node: Node) -> int | None:
    """ONNX's Attention on [B, heads, L, d] or [B, L, heads*d]; keys may have fewer heads."""
    query, key, value = (operand_shape(graph, node, index) for index in (0, 1, 2))
    earlier = _earlier(graph, node, 4)
    if query is None or key is None or value is None or earlier is None:
        return None
    if len(query) == len(key) == len(value) == 4:
        return math.prod(query[:3]) * (key[2] + earlier) * (query[3] + value[3])
    heads, kv_heads = node.get("q_num_heads") or 0, node.get("kv_num_heads") or 0
    if not heads or not kv_heads or not len(query) == len(key) == len(value) == 3:
        return None
    batch, length, hidden = query
    return int(batch * length * (key[1] + earlier) * (hidden + heads * (value[2] // kv_heads)))


def _multi_head(graph: Graph, node: Node) -> int | None:
    """MultiHeadAttention: queries [B, L, heads*d]; keys and values apart, packed or of a cache.

    Packed are queries, keys and values [B, L, heads, 3, d], or keys and values [B, S, heads, 2, d].
    """
    query, key, value = (operand_shape(graph, node, index) for index in (0, 1, 2))
    heads, earlier = node.get("num_heads") or 0, _earlier(graph, node, 6)
    if query is None or not heads or earlier is None:
        return None
    if len(query) == 5:
        batch, length, heads, _, size = query
        return int(batch * length * (length + earlier) * heads * 2 * size)
    if key is None or len(query) != 3:
        return None
    batch, length, hidden = query
    if len(key) == 5:
        return int(batch * length * (key[1] + earlier) * 2 * hidden)
    if value is None or len(key) != len(value):
        return None
    steps, width = (key[2], heads * value[3]) if len(key) == 4 else (key[1], value[2])
    return int(batch * length * (steps + earlier) * (hidden + width))


def _grouped(graph: Graph, node: Node) -> int | None:
    """GroupQueryAttention: [B, L, heads*d]; keys and values have fewer heads, or are packed behind.

    All steps of the cache count: how many of them are in use shows only at run time.
    """
    query = operand_shape(graph, node, 0)
    heads, kv_heads = node.get("num_heads") or 0, node.get("kv_num_heads") or 0
    if query is None or len(query) != 3 or not heads or not kv_heads:
        return None
    batch, length, hidden = query
    packed = graph.operand(node, 1) is None
    size = hidden // (heads + 2 * kv_heads if packed else heads)
    present = static_shape(node.outputs[1]) if len(node.outputs) > 1 else None
    if present is not None and len(present) == 4:
        steps: int | None = present[2]
    else:
        earlier = _earlier(graph, node, 3)
        steps = None if earlier is None else length + earlier
    return None if steps is None else int(batch * length * steps * heads * 2 * size)


def _projected(past: int) -> Rule:
    """The projection of the operand [B, L, in] to Q, K and V, then attention among L steps."""

    def rule(graph: Graph, node: Node) -> int | None:
        operand, weight = operand_shape(graph, node, 0), operand_shape(graph, node, 1)
        if operand is None or weight is None or len(operand) != 3:
            return None
        if graph.operand(node, past) is not None:
            return None
        batch, length, _ = operand
        sizes = node.get("qkv_hidden_sizes") or [weight[-1] // 3] * 3
        return int(batch * length * (math.prod(weight) + length * (sizes[0] + sizes[2])))

    return rule


ATTENTION: Final[Mapping[tuple[str, str], Rule]] = {
    ("", "Attention"): _attention,
    (MICROSOFT, "Attention"): _projected(4),
    (MICROSOFT, "QAttention"): _projected(8),
    (MICROSOFT, "MultiHeadAttention"): _multi_head,
    (MICROSOFT, "GroupQueryAttention"): _grouped,
}
"""Rules of the operators of the attention family."""
