"""What is packed, exported and documented agrees with what is there."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

import optc
from optc import errors
from optc.passes import ALL_PASSES

if TYPE_CHECKING:
    from optc.passes.base import Pass

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "compiler": "optc",
    "passes": "optc.passes",
    "recipes": "optc.recipes",
    "targets": "optc.targets",
}
LIMIT_LINES = 400
LIMIT_FUNCTION = 60


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def test_every_package_is_listed() -> None:
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *parts)))
    tool = cast("dict[str, dict[str, object]]", project()["tool"])
    assert sorted(cast("list[str]", tool["setuptools"]["packages"])) == sorted(found)


def test_no_folder_shadows_a_mapped_package() -> None:
    assert not [
        name for name in ("passes", "targets", "recipes") if (ROOT / "compiler" / name).exists()
    ]


def test_version_is_said_once() -> None:
    assert cast("dict[str, str]", project()["project"])["version"] == optc.__version__


def test_everything_exported_exists_and_is_listed_sorted() -> None:
    assert sorted(optc.__all__) == list(optc.__all__)
    for name in optc.__all__:
        assert getattr(optc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        optc.nothing  # noqa: B018 - the access is the test


def test_the_error_tree_is_documented_and_exported() -> None:
    document = inspect.getdoc(errors) or ""
    classes = [
        item
        for item in vars(errors).values()
        if inspect.isclass(item) and issubclass(item, errors.OptcError)
    ]
    for item in classes:
        assert re.search(rf"\b{item.__name__}\b", document), item.__name__
        assert item.__name__ in optc.__all__
        if item is not errors.OptcError:
            assert re.search(rf"{item.__name__}\s+\({item.exit_code}\)", document), item.__name__


def test_import_is_fast_and_loads_no_runtime() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import optc; "
        "took = time.perf_counter() - start; optc.load_recipe, optc.compile; "
        "print(took, sorted({'onnxruntime', 'openvino', 'rich', 'click'} & set(sys.modules)))"
    )
    out = subprocess.check_output([sys.executable, "-c", code], text=True)
    seconds, modules = out.split(" ", 1)
    assert float(seconds) < 0.5
    assert modules.strip() == "[]"


@pytest.mark.parametrize("entry", ALL_PASSES, ids=lambda entry: cast("type[Pass]", entry).name)
def test_a_pass_has_one_stem_everywhere(entry: type[Pass]) -> None:
    stem = entry.name.replace("-", "_")
    assert entry.__name__ == "".join(word.capitalize() for word in stem.split("_"))
    assert entry.__module__ == f"optc.passes.{stem}"
    assert (ROOT / "tests" / "passes" / f"test_{stem}.py").exists()
    module = importlib.import_module(entry.__module__)
    assert module.__doc__
    assert entry.__doc__
    for name, field in entry.Options.model_fields.items():
        assert field.description, f"{entry.name}.{name} has no description"


def test_generated_documents_are_current() -> None:
    command = [sys.executable, str(ROOT / "tools" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_and_functions_stay_small() -> None:
    large = []
    for path in sources():
        text = path.read_text()
        if text.count("\n") > LIMIT_LINES:
            large.append(f"{path.name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > LIMIT_FUNCTION:
                    large.append(f"{path.name}:{node.lineno} {node.name}: {length} lines")
    assert large == []


def test_only_the_frontend_and_the_emitter_read_protobuf() -> None:
    messages = {"AttributeProto", "GraphProto", "ModelProto", "NodeProto", "TensorProto", "helper"}
    guilty = []
    for path in sources():
        if {"frontend", "emit"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "onnx":
                names = {alias.name for alias in node.names}
                guilty += [f"{path.name}: {name}" for name in sorted(names & messages)]
    assert guilty == []


def test_the_schema_in_the_repository_is_what_the_command_prints() -> None:
    from optc.recipe import json_schema

    assert json.loads((ROOT / "recipes" / "schema.json").read_text()) == json_schema()
