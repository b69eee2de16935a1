"""`optc where`: files for build systems."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from optc.buildsystems import SYSTEMS, example_folder, system_folder
from optc.cli.console import JsonOption, say, say_json

_System = Enum("_System", {name: name for name in SYSTEMS})  # type: ignore[misc] # for typer


def run(
    system: Annotated[_System, typer.Argument(help="The build system.")],
    example: Annotated[
        bool, typer.Option("--example", help="The folder of its example project instead.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the folder with the files of a build system: CMake package, Bazel rules, examples.

    Example: cmake -S . -B build -Doptc_DIR="$(optc where cmake)"
    """
    folder = example_folder(system.value) if example else system_folder(system.value)
    if json:
        say_json({"system": system.value, "folder": str(folder)})
    else:
        say(str(folder))
