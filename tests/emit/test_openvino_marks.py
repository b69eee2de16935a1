"""Marks that keep operations in fp32 under the hint bf16: which hold, and which get lost."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import graph_from_text
from optc.emit.openvino import save_ir
from optc.ir.ops import OPS
from optc.passes import InferShapes, PassContext
from optc.targets import host_capabilities, load_runtime
from optc.versions import library_version

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None or "avx512" not in host_capabilities(),
    reason="needs OpenVINO, and AVX-512 for bf16, if only to be emulated",
)

# Each between products that are computed in bf16.
HEAD = '<ir_version: 8, opset_import: ["" : 18]>'
IMAGES = (
    HEAD
    + """
g (float[1,8,16,16] x) => (float[?,?,?,?] y)
<float[8,8,1,1] k = {{{kernel}}}, float[1] fill = {{0.5}}, int64[8] pads = {{0,0,1,1,0,0,1,1}},
 float[4] scales = {{1.0, 1.0, 2.0, 2.0}}, int64[4] sizes = {{1, 8, 24, 24}},
 int64[4] shape = {{4, 8, 16, 16}}>
{{ a = Conv (x, k)  {body}  y = Conv (r, k) }}
"""
)
ROWS = (
    HEAD
    + """
g (float[16,16] x) => (float[?,?] y)
<float two = {{2.0}}, float[16] g = {{{ones}}}, float[16,16] v = {{{matrix}}},
 float[16,16] w = {{{matrix}}}, float[32,16] u = {{{matrix}, {matrix}}}>
{{ a = MatMul (x, v)  b = MatMul (x, w)  {body}  y = MatMul (r, w) }}
"""
)
PIXELS = {
    "MaxPool": "[it] r = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a)",
    "Pad": "[it] r = Pad (a, pads, fill)",
    "Expand": "[it] r = Expand (a, shape)",
    "Resize nearest": '[it] r = Resize <mode = "nearest"> (a, , scales)',
    "Resize linear": '[it] r = Resize <mode = "linear"> (a, , , sizes)',
    "Resize cubic": '[it] r = Resize <mode = "cubic", coordinate_transformation_mode = '
    '"align_corners"> (a, , scales)',
    "AveragePool": "[it] r = AveragePool <kernel_shape = [2, 2]> (a)",
}
MATRICES = {
    "Softmax": "[it] r = Softmax (a)",
    "Reciprocal": "[it] r = Reciprocal (a)",
    "Exp": "[it] r = Exp (a)",
    "Mean": "[it] r = Mean (a, b)",
    "Mul": "[it] r = Mul (a, b)",
    "Div": "[it] r = Div (a, b)",
    "Sub": "[it] r = Sub (a, b)",
    "Div of a constant": "[it] r = Div (two, a)",
    # Next to a product these become part of it.
    "Div by a constant": "t = Softmax (a)  [it] s = Div (t, two)  r = Sin (s)",
    "Sub of a constant": "t = Softmax (a)  [it] s = Sub (t, two)  r = Sin (s)",
    "Sub from a constant": "t = Transpose (a)  [it] s = Sub (two, t)  r = Sin (s)",
    "LpNormalization": "[it] r = LpNormalization (a)",
    "LayerNormalization": "[it] r = LayerNormalization (a, g)",
}
LOST = {
    "Tile": "s = Constant <value_ints = [1, 2]> ()  [it] t = Tile (a, s)  r = MatMul (t, u)",
    "LogSoftmax": "[it] r = LogSoftmax (a)",
    "Einsum": '[it] r = Einsum <equation = "ij,kj->ik"> (a, b)',
}
UNMARKED = {"MaxPool", "Pad", "Expand", "Resize nearest", "Resize linear", "Div", "Sub", "Exp"}
"""Those that are told to be bf16 without a mark: some are part of another layer then."""


def text(name: str) -> str:
    draws = np.random.default_rng(0).standard_normal(256)
    numbers = [f"{number:.6f}" for number in draws]
    if name in PIXELS:
        return IMAGES.format(kernel=", ".join(numbers[:64]), body=PIXELS[name])
    body = (MATRICES | LOST)[name]
    return ROWS.format(body=body, matrix=", ".join(numbers), ones=", ".join(["1.0"] * 16))


def ran(path: Path, label: str) -> set[str]:
    """The precisions in which the layers of an operation run under the hint bf16."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "bf16"}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return {
        info["runtimePrecision"].value
        for info in (op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops())
        for name in str(info["originalLayersNames"].value).split(",")
        if name.partition("/")[0] == label and info["layerType"].value != "Const"
    }


def outputs(path: Path, feeds: dict[str, Any]) -> Any:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(path), "CPU", options)(feeds)[0]


@pytest.mark.parametrize("name", [*PIXELS, *MATRICES, *LOST])
def test_marks_hold_but_for_those_that_are_listed(name: str, tmp_path: Path) -> None:
    graph = graph_from_text(text(name))
    InferShapes().apply(graph, PassContext())
    (node,) = (node for node in graph.nodes() if node.name == "it")
    (marked, _) = save_ir(graph, tmp_path / "marked.xml", keep_f32=[node])
    (free, _) = save_ir(graph, tmp_path / "free.xml")
    if name in UNMARKED:
        assert "bf16" in ran(free, "it")
    version = library_version("openvino")
    is_lost = load_runtime("openvino").loses_mark(node.op_type, version)
    if not is_lost or name in LOST:  # older versions keep some of those that they may lose
        assert ("bf16" if is_lost else "f32") in ran(marked, "it")
    # What was written in its place computes the same.
    rng = np.random.default_rng(1)
    shape = (1, 8, 16, 16) if name in PIXELS else (16, 16)
    feeds = {"x": rng.standard_normal(shape).astype(np.float32)}
    a, b = outputs(free, feeds), outputs(marked, feeds)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * float(np.abs(a).max()))


def test_listed_operators_exist_and_the_newest_version_loses_those_that_were_tried() -> None:
    known = {name for domain, name in OPS if not domain}
    runtime = load_runtime("openvino")
    assert {op for entry in runtime.lost_marks for op in entry.ops} <= known
    assert {op for op in known if runtime.loses_mark(op)} == set(LOST)
    assert runtime.loses_mark("Exp", "2025.4.1")
    assert not runtime.loses_mark("Exp", "2026.4.1")
