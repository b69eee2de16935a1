"""The JSON schema agrees with what the loader accepts."""

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, ConfigDict, Field

from optc.errors import RecipeError
from optc.passes.base import Pass, PassOptions
from optc.recipe import json_schema, load_recipe
from optc.recipe.positions import read_text
from optc.recipe.tree import Problems, Source, data

ERRORS = Path(__file__).parent / "errors"
HEAD: dict[str, Any] = {"schema_version": 1, "model": "m.onnx", "targets": ["cascadelake"]}


def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"model": {"path": "m.onnx", "sha256": "0" * 64}},
        {"targets": ["host", "clx", "cpus/mine.yaml"]},
        {"pipeline": []},
        {"pipeline": "fp32"},
        {"pipeline": {"preset": "fp32"}},
        {"pipeline": ["remove-dead", {"fold-constants": None}]},
        {"pipeline": [{"preset": "fp32"}, "remove-dead"]},
        {"pipeline": [{"quantize-int8": {"bits": 4, "deny": ["Add"]}, "when": "vnni"}]},
        {"pipeline": [{"fold-constants": {"keep": ["/head/.*", {"op": "Softmax"}]}}]},
        {"inputs": {"x": {"shape": [1, "N", "?", "1..8"], "range": [0, 1]}}},
        {"accuracy": {"metric": "cosine", "min": 0.9}},
        {"accuracy": [{"metric": "sqnr", "min": 20, "on_miss": "keep"}]},
        {"verify": {"enabled": False, "rtol": 1e-3}},
    ],
)
def test_what_loads_is_valid(extra: dict[str, Any]) -> None:
    recipe = {**HEAD, **extra}
    load_recipe(recipe)
    validator().validate(recipe)


def test_a_recipe_that_extends_may_leave_out_what_its_base_has() -> None:
    validator().validate({"extends": "fp32"})
    validator().validate({"extends": "../base.yaml", "launch": {"batch": 2}})
    assert not validator().is_valid({"launch": {"batch": 2}})


# What only the loader can tell: it sees the text, the other files and the overrides, and rules
# between keys. Texts that are no mapping are not asked about.
LOADER_ONLY = {
    "duplicate-key",
    "emit-key-of-other-format",
    "emit-openvino",
    "emit-opset-too-new",
    "extends-cycle",
    "extends-itself",
    "goal-unreachable",
    "key-is-a-list",
    "labels-missing",
    "override-paths",
    "override-syntax",
    "override-values",
    "target-twice",
    "unknown-alias",
}


def as_data(case: str) -> Any:
    tree = read_text((ERRORS / case / "recipe.yaml").read_text(), Source(), Problems())
    return None if tree is None else data(tree)


def test_what_is_wrong_in_itself_is_invalid() -> None:
    check = validator()
    recipes = {path.name: as_data(path.name) for path in sorted(ERRORS.iterdir())}
    valid = {name for name, recipe in recipes.items() if recipe and check.is_valid(recipe)}
    assert sorted(valid) == sorted(LOADER_ONLY)


class Selector(BaseModel):
    """Not the selector of nodes."""

    model_config = ConfigDict(extra="forbid")
    value: int = Field(default=0, description="a value")


class Clash(Pass):
    """A pass whose options refer to a class with the name of another."""

    name = "clash"

    class Options(PassOptions):
        part: Selector = Field(default=Selector(), description="a part")


def test_classes_of_the_same_name_stay_apart(
    passes: tuple[type[Pass], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optc.passes.ALL_PASSES", (*passes, Clash))
    check = validator()
    check.validate({**HEAD, "pipeline": [{"clash": {"part": {"value": 3}}}]})
    check.validate({**HEAD, "pipeline": [{"fold-constants": {"keep": [{"op": "Add"}]}}]})
    assert not check.is_valid({**HEAD, "pipeline": [{"clash": {"part": {"op": "Add"}}}]})


def test_every_key_is_described() -> None:
    schema = json_schema()
    parts = {"": schema, **schema["$defs"]}
    silent = [
        f"{part}.{key}"
        for part, definition in parts.items()
        for key, field in definition.get("properties", {}).items()
        if not field.get("description")
    ]
    assert silent == []


def test_a_pass_with_a_name_that_is_taken_has_no_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clash, "name", "remove-dead")
    point = EntryPoint("p", f"{__name__}:Clash", "optc.passes")
    monkeypatch.setattr("optc.recipe.steps.entry_points", lambda group: [point])
    with pytest.raises(RecipeError, match="defined by optc and by an unnamed distribution"):
        json_schema()
