"""`optc completion`: the script that lets a shell complete verbs, options and names."""

from __future__ import annotations

from typing import Final

import click

from optc.cli.command import argument, verb
from optc.cli.console import say

SHELLS: Final = ("bash", "zsh", "fish")
"""Shells that there is a script for."""

COMPLETE: Final = "_OPTC_COMPLETE"
"""The variable in which the script of a shell asks for words."""


@verb
@argument("shell", type=click.Choice(SHELLS), metavar="SHELL", help="The shell.")
def run(shell: str) -> None:
    """Print the completion script of a shell: bash, zsh or fish.

    Example: eval "$(optc completion bash)"
    Example: optc completion zsh > ~/.zfunc/_optc
    Example: optc completion fish > ~/.config/fish/completions/optc.fish
    """
    from click.shell_completion import get_completion_class

    from optc.cli.app import app_of

    kind = get_completion_class(shell)
    assert kind is not None
    say(kind(app_of(), {}, "optc", COMPLETE).source().strip())
