"""The hand-written documentation: what it shows is executed, and it builds without a warning."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import optc

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
WRITTEN = (
    "index.md",
    "first-minutes.md",
    "concepts.md",
    "how-to",
    "int8.md",
    "bf16.md",
    "comparison.md",
)
PAGES = [
    page
    for name in WRITTEN
    for page in (sorted((DOCS / name).glob("*.md")) if name == "how-to" else [DOCS / name])
]
INSTALLS = "python3 -m venv"  # tools/wheel_smoke.sh installs into an empty environment
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_works_in_its_order(page: Path, tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    seen = set()
    for kind, text in blocks(page):
        seen.add(kind)
        if kind == "yaml":
            recipe = yaml.safe_load(text)
            assert optc.load_recipe(recipe).pipeline
            if recipe.get("runtime") == "openvino":
                pytest.importorskip("openvino")
            (tmp_path / "recipe.yaml").write_text(text)
        elif kind in ("sh", "python") and not text.startswith(INSTALLS):
            words = ["sh", "-e", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            done = subprocess.run(
                words,
                cwd=tmp_path,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert seen <= {"sh", "python", "yaml"}


def test_every_page_shows_commands_or_links_to_some() -> None:
    assert {page.stem for page in PAGES if not blocks(page)} == {"concepts"}
    assert len(PAGES) >= 7


def test_what_a_newcomer_wants_is_three_clicks_from_the_first_page() -> None:
    wanted = {
        "compile": "optc compile",
        "query": "optc targets query",
        "golden": "optc golden check",
        "embed": "import optc",
        "report": "optc report",
    }
    near = {DOCS / "index.md"}
    for _ in range(2):
        near |= {target for page in near for target in _links(page)}
    for name, command in wanted.items():
        found = [page for page in near if any(command in text for _, text in blocks(page))]
        assert found, name


def _links(page: Path) -> set[Path]:
    links = re.findall(r"\]\(([^)#]+\.md)", page.read_text(encoding="utf-8"))
    return {found for link in links if (found := (page.parent / link).resolve()).is_file()}


@pytest.mark.slow
def test_it_builds_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    for name, make in import_module("generate").DOCUMENTS.items():
        if name.startswith("docs/"):
            (tmp_path / name).write_text(make(), encoding="utf-8")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", "site"]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # about the future of mkdocs, not of ours
    done = subprocess.run(words, cwd=tmp_path, env=quiet, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    text = (tmp_path / "site" / "index.html").read_text()
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', text)
    assert loaded == []
