"""Recipes that are laid over others, and `--set` on top of them."""

from pathlib import Path

import pytest

from optc.errors import RecipeError
from optc.recipe import load_recipe

BASE = """
schema_version: 1
model: {path: nets/det.onnx, sha256: "%s"}
targets: [cascadelake, cpus/mine.yaml]
data: {calibration: {path: calib/, samples: 64}}
pipeline: [fold-constants, remove-dead]
launch: {mode: throughput, batch: 8}
output: out
""" % ("a" * 64)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "shared" / "base.yaml"
    path.parent.mkdir()
    path.write_text(BASE)
    return path


def laid_over(base: Path, text: str) -> Path:
    path = base.parent.parent / "user" / "recipe.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"extends: ../shared/base.yaml\n{text}")
    return path


def test_mappings_merge_and_lists_replace(base: Path) -> None:
    path = laid_over(base, "launch: {batch: 1}\ntargets: [icelake]\npipeline: [remove-dead]\n")
    recipe = load_recipe(path)
    assert (recipe.launch.mode, recipe.launch.batch) == ("throughput", 1)
    assert recipe.targets == ("icelake",)
    assert [step.name for step in recipe.pipeline] == ["remove-dead"]


def test_paths_are_relative_to_the_file_that_they_stand_in(base: Path) -> None:
    recipe = load_recipe(laid_over(base, "data: {validation: {path: val.npz}}\n"))
    assert recipe.model.path == "../shared/nets/det.onnx"
    assert recipe.model_path.resolve() == (base.parent / "nets/det.onnx").resolve()
    assert recipe.targets == ("cascadelake", "../shared/cpus/mine.yaml")
    assert recipe.output == "../shared/out"
    assert recipe.data.calibration is not None
    assert recipe.data.calibration.path == "../shared/calib"
    assert recipe.data.validation is not None
    assert recipe.data.validation.path == "val.npz"


def test_null_takes_back_what_the_base_says(base: Path) -> None:
    recipe = load_recipe(laid_over(base, "model: {sha256: null}\ndata: null\n"))
    assert recipe.model.path == "../shared/nets/det.onnx"
    assert recipe.model.sha256 is None
    assert recipe.data.calibration is None


def test_a_chain_of_files(base: Path) -> None:
    laid_over(base, "launch: {batch: 2}\n").rename(base.parent.parent / "user" / "middle.yaml")
    top = base.parent.parent / "user" / "top.yaml"
    top.write_text("extends: ./middle.yaml\nlaunch: {cores: 4}\n")
    launch = load_recipe(top).launch
    assert (launch.mode, launch.batch, launch.cores) == ("throughput", 2, 4)


def test_dots_are_resolved_as_the_file_system_does(base: Path, tmp_path: Path) -> None:
    real = tmp_path / "deep" / "er"
    real.mkdir(parents=True)
    (real / "recipe.yaml").write_text("extends: ../other.yaml\n")
    (tmp_path / "deep" / "other.yaml").write_text(BASE)
    (tmp_path / "link").symlink_to(real)
    recipe = load_recipe(tmp_path / "link" / "recipe.yaml")
    assert recipe.model.path == "../nets/det.onnx"
    assert recipe.files[1].samefile(tmp_path / "deep" / "other.yaml")


def test_all_files_are_remembered(base: Path) -> None:
    path = laid_over(base, "pipeline: fp32\n")
    names = [file.name for file in load_recipe(path).files]
    assert names == ["recipe.yaml", "base.yaml", "fp32.yaml"]


