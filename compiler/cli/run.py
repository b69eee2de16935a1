"""`optc run`: run a compiled model on data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.command import PATH, argument, verb
from optc.cli.console import json_option, say, say_json, warn
from optc.cli.data import data_option, fill_option, parse_fills, samples_option, split_option
from optc.files import check_place

if TYPE_CHECKING:
    from optc.launch.options import LaunchOptions
    from optc.launch.outputs import Outputs


@verb
@argument(
    "artifact", type=PATH, metavar="OUT/TARGET", help="Folder of one target in a compiled output."
)
@data_option(required=True)
@split_option
@samples_option
@fill_option
@click.option("--output", "-o", type=PATH, help="Write the outputs to this .npz file.")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads instead of the emitted number."
)
@json_option
def run(
    artifact: Path,
    data: Path,
    split: str,
    samples: int | None,
    fill: tuple[str, ...],
    output: Path | None,
    threads: int | None,
    json: bool,
) -> None:
    """Run a compiled model, loaded as its launch config says, and summarize the outputs.

    Example: optc run build/quickstart/cascadelake --data mnist.npz --split test
    """
    from optc.frontend.onnx import read_tensor
    from optc.launch.outputs import Outputs
    from optc.numerics.data import open_dataset
    from optc.numerics.inputs import fill_hints
    from optc.runtime import open_artifact

    if output is not None:
        check_place(output)
    loaded = open_artifact(artifact, threads=threads)
    for note in loaded.notes:
        warn(note)
    dataset = open_dataset(
        data,
        loaded.engine.inputs,
        split=split,
        limit=samples,
        hints=fill_hints(parse_fills(fill), loaded.engine.inputs),
        read_value=read_tensor,
    )
    outputs = Outputs(keep=output is not None)
    for batch in dataset.batches(loaded.options.batch):
        outputs.add(batch.trim(loaded.engine.run(batch.feeds)), batch.count)
    if output is not None:
        outputs.save(output)
    if json:
        say_json(_facts(loaded.options, dataset.samples, outputs, output))
    else:
        _show(artifact, loaded.options, dataset.samples, outputs, output)


def _facts(
    options: LaunchOptions, samples: int, outputs: Outputs, output: Path | None
) -> dict[str, object]:
    return {
        "target": options.target,
        "runtime": options.runtime,
        "threads": options.threads,
        "batch": options.batch,
        "samples": samples,
        "outputs": {name: figures.to_dict() for name, figures in outputs.figures.items()},
        "written": str(output) if output else None,
    }


def _show(
    artifact: Path, options: LaunchOptions, samples: int, outputs: Outputs, output: Path | None
) -> None:
    say(f"{artifact}: {samples} sample(s) on {options.runtime}, {options.threads} thread(s)")
    for name, figures in outputs.figures.items():
        say(f"  {name}: {figures}")
    if output:
        say(f"written to {output}")
