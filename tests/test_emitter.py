"""Compiling to OpenVINO IR: the output folder, verification, what is refused before any work."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import optc
from optc.errors import CapabilityError, GoalMissed

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "recipes" / "quickstart"
IR: dict[str, Any] = {
    "schema_version": 1,
    "model": str(QUICKSTART / "mnist_mobilenet.onnx"),
    "targets": ["cascadelake", "sapphirerapids"],
    "runtime": "openvino",
    "emit": {"format": "openvino"},
    "data": {"validation": {"path": str(QUICKSTART / "mnist.npz"), "split": "test"}},
}


def saved(tmp_path: Path, text: str) -> str:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return str(path)


def test_the_folder_holds_the_ir_and_its_options(tmp_path: Path) -> None:
    result = optc.compile(IR, output=tmp_path / "out")
    for name in ("cascadelake", "sapphirerapids"):
        folder = tmp_path / "out" / name
        assert result.artifacts[name].model == folder / "model.xml"
        assert sorted(p.name for p in folder.iterdir()) == [
            "graph.txt",
            "launch",
            "model.bin",
            "model.xml",
            "report.html",
            "report.json",
        ]
        options = json.loads((folder / "launch" / "runtime.json").read_text())
        assert options["model"] == "model.xml"
        assert options["properties"]["INFERENCE_PRECISION_HINT"] == "f32"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert "openvino" in manifest["versions"]
    assert {"cascadelake/model.xml", "cascadelake/model.bin"} <= manifest["files"].keys()
    again = optc.compile(IR, output=tmp_path / "again")
    assert again.manifest["files"] == result.manifest["files"]


def test_it_runs_as_its_launch_config_says(tmp_path: Path) -> None:
    result = optc.compile({**IR, "targets": ["cascadelake"]}, output=tmp_path / "out")
    compiled = optc.runtime.load(result.artifacts["cascadelake"].folder)
    image = np.load(QUICKSTART / "mnist.npz")["test:image"][:1].reshape(1, 1, 32, 32)
    assert compiled({"image": image})[0].shape == (1, 10)


@pytest.mark.parametrize("weights", ["f16", "bf16"])
def test_stored_weights_widen_the_derived_bound(weights: str, tmp_path: Path) -> None:
    recipe = {**IR, "targets": ["clx"], "emit": {"format": "openvino", "weights": weights}}
    found = optc.compile(recipe, output=tmp_path / "out").artifacts["cascadelake"].verification
    assert found is not None
    (output,) = found.comparison.outputs
    assert output.passed
    assert output.relative > 1e-5  # the rounding of the weights shows, and is within its bound
    assert 0.0 < output.used < 0.5
    exact = {**recipe, "verify": {"rtol": 1e-5}}
    with pytest.raises(GoalMissed, match="the difference begins with the emitter"):
        optc.compile(exact, output=tmp_path / "exact")
    assert not (tmp_path / "exact").exists()


def test_bounds_reach_the_emitted_inputs(tmp_path: Path) -> None:
    import openvino

    recipe = {**IR, "inputs": {"image": {"shape": ["1..8", 1, 32, 32]}}, "targets": ["clx"]}
    result = optc.compile(recipe, output=tmp_path / "out")
    model = openvino.Core().read_model(result.artifacts["cascadelake"].model)
    assert str(model.inputs[0].get_partial_shape()) == "[1..8,1,32,32]"


def test_keep_fp32_marks_nodes_and_says_what_it_does_not_find(tmp_path: Path) -> None:
    emit = {"format": "openvino", "keep_fp32": [{"op": "Gemm"}, "no/such/node"]}
    result = optc.compile({**IR, "emit": emit, "targets": ["clx"]}, output=tmp_path / "out")
    assert 'name="precise"' in result.artifacts["cascadelake"].model.read_text()
    assert "emit.keep_fp32: no node fits name 'no/such/node'" in result.warnings


REJECTED = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[2,2] x, float[3,3] z) => (float a, float b)
{ [first] a = Det (x)  [second] b = Det (z) }
"""


def test_what_cannot_be_converted_is_refused_by_node_when_planned(tmp_path: Path) -> None:
    recipe = {**IR, "model": saved(tmp_path, REJECTED), "data": {}}
    for call in (optc.plan, lambda r: optc.compile(r, output=tmp_path / "out")):
        with pytest.raises(CapabilityError) as caught:
            call(recipe)
        assert caught.value.code == "not-convertible"
        lines = caught.value.message.splitlines()
        assert lines[0] == "OpenVINO IR cannot hold 2 operations of the graph"
        assert lines[1].startswith("  first (Det): OpenVINO has no conversion rule")
        assert "instead: " in lines[1]
    assert not (tmp_path / "out").exists()
    onnx_recipe = {**recipe, "runtime": "onnxruntime", "emit": {}}
    assert optc.plan(onnx_recipe).targets.keys() == {"cascadelake", "sapphirerapids"}


def test_a_runtime_that_is_missing_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optc.launch.engines.library_version", lambda name: None)
    with pytest.raises(CapabilityError) as caught:
        optc.plan(IR)
    assert caught.value.code == "runtime-missing"
    monkeypatch.setattr("optc.launch.engines.library_version", lambda name: "2024.6.0")
    with pytest.raises(CapabilityError) as caught:
        optc.plan(IR)
    assert caught.value.code == "runtime-too-old"


HARDSWISH = """
<ir_version: 8, opset_import: ["" : 12]>
g (float[2,4] x) => (float[2,4] y)
{ s = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)  y = Mul (x, s) }
"""


def test_the_result_is_lowered_for_its_runtime(tmp_path: Path) -> None:
    recipe = {**IR, "model": saved(tmp_path, HARDSWISH), "data": {}, "targets": ["clx"]}
    optc.compile(recipe, output=tmp_path / "out")
    assert "optc::HardSwish" in (tmp_path / "out" / "cascadelake" / "graph.txt").read_text()
    assert 'type="HSwish"' in (tmp_path / "out" / "cascadelake" / "model.xml").read_text()
    other = {**recipe, "runtime": "onnxruntime", "emit": {}}
    optc.compile(other, output=tmp_path / "other")
    assert "HardSigmoid" in (tmp_path / "other" / "cascadelake" / "graph.txt").read_text()


def test_int8_on_a_cpu_without_vnni_is_judged_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """255 x 127 twice is beyond 16 bits: kernels without VNNI would saturate."""
    ones = ", ".join(["127"] * 64)
    text = f"""
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[1,64] x) => (float[1,1] y)
    <int8[64,1] w = {{{ones}}}, float s = {{1}}, uint8 z = {{0}}, int8 n = {{0}}>
    {{
      q = QuantizeLinear (x, s, z)
      a = DequantizeLinear (q, s, z)
      b = DequantizeLinear (w, s, n)
      y = MatMul (a, b)
    }}
    """
    recipe = {**IR, "model": saved(tmp_path, text), "targets": ["clx"]}
    recipe |= {"data": {}, "inputs": {"x": {"range": [255, 255]}}}
    without = frozenset({"avx2"})
    monkeypatch.setattr("optc.verification.host_capabilities", lambda: without)
    result = optc.compile(recipe, output=tmp_path / "out")
    assert any("this CPU has no VNNI" in text for text in result.warnings)
    report = (tmp_path / "out" / "cascadelake" / "report.json").read_text()
    assert "VNNI" not in report  # what depends on the building machine stays out
