"""Recipes that are right, and sources that are none."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from optc.errors import RecipeError
from optc.recipe import Recipe, load_recipe

SHORTEST = "schema_version: 1\nmodel: nets/det v4.onnx\ntargets: [cascadelake]\n"


def written(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


def test_the_shortest_recipe_has_defaults_for_everything_else(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, SHORTEST))
    assert recipe.name == "det-v4"
    assert recipe.targets == ("cascadelake",)
    assert recipe.runtime == "onnxruntime"
    assert (recipe.emit.format, recipe.emit.opset, recipe.emit.external_data) == (
        "onnx",
        None,
        "auto",
    )
    assert [step.name for step in recipe.pipeline] == ["fold-constants", "remove-dead"]
    assert recipe.accuracy == ()
    assert (recipe.verify.enabled, recipe.verify.samples, recipe.verify.seed) == (True, 4, 0)
    assert (recipe.launch.mode, recipe.launch.batch) == ("latency", 1)
    assert recipe.data.calibration is None
    assert recipe.model_path == tmp_path / "nets/det v4.onnx"
    assert recipe.output_path == tmp_path / "build/det-v4"


def test_the_full_form(tmp_path: Path) -> None:
    text = f"""
schema_version: 1
name: ppocr-det
model: {{path: det.onnx, sha256: {"0" * 64}}}
inputs:
  x: {{shape: ["1..4", 3, N, "?"], range: [-1, 1]}}
  y: {{range: [0, 9]}}
targets: [CLX, sapphirerapids, host, cpus/mine.yaml]
runtime: openvino
data:
  calibration: {{path: calib/, samples: 128}}
  validation: {{path: val.npz, split: test, labels: label}}
pipeline:
  - fold-constants: {{keep: ["/head/.*", {{op: Softmax}}]}}
  - quantize-int8: {{calibration: percentile, deny: [Add, Mul]}}
    when: vnni
emit: {{format: onnx, opset: 21, external_data: never}}
accuracy:
  - {{metric: cosine, min: 0.999}}
  - {{metric: top1, min: 0.9, on_miss: keep}}
