"""Models that other tools have quantized go through all passes unchanged in meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optc
from optc.ir.ops import Trait, info
from optc.numerics.compare import compare_outputs
from optc.numerics.evaluate import open_session
from optc.numerics.quantization_noise import kernel_bounds, roundings
from optc.targets import host_capabilities

FOLDER = Path(__file__).with_name("quantized")
MODELS = sorted(path.stem for path in FOLDER.glob("*.onnx"))
FORMS = {"nncf", "onnxruntime_dynamic", "onnxruntime_qdq", "onnxruntime_qoperator"}


def feeds() -> list[dict[str, Any]]:
    draws = (np.random.default_rng(seed) for seed in range(4))
    return [{"x": draw.standard_normal((1, 3, 16, 16)).astype(np.float32)} for draw in draws]


def quantizers(path: Path) -> int:
    graph = optc.load_model(path)
    return sum(info(node).has(Trait.QUANTIZE) for node in graph.nodes())


def test_there_are_models_of_every_form() -> None:
    assert set(MODELS) >= FORMS | {"nncf_transformer", "onnxruntime_qdq_s8"}


@pytest.mark.parametrize("preset", ["fp32", "int8"])
@pytest.mark.parametrize("model", MODELS)
def test_all_passes_keep_what_it_computes(model: str, preset: str, tmp_path: Path) -> None:
    """As it is written, rounding by rounding, before and after.

    Preset fp32 moves and drops operations of these models, and none rounds otherwise: the same
    bits. Preset int8 makes one rounding of two where it can, which differs as kernels may.
    """
    source = FOLDER / f"{model}.onnx"
    recipe = {
        "schema_version": 1,
        "model": str(source),
        "targets": ["cascadelake"],
        "pipeline": {"preset": preset},
        "output": str(tmp_path / "out"),
    }
    result = optc.compile(recipe).artifacts["cascadelake"].model
    if preset == "fp32":
        assert 0 < quantizers(result) <= quantizers(source)
    counts = roundings(optc.load_model(source))
    before, after = (open_session(path, optimize="none") for path in (source, result))
    for sample in feeds():
        expected, actual = before.run(sample)["y"], after.run(sample)["y"]
        if preset == "fp32":
            np.testing.assert_array_equal(np.asarray(actual), np.asarray(expected))
            continue
        bounds = kernel_bounds({}, {"y": expected}, {"y": expected}, counts)
        assert compare_outputs({"y": expected}, {"y": actual}, bounds).passed


@pytest.mark.parametrize("model", [name for name in MODELS if "qdq" in name or "nncf" in name])
def test_openvino_takes_them_too(model: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    recipe = {
        "schema_version": 1,
        "model": str(FOLDER / f"{model}.onnx"),
        "targets": ["cascadelake"],
        "runtime": "openvino",
        "emit": {"format": "openvino"},
        "output": str(tmp_path / "out"),
    }
    artifact = optc.compile(recipe).artifacts["cascadelake"]
    assert artifact.verification is not None
    assert artifact.verification.comparison.passed
    assert artifact.precision["Conv"]["int8"] >= 2


@pytest.mark.parametrize("model", ["onnxruntime_qdq", "nncf"])
def test_saturation_of_a_model_as_it_came_is_told(model: str, tmp_path: Path) -> None:
    recipe = {
        "schema_version": 1,
        "model": str(FOLDER / f"{model}.onnx"),
        "targets": ["skylake"],
        "output": str(tmp_path / "out"),
    }
    result = optc.compile(recipe)
    told = [text for text in result.warnings if "may saturate on skylake" in text]
    assert len(told) == 1
    if "vnni" not in host_capabilities():
        assert any("compared as they are written" in text for text in result.warnings)
