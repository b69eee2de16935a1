"""`optc check`: validate a recipe without compiling."""

from __future__ import annotations

from optc.cli.console import JsonOption, RecipeArgument, SetOption, note, say_json


def run(recipe: RecipeArgument, set_: SetOption = None, json: JsonOption = False) -> None:
    """Validate a recipe: keys, types, passes, targets, files. Writes nothing.

    Example: optc check recipe.yaml
    """
    from optc.driver import prepare

    prepared = prepare(recipe, overrides=set_ or [])
    names = [plan.target.name for plan in prepared.plans]
    if json:
        say_json({"valid": True, "name": prepared.recipe.name, "targets": names})
    else:
        note(f"{recipe}: valid, for {', '.join(names)}")
