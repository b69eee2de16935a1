"""The verbs of optc and what they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from optc.cli import (
    audit,
    bench,
    check,
    compare,
    diff,
    init,
    passes,
    plan,
    schema,
    targets,
)
from optc.cli import (
    compile as compile_,
)
from optc.cli import (
    inspect as inspect_,
)
from optc.cli import (
    report as report_,
)
from optc.cli import (
    run as run_,
)

app = typer.Typer(
    help="Compile models for Intel Xeon: recipe in, optimized model, launch config and report out.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: optc init model.onnx, then optc compile recipe.yaml",
)


def _print_version(value: bool) -> None:
    if value:
        from optc import __version__

        typer.echo(f"optc {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Options that stand before the verb."""


app.command("compile")(compile_.run)
app.command("check")(check.run)
app.command("plan")(plan.run)
app.add_typer(targets.app, name="targets")
app.command("passes")(passes.run)
app.command("inspect")(inspect_.run)
app.command("diff")(diff.run)
app.command("compare")(compare.run)
app.command("report")(report_.run)
app.command("run")(run_.run)
app.command("audit")(audit.run)
app.command("bench")(bench.run)
app.command("schema")(schema.run)
app.command("init")(init.run)
