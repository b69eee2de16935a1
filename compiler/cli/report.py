"""`optc report`: the report page of a compiled target, rendered again."""

from __future__ import annotations

from pathlib import Path

import click

from optc.cli.command import PATH, argument, verb
from optc.cli.console import json_option, say, say_json
from optc.files import check_place, write_text


@verb
@argument("folder", type=PATH, metavar="FOLDER", help="The folder of one target: OUT/<target>.")
@click.option(
    "--output", "-o", type=PATH, help="Write the page here; report.html there if left out."
)
@json_option
def run(folder: Path, output: Path | None, json: bool) -> None:
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