def test_a_preset_can_be_extended(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("extends: fp32\nmodel: det.onnx\ntargets: [cascadelake]\n")
    recipe = load_recipe(path)
    assert [step.name for step in recipe.pipeline] == ["fold-constants", "remove-dead"]
    assert recipe.model.path == "det.onnx"


def test_a_mapping_can_extend_a_file(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base.parent.parent)
    recipe = load_recipe({"extends": "shared/base.yaml", "launch": {"batch": 3}})
    assert (recipe.model_path, recipe.launch.batch) == (Path("shared/nets/det.onnx"), 3)


def test_the_digest_is_that_of_the_merged_recipe(base: Path) -> None:
    merged = laid_over(base, "launch: {batch: 1}\n")
    whole = merged.with_name("whole.yaml")
    text = BASE.replace("batch: 8", "batch: 1").replace("{path: ", "{path: ../shared/")
    whole.write_text(text.replace("cpus/", "../shared/cpus/").replace("calib/", "calib"))
    assert load_recipe(merged).digest == load_recipe(whole).digest


MAPPING: dict[str, object] = {
    "schema_version": 1,
    "model": "det.onnx",
    "targets": ["cascadelake"],
    "inputs": {"input.1": {"shape": [1, 3]}},
    "pipeline": ["fold-constants", {"quantize-int8": {"bits": 4}, "when": "vnni"}],
}


class TestSet:
    """`--set path=value`."""

    @pytest.mark.parametrize(
        ("override", "path", "value"),
        [
            ("verify.samples=7", "verify.samples", 7),
            ("name=other", "name", "other"),
            ("targets=[icelake, cpx]", "targets", ("icelake", "cooperlake")),
            ("targets[0]=icelake", "targets", ("icelake",)),
            ("verify={seed: 3}", "verify.seed", 3),
            ("verify.enabled=false", "verify.enabled", False),
            ("output=", "output", None),
            ("output=''", None, "expected a path"),
            ("name='a=b'", None, "expected a string like"),
        ],
    )
    def test_values_are_yaml(self, override: str, path: str | None, value: object) -> None:
        if path is None:
            with pytest.raises(RecipeError, match=str(value)):
                load_recipe(MAPPING, overrides=[override])
            return
        found: object = load_recipe(MAPPING, overrides=[override])
        for name in path.split("."):
            found = getattr(found, name)
        assert found == value

    def test_a_quoted_key_may_hold_dots(self) -> None:
        recipe = load_recipe(MAPPING, overrides=['inputs."input.1".shape[0]=8'])
        assert recipe.inputs["input.1"].shape == (8, 3)

    @pytest.mark.parametrize(
        "path", ["pipeline.1.quantize-int8.bits", "pipeline[1].quantize-int8.bits"]
    )
    def test_an_option_of_a_step(self, path: str) -> None:
        step = load_recipe(MAPPING, overrides=[f"{path}=2"]).pipeline[1]
        assert step.options.model_dump()["bits"] == 2
        assert step.when == "vnni"

    def test_a_step_without_options_gets_some(self) -> None:
        override = "pipeline.0.fold-constants.max_growth=5"
        step = load_recipe(MAPPING, overrides=[override]).pipeline[0]
        assert step.options.model_dump()["max_growth"] == 5

    def test_the_steps_of_a_preset_can_be_reached(self) -> None:
        mapping = {key: value for key, value in MAPPING.items() if key != "pipeline"}
        override = "pipeline.0.fold-constants.max_growth=5"
        steps = load_recipe(mapping, overrides=[override]).pipeline
        assert [step.name for step in steps] == ["fold-constants", "remove-dead"]
        assert steps[0].options.model_dump()["max_growth"] == 5

    def test_the_steps_of_a_preset_in_a_list_can_be_reached(self) -> None:
        mapping = {**MAPPING, "pipeline": ["remove-dead", {"preset": "fp32"}]}
        override = "pipeline.1.fold-constants.max_growth=5"
        steps = load_recipe(mapping, overrides=[override]).pipeline
        assert [step.name for step in steps] == ["remove-dead", "fold-constants", "remove-dead"]
        assert steps[1].options.model_dump()["max_growth"] == 5

    def test_later_ones_win(self) -> None:
        recipe = load_recipe(MAPPING, overrides=["launch.batch=2", "launch.batch=3"])
        assert recipe.launch.batch == 3

    def test_they_win_over_files(self, base: Path) -> None:
        recipe = load_recipe(laid_over(base, ""), overrides=["launch.batch=2", "model.path=x.onnx"])
        assert recipe.launch.batch == 2
        assert recipe.model.path == "x.onnx"
