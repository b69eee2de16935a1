"""What a node costs: multiply-accumulates and bytes, from static shapes.

Both are counts of the operator's definition, not times: a runtime may do less (Winograd, fused
operators) or more (packing, layout changes). Use them to compare nodes and to weigh rewrites.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir.cost_attention import ATTENTION, operand_shape, static_shape
from optc.ir.ops import MICROSOFT, Trait, info
from optc.ir.types import TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value

    _Rule: TypeAlias = Callable[[Graph, Node], int | None]

_VIEWS: Final = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_TABLES: Final[Mapping[tuple[str, str], tuple[int, ...]]] = {
    ("", "RotaryEmbedding"): (1, 2),
    (MICROSOFT, "RotaryEmbedding"): (2, 3),
    (MICROSOFT, "EmbedLayerNormalization"): (2, 3, 4),
}
"""Operands that are tables of rows, of which an operator reads one per position."""
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
    if looked_up := _TABLES.get(node.operator):
        return _with_lookups(graph, node, looked_up, written)
    read = _total([*operands, *graph.captures(node).values()])
    return None if written is None or read is None else read + written


def _with_lookups(
    graph: Graph, node: Node, tables: tuple[int, ...], written: int | None
) -> int | None:
    """Bytes of an operator that reads rows of tables: no more rows than it has positions."""
    first = operand_shape(graph, node, 0)
    whole = _total(
        value
        for index, value in enumerate(graph.operands(node))
        if value is not None and index not in tables
    )
    if first is None or whole is None or written is None:
        return None
    # [batch, length, hidden], [batch, heads, length, size], or the indices [batch, length]
    positions = first[0] * first[2 if len(first) == 4 else 1]
    read = 0
    for table in (graph.operand(node, index) for index in tables):
        shape, size = static_shape(table), _total([table]) if table is not None else 0
        if size is None or (table is not None and not shape):
            return None
        rows = math.prod(shape[:-1]) if shape else 1
        read += size * min(positions, rows) // max(rows, 1)
    return whole + read + written


def _total(values: Iterable[Value]) -> int | None:
    sizes = [value.type.nbytes if isinstance(value.type, TensorType) else None for value in values]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _result(node: Node) -> tuple[int, ...] | None:
    return static_shape(node.outputs[0]) if node.outputs else None


# ---- rules -------------------------------------------------------------------------------------


def _conv(weight: int) -> _Rule:
    """Each result element sums over one filter: weight [out, in/group, *kernel]."""

    def rule(graph: Graph, node: Node) -> int | None:
        filters, result = operand_shape(graph, node, weight), _result(node)
        if not filters or result is None:
            return None
        return math.prod(result) * math.prod(filters[1:])

    return rule


def _conv_transpose(graph: Graph, node: Node) -> int | None:
    """Each operand element goes through one filter: weight [in, out/group, *kernel]."""
    operand, filters = operand_shape(graph, node, 0), operand_shape(graph, node, 1)
    if operand is None or not filters:
        return None
    return math.prod(operand) * math.prod(filters[1:])


def _matmul(graph: Graph, node: Node) -> int | None:
    left, result = operand_shape(graph, node, 0), _result(node)
    if not left or result is None:
        return None
    transposed = len(left) > 1 and bool(node.get("transA", 0))
    return math.prod(result) * left[-2 if transposed else -1]


def _matmul_nbits(_: Graph, node: Node) -> int | None:
    result, depth = _result(node), node.get("K")
    return None if result is None or depth is None else math.prod(result) * int(depth)


def _recurrent(graph: Graph, node: Node) -> int | None:
    """Every element of both weights works once per step and sample: X [steps, batch, in]."""
    operand, weight, recurrence = (operand_shape(graph, node, index) for index in (0, 1, 2))
    if operand is None or weight is None or recurrence is None:
        return None
    return math.prod(operand[:2]) * (math.prod(weight) + math.prod(recurrence))


def _einsum(graph: Graph, node: Node) -> int | None:
    """All index combinations, once per product of two operands, without reordering the sums."""
    shapes = [static_shape(value) for value in graph.operands(node)]
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
    **ATTENTION,
}
