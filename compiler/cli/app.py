"""The verbs of optc and what they have in common."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Annotated, Final

import typer

from optc.cli.command import App, with_common_options

VERBS: Final = (
    *("compile", "check", "plan", "calibrate", "targets", "passes", "inspect", "diff", "compare"),
    *("report", "run", "audit", "bench", "cache", "golden", "schema", "where", "init"),
    "completion",
)
"""The verbs, in the order of the help, which has groups last; each is the module of its name, with
`run`, or `app` for a group of verbs."""


@cache
def app_of(verb: str | None = None) -> App:
    """The command line.

    Args:
        verb: build this verb alone, which is all that a command that begins with it asks for:
            building all of them takes as long as a compile that is fetched from the cache. None,
            or a word that is no verb: all.
    """
    app = App(
        help="Compile models for Intel Xeon: recipe in, optimized model, launch config, report "
        "out.\n\n"
        "Example: optc init model.onnx\n"
        "Example: optc compile recipe.yaml\n"
        "Example: optc golden update recipe.yaml",
        no_args_is_help=True,
        add_completion=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(with_common_options(options))
    for name in VERBS if verb not in VERBS else (verb,):
        module = import_module(f"optc.cli.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(module.run)
    return app


def _print_version(value: bool) -> None:
    if value:
        from optc import __version__

        typer.echo(f"optc {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options that stand before the verb."""
