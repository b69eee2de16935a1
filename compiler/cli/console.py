"""What verbs share: options, JSON or text, errors."""

from __future__ import annotations

import json
import platform
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

import click

from optc.cli.command import PATH, argument
from optc.cli.progress import progress
from optc.cli.settings import SETTINGS, colours, is_terminal
from optc.errors import InternalError, OptcError

if TYPE_CHECKING:
    from rich.console import Console

    from optc.errors import GoalMissed

__all__ = [
    "cache_option",
    "cache_size_option",
    "console",
    "end_missed",
    "json_option",
    "model_argument",
    "note",
    "progress",
    "recipe_argument",
    "say",
    "say_json",
    "set_option",
    "show_crash",
    "show_error",
    "show_error_text",
    "show_usage",
    "target_option",
    "warn",
]

json_option = click.option(
    "--json", is_flag=True, help="Print one JSON object on stdout instead of text."
)
recipe_argument = argument("recipe", type=PATH, metavar="RECIPE", help="The recipe.")
model_argument = argument("model", type=PATH, metavar="MODEL", help="An ONNX model.")
set_option = click.option(
    "--set",
    "set_",
    multiple=True,
    metavar="PATH=VALUE",
    help="Override one value of the recipe, e.g. launch.batch=4.",
)
cache_option = click.option(
    "--cache",
    type=PATH,
    metavar="DIR",
    help="Folder with what earlier compiles left, instead of OPTC_CACHE_DIR or ~/.cache/optc.",
)
cache_size_option = click.option(
    "--cache-size", metavar="SIZE", help="Limit of the cache, e.g. 5G (the default)."
)


def _targets(context: click.Context, option: click.Parameter, incomplete: str) -> list[str]:
    """Names that a shell may complete a target to."""
    from optc.targets import target_names

    return [name for name in target_names() if name.startswith(incomplete)]


target_option = click.option(
    "--target",
    "-t",
    multiple=True,
    shell_complete=_targets,
    metavar="NAME",
    help="Compile for this target instead of the recipe's.",
)


def say(text: str = "") -> None:
    """Print a line of an answer to stdout: what the verb was asked for."""
    click.echo(text)


def note(text: str) -> None:
    """Print a line of a summary to stdout; not with `-q`."""
    SETTINGS.record(text)
    if not SETTINGS.quiet:
        click.echo(text)


def warn(text: str) -> None:
    """Print a warning to stderr; with `-q` too: a build that is quiet must not hide one."""
    SETTINGS.record(f"warning: {text}")
    _to_stderr(f"warning: {text}", fg="yellow")


def _to_stderr(text: str, **style: Any) -> None:
    click.secho(text, err=True, color=colours(sys.stderr), **style)


def say_json(data: object) -> None:
    """Print one JSON object to stdout."""
    click.echo(json.dumps(data, indent=1, ensure_ascii=False))


def console() -> Console:
    """A rich console on stdout: colours and width of the terminal, plain text elsewhere."""
    from rich.console import Console

    coloured = colours(sys.stdout)
    return Console(
        highlight=False,
        soft_wrap=not is_terminal(sys.stdout),
        force_terminal=coloured,
        no_color=not coloured,
    )


def show_error(error: OptcError, *, as_json: bool) -> None:
    """Print an error of the user's input, or one of ours, where the caller looks for it."""
    if as_json:
        say_json({"error": error.to_dict()})
    SETTINGS.record(f"error code {error.code}")
    show_error_text(str(error), error.detail if isinstance(error, InternalError) else None)


def show_error_text(text: str, detail: str | None = None) -> None:
    """Print what went wrong to stderr; with the report of a bug where there is one."""
    SETTINGS.record(f"error: {text}")
    _to_stderr("error: ", fg="red", bold=True, nl=False)
    _to_stderr(text)
    if detail:
        SETTINGS.record(detail)
        _to_stderr(_paste(detail))


def end_missed(error: GoalMissed, *, as_json: bool) -> NoReturn:
    """End a verb whose result is printed already, and misses a goal.

    With `--json` the one object on stdout is that result: the error goes to stderr alone.
    """
    if not as_json:
        raise error
    show_error(error, as_json=False)
    raise click.exceptions.Exit(error.exit_code)


def show_crash(error: Exception, words: list[str], *, as_json: bool) -> None:
    """Print the report for an exception that nobody foresaw."""
    if as_json:
        say_json({"error": {"code": "crash", "message": f"{type(error).__name__}: {error}"}})
    trace = "".join(traceback.format_exception(error))
    SETTINGS.record(trace)
    _to_stderr(f"error: optc has a bug: {type(error).__name__}: {error}", fg="red")
    _to_stderr(_paste(f"command: optc {' '.join(words)}\n{trace}"))


def show_usage(error: click.ClickException, *, as_json: bool) -> None:
    """Print a mistake on the command line to stderr; with `--json` also as JSON."""
    error.show()
    if as_json:
        say_json({"error": {"code": "usage", "message": error.format_message()}})


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
