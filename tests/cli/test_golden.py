"""`optc golden`: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from optc.cli import main

MODEL = Path(__file__).resolve().parents[1] / "models" / "mnist_resnet.onnx"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(MODEL, tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    Path("r.optc.yaml").write_text("schema_version: 1\nmodel: m.onnx\ntargets: [clx]\n")
    return "r.optc.yaml"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["golden", *words])
    printed = capsys.readouterr()
    assert printed.err == ""
    return code, printed.out


def test_a_golden_graph_from_its_first_day(capsys: pytest.CaptureFixture[str], recipe: str) -> None:
    path = "r.golden/cascadelake.txt"
    hint = "if this is as it should be: optc golden update r.optc.yaml\n"
    missing = f"{path}: missing: there is no golden graph of this target yet\n"
    assert run(capsys, "check", recipe) == (1, missing + hint)
    assert run(capsys, "update", recipe) == (0, f"{path}: written\n")
    assert run(capsys, "check", recipe) == (0, f"{path}: equal\n")
    assert run(capsys, "update", recipe) == (0, f"{path}: unchanged\n")
    other = ("--set", "pipeline=[fold-batchnorm, upgrade-opset: {to: 18}]")
    code, out = run(capsys, "check", recipe, *other)
    assert code == 1
    lines = out.splitlines()
    assert lines[:2] == [f"{path}: differs", "  ~ opset ai.onnx: 17 -> 18"]
    assert lines[-1] == hint.rstrip()
    code, out = run(capsys, "update", recipe, *other)
    assert (code, out.splitlines()) == (0, [f"{path}: written", *lines[1:-1]])


def test_texts_of_other_targets(capsys: pytest.CaptureFixture[str], recipe: str) -> None:
    assert run(capsys, "update", recipe)[0] == 0
    stray = Path("r.golden/skylake.txt")
    shutil.copy("r.golden/cascadelake.txt", stray)
    assert run(capsys, "check", recipe, "--target", "clx")[0] == 0  # asks for nothing else
    assert run(capsys, "update", recipe, "--target", "clx")[0] == 0
    assert stray.exists()
    code, out = run(capsys, "check", recipe)
    assert (code, out.splitlines()[1]) == (1, f"{stray}: stale: the recipe has no such target")
    assert run(capsys, "update", recipe)[0] == 0
    assert not stray.exists()


def test_json(capsys: pytest.CaptureFixture[str], recipe: str) -> None:
    assert run(capsys, "update", recipe, "--structure", "--json")[0] == 0
    code, out = run(capsys, "check", recipe, recipe, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["equal"] is True
    assert [item["name"] for item in found["recipes"]] == ["m", "m"]
    code, out = run(capsys, "check", recipe, "--json", "--set", "pipeline=[fold-constants]")
    assert code == 1
    [entry] = json.loads(out)["recipes"][0]["goldens"]
    assert (entry["target"], entry["file"]) == ("cascadelake", "r.golden/cascadelake.txt")
    assert (entry["state"], entry["equal"]) == ("differs", False)
    assert entry["counts"]["changed"] > 0
    assert "fold-batchnorm: conv-batchnorm 9 -> nothing" in entry["passes"]


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden"]) == 2
    assert "optc golden update recipe.yaml" in capsys.readouterr().err
