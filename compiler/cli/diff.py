"""`optc diff`: structural difference of two models."""

from __future__ import annotations

from pathlib import Path

import click

from optc.cli.command import PATH, argument, verb
from optc.cli.console import json_option, say, say_json


@verb
@argument("a", type=PATH, metavar="A", help="The first model.")
@argument("b", type=PATH, metavar="B", help="The second model.")
@json_option
def run(a: Path, b: Path, json: bool) -> None:
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
        raise click.exceptions.Exit(1)
