"""Parts of a compile that other processes can do: see `optc.many`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optc.groups import (
    context_of,
    data_digest,
    model_bytes,
    prediction_sizes,
    read_source,
    run_group,
    source_key,
    target_digest,
    target_groups,
)
from optc.stages import step_keys

if TYPE_CHECKING:
    from optc.cache import Store
    from optc.ir import Graph
    from optc.pipeline import Progress
    from optc.prepare import Prepared


def look(prepared: Prepared, store: Store) -> dict[str, Any]:
    """What a recipe consists of, as JSON data.

    Its name and output, the keys of the steps of each group of targets that share their passes, and
    the bytes of the model with its external data.
    """
    recipe = prepared.recipe
    key = source_key(recipe, store)
    keys = []
    for group in target_groups(prepared):
        data = data_digest(recipe, context_of(recipe, group[0]))
        keys.append(step_keys(key, group[0].steps, target_digest(group[0]), data))
    return {
        "name": recipe.name,
        "output": str(recipe.output_path),
        "groups": keys,
        "bytes": model_bytes(recipe, store),
    }


def make_stages(
    prepared: Prepared, store: Store, group: int, count: int, progress: Progress | None
) -> None:
    """Run the first steps of a group of targets, so that the store has what comes after them."""
    recipe = prepared.recipe
    sizes: dict[str, int] = {}

    def source() -> Graph:
        graph = read_source(recipe)
        sizes.update(prediction_sizes(recipe, graph))
        return graph

    chosen = target_groups(prepared)[group]
    run_group(prepared, chosen, source, sizes, None, progress, store, count=count)
