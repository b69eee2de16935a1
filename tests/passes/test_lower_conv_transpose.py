"""lower-conv-transpose: a transposed convolution as a pointwise one and a DepthToSpace."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes
from optc.passes.lower_conv_transpose import LowerConvTranspose, LowerConvTransposeOptions

TEXT = """g (float[N,6,H,W] x) => (float[N,5,A,B] y) <float[6,5,2,2] a, float[5] b>
{ [c] y = ConvTranspose <strides = [2, 2]> (x, a, b) }"""


def _from(channels: int | None) -> LowerConvTranspose:
    return LowerConvTranspose(LowerConvTransposeOptions(channels=channels))


@pytest.mark.parametrize(
    "text",
    [TEXT, TEXT.replace(", b)", ")"), TEXT.replace("2,2]", "3,3]").replace("2, 2", "3, 3")],
    ids=["2x2", "without a bias", "3x3"],
)
def test_lowers(text: str) -> None:
    graph = filled_graph(text)
    source = clone(graph)
    assert run_pass(_from(6), graph).counts == {"pixel-shuffle": 1}
    assert [n.op_type for n in graph.ordered() if n.is_op("Conv", "DepthToSpace")] == [
        "Conv",
        "DepthToSpace",
    ]
    assert next(n for n in graph.nodes() if n.is_op("Conv")).name == "c"
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    # Sums of six products of quarters with normal numbers, in any order.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], atol=1e-5, rtol=0, strict=True
    )


REFUSALS = {
    "few channels": (TEXT, "6 channels; it pays from 7 on"),
    "blocks that overlap": (
        TEXT.replace("2,2] a", "4,4] a").replace("strides", "pads = [1, 1, 1, 1], strides"),
        "the blocks of c overlap or leave gaps",
    ),
    "blocks that are not square": (
        TEXT.replace("2,2] a", "2,3] a").replace("[2, 2]", "[2, 3]"),
        "its blocks are 2 by 3",
    ),
    "groups": (TEXT.replace("strides", "group = 2, strides"), "c has groups"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = run_pass(_from(7), filled_graph(text))
    assert not result.changed
    assert [item.reason for item in result.refusals] == [reason]


def test_without_a_number_nothing_is_asked() -> None:
    result = run_pass(_from(None), filled_graph(TEXT))
    assert not result.changed
    assert not result.refusals
