"""`optc where`: files for build systems."""

from __future__ import annotations

import click

from optc.buildsystems import SYSTEMS, example_folder, system_folder
from optc.cli.command import argument, verb
from optc.cli.console import json_option, say, say_json


@verb
@argument(
    "system",
    metavar="SYSTEM",
    type=click.Choice(SYSTEMS),
    help=f"The build system: {', '.join(SYSTEMS)}.",
)
@click.option("--example", is_flag=True, help="The folder of its example project instead.")
@json_option
def run(system: str, example: bool, json: bool) -> None:
    """Print the folder with the files of a build system: CMake package, Bazel rules, examples.

    Example: cmake -S . -B build -Doptc_DIR="$(optc where cmake)"
    """
    folder = example_folder(system) if example else system_folder(system)
    if json:
        say_json({"system": system, "folder": str(folder)})
    else:
        say(str(folder))
