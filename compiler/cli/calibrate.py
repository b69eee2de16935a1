"""`optc calibrate`: take the statistics of a recipe ahead of a compile, in parts if need be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from optc.cli.console import (
    JsonOption,
    SetOption,
    TargetOption,
    progress,
    say,
    say_json,
)

if TYPE_CHECKING:
    from optc.observer import Part

_Recipe = Annotated[
    Path | None, typer.Argument(help="The recipe; none with --merge.", metavar="RECIPE")
]
_Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the statistics go.")]
_Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Only every N-th sample, from the I-th on."),
]
_Merge = Annotated[
    list[Path] | None,
    typer.Option("--merge", metavar="FILE", help="Add up the files of shards; repeatable."),
]


def run(
    recipe: _Recipe = None,
    out: _Out = Path("statistics.json"),
    shard: _Shard = None,
    merge: _Merge = None,
    target: TargetOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Run the model on the calibration data, and keep what ranges follow from in a file.

    A compile whose recipe names the file (`data.calibration.statistics`) does not run the model on
    the data again. A run that was stopped goes on where it was.

    Example: optc calibrate recipe.yaml --out stats.json
    Example: optc calibrate recipe.yaml --shard 1/2 --out a.json
    Example: optc calibrate --merge a.json --merge b.json --out stats.json
    """
    if (recipe is None) == (not merge):
        raise typer.BadParameter("give a recipe, or files to --merge")
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
        raise typer.BadParameter(f"--shard {text}: write I/N with I from 1 to N, such as 1/4")
    return Part(index - 1, of)
