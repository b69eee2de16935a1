"""Runs the passes of a recipe once for all targets that share them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from optc.cache import MemoryStore, digest_of
from optc.emit.drawing import Drawing
from optc.emit.folder import file_digest
from optc.frontend.onnx import load_model
from optc.ir import clone
from optc.ir.bind import bind_inputs
from optc.ir.dump import all_tensors
from optc.numerics.timing import assumed_sizes, timer
from optc.passes import InferShapes
from optc.passes.base import AccuracyGoal, PassContext
from optc.pipeline import run_pipeline
from optc.rewrite.decisions import Decisions
from optc.stages import Stages, step_keys
from optc.toolchain import machine, toolchain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.cache import Store
    from optc.ir import Graph
    from optc.pipeline import PassRun, Progress
    from optc.prepare import Prepared, TargetPlan
    from optc.recipe import Recipe


def prediction_sizes(recipe: Recipe, graph: Graph) -> dict[str, int]:
    """The sizes that gains are predicted for: bounded dimensions at their upper bound."""
    bounds = {name: spec.largest for name, spec in recipe.inputs.items() if spec.largest}
    return assumed_sizes(graph, bounds)


def read_source(recipe: Recipe) -> Graph:
    """The source model of a recipe, with the shapes that the recipe gives its inputs."""
    graph = load_model(recipe.model_path, sha256=recipe.model.sha256)
    bind_inputs(graph, {name: spec.dims for name, spec in recipe.inputs.items() if spec.dims})
    return graph


def describe_source(graph: Graph) -> dict[str, object]:
    """The source model as data to draw, with all types that can be inferred."""
    typed = clone(graph)
    InferShapes().apply(typed, PassContext())
    return Drawing(typed).describe()


def context_of(recipe: Recipe, plan: TargetPlan, progress: Progress | None = None) -> PassContext:
    """What the passes of a target may know, with the recipe's data where one of them uses it."""
    if not any(step.run is not None and step.run.observes for step in plan.steps):
        return plan.context
    from optc.observer import CalibrationObserver  # with all that runs models

    goals = tuple(AccuracyGoal(goal.metric, goal.limit) for goal in recipe.accuracy)
    return replace(plan.context, observer=CalibrationObserver(recipe, progress), goals=goals)


def source_key(recipe: Recipe, store: Store) -> str:
    """Digest of everything that decides the graph that steps begin with, and how they work on it.

    The model is hashed, and its external data.

    Args:
        recipe: the recipe.
        store: remembers the files of models.

    Raises:
        ModelError: the model is not valid, or a file of it is missing.
    """
    model, files = _files(recipe, store)
    place = recipe.model_path.parent
    try:
        data = [[name, file_digest(place / name)] for name in files]
    except OSError:  # reading the model says what is wrong
        data = [files]
    inputs = {name: [spec.dims, spec.largest] for name, spec in recipe.inputs.items()}
    return digest_of("source", toolchain(), model, data, inputs)


def model_bytes(recipe: Recipe, store: Store) -> int:
    """Size of the model with its external data."""
    place = recipe.model_path
    files = [place, *(place.parent / name for name in _files(recipe, store)[1])]
    return sum(file.stat().st_size for file in files)


def _files(recipe: Recipe, store: Store) -> tuple[str, list[str]]:
    """Digest of the model, and the files with its external data, relative to its folder.

    Which those are is asked of the store, for a model that was seen before.
    """
    place = recipe.model_path
    try:
        model = file_digest(place)
    except OSError:
        load_model(place)  # says what is wrong
        raise
    key = digest_of("files", toolchain(), model)
    found = store.get("files", key)
    if found is not None:
        return model, json.loads(found)
    files = external_files(load_model(place, sha256=recipe.model.sha256))
    names = [os.path.relpath(file, place.parent.resolve()) for file in files]
    store.put("files", key, json.dumps(names).encode())
    return model, names


