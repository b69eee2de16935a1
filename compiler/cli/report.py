"""`optc report`: the report page of a compiled target, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optc.cli.console import JsonOption, say, say_json
from optc.files import check_place, write_text


def run(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of one target: OUT/<target>.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the page here; report.html there if left out."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Render the report page of a compiled target again, from its report.json and launch folder.

    Example: optc report build/ppocr-det/cascadelake
    """
    from optc.emit.folder import write_again
    from optc.page import PAGE
    from optc.page.render import page_of
    from optc.page.stored import read_reports

    folder = folder.absolute()
    place = output or folder / PAGE
    check_place(place)
    page = page_of(folder, read_reports(folder))
    if output is None:
        write_again(folder.parent, f"{folder.name}/{PAGE}", page.encode())
    else:
        write_text(place, page)
    if json:
        say_json({"page": str(place), "bytes": len(page.encode())})
    else:
        say(f"written to {place}")
