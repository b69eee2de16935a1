"""Runs the passes of a pipeline over a graph, without a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir import clone
from optc.passes.base import PassContext
from optc.pipeline import run_pipeline
from optc.prepare import lowering_steps, planned_step
from optc.recipe import resolve_pipeline
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from optc.ir import Graph
    from optc.pipeline import PassRun, Progress


def run_passes(
    graph: Graph,
    pipeline: str | Sequence[object] | None = None,
    *,
    target: str = "cascadelake",
    runtime: str = "onnxruntime",
    lower: bool = True,
    dump_dir: Path | None = None,
    progress: Progress | None = None,
) -> PassRun:
    """Run a pipeline over a copy of a graph, and write the result in the forms of the runtime.

    Args:
        graph: the graph; it stays as it is.
        pipeline: what a recipe's `pipeline` accepts: a preset's name, or a list of steps; None for
            the default preset.
        target: CPU target.
        runtime: runtime that will execute the model.
        lower: whether operators get the forms that the runtime computes fastest, or those that
            every runtime has.
        dump_dir: where to write the canonical text after each pass.
        progress: told before each pass.

    Raises:
        RecipeError: the pipeline does not validate.
        CapabilityError: a step needs what target or runtime do not have.
    """
    cpu, engine = load_target(target), load_runtime(runtime)
    steps = [planned_step(step, cpu, engine) for step in resolve_pipeline(pipeline)]
    steps.extend(lowering_steps(engine if lower else None, domains=engine.domains))
    context = PassContext(cpu.id, engine.id, cpu=cpu)
    return run_pipeline(lambda: clone(graph), steps, context, dump_dir=dump_dir, progress=progress)
