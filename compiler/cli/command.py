"""How every verb looks: help of at most 100 columns that begins with examples, common options."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from optc.cli.settings import SETTINGS, width

_EXAMPLE: Final = re.compile(r"^Example: *(.*)$", re.MULTILINE)


class App(typer.Typer):
    """A group of verbs, each of which is a `Verb`; the groups below it are `VerbGroup`s."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            cls=VerbGroup, rich_markup_mode=None, pretty_exceptions_enable=False, **options
        )

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Register a verb, as `typer.Typer.command` does."""
        register = super().command(name, cls=Verb, **options)
        return lambda function: register(with_common_options(function))

    def add_typer(self, typer_instance: typer.Typer, **options: Any) -> None:
        """Add a group of verbs, as `typer.Typer.add_typer` does."""
        for command in typer_instance.registered_commands:
            command.cls = Verb
            if command.callback is not None:
                command.callback = with_common_options(command.callback)
        if typer_instance.registered_callback is None:
            typer_instance.callback()(_nothing)
        if (group := typer_instance.registered_callback) and group.callback is not None:
            group.callback = with_common_options(group.callback)
        super().add_typer(typer_instance, cls=VerbGroup, **options)


class Verb(TyperCommand):
    """A verb: its docstring says what it does, lines ``Example: …`` of it become examples."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, what it does, examples, then the options."""
        formatter.width = width()
        super().format_help(ctx, formatter)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """What it does, with examples after the first sentence."""
        _write_text(self.help or "", formatter)


class VerbGroup(TyperGroup):
    """A group of verbs."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, what it is for, examples, then options and verbs."""
        formatter.width = width()
        super().format_help(ctx, formatter)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """What it is for, with examples after the first sentence."""
        _write_text(self.help or "", formatter)


def _nothing() -> None:
    pass


def examples_of(text: str) -> list[str]:
    """The examples of a docstring: lines that begin with ``Example:``."""
    return _EXAMPLE.findall(text)


def without_examples(text: str) -> str:
    """A docstring without its examples."""
    return _EXAMPLE.sub("", text).strip()


def _write_text(text: str, formatter: Any) -> None:
    head, _, more = without_examples(text).partition("\n\n")
    formatter.write_paragraph()
    with formatter.indentation():
        formatter.write_text(head)
    examples = examples_of(text)
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
    if more.strip():
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(more.strip())


# ---- options that every verb has ----------------------------------------------------------------


def _set_verbose(value: bool) -> bool:
    SETTINGS.verbose = SETTINGS.verbose or value
    return value


def _set_quiet(value: bool) -> bool:
    SETTINGS.quiet = SETTINGS.quiet or value
    return value


def _set_log(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None and not context.resilient_parsing:
        SETTINGS.open_log(value)
    return value


COMMON: Final[Mapping[str, Any]] = {
    "verbose": Annotated[
        bool,
        typer.Option(
            "-v",
            "--verbose",
            callback=_set_verbose,
            help="Say what each step of the work took, on stderr.",
        ),
    ],
    "quiet": Annotated[
        bool,
        typer.Option(
            "-q",
            "--quiet",
            callback=_set_quiet,
            help="Print answers, warnings and errors only: no progress or summary.",
        ),
    ],
    "log_file": Annotated[
        Path | None,
        typer.Option(
            "--log-file", metavar="FILE", callback=_set_log, help="Keep a log of the run here."
        ),
    ],
}
"""Options that every verb has, by name; they set `SETTINGS`, and verbs do not see them."""


def with_common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """A verb's function with the options of `COMMON`; itself where it has them."""
    signature = inspect.signature(function, eval_str=True)
    if COMMON.keys() <= signature.parameters.keys():
        return function
    more = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if name == "log_file" else False,
            annotation=annotation,
        )
        for name, annotation in COMMON.items()
    ]

    @functools.wraps(function)
    def run(*words: Any, **options: Any) -> Any:
        return function(*words, **{k: v for k, v in options.items() if k not in COMMON})

    run.__signature__ = signature.replace(  # type: ignore[attr-defined] # what typer reads
        parameters=[*signature.parameters.values(), *more]
    )
    run.__annotations__ = {name: p.annotation for name, p in run.__signature__.parameters.items()}  # type: ignore[attr-defined] # as above
    return run
