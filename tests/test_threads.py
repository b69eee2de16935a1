"""Eight threads compile eight recipes at once: the bytes of one after the other."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import optc
from optc.cache import Cache

ROOT = Path(__file__).resolve().parents[1]
MOBILENET = ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx"
RESNET = ROOT / "tests" / "models" / "mnist_resnet.onnx"
BOTH = ["cascadelake", "sapphirerapids"]
RECIPES: list[dict[str, Any]] = [
    {"model": str(MOBILENET), "targets": BOTH},
    {"model": str(RESNET), "targets": BOTH},
    {"model": str(MOBILENET), "targets": ["icelake"], "emit": {"opset": 20}},
    {"model": str(RESNET), "targets": ["skylake"], "pipeline": ["fold-batchnorm"]},
    {"model": str(MOBILENET), "targets": ["cooperlake"], "emit": {"domains": []}},
    {"model": str(RESNET), "targets": BOTH, "emit": {"external_data": "always"}},
    {"model": str(MOBILENET), "targets": BOTH, "pipeline": []},
    {"model": str(MOBILENET), "targets": BOTH},  # at the same time as the first one
]


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("cached", [False, True], ids=["", "one cache"])
def test_threads_make_what_one_makes(tmp_path: Path, cached: bool) -> None:
    recipes = [{"schema_version": 1, "verify": {"samples": 1}, **recipe} for recipe in RECIPES]
    cache = Cache(tmp_path / "cache") if cached else None
    for number, recipe in enumerate(recipes):
        optc.compile(recipe, output=tmp_path / "one" / str(number))
    failed: list[BaseException] = []
    ready = threading.Barrier(len(recipes))

    def work(number: int) -> None:
        try:
            ready.wait()
            out = tmp_path / "threads" / str(number)
            optc.compile(recipes[number], output=out, cache=cache)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(recipes))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    for number in range(len(recipes)):
        made = tree(tmp_path / "threads" / str(number))
        assert made == tree(tmp_path / "one" / str(number)), number
    assert tree(tmp_path / "threads" / "0") == tree(tmp_path / "threads" / "7")
