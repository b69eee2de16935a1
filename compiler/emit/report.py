"""report.json: what was done to a model for one target, and why; the same data on every machine."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from optc.emit.drawing import Drawing
from optc.emit.statistics import constant_bytes, product_shares, quantized_ranges
from optc.numerics.planned import plan_node
from optc.rewrite.near_misses import near_misses
from optc.rewrite.trace import Gain
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from optc.ir import Graph, Node
    from optc.rewrite.decisions import Decisions
    from optc.rewrite.trace import StepRecord
    from optc.targets import Precision, Runtime, Target


def op_counts(graph: Graph) -> dict[str, int]:
    """Number of operations by qualified operator name, subgraphs included, most frequent first."""
    counts = Counter(node.qualified_op for nested in graph.walk() for node in nested.nodes())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def precision_counts(graph: Graph, lowered: Collection[Node] = ()) -> dict[str, dict[str, int]]:
    """Operations by operator and planned precision; the sums are the operation count.

    Args:
        graph: the graph, with those nested in it.
        lowered: operations in fp32 that the runtime is to compute in bf16.
    """
    table: dict[str, Counter[str]] = {}
    for nested in graph.walk():
        for node in nested.ordered():
            counts = table.setdefault(node.qualified_op, Counter())
            hint: Precision = "bf16" if node in lowered else "fp32"
            counts[plan_node(nested, node, hint=hint).precision] += 1
    return {op: dict(sorted(table[op].items())) for op in sorted(table)}


def node_rows(
    graph: Graph,
    target: Target,
    runtime: Runtime,
    hint: Precision,
    decisions: Decisions | None = None,
    lowered: Collection[Node] = (),
    noise: Mapping[str, float] | None = None,
) -> list[dict[str, object]]:
    """One row per operation, in execution order: name, operator, precision and its reason, origin.

    What passes decided about precisions is the reason, where the graph agrees with it; the figures
    behind it stand beside.

    Multiply-accumulate operations also say how they are written, the kernel that the runtime has
    for that on the target with its ``isa``, and ``expected`` with an ``obstacle`` where it computes
    in another precision. Those in `lowered` the runtime computes in bf16, whatever `hint` says of
    the rest. ``sqnr_db`` is what `noise` says of the label, in whole decibels: more digits depend
    on the machine. ``made_by`` and ``sources`` stand only on operations that a pass made. ``type``,
    ``inputs`` and ``inside`` are those of `Drawing`.
    """
    table = shipped_kernels(runtime.id)
    rows: list[dict[str, object]] = []
    links = iter(Drawing(graph).rows())
    for nested in graph.walk():
        for node in nested.ordered():
            told: Precision = "bf16" if node in lowered else "fp32" if lowered else hint
            plan = plan_node(nested, node, table, target.capabilities, hint=told)
            row: dict[str, object] = {
                "name": node.label,
                "op": node.qualified_op,
                "precision": plan.precision,
                "reason": plan.reason,
            }
            chosen = decisions.of(node) if decisions is not None else None
            if chosen is not None and chosen.precision == plan.precision:
                row["reason"] = chosen.reason
                row |= dict(sorted(chosen.figures.items()))
            if plan.heavy:
                row |= {"form": plan.form, "kernel": plan.kernel, "isa": plan.isa}
            if plan.obstacle:
                row |= {"expected": plan.expected, "obstacle": plan.obstacle}
            if noise is not None and math.isfinite(ratio := noise.get(node.label, math.inf)):
                row["sqnr_db"] = round(ratio)
            if node.origin is not None and node.origin.made_by:
                row["made_by"] = list(node.origin.passes())
                row["sources"] = list(node.origin.sources())
            rows.append(row | next(links))
    return rows


def obstacles(rows: Iterable[Mapping[str, object]], runtime: Runtime) -> list[str]:
    """Warnings about rows that are written in int8 and that the runtime computes in fp32."""
    found: dict[object, list[object]] = {}
    for row in rows:
        if row["precision"] == "int8" and "obstacle" in row:
            found.setdefault(row["obstacle"], []).append(row["name"])
    return [
        f"{len(names)} of the int8 operations run in fp32 on {runtime.id}, {names[0]} first: "
        f"{reason}"
        for reason, names in found.items()
    ]


def build_report(
    *,
    name: str,
    asked: Mapping[str, object],
    target: Target,
    runtime: Runtime,
    source_ops: Mapping[str, int],
    source: Mapping[str, object],
    source_bytes: int,
    graph: Graph,
    steps: Sequence[StepRecord],
    outlook: tuple[float, Mapping[str, int]],
    verification: Mapping[str, object],
    warnings: Iterable[str],
    nodes: Iterable[Mapping[str, object]],
    lowered: Collection[Node] = (),
) -> dict[str, object]:
    """The content of report.json.

    Args:
        name: the recipe's name.
        asked: what the recipe says.
        target: CPU target.
        runtime: runtime that will execute the model.
        source_ops: `op_counts` of the model as it was read.
        source: the model as it was read, as `Drawing.describe` tells it.
        source_bytes: bytes of its constants.
        graph: the final graph.
        steps: what the passes did.
        outlook: predicted time of the final graph on one core, and the sizes assumed for it.
        verification: what was compared and against which bounds, without measured figures: those
            depend on the machine and are printed, not stored.
        warnings: what the user should know.
        nodes: `node_rows` of the final graph.
        lowered: operations in fp32 that the runtime is to compute in bf16.
    """
    return {
        "schema_version": 1,
        "name": name,
        "recipe": dict(asked),
        "target": target.id,
        "runtime": runtime.id,
        "opset": graph.opset,
        "operations": _operations(source_ops, op_counts(graph)),
        "precision": precision_counts(graph, lowered),
        "multiply_adds": product_shares(graph, outlook[1], lowered),
        "constant_bytes": {"source": source_bytes, "result": constant_bytes(graph)},
        "ranges": quantized_ranges(graph),
        "passes": [step.to_dict() for step in steps],
        "predicted": _predicted(steps, *outlook),
        "near_misses": [item.to_dict() for item in near_misses(steps, graph)],
        "verification": dict(verification),
        "warnings": list(warnings),
        "nodes": list(nodes),
        "ends": Drawing(graph).ends(),
        "source": dict(source),
    }


def _operations(source: Mapping[str, int], result: Mapping[str, int]) -> dict[str, object]:
    return {
        "source": sum(source.values()),
        "result": sum(result.values()),
        "source_by_type": dict(source),
        "result_by_type": dict(result),
    }


def _predicted(
    steps: Sequence[StepRecord], seconds: float, sizes: Mapping[str, int]
) -> dict[str, object]:
    return {
        "microseconds": round(seconds * 1e6, 3),
        "sizes": dict(sizes),
        "gain": Gain.total(step.gain for step in steps).to_dict(),
    }
