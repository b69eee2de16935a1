"""What verbs share: options, JSON or text, errors, progress."""

from __future__ import annotations

import json
import platform
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from optc.errors import InternalError, OptcError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from optc.errors import GoalMissed
    from optc.pipeline import Progress

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout instead of text.")
]
RecipeArgument = Annotated[Path, typer.Argument(help="The recipe.", metavar="RECIPE")]
ModelArgument = Annotated[Path, typer.Argument(help="An ONNX model.", metavar="MODEL")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Override one value of the recipe, e.g. launch.batch=4."
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Folder with what earlier compiles left, instead of OPTC_CACHE_DIR or ~/.cache/optc.",
    ),
]
CacheSizeOption = Annotated[
    str | None,
    typer.Option("--cache-size", metavar="SIZE", help="Limit of the cache, e.g. 5G (the default)."),
]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", help="Compile for this target instead of the recipe's."),
]


def say(text: str = "") -> None:
    """Print a line of plain text to stdout."""
    typer.echo(text)


def warn(text: str) -> None:
    """Print a warning to stderr."""
    typer.secho(f"warning: {text}", err=True, fg="yellow")


def say_json(data: object) -> None:
    """Print one JSON object to stdout."""
    typer.echo(json.dumps(data, indent=1, ensure_ascii=False))


def console() -> Console:
    """A rich console on stdout: colours and width of the terminal, plain text elsewhere."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def show_error(error: OptcError, *, as_json: bool) -> None:
    """Print an error of the user's input, or one of ours, where the caller looks for it."""
    if as_json:
        say_json({"error": error.to_dict()})
    typer.secho("error: ", err=True, fg="red", bold=True, nl=False)
    typer.echo(str(error), err=True)
    if isinstance(error, InternalError):
        typer.echo(_paste(error.detail), err=True)


def end_missed(error: GoalMissed, *, as_json: bool) -> NoReturn:
    """End a verb whose result is printed already, and misses a goal.

    With `--json` the one object on stdout is that result: the error goes to stderr alone.
    """
    if not as_json:
        raise error
    show_error(error, as_json=False)
    raise typer.Exit(error.exit_code)


def show_crash(error: Exception, words: list[str], *, as_json: bool) -> None:
    """Print the report for an exception that nobody foresaw."""
    if as_json:
        say_json({"error": {"code": "crash", "message": f"{type(error).__name__}: {error}"}})
    trace = "".join(traceback.format_exception(error))
    typer.secho(f"error: optc has a bug: {type(error).__name__}: {error}", err=True, fg="red")
    typer.echo(_paste(f"command: optc {' '.join(words)}\n{trace}"), err=True)


def show_usage(error: BaseException | None) -> None:
    """Print a mistake on the command line as JSON; its text is on stderr already.

    Args:
        error: what the argument parser raised.
    """
    text = getattr(error, "format_message", None)
    message = str(text()) if callable(text) else "the command line is wrong"
    say_json({"error": {"code": "usage", "message": message}})


def _paste(detail: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    lines = [f"python {platform.python_version()} on {platform.system()} {platform.machine()}"]
    for package in ("optc", "onnx", "onnxruntime", "numpy", "networkx", "pydantic"):
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"{package} not installed")
    return "\n".join(
        [
            "This is a bug of optc. Please report it with the text between the lines:",
            "-" * 72,
            ", ".join(lines),
            detail,
            "-" * 72,
        ]
    )


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress | None]:
    """A progress line on stderr while the block runs; nothing when stderr is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1)

        def report(activity: str, done: int, total: int) -> None:
            bar.update(task, description=activity, completed=done, total=max(total, 1))

        yield report
