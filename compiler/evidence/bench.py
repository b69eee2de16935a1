"""How fast models are against each other: measured in turns, with intervals that say how sure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optc.errors import ModelError
from optc.evidence.bench_caveats import caveats, measurable
from optc.evidence.bench_inputs import Request, choose_inputs, read_facts
from optc.evidence.bench_latency import SECONDS, Effort, measure_latency
from optc.evidence.bench_models import choose_models, choose_recipe, is_recipe, resting
from optc.evidence.bench_result import BenchResult, Latency, ModelFigures, Throughput
from optc.evidence.bench_stats import Spread, speedup
from optc.evidence.bench_throughput import measure_throughput, plan_instances
from optc.launch.topology import detect_topology
from optc.targets import detect_host
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.evidence.bench_inputs import Inputs
    from optc.evidence.bench_latency import BlockTimes
    from optc.evidence.bench_models import Chosen, Entry
    from optc.evidence.bench_result import Skipped
    from optc.evidence.bench_stats import Ratio
    from optc.evidence.bench_throughput import Rates
    from optc.pipeline import Progress
    from optc.targets import Host

__all__ = ["BenchResult", "bench"]


def bench(
    models: str | Path | Sequence[str | Path],
    *,
    runtimes: Sequence[str] = (),
    data: str | Path | None = None,
    split: str = "",
    fill: Mapping[str, float] | None = None,
    threads: int | None = None,
    seconds: float | None = None,
    runs: int | None = None,
    warm_up: int | None = None,
    throughput: bool = False,
    progress: Progress | None = None,
) -> BenchResult:
    """Measure how fast models are against the first of them.

    All run on the same inputs and take turns, with one thread unless told otherwise.
    The figures are those of this machine, whatever the models were compiled for.

    Args:
        models: a recipe, for its source model and the results that lie in its output folder; or
            models, each an ONNX file, the ``.xml`` of an OpenVINO IR, or ``OUT/<target>``, as
            ``[LABEL=][RUNTIME:]PATH``.
        runtimes: measure each model that names no runtime on each of these; empty: on its own.
        data: inputs, as `open_dataset` reads them; None: the recipe's, else seeded ones.
        split: prefix of the keys of an .npz file.
        fill: inputs with one number everywhere.
        threads: threads of the runtime; with `throughput`, cores of an instance. None: one thread,
            and instances as the launch config asks for.
        seconds: measuring time, for latency and for throughput each; None: 4 seconds.
        runs: turns of each model for latency instead of a time.
        warm_up: runs before the first turn in each process; None: a few.
        throughput: also measure all instances that this machine holds at once.
        progress: told about long work.

    Raises:
        ModelError: ``inputs-differ``, ``not-compiled``, or a model that does not load or run.
        DataError: the data does not fit the models.
        CapabilityError: a runtime is missing, or ``bf16-emulated``.
        OptcError: as `prepare` for a recipe.
    """
    chosen = _choose(models, runtimes, threads or 1)
    host = detect_host()
    facts = {entry.label: read_facts(entry.subject) for entry in chosen.entries}
    entries, skipped = measurable(chosen.entries, facts, host)
    plans = plan_instances(entries, detect_topology(), threads) if throughput else []
    subjects = [resting(entry.subject) for entry in entries]
    if progress is not None:
        progress("inputs", 0, 1)
    place = Path(data) if data is not None else None
    request = Request(place, split, fill or {}, chosen.batch, chosen.recipe)
    inputs = choose_inputs(subjects, [facts[subject.label] for subject in subjects], request)
    effort = Effort(SECONDS if seconds is None else seconds, runs, warm_up)
    blocks = measure_latency(subjects, inputs.feeds, effort=effort, progress=progress)
    rates: list[Rates] = []
    if throughput:
        rates = measure_throughput(entries, plans, inputs.feeds, effort, progress)
    figures = [_figures(i, entries, blocks, inputs, rates) for i in range(len(entries))]
    return _result(figures, skipped, chosen, host, inputs, blocks)


def _choose(
    models: str | Path | Sequence[str | Path], runtimes: Sequence[str], threads: int
) -> Chosen:
    places = [models] if isinstance(models, str | Path) else list(models)
    recipes = [place for place in places if is_recipe(place)]
    if recipes and len(places) > 1:
        raise ModelError(
            "bench-models",
            "a recipe is measured alone: its source model against its results",
            location=str(recipes[0]),
            hint="give the recipe alone, or models and OUT/<target> folders",
        )
    if not places:
        raise ModelError("bench-models", "there is nothing to measure", hint="give a model")
    if recipes:
        return choose_recipe(recipes[0], runtimes=runtimes, threads=threads)
    return choose_models(places, runtimes=runtimes, threads=threads)


def _figures(
    index: int,
    entries: Sequence[Entry],
    blocks: Sequence[BlockTimes],
    inputs: Inputs,
    rates: Sequence[Rates],
) -> ModelFigures:
    entry = entries[index]
    cpu, wall = [b.cpu for b in blocks], [b.wall for b in blocks]
    latency = Latency(
        cpu=Spread.of([time for block in cpu for time in block[index]]),
        wall=Spread.of([time for block in wall for time in block[index]]),
        cpu_speedup=_speedup(cpu, index),
        wall_speedup=_speedup(wall, index),
    )
    return ModelFigures(
        label=entry.label,
        model=str(entry.subject.model),
        runtime=entry.subject.runtime,
        target=entry.subject.options.target,
        same=tuple(subject.label for subject in entry.same),
        latency=latency,
        throughput=_throughput(index, rates, inputs.batch) if rates else None,
        difference=inputs.differences[index],
    )


def _speedup(blocks: Sequence[Sequence[Sequence[float]]], index: int) -> Ratio | None:
    """Against the first model; None for the first itself."""
    if not index:
        return None
    return speedup([block[0] for block in blocks], [block[index] for block in blocks])


def _throughput(index: int, rates: Sequence[Rates], batch: int) -> Throughput:
    first, own = rates[0].runs, rates[index].runs
    slices = rates[index].slices
    return Throughput(
        samples=Spread.of([batch * rate for rate in own]),
        # A turn counts as a block: its time per run is the inverse of its rate.
        speedup=speedup([[1 / r] for r in first], [[1 / r] for r in own]) if index else None,
        instances=len(slices),
        threads=len(slices[0].cpus),
        cpus=tuple(place.cpu_list for place in slices),
    )


def _result(
    figures: Sequence[ModelFigures],
    skipped: Sequence[Skipped],
    chosen: Chosen,
    host: Host,
    inputs: Inputs,
    blocks: Sequence[BlockTimes],
) -> BenchResult:
    labels = {item.label for item in figures}
    measured = [entry for entry in chosen.entries if entry.label in labels]
    notes = [*chosen.caveats, *caveats(measured, host)]
    runtimes = {entry.subject.runtime for entry in measured}
    return BenchResult(
        models=tuple(figures),
        skipped=tuple(skipped),
        caveats=tuple(notes),
        machine=host.product,
        versions={name: library_version(name) or "unknown" for name in sorted(runtimes)},
        threads=measured[0].subject.options.threads,
        inputs=inputs.origin,
        batch=inputs.batch,
        samples=len(inputs.feeds),
        blocks=len(blocks),
        rounds=sum(len(block.cpu[0]) for block in blocks),
        calls=blocks[0].calls,
        cpu_clock=blocks[0].cpu_clock,
    )
