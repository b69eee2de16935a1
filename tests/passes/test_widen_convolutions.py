"""widen-convolutions: convolutions over one axis become convolutions over images of one row."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.widen_convolutions import WidenConvolutions


def typed(text: str) -> Graph:
    """The graph of a text with all types inferred, as the pass finds it in a pipeline."""
    graph = graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    return graph


def assert_why(text: str, reason: str) -> None:
    result = run_pass(WidenConvolutions(), typed(text))
    assert not result.changed
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == [reason]


BODY = """
{
  c = Conv <pads = [1,0], strides = [2]> (x, w, b)
  m = Mul (c, s)
  e = Elu (m)
  p = AveragePool <kernel_shape = [2]> (e)
  y = Add (p, t)
}
"""


@pytest.mark.parametrize("opset", [11, 13])
def test_a_network_is_widened_as_a_whole(opset: int) -> None:
    graph = typed(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,2,9] x) => (float[A,B,C] y)
        <float[2,2,3] w = {{1,2,3,4,5,6,7,8,9,10,11,12}}, float[2] b = {{1,-1}},
         float[2,1] s = {{0.5,-0.5}}, float[3] t = {{7,8,9}}>
        {BODY}
        """
    )
    source = clone(graph)
    result = run_pass(WidenConvolutions(), graph)
    assert dict(result.counts) == {"widen-convolution": 1}
    names = [node.op_type for node in graph.ordered()]
    assert names == ["Unsqueeze", "Conv", "Mul", "Elu", "AveragePool", "Add", "Squeeze"]
    assert graph.ordered()[1].get("pads") == (0, 1, 0, 0)
    feeds = seeded(source)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, strict=True
    )


def test_what_cannot_be_widened_says_why() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13]> g (float[N,2,8] x) => (float[A,B,C] y)'
    assert_why(
        header
        + """<float[2,2,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
        { [c] y = ConvTranspose <strides = [2], output_padding = [1]> (x, w) }""",
        "c: it has output_padding",
    )


def test_images_are_left_alone() -> None:
    graph = typed(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N,1,8,8] x) => (float[A,B,C,D] y) <float[1,1,1,2] w = {1,2}>
        { y = Conv (x, w) }
        """
    )
    assert not run_pass(WidenConvolutions(), graph).changed
