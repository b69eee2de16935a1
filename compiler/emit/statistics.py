"""Figures about precision: operations by type, ranges of quantized tensors, bytes of weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir.cost import macs
from optc.ir.nodes import Kind
from optc.ir.ops import Trait, info
from optc.numerics.planned import plan_node
from optc.numerics.timing import sized

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from optc.ir import Graph, Node
    from optc.targets import Precision

COLUMNS: Final = ("int8", "bf16", "fp32", "other")
"""Precisions with a column of their own, and the rest: integer, boolean and string work too."""


def precision_table(
    counts: Mapping[str, Mapping[str, int]], *, brief: bool = False
) -> list[list[str]]:
    """The mixed-precision statistics: operator, total, and operations by precision.

    Args:
        counts: operations by operator and precision (`optc.emit.report.precision_counts`).
        brief: one row for all operators that nothing of is computed in int8 or bf16.

    Returns:
        A head, a row per operator, those with most in lower precision first, and a row of sums.
    """
    rows = {op: _row(by_precision) for op, by_precision in counts.items()}
    rest = [op for op, row in rows.items() if not any(row[1:3])]
    if brief and len(rest) > 1:
        merged = [sum(column) for column in zip(*(rows.pop(op) for op in rest), strict=True)]
        rows[f"{len(rest)} others"] = merged
    order = sorted(rows, key=lambda op: (-rows[op][1] - rows[op][2], -rows[op][0], op))
    sums = [sum(row[i] for row in rows.values()) for i in range(len(COLUMNS) + 1)]
    head = ["operator", "total", *(name.upper() if name != "other" else name for name in COLUMNS)]
    body = [[op, *map(_cell, rows[op])] for op in order]
    return [head, *body, ["all", *map(_cell, sums)]]


def is_mixed(counts: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether anything is computed in int8, bf16 or another small floating-point type."""
    found = {name for by_precision in counts.values() for name in by_precision}
    return bool(found - {"fp32", "fp64", "other"})


def _row(by_precision: Mapping[str, int]) -> list[int]:
    own = [by_precision.get(name, 0) for name in COLUMNS[:-1]]
    total = sum(by_precision.values())
    return [total, *own, total - sum(own)]


def _cell(number: int) -> str:
    return str(number) if number else "-"


def product_shares(
    graph: Graph, sizes: Mapping[str, int], lowered: Collection[Node] = ()
) -> dict[str, float]:
    """The share of the multiply-accumulates by precision, four digits of it.

    Args:
        graph: a root graph.
        sizes: what symbols in shapes stand for.
        lowered: operations in fp32 that the runtime is to compute in bf16.
    """
    found: Counter[str] = Counter()
    for nested in graph.walk():
        for node in nested.ordered():
            if not info(node).has(Trait.MAC):
                continue
            with sized(nested, node, sizes):
                count = macs(nested, node)
            hint: Precision = "bf16" if node in lowered else "fp32"
            found[plan_node(nested, node, hint=hint).precision] += count or 0
    total = found.total()
    return {name: round(found[name] / total, 4) for name in sorted(found)} if total else {}


def quantized_ranges(graph: Graph) -> list[dict[str, object]]:
    """The range that each activation is quantized to, in execution order.

    Args:
        graph: a root graph.

    Returns:
        Rows of the tensor's name, its integer type, the real numbers that the least and the
        greatest integer stand for, scale and zero point. Tensors with several scales are weights,
        which have no range that was chosen.
    """
    found: dict[tuple[object, ...], dict[str, object]] = {}
    for nested in graph.walk():
        for node in nested.ordered():
            row = _range(nested, node) if node.is_op("QuantizeLinear") else None
            if row is not None:
                found.setdefault((row["tensor"], row["low"], row["high"]), row)
    return list(found.values())


def _range(graph: Graph, node: Node) -> dict[str, object] | None:
    value, scale, zero = (graph.operand(node, index) for index in range(3))
    if value is None or value.constant is not None or scale is None or scale.constant is None:
        return None
    steps = scale.constant.numpy().reshape(-1)
    zeros = (
        np.zeros(1, np.uint8) if zero is None or zero.constant is None else zero.constant.numpy()
    )
    if steps.size != 1 or zeros.size != 1 or zeros.dtype.kind not in "iu":
        return None
    limits, step, middle = np.iinfo(zeros.dtype), np.float32(steps[0]), int(zeros.reshape(-1)[0])
    return {
        "tensor": value.name,
        "dtype": zeros.dtype.name,
        "low": float(np.float32(limits.min - middle) * step),
        "high": float(np.float32(limits.max - middle) * step),
        "scale": float(step),
        "zero_point": middle,
    }


def constant_bytes(graph: Graph) -> int:
    """Bytes of all constants."""
    nodes = (node for nested in graph.walk() for node in nested.nodes(Kind.CONSTANT))
    return sum(node.tensor.nbytes for node in nodes if node.tensor is not None)
