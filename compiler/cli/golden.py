"""`optc golden`: golden graphs of recipes, written and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.command import PATH, VerbGroup, argument
from optc.cli.console import (
    json_option,
    progress,
    say,
    say_json,
    set_option,
    target_option,
)

if TYPE_CHECKING:
    from optc.golden import Golden, GoldenResult

app = VerbGroup(
    "golden",
    help="Write what the passes make of a model as text, and compare with it later.\n\n"
    "Example: optc golden update recipe.yaml\n"
    "Example: optc golden check recipe.yaml",
    no_args_is_help=True,
)

recipes_argument = argument(
    "recipes", type=PATH, nargs=-1, required=True, metavar="RECIPE...", help="The recipes."
)
structure_option = click.option(
    "--structure",
    is_flag=True,
    help="Leave weights out: a retrained model with the same graph is the same.",
)


@app.command("check")
@recipes_argument
@target_option
@structure_option
@set_option
@json_option
def check(
    recipes: tuple[Path, ...],
    target: tuple[str, ...],
    structure: bool,
    set_: tuple[str, ...],
    json: bool,
) -> None:
    """Compare the graphs of recipes with their golden ones; exit code 1 when they differ.

    Only passes run, so this is quick. Every node that was added, removed or changed is shown, with
    the pass that made it.

    Example: optc golden check recipe.yaml
    Example: optc golden check *.optc.yaml --structure
    """
    from optc import golden

    with progress(quiet=json) as report:
        found = [
            golden.check(
                recipe, targets=target, overrides=set_ or [], structure=structure, progress=report
            )
            for recipe in recipes
        ]
    equal = all(result.is_equal for result in found)
    if json:
        _say_json(found, equal=equal)
    else:
        for recipe, result in zip(recipes, found, strict=True):
            _show_check(recipe, result)
    if not equal:
        raise click.exceptions.Exit(1)


@app.command("update")
@recipes_argument
@target_option
@structure_option
@set_option
@json_option
def update(
    recipes: tuple[Path, ...],
    target: tuple[str, ...],
    structure: bool,
    set_: tuple[str, ...],
    json: bool,
) -> None:
    """Write the golden graphs of recipes: one text per target, in a folder beside the recipe.

    Commit the texts: their difference is what a review looks at. What differs from the graphs that
    were there is shown.

    Example: optc golden update recipe.yaml
    Example: optc golden update recipe.yaml --structure --target spr
    """
    from optc import golden

    with progress(quiet=json) as report:
        done = [
            golden.update(
                recipe, targets=target, overrides=set_ or [], structure=structure, progress=report
            )
            for recipe in recipes
        ]
    if json:
        _say_json(done, equal=all(result.is_equal for result in done))
        return
    for result in done:
        for item in result.goldens:
            say(f"{item.path.as_posix()}: {item.state}")
            _show_difference(item)


def _say_json(results: list[GoldenResult], *, equal: bool) -> None:
    say_json({"equal": equal, "recipes": [result.to_dict() for result in results]})


def _show_check(recipe: Path, result: GoldenResult) -> None:
    for item in result.goldens:
        say(f"{item.path.as_posix()}: {_WORDS[item.state]}")
        _show_difference(item)
    if not result.is_equal:
        say(f"if this is as it should be: optc golden update {recipe}")


_WORDS = {
    "equal": "equal",
    "differs": "differs",
    "missing": "missing: there is no golden graph of this target yet",
    "stale": "stale: the recipe has no such target",
}


def _show_difference(item: Golden) -> None:
    if item.difference is not None:
        for line in item.difference.render().splitlines():
            say(f"  {line}")
