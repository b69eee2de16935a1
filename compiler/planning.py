"""What a compile would do, and why not more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.emitter import Emitter
from optc.groups import decided, prediction_sizes, read_source, run_groups
from optc.prepare import Prepared, prepare
from optc.results import Outlook, Plan, fates
from optc.rewrite.near_misses import near_misses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.ir import Graph
    from optc.pipeline import Progress
    from optc.recipe import Recipe
    from optc.rewrite.trace import StepRecord


def plan(
    recipe: Recipe | str | Path | Mapping[str, object] | Prepared,
    *,
    targets: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Plan:
    """What each pass would do for each target, and why it leaves things alone. Writes nothing.

    Raises:
        OptcError: as `compile` does, but for output and verification.
    """
    if isinstance(recipe, Prepared):
        prepared = recipe
    else:
        prepared = prepare(recipe, targets=targets, overrides=overrides)
    loaded = prepared.recipe
    emitter = Emitter(loaded)
    steps: dict[str, tuple[StepRecord, ...]] = {}
    outlooks: dict[str, Outlook] = {}
    labels: tuple[str, ...] = ()
    sizes: dict[str, int] = {}

    def source() -> Graph:
        nonlocal labels
        graph = read_source(loaded)
        labels = tuple(node.label for inner in graph.walk() for node in inner.nodes())
        sizes.update(prediction_sizes(loaded, graph))
        return graph

    for group, run in run_groups(prepared, source, sizes, None, progress):
        form = emitter.form(run.graph, decided(group[0], run))
        misses, became = near_misses(run.steps, run.graph), fates(labels, run.graph)
        for index, item in enumerate(group):
            emitter.check_form(form, item.target, item.runtime)
            steps[item.target.id] = run.steps_for(index)
            outlooks[item.target.id] = Outlook(
                misses, run.seconds[index], became, sizes, run.unknown
            )
    order = [item.target.id for item in prepared.plans]
    return Plan(
        loaded.name,
        loaded.runtime,
        {name: steps[name] for name in order},
        {name: outlooks[name] for name in order},
    )
