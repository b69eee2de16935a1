"""`optc completion`: the script that lets a shell complete verbs, options and names."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from optc.cli.console import say


class Shell(StrEnum):
    """Shells that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def run(shell: Annotated[Shell, typer.Argument(help="The shell.", metavar="SHELL")]) -> None:
    """Print the completion script of a shell: bash, zsh or fish.

    `optc --install-completion` puts it where the shell that runs looks for it.

    Example: eval "$(optc completion bash)"
    Example: optc completion zsh > ~/.zfunc/_optc
    Example: optc completion fish > ~/.config/fish/completions/optc.fish
    """
    from typer._completion_shared import get_completion_script

    script = get_completion_script(
        prog_name="optc", complete_var="_OPTC_COMPLETE", shell=shell.value
    )
    say(script.rstrip())
