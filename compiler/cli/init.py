"""`optc init`: a starting recipe for a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optc.cli.command import PATH, verb
from optc.cli.console import model_argument, note
from optc.errors import OutputError
from optc.files import check_place, write_text

if TYPE_CHECKING:
    from optc.ir import Graph


@verb
@model_argument
@click.option(
    "--recipe",
    "-o",
    type=PATH,
    default=Path("recipe.yaml"),
    show_default=True,
    help="Where to write the recipe.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing recipe.")
def run(model: Path, recipe: Path, force: bool) -> None:
    """Write a starting recipe for a model.

    Example: optc init model.onnx && optc compile recipe.yaml
    """
    from optc.frontend.onnx import load_model

    graph = load_model(model)
    if recipe.is_dir():
        check_place(recipe, hint=f"give --recipe a file name: {recipe / 'recipe.yaml'}")
    if recipe.exists() and not force:
        raise OutputError(
            "recipe-exists",
            "the recipe exists already",
            location=str(recipe),
            hint="give another name with --recipe, or overwrite it with --force",
        )
    relative = os.path.relpath(model.absolute(), recipe.absolute().parent)
    write_text(recipe, starting_recipe(graph, Path(relative).as_posix()))
    note(f"wrote {recipe}; next: optc compile {recipe}")


def starting_recipe(graph: Graph, model: str) -> str:
    """The text of a recipe that compiles `graph`, with what a user adds next as comments."""
    import json

    name = Path(model).stem
    lines = [
        "schema_version: 1",
        f"name: {json.dumps(name)}",
        f"model: {json.dumps(model, ensure_ascii=False)}",
    ]
    dynamic = [
        f"#   {json.dumps(value.name)}: {{shape: {_shape(value.type)}}}"
        for value in graph.inputs
        if _shape(value.type) and not getattr(value.type, "is_static", True)
    ]
    if dynamic:
        lines += ["# Fix dynamic dimensions here when the service uses one size only:", "# inputs:"]
        lines += dynamic
    lines += [
        "targets: [cascadelake]        # what there is: optc targets",
        "runtime: onnxruntime",
        "# Labelled or real data makes verification meaningful; without it inputs are made up:",
        "# data:",
        "#   validation: {path: data.npz}   # keys are input names, one sample per leading row",
        "# accuracy: {metric: cosine, min: 0.999}",
        "pipeline: {preset: fp32}",
        f"output: {json.dumps('build/' + name)}",
    ]
    return "\n".join(lines) + "\n"


def _shape(kind: object) -> str:
    from optc.ir import TensorType

    if not isinstance(kind, TensorType) or kind.shape is None:
        return ""
    return "[" + ", ".join(str(d) if isinstance(d, int) else "1" for d in kind.shape) + "]"
