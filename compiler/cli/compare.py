"""`optc compare`: how far apart two models compute."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.command import PATH, argument, verb
from optc.cli.console import end_missed, json_option, progress, say, say_json
from optc.cli.data import data_option, fill_option, parse_fills, samples_option, split_option
from optc.cli.tables import table

if TYPE_CHECKING:
    from optc.evidence.compare import ModelComparison, Side
    from optc.evidence.layers_report import LayerComparison, LayerDifference
    from optc.evidence.outputs import OutputDifference

_WORST = 20
_FORMS = "an ONNX file, the .xml file of an OpenVINO IR, or OUT/TARGET"


@verb
@argument("a", type=PATH, metavar="A", help=f"The reference: {_FORMS}.")
@argument("b", type=PATH, metavar="B", help=f"The other model: {_FORMS}.")
@data_option()
@split_option
@samples_option
@fill_option
@click.option(
    "--layers",
    is_flag=True,
    help="Compare the tensors inside, too, and find where the error begins. That forbids "
    "fusions across them: what is measured is the unfused computation of each side.",
)
@click.option(
    "--all", "all_", is_flag=True, help="With --layers: all tensors in order, not the worst."
)
@click.option("--runtime-a", help="Run A on this runtime instead of its own.")
@click.option("--runtime-b", help="Run B on this runtime instead of its own.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of both runtimes.",
)
@click.option(
    "--min-sqnr", type=float, metavar="DB", help="Exit with 4 when an output is below this."
)
@json_option
def run(
    a: Path,
    b: Path,
    data: Path | None,
    split: str,
    samples: int | None,
    fill: tuple[str, ...],
    layers: bool,
    all_: bool,
    runtime_a: str | None,
    runtime_b: str | None,
    threads: int,
    min_sqnr: float | None,
    json: bool,
) -> None:
    """Run two models on the same inputs and measure how far B is from A.

    Without data, seeded inputs are made up. The exit code is 0 whatever the difference, unless
    --min-sqnr makes it a goal. --layers marks with ! each layer that makes an error of its own, in
    units of the rounding noise that A shows by itself, and names the first.

    Example: optc compare model.onnx build/quickstart/cascadelake --data mnist.npz --split test
    Example: optc compare model.onnx model.onnx --runtime-b openvino --layers
    """
    from optc.evidence.compare import compare

    if all_ and not layers:
        raise click.BadParameter("goes with --layers", param_hint="--all")
    with progress(quiet=json) as report:
        result = compare(
            a,
            b,
            data=data,
            split=split,
            samples=samples,
            fill=parse_fills(fill),
            layers=layers,
            runtime_a=runtime_a,
            runtime_b=runtime_b,
            threads=threads,
            progress=report,
        )
    missed = None if min_sqnr is None else result.missed(min_sqnr)
    if json:
        say_json({**result.to_dict(), "missed": missed.to_dict() if missed else None})
    else:
        for line in _lines(result, everything=all_):
            say(line)
    if missed is not None:
        end_missed(missed, as_json=json)


def _lines(result: ModelComparison, *, everything: bool) -> Iterator[str]:
    yield f"A  {_side(result.a)}"
    yield f"B  {_side(result.b)}"
    yield f"on {result.samples} sample(s) of {result.data}"
    if result.seeded:
        yield "note: inputs are made up; --data gives figures that say something about real use"
    yield ""
    yield from _outputs(result.outputs)
    if result.layers is not None:
        yield ""
        yield from _layers(result.layers, everything=everything)


def _side(side: Side) -> str:
    place = f" for {side.target}" if side.target else ""
    note = f" ({side.note})" if side.note else ""
    return f"{side.model} on {side.runtime}{place}{note}"


def _outputs(outputs: tuple[OutputDifference, ...]) -> Iterator[str]:
    exact = any(output.is_exact for output in outputs)
    scored = any(output.top1 is not None for output in outputs)
    head = ["output", "type", "SQNR dB", "cosine", "max error", "relative"]
    head += ["unequal"] if exact else []
    head += ["top-1", "top-5"] if scored else []
    rows = [head]
    for output in outputs:
        rows.append([output.name, _type(output), *_figures(output)])
        shown = output.is_exact and output.compared
        rows[-1] += [f"{output.unequal:.2%}" if shown else ""] if exact else []
        rows[-1] += [_share(output.top1), _share(output.top5)] if scored else []
    yield from table(rows, right=range(2, len(head)))
    yield from (f"{o.name}: {o.problem}" for o in outputs if o.problem)


def _type(output: OutputDifference) -> str:
    if not output.dtype:
        return ""
    return f"{output.dtype}[{','.join(map(str, output.shape))}]"


def _figures(output: OutputDifference | LayerDifference) -> list[str]:
    """SQNR, cosine, largest and relative error, as far as they apply."""
    if output.is_exact or not output.compared:
        return [""] * 4
    numbers = [_db(output.sqnr), f"{output.cosine:.6f}"]
    return [*numbers, f"{output.max_abs_error:.1e}", f"{output.relative:.1e}"]


def _db(value: float) -> str:
    """An SQNR; a difference of nothing has none."""
    return f"{value:.1f}" if math.isfinite(value) else "equal" if value > 0 else "-inf"


def _times(value: float) -> str:
    """A multiple of the noise, with digits that say something."""
    if not math.isfinite(value):
        return "inf"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _layers(result: LayerComparison, *, everything: bool) -> Iterator[str]:
    counts = f"{len(result.layers)} tensors correspond"
    yield f"{counts}; only in A: {len(result.only_a)} layers, only in B: {len(result.only_b)}"
    comparable = [layer for layer in result.layers if layer.compared]
    shown = comparable
    if not everything:
        differing = [layer for layer in comparable if layer.relative]
        ranked = sorted(differing, key=lambda layer: -layer.relative)[:_WORST]
        chosen = {id(layer) for layer in [*ranked, result.first]}
        shown = [layer for layer in comparable if id(layer) in chosen]
    if shown:
        yield from _layer_table(shown)
    if len(shown) < len(comparable):
        which = f"the {len(shown)} that differ most" if shown else "none of them differs"
        yield f"{which}; --all shows all {len(comparable)}"
    for layer in result.layers:
        if not layer.compared:
            yield f"not comparable: {layer.tensor} of {layer.layer} ({layer.op}): {layer.problem}"
    yield ""
    yield from _verdict(result)


def _layer_table(layers: list[LayerDifference]) -> Iterator[str]:
    head = ["", "layer of A", "op", "op of B", "SQNR dB", "cosine", "max error", "relative"]
    rows = [[*head, "x noise"]]
    for layer in layers:
        figures = _figures(layer)
        if layer.is_exact:
            figures[-1] = f"{layer.relative:.1e}"
        other = layer.op_b if layer.op_b != layer.op else ""
        figures.append(_times(layer.excess))
        rows.append(["!" if layer.jumps else "", layer.layer, layer.op, other, *figures])
    yield from table(rows, right=(4, 5, 6, 7, 8))


def _verdict(result: LayerComparison) -> Iterator[str]:
    first = result.first
    if first is None:
        yield "no layer makes an error beyond rounding"
        return
    jumps = sum(layer.jumps for layer in result.layers)
    yield f"the error begins at {first.layer} ({first.op}), tensor {first.tensor}"
    yield (
        f"  {_times(first.excess)} times the model's own rounding noise in its worst channel; "
        f"{_times(first.incoming)} times came in"
    )
    if first.passes:
        yield f"  B: {first.layer_b} ({first.op_b}), made by {', '.join(first.passes)}"
        yield f"  it stands for {', '.join(first.sources)}"
    else:
        yield f"  B: {first.layer_b} ({first.op_b}), which no pass of optc made"
    if jumps > 1:
        yield f"  {jumps - 1} more layers, marked !, add errors of their own"
