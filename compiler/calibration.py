"""Take the statistics that a recipe needs ahead of a compile: of all data, or of a part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optc.groups import read_source
from optc.numerics.statistics_file import read_entries
from optc.numerics.statistics_store import ShardFile, StatisticsFile, StatisticsTaken
from optc.observer import WHOLE, CalibrationObserver, Part
from optc.pipeline import run_pipeline
from optc.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.pipeline import Progress
    from optc.recipe import Recipe


@dataclass(frozen=True)
class Taken:
    """What calibration has written.

    Attributes:
        path: the file.
        values: values that statistics are kept of.
        samples: samples that are in.
        origin: what the data is.
        complete: whether a compile can use the file; False for a part of the data.
    """

    path: Path
    values: int
    samples: int
    origin: str
    complete: bool


def take_statistics(
    recipe: Recipe | str | Path | Mapping[str, object],
    out: Path,
    *,
    targets: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    part: Part = WHOLE,
    progress: Progress | None = None,
) -> Taken:
    """Run the passes of a recipe up to what they need statistics for, and keep these in a file.

    What the file holds already is not taken again; a run that was stopped goes on where it was.

    Args:
        recipe: a recipe, a path to one, or its content as a mapping.
        out: the file.
        targets: for these instead of the recipe's.
        overrides: ``path=value`` settings on top of the recipe.
        part: a share of the data; the file then holds the first statistics that are missing in
            the file that the recipe names, for `merge_statistics`.
        progress: callback for long work.

    Raises:
        OptcError: as `compile` does, but for output and verification.
    """
    prepared = prepare(recipe, targets=targets, overrides=overrides)
    loaded = prepared.recipe
    store: StatisticsFile | ShardFile = StatisticsFile(out)
    if part != WHOLE:
        named = loaded.data.calibration and loaded.data.calibration.statistics
        known = StatisticsFile(loaded.locate(named)) if named else None
        store = ShardFile(out, known, part.index, part.of)
    observer = CalibrationObserver(loaded, progress, part=part, store=store)
    for plan in prepared.plans:
        context = replace(plan.context, observer=observer)
        steps = [step for step in plan.pipeline if step.run is not None]
        last = max(
            (i for i, step in enumerate(steps) if step.run and step.run.observes), default=-1
        )
        try:
            run_pipeline(lambda: read_source(loaded), steps[: last + 1], context, progress=progress)
        except StatisticsTaken:
            break
    entries = read_entries(out.read_bytes(), str(out)) if out.exists() else ()
    return Taken(
        out,
        sum(len(entry.values) for entry in entries),
        max((entry.samples for entry in entries), default=0),
        observer.origin,
        all(entry.complete for entry in entries),
    )
