"""Records of steps and verifications as JSON data, and back; light, for what is asked first."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from optc.numerics.comparison import Comparison, OutputComparison
from optc.numerics.tolerance import Tolerance
from optc.rewrite.trace import Decision, Gain, Refusal, Sources, StepRecord
from optc.verdict import GoalResult, MeasuredGoal, OutputNoise, Quantized, Verification

if TYPE_CHECKING:
    from collections.abc import Mapping


def dump_step(step: StepRecord) -> dict[str, Any]:
    """A record but for its time; of provenance, only the names at its end are kept."""
    return {
        "name": step.name,
        "changed": step.changed,
        "counts": dict(step.counts),
        "refusals": [
            [r.rule, r.node, r.reason, r.miss, r.family, r.depth, r.origin and list(r.sources)]
            for r in step.refusals
        ],
        "nodes": [step.nodes_before, step.nodes_after],
        "skipped": step.skipped,
        "gains": {
            rule: [gain.seconds, gain.counted, gain.uncounted] for rule, gain in step.gains.items()
        },
        "decisions": [
            [d.node, d.precision, d.rule, d.reason, dict(d.figures)] for d in step.decisions
        ],
        "warnings": list(step.warnings),
        "figures": dict(step.figures),
    }


def load_step(data: Mapping[str, Any]) -> StepRecord:
    """The record that `dump_step` wrote."""
    refusals = tuple(
        Refusal(rule, node, reason, miss, family, depth, names and Sources(tuple(names)))
        for rule, node, reason, miss, family, depth, names in data["refusals"]
    )
    before, after = data["nodes"]
    return StepRecord(
        data["name"],
        data["changed"],
        data["counts"],
        refusals,
        before,
        after,
        skipped=data["skipped"],
        gains={rule: Gain(*row) for rule, row in data["gains"].items()},
        decisions=tuple(Decision(*row) for row in data["decisions"]),
        warnings=tuple(data["warnings"]),
        figures=data["figures"],
    )


def dump_verification(found: Verification) -> dict[str, Any]:
    """A verification that missed nothing, without what was noted of this machine."""
    return {
        "data": found.data,
        "samples": found.samples,
        "outputs": [asdict(output) for output in found.comparison.outputs],
        "scored": found.scored,
        "goals": [_dump_goal(result) for result in found.goals],
        "keep": found.keep,
        "warnings": list(found.warnings),
        "notes": list(found.notes),
        "quantized": found.quantized and _dump_quantized(found.quantized),
    }


def load_verification(data: Mapping[str, Any]) -> Verification:
    """The verification that `dump_verification` wrote."""
    return Verification(
        data=data["data"],
        samples=data["samples"],
        comparison=Comparison(tuple(map(_load_output, data["outputs"]))),
        scored=data["scored"],
        goals=tuple(map(_load_goal, data["goals"])),
        keep=data["keep"],
        warnings=tuple(data["warnings"]),
        notes=tuple(data["notes"]),
        quantized=data["quantized"] and _load_quantized(data["quantized"]),
    )


def _dump_quantized(found: Quantized) -> dict[str, Any]:
    return {
        "outputs": [[o.name, o.sqnr, o.floor] for o in found.outputs],
        "layers": dict(found.layers),
        "simulated": [[o.name, o.sqnr, o.floor] for o in found.simulated],
    }


def _load_quantized(data: Mapping[str, Any]) -> Quantized:
    outputs = tuple(OutputNoise(*row) for row in data["outputs"])
    simulated = tuple(OutputNoise(*row) for row in data["simulated"])
    return Quantized(outputs, data["layers"], simulated)


def _load_output(data: Mapping[str, Any]) -> OutputComparison:
    shape, worst = tuple(data["shape"]), data["worst"]
    own = {"shape": shape, "worst": None if worst is None else tuple(worst)}
    return OutputComparison(**{**data, **own, "tolerance": Tolerance(**data["tolerance"])})


def _dump_goal(result: GoalResult) -> dict[str, Any]:
    goal = result.goal
    terms = [goal.metric, goal.limit, goal.higher_is_better, goal.on_miss, result.met]
    return {"terms": terms, "unit": result.unit, "value": result.value, "source": result.source}


def _load_goal(data: Mapping[str, Any]) -> GoalResult:
    return GoalResult(MeasuredGoal(*data["terms"]), data["unit"], data["value"], data["source"])
