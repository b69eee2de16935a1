"""The files for build systems: built with the real tools, from the wheel and nothing else.

The wheel is installed in an environment of its own that sees the libraries of this one, so the
projects, in a temporary folder, get optc from nowhere but the wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

from optc import buildsystems
from optc.buildsystems import SYSTEMS, example_folder, system_folder

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx"
RECIPES = ("digits.yaml", "digits-fast.yaml")

pytestmark = pytest.mark.slow


def run(*words: str, cwd: Path, path: str) -> str:
    """What a command prints on stdout, with nothing of this environment but PATH and the cache."""
    env = {"PATH": path, "HOME": str(cwd), "OPTC_CACHE_DIR": str(cwd / "cache")}
    done = subprocess.run(words, cwd=cwd, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository, built from a copy of what is packed."""
    place = tmp_path_factory.mktemp("wheel")
    for name in ("compiler", "passes", "recipes", "targets"):
        ignore = shutil.ignore_patterns("__pycache__", "build")
        shutil.copytree(ROOT / name, place / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(place / "dist"), "."]
    try:
        import build as _  # noqa: F401 - is it there?
    except ImportError:
        pytest.skip("the package build is not installed")
    done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = (place / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def path(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """PATH with an optc that comes from the wheel."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (site,) = place.glob("lib/python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # Libraries, but not an optc that is installed there: paths named here run no .pth files.
    libraries = [entry for entry in sys.path if entry.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    script = place / "bin" / "optc"
    script.write_text(
        f"#!{place}/bin/python\nfrom optc.cli import entry\nentry()\n", encoding="utf-8"
    )
    script.chmod(0o755)
    found = f"{place}/bin:{sysconfig.get_path('scripts')}:/usr/local/bin:/usr/bin:/bin"
    where = run(str(script), "where", "cmake", cwd=place, path=found).strip()
    assert where == str(site / "optc" / "buildsystems" / "cmake")
    return found


def project(tmp_path: Path, system: str) -> Path:
    """A project from the example of a system, beside a model and its recipes."""
    place = tmp_path / "project"
    shutil.copytree(example_folder(system), place)
    for name in RECIPES:
        shutil.copy(example_folder("recipes") / name, place)
    shutil.copy(MODEL, place / "digits.onnx")
    return place


def needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def edit(file: Path, old: str, new: str) -> None:
    time.sleep(0.02)  # file systems keep times to some milliseconds
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def built(folder: Path) -> dict[str, int]:
    """When each result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/manifest.json")}


def rebuilt(before: dict[str, int], folder: Path) -> set[str]:
    return {name for name, stamp in built(folder).items() if stamp != before[name]}


def check_incremental(place: Path, out: Path, build: object) -> None:
    """Nothing touched, nothing built; one recipe edited, one result; the model, both."""
    assert callable(build)
    build()
    first = built(out)
    assert set(first) == {"digits", "digits-fast"}
    assert {p.name for p in (out / "digits").iterdir()} >= {"cascadelake", "sapphirerapids"}
    build()
    assert rebuilt(first, out) == set()
    edit(place / "digits.yaml", "  - remove-dead", "  - remove-identity\n  - remove-dead")
    build()
    assert rebuilt(first, out) == {"digits"}
    second = built(out)
    time.sleep(0.02)
    os.utime(place / "digits.onnx")
    build()
    assert rebuilt(second, out) == {"digits", "digits-fast"}
    third = built(out)
    build()
    assert rebuilt(third, out) == set()


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_a_cmake_project(tmp_path: Path, path: str, generator: str) -> None:
    needs("cmake", "ninja" if generator == "Ninja" else "make")
    place = project(tmp_path, "cmake")
    folder = run("optc", "where", "cmake", cwd=place, path=path).strip()
    options = ("-G", generator, "-S", ".", "-B", "out", f"-Doptc_DIR={folder}")
    run("cmake", *options, cwd=place, path=path)

    def build() -> None:
        printed.append(run("cmake", "--build", "out", cwd=place, path=path))

    printed: list[str] = []
    check_incremental(place, place / "out", build)
    assert "operations" not in printed[0]  # quiet
    assert (place / "out" / "digits.sha256").is_file()
    run("cmake", "--build", "out", "--target", "clean", cwd=place, path=path)
    assert not (place / "out" / "digits").exists()
    build()
    assert set(built(place / "out")) == {"digits", "digits-fast"}


PROJECT = """\
cmake_minimum_required(VERSION 3.20)
project(reader CXX)
find_package(optc 0.1 REQUIRED)
optc_compile(NAME digits RECIPE digits.yaml TARGETS cascadelake sapphirerapids)
optc_compile(NAME digits-fast RECIPE digits-fast.yaml TARGETS cascadelake sapphirerapids)
get_target_property(manifest digits OPTC_MANIFEST)
add_executable(reader reader.cpp)
target_compile_definitions(reader PRIVATE MANIFEST="${manifest}")
add_dependencies(reader digits digits-fast)
"""
READER = """\
#include <fstream>
#include <iostream>
#include <sstream>
int main() {
    std::stringstream text;
    text << std::ifstream(MANIFEST).rdbuf();
    const bool found = text.str().find("sapphirerapids/model.onnx") != std::string::npos;
    std::cout << (found ? "found" : "lost") << std::endl;
    return found ? 0 : 1;
}
"""
GOLDEN = """\
def test_the_model_as_it_is(golden_graph):
    golden_graph("digits.onnx", weights=False)
"""


def test_a_project_in_two_languages(tmp_path: Path, path: str) -> None:
    """As a user has it: C++ by CMake and Ninja, golden tests by pytest, optc from the wheel."""
    needs("cmake", "ninja", "c++")
    place = project(tmp_path, "cmake")
    (place / "CMakeLists.txt").write_text(PROJECT)
    (place / "reader.cpp").write_text(READER)
    (place / "test_golden.py").write_text(GOLDEN)
    shutil.copy(place / "digits.yaml", place / "digits.optc.yaml")
    folder = run("optc", "where", "cmake", cwd=place, path=path).strip()
    run(
        "cmake", "-G", "Ninja", "-S", ".", "-B", "out", f"-Doptc_DIR={folder}", cwd=place, path=path
    )
    run("cmake", "--build", "out", cwd=place, path=path)
    assert run("out/reader", cwd=place, path=path) == "found\n"
    first = built(place / "out")
    for name in ("digits", "digits-fast"):
        models = {file.parent.name for file in (place / "out" / name).glob("*/model.onnx")}
        assert models == {"cascadelake", "sapphirerapids"}
    assert "no work to do" in run("cmake", "--build", "out", cwd=place, path=path)
    assert rebuilt(first, place / "out") == set()

    python = str(Path(path.partition(":")[0]) / "python")
    pytest_ = (python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist")
    run(*pytest_, "--update-golden", cwd=place, path=path)
    assert "3 passed" in run(*pytest_, cwd=place, path=path)
    change_model(place / "digits.onnx")
    env = {"PATH": path, "HOME": str(place)}
    done = subprocess.run(pytest_, cwd=place, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "3 failed" in done.stdout
    for line in ("the graph differs from ", "Relu", "Elu", "pytest --update-golden"):
        assert line in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    run("cmake", "--build", "out", cwd=place, path=path)
    assert rebuilt(first, place / "out") == {"digits", "digits-fast"}


def change_model(file: Path) -> None:
    """Another activation in the place of the first Relu."""
    import onnx

    model = onnx.load(file)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "Elu"
    onnx.save(model, file)


def test_mistakes_in_a_cmake_project_are_said(tmp_path: Path, path: str) -> None:
    needs("cmake", "ninja")
    place = project(tmp_path, "cmake")
    folder = run("optc", "where", "cmake", cwd=place, path=path).strip()
    command = ["cmake", "-G", "Ninja", "-S", ".", "-B", "out", f"-Doptc_DIR={folder}"]
    cases = {
        "optc_compile(NAME x)": "RECIPE is missing",
        "optc_compile(NAME x RECIPE r.yaml TARGTES y)": "unknown arguments: TARGTES;y",
        "find_package(optc 99 REQUIRED)": "version: 0.1.0",
    }
    for line, message in cases.items():
        (place / "CMakeLists.txt").write_text(
            f"cmake_minimum_required(VERSION 3.20)\nproject(p NONE)\n"
            f"find_package(optc REQUIRED)\n{line}\n"
        )
        env = {"PATH": path}
        done = subprocess.run(
            command, cwd=place, env=env, check=False, capture_output=True, text=True
        )
        assert done.returncode != 0
        assert message in done.stderr


def test_a_make_project(tmp_path: Path, path: str) -> None:
    needs("make")
    place = project(tmp_path, "make")
    check_incremental(place, place / "out", lambda: run("make", cwd=place, path=path))
    run("make", "clean", cwd=place, path=path)
    assert not (place / "out").exists()


def test_a_ninja_project(tmp_path: Path, path: str) -> None:
    needs("ninja")
    place = project(tmp_path, "ninja")
    check_incremental(place, place / "out", lambda: run("ninja", cwd=place, path=path))


def bazel_project(tmp_path: Path) -> Path:
    place = project(tmp_path, "bazel")
    shutil.copy(system_folder("bazel") / "optc.bzl", place / "tools")
    return place


def test_a_bazel_project(tmp_path: Path, path: str) -> None:
    needs("bazel")
    place = bazel_project(tmp_path)
    words = ("bazel", "--batch", f"--output_user_root={tmp_path / 'bazel'}", "build", "//:all")

    def build() -> None:
        run(*words, f"--action_env=PATH={path}", cwd=place, path=path)

    try:
        build()
        first = built(place / "bazel-bin")
        assert set(first) == {"digits", "digits-fast"}
        assert (place / "bazel-bin" / "digits" / "sapphirerapids" / "model.onnx").is_file()
        build()
        assert rebuilt(first, place / "bazel-bin") == set()
        edit(place / "digits-fast.yaml", "batch: 8", "batch: 4")
        build()
        assert rebuilt(first, place / "bazel-bin") == {"digits-fast"}
    finally:  # Bazel leaves folders that pytest cannot remove
        subprocess.run(["chmod", "-R", "u+w", str(tmp_path / "bazel")], check=False)


def test_the_bazel_files_are_starlark(tmp_path: Path) -> None:
    """Where Bazel is not there: the files parse, and the rule is made of what Bazel knows."""
    starlark = pytest.importorskip("starlark")
    place = bazel_project(tmp_path)
    rule, asked = (place / "tools" / "optc.bzl").read_text(), []
    module = starlark.Module()
    for name in ("label", "label_list", "string_list", "bool"):
        module.add_callable(f"attr_{name}", lambda name=name, **words: asked.append(name))
    for name in ("depset", "DefaultInfo"):  # in the body of the rule, which is not run here
        module.add_callable(name, lambda **words: None)
    head = "def rule(implementation, doc, attrs):\n    return list(attrs)\n"
    text = head + rule.replace("attr.", "attr_") + "\noptc_model\n"
    made = starlark.eval(module, starlark.parse("optc.bzl", text), starlark.Globals.standard())
    assert made == ["recipe", "srcs", "targets", "overrides", "verify", "optc"]
    assert asked == ["label", "label_list", "string_list", "string_list", "bool", "label"]
    for file in ("BUILD.bazel", "WORKSPACE", "tools/BUILD.bazel"):
        assert starlark.parse(file, (place / file).read_text()) is not None


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_files_and_an_example_in_the_wheel(system: str, wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    home = Path(buildsystems.__file__).parent
    for folder in (system_folder(system), example_folder(system), example_folder("recipes")):
        files = [file for file in folder.rglob("*") if file.is_file()]
        assert files
        assert {
            f"optc/buildsystems/{file.relative_to(home).as_posix()}" for file in files
        } <= packed
