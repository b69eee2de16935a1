"""What each step of a pipeline brings on this machine, beside what is predicted for the target.

The graph before a step and the one after it are written as they would be emitted, and take turns in
the recipe's runtime; see `optc.evidence.bench_latency`. The prediction is that for these graphs:
what a step raises and the lowering undoes is no gain. It is contradicted when it says that the step
saves time and the interval of the measured speed lies below 1.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optc.emitter import Emitter
from optc.evidence.bench_caveats import measurable
from optc.evidence.bench_inputs import Request, choose_inputs, read_facts
from optc.evidence.bench_latency import SECONDS, Effort, measure_latency
from optc.evidence.bench_models import Entry, resting
from optc.evidence.bench_stats import speedup
from optc.evidence.subject import find_subject
from optc.groups import context_of, read_source
from optc.ir.text import print_graph
from optc.numerics.timing import timer
from optc.pipeline import graph_after
from optc.targets import detect_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.evidence.bench_stats import Ratio
    from optc.evidence.subject import Subject
    from optc.numerics.values import Feeds
    from optc.pipeline import Progress
    from optc.prepare import Prepared, TargetPlan
    from optc.recipe import Recipe
    from optc.results import Plan
    from optc.rewrite.trace import StepRecord
    from optc.targets import Host


@dataclass(frozen=True)
class MeasuredStep:
    """One step that rewrote something.

    Attributes:
        step: name of the pass.
        number: its place among the records of the plan.
        predicted: how many times as fast the model should be after it, on the target.
        measured: how many times as fast it is after it, here.
    """

    step: str
    number: int
    predicted: float
    measured: Ratio

    @property
    def contradicted(self) -> bool:
        """Whether it should be faster, and is slower beyond the interval."""
        high = self.measured.high
        return self.predicted > 1.0 and high is not None and high < 1.0

    def to_dict(self) -> dict[str, Any]:
        """As data."""
        return {
            "step": self.step,
            "number": self.number,
            "predicted": self.predicted,
            "measured": self.measured.to_dict(),
            "contradicted": self.contradicted,
        }


def measure_steps(
    prepared: Prepared,
    plan: Plan,
    *,
    seconds: float | None = None,
    runs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, tuple[MeasuredStep, ...]]:
    """Measure the steps of a plan that rewrote something, for each target. Writes nothing.

    Args:
        prepared: the recipe and its targets.
        plan: what its steps do.
        seconds: measuring time per step; None: 4 seconds.
        runs: turns of each model instead of a time.
        progress: told about long work.

    Raises:
        CapabilityError: the runtime is missing, or this CPU only emulates bf16.
        ModelError: a model between two steps does not load or run.
        DataError: no inputs work.
    """
    effort = Effort(SECONDS if seconds is None else seconds, runs)
    host = detect_host()
    found: dict[str, tuple[MeasuredStep, ...]] = {}
    for item in prepared.plans:
        name = item.target.id
        sizes = plan.outlooks[name].sizes
        with tempfile.TemporaryDirectory(prefix="optc-") as folder:
            job = _Job(prepared.recipe, item, plan.targets[name], sizes, Path(folder), host)
            found[name] = tuple(job.measure(effort, progress))
    return found


@dataclass(frozen=True)
class _Stage:
    """The model as it would be emitted after some steps.

    Attributes:
        subject: it, ready to be measured.
        seconds: predicted time on the target.
        text: its canonical text.
    """

    subject: Subject
    seconds: float
    text: str


class _Job:
    """The steps of one target."""

    def __init__(
        self,
        recipe: Recipe,
        item: TargetPlan,
        records: Sequence[StepRecord],
        sizes: Mapping[str, int],
        folder: Path,
        host: Host,
    ) -> None:
        self.recipe, self.item, self.records = recipe, item, records
        self.folder, self.host = folder, host
        self.emitter = Emitter(recipe)
        self.cost = timer(item.target, runtime=item.runtime, sizes=sizes)
        self.context = context_of(recipe, item)
        self.feeds: Sequence[Feeds] = ()

    def measure(self, effort: Effort, progress: Progress | None) -> Iterator[MeasuredStep]:
        """Each step that rewrote something, against the step of that kind before it."""
        first = len(self.records) - len(self.item.steps)  # before: what reading the model did
        wanted = [i for i in range(first, len(self.records)) if _rewrote(self.records[i])]
        before = self._stage(0, "source") if wanted else None
        for place, number in enumerate(wanted):
            name = self.records[number].name
            if progress is not None:
                progress(name, place, len(wanted))
            after = self._stage(number - first + 1, name)
            if before is not None and before.text != after.text:
                ratio = self._ratio(before.subject, after.subject, effort)
                if ratio is not None:
                    expected = before.seconds / after.seconds if after.seconds > 0 else 1.0
                    yield MeasuredStep(name, number, expected, ratio)
            before = after

    def _stage(self, count: int, label: str) -> _Stage:
        place = self.folder / str(count)
        place.mkdir()
        graph = graph_after(lambda: read_source(self.recipe), self.item.steps, count, self.context)
        seconds = sum(self.cost(g, node) or 0.0 for g in graph.walk() for node in g.ordered())
        model, *_ = self.emitter.save(self.emitter.form(graph), place)
        subject = resting(find_subject(model, runtime=self.recipe.runtime, label=label))
        return _Stage(subject, seconds, print_graph(graph))

    def _ratio(self, before: Subject, after: Subject, effort: Effort) -> Ratio | None:
        """The speed of one model in units of the other's; None where it would say nothing."""
        subjects = [before, after]
        facts = [read_facts(subject) for subject in subjects]
        named = {subject.label: own for subject, own in zip(subjects, facts, strict=True)}
        _, skipped = measurable([Entry(subject) for subject in subjects], named, self.host)
        if skipped:
            return None
        if not self.feeds:
            request = Request(batch=self.recipe.launch.batch, recipe=self.recipe)
            self.feeds = choose_inputs(subjects, facts, request).feeds
        blocks = measure_latency(subjects, self.feeds, effort=effort)
        return speedup([block.cpu[0] for block in blocks], [block.cpu[1] for block in blocks])


def _rewrote(step: StepRecord) -> bool:
    """Whether a step did more than to record types."""
    return step.changed and (bool(step.gains) or step.nodes_before != step.nodes_after)
