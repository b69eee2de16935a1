"""equalize-channels: exact rescaling of channels between convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.rescaled import outliers, run, uneven
from optc.ir.text import print_graph

CONVS = """agraph (float[1,3,8,8] x) => (float[1,5,8,8] y)
   <float[6,3,3,3] w, float[6] c, float[5,6,3,3] v> {
   a = Conv <pads=[1,1,1,1]> (x, w, c)
   r = Relu(a)
   y = Conv <pads=[1,1,1,1]> (r, v)
}"""


def test_channels_between_convolutions() -> None:
    graph = uneven(uneven(filled_graph(CONVS), "w", 1), "c", 1)
    result, before, after = run(graph, outliers((1, 3, 8, 8), 1))
    assert result.counts == {"rescale": 1}
    assert sorted(node.op_type for node in graph.nodes()) == ["Conv", "Conv", "Relu"]
    assert (
        result.decisions[0].figures["sqnr_db_after"]
        > (result.decisions[0].figures["sqnr_db_before"])
    )
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-2)


@pytest.mark.parametrize("between", ["Sigmoid", "Tanh"])
def test_factors_do_not_cross_what_is_not_homogeneous(between: str) -> None:
    graph = uneven(filled_graph(CONVS.replace("Relu", between)), "w", 1)
    text = print_graph(graph)
    result, _, _ = run(graph, outliers((1, 3, 8, 8), 1), min_gain=0.0, alphas=(0.9, 0.1))
    assert not result.changed
    assert print_graph(graph) == text


def test_depthwise_convolutions() -> None:
    text = CONVS.replace("float[5,6,3,3] v", "float[6,1,3,3] v").replace(
        "y = Conv <pads=[1,1,1,1]> (r, v)", "y = Conv <pads=[1,1,1,1], group=6> (r, v)"
    )
    text = text.replace("float[1,5,8,8] y", "float[1,6,8,8] y")
    graph = uneven(uneven(filled_graph(text), "w", 1), "c", 1)
    result, before, after = run(graph, outliers((1, 3, 8, 8), 1))
    assert result.changed
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-2)
