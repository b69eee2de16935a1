"""`optc cache`, and what `optc compile` has to do with it, as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from optc.cache import Cache, digest_of
from optc.cli import main

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"
TEXT = (
    "schema_version: 1\nname: m\nmodel: m.onnx\ntargets: [cascadelake]\n"
    "verify: {samples: 1}\npipeline: [infer-shapes, fold-batchnorm]\n"
)


class Optc:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = main(list(words))
        printed = self._capsys.readouterr()
        return code, printed.out, printed.err


@pytest.fixture
def optc(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Optc:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPTC_CACHE_DIR", "cache")
    shutil.copy(QUICKSTART / "mnist_mobilenet.onnx", "m.onnx")
    Path("r.yaml").write_text(TEXT)
    for name in ("m.onnx", "r.yaml"):
        os.utime(name, (1, 1))
    return Optc(capsys)


def test_a_second_compile_says_that_nothing_was_run(optc: Optc) -> None:
    code, first, _ = optc("compile", "r.yaml")
    assert code == 0
    assert "unchanged" not in first
    code, second, _ = optc("compile", "r.yaml")
    assert code == 0
    assert "unchanged since an earlier compile: fetched from the cache" in second
    assert first.splitlines()[:-1] == second.splitlines()[:-2]
    assert "unchanged" not in optc("compile", "r.yaml", "--no-cache")[1]


def test_machines_are_told_one_line_per_artefact(optc: Optc) -> None:
    code, out, _ = optc("compile", "r.yaml", "--json-lines", "--depfile", "m.d")
    assert code == 0
    (line,) = map(json.loads, out.splitlines())
    assert (line["target"], line["model"]) == ("cascadelake", "build/m/cascadelake/model.onnx")
    assert (line["verified"], line["cached"]) == (True, False)
    assert Path(line["model"]).stat().st_size == line["bytes"]
    assert Path("m.d").read_text() == (
        "build/m/manifest.json: \\\n  r.yaml \\\n  m.onnx\n\nr.yaml:\n\nm.onnx:\n"
    )
    assert optc("compile", "r.yaml", "--quiet")[:2] == (0, "")
    data = json.loads(optc("compile", "r.yaml", "--json")[1])
    assert data["cached"] is True


def test_no_cache_leaves_nothing_behind(optc: Optc) -> None:
    assert optc("compile", "r.yaml", "--no-cache")[0] == 0
    assert not Path("cache").exists()


def test_stats_verify_clear(optc: Optc) -> None:
    assert optc("compile", "r.yaml", "--cache", "mine")[0] == 0
    code, out, _ = optc("cache", "stats", "--cache", "mine")
    assert code == 0
    assert out.startswith("mine: ")
    assert "verification" in out
    stats = json.loads(optc("cache", "stats", "--cache", "mine", "--json")[1])
    assert stats["kinds"]["result"]["entries"] == 1
    assert stats["limit"] == 5 << 30
    code, out, _ = optc("cache", "verify", "--cache", "mine")
    assert (code, out) == (0, f"mine: {stats['entries']} entries, 0 damaged\n")
    Cache("mine").put("graph", digest_of(1), b"x")
    path = Path("mine/v1/graph") / digest_of(1)[:2] / digest_of(1)
    path.write_bytes(path.read_bytes() + b"y")
    code, out, _ = optc("cache", "verify", "--cache", "mine")
    assert code == 1
    assert out.splitlines()[0] == f"damaged, removed: {path.relative_to('mine')}"
    code, out, _ = optc("cache", "clear", "--cache", "mine")
    assert (code, out) == (0, f"mine: removed {stats['entries']} entries\n")
    assert optc("cache", "stats", "--cache", "mine")[1].startswith("mine: 0 entries")


def test_what_is_wrong_with_a_cache_is_said(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = optc("compile", "r.yaml", "--cache-size", "much")
    assert code == 1
    assert "'much' is no size" in err
    code, _, err = optc("compile", "r.yaml", "--cache", "r.yaml")
    assert code == 1
    assert "there is a file where the cache should be" in err
    monkeypatch.setenv("OPTC_CACHE_DIR", "off")
    code, _, err = optc("cache", "stats")
    assert code == 1
    assert "there is no cache" in err
    Path("locked").mkdir()
    Path("locked/v1").write_text("in the way")
    code, _, err = optc("compile", "r.yaml", "--cache", "locked")
    assert code == 0
    assert "warning: the cache: cannot write to locked" in err


def test_where_prints_folders(optc: Optc) -> None:
    code, out, _ = optc("where", "cmake")
    assert code == 0
    assert (Path(out.strip()) / "optcConfig.cmake").is_file()
    data = json.loads(optc("where", "bazel", "--example", "--json")[1])
    assert (Path(data["folder"]) / "BUILD.bazel").is_file()
    assert optc("where", "scons")[0] == 2


def test_fetching_loads_no_runtime(optc: Optc, monkeypatch: pytest.MonkeyPatch) -> None:
    assert optc("compile", "r.yaml")[0] == 0
    monkeypatch.setitem(sys.modules, "optc.driver", None)
    assert optc("compile", "r.yaml")[0] == 0
