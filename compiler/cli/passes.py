"""`optc passes`: what the compiler can do."""

from __future__ import annotations

import click

from optc.cli.command import argument, verb
from optc.cli.console import console, json_option, say, say_json
from optc.errors import OptcError, did_you_mean


def _passes(context: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    """Names that a shell may complete a pass to."""
    from optc.passes import ALL_PASSES

    return [entry.name for entry in ALL_PASSES if entry.name.startswith(incomplete)]


@verb
@argument("name", required=False, shell_complete=_passes, metavar="[NAME]", help="One pass.")
@json_option
def run(name: str | None, json: bool) -> None:
    """List the passes, or show one pass with its options.

    Example: optc passes fold-batchnorm
    """
    from optc.passes import ALL_PASSES, describe

    known = {entry.name: entry for entry in ALL_PASSES}
    if name is not None and name not in known:
        raise OptcError(
            "unknown-pass",
            f"there is no pass {name!r}",
            hint=did_you_mean(name, known) or f"there are: {', '.join(known)}",
        )
    chosen = [known[name]] if name else list(known.values())
    facts = [describe(entry) for entry in chosen]
    if json:
        say_json(facts[0] if name else {"passes": facts})
    elif name:
        _show_one(facts[0])
    else:
        _show_all(facts)


def _show_all(facts: list[dict[str, object]]) -> None:
    from rich.table import Table

    table = Table("pass", "what it does", box=None, pad_edge=False)
    for fact in facts:
        table.add_row(str(fact["name"]), str(fact["summary"]))
    console().print(table)


def _show_one(fact: dict[str, object]) -> None:
    say(f"{fact['name']}: {fact['summary']}")
    say()
    say(str(fact["documentation"]))
    options = fact["options"]
    assert isinstance(options, list)
    say()
    say("options:" if options else "options: none")
    for option in options:
        default = "required" if option["required"] else f"default {option['default']}"
        say(f"  {option['name']}: {option['type']}, {default}. {option['description']}")
