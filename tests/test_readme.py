"""What the README shows works: its recipes validate, its Python runs, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import optc
from optc.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_recipes_validate(text: str) -> None:
    recipe = optc.load_recipe(yaml.safe_load(text))
    assert recipe.pipeline


def test_the_library_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "build").mkdir()
    monkeypatch.chdir(tmp_path)
    printed: list[object] = []
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {"print": lambda *words: printed.append(words)})
    names = [words[0] for words in printed if isinstance(words, tuple)]
    assert names[:2] == ["fold-constants", "fold-batchnorm"]
    assert "lower-operators" in names
    assert (tmp_path / "build" / "embedded" / "cascadelake" / "model.onnx").exists()
    assert (tmp_path / "build" / "folded.onnx").exists()


def test_every_verb_and_file_that_is_named_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in set(re.findall(r"optc ([a-z]+)", README)):
        if verb in ("import", "has"):
            continue
        assert main([verb, "--help"]) == 0, verb
    capsys.readouterr()
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_both_commands_stand_on_the_first_screen() -> None:
    first = "\n".join(README.splitlines()[:20])
    assert "optc compile recipes/quickstart/recipe.yaml" in first
    assert ".venv/bin/pytest" in first
