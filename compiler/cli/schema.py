"""`optc schema`: the JSON schema of recipes."""

from __future__ import annotations

from optc.cli.command import verb
from optc.cli.console import say_json


@verb
def run() -> None:
    """Print the JSON schema of recipes, for editors and validators.

    Example: optc schema > recipe.schema.json
    """
    from optc.recipe import json_schema

    say_json(json_schema())
