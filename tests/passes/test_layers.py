"""Linear operations as matrix products: rows and matrices give what the operation gives."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.observing import SampleObserver
from optc.passes.layers import ROWS, Layer, layer_of, observe_layers, outputs_of

CASES = {
    "conv": ("[1,4,6,6]", "[6,4,3,3]", "Conv <pads=[1,1,1,1]> (x, w)"),
    "groups": ("[2,4,6,6]", "[6,2,3,3]", "Conv <pads=[1,1,1,1], group=2> (x, w)"),
    "depthwise": ("[1,4,6,6]", "[4,1,3,3]", "Conv <pads=[1,1,1,1], group=4> (x, w)"),
    "dilated": ("[1,4,6,6]", "[6,4,3,3]", "Conv <pads=[2,2,2,2], dilations=[2,2]> (x, w)"),
    "one axis": ("[1,4,9]", "[6,4,5]", "Conv <pads=[2,2]> (x, w)"),
    "matmul": ("[3,5,4]", "[4,6]", "MatMul(x, w)"),
    "gemm": ("[5,4]", "[4,6]", "Gemm(x, w)"),
    "gemm transposed": ("[5,4]", "[6,4]", "Gemm <transB=1> (x, w)"),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_times_matrix_is_the_operation(case: str) -> None:
    data, weight, call = CASES[case]
    graph = filled_graph(f"agraph (float{data} x) => (y) <float{weight} w> {{ y = {call} }}")
    (node,) = graph.nodes()
    layer = layer_of(graph, node)
    assert isinstance(layer, Layer)
    shape = [int(size) for size in data.strip("[]").split(",")]
    x = np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32)
    (result,) = SampleObserver([{"x": x}]).outputs(graph)
    got = outputs_of(layer.rows(x, 10_000), layer.matrix)
    if layer.spatial:
        result = np.moveaxis(result, 1, -1)
    np.testing.assert_array_equal(
        got.reshape(-1, got.shape[1] * got.shape[2]), result.reshape(-1, result.shape[-1])
    )
    assert len(layer.rows(x, 7)) <= 7
    channels = np.arange(4)
    first = layer.by_channel(channels)
    assert first.shape == layer.matrix.shape[:2]
    assert first[0, 0] == 0
    assert first[-1, -1] == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("agraph (float[2,4] x, float[4,3] w) => (y) { y = MatMul(x, w) }", "is constant"),
        ("agraph (float[4,2] x) => (y) <float[3,4] w> { y = MatMul(w, x) }", "this form"),
        ("agraph (float[4,2] x) => (y) <float[4,3] w> { y = Gemm <transA=1> (x, w) }", "Gemm"),
        ("agraph (float[4,2] x) => (y) { y = Relu(x) }", "no linear operation"),
        ("agraph (double[2,4] x) => (y) <double[4,3] w> { y = MatMul(x, w) }", "f64"),
    ],
)
def test_what_is_no_layer(text: str, reason: str) -> None:
    graph = filled_graph(text)
    found = layer_of(graph, next(iter(graph.nodes())))
    assert isinstance(found, str)
    assert reason in found


def test_rows_are_bounded_and_stand_for_all_samples() -> None:
    graph = filled_graph("agraph (float[100,4] x) => (y) <float[4,6] w> { y = MatMul(x, w) }")
    (node,) = graph.nodes()
    layer = layer_of(graph, node)
    assert isinstance(layer, Layer)
    samples = [{"x": np.full((100, 4), i, np.float32)} for i in range(40)]
    seen = observe_layers(SampleObserver(samples), graph, [layer], "test")[node]
    assert ROWS / 4 < len(seen.rows) <= ROWS
    assert seen.rows.max() > 30
    assert seen.low.tolist() == [0.0] * 4
    assert seen.peaks.tolist() == [39.0] * 4
