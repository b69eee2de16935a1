"""Figures about precision: operations by type, ranges of quantized tensors, bytes of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir.nodes import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph, Node

COLUMNS: Final = ("int8", "bf16", "fp32", "other")
"""Precisions with a column of their own, and the rest: integer, boolean and string work too."""


def precision_table(counts: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """The mixed-precision statistics: operator, total, and operations by precision.

    Args:
        counts: operations by operator and precision (`optc.emit.report.precision_counts`).

    Returns:
        A head, a row per operator, those with most in lower precision first, and a row of sums.
    """
    rows = {op: _row(by_precision) for op, by_precision in counts.items()}
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
