"""What the user of a result should know of it, beside what verification found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.saturating import find_saturating, saturation_warning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optc.emitter import Emitter, Form
    from optc.prepare import TargetPlan
    from optc.rewrite.trace import StepRecord
    from optc.verdict import Verification


def compile_warnings(
    emitter: Emitter,
    form: Form,
    plan: TargetPlan,
    steps: Iterable[StepRecord],
    verification: Verification | None,
) -> list[str]:
    """The warnings about a result, the same on every machine.

    Args:
        emitter: wrote it.
        form: the graph that was emitted.
        plan: target and runtime.
        steps: what the passes did.
        verification: what verification found; None when it was switched off.
    """
    graph, recipe = form.graph, emitter.recipe
    found = list(verification.warnings) if verification else []
    opset = recipe.emit.opset
    if opset is not None and graph.opset != opset:
        why = "is not lowered" if graph.opset > opset else "could not be raised: see the refusals"
        found.append(f"emit.opset asks for {opset}; the model has {graph.opset} and {why}")
    if graph.model.functions:
        names = ", ".join(sorted(name for _, name, _ in graph.model.functions))
        found.append(f"bodies of model-local functions are carried, not optimized: {names}")
    saturating = find_saturating(graph, plan.runtime.id, plan.target.capabilities)
    if saturating is not None:
        found.append(saturation_warning(saturating, plan.target.id))
    found += [f"{step.name}: {text}" for step in steps for text in step.warnings]
    found += emitter.warnings(form)
    found += _profile_warnings(plan)
    if verification is None and recipe.accuracy:
        found.append("accuracy goals were not measured: verification is switched off")
    return found


def _profile_warnings(plan: TargetPlan) -> list[str]:
    """Whether the machine that costs were measured on computes int8 and fp32 as the target does."""
    if (profile := plan.profile) is None:
        return []
    there, here = set(profile.capabilities), plan.target.capabilities
    differences = [(sorted(here - there), "lacks", "has"), (sorted(there - here), "has", "lacks")]
    return [
        f"profile: {profile.cpu} {one} {', '.join(names)}, which {plan.target.id} {other}: its "
        "costs are those of other kernels"
        for names, one, other in differences
        if names
    ]
