"""Dependency files, read by the tools that they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from optc.depfile import depfile

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["plain.onnx", "a b/x y", "p#q", "d$e", "c:d", "b\\k", "e%f", "back\\ slash", "t\tab"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b").mkdir()
    for name in NAMES:
        (tmp_path / name).write_text("x")
        os.utime(name, (1, 1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out.d").write_text(depfile([("out", NAMES)]))
    return tmp_path


def touch(name: str, number: int) -> None:
    os.utime(name, (10**9 + number, 10**9 + number))


def test_the_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = depfile([("out/a", ["r.yaml", str(tmp_path / "m.onnx")]), ("out/b", ["../r.yaml"])])
    assert text == (
        "out/a/manifest.json: \\\n  r.yaml \\\n  m.onnx\n"
        "out/b/manifest.json: \\\n  ../r.yaml\n"
        "\nr.yaml:\n\nm.onnx:\n\n../r.yaml:\n"
    )


def test_make_reads_it(place: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    rules = (
        "all: out/manifest.json\n-include out.d\nout/manifest.json:\n\t@echo run; touch -d @{} $@\n"
    )

    def make(number: int) -> str:
        (place / "Makefile").write_text(rules.format(10**9 + number))
        return subprocess.check_output(["make"], text=True)

    assert make(0) == "run\n"
    assert "Nothing to be done" in make(0)
    for number, name in enumerate(NAMES, start=1):
        touch(name, 2 * number)
        assert make(2 * number + 1) == "run\n", name
        assert "Nothing to be done" in make(0), name


def test_ninja_reads_it(place: Path) -> None:
    (place / "out.d").write_text(depfile([("out", NAMES[:-1])]))
    if shutil.which("ninja") is None:
        pytest.skip("ninja is not installed")
    (place / "build.ninja").write_text(
        "rule run\n  command = touch $out; cp out.d copy.d\n  depfile = copy.d\n  deps = gcc\n"
        "build out/manifest.json: run\n"
    )

    def ninja() -> bool:
        return "no work to do" not in subprocess.check_output(["ninja"], text=True)

    assert ninja()
    assert not ninja()
    for name in NAMES[:-1]:  # Ninja knows no tabs in names, and builds each time
        os.utime(name)
        assert ninja(), name
        assert not ninja(), name
