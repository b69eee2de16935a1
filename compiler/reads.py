"""Every file that a compile reads: for dependency files, and to know whether anything changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from optc.targets import is_target_file, target_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optc.recipe import Recipe


def files_read(
    recipe: Recipe, targets: Sequence[str] | None, external: Iterable[Path]
) -> tuple[Path, ...]:
    """The files that decide the result of a recipe, each once; folders of data with their files.

    Args:
        recipe: the recipe.
        targets: targets instead of the recipe's.
        external: files beside the model that its tensors lie in.
    """
    found = [*recipe.files]
    for name in targets or recipe.target_refs:
        if is_target_file(name):
            found += target_files(Path(name))
    if recipe.profile is not None:
        found.append(recipe.locate(recipe.profile))
    found += [recipe.model_path, *external, *data_files(recipe), *_plugins(recipe)]
    return tuple(dict.fromkeys(found))


def data_files(recipe: Recipe) -> list[Path]:
    """Files of data and of statistics about it; a folder comes before what is in it, sorted."""
    found = []
    for data in (recipe.data.calibration, recipe.data.validation):
        if data is None:
            continue
        path = recipe.locate(data.path)
        found.append(path)
        if path.is_dir():
            inside = (item for item in path.rglob("*") if item.is_file())
            found += sorted(inside)
    calibration = recipe.data.calibration
    if calibration is not None and calibration.statistics is not None:
        found.append(recipe.locate(calibration.statistics))
    return found


def _plugins(recipe: Recipe) -> list[Path]:
    """The modules of passes that are not optc's own."""
    names = {step.pass_type.__module__ for step in recipe.pipeline}
    outside = sorted(name for name in names if name.split(".")[0] != "optc")
    files = (getattr(sys.modules.get(name), "__file__", None) for name in outside)
    return [Path(file) for file in files if file]
