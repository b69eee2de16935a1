"""Golden graphs of recipes as a library: files, states, what is shared, what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from optc import golden
from optc.errors import ModelError, OptcError, OutputError, TargetError

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "schema_version: 1\nmodel: m.onnx\ntargets: [cascadelake, sapphirerapids]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "tests/models/mnist_resnet.onnx", tmp_path / "m.onnx")
    (tmp_path / "r.optc.yaml").write_text(RECIPE)
    return tmp_path


def states(result: golden.GoldenResult) -> dict[str, str]:
    return {item.path.name: item.state for item in result.goldens}


def files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def retrain(path: Path) -> None:
    """Other values for every float initializer; the same graph."""
    model = onnx.load(path)
    rng = np.random.default_rng(1)
    for item in model.graph.initializer:
        array = numpy_helper.to_array(item)
        if array.dtype == np.float32:
            noise = np.abs(array) * rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
            item.CopyFrom(numpy_helper.from_array(noise.astype(np.float32), item.name))
    onnx.save(model, path)


def test_update_then_check(folder: Path) -> None:
    recipe = folder / "r.optc.yaml"
    names = ("cascadelake.txt", "sapphirerapids.txt")
    assert states(golden.check(recipe)) == dict.fromkeys(names, "missing")
    assert states(golden.update(recipe)) == dict.fromkeys(names, "written")
    assert sorted(files(folder / "r.golden")) == list(names)
    assert states(golden.check(recipe)) == dict.fromkeys(names, "equal")
    assert states(golden.update(recipe)) == dict.fromkeys(names, "unchanged")


def test_targets_that_share_their_passes_run_once(folder: Path) -> None:
    seen: list[str] = []

    def progress(activity: str, done: int, total: int) -> None:
        seen.append(activity)

    golden.update(folder / "r.optc.yaml", progress=progress)
    assert seen.count("passes") == 1
    first, second = files(folder / "r.golden").values()
    assert first.splitlines()[2:] == second.splitlines()[2:]


def test_another_pipeline_differs_and_an_update_tells_how(folder: Path) -> None:
    recipe = folder / "r.optc.yaml"
    golden.update(recipe)
    other = ["pipeline=[fold-constants, infer-shapes]"]
    found = golden.check(recipe, overrides=other)
    assert not found.is_equal
    difference = found.goldens[0].difference
    assert difference is not None
    assert "fold-batchnorm: conv-batchnorm 9 -> nothing" in difference.passes
    done = golden.update(recipe, overrides=other)
    assert done.goldens[0].difference == difference
    assert golden.check(recipe, overrides=other).is_equal


def test_a_retrained_model_is_the_same_without_weights(folder: Path) -> None:
    recipe = folder / "r.optc.yaml"
    golden.update(recipe)
    retrain(folder / "m.onnx")
    assert not golden.check(recipe).is_equal
    assert golden.check(recipe, structure=True).is_equal
    golden.update(recipe, structure=True)
    assert golden.check(recipe).is_equal
    retrain(folder / "m.onnx")
    assert golden.check(recipe).is_equal


def test_the_recipe_says_where_and_whether_with_weights(folder: Path) -> None:
    recipe = folder / "r.optc.yaml"
    recipe.write_text(RECIPE + "golden: {folder: graphs/r, weights: false}\n")
    golden.update(recipe)
    assert sorted(files(folder / "graphs" / "r")) == ["cascadelake.txt", "sapphirerapids.txt"]
    retrain(folder / "m.onnx")
    assert golden.check(recipe).is_equal


@pytest.mark.parametrize(
    ("name", "stem"), [("a.yaml", "a"), ("a.optc.yaml", "a"), ("a.optc.yml", "a")]
)
def test_the_folder_is_named_after_the_recipe(folder: Path, name: str, stem: str) -> None:
    (folder / name).write_text(RECIPE)
    assert golden.GoldenSuite.of(folder / name).folder == folder / f"{stem}.golden"


def test_new_and_removed_targets(folder: Path) -> None:
    recipe = folder / "r.optc.yaml"
    golden.update(recipe)
    (folder / "r.golden" / "notes.txt").write_text("mine")
    (folder / "r.golden" / "README.md").write_text("mine")
    recipe.write_text(RECIPE.replace("cascadelake", "icelake"))
    assert states(golden.check(recipe)) == {
        "icelake.txt": "missing",
        "sapphirerapids.txt": "equal",
        "cascadelake.txt": "stale",
    }
    assert states(golden.check(recipe, targets=["spr"])) == {"sapphirerapids.txt": "equal"}
    assert states(golden.update(recipe)) == {
        "icelake.txt": "written",
        "sapphirerapids.txt": "unchanged",
        "cascadelake.txt": "removed",
    }
    assert sorted(files(folder / "r.golden")) == [
        "README.md", "icelake.txt", "notes.txt", "sapphirerapids.txt",
    ]  # fmt: skip


def test_an_update_of_one_target_leaves_the_others(folder: Path) -> None:
    recipe = folder / "r.optc.yaml"
    golden.update(recipe)
    before = files(folder / "r.golden")
    done = golden.update(recipe, targets=["spr"], overrides=["pipeline=[fold-constants]"])
    assert states(done) == {"sapphirerapids.txt": "written"}
    after = files(folder / "r.golden")
    assert after["cascadelake.txt"] == before["cascadelake.txt"]
    assert after["sapphirerapids.txt"] != before["sapphirerapids.txt"]


def test_a_broken_text_is_an_error_of_a_check_and_mended_by_an_update(folder: Path) -> None:
    recipe, path = folder / "r.optc.yaml", folder / "r.golden" / "cascadelake.txt"
    golden.update(recipe)
    whole = path.read_text()
    path.write_text(whole.replace("graph main_graph {", "<<<<<<< HEAD\ngraph main_graph {"))
    with pytest.raises(ModelError) as caught:
        golden.check(recipe)
    assert caught.value.code == "text-invalid"
    assert str(path) in str(caught.value.location)
    golden.update(recipe)
    assert path.read_text() == whole


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "r.golden").mkdir()
    (folder / "r.golden" / "cascadelake.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError) as caught:
        golden.check(folder / "r.optc.yaml")
    assert caught.value.code == "golden-unreadable"


def test_a_host_has_no_golden_graph(folder: Path) -> None:
    (folder / "r.optc.yaml").write_text(RECIPE.replace("cascadelake", "host"))
    with pytest.raises(TargetError) as caught:
        golden.check(folder / "r.optc.yaml")
    assert caught.value.code == "golden-host"
    assert golden.update(folder / "r.optc.yaml", targets=["spr"]).is_equal


def test_nothing_is_written_when_a_target_fails(folder: Path) -> None:
    (folder / "m.onnx").write_bytes((folder / "m.onnx").read_bytes()[:1000])
    with pytest.raises(OptcError):
        golden.update(folder / "r.optc.yaml")
    assert not (folder / "r.golden").exists()


def test_a_folder_that_cannot_be(folder: Path) -> None:
    (folder / "r.golden").write_text("a file")
    with pytest.raises(OutputError):
        golden.update(folder / "r.optc.yaml")


def test_the_text_does_not_depend_on_hash_seed_threads_place_or_cpu_features(folder: Path) -> None:
    """numpy and its BLAS are told to use less of the CPU."""
    code = "import sys; from optc import golden; golden.update(sys.argv[1])"
    found = []
    for index, more in enumerate(
        (
            {"PYTHONHASHSEED": "1"},
            {
                "PYTHONHASHSEED": "2",
                "OMP_NUM_THREADS": "2",
                "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
                "OPENBLAS_CORETYPE": "Nehalem",
            },
        )
    ):
        place = folder / f"place {index}"
        place.mkdir()
        for name in ("m.onnx", "r.optc.yaml"):
            shutil.copy(folder / name, place / name)
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, str(place / "r.optc.yaml")],
            env={**os.environ, **more},
            check=True,
        )
        found.append(files(place / "r.golden"))
    assert found[0] == found[1]
    assert str(folder) not in "".join(found[0].values())


def test_goldens_do_not_decide_the_digest_of_a_recipe(folder: Path) -> None:
    from optc.recipe import load_recipe

    before = load_recipe(folder / "r.optc.yaml").digest
    (folder / "r.optc.yaml").write_text(RECIPE + "golden: {weights: false}\n")
    assert load_recipe(folder / "r.optc.yaml").digest == before
