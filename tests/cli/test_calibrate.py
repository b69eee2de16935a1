"""`optc calibrate`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import optc
from optc.calibration import take_statistics
from optc.cli import main
from optc.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

MODEL = Path(__file__).resolve().parents[2] / "recipes" / "quickstart" / "mnist_mobilenet.onnx"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    graph = optc.load_model(MODEL)
    (only,) = graph.inputs
    data = np.random.default_rng(0).random((6, 1, 32, 32), np.float32)
    np.savez(tmp_path / "data.npz", allow_pickle=False, **{f"calib:{only.name}": data})
    path = tmp_path / "recipe.yaml"
    content = {
        "schema_version": 1,
        "model": str(MODEL),
        "targets": ["cascadelake"],
        "data": {"calibration": {"path": "data.npz", "split": "calib"}},
        "pipeline": [
            "fold-batchnorm",
            {"upgrade-opset": {"to": 13}},
            "infer-shapes",
            {"quantize-int8": {"placement": "kernels"}},
        ],
        "output": "out",
    }
    path.write_text(json.dumps(content))
    return path


def call(words: Sequence[object]) -> int:
    return main([str(word) for word in words])


def text_of(recipe: Path, *overrides: str) -> str:
    result = optc.compile(recipe, verify=False, overrides=overrides)
    return (result.output / "cascadelake" / "graph.txt").read_text()


def test_a_compile_uses_statistics_and_runs_nothing(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = recipe.with_name("stats.json")
    assert call(["calibrate", recipe, "--out", stats]) == 0
    expected = text_of(recipe)
    monkeypatch.setattr("optc.numerics.calibrate.statistics_of", None)
    assert text_of(recipe, "data.calibration.statistics=stats.json") == expected


def test_shards_give_what_the_whole_gives(recipe: Path, tmp_path: Path) -> None:
    whole, merged = tmp_path / "whole.json", tmp_path / "merged.json"
    parts = [tmp_path / f"{i}.json" for i in (1, 2, 3)]
    assert call(["calibrate", recipe, "--out", whole]) == 0
    for number, part in enumerate(parts, 1):
        assert call(["calibrate", recipe, "--shard", f"{number}/3", "--out", part]) == 0
    words = [word for part in parts for word in ("--merge", part)]
    assert call(["calibrate", *words, "--out", merged]) == 0
    assert text_of(recipe, "data.calibration.statistics=merged.json") == text_of(recipe)
    assert json.loads(merged.read_text())["entries"][0]["samples"] == 6


def test_statistics_of_other_data_are_an_error(recipe: Path) -> None:
    stats = recipe.with_name("stats.json")
    take_statistics(recipe, stats)
    settings = ("data.calibration.statistics=stats.json", "data.calibration.samples=3")
    with pytest.raises(DataError, match="none of this model") as caught:
        text_of(recipe, *settings)
    assert caught.value.code == "statistics-stale"


def test_a_part_alone_is_an_error(recipe: Path) -> None:
    assert call(["calibrate", recipe, "--shard", "1/2", "--out", recipe.with_name("a.json")]) == 0
    with pytest.raises(DataError, match="1 of 2 shards"):
        text_of(recipe, "data.calibration.statistics=a.json")


def test_a_file_that_is_not_there(recipe: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as caught:
        text_of(recipe, "data.calibration.statistics=none.json")
    assert caught.value.code == "statistics-unreadable"


@pytest.mark.parametrize(
    "words", [[], ["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "x"], ["--merge", "x"]]
)
def test_usage(recipe: Path, words: list[str]) -> None:
    given: list[object] = [recipe] if words else []
    assert call(["calibrate", *given, *words, "--out", recipe.with_name("x.json")]) == 2
