"""Options about data that verbs share, and the text of `--fill` as numbers."""

from __future__ import annotations

from typing import Annotated

import typer

DATA = typer.Option("--data", "-d", help="An .npz or .npy file, or a folder of data.")

SplitOption = Annotated[
    str, typer.Option("--split", help="Which split of an .npz file: keys `<split>:<input>`.")
]
SamplesOption = Annotated[
    int | None, typer.Option("--samples", min=1, help="Use the first so many samples only.")
]
FillOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fill", metavar="INPUT=NUMBER", help="Fill an input that the data lacks, e.g. h=0."
    ),
]


def parse_fills(texts: list[str] | None) -> dict[str, float]:
    """Inputs with one number everywhere, such as states that start at zero, by name.

    Raises:
        typer.BadParameter: a text is not of the form.
    """
    found: dict[str, float] = {}
    for text in texts or ():
        name, _, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise typer.BadParameter(f"'{text}' is not INPUT=NUMBER", param_hint="--fill")
    return found
