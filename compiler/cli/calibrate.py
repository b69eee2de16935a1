"""`optc calibrate`: take the statistics of a recipe ahead of a compile, in parts if need be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.command import PATH, argument, verb
from optc.cli.console import (
    json_option,
    progress,
    say,
    say_json,
    set_option,
    target_option,
)

if TYPE_CHECKING:
    from optc.observer import Part


@verb
@argument(
    "recipe", type=PATH, required=False, metavar="[RECIPE]", help="The recipe; none with --merge."
)
@click.option(
    "--out",
    "-o",
    type=PATH,
    default=Path("statistics.json"),
    show_default=True,
    metavar="FILE",
    help="Where the statistics go.",
)
@click.option("--shard", metavar="I/N", help="Only every N-th sample, from the I-th on.")
@click.option(
    "--merge",
    type=PATH,
    multiple=True,
    metavar="FILE",
    help="Add up the files of shards; repeatable.",
)
@target_option
@set_option
@json_option
def run(
    recipe: Path | None,
    out: Path,
    shard: str | None,
    merge: tuple[Path, ...],
    target: tuple[str, ...],
    set_: tuple[str, ...],
    json: bool,
) -> None:
    """Run the model on the calibration data, and keep what ranges follow from in a file.

    A compile whose recipe names the file (`data.calibration.statistics`) does not run the model on
    the data again. A run that was stopped goes on where it was.

    Example: optc calibrate recipe.yaml --out stats.json
    Example: optc calibrate recipe.yaml --shard 1/2 --out a.json
    Example: optc calibrate --merge a.json --merge b.json --out stats.json
    """
    if (recipe is None) == (not merge):
        raise click.BadParameter("give a recipe, or files to --merge")
    if merge:
        from optc.numerics.statistics_store import merge_statistics

        entries = merge_statistics(merge, out)
        complete = all(entry.complete for entry in entries)
        samples = max((entry.samples for entry in entries), default=0)
        values = sum(len(entry.values) for entry in entries)
    else:
        from optc.calibration import take_statistics

        assert recipe is not None
        with progress(quiet=json) as report:
            taken = take_statistics(
                recipe,
                out,
                targets=target,
                overrides=set_ or [],
                part=_part(shard),
                progress=report,
            )
        complete, samples, values = taken.complete, taken.samples, taken.values
    if json:
        say_json({"file": str(out), "values": values, "samples": samples, "complete": complete})
        return
    rest = "" if complete else "; merge it with the other shards"
    say(f"{out}: statistics of {values} values over {samples} samples{rest}")


def _part(text: str | None) -> Part:
    from optc.observer import WHOLE, Part

    if text is None:
        return WHOLE
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    index, of = (int(found.group(1)), int(found.group(2))) if found else (0, 0)
    if not 1 <= index <= of:
        raise click.BadParameter(f"--shard {text}: write I/N with I from 1 to N, such as 1/4")
    return Part(index - 1, of)
