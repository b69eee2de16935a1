"""The recipes that ship with optc, with the passes that ship with it."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from optc.recipe import load_recipe, resolve_pipeline
from optc.recipes import PRESETS, preset_path

FOLDER = Path(str(files("optc.recipes")))
SHIPPED = sorted(FOLDER.rglob("*.yaml"))


def test_every_preset_has_its_file_and_every_file_is_a_preset() -> None:
    assert sorted(PRESETS) == sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_pipeline_and_a_recipe_without_model_and_targets(name: str) -> None:
    steps = resolve_pipeline(name)
    assert steps
    recipe = load_recipe({"extends": name, "model": "net.onnx", "targets": ["cascadelake"]})
    assert recipe.pipeline == steps
    assert recipe.files[0] == preset_path(name)
    assert set(recipe.files) <= set(map(preset_path, PRESETS))


@pytest.mark.parametrize(
    ("name", "base"), [("int8", "fp32"), ("bf16", "fp32"), ("int8-bf16", "int8")]
)
def test_presets_in_lower_precision_begin_with_another_one(name: str, base: str) -> None:
    first = [step.content() for step in resolve_pipeline(base)]
    steps = [step.content() for step in resolve_pipeline(name)]
    assert steps[: len(first)] == first
    assert len(steps) > len(first)


def test_an_unknown_preset_has_no_file() -> None:
    with pytest.raises(KeyError):
        preset_path("fp23")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(FOLDER)))
def test_shipped_recipes_tell_editors_their_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert match
    assert (path.parent / match[1]).resolve() == (FOLDER / "schema.json").resolve()
