"""Graphs before and after a pipeline, as text that a reviewer can read.

A case is a folder: `before.txt` in ONNX's textual form, `recipe.yaml` with the pipeline,
`after.txt`, the golden graph. `pytest --update-golden` writes what is new; a review accepts it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

import optc
from helpers import graph_from_text

if TYPE_CHECKING:
    from optc.pytest_plugin import GoldenGraph

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CASES = sorted(path.name for path in HERE.iterdir() if (path / "before.txt").exists())


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, golden_graph: GoldenGraph) -> None:
    folder = HERE / case
    pipeline = yaml.safe_load((folder / "recipe.yaml").read_text())["pipeline"]
    graph = graph_from_text((folder / "before.txt").read_text())
    golden_graph(optc.run_passes(graph, pipeline), folder / "after.txt")


@pytest.mark.parametrize(
    "model", ["recipes/quickstart/mnist_mobilenet.onnx", "tests/models/mnist_resnet.onnx"]
)
def test_trained_models_without_weights(model: str, golden_graph: GoldenGraph) -> None:
    path = ROOT / model
    run = optc.run_passes(optc.load_model(path), "fp32")
    golden_graph(run, HERE / f"{path.stem}.txt", weights=False)
