"""A recipe checked against its targets: which steps run, and which capability is missing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optc.emitter import Emitter
from optc.errors import CapabilityError, ModelError, TargetError
from optc.launch.settings import check_precision, slices_of
from optc.passes import (
    FuseRequantize,
    InferShapes,
    LowerOperators,
    MergeReshapes,
    MergeTransposes,
    RemoveDuplicates,
    UpgradeOpset,
)
from optc.passes.base import PassContext
from optc.pipeline import PlannedStep
from optc.recipe import Recipe, load_recipe, resolve_pipeline
from optc.targets import (
    available_capabilities,
    load_runtime,
    load_target,
    missing_capability,
    read_profile,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.recipe import Step
    from optc.targets import Runtime, Target
    from optc.targets.runtimes import Profile


@dataclass(frozen=True)
class TargetPlan:
    """What will run for one target.

    Attributes:
        target: the CPU.
        runtime: what executes the model.
        pipeline: the recipe's steps; those whose `when` does not hold are marked as skipped.
        lowering: what writes operators in the forms that the runtime computes fastest, after them.
        lead: the target that precisions are planned for, where one file serves it and this one.
        profile: the machine whose costs the runtime has; None: those of its descriptor.
        by_hint: whether bf16 is left to the runtime, told by its precision hint.
    """

    target: Target
    runtime: Runtime
    pipeline: tuple[PlannedStep, ...]
    lowering: tuple[PlannedStep, ...] = ()
    lead: Target | None = None
    profile: Profile | None = None
    by_hint: bool = False

    @property
    def steps(self) -> tuple[PlannedStep, ...]:
        """Everything that runs, in order."""
        return (*self.pipeline, *self.lowering)

    @property
    def context(self) -> PassContext:
        """What passes may know."""
        cpu = self.lead or self.target
        return PassContext(
            cpu.id, self.runtime.id, cpu=cpu, engine=self.runtime, by_hint=self.by_hint
        )

    def shares_with(self, other: TargetPlan) -> bool:
        """Whether both run the same passes with the same options, and they see the same target."""
        asks = any(step.run is not None and step.run.asks_target for step in self.steps)
        if asks and self.context.cpu is not other.context.cpu:
            return False
        return _content(self) == _content(other)


def _content(plan: TargetPlan) -> list[tuple[str, Any]]:
    return [(step.name, step.run and step.run.options) for step in plan.steps]


@dataclass(frozen=True)
class Prepared:
    """A recipe that was checked against the targets.

    Attributes:
        recipe: the recipe.
        plans: one per target, in the recipe's order.
        warnings: steps that run for none of the recipe's targets, by what these lack.
    """

    recipe: Recipe
    plans: tuple[TargetPlan, ...]
    warnings: tuple[str, ...] = ()


def prepare(
    recipe: Recipe | str | Path | Mapping[str, object],
    *,
    targets: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
) -> Prepared:
    """Load a recipe and check it against its targets; touches neither model nor output.

    Args:
        recipe: a recipe, a path to one, or its content as a mapping.
        targets: compile for these instead of the recipe's.
        overrides: ``path=value`` settings on top of the recipe.

    Raises:
        RecipeError: the recipe does not validate; all root causes.
        TargetError: a target does not exist.
        CapabilityError: a step or `launch.precision` needs what a target or the runtime does not
            have; the format is written by a runtime that is not installed; `fleet: weakest` of
            targets none of which is.
        ModelError: the model file does not exist.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides=overrides)
    runtime = load_runtime(loaded.runtime)
    profile = _profile(loaded, runtime)
    if profile is not None:
        runtime = runtime.with_costs(profile.costs)
    found = {target.id: target for target in map(load_target, targets or loaded.target_refs)}
    leads = _leads(loaded, tuple(found.values()), runtime)
    plans = tuple(
        _target_plan(loaded, target, runtime, lead, profile)
        for target, lead in zip(found.values(), leads, strict=True)
    )
    Emitter(loaded).check()
    if not loaded.model_path.is_file():
        raise ModelError(
            "model-missing",
            "this is a folder" if loaded.model_path.is_dir() else "there is no such model file",
            location=str(loaded.model_path),
            hint="`model` in the recipe is relative to the recipe's folder",
        )
    return Prepared(loaded, plans, _idle_steps(loaded, tuple(found.values()), runtime))


def _idle_steps(recipe: Recipe, targets: Sequence[Target], runtime: Runtime) -> tuple[str, ...]:
    """What to say of conditions that no target fulfils, neither an asked one nor the recipe's."""
    known = list(targets)
    with suppress(TargetError):  # one of the recipe's that was not asked for, such as `host`
        known += [load_target(name) for name in recipe.target_refs]
    warnings = []
    for capability in dict.fromkeys(step.when for step in recipe.pipeline if step.when):
        if any(capability in available_capabilities(target, runtime) for target in known):
            continue
        missing = missing_capability(capability, targets[0], runtime)
        assert missing is not None
        names = dict.fromkeys(step.name for step in recipe.pipeline if step.when == capability)
        verb = "runs" if len(names) == 1 else "run"
        warnings.append(
            f"{' and '.join(names)} {verb} for no target: {missing.message}; {missing.owners}"
        )
    return tuple(warnings)


