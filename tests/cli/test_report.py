"""`optc report`: the page again, the manifest with it, and what is no output of optc."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import optc
from optc.cli import main
from optc.emit.folder import file_digest

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    recipe = {
        "schema_version": 1,
        "model": str(QUICKSTART / "mnist_mobilenet.onnx"),
        "targets": ["cascadelake", "sapphirerapids"],
    }
    result = optc.compile(recipe, output=out, verify=False)
    assert result.artifacts["cascadelake"].page == out / "cascadelake" / "report.html"
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


def test_it_is_written_as_the_compile_wrote_it(out: Path) -> None:
    page = out / "cascadelake" / "report.html"
    before, manifest = page.read_bytes(), (out / "manifest.json").read_bytes()
    page.unlink()
    assert main(["report", str(out / "cascadelake")]) == 0
    assert page.read_bytes() == before
    assert (out / "manifest.json").read_bytes() == manifest


def test_the_manifest_follows_what_was_changed(out: Path) -> None:
    report = out / "cascadelake" / "report.json"
    content = json.loads(report.read_text())
    content["warnings"] = ["seen by nobody before"]
    report.write_text(json.dumps(content))
    assert main(["report", str(out / "cascadelake")]) == 0
    page = out / "cascadelake" / "report.html"
    assert "seen by nobody before" in page.read_text()
    listed = json.loads((out / "manifest.json").read_text())["files"]
    assert listed["cascadelake/report.html"] == {
        "bytes": page.stat().st_size,
        "sha256": file_digest(page),
    }
    assert list(listed) == sorted(listed)


def test_it_can_lie_elsewhere(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out / "sapphirerapids")
    place = tmp_path / "page.html"
    assert main(["report", ".", "--output", str(place), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"page": str(place), "bytes": place.stat().st_size}
    assert place.read_bytes() == (out / "sapphirerapids" / "report.html").read_bytes()


def test_a_folder_alone_is_enough(out: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(out / "cascadelake", tmp_path / "alone" / "cascadelake"))
    shutil.rmtree(alone / "launch")
    assert main(["report", str(alone)]) == 0
    text = (alone / "report.html").read_text()
    assert "../sapphirerapids" not in text
    assert sorted(p.name for p in alone.parent.iterdir()) == ["cascadelake"]


def test_it_names_what_is_wrong(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(out)]) == 1
    assert "there is no report.json here" in capsys.readouterr().err
    page = (out / "cascadelake" / "report.html").read_bytes()
    (out / "cascadelake" / "report.json").write_text('{"name": "x"}')
    assert main(["report", str(out / "cascadelake"), "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "report-damaged"
    assert error["message"] == "this is no report of optc: it has no target"
    assert (out / "cascadelake" / "report.html").read_bytes() == page
    assert main(["report", str(out / "sapphirerapids"), "-o", str(tmp_path)]) == 1
    assert "cannot write" in capsys.readouterr().err
