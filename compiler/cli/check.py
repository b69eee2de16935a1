"""`optc check`: validate a recipe without compiling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.cli.command import verb
from optc.cli.console import json_option, note, recipe_argument, say_json, set_option, warn

if TYPE_CHECKING:
    from pathlib import Path


@verb
@recipe_argument
@set_option
@json_option
def run(recipe: Path, set_: tuple[str, ...], json: bool) -> None:
    """Validate a recipe: keys, types, passes, targets, files. Writes nothing.

    Example: optc check recipe.yaml
    """
    from optc.driver import prepare

    prepared = prepare(recipe, overrides=set_ or [])
    names = [plan.target.name for plan in prepared.plans]
    if json:
        found = {"valid": True, "name": prepared.recipe.name, "targets": names}
        say_json({**found, "warnings": list(prepared.warnings)})
    else:
        for text in prepared.warnings:
            warn(text)
        note(f"{recipe}: valid, for {', '.join(names)}")
