"""Graphs before and after a pipeline, as text that a reviewer can read.

A case is a folder: `before.txt` in ONNX's textual form, `recipe.yaml` with the pipeline,
`after.txt` in canonical text. `pytest --update-golden` writes what is new; a review accepts it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import optc
from helpers import graph_from_text
from optc.ir.text import print_graph

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CASES = sorted(path.name for path in HERE.iterdir() if (path / "before.txt").exists())


@pytest.mark.parametrize("case", CASES)
def test_case(case: str, update_golden: bool) -> None:
    folder = HERE / case
    pipeline = yaml.safe_load((folder / "recipe.yaml").read_text())["pipeline"]
    graph = graph_from_text((folder / "before.txt").read_text())
    check(folder / "after.txt", print_graph(optc.run_passes(graph, pipeline).graph), update_golden)


@pytest.mark.parametrize(
    "model", ["recipes/quickstart/mnist_mobilenet.onnx", "tests/models/mnist_resnet.onnx"]
)
def test_trained_models_without_weights(model: str, update_golden: bool) -> None:
    """Weights are left out: folded ones may differ in the last bit between CPUs."""
    path = ROOT / model
    text = print_graph(optc.run_passes(optc.load_model(path), "fp32").graph, weights=False)
    check(HERE / f"{path.stem}.txt", text, update_golden)


def check(path: Path, text: str, update: bool) -> None:
    if update:
        path.write_text(text)
    assert path.exists(), f"{path.name} is new: run pytest --update-golden and review it"
    assert text == path.read_text()
