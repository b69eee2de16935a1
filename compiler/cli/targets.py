"""`optc targets`: the CPUs that optc knows."""

from __future__ import annotations

from typing import Annotated

import typer

from optc.cli.console import JsonOption, console, say, say_json

app = typer.Typer(help="List the CPU targets and show what is known about them.")


@app.callback(invoke_without_command=True)
def list_targets(context: typer.Context, json: JsonOption = False) -> None:
    """List the targets.

    Example: optc targets
    """
    if context.invoked_subcommand is not None:
        return
    from optc.targets import load_target, target_names

    targets = [load_target(name) for name in target_names()]
    if json:
        say_json(
            {
                "targets": [
                    {
                        "name": target.name,
                        "aliases": list(target.aliases),
                        "title": target.title,
                        "capabilities": sorted(target.capabilities),
                    }
                    for target in targets
                ]
            }
        )
        return
    from rich.table import Table

    table = Table("target", "aliases", "CPU", "capabilities", box=None, pad_edge=False)
    for target in targets:
        table.add_row(
            target.name,
            ", ".join(target.aliases),
            target.title,
            " ".join(sorted(target.capabilities)),
        )
    console().print(table)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A target, an alias, a file, or host.")],
    json: JsonOption = False,
) -> None:
    """Show a target: every number with its source, unknown ones with the reason.

    Example: optc targets show spr
    """
    from optc.targets import load_target

    target = load_target(name)
    if json:
        say_json(target.to_dict())
    else:
        say(target.describe().rstrip())
