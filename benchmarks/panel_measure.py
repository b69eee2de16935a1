"""Whether the variants of one model compute the same, and how fast they are, in one runtime.

usage: python benchmarks/panel_measure.py JOB ANSWER      both JSON; see `Job`

A process of its own: it holds large models, and whatever crashes in it costs one row of the panel.
Outputs are compared with the source model in ONNX Runtime without optimization, within the
tolerance that optc's verification derives, widened by the source's own noise in the same way.
Times are those of `optc.evidence.bench_latency`: variants in turns, one thread, CPU time.
Unlike in `optc bench`, only optc's result has the options that optc emits: the others have the
defaults, for options are part of what optc makes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panel_variants import without_folders

from optc.errors import OptcError
from optc.evidence.bench_inputs import Request, choose_inputs, read_facts
from optc.evidence.bench_latency import Effort, measure_latency
from optc.evidence.bench_models import resting
from optc.evidence.bench_stats import Spread, speedup
from optc.evidence.subject import find_subject
from optc.frontend.onnx import load_model
from optc.numerics.compare import Comparison, compare_outputs
from optc.numerics.comparison import json_number
from optc.numerics.evaluate import open_session
from optc.numerics.facts import required_inputs
from optc.numerics.noise import measure_noise
from optc.numerics.npyfile import npz_keys
from optc.numerics.roundings import derive_tolerances
from optc.passes import InferShapes
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.evidence.bench_latency import BlockTimes
    from optc.evidence.subject import Subject
    from optc.numerics.tolerance import Noise
    from optc.numerics.values import Feeds

SOURCE = "source"
OWN = "optc"
SPLIT = "test"
"""Prefix of the keys of the data."""
_COMPARED = 4  # inputs, as many as verification takes


@dataclass(frozen=True)
class Job:
    """What is to be measured.

    Attributes:
        source: the source model.
        runtime: what executes it.
        variants: file, or folder of optc, by tool.
        data: inputs; None for seeded ones.
        seconds: measuring time.
        rounds: turns of each variant instead; None: as many as fit.
    """

    source: str
    runtime: str
    variants: dict[str, str]
    data: str | None
    seconds: float
    rounds: int | None


def request_for(model: Path, data: Path | None) -> Request:
    """The data beside a model; states and other inputs that it does not have are zero."""
    if data is None:
        return Request()
    keys = npz_keys(data)
    wanted = required_inputs(load_model(model))
    fill = {name: 0.0 for name in wanted if f"{SPLIT}:{name}" not in keys}
    return Request(data, SPLIT, fill)


def measure(job: Job) -> dict[str, Any]:
    """Correctness, times and ratios of every variant, as data."""
    source = find_subject(job.source, runtime=job.runtime, label=SOURCE)
    data = Path(job.data) if job.data is not None else None
    inputs = choose_inputs([source], [read_facts(source)], request_for(Path(job.source), data))
    judge = _Judge(Path(job.source), source, inputs.feeds[:_COMPARED])
    verdicts = {SOURCE: judge.verdict(source)}
    subjects = [source]
    for tool, place in job.variants.items():
        try:
            subject = find_subject(place, runtime=job.runtime, label=tool)
            verdicts[tool] = judge.verdict(subject)
        except OptcError as error:
            verdicts[tool] = {"error": without_folders(error.message)}
            continue
        subjects.append(subject)
    judge.close()
    effort = Effort(job.seconds, job.rounds)
    blocks = measure_latency([resting(s) for s in subjects], inputs.feeds, effort=effort)
    _add_times(verdicts, subjects, blocks)
    return {
        "inputs": inputs.origin,
        "samples": len(inputs.feeds),
        "rounds": sum(len(block.cpu[0]) for block in blocks),
        "blocks": len(blocks),
        "calls": blocks[0].calls,
        "cpu_clock": blocks[0].cpu_clock,
        "variants": verdicts,
    }


class _Judge:
    """Compares variants with the source model as it is written."""

    def __init__(self, model: Path, source: Subject, feeds: Sequence[Feeds]) -> None:
        self._model, self._source, self._feeds = model, source, feeds
        graph = load_model(model)
        InferShapes().apply(graph, PassContext())
        self._bounds = derive_tolerances(graph)
        self._plain = open_session(model, optimize="none")
        self._expected = [self._plain.run(sample) for sample in feeds]

    def verdict(self, subject: Subject) -> dict[str, Any]:
        """Whether it computes what the source does.

        Raises:
            ModelError: it does not load, or does not run.
        """
        engine = subject.open()
        actual = [engine.run(sample) for sample in self._feeds]
        worst = self._compare(actual).worst
        if worst is None:  # a model without outputs
            return {"correct": True, "reason": "", "difference": 0.0, "tolerance": 0.0}
        return {
            "correct": worst.passed,
            "reason": f"{worst.name}: {worst.reason}" if worst.reason else "",
            "difference": json_number(worst.relative),
            "tolerance": worst.tolerance.relative,
        }

    def _compare(self, actual: Sequence[Feeds]) -> Comparison:
        found = []
        for number, outputs in enumerate(actual):
            comparison = compare_outputs(self._expected[number], outputs, self._bounds)
            if not comparison.passed:
                noise = self._noise[number]
                wider = {name: bound.widened(noise[name]) for name, bound in self._bounds.items()}
                comparison = compare_outputs(self._expected[number], outputs, wider)
            found.append(comparison)
        return Comparison.merge(found)

    @cached_property
    def _noise(self) -> list[dict[str, Noise]]:
        """The source model's own, for each input; as `optc.verification` measures it."""
        others = [open_session(self._model), self._source.open()]
        return [measure_noise(self._plain, others, sample) for sample in self._feeds]

    def close(self) -> None:
        """Give the memory back before anything is timed."""
        del self._plain, self._expected


def _add_times(
    verdicts: dict[str, dict[str, Any]], subjects: Sequence[Subject], blocks: Sequence[BlockTimes]
) -> None:
    times = {
        subject.label: [block.cpu[index] for block in blocks]
        for index, subject in enumerate(subjects)
    }
    for tool, own in times.items():
        verdict = verdicts[tool]
        verdict["cpu_seconds"] = Spread.of([time for block in own for time in block]).to_dict()
        verdict["speedup"] = speedup(times[SOURCE], own).to_dict()
        if OWN in times:
            verdict["optc_speedup"] = speedup(own, times[OWN]).to_dict()


def main() -> int:
    """Answer a job."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    try:
        answer = measure(job)
    except OptcError as error:
        print(f"error: {error.message}")
        return 1
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