def _profile(recipe: Recipe, runtime: Runtime) -> Profile | None:
    """The costs that the recipe names.

    Raises:
        TargetError: ``profile-missing``; the profile cannot be read.
        CapabilityError: ``profile-of-another-runtime``.
    """
    if recipe.profile is None:
        return None
    path = recipe.locate(recipe.profile)
    make = f"optc targets costs {runtime.id} --write {path.name}"
    if not path.is_file():
        raise TargetError(
            "profile-missing",
            "there is no such profile",
            location=str(path),
            hint=f"{make} makes one, on the machine whose costs count",
        )
    profile = read_profile(path)
    if profile.runtime != runtime.id:
        raise CapabilityError(
            "profile-of-another-runtime",
            f"{path} has the costs of {profile.runtime}, and the recipe is for {runtime.id}",
            hint=f"measure them: {make}",
        )
    return profile


def _leads(
    recipe: Recipe, targets: Sequence[Target], runtime: Runtime
) -> tuple[Target | None, ...]:
    """For each target the one that its precisions are planned for, where that is another.

    `fleet: weakest` plans all for one. Else OpenVINO IR that leaves bf16 to the runtime serves CPUs
    with and without it, so those without get the file of the first target with bf16; int8 has to
    be the same for both.
    """
    if recipe.fleet == "weakest":
        least = _weakest(targets)
        return tuple(None if target is least else least for target in targets)
    asks = any(s.when == "bf16" or "bf16" in s.pass_type.requires for s in recipe.pipeline)
    if not asks or not Emitter(recipe).by_hint:
        return (None,) * len(targets)
    able = [t for t in targets if "bf16" in available_capabilities(t, runtime)]
    return tuple(None if target in able else _alike(target, able) for target in targets)


def _weakest(targets: Sequence[Target]) -> Target:
    """The first target whose capabilities all targets have.

    Raises:
        CapabilityError: ``no-weakest-target``: each has something that another lacks.
    """
    for target in targets:
        if all(target.capabilities <= other.capabilities for other in targets):
            return target
    names = ", ".join(target.id for target in targets)
    raise CapabilityError(
        "no-weakest-target",
        f"fleet: weakest: of {names} none has only what all others have",
        hint="add the target that one model is to be planned for, e.g. skylake, or leave `fleet` "
        "out for a model per target",
    )


def _alike(target: Target, others: Sequence[Target]) -> Target | None:
    """The first of some targets whose int8 products are as exact as those of a target."""
    vnni = "vnni" in target.capabilities
    return next((other for other in others if ("vnni" in other.capabilities) == vnni), None)


def _target_plan(
    recipe: Recipe,
    target: Target,
    runtime: Runtime,
    lead: Target | None,
    profile: Profile | None,
) -> TargetPlan:
    steps = [planned_step(step, lead or target, runtime) for step in recipe.pipeline]
    if recipe.emit.opset is not None:
        options = UpgradeOpset.Options(to=recipe.emit.opset)
        steps.append(PlannedStep(UpgradeOpset.name, UpgradeOpset(options)))
    if recipe.emit.int8 == "qoperator":
        form = FuseRequantize.Options(form="qoperator")
        steps.append(PlannedStep(FuseRequantize.name, FuseRequantize(form)))
    # A launch that cannot be fails before any work.
    check_precision(target, runtime, recipe.launch.settings)
    slices_of(target, recipe.launch.settings)
    is_ir = recipe.emit.format == "openvino"
    lowering = lowering_steps(
        runtime if recipe.emit.lower else None,
        domains=() if is_ir else recipe.emit.allowed_domains(runtime.domains),
        keep_canonical=is_ir,
    )
    by_hint = Emitter(recipe).by_hint
    return TargetPlan(target, runtime, tuple(steps), lowering, lead, profile, by_hint)


def lowering_steps(
    runtime: Runtime | None, *, domains: Sequence[str] = (), keep_canonical: bool = False
) -> tuple[PlannedStep, ...]:
    """The passes that write a graph as a runtime computes it fastest, and as it can be emitted.

    Args:
        runtime: what its descriptor prefers is written; None: what every runtime has.
        domains: operator domains beside ONNX's own that may be used.
        keep_canonical: whether the format can hold canonical operations.
    """
    asked: list[object] = []
    if runtime is not None:
        asked.extend({step.name: dict(step.options)} for step in runtime.lowering)
    forms = {entry.op: list(entry.forms) for entry in runtime.forms} if runtime else {}
    options = {"forms": forms, "domains": list(domains), "keep_canonical": keep_canonical}
    asked.append({LowerOperators.name: options})
    # Primitives bring what others next to them make superfluous.
    cleaning = (MergeTransposes, MergeReshapes, RemoveDuplicates, InferShapes)
    asked.extend(step.name for step in cleaning)
    return tuple(PlannedStep(step.name, step.create()) for step in resolve_pipeline(asked))


def planned_step(step: Step, target: Target, runtime: Runtime) -> PlannedStep:
    """A step of a recipe for one target: ready to run, or skipped because its `when` fails.

    Raises:
        CapabilityError: the pass needs what the target or the runtime does not have.
    """
    if step.when is not None and step.when not in available_capabilities(target, runtime):
        reason = f"when: {step.when}, which {target.id} with {runtime.id} does not have"
        return PlannedStep(step.name, None, reason)
    for capability in step.pass_type.requires:
        if missing := missing_capability(capability, target, runtime):
            raise CapabilityError(
                "capability-missing",
                f"step '{step.name}' cannot run: {missing.message}",
                location=step.location,
                hint=missing.hint,
            )
    known = runtime.options_for(step.name, target.capabilities)
    return PlannedStep(step.name, step.with_defaults(known).create())
