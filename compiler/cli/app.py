"""The verbs of optc and what they have in common."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Final

import click

from optc.cli.command import VerbGroup

VERBS: Final = (
    *("compile", "check", "plan", "calibrate", "targets", "passes", "inspect", "diff", "compare"),
    *("report", "run", "audit", "bench", "cache", "golden", "schema", "where", "init"),
    "completion",
)
"""The verbs, in the order of the help; each is the module of its name, with `run`, or `app` for a
group of verbs."""


@cache
def app_of(verb: str | None = None) -> VerbGroup:
    """The command line.

    Args:
        verb: build this verb alone, which is all that a command that begins with it asks for:
            building all of them takes as long as a compile that is fetched from the cache. None,
            or a word that is no verb: all.
    """
    app = VerbGroup(
        "optc",
        help="Compile models for Intel Xeon: recipe in, optimized model, launch config, report "
        "out.\n\n"
        "Example: optc init model.onnx\n"
        "Example: optc compile recipe.yaml\n"
        "Example: optc golden update recipe.yaml",
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Print the version and exit.",
            )
        ],
        no_args_is_help=True,
    )
    for name in VERBS if verb not in VERBS else (verb,):
        module = import_module(f"optc.cli.{name}")
        app.add_command(module.app if hasattr(module, "app") else module.run, name)
    return app


def _print_version(context: click.Context, option: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from optc import __version__

        click.echo(f"optc {__version__}")
        context.exit()
