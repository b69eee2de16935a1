"""quantize-int8 on models that come quantized: scales stay, what is missing is added."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.observed import decided, quantize
from helpers.pass_checks import run, seeded
from optc.ir import DType, Graph, clone
from optc.ir.text import print_graph

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
CONSTANTS = """
<float s = {0.02}, float t = {0.05}, uint8 z = {128}, uint8 zero = {0},
 float[2,2,1,1] w = {1,-2,3,0.5}, float[2] b = {0.25,-1}, float[2] huge = {1e9,1},
 int8[2,2,1,1] wq = {10,-20,30,5}, float ws = {0.1}, int8 wz = {0}>
"""
QUANTIZED = "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)"
WEIGHT = "wd = DequantizeLinear (wq, ws, wz)"
RESULT = "p = QuantizeLinear (c, t, z)  y = DequantizeLinear (p, t, z)"


def given(body: str, shape: str = "1,2,3,3") -> Graph:
    return graph_from_text(
        f"{HEAD} g (float[1,2,3,3] x) => (float[{shape}] y) {CONSTANTS} {{ {body} }}"
    )


def close(source: Graph, graph: Graph, tolerance: float) -> None:
    feeds = seeded(source)
    expected, found = run(source, feeds)["y"], run(graph, feeds)["y"]
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_a_complete_model_stays_as_it_is() -> None:
    graph = given(f"{QUANTIZED} {WEIGHT} c = Conv (d, wd) {RESULT}")
    before = clone(graph)
    result = quantize(graph)
    assert not result.changed
    assert decided(result)["c"][0] == "int8"
    assert len(graph) == len(before)


def test_weights_and_biases_in_floats() -> None:
    graph = given(f"{QUANTIZED} c = Conv (d, w, b) {RESULT}")
    source = clone(graph)
    result = quantize(graph)
    assert dict(result.counts) == {"quantize-weight": 1}
    assert decided(result)["c"][0] == "int8"
    types = {v.constant.dtype for v in graph.constants() if v.constant and v.constant.shape}
    assert types >= {DType.I8, DType.I32}
    assert "0.02" in print_graph(graph)
    # One step of the result, and half a step of weights of at most 3 on activations of at most 2.5.
    close(source, graph, 0.05 + 2 * 2.5 * 3 / 254)


def test_a_bias_in_floats_beside_integer_weights() -> None:
    graph = given(f"{QUANTIZED} {WEIGHT} c = Conv (d, wd, b) {RESULT}")
    source = clone(graph)
    result = quantize(graph)
    assert dict(result.counts) == {"quantize-bias": 1}
    assert decided(result)["c"][0] == "int8"
    close(source, graph, 0.0501)  # a step of the bias is 0.002, so an integer may tip over


def test_a_bias_that_does_not_fit() -> None:
    graph = given(f"{QUANTIZED} {WEIGHT} c = Conv (d, wd, huge) {RESULT}")
    result = quantize(graph)
    assert not result.changed
    assert [item.reason for item in result.refusals] == ["its bias huge does not fit into int32"]


def test_a_result_takes_the_scale_behind_operations_that_move_data() -> None:
    moved = "r = Reshape (c, shape)  p = QuantizeLinear (r, t, z)  y = DequantizeLinear (p, t, z)"
    graph = graph_from_text(
        f"""{HEAD} g (float[1,2,3,3] x) => (float[1,18] y)
        {CONSTANTS.replace("<float s", "<int64[2] shape = {1,18}, float s")}
        {{ {QUANTIZED} {WEIGHT} c = Conv (d, wd)  {moved} }}"""
    )
    source = clone(graph)
    result = quantize(graph)
    assert dict(result.counts) == {"quantize-result": 1}
    assert decided(result)["c"][0] == "int8"
    close(source, graph, 0.0)


def test_a_result_without_any_scale_is_calibrated_alone() -> None:
    graph = given(f"{QUANTIZED} {WEIGHT} c = Conv (d, wd)  y = Tanh (c)")
    source = clone(graph)
    result = quantize(graph)
    assert dict(result.counts) == {"quantize-result": 1}
    assert decided(result)["c"][0] == "int8"
    assert decided(result)["y"] == ("fp32", "the model comes quantized as it is to be")
    close(source, graph, 0.06)  # 255 steps over +-7.5
    # No scale is needed where a kernel gives floats.
    other = given(f"{QUANTIZED} {WEIGHT} c = Conv (d, wd)  y = Tanh (c)")
    assert not quantize(other, runtime="openvino").changed


def test_what_the_recipe_keeps_is_not_completed() -> None:
    graph = given(f"{QUANTIZED} c = Conv (d, w, b) {RESULT}")
    result = quantize(graph, keep=[{"op": "Conv"}])
    assert not result.changed
    assert decided(result)["c"] == ("fp32", "the recipe keeps op 'Conv'")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{QUANTIZED} y = Conv (x, w)  p = Identity (d)",
         "the model comes quantized, and leaves its operands in floats"),
        ("q = QuantizeLinear (x, s)  d = DequantizeLinear (q, s)  wu = QuantizeLinear (w, s, z) "
         "wd = DequantizeLinear (wu, s, z)  c = Conv (d, wd)  y = Tanh (c)", "is "),
    ],
)  # fmt: skip
def test_what_has_no_integer_kernel(body: str, reason: str) -> None:
    result = quantize(given(body))
    assert {d.precision for d in result.decisions} == {"fp32"}
    assert any(reason in item.reason for item in result.refusals)
