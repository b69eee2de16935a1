"""Runs passes over a graph: verifies, times, counts and dumps between them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from optc.errors import InternalError
from optc.ir.diff import diff_text
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.rewrite.trace import StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from optc.ir import Graph
    from optc.passes.base import Pass, PassContext, PassResult
    from optc.rewrite.trace import Refusal


class Progress(Protocol):
    """A callback for long work: what is being done, how many parts are done, how many there are."""

    def __call__(self, activity: str, done: int, total: int) -> None:
        """Called when a part begins, and once with `done == total` at the end."""


@dataclass(frozen=True)
class PlannedStep:
    """A step of the pipeline, ready to run.

    Attributes:
        name: name of the pass.
        run: the pass with its options; None when the step is skipped.
        skipped: why it is skipped.
    """

    name: str
    run: Pass | None
    skipped: str = ""


@dataclass(frozen=True)
class PassRun:
    """The result of a pipeline.

    Attributes:
        graph: the graph after the last step.
        steps: one record per step, in order.
    """

    graph: Graph
    steps: tuple[StepRecord, ...]

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """All refusals and nearest misses of all steps, in order."""
        return tuple(refusal for step in self.steps for refusal in step.refusals)


def run_pipeline(
    source: Callable[[], Graph],
    steps: Sequence[PlannedStep],
    context: PassContext,
    *,
    dump_dir: Path | None = None,
    progress: Progress | None = None,
) -> PassRun:
    """Run steps over the graph that `source` makes, and verify after each.

    Args:
        source: makes the graph to work on; called again only to report a pass that breaks it.
        steps: what to run.
        context: what passes may know.
        dump_dir: where to write the canonical text after each pass, as ``NN-<pass>.txt``.
        progress: told before each step.

    Raises:
        InternalError: a pass raised no error but its result does not verify, or what it said
            about having changed something is not true of the number of operations.
    """
    graph = source()
    if problems := verify(graph):
        raise InternalError(
            "import-broke-graph",
            f"the imported graph does not verify: {problems[0]}",
            detail="\n".join(map(str, problems)),
        )
    records: list[StepRecord] = []
    for index, step in enumerate(steps):
        if progress is not None:
            progress(step.name, index, len(steps))
        if step.run is None:
            records.append(StepRecord(step.name, skipped=step.skipped))
            continue
        before = count_nodes(graph)
        start = time.perf_counter()
        result = step.run.apply(graph, context)
        seconds = time.perf_counter() - start
        after = count_nodes(graph)
        _check(graph, step, result, before == after, lambda: _rerun(source, steps[:index], context))  # noqa: B023 - called before the next turn
        records.append(
            StepRecord(
                step.name,
                result.changed,
                result.counts,
                result.refusals,
                before,
                after,
                seconds,
            )
        )
        if dump_dir is not None:
            _dump(graph, dump_dir, index, step.name)
    if progress is not None:
        progress("passes", len(steps), len(steps))
    return PassRun(graph, tuple(records))


def count_nodes(graph: Graph) -> int:
    """Operations of a graph and all graphs nested in it."""
    return sum(len(nested) for nested in graph.walk())


def _check(
    graph: Graph,
    step: PlannedStep,
    result: PassResult,
    same_size: bool,
    before: Callable[[], Graph],
) -> None:
    problems = verify(graph) if result.changed else ()
    if not problems and (result.changed or same_size):
        return
    reason = problems[0] if problems else "it says unchanged, but operations came or went"
    difference = diff_text(print_graph(before()), print_graph(graph))
    raise InternalError(
        "pass-broke-graph",
        f"{step.name} broke the graph: {reason}",
        detail="\n".join([*map(str, problems), difference]),
    )


def _rerun(
    source: Callable[[], Graph], steps: Sequence[PlannedStep], context: PassContext
) -> Graph:
    graph = source()
    for step in steps:
        if step.run is not None:
            step.run.apply(graph, context)
    return graph


def _dump(graph: Graph, folder: Path, index: int, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{index:02d}-{name}.txt").write_text(print_graph(graph), encoding="utf-8")
