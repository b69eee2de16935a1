"""smooth-activations: exact rescaling of what matrix products multiply."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.observing import SampleObserver
from helpers.rescaled import outliers, run, uneven
from optc.ir.text import print_graph
from optc.passes import EqualizeChannels, SmoothActivations
from optc.passes.base import PassContext

NORM = """agraph (float[4,16] x) => (float[4,8] y)
   <float[16] g, float[16] b, float[16,8] w> {
   n = LayerNormalization <axis=-1> (x, g, b)
   y = MatMul(n, w)
}"""
SHARED = """agraph (float[4,16] x) => (float[4,16] y)
   <float[16] g, float[16] b, float[16,16] w> {
   n = LayerNormalization <axis=-1> (x, g, b)
   m = MatMul(n, w)
   y = Add(m, n)
}"""


def test_factors_go_into_a_normalization_and_the_weight() -> None:
    graph = uneven(filled_graph(NORM), "g", 1)
    result, before, after = run(graph, outliers((4, 16), -1))
    assert result.changed
    assert result.counts == {"rescale": 1}
    assert {node.op_type for node in graph.nodes()} == {"LayerNormalization", "MatMul"}
    (decision,) = result.decisions
    assert "folded into what makes the data" in decision.reason
    assert decision.figures["sqnr_db_after"] > decision.figures["sqnr_db_before"] + 3
    for one, other in zip(before, after, strict=True):
        # Powers of two change no mantissa; the runtime may add up in another order: a few ulp.
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-4)


def test_data_that_is_used_elsewhere_gets_a_mul() -> None:
    graph = uneven(filled_graph(SHARED), "g", 1)
    text = print_graph(graph)
    result, before, after = run(graph, outliers((4, 16), -1))
    assert result.changed
    assert sorted(node.op_type for node in graph.nodes()) == [
        "Add",
        "LayerNormalization",
        "MatMul",
        "Mul",
    ]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-4)
    graph = uneven(filled_graph(SHARED), "g", 1)
    assert print_graph(graph) == text
    result, _, _ = run(graph, outliers((4, 16), -1), insert=False)
    assert not result.changed
    assert print_graph(graph) == text
    assert "n also feeds" in result.refusals[0].reason


def test_siblings_share_their_factors() -> None:
    text = NORM.replace("y = MatMul(n, w)", "p = MatMul(n, w) q = MatMul(n, v) y = Add(p, q)")
    text = text.replace("float[16,8] w>", "float[16,8] w, float[16,8] v>")
    graph = uneven(filled_graph(text), "g", 1)
    result, before, after = run(graph, outliers((4, 16), -1))
    assert result.counts == {"rescale": 2}
    assert not any(node.is_op("Mul") for node in graph.nodes())
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-4)


def test_even_channels_gain_too_little() -> None:
    graph = filled_graph(NORM)
    text = print_graph(graph)
    result, _, _ = run(graph, outliers((4, 16), 0), min_gain=6.0)
    assert not result.changed
    assert print_graph(graph) == text
    assert "less than 6" in result.refusals[0].reason


def test_data_that_is_not_finite_is_refused() -> None:
    graph = filled_graph(NORM)
    sample = np.full((4, 16), np.inf, np.float32)
    step = SmoothActivations()
    result = step.apply(graph, PassContext(observer=SampleObserver([{"x": sample}])))
    assert not result.changed
    assert "not finite" in result.refusals[0].reason


@pytest.mark.parametrize("kind", [SmoothActivations, EqualizeChannels])
def test_without_an_observer_nothing_is_done(
    kind: type[SmoothActivations | EqualizeChannels],
) -> None:
    graph = filled_graph(NORM)
    assert not kind().apply(graph, PassContext()).changed
