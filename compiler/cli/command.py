"""How every verb looks: help of at most 100 columns that begins with examples, common options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from optc.cli.settings import SETTINGS, width
from optc.errors import did_you_mean

_EXAMPLE: Final = re.compile(r"^Example: *(.*)$", re.MULTILINE)

PATH: Final = click.Path(path_type=Path)
"""The type of an option or argument that is a path."""


class Verb(click.Command):
    """A verb: its docstring says what it does, lines ``Example: …`` of it become examples."""

    def __init__(
        self, name: str | None, params: Sequence[click.Parameter] | None = None, **more: Any
    ) -> None:
        super().__init__(name, **_common(params, **more))

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, what it does, examples, then arguments and options."""
        formatter.width = width()
        self.format_usage(ctx, formatter)
        _write_text(self.help or "", formatter)
        _write_arguments(self, ctx, formatter)
        self.format_options(ctx, formatter)


class VerbGroup(click.Group):
    """A group of verbs, in the order in which they were added."""

    command_class = Verb

    def __init__(
        self, name: str | None, params: Sequence[click.Parameter] | None = None, **more: Any
    ) -> None:
        super().__init__(name, **_common(params, **more))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, as the help lists them."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that the words begin with; a slip of the pen is told what may be meant."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            hint = did_you_mean(args[0], self.commands)
            ctx.fail(f"there is no verb '{args[0]}'{f'; {hint}' if hint else ''}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage, what it is for, examples, then options and verbs."""
        formatter.width = width()
        self.format_usage(ctx, formatter)
        _write_text(self.help or "", formatter)
        self.format_options(ctx, formatter)


class Argument(click.Argument):
    """An argument with a text for the help, which Click has since 8.5 only."""

    def __init__(self, declarations: Sequence[str], *, help: str, **more: Any) -> None:
        super().__init__(declarations, **more)
        self.text = help


def verb(function: Callable[..., None]) -> Verb:
    """Make a verb of a function; the decorators below this one are its arguments and options."""
    return click.command(cls=Verb)(function)


def argument(name: str, **more: Any) -> Callable[[Any], Any]:
    """Add an argument to a verb, as `click.argument` does; `help` is required."""
    return click.argument(name, cls=Argument, **more)


def _common(
    params: Sequence[click.Parameter] | None, *, help: str | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "params": [*(params or ()), *common_options()],
        "help": inspect.cleandoc(help or ""),
        "context_settings": {"help_option_names": ["-h", "--help"]},
        **more,
    }


def examples_of(text: str) -> list[str]:
    """The examples of a docstring: lines that begin with ``Example:``."""
    return _EXAMPLE.findall(text)


def without_examples(text: str) -> str:
    """A docstring without its examples."""
    return _EXAMPLE.sub("", text).strip()


def _write_text(text: str, formatter: click.HelpFormatter) -> None:
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


def _write_arguments(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    rows = [
        (parameter.make_metavar(ctx), parameter.text)
        for parameter in command.params
        if isinstance(parameter, Argument)
    ]
    if rows:
        with formatter.section("Arguments"):
            formatter.write_dl(rows)


# ---- options that every verb has ----------------------------------------------------------------


def _set_verbose(context: click.Context, option: click.Parameter, value: bool) -> None:
    SETTINGS.verbose = SETTINGS.verbose or value


def _set_quiet(context: click.Context, option: click.Parameter, value: bool) -> None:
    SETTINGS.quiet = SETTINGS.quiet or value


def _set_log(context: click.Context, option: click.Parameter, value: Path | None) -> None:
    if value is not None and not context.resilient_parsing:
        SETTINGS.open_log(value)


def common_options() -> list[click.Parameter]:
    """Options that every verb has; they set `SETTINGS`, and verbs do not see them."""
    return [
        click.Option(
            ["-v", "--verbose"],
            is_flag=True,
            callback=_set_verbose,
            expose_value=False,
            help="Say what each step of the work took, on stderr.",
        ),
        click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            callback=_set_quiet,
            expose_value=False,
            help="Print answers, warnings and errors only: no progress or summary.",
        ),
        click.Option(
            ["--log-file"],
            type=PATH,
            metavar="FILE",
            callback=_set_log,
            expose_value=False,
            help="Keep a log of the run here.",
        ),
    ]
