"""Whole results: fetched when nothing has changed, made anew when anything has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import optc
from optc import toolchain, verified, warm
from optc.cache import Cache
from optc.emit.folder import file_digest
from optc.errors import GoalMissed, OutputError
from optc.verified import keep_verification
from test_cache import damage

if TYPE_CHECKING:
    from collections.abc import Callable

    from optc.cache import Store
    from optc.verdict import Verification

QUICKSTART = Path(__file__).resolve().parents[1] / "recipes" / "quickstart"
RECIPE = """\
extends: base.yaml
targets: [cascadelake, mine.yaml]
data: {validation: {path: data, samples: 2}}
pipeline:
  - infer-shapes
  - fold-constants
  - fold-batchnorm
  - fold-affine
  - remove-dead
"""
BASE = "schema_version: 1\nname: digits\nmodel: models/digits.onnx\nverify: {samples: 1}\n"
TARGET = "extends: sapphirerapids\nid: mine\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a file of every kind that a compile reads."""
    place = tmp_path / "project"
    (place / "models").mkdir(parents=True)
    (place / "data").mkdir()
    shutil.copy(QUICKSTART / "mnist_mobilenet.onnx", place / "models" / "digits.onnx")
    (place / "recipe.yaml").write_text(RECIPE)
    (place / "base.yaml").write_text(BASE)
    (place / "mine.yaml").write_text(TARGET)
    rng = np.random.default_rng(0)
    for number in range(2):
        np.savez(place / "data" / f"{number}.npz", **sample(rng))
    return place


def sample(rng: np.random.Generator) -> dict[str, Any]:
    (name,) = (value.name for value in optc.load_model(QUICKSTART / "mnist_mobilenet.onnx").inputs)
    return {name: rng.random((1, 1, 32, 32), dtype=np.float32)}


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode) for path in files
    }


def compiled(project: Path, **options: Any) -> optc.CompileResult:
    # What is as old as the compile may have changed while it ran, and is not relied on.
    for path in project.rglob("*"):
        if path.is_file() and path.stat().st_mtime > time.time() - 60:
            os.utime(path, (time.time() - 60,) * 2)
    output = project.parent / "out"
    return optc.compile(
        project / "recipe.yaml", output=output, cache=Cache(project.parent / "cache"), **options
    )


