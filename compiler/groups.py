"""Runs the passes of a recipe once for all targets that share them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optc.frontend.onnx import load_model
from optc.ir.bind import bind_inputs
from optc.numerics.timing import assumed_sizes, timer
from optc.passes.base import AccuracyGoal
from optc.pipeline import run_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from optc.ir import Graph
    from optc.passes.base import PassContext
    from optc.pipeline import PassRun, Progress
    from optc.prepare import Prepared, TargetPlan
    from optc.recipe import Recipe
    from optc.rewrite.trace import StepRecord


def prediction_sizes(recipe: Recipe, graph: Graph) -> dict[str, int]:
    """The sizes that gains are predicted for: bounded dimensions at their upper bound."""
    bounds = {name: spec.largest for name, spec in recipe.inputs.items() if spec.largest}
    return assumed_sizes(graph, bounds)


def read_source(recipe: Recipe) -> Graph:
    """The source model of a recipe, with the shapes that the recipe gives its inputs."""
    graph = load_model(recipe.model_path, sha256=recipe.model.sha256)
    bind_inputs(graph, {name: spec.dims for name, spec in recipe.inputs.items() if spec.dims})
    return graph


def context_of(recipe: Recipe, plan: TargetPlan, progress: Progress | None = None) -> PassContext:
    """What the passes of a target may know, with the recipe's data where one of them uses it."""
    if not any(step.run is not None and step.run.observes for step in plan.steps):
        return plan.context
    from optc.observer import CalibrationObserver  # with all that runs models

    goals = tuple(AccuracyGoal(goal.metric, goal.limit) for goal in recipe.accuracy)
    return replace(plan.context, observer=CalibrationObserver(recipe, progress), goals=goals)


def external_files(graph: Graph) -> list[Path]:
    """Files beside the model that its tensors lie in, sorted."""
    tensors = (value.constant for nested in graph.walk() for value in nested.constants())
    return sorted({t.file for t in tensors if t is not None and t.file is not None})


def data_files(recipe: Recipe) -> list[Path]:
    """The files of the recipe's validation data, sorted."""
    validation = recipe.data.validation
    if validation is None:
        return []
    path = recipe.locate(validation.path)
    return sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]


def target_groups(prepared: Prepared) -> Iterator[list[TargetPlan]]:
    """The targets of a recipe, those together whose passes give them one graph."""
    left = list(prepared.plans)
    while left:
        first = left[0]
        group = [first, *(other for other in left[1:] if first.shares_with(other))]
        left = [item for item in left if item not in group]
        yield group


def run_groups(
    prepared: Prepared,
    source: Callable[[], Graph],
    sizes: Mapping[str, int],
    dump_dir: Path | None,
    progress: Progress | None,
    observe: Callable[[StepRecord], None] | None = None,
) -> Iterator[tuple[list[TargetPlan], PassRun]]:
    """Groups of targets that share their passes, with the graph of each group.

    Args:
        prepared: the recipe and its targets.
        source: makes the graph; it may fill `sizes`.
        sizes: what symbols stand for in predictions.
        dump_dir: where to write the canonical text after each pass.
        progress: told before each pass.
        observe: told after each pass.
    """
    for group in target_groups(prepared):
        first = group[0]
        folder = dump_dir / first.target.id if dump_dir and len(prepared.plans) > 1 else dump_dir
        yield (
            group,
            run_pipeline(
                source,
                first.steps,
                context_of(prepared.recipe, first, progress),
                costs=[timer(p.target, runtime=p.runtime, sizes=sizes) for p in group],
                dump_dir=folder,
                progress=progress,
                observe=observe,
            ),
        )
