"""`optc bench`: how fast models are against each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.command import argument, verb
from optc.cli.console import json_option, progress, say, say_json
from optc.cli.data import data_option, fill_option, parse_fills, split_option
from optc.cli.tables import table

if TYPE_CHECKING:
    from optc.evidence.bench_result import BenchResult, Difference, ModelFigures
    from optc.evidence.bench_stats import Ratio, Spread


@verb
@argument(
    "models",
    nargs=-1,
    required=True,
    metavar="RECIPE|MODEL...",
    help="A recipe; or models: [LABEL=][RUNTIME:]PATH with an ONNX file, the .xml file of an "
    "OpenVINO IR, or OUT/TARGET. Ratios are against the first.",
)
@click.option(
    "--runtime", multiple=True, help="Measure each model that names none on this runtime."
)
@data_option()
@split_option
@fill_option
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of the runtime, 1 if left out; cores of an instance.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    help="Measuring time without loading, 4 if left out.",
)
@click.option("--runs", type=click.IntRange(min=1), help="Turns of each model instead of a time.")
@click.option(
    "--warm-up", type=click.IntRange(min=1), help="Runs before the first turn in each process."
)
@click.option(
    "--throughput", is_flag=True, help="Also run all instances that this machine holds at once."
)
@json_option
def run(
    models: tuple[str, ...],
    runtime: tuple[str, ...],
    data: Path | None,
    split: str,
    fill: tuple[str, ...],
    threads: int | None,
    seconds: float | None,
    runs: int | None,
    warm_up: int | None,
    throughput: bool,
    json: bool,
) -> None:
    """Measure how fast models are against the first: in turns, on the same inputs.

    Example: optc bench recipe.yaml
    Example: optc bench model.onnx --runtime onnxruntime --runtime openvino
    Example: optc bench old=a.onnx new=b.onnx --data val.npz --split test
    """
    from optc.evidence.bench import bench

    with progress(quiet=json) as report:
        result = bench(
            models,
            runtimes=runtime or (),
            data=data,
            split=split,
            fill=parse_fills(fill),
            threads=threads,
            seconds=seconds,
            runs=runs,
            warm_up=warm_up,
            throughput=throughput,
            progress=report,
        )
    if json:
        say_json(result.to_dict())
    else:
        show(result)


def show(result: BenchResult) -> None:
    """Print the figures as text."""
    for line in _lines(result):
        say(line)


def _lines(result: BenchResult) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    threads = "1 thread" if result.threads == 1 else f"{result.threads} threads"
    yield f"{result.machine or 'unnamed CPU'}, {versions}, {threads}"
    turns = f"{result.rounds} rounds of {result.calls} run(s) in {result.blocks} processes"
    yield f"batch {result.batch}, {result.samples} input(s): {result.inputs}; {turns}"
    yield ""
    yield from _latency(result)
    if result.models[0].throughput is not None:
        yield ""
        yield from _throughput(result)
    yield ""
    yield from (f"not measured: {item.label}: {item.reason}" for item in result.skipped)
    yield from (f"note: {text}" for text in _notes(result))


def _latency(result: BenchResult) -> Iterator[str]:
    several = len(result.models) > 1
    head = ["latency", "runtime", "cpu ms", "wall ms"]
    rows = [head + (["speed by cpu", "by wall", "outputs"] if several else [])]
    for model in result.models:
        found = model.latency
        row = [_label(model), model.runtime, _milliseconds(found.cpu), _milliseconds(found.wall)]
        if several:
            row += [_speed(found.cpu_speedup), _speed(found.wall_speedup), _apart(model.difference)]
        rows.append(row)
    yield from table(rows)


def _throughput(result: BenchResult) -> Iterator[str]:
    several = len(result.models) > 1
    rows = [["throughput", "instances", "samples/s", *(["speed"] if several else [])]]
    for model in result.models:
        found = model.throughput
        assert found is not None
        cores = "1 core" if found.threads == 1 else f"{found.threads} cores"
        row = [_label(model), f"{found.instances} of {cores}", _spread(found.samples, 1.0)]
        rows.append([*row, _speed(found.speedup)] if several else row)
    yield from table(rows)


def _label(model: ModelFigures) -> str:
    return ", ".join((model.label, *model.same))


def _milliseconds(spread: Spread) -> str:
    return _spread(spread, 1e3)


def _spread(spread: Spread, scale: float) -> str:
    """The median, and the quartiles in brackets."""
    median, low, high = (_number(scale * v) for v in (spread.median, spread.low, spread.high))
    return f"{median} ({low}..{high})"


def _number(value: float) -> str:
    """Three digits that count; whole numbers beyond."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _speed(ratio: Ratio | None) -> str:
    """The ratio, and its interval in brackets; 1 for the first model."""
    if ratio is None:
        return "1"
    interval = "too few rounds" if ratio.low is None else f"{ratio.low:.3f}..{ratio.high:.3f}"
    return f"{ratio.value:.3f} ({interval})"


def _apart(difference: Difference | None) -> str:
    if difference is None:
        return ""
    if difference.relative is None:
        return f"not comparable: {difference.output}: {difference.reason}"
    where = f" at {difference.output}" if difference.relative else ""
    return f"{difference.relative:.1e}{where}" if difference.relative else "equal"


def _interval(ratio: Ratio) -> str:
    if not ratio.level:
        return "there are too few rounds for an interval: give more --runs"
    return (
        f"the interval in brackets holds it with {100 * ratio.level:.1f} %, and one that holds 1 "
        "shows no difference"
    )


def _notes(result: BenchResult) -> Iterator[str]:
    """How to read the table, then the caveats."""
    first = result.models[0].label
    whose = {"thread": "the thread that runs the model", "process": "the whole process"}
    yield (
        f"times are medians (and quartiles) of a run; cpu is the CPU time of "
        f"{whose[result.cpu_clock]}, wall the elapsed time"
    )
    ratios = [m.latency.cpu_speedup for m in result.models if m.latency.cpu_speedup is not None]
    if ratios:
        yield f"speed is how many times as fast as {first}; {_interval(ratios[0])}"
        yield f"outputs is the largest relative difference from {first}; it decides nothing"
    yield from result.caveats
