"""Simulated saturation is that of the kernels, bit for bit, and `avoid` ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from helpers.quantized import CASES, STEP, Case, written_sums
from optc.frontend.onnx import load_model
from optc.numerics.evaluate import open_session
from optc.numerics.products import read_product
from optc.numerics.saturation import Product, find_saturation, safe_scales
from optc.saturating import find_saturating, saturates_without_vnni
from optc.simulation import SaturatingModel
from optc.targets import host_capabilities

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

CAPS = {"AVX2": ("avx2",), "AVX512_CORE": ("avx2", "avx512")}
DEPTHWISE = CASES[-1]


def save(case: Case, weights: npt.NDArray[np.int8], folder: Path, name: str = "model") -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(case.model(weights), path)
    return path


def safe_weights(case: Case) -> npt.NDArray[np.int8]:
    """The full-range weights on the coarser grid of `safe_scales`."""
    weights = case.full().astype(np.float32)
    scales = np.ones(weights.shape[case.axis], np.float32)
    product = _product(case)
    coarser = safe_scales(weights, scales, product)
    spread = coarser.reshape([-1 if i == case.axis else 1 for i in range(weights.ndim)])
    found: npt.NDArray[np.int8] = np.clip(np.rint(weights / spread), -128, 127).astype(np.int8)
    assert find_saturation(found, product) is None
    return found


def _product(case: Case) -> Product:
    settings = dict(case.attributes)
    return Product(
        case.op,  # type: ignore[arg-type]  # one of the three
        group=settings.get("group", 1),
        transposed=bool(settings.get("transB")),
    )


def simulate(path: Path, case: Case, runtime: str, cap: str) -> npt.NDArray[np.float64]:
    graph = load_model(path)
    found = find_saturating(graph, runtime, CAPS[cap])
    if found is None:
        outputs = open_session(path, optimize="none").run({"x": case.feed()})
    else:
        model = found.open()
        assert model is not None
        outputs = model.run({"x": case.feed()})
    return np.rint(np.asarray(outputs["y"], np.float64) / STEP)


RUN = """
import json, os, sys
import numpy as np, openvino as ov
core = ov.Core()
for model, feed, result in json.load(open(sys.argv[1])):
    compiled = core.compile_model(
        ov.convert_model(model), "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1},
    )
    np.save(result, compiled([np.load(feed)])[0])