verify: {{samples: 8, seed: 3, rtol: 1e-4}}
launch: {{mode: throughput, batch: 16, instances: 2, cores: 8}}
output: /var/out
"""
    recipe = load_recipe(written(tmp_path, text))
    assert recipe.target_refs == (
        "cascadelake",
        "sapphirerapids",
        "host",
        str(tmp_path / "cpus/mine.yaml"),
    )
    x = recipe.inputs["x"]
    assert x.dims == (None, 3, "N", None)
    assert (x.smallest, x.largest) == ((1, 3, "N", None), (4, 3, "N", None))
    assert x.range == (-1.0, 1.0)
    assert recipe.data.validation is not None
    assert recipe.data.validation.labels == "label"
    assert [(goal.metric, goal.limit, goal.on_miss) for goal in recipe.accuracy] == [
        ("cosine", 0.999, "fail"),
        ("top1", 0.9, "keep"),
    ]
    assert recipe.pipeline[1].when == "vnni"
    assert recipe.pipeline[1].location == f"{tmp_path}/recipe.yaml:15:5"
    assert recipe.output_path == Path("/var/out")
    assert recipe.files == (tmp_path / "recipe.yaml",)
    assert recipe.inputs["y"].dims is None
    assert recipe.inputs["y"].largest is None


def test_one_goal_needs_no_list() -> None:
    goal = {"metric": "max_abs_error", "max": 1e-3}
    recipe = load_recipe({**MAPPING, "accuracy": goal})
    assert recipe.accuracy[0].met(1e-4)
    assert not recipe.accuracy[0].met(1e-2)
    assert not recipe.accuracy[0].met(float("nan"))


MAPPING = {"schema_version": 1, "model": "det.onnx", "targets": ["cascadelake"], "pipeline": []}


def test_a_mapping_is_a_recipe_of_the_working_directory() -> None:
    recipe = load_recipe({**MAPPING, "model": Path("a") / "det.onnx", "targets": ("icelake",)})
    assert recipe.model_path == Path("a/det.onnx")
    assert recipe.targets == ("icelake",)


def test_a_key_without_value_counts_as_left_out() -> None:
    recipe = load_recipe({**MAPPING, "launch": None, "emit": {"external_data": None}})
    assert recipe.launch.mode == "latency"
    assert recipe.emit.external_data == "auto"


def test_a_mapping_may_hold_plain_values_only() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe({**MAPPING, "name": b"x", "launch": {"batch": 2**63}})
    assert [str(problem) for problem in caught.value.problems] == [
        "<recipe>: name: found a Python bytes; expected plain values, lists and dicts",
        "<recipe>: launch.batch: is an integer beyond 64 bits",
    ]


@pytest.mark.parametrize("value", [["schema_version"], 5])
def test_what_is_neither_mapping_nor_path(value: Any) -> None:
    with pytest.raises(RecipeError, match="expected a mapping, or the path of a recipe"):
        load_recipe(value)


def test_a_mapping_that_holds_itself_ends() -> None:
    ring: dict[str, object] = {**MAPPING}
    ring["inputs"] = ring
    with pytest.raises(RecipeError, match="more than 64 levels of nesting"):
        load_recipe(ring)


def test_a_recipe_cannot_be_changed() -> None:
    recipe = load_recipe(MAPPING)
    with pytest.raises(ValueError, match="frozen"):
        recipe.name = "other"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("recipes.yaml", "recipes.yaml: no such file\n  did you mean 'recipe.yaml'?"),
        ("a/b/r.yaml", "a/b/r.yaml: no such file\n  there is no folder a/b either"),
        ("det.onnx", "det.onnx: is a model, not a recipe\n"
         "  write a recipe for it with: optc init det.onnx"),
        ("folder", "folder: is a folder, not a recipe\n  name the recipe in it: inner.yaml"),
        ("x" * 300, "x" * 300 + ": no such file"),
        ("a\0b", "a\0b: no such file"),
    ],
)  # fmt: skip
def test_what_is_no_recipe_file(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, SHORTEST)
    written(tmp_path / "folder", SHORTEST, "inner.yaml")
    (tmp_path / "det.onnx").write_bytes(b"\x08\x07")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name)
    assert str(caught.value) == message


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: str = "r") -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, SHORTEST)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RecipeError, match="cannot be read: Permission denied"):
        load_recipe(path)


def test_no_more_problems_are_listed_than_anyone_reads() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe({**MAPPING, "pipeline": ["fold"] * 5000})
    assert len(caught.value.problems) == 101
    assert caught.value.problems[-1].message.startswith("only the first 100 problems are listed")


class TestDigest:
    """The digest tells recipes apart by what they say, not by how or where they say it."""

    def digest(self, folder: Path, text: str) -> str:
        return load_recipe(written(folder, text)).digest

    def test_layout_comments_order_defaults_and_location_do_not_count(self, tmp_path: Path) -> None:
        first = self.digest(tmp_path / "a", SHORTEST)
        second = self.digest(
            tmp_path / "b" / "c",
            "# the same\ntargets:\n  - clx\nlaunch: {batch: 1, mode: latency}\n"
            "pipeline: [fold-constants: {max_growth: 2.0}, remove-dead]\n"
            "model: {path: 'nets/det v4.onnx'}\nschema_version: 1\nname: det-v4\noutput: else\n",
        )
        assert first == second

    def test_a_mapping_has_the_digest_of_its_file(self, tmp_path: Path) -> None:
        mapping = {
            "schema_version": 1,
            "model": "nets/det v4.onnx",
            "targets": ["cascadelake"],
        }
        assert load_recipe(mapping).digest == self.digest(tmp_path, SHORTEST)

    @pytest.mark.parametrize(
        "change",
        [
            "runtime: openvino\n",
            "name: other\n",
            "verify: {seed: 1}\n",
            "pipeline: [fold-constants]\n",
            "pipeline: [fold-constants: {max_growth: 3}, remove-dead]\n",
            "pipeline: [fold-constants, {remove-dead: , when: vnni}]\n",
            "accuracy: {metric: cosine, min: 0.9}\n",
        ],
    )
    def test_everything_that_decides_the_result_counts(self, change: str, tmp_path: Path) -> None:
        assert self.digest(tmp_path, SHORTEST) != self.digest(tmp_path, SHORTEST + change)

    def test_it_does_not_depend_on_the_hash_seed(self) -> None:
        """Sets have an order of their own in every process."""
        code = (
            "from pydantic import Field\n"
            "from optc.passes.base import Pass, PassOptions\n"
            "from optc.recipe import Step\n"
            "class Options(PassOptions):\n"
            "    deny: frozenset[str] = frozenset()\n"
            "print(Step('x', Options(deny=frozenset('abcdefgh'))).content())\n"
        )
        texts = {
            subprocess.run(
                [sys.executable, "-c", code],
                env={"PYTHONHASHSEED": seed},
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            for seed in ("1", "2", "3")
        }
        assert texts == {
            "{'name': 'x', 'options': {'deny': ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']}, "
            "'when': None}\n"
        }


def test_a_recipe_is_made_of_its_own_data() -> None:
    assert isinstance(load_recipe(MAPPING), Recipe)
    assert load_recipe(MAPPING) == load_recipe(MAPPING)
