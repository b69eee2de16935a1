"""No text is too strange: every one loads, or ends in a RecipeError that points into it."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optc.errors import Problem, RecipeError
from optc.recipe import load_recipe
from optc.recipe.positions import from_python, read_text
from optc.recipe.tree import Problems, Source, data

FULL = """schema_version: 1
name: net
model: {path: net.onnx}
inputs: {x: {shape: [1, N, "1..8"], range: [0, 1]}}
targets: [cascadelake, cpus/mine.yaml]
runtime: openvino
data: &d {calibration: {path: calib/, samples: 128, split: c}}
pipeline:
  - fold-constants: {keep: ["/head/.*", {op: Softmax}], max_growth: 1.5}
  - quantize-int8: {calibration: percentile, deny: [Add]}
    when: vnni
  - remove-dead
accuracy: [{metric: cosine, min: 0.9, on_miss: keep}]
launch: {mode: online, batch: 2}
"""
TOKENS = st.sampled_from(
    [
        *"[]{}:-\n'\"#|>\t\0\\%@é\U0001f600",
        "",
        ": ",
        "- ",
        "  ",
        "*d",
        "&d ",
        "!!int ",
        "---",
        "...",
    ]
) | st.sampled_from(
    ["null", "yes", "1", "-1", "1.5", ".nan", "preset", "fp32", "when", "extends", "fold-constants"]
)
MANY = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=6)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """`re` warns about some of the expressions that are made up here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def problems_of(source: Path | dict[str, object], **options: Any) -> tuple[Problem, ...]:
    try:
        load_recipe(source, **options)
    except RecipeError as error:
        return error.problems
    return ()


def check(source: Path | dict[str, object], **options: Any) -> None:
    lines = source.read_text().count("\n") + 1 if isinstance(source, Path) else 0
    for problem in problems_of(source, **options):
        assert problem.message
        assert problem.line <= lines or problem.file == "fp32.yaml"


@MANY
@given(edits=st.lists(st.tuples(st.integers(0, len(FULL)), st.integers(0, 8), TOKENS), max_size=4))
def test_an_edited_recipe(edits: list[tuple[int, int, str]], tmp_path: Path) -> None:
    text = FULL
    for start, length, token in edits:
        text = text[:start] + token + text[start + length :]
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    check(path)


@MANY
@given(key=st.sampled_from([*FULL.replace(":", " ").split(), "pipeline"]), value=VALUES)
def test_any_value_for_any_key(key: str, value: object) -> None:
    head = {"schema_version": 1, "model": "net.onnx", "targets": ["icelake"]}
    check({**head, key: value})


@MANY
@given(step=VALUES, option=VALUES)
def test_any_step_and_any_option(step: object, option: object) -> None:
    head: dict[str, object] = {"schema_version": 1, "model": "net.onnx", "targets": ["icelake"]}
    check({**head, "pipeline": [step, {"fold-constants": {"keep": option}}]})
    check({**head, "pipeline": [{"quantize-int8": option}, {"fold-constants": step}]})


@MANY
@given(text=st.lists(TOKENS, max_size=8).map("".join))
def test_any_override(text: str) -> None:
    head: dict[str, object] = {"schema_version": 1, "model": "net.onnx", "targets": ["icelake"]}
    check(head, overrides=[text, f"pipeline.{text}=1", f"launch.{text}", f"verify={text}"])


# JSON is YAML, apart from characters that YAML only takes as escapes and JSON does not escape.
JSON_TEXT = st.text(alphabet="aé\U0001f600 \"\\:#'{}[]\n\t-0xo1.~", max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=6,
)


@MANY
@given(value=JSON)
def test_python_values_and_their_text_give_the_same_tree(value: object) -> None:
    problems = Problems()
    first = from_python(value, Source(), problems)
    second = read_text(json.dumps(value, ensure_ascii=False), Source(), problems)
    assert not len(problems)
    assert first is not None
    assert second is not None
    assert data(first) == data(second) == value
