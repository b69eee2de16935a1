"""split-outliers: channels with the largest values are computed apart, in fp32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.lowered import sqnr
from helpers.observing import SampleObserver
from helpers.rescaled import outliers, run
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes import InferShapes, QuantizeInt8, SplitOutliers
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from optc.ir import Graph

ONE = """agraph (float[4,64] x) => (float[4,8] y)
   <float[64,8] w> {
   y = MatMul(x, w)
}"""
TWO = """agraph (float[4,64] x) => (float[4,8] y, float[4,6] z)
   <float[64,8] w, float[64,6] v> {
   y = MatMul(x, w)
   z = MatMul(x, v)
}"""
GEMM = """agraph (float[4,64] x) => (float[4,8] y)
   <float[8,64] w, float[8] c> {
   y = Gemm <transB=1, alpha=0.5> (x, w, c)
}"""


def ops(graph: Graph) -> list[str]:
    return sorted(node.op_type for node in graph.nodes())


@pytest.mark.parametrize("text", [ONE, GEMM], ids=["MatMul", "Gemm"])
def test_the_result_is_the_same(text: str) -> None:
    graph = filled_graph(text)
    result, before, after = run(graph, outliers((4, 64), -1), SplitOutliers)
    assert result.changed
    assert result.counts == {"split": 1}
    small = ["Add", "Gather", "MatMul", "Mul"]
    assert ops(graph) == sorted([*small, "MatMul" if text is ONE else "Gemm"])
    (decision,) = result.decisions
    assert decision.precision == "fp32"
    assert decision.figures["channels"] == 1
    assert decision.figures["sqnr_db_after"] > decision.figures["sqnr_db_before"] + 20
    for one, other in zip(before, after, strict=True):
        # The sum is parted: each part is rounded, to 2^-24 of the largest term of about a thousand.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)


def test_int8_gains_what_was_predicted_and_the_large_channels_stay_fp32() -> None:
    source, observer = filled_graph(ONE), outliers((4, 64), -1, samples=8)
    split = clone(source)
    (decision,) = SplitOutliers().apply(split, PassContext(observer=observer)).decisions
    options = QuantizeInt8.Options.model_validate({"placement": "kernels"})
    noise = []
    for graph in (clone(source), split):
        context = PassContext(observer=observer)
        InferShapes().apply(graph, context)
        result = QuantizeInt8(options).apply(graph, context)
        assert result.counts
        noise.append(sqnr(source, graph, observer))
    predicted = decision.figures["sqnr_db_after"] - decision.figures["sqnr_db_before"]
    assert noise[1] - noise[0] == pytest.approx(predicted, abs=3)
    integers = [n for n in split.nodes() if n.is_op("MatMul") and _quantized(split, n)]
    assert len(integers) == 1
    reasons = {decided.reason for decided in result.decisions if decided.precision == "fp32"}
    assert any("split off to stay fp32" in reason for reason in reasons)


def _quantized(graph: Graph, node: object) -> bool:
    weight = graph.operand(node, 1)  # type: ignore[arg-type]
    return weight is not None and weight.node.is_op("DequantizeLinear")


def test_products_of_the_same_data_share_the_split() -> None:
    graph = filled_graph(TWO)
    result, before, after = run(graph, outliers((4, 64), -1), SplitOutliers)
    assert result.counts == {"split": 2}
    assert ops(graph) == ["Add", "Add", "Gather", *["MatMul"] * 4, "Mul"]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-3)


def test_even_channels_stay_together() -> None:
    graph = filled_graph(ONE)
    rng = np.random.default_rng(0)
    data = [{"x": rng.normal(size=(4, 64)).astype(np.float32)} for _ in range(4)]
    text = print_graph(graph)
    result, _, _ = run(graph, SampleObserver(data), SplitOutliers)
    assert not result.changed
    assert print_graph(graph) == text
    (refusal,) = result.refusals
    assert "less than 6" in refusal.reason


def test_data_that_is_not_finite() -> None:
    graph = filled_graph(ONE)
    data = [{"x": np.full((4, 64), np.inf, np.float32)}]
    result, _, _ = run(graph, SampleObserver(data), SplitOutliers)
    assert [refusal.reason for refusal in result.refusals] == ["its data is not finite, or empty"]


def test_no_more_channels_than_allowed_and_none_without_data() -> None:
    rng = np.random.default_rng(0)
    scale = np.where(np.arange(64) < 6, 100, 1)
    data = [{"x": (rng.normal(size=(4, 64)) * scale).astype(np.float32)} for _ in range(4)]
    graph = filled_graph(ONE)
    few, _, _ = run(graph, SampleObserver(data), SplitOutliers, max_share=0.05)
    assert not few.changed
    many, _, _ = run(graph, SampleObserver(data), SplitOutliers, max_share=0.125)
    assert many.decisions[0].figures["channels"] == 8
    assert not SplitOutliers().apply(filled_graph(ONE), PassContext()).changed
