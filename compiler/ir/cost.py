"""What a node costs: multiply-accumulates and bytes, from static shapes.

Both are counts of the operator's definition, not times: a runtime may do less (Winograd, fused
operators) or more (packing, layout changes). Use them to compare nodes and to weigh rewrites.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir.ops import MICROSOFT, Trait, info
from optc.ir.types import SparseTensorType, TensorType, static

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value

    _Rule: TypeAlias = Callable[[Graph, Node], int | None]

_VIEWS: Final = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_SELECTIONS: Final = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "Compress"})


def macs(graph: Graph, node: Node) -> int | None:
    """Multiply-accumulates of one run of the node.

    Zero for an operator that is known not to be of the convolution, matmul, recurrent or attention
    family; None when a shape that matters is not static, or the operator has no rule here.
    """
    row = info(node)
    if not row.has(Trait.MAC):
        return 0 if row.known and not row.has(Trait.CONTROL_FLOW) else None
    rule = _RULES.get(node.operator)
    return None if rule is None else rule(graph, node)


def bytes_moved(graph: Graph, node: Node) -> int | None:
    """Bytes read from operands and written to results when each is touched once.

    Operators that only change the shape move nothing, those that select elements read no more than
    they write, and those that look at shapes read nothing. None when a size is not known.
    """
    if node.is_op(*_VIEWS):
        return 0
    written = _total(value for value in node.outputs if value is not None)
    if info(node).has(Trait.SHAPE_ONLY):
        return written
    operands = [value for value in graph.operands(node) if value is not None]
    if node.is_op(*_SELECTIONS):
        indices = _total(operands[1:])
        return None if written is None or indices is None else 2 * written + indices
    read = _total([*operands, *graph.captures(node).values()])
    return None if written is None or read is None else read + written


def _total(values: Iterable[Value]) -> int | None:
    sizes = [value.type.nbytes if isinstance(value.type, TensorType) else None for value in values]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


# ---- shapes ------------------------------------------------------------------------------------


def _shape(value: Value | None) -> tuple[int, ...] | None:
    if value is None or not isinstance(value.type, TensorType | SparseTensorType):
        return None
    shape = value.type.shape
    if shape is None or not static(shape):
        return None
    return tuple(dim for dim in shape if isinstance(dim, int))


def _operand(graph: Graph, node: Node, index: int) -> tuple[int, ...] | None:
    return _shape(graph.operand(node, index))


def _result(node: Node) -> tuple[int, ...] | None:
    return _shape(node.outputs[0]) if node.outputs else None


# ---- rules -------------------------------------------------------------------------------------


def _conv(weight: int) -> _Rule:
    """Each result element sums over one filter: weight [out, in/group, *kernel]."""

    def rule(graph: Graph, node: Node) -> int | None:
        filters, result = _operand(graph, node, weight), _result(node)
        if not filters or result is None:
            return None
        return math.prod(result) * math.prod(filters[1:])

    return rule


def _conv_transpose(graph: Graph, node: Node) -> int | None:
    """Each operand element goes through one filter: weight [in, out/group, *kernel]."""
    operand, filters = _operand(graph, node, 0), _operand(graph, node, 1)
    if operand is None or not filters:
        return None
    return math.prod(operand) * math.prod(filters[1:])


def _matmul(graph: Graph, node: Node) -> int | None:
    left, result = _operand(graph, node, 0), _result(node)
    if not left or result is None:
        return None
    transposed = len(left) > 1 and bool(node.get("transA", 0))
    return math.prod(result) * left[-2 if transposed else -1]


def _matmul_nbits(_: Graph, node: Node) -> int | None:
    result, depth = _result(node), node.get("K")
    return None if result is None or depth is None else math.prod(result) * int(depth)


def _recurrent(graph: Graph, node: Node) -> int | None:
    """Every element of both weights works once per step and sample: X [steps, batch, in]."""
    operand, weight, recurrence = (_operand(graph, node, index) for index in (0, 1, 2))
    if operand is None or weight is None or recurrence is None:
        return None
    return math.prod(operand[:2]) * (math.prod(weight) + math.prod(recurrence))


def _einsum(graph: Graph, node: Node) -> int | None:
    """All index combinations, once per product of two operands, without reordering the sums."""
    shapes = [_shape(value) for value in graph.operands(node)]
    equation = node.get("equation")
    known = [shape for shape in shapes if shape is not None]
    if not isinstance(equation, bytes) or len(known) < len(shapes):
        return None
    terms = equation.decode().replace(" ", "").partition("->")[0].split(",")
    if len(terms) != len(known):
        return None
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, known, strict=True):
        for index, size in zip(_indices(term, len(shape)), shape, strict=False):
            sizes[index] = max(sizes.get(index, 1), size)
    return math.prod(sizes.values()) * (len(known) - 1)


def _indices(term: str, rank: int) -> list[str]:
    """The index letters of an operand; those of an ellipsis are counted from the right."""
    before, dots, after = term.partition("...")
    if not dots:
        return list(term)
    missing = rank - len(before) - len(after)
    return [*before, *(f"...{place}" for place in range(missing, 0, -1)), *after]


def _attention(past: int) -> _Rule:
    """Scores Q·K and their product with V, for 4-D [B, heads, L, d] and 3-D [B, L, heads*d]."""

    def rule(graph: Graph, node: Node) -> int | None:
        query, key, value = (_operand(graph, node, index) for index in (0, 1, 2))
        if query is None or key is None or value is None:
            return None
        earlier = 0
        if graph.operand(node, past) is not None:
            shape = _operand(graph, node, past)
            if shape is None or len(shape) != 4:
                return None
            earlier = shape[2]
        if len(query) == len(key) == len(value) == 4:
            return math.prod(query[:3]) * (key[2] + earlier) * (query[3] + value[3])
        heads: int = node.get("q_num_heads") or node.get("num_heads") or 0
        kv_heads: int = node.get("kv_num_heads") or heads
        if not heads or not len(query) == len(key) == len(value) == 3:
            return None
        batch, length, hidden = query
        width = hidden + heads * (value[2] // kv_heads)
        return batch * length * (key[1] + earlier) * width

    return rule


def _packed_attention(graph: Graph, node: Node) -> int | None:
    """The projection of the operand [B, L, in] to Q, K and V, then attention among L steps."""
    operand, weight = _operand(graph, node, 0), _operand(graph, node, 1)
    if operand is None or weight is None or len(operand) != 3 or graph.operand(node, 4) is not None:
        return None
    batch, length, _ = operand
    sizes = node.get("qkv_hidden_sizes") or [weight[-1] // 3] * 3
    return int(batch * length * (math.prod(weight) + length * (sizes[0] + sizes[2])))


_ATTENTION_PAST_KEY: Final = 4
_MULTI_HEAD_PAST_KEY: Final = 6

_RULES: Final[Mapping[tuple[str, str], _Rule]] = {
    ("", "Conv"): _conv(1),
    ("", "ConvInteger"): _conv(1),
    ("", "DeformConv"): _conv(1),
    ("", "CausalConvWithState"): _conv(1),
    ("", "QLinearConv"): _conv(3),
    ("", "ConvTranspose"): _conv_transpose,
    ("", "MatMul"): _matmul,
    ("", "MatMulInteger"): _matmul,
    ("", "QLinearMatMul"): _matmul,
    ("", "Gemm"): _matmul,
    ("", "Einsum"): _einsum,
    ("", "LSTM"): _recurrent,
    ("", "GRU"): _recurrent,
    ("", "RNN"): _recurrent,
    ("", "Attention"): _attention(_ATTENTION_PAST_KEY),
    (MICROSOFT, "FusedConv"): _conv(1),
    (MICROSOFT, "FusedMatMul"): _matmul,
    (MICROSOFT, "FusedMatMulActivation"): _matmul,
    (MICROSOFT, "TransposeMatMul"): _matmul,
    (MICROSOFT, "FusedGemm"): _matmul,
    (MICROSOFT, "GemmFastGelu"): _matmul,
    (MICROSOFT, "QGemm"): _matmul,
    (MICROSOFT, "MatMulIntegerToFloat"): _matmul,
    (MICROSOFT, "DynamicQuantizeMatMul"): _matmul,
    (MICROSOFT, "MatMulInteger16"): _matmul,
    (MICROSOFT, "MatMulNBits"): _matmul_nbits,
    (MICROSOFT, "MatMulBnb4"): _matmul_nbits,
    (MICROSOFT, "DynamicQuantizeLSTM"): _recurrent,
    (MICROSOFT, "Attention"): _packed_attention,
    (MICROSOFT, "MultiHeadAttention"): _attention(_MULTI_HEAD_PAST_KEY),
}