"""


def run_openvino(jobs: list[tuple[Path, Case]], cap: str, folder: Path) -> list[Any]:
    """Outputs of models in OpenVINO, held at an instruction set, in a process of its own."""
    asked = []
    for number, (path, case) in enumerate(jobs):
        feed = folder / f"feed{number}.npy"
        np.save(feed, case.feed())
        asked.append([str(path), str(feed), str(folder / f"result{number}.npy")])
    (folder / "jobs.json").write_text(json.dumps(asked), encoding="utf-8")
    held = {"ONEDNN_MAX_CPU_ISA": cap, "OV_CPU_MAX_ISA": cap}
    subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "jobs.json")],
        env={**os.environ, **held},
        check=True,
        capture_output=True,
    )
    return [np.rint(np.load(item[2]).astype(np.float64) / STEP) for item in asked]


@pytest.mark.parametrize("cap", CAPS)
def test_agrees_with_openvino_bit_for_bit_and_avoid_ends_it(cap: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    if not set(CAPS[cap]) <= host_capabilities():
        pytest.skip(f"the CPU has no {cap}")
    full = [(save(c, c.full(), tmp_path, f"full{i}"), c) for i, c in enumerate(CASES)]
    safe = [(save(c, safe_weights(c), tmp_path, f"safe{i}"), c) for i, c in enumerate(CASES)]
    found = run_openvino([*full, *safe], cap, tmp_path)
    for (path, case), actual in zip(full, found, strict=False):
        expected = simulate(path, case, "openvino", cap)
        np.testing.assert_array_equal(actual, expected, err_msg=str(case))
        exact = written_sums(case, case.full())
        assert (actual != exact).any() == (case is not DEPTHWISE), case
    for (path, case), actual in zip(safe, found[len(full) :], strict=True):
        assert not saturates_without_vnni(load_model(path), "openvino")
        np.testing.assert_array_equal(actual, written_sums(case, safe_weights(case)))


@pytest.mark.skipif("vnni" in host_capabilities(), reason="kernels with VNNI do not saturate")
@pytest.mark.parametrize("case", [c for c in CASES if c.op == "MatMul"], ids=str)
def test_agrees_with_onnxruntime_bit_for_bit(case: Case, tmp_path: Path) -> None:
    path = save(case, case.full(), tmp_path)
    actual = open_session(path).run({"x": case.feed()})["y"]
    sums = np.rint(np.asarray(actual, np.float64) / STEP)
    np.testing.assert_array_equal(sums, simulate(path, case, "onnxruntime", "AVX2"))
    assert (sums != written_sums(case, case.full())).any()
    exact = save(case, safe_weights(case), tmp_path, "safe")
    sums = np.rint(np.asarray(open_session(exact).run({"x": case.feed()})["y"], np.float64) / STEP)
    np.testing.assert_array_equal(sums, written_sums(case, safe_weights(case)))


def test_products_behind_products_see_saturated_values(tmp_path: Path) -> None:
    """The second product reads what the first one, saturated, gives."""
    case = CASES[0]
    path = save(case, case.full(), tmp_path)
    model = onnx.load(path)
    extra = onnx.parser.parse_graph(
        """
        g (float[1,33] y) => (float[1,33] z) {
          yq = QuantizeLinear (y, ys, yz)
          yf = DequantizeLinear (yq, ys, yz)
          [second] z = MatMul (yf, vf)
        }
        """
    )
    weights = np.full((33, 33), 127, np.int8)
    for name, array in {
        "ys": np.float32(2.0**-7),
        "yz": np.uint8(0),
        "v": weights,
        "vs": np.float32(2.0**-8),
        "vz": np.int8(0),
    }.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["v", "vs", "vz"], ["vf"]))
    model.graph.node.extend(extra.node)
    model.graph.output[0].name = "z"
    onnx.save(model, path)
    graph = load_model(path)
    found = find_saturating(graph, "onnxruntime", ["avx2"])
    assert found is not None
    assert [risk.node.label for risk in found.risks] == ["product", "second"]
    simulated = SaturatingModel(found.graph, found.risks)
    assert simulated.simulated == ("product", "second")
    assert simulated.left_out == ()
    result = simulated.run({"x": case.feed()})
    first = SaturatingModel(found.graph, found.risks[1:]).run({"x": case.feed()})
    second = SaturatingModel(found.graph, found.risks[:1]).run({"x": case.feed()})
    plain = open_session(path, optimize="none").run({"x": case.feed()})
    assert len({np.asarray(r["z"]).tobytes() for r in (result, first, second, plain)}) == 4
    if "vnni" not in host_capabilities():
        kernels = open_session(path).run({"x": case.feed()})
        np.testing.assert_array_equal(kernels["z"], result["z"])


def test_nothing_saturates_with_vnni_or_without_int8(tmp_path: Path) -> None:
    case = CASES[0]
    graph = load_model(save(case, case.full(), tmp_path))
    assert find_saturating(graph, "onnxruntime", ["avx2", "vnni"]) is None
    assert find_saturating(graph, "onnxruntime", []) is None
    assert saturates_without_vnni(graph, "onnxruntime")
    depthwise = load_model(save(DEPTHWISE, DEPTHWISE.full(), tmp_path))
    assert not saturates_without_vnni(depthwise, "openvino")


def test_two_activations_have_no_weights_to_go_by(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[2,4] a, float[4,2] b) => (float[2,2] y)
        <float s = {0.1}, int8 z = {0}>
        {
          aq = QuantizeLinear (a, s, z)
          af = DequantizeLinear (aq, s, z)
          bq = QuantizeLinear (b, s, z)
          bf = DequantizeLinear (bq, s, z)
          [pair] y = MatMul (af, bf)
        }
        """
    )
    onnx.save(model, tmp_path / "pair.onnx")
    found = find_saturating(load_model(tmp_path / "pair.onnx"), "openvino", ["avx2"])
    assert found is not None
    assert [risk.reason for risk in found.risks] == ["both operands are activations"]
    big = {n: np.full(s, 9.0, np.float32) for n, s in {"a": (2, 4), "b": (4, 2)}.items()}
    simulated = found.open()
    assert simulated is not None
    # 90 + 128 = 218 against 90: two products are 39240, cut to 32767; then 128 times 90 goes off.
    sums = 2 * 32767 - 128 * 4 * 90
    found_sums = np.asarray(simulated.run(big)["y"])
    np.testing.assert_allclose(found_sums, np.full((2, 2), sums * 0.01), rtol=1e-6)


def test_what_is_not_understood_is_left_out(tmp_path: Path) -> None:
    case = CASES[0]
    path = save(case, case.full(), tmp_path)
    model = onnx.load(path)
    zero = next(i for i in model.graph.initializer if i.name == "wz")
    zero.CopyFrom(onnx.numpy_helper.from_array(np.full(33, 3, np.int8), "wz"))
    onnx.save(model, path)
    graph = load_model(path)
    found = find_saturating(graph, "onnxruntime", ["avx2"])
    assert found is not None
    assert found.risks[0].reason == "its operands are not understood"
    assert found.open() is None
    product = next(node for node in found.graph.nodes() if node.label == "product")
    assert read_product(found.graph, product) is None
