"""lower-affine: affine maps between convolutions become convolutions of one tap."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.lower_affine import LowerAffine


def typed(text: str) -> Graph:
    graph = graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    return graph


def model(body: str, channels: int = 16, opset: int = 13) -> Graph:
    """A body between the results `c` of a padded convolution and `a`, which another one takes."""
    taps = ",".join(str(0.01 * (i % 7)) for i in range(channels * channels * 9))
    values = ",".join(str(0.5 + 0.1 * i) for i in range(channels))
    return typed(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,{channels},5,5] x) => (float[N,{channels},5,5] y)
        <float[{channels},{channels},3,3] w = {{{taps}}}, float[{channels},1,1] v = {{{values}}},
         float s = {{0.25}}, float[5] r = {{1,2,3,4,5}}>
        {{
          c = Conv <pads = [1,1,1,1]> (x, w)
          {body}
          y = Conv <pads = [1,1,1,1]> (a, w)
        }}
        """
    )


@pytest.mark.parametrize(
    "body",
    [
        "[m] a = Add (c, s)",
        "[m] a = Add (v, c)",
        "h = HardSigmoid (c)  p = Mul (c, h)  [m] a = Add (p, s)",
        "[m] a = Mul (c, v)",
        "[m] a = Div (c, v)",
        "[m] a = Sub (v, c)",
        "[m] b = Sub (c, v)  a = Sigmoid (b)",
    ],
)
def test_the_convolution_computes_the_same(body: str) -> None:
    graph = model(body)
    source = clone(graph)
    result = run_pass(LowerAffine(), graph)
    assert dict(result.counts) == {"affine-convolution": 1}
    (made,) = (node for node in graph.nodes() if node.name == "m")
    assert made.is_op("Conv")
    assert made.get("group") == 16
    feeds = seeded(source, size=2)
    # One more rounding, of a product, in sums of 144 terms.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-5, strict=True
    )


@pytest.mark.parametrize(
    ("body", "channels", "reason"),
    [
        ("[m] a = Add (c, r)", 16, "m: the constant f32[5] is not one value per channel"),
        ("[m] a = Add (c, s)", 12, "m: 12 channels are not a multiple of 16"),
        ("[m] a = Div (s, c)", 16, "m: a constant divided by the data is not affine"),
        (
            "t = Transpose <perm = [0,1,3,2]> (c)  [m] a = Add (t, s)",
            16,
            "m: it is not applied to what a convolution or pool computes",
        ),
        (
            "[m] b = Add (c, s)  a = Transpose <perm = [0,1,3,2]> (b)",
            16,
            "m: no convolution or pool takes its result",
        ),
    ],
)
def test_what_stays_says_why(body: str, channels: int, reason: str) -> None:
    result = run_pass(LowerAffine(), model(body, channels))
    assert not result.changed
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == [reason]


def test_what_is_no_image_is_left_alone() -> None:
    graph = typed(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N,16] x) => (float[N,16] y) <float s = {2}> { a = Relu (x)  y = Add (a, s) }
        """
    )
    result = run_pass(LowerAffine(), graph)
    assert not result.changed
    assert not result.refusals
