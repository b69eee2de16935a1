"""`optc diff`: structural difference of two models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from optc.cli.console import JsonOption, say, say_json


def run(
    a: Annotated[Path, typer.Argument(help="The first model.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="The second model.", metavar="B")],
    json: JsonOption = False,
) -> None:
    """Compare two ONNX models by structure; exit code 1 when they differ.

    Example: optc diff model.onnx build/quickstart/cascadelake/model.onnx
    """
    from optc.frontend.onnx import load_model
    from optc.ir.diff import diff_graphs

    difference = diff_graphs(load_model(a), load_model(b))
    if json:
        say_json({"equal": difference.is_empty, **difference.to_dict()})
    else:
        say("the models are equal" if difference.is_empty else difference.render().rstrip())
    if not difference.is_empty:
        raise typer.Exit(1)