def decided(plan: TargetPlan, run: PassRun) -> PassContext:
    """What the passes of a target knew, with all that they decided."""
    return replace(plan.context, decisions=Decisions(run.steps))


def external_files(graph: Graph) -> list[Path]:
    """Files beside the model that its tensors lie in, sorted."""
    return sorted({tensor.file for tensor in all_tensors(graph) if tensor.file is not None})


def cost_digest(plan: TargetPlan) -> str:
    """Digest of what predicted times depend on: the descriptor of the target, and the runtime."""
    return digest_of("cost", plan.target.model_dump_json(), plan.runtime.id)


def target_digest(plan: TargetPlan) -> str:
    """Digest of what passes can learn of the target: its descriptor, the runtime and its hint."""
    context, runtime = plan.context, plan.runtime.model_dump_json()
    return digest_of("target", context.described.model_dump_json(), runtime, context.by_hint)


def data_digest(recipe: Recipe, context: PassContext) -> str | None:
    """Digest of what passes can learn by running the graph: data, goals, statistics, and the CPU.

    None where no pass does that.
    """
    if context.observer is None:
        return None
    statistics, given = None, recipe.data.calibration
    if given is not None and given.statistics is not None:
        place = recipe.locate(given.statistics)
        statistics = file_digest(place) if place.is_file() else ""
    return digest_of("data", context.observer.digest, context.goals, statistics, machine())


def target_groups(prepared: Prepared) -> list[list[TargetPlan]]:
    """The targets of a recipe, those together whose passes give them one graph."""
    left, groups = list(prepared.plans), []
    while left:
        first = left[0]
        groups.append([first, *(other for other in left[1:] if first.shares_with(other))])
        left = [item for item in left if not any(item is member for member in groups[-1])]
    return groups


def run_groups(
    prepared: Prepared,
    source: Callable[[], Graph],
    sizes: Mapping[str, int],
    dump_dir: Path | None,
    progress: Progress | None,
    store: Store | None = None,
) -> Iterator[tuple[list[TargetPlan], PassRun]]:
    """Groups of targets that share their passes, with the graph of each group.

    Steps that come before the first one that asks the target run once for all groups.

    Args:
        prepared: the recipe and its targets.
        source: makes the graph; it may fill `sizes`.
        sizes: what symbols stand for in predictions.
        dump_dir: where to write the canonical text after each pass.
        progress: told before each pass.
        store: knows the stages of earlier compiles.
    """
    groups = target_groups(prepared)
    if dump_dir is not None:
        store = None  # every step has to run to be written down
    elif store is None and len(groups) > 1:
        store = MemoryStore()
    for group in groups:
        folder = dump_dir / group[0].target.id if dump_dir and len(prepared.plans) > 1 else dump_dir
        yield group, run_group(prepared, group, source, sizes, folder, progress, store)


def run_group(
    prepared: Prepared,
    group: Sequence[TargetPlan],
    source: Callable[[], Graph],
    sizes: Mapping[str, int],
    dump_dir: Path | None = None,
    progress: Progress | None = None,
    store: Store | None = None,
    *,
    count: int | None = None,
) -> PassRun:
    """Run the passes of a group of targets, or the first `count` of them; see `run_groups`."""
    first = group[0]
    steps, context = first.steps[:count], context_of(prepared.recipe, first, progress)
    # What is kept for another group has to have its gains as well.
    priced = list(group) if store is None else list(prepared.plans)
    memo = None
    if store is not None:
        key = source_key(prepared.recipe, store)
        keys = step_keys(key, steps, target_digest(first), data_digest(prepared.recipe, context))
        memo = Stages(store, key, keys, [cost_digest(plan) for plan in priced], steps)
    run = run_pipeline(
        source,
        steps,
        context,
        costs=[timer(p.target, runtime=p.runtime, sizes=sizes) for p in priced],
        dump_dir=dump_dir,
        progress=progress,
        memo=memo,
    )
    members = {id(plan) for plan in group}
    return run.only([i for i, plan in enumerate(priced) if id(plan) in members])
