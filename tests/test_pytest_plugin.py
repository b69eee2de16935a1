"""The pytest plugin as a project with optc installed sees it: pytest in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests" / "models" / "mnist_resnet.onnx"
RECIPE = "schema_version: 1\nmodel: m.onnx\ntargets: [cascadelake, sapphirerapids]\n"
TEST = """
import optc

def test_graph(golden_graph):
    run = optc.run_passes(optc.load_model("m.onnx"), PIPELINE)
    golden_graph(run, "resnet")
    golden_graph(run.graph, "graph", weights=False)

def test_model(golden_graph):
    golden_graph("m.onnx")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copy(MODEL, tmp_path / "m.onnx")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    return tmp_path


def run(project: Path, *words: str, ci: str = "") -> tuple[int, str]:
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    environment |= {"CI": ci} if ci else {}
    # What an entry point does, also where the installation is older than the entry point.
    command = [sys.executable, "-m", "pytest", "-p", "optc.pytest_plugin", *words]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def write_test(project: Path, pipeline: str) -> None:
    (project / "test_it.py").write_text(TEST.replace("PIPELINE", pipeline))


def test_the_fixture(project: Path) -> None:
    write_test(project, '"fp32"')
    code, out = run(project)
    assert code == 1
    assert "resnet.txt is missing: write it with pytest --update-golden" in out
    assert run(project, "--update-golden")[0] == 0
    assert sorted(path.name for path in (project / "golden").iterdir()) == [
        "graph.txt", "resnet.txt", "test_model.txt",
    ]  # fmt: skip
    assert run(project)[0] == 0
    write_test(project, '["fold-constants", "infer-shapes"]')
    code, out = run(project)
    assert code == 1
    assert "the graph differs from " in out
    assert "made by: fold-batchnorm -> the source model" in out
    assert "pass fold-batchnorm: conv-batchnorm 9 -> nothing" in out
    assert "Traceback" not in out
    assert "1 failed, 1 passed" in out


def test_one_test_per_recipe_and_target(project: Path) -> None:
    (project / "resnet.optc.yaml").write_text(RECIPE)
    (project / "other.yaml").write_text("not: ours\n")
    code, out = run(project, "--collect-only", "-q")
    assert code == 0
    assert [line for line in out.splitlines() if "::" in line] == [
        "resnet.optc.yaml::cascadelake",
        "resnet.optc.yaml::sapphirerapids",
    ]
    code, out = run(project)
    assert code == 1
    assert "cascadelake.txt is missing: write it with pytest --update-golden" in out
    assert run(project, "--update-golden")[0] == 0
    assert run(project)[0] == 0
    (project / "resnet.optc.yaml").write_text(RECIPE + "pipeline: [fold-constants]\n")
    code, out = run(project, "-k", "cascadelake")
    assert code == 1
    assert "pass fold-batchnorm: conv-batchnorm 9 -> nothing" in out
    assert "if this is as it should be: pytest --update-golden, and review the text" in out
    assert "Traceback" not in out


def test_a_stale_text_fails_and_is_removed(project: Path) -> None:
    (project / "resnet.optc.yaml").write_text(RECIPE)
    assert run(project, "--update-golden")[0] == 0
    (project / "resnet.optc.yaml").write_text(RECIPE.replace("cascadelake, ", ""))
    code, out = run(project)
    assert code == 1
    assert "the recipe has no such target: " in out
    assert run(project, "--update-golden")[0] == 0
    names = [path.name for path in (project / "resnet.golden").iterdir()]
    assert names == ["sapphirerapids.txt"]


def test_a_wrong_recipe_is_an_error_of_collection(project: Path) -> None:
    (project / "resnet.optc.yaml").write_text(RECIPE.replace("targets", "target"))
    code, out = run(project)
    assert code == 2
    assert "resnet.optc.yaml:3:1: target: unknown key" in out
    assert "did you mean 'targets'?" in out
    assert "Traceback" not in out


def test_a_wrong_model_is_an_error_without_a_traceback(project: Path) -> None:
    (project / "resnet.optc.yaml").write_text(RECIPE)
    (project / "m.onnx").write_text("no model")
    code, out = run(project, "--update-golden")
    assert code == 1
    assert "m.onnx" in out
    assert "Traceback" not in out
    assert not (project / "resnet.golden").exists()


def test_collection_can_be_switched_off(project: Path) -> None:
    (project / "resnet.optc.yaml").write_text(RECIPE)
    assert run(project, "-o", "optc_collect=false")[0] == 5  # no tests


def test_the_folder_can_be_chosen(project: Path) -> None:
    write_test(project, '"fp32"')
    assert run(project, "--update-golden", "-o", "optc_golden_folder=a/b")[0] == 0
    assert (project / "a" / "b" / "resnet.txt").is_file()


def test_an_update_is_refused_in_ci(project: Path) -> None:
    write_test(project, '"fp32"')
    code, out = run(project, "--update-golden", ci="true")
    assert code == 4
    assert "--update-golden is refused in CI" in out
    assert not (project / "golden").exists()
    assert run(project, ci="true")[0] == 1


def test_a_project_with_an_option_of_this_name_keeps_it(project: Path) -> None:
    write_test(project, '"fp32"')
    (project / "conftest.py").write_text(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--update-golden', action='store_true', dest='mine')\n"
    )
    assert run(project, "--update-golden")[0] == 0
    assert (project / "golden" / "resnet.txt").is_file()
    assert run(project)[0] == 0


def test_names_of_parametrized_tests_become_file_names(project: Path) -> None:
    (project / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('n', ['a/b c'])\n"
        "def test_it(n, golden_graph):\n"
        "    golden_graph('m.onnx')\n"
    )
    assert run(project, "--update-golden")[0] == 0
    assert [path.name for path in (project / "golden").iterdir()] == ["test_it-a-b-c.txt"]


def test_it_costs_nothing_when_pytest_starts() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import optc.pytest_plugin\n"
        "print(sorted(name for name in set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['optc', 'optc.pytest_plugin']\n"


def test_the_entry_point_is_declared() -> None:
    import tomllib

    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert content["project"]["entry-points"]["pytest11"] == {
        "optc.pytest_plugin": "optc.pytest_plugin"
    }
