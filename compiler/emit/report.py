"""report.json: what was done to a model for one target, and why; the same data on every machine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from optc.ir import DType, TensorType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optc.ir import Graph, Node
    from optc.rewrite.trace import StepRecord

_PRECISION = {DType.F32: "fp32", DType.F16: "fp16", DType.BF16: "bf16", DType.F64: "fp64"}
_INT8 = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})


def op_counts(graph: Graph) -> dict[str, int]:
    """Number of operations by qualified operator name, subgraphs included, most frequent first."""
    counts = Counter(node.qualified_op for nested in graph.walk() for node in nested.nodes())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def precision(node: Node) -> tuple[str, str]:
    """The precision that a node computes in, and the reason.

    Returns:
        One of ``fp32 fp16 bf16 fp64 int8 other`` (integer, boolean and string work is ``other``),
        and why it is that.
    """
    if node.op_type in _INT8:
        return "int8", "integer operator of the source model"
    for value in node.outputs:
        kind = value.type if value is not None else None
        if isinstance(kind, TensorType) and kind.dtype in _PRECISION:
            return _PRECISION[kind.dtype], "element type of the source model"
        if isinstance(kind, TensorType) and kind.dtype is not DType.UNDEFINED:
            return "other", f"computes {kind.dtype.value}"
    return "other", "type not known"


def precision_counts(graph: Graph) -> dict[str, dict[str, int]]:
    """Operations by operator and precision; the sums are the operation count."""
    table: dict[str, Counter[str]] = {}
    for nested in graph.walk():
        for node in nested.ordered():
            table.setdefault(node.qualified_op, Counter())[precision(node)[0]] += 1
    return {op: dict(sorted(table[op].items())) for op in sorted(table)}


def node_rows(graph: Graph) -> list[dict[str, object]]:
    """One row per operation, in execution order: name, operator, precision and its reason, origin.

    ``made_by`` and ``sources`` stand only on operations that a pass made.
    """
    rows: list[dict[str, object]] = []
    for nested in graph.walk():
        for node in nested.ordered():
            kind, reason = precision(node)
            row: dict[str, object] = {
                "name": node.label,
                "op": node.qualified_op,
                "precision": kind,
                "reason": reason,
            }
            if node.origin is not None and node.origin.made_by:
                row["made_by"] = list(node.origin.passes())
                row["sources"] = list(node.origin.sources())
            rows.append(row)
    return rows


def build_report(
    *,
    name: str,
    target: str,
    runtime: str,
    source_ops: Mapping[str, int],
    graph: Graph,
    steps: Iterable[StepRecord],
    verification: Mapping[str, object],
    warnings: Iterable[str],
) -> dict[str, object]:
    """The content of report.json.

    Args:
        name: the recipe's name.
        target: CPU target.
        runtime: runtime that will execute the model.
        source_ops: `op_counts` of the model as it was read.
        graph: the final graph.
        steps: what the passes did.
        verification: what was compared and against which bounds, without measured figures: those
            depend on the machine and are printed, not stored.
        warnings: what the user should know.
    """
    result_ops = op_counts(graph)
    return {
        "schema_version": 1,
        "name": name,
        "target": target,
        "runtime": runtime,
        "opset": graph.opset,
        "operations": {
            "source": sum(source_ops.values()),
            "result": sum(result_ops.values()),
            "source_by_type": dict(source_ops),
            "result_by_type": result_ops,
        },
        "precision": precision_counts(graph),
        "passes": [step.to_dict() for step in steps],
        "verification": dict(verification),
        "warnings": list(warnings),
        "nodes": node_rows(graph),
    }
