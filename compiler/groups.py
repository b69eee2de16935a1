"""Runs the passes of a recipe once for all targets that share them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from optc.cache import MemoryStore, digest_of
from optc.emit.folder import file_digest
from optc.frontend.onnx import load_model
from optc.ir.bind import bind_inputs
from optc.ir.dump import all_tensors
from optc.numerics.timing import assumed_sizes, timer
from optc.pipeline import run_pipeline
from optc.stages import Stages, step_keys
from optc.toolchain import toolchain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.cache import Store
    from optc.ir import Graph
    from optc.passes.base import PassContext
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


def context_of(recipe: Recipe, plan: TargetPlan, progress: Progress | None = None) -> PassContext:
    """What the passes of a target may know, with the recipe's data where one of them uses it."""
    if not any(step.run is not None and step.run.observes for step in plan.steps):
        return plan.context
    from optc.observer import CalibrationObserver  # with all that runs models

    return replace(plan.context, observer=CalibrationObserver(recipe, progress))


def source_key(recipe: Recipe, store: Store) -> str:
    """Digest of everything that decides the graph that steps begin with, and how they work on it.

    The model is hashed, and its external data; which files those are is asked of the store, for a
    model that was seen before.

    Args:
        recipe: the recipe.
        store: remembers the files of models.

    Raises:
        ModelError: the model is not valid, or a file of it is missing.
    """
    place = recipe.model_path
    model = file_digest(place)
    known = digest_of("files", toolchain(), model)
    found = store.get("files", known)
    if found is None:
        files = external_files(load_model(place, sha256=recipe.model.sha256))
        names = [os.path.relpath(file, place.parent.resolve()) for file in files]
        store.put("files", known, json.dumps(names).encode())
    else:
        names = json.loads(found)
    try:
        data = [[name, file_digest(place.parent / name)] for name in names]
    except OSError:  # reading the model says what is wrong
        data = [names]
    inputs = {name: [spec.dims, spec.largest] for name, spec in recipe.inputs.items()}
    return digest_of("source", toolchain(), model, data, inputs)


def external_files(graph: Graph) -> list[Path]:
    """Files beside the model that its tensors lie in, sorted."""
    return sorted({tensor.file for tensor in all_tensors(graph) if tensor.file is not None})


def target_digest(plan: TargetPlan) -> str:
    """Digest of everything that a descriptor says, and of the runtime."""
    return digest_of("target", plan.target.model_dump_json(), plan.runtime.id)


def grouped(plans: Sequence[TargetPlan]) -> list[list[TargetPlan]]:
    """Targets that share their passes, in the order of the first of each group."""
    left, groups = list(plans), []
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
    groups = grouped(prepared.plans)
    if dump_dir is not None:
        store = None  # every step has to run to be written down
    elif store is None and len(groups) > 1:
        store = MemoryStore()
    key = "" if store is None else source_key(prepared.recipe, store)
    for group in groups:
        first = group[0]
        # What is kept for another group has to have its gains as well.
        priced = group if store is None else list(prepared.plans)
        context = context_of(prepared.recipe, first, progress)
        memo = None
        if store is not None:
            costs = [target_digest(plan) for plan in priced]
            keys = step_keys(key, first.steps, target_digest(first), context.observer)
            memo = Stages(store, key, keys, costs, first.steps)
        folder = dump_dir / first.target.id if dump_dir and len(prepared.plans) > 1 else dump_dir
        run = run_pipeline(
            source,
            first.steps,
            context,
            costs=[timer(p.target, runtime=p.runtime, sizes=sizes) for p in priced],
            dump_dir=folder,
            progress=progress,
            memo=memo,
        )
        own = [i for i, plan in enumerate(priced) if any(plan is member for member in group)]
        yield group, run.only(own)
