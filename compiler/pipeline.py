"""Runs passes over a graph: verifies, times, counts and dumps between them."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from optc.collecting import rare_collections
from optc.errors import InternalError, ModelError
from optc.ir import clone
from optc.ir.dump import all_tensors
from optc.ir.text import print_graph
from optc.ir.verify import Verified, Violation, verify
from optc.passes import LowerOperators
from optc.rewrite.decisions import Decisions
from optc.rewrite.journal import Journal
from optc.rewrite.trace import Gain, Refusal, StepRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from optc.ir import Graph, Tensor
    from optc.passes.base import Pass, PassContext
    from optc.rewrite.journal import Cost

    Seconds = tuple[float | None, ...]


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
class Resumed:
    """The beginning of a pipeline, as an earlier run left it.

    Attributes:
        graph: the graph after it, verified then.
        records: the records of its steps, with that of reading the model.
        gains: per record and cost function the predicted gain by rule.
        done: number of steps.
    """

    graph: Graph
    records: tuple[StepRecord, ...]
    gains: tuple[tuple[Mapping[str, Gain], ...], ...]
    done: int


class Memo(Protocol):
    """Remembers the graph after each step of one pipeline: see `optc.stages`."""

    @property
    def key(self) -> str:
        """Digest of everything that decides the last graph."""

    def resume(self, source: Callable[[], Graph]) -> Resumed | None:
        """The longest beginning of the pipeline that is known; None when nothing is."""

    def begin(self, graph: Graph, tensors: Sequence[Tensor], records: Sequence[StepRecord]) -> None:
        """Remember the source graph, its tensors as they were read, and what was done to it."""

    def keep(
        self, index: int, record: StepRecord, gains: Sequence[Mapping[str, Gain]], graph: Graph
    ) -> None:
        """Remember the graph after a step, which was verified."""


@dataclass(frozen=True)
class PassRun:
    """The result of a pipeline.

    Attributes:
        graph: the graph after the last step.
        steps: one record per step, in order; before them one named ``read`` when the model's
            recorded types were stale.
        gains: per step and cost function the predicted gain by rule; empty without a function.
        seconds: per cost function the predicted time of the operations of `graph` that have one.
        unknown: operations that have none.
        key: digest of everything that decides the graph; empty without a memo.
        resumed: how many steps were not run, because an earlier run had left their result.
        before: the graph before the first step that quantizes, where a step behind it asked for
            that; None otherwise.
    """

    graph: Graph
    steps: tuple[StepRecord, ...]
    gains: tuple[tuple[Mapping[str, Gain], ...], ...] = ()
    seconds: tuple[float, ...] = ()
    unknown: int = 0
    key: str = ""
    resumed: int = 0
    before: Graph | None = None

    def only(self, indices: Sequence[int]) -> PassRun:
        """The same run with only these of its cost functions."""
        gains = tuple(tuple(row[i] for i in indices) if row else () for row in self.gains)
        return replace(self, gains=gains, seconds=tuple(self.seconds[i] for i in indices))

    def steps_for(self, index: int) -> tuple[StepRecord, ...]:
        """The records with the gains that the cost function of this index predicts."""
        if not self.gains:
            return self.steps
        pairs = zip(self.steps, self.gains, strict=True)
        return tuple(replace(step, gains=found[index]) if found else step for step, found in pairs)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """All refusals and nearest misses of all steps, in order."""
        return tuple(refusal for step in self.steps for refusal in step.refusals)


@rare_collections()
def run_pipeline(
    source: Callable[[], Graph],
    steps: Sequence[PlannedStep],
    context: PassContext,
    *,
    costs: Sequence[Cost] = (),
    dump_dir: Path | None = None,
    progress: Progress | None = None,
    memo: Memo | None = None,
) -> PassRun:
    """Run steps over the graph that `source` makes, and verify after each.

    Args:
        source: makes the graph to work on; called again only to report a pass that breaks it.
        steps: what to run.
        context: what passes may know.
        costs: functions that predict the time of an operation, one per target: rewrites then have
            a predicted gain.
        dump_dir: where to write the canonical text after each pass, as ``NN-<pass>.txt``.
        progress: told before each step.
        memo: knows results of earlier runs, and is told those of this one.

    Raises:
        ModelError: the graph that `source` makes is not sound.
        InternalError: the graph is not sound after a pass, or the pass says that it changed
            nothing and the number of operations is another.
    """
    last = max((i for i, step in enumerate(steps) if step.run is not None), default=-1)
    start, known = _start(source, last, memo, all_steps=dump_dir is not None)
    graph, records, gains = start.graph, list(start.records), list(start.gains)
    told = replace(context, decisions=Decisions(records))
    for index, step in enumerate(steps[start.done :], start.done):
        if progress is not None:
            progress(step.name, index, len(steps))
        if step.run is None:
            records.append(StepRecord(step.name, skipped=step.skipped))
            gains.append(())
            continue
        told = _with_reference(told, graph, steps[index:])
        record, saved = _run_step(graph, step.name, step.run, told, costs)
        told = replace(told, decisions=told.decisions.with_step(record))
        records.append(record)
        gains.append(saved)
        problems = verify(graph, known) if record.changed else _unexpected(record)
        if index == last and not problems:
            problems = verify(graph)  # all of it: `known` does not see changes further up
        if problems:
            raise _broken(_rerun(source, steps[:index], context), graph, step.name, problems)
        if memo is not None:
            memo.keep(index, record, saved, graph)
        if dump_dir is not None:
            _dump(graph, dump_dir, index, step.name)
    if progress is not None:
        progress("passes", len(steps), len(steps))
    seconds, unknown = _total(graph, costs)
    saved_by = tuple(gains) if costs else ()
    key = memo.key if memo is not None else ""
    return PassRun(
        graph, tuple(records), saved_by, seconds, unknown, key, start.done, told.reference
    )


def _total(graph: Graph, costs: Sequence[Cost]) -> tuple[tuple[float, ...], int]:
    """Predicted time of a graph for each function, and how many operations have none."""
    left = _price(graph, costs)
    totals = tuple(sum(cost[i] or 0.0 for cost in left) for i in range(len(costs)))
    return totals, sum(None in cost for cost in left)


def _start(
    source: Callable[[], Graph], last: int, memo: Memo | None, *, all_steps: bool
) -> tuple[Resumed, Verified]:
    """Where to begin: at what the memo knows, sound, or at the source."""
    found = None if memo is None or all_steps else memo.resume(source)
    known = Verified()
    if found is None or (found.done <= last and verify(found.graph, known)):
        known = Verified()
        found = _begin(source, known, memo)
    return found, known


def _begin(source: Callable[[], Graph], known: Verified, memo: Memo | None) -> Resumed:
    """The source graph, sound, before any step."""
    graph = source()
    tensors = all_tensors(graph) if memo is not None else []
    records = _sound(graph, known)
    if memo is not None:
        memo.begin(graph, tensors, records)
    return Resumed(graph, tuple(records), ((),) * len(records), 0)


def _with_reference(context: PassContext, graph: Graph, left: Sequence[PlannedStep]) -> PassContext:
    """The context with a copy of the graph, where the next step lowers precision.

    Only when a later step wants to know what was there before.
    """
    runs = [step.run for step in left if step.run is not None]
    if context.reference is not None or not runs[0].quantizes:
        return context
    if not any(run.needs_reference for run in runs):
        return context
    return replace(context, reference=clone(graph))


def _price(graph: Graph, costs: Sequence[Cost]) -> list[Seconds]:
    """Per operation of a graph what each function says of it."""
    nodes = ((inner, node) for inner in graph.walk() for node in inner.ordered())
    return [tuple(cost(inner, node) for cost in costs) for inner, node in nodes]


def _sound(graph: Graph, known: Verified) -> list[StepRecord]:
    """Check what was read. Recorded types that contradict the operations are stale: drop them.

    Returns:
        A record of what was dropped, where anything was.

    Raises:
        ModelError: the model is not valid for another reason.
    """
    stale = verify(graph, known)
    if not stale:
        return []
    for nested in graph.walk():
        for value in (v for node in nested.nodes() for v in node.outputs if v is not None):
            nested.set_type(value, None)
    if problems := verify(graph, known):
        raise ModelError(
            "model-invalid",
            f"the model is not valid ONNX: {problems[0]}",
            hint=f"and {len(problems) - 1} more" if len(problems) > 1 else None,
        )
    refusals = tuple(Refusal("recorded-type", item.where, item.what) for item in stale)
    size = count_nodes(graph)
    return [StepRecord("read", True, {}, refusals, size, size)]


def _run_step(
    graph: Graph, name: str, step: Pass, context: PassContext, costs: Sequence[Cost]
) -> tuple[StepRecord, tuple[Mapping[str, Gain], ...]]:
    """Run a pass; what it did, and per cost function what that saves."""
    before = count_nodes(graph)
    prices = _price(graph, costs) if step.retypes else []
    journal = Journal(costs)
    with journal.watching(graph) if costs else nullcontext():
        start = time.perf_counter()
        result = step.apply(graph, context)
        seconds = time.perf_counter() - start
    record = StepRecord(
        name,
        result.changed,
        result.counts,
        result.refusals,
        before,
        count_nodes(graph),
        seconds,
        decisions=result.decisions,
        warnings=result.warnings,
        figures=result.figures,
    )
    if costs and step.retypes:
        return record, _difference(name, prices, _price(graph, costs) if result.changed else prices)
    return record, tuple(journal.gains(graph)) if costs else ()


def _difference(
    name: str, before: Sequence[Seconds], after: Sequence[Seconds]
) -> tuple[Mapping[str, Gain], ...]:
    """Per cost function what a pass saves that changes operations where they stand."""
    if before is after or not before:
        return ({},) * len(before[0]) if before else ()
    totals = (
        [sum(cost[index] or 0.0 for cost in prices) for prices in (before, after)]
        for index in range(len(before[0]))
    )
    return tuple({name: Gain(old - new, counted=1)} for old, new in totals)


def count_nodes(graph: Graph) -> int:
    """Operations of a graph and all graphs nested in it."""
    return sum(len(nested) for nested in graph.walk())


def _unexpected(record: StepRecord) -> tuple[Violation, ...]:
    """What is wrong with the claim that nothing changed."""
    if record.nodes_before == record.nodes_after and not record.counts:
        return ()
    return (Violation("", "the pass says that it changed nothing, and it did"),)


def _broken(before: Graph, after: Graph, name: str, problems: Sequence[Violation]) -> InternalError:
    from optc.ir.diff import diff_text  # only a bug needs it

    difference = diff_text(print_graph(before), print_graph(after))
    return InternalError(
        "pass-broke-graph",
        f"{name} broke the graph: {problems[0]}",
        detail="\n".join([*map(str, problems), difference]),
    )


def _rerun(
    source: Callable[[], Graph], steps: Sequence[PlannedStep], context: PassContext
) -> Graph:
    graph = source()
    for index, step in enumerate(steps):
        if step.run is not None:
            context = _with_reference(context, graph, steps[index:])
            decided = step.run.apply(graph, context).decisions
            record = StepRecord(step.name, decisions=decided)
            context = replace(context, decisions=context.decisions.with_step(record))
    return graph


def _dump(graph: Graph, folder: Path, index: int, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{index:02d}-{name}.txt").write_text(print_graph(graph), encoding="utf-8")


def graph_after(
    source: Callable[[], Graph],
    steps: Sequence[PlannedStep],
    count: int,
    context: PassContext,
    *,
    known: Graph | None = None,
) -> Graph:
    """The graph as it would be emitted were the first `count` steps the whole pipeline.

    Between steps a graph may hold canonical operations, which no format has: it goes through the
    closing steps of the pipeline as well, from the last `lower-operators` on.

    Args:
        source: makes the graph of the source model.
        steps: the pipeline.
        count: how many of its steps.
        context: what passes may know.
        known: the graph after these steps, where it was kept (`PassRun.before`); it stays as it is.
    """
    closing = closing_steps(steps, count)
    if known is not None:
        return _rerun(lambda: clone(known), closing, context)
    return _rerun(source, (*steps[:count], *closing), context)


def closing_steps(steps: Sequence[PlannedStep], count: int) -> Sequence[PlannedStep]:
    """What follows the first `count` steps before a graph can be emitted; the end of `steps`."""
    lowering = [i for i, step in enumerate(steps) if step.name == LowerOperators.name]
    return steps[max(count, lowering[-1]) :] if lowering else ()
