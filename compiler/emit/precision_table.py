"""Operations by operator and precision as a table; light to import, for results read back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

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
