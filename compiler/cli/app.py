"""The verbs of optc and what they have in common."""

from __future__ import annotations

from typing import Annotated

import typer

from optc.cli import (
    audit,
    bench,
    cache,
    calibrate,
    check,
    compare,
    completion,
    diff,
    golden,
    init,
    passes,
    plan,
    schema,
    targets,
    where,
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
from optc.cli.command import App, with_common_options

app = App(
    help="Compile models for Intel Xeon: recipe in, optimized model, launch config, report out.\n\n"
    "Example: optc init model.onnx\n"
    "Example: optc compile recipe.yaml\n"
    "Example: optc golden update recipe.yaml",
    no_args_is_help=True,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(value: bool) -> None:
    if value:
        from optc import __version__

        typer.echo(f"optc {__version__}")
        raise typer.Exit


@app.callback()
@with_common_options
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
app.command("calibrate")(calibrate.run)
app.add_typer(targets.app, name="targets")
app.command("passes")(passes.run)
app.command("inspect")(inspect_.run)
app.command("diff")(diff.run)
app.command("compare")(compare.run)
app.command("report")(report_.run)
app.command("run")(run_.run)
app.command("audit")(audit.run)
app.command("bench")(bench.run)
app.add_typer(cache.app, name="cache")
app.add_typer(golden.app, name="golden")
app.command("schema")(schema.run)
app.command("where")(where.run)
app.command("init")(init.run)
app.command("completion")(completion.run)
