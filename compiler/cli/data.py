"""Options about data that verbs share, and the text of `--fill` as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from optc.cli.command import PATH


def data_option(*, required: bool = False) -> Callable[[Any], Any]:
    """The option that names the inputs."""
    return click.option(
        "--data",
        "-d",
        type=PATH,
        required=required,
        help="An .npz or .npy file, or a folder of data.",
    )


split_option = click.option(
    "--split", default="", help="Which split of an .npz file: keys `<split>:<input>`."
)
samples_option = click.option(
    "--samples", type=click.IntRange(min=1), help="Use the first so many samples only."
)
fill_option = click.option(
    "--fill",
    multiple=True,
    metavar="INPUT=NUMBER",
    help="Fill an input that the data lacks, e.g. h=0.",
)


def parse_fills(texts: Sequence[str]) -> dict[str, float]:
    """Inputs with one number everywhere, such as states that start at zero, by name.

    Raises:
        click.BadParameter: a text is not of the form.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise click.BadParameter(f"'{text}' is not INPUT=NUMBER", param_hint="--fill")
    return found