def test_nothing_changed_nothing_done(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled(project)
    made = tree(first.output)
    shutil.rmtree(first.output)
    monkeypatch.setattr("optc.driver.prepare", None)  # neither parsed nor run
    second = compiled(project)
    assert (first.cached, second.cached) == (False, True)
    assert tree(second.output) == made
    assert made["cascadelake/launch/launch.sh"][1] & 0o111

    def data(result: optc.CompileResult) -> dict[str, Any]:
        found = replace(result, cached=True, seconds={}).to_dict()
        for artifact in found["artifacts"].values():  # type: ignore[attr-defined]
            for step in artifact["passes"]:
                step["seconds"] = 0.0
        return found

    assert data(second) == json.loads(json.dumps(data(first)))
    for name, artifact in first.artifacts.items():
        other = second.artifacts[name]
        assert artifact.verification is not None
        assert other.verification is not None
        assert other.verification.lines() == artifact.verification.lines()
        sources = [[r.sources for r in step.refusals] for step in artifact.steps]
        assert [[r.sources for r in step.refusals] for step in other.steps] == sources
    assert {path.name for path in first.inputs} >= {
        "recipe.yaml",
        "base.yaml",
        "mine.yaml",
        "digits.onnx",
        "data",
        "0.npz",
        "1.npz",
    }


def _touch_model(place: Path) -> None:
    graph = optc.load_model(place / "models" / "digits.onnx")
    graph.doc = "another"
    optc.save_model(graph, place / "models" / "digits.onnx")


def _rewrite(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        text = (place / name).read_text()
        assert old in text
        (place / name).write_text(text.replace(old, new))

    return change


def _another_sample(place: Path) -> None:
    np.savez(place / "data" / "2.npz", **sample(np.random.default_rng(2)))


def _other_sample(place: Path) -> None:
    np.savez(place / "data" / "1.npz", **sample(np.random.default_rng(3)))


CHANGES: dict[str, Callable[[Path], None]] = {
    "recipe": _rewrite("recipe.yaml", "  - fold-affine\n", ""),
    "base": _rewrite("base.yaml", "samples: 1", "samples: 2"),
    "target": _rewrite("mine.yaml", "id: mine\n", "id: mine\nnames: {title: Mine}\n"),
    "model": _touch_model,
    "data": _other_sample,
    "more data": _another_sample,
    "less data": lambda place: (place / "data" / "1.npz").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(project: Path, change: str) -> None:
    compiled(project)
    CHANGES[change](project)
    try:
        result = compiled(project)
    except optc.OptcError:
        return  # it says what is wrong: so it was not fetched
    assert not result.cached
    made = tree(result.output)
    fresh = optc.compile(project / "recipe.yaml", output=project.parent / "fresh")
    assert made == tree(fresh.output)


def test_what_is_asked_for_is_told_apart(project: Path) -> None:
    asked: list[dict[str, Any]] = [
        {},
        {"targets": ["cascadelake"]},
        {"overrides": ["launch.batch=2"]},
        {"verify": False},
    ]
    results = [compiled(project, **options) for options in asked]
    assert [result.cached for result in results] == [False] * 4
    assert [compiled(project, **options).cached for options in asked] == [True] * 4


def test_another_cpu_and_another_optc_verify_for_themselves(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifications: list[str] = []

    def keep(store: Store, key: str, made: Verification) -> None:
        verifications.append(key)
        keep_verification(store, key, made)

    monkeypatch.setattr("optc.driver.keep_verification", keep)
    compiled(project)
    assert len(verifications) == 1
    monkeypatch.setattr(warm, "machine", lambda: "another CPU")
    monkeypatch.setattr(verified, "machine", lambda: "another CPU")
    assert not compiled(project).cached
    assert len(verifications) == 2
    for module in (warm, verified):
        monkeypatch.setattr(module, "toolchain", lambda: "another optc")
    assert not compiled(project).cached
    assert len(verifications) == 3


def test_what_does_not_touch_graph_and_data_is_not_verified_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compiled(project)
    monkeypatch.setattr("optc.driver._Compile._verify", None)
    second = compiled(project, overrides=["launch.batch=4"])
    assert not second.cached
    one, other = first.artifacts["mine"], second.artifacts["mine"]
    assert one.verification is not None
    assert other.verification is not None
    assert one.verification.contract() == other.verification.contract()
    with pytest.raises(TypeError):  # it is needed where something of it changed
        compiled(project, overrides=["verify.seed=7"])


def test_a_copy_of_the_project_finds_what_the_original_left(project: Path) -> None:
    first = compiled(project)
    made = tree(first.output)
    copy = project.parent / "deeper" / "copy"
    shutil.copytree(project, copy)
    found = warm.Request(copy / "recipe.yaml").find(
        Cache(project.parent / "cache"), project.parent / "out2"
    )
    assert found is not None
    assert tree(found.output) == made
    assert found.model == copy / "models" / "digits.onnx"
    assert not [path for path in found.inputs if path.is_relative_to(project)]


def test_the_output_is_where_the_recipe_says(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    cache = Cache(project.parent / "cache")
    for path in project.rglob("*.*"):
        os.utime(path, (1, 1))
    first = optc.compile("recipe.yaml", cache=cache)
    second = optc.compile("recipe.yaml", cache=cache)
    assert (first.cached, second.cached) == (False, True)
    assert str(first.output) == str(second.output) == "build/digits"
    assert str(second.model) == "models/digits.onnx"


def test_a_folder_that_is_not_ours_is_refused_as_ever(project: Path) -> None:
    first = compiled(project)
    (first.output / "mine.txt").write_text("keep me")
    with pytest.raises(OutputError, match="files that optc did not write"):
        compiled(project)
    assert (first.output / "mine.txt").exists()


def test_twenty_damaged_entries_are_found_and_made_again(project: Path) -> None:
    made = tree(compiled(project).output)
    cache = Cache(project.parent / "cache")
    for number in range(20):
        entries = sorted(path for path in cache._files())
        kinds = ("request", "result", "file", "step", "graph", "pack", "verification")
        kind = kinds[number % len(kinds)]
        chosen = [path for path in entries if path.parent.parent.name == kind]
        path = chosen[number % len(chosen)]
        damage(path, number)
        damaged = path.read_bytes()
        if kind in ("step", "graph", "pack", "verification"):  # are read when others are missing
            shutil.rmtree(cache.folder / "v1" / "request")
            shutil.rmtree(cache.folder / "v1" / "result")
        found = compiled(project)
        assert tree(found.output) == made, (number, kind)
        # Found when it was read; what was not read is found by looking for it.
        content = path.read_bytes() if path.exists() else None
        assert cache.verify()[1] == ([path] if content == damaged else [])
        assert cache.verify()[1] == []


def test_a_missed_goal_is_said_each_time(project: Path) -> None:
    options = {"overrides": ["accuracy.metric=cosine", "accuracy.min=1.0"]}
    with pytest.raises(GoalMissed):
        compiled(project, **options)
    with pytest.raises(GoalMissed):
        compiled(project, **options)
    kept = {"overrides": [*options["overrides"], "accuracy.on_miss=keep"]}
    for _ in range(2):
        result = compiled(project, **kept)
        assert result.missed is not None
        assert not result.cached


def test_goals_that_were_met_come_back(project: Path) -> None:
    options = {"overrides": ["accuracy.metric=cosine", "accuracy.min=0.9"]}
    first, second = compiled(project, **options), compiled(project, **options)
    assert second.cached
    for result in (first, second):
        found = result.artifacts["cascadelake"].verification
        assert found is not None
        assert [(str(goal), goal.met) for goal in found.goals] == [
            (str(goal), goal.met)
            for goal in first.artifacts["cascadelake"].verification.goals  # type: ignore[union-attr]
        ]


def test_a_file_that_changed_meanwhile_is_not_relied_on(project: Path) -> None:
    cache = Cache(project.parent / "cache")
    os.utime(project / "models" / "digits.onnx", (time.time() + 60,) * 2)
    for _ in range(2):
        out = project.parent / "out"
        assert not optc.compile(project / "recipe.yaml", output=out, cache=cache).cached


def test_times_are_trusted_only_when_asked(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(project)
    trusting = Cache(project.parent / "cache", trust_times=True)
    request = warm.Request(project / "recipe.yaml")
    out = project.parent / "out"
    assert request.find(trusting, out) is not None
    hashed: list[Path] = []

    def noted(path: Path) -> str:
        hashed.append(path)
        return file_digest(path)

    monkeypatch.setattr(warm, "file_digest", noted)
    assert request.find(trusting, out) is not None
    assert {path.name for path in hashed} == {"recipe.yaml"}
    os.utime(project / "models" / "digits.onnx")
    hashed.clear()
    assert request.find(trusting, out) is not None
    assert {path.name for path in hashed} == {"recipe.yaml", "digits.onnx"}


def test_a_dump_of_every_step_runs_every_step(project: Path, tmp_path: Path) -> None:
    compiled(project)
    result = compiled(project, dump_dir=tmp_path / "dump")
    assert not result.cached
    assert len(list((tmp_path / "dump").rglob("*.txt"))) >= 5


def test_the_toolchain_is_its_files_and_the_versions_of_libraries() -> None:
    found = toolchain._distributions()
    assert any(name.startswith("onnxruntime-") for name in found)
    folders = toolchain.package_folders()
    assert [(folder / "__init__.py").exists() for folder in folders] == [True] * 4
    assert "passes" in {folder.name for folder in folders}
    assert "driver.py" in toolchain._sources(folders[0])
    assert len(toolchain.toolchain()) == len(toolchain.machine()) == 64


def test_plugins_count_with_their_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = toolchain._distributions()
    place = tmp_path / "my_passes-1.0.dist-info"
    place.mkdir()
    (place / "entry_points.txt").write_text("[console_scripts]\na = b:c\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert toolchain._distributions() == before
    (place / "entry_points.txt").write_text("[console_scripts]\na = b:c\n[optc.passes]\nx = y:Z\n")
    assert toolchain._distributions() == sorted([*before, "my_passes-1.0"])


def test_a_command_that_fetches_imports_no_library(project: Path) -> None:
    compiled(project)
    code = (
        "import sys; from optc.cli import main\n"
        "assert main(['compile', *sys.argv[1:], '--json']) == 0\n"
        "heavy = {'numpy', 'onnx', 'networkx', 'pydantic', 'yaml', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    words = [project / "recipe.yaml", "--cache", project.parent / "cache", "-o", project / "out"]
    done = subprocess.check_output([sys.executable, "-c", code, *map(str, words)], text=True)
    result, _, modules = done.strip().rpartition("\n")
    assert json.loads(result)["cached"]
    assert modules == "[]"


def test_a_runtime_that_is_held_back_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cap in ("", "AVX2"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
        found.append(toolchain.machine.__wrapped__())
    assert found[0] != found[1]
