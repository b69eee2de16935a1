"""orient-convolutions: one column of places becomes one row, with all that stands between."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.ir.text import print_graph
from optc.passes import InferShapes, PassContext
from optc.passes.orient_convolutions import OrientConvolutions


def typed(text: str) -> Graph:
    """The graph of a text with all types inferred, as the pass finds it in a pipeline."""
    graph = graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    return graph


def assert_why(text: str, reason: str) -> None:
    result = run_pass(OrientConvolutions(), typed(text))
    assert not result.changed
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == [reason]


BEFORE = """
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,2,8,1] x) => (float[N,2,3,1] y)
<float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[2] b = {1,-1}, float[2,1,1] s = {2,3}>
{
  [c] c = Conv <pads = [1,0,0,0], strides = [1,1], kernel_shape = [3,1]> (x, w, b)
  [r] r = Relu (c)
  [m] m = Mul (r, s)
  [p] y = MaxPool <kernel_shape = [3,1], strides = [2,2]> (m)
}
"""
EXPECTED = """
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,2,8,1] x) => (float[N,2,3,1] y)
<float[2,2,1,3] w = {1,2,3,4,5,6,7,8,9,10,11,12}, float[2] b = {1,-1}, float[2,1,1] s = {2,3}>
{
  x1 = Transpose <perm = [0,1,3,2]> (x)
  c = Conv <pads = [0,1,0,0], strides = [1,1], kernel_shape = [1,3]> (x1, w, b)
  r = Relu (c)
  m = Mul (r, s)
  p = MaxPool <kernel_shape = [1,3], strides = [2,2]> (m)
  y = Transpose <perm = [0,1,3,2]> (p)
}
"""


def test_a_network_is_turned_as_a_whole() -> None:
    graph = typed(BEFORE)
    source = clone(graph)
    result = run_pass(OrientConvolutions(), graph)
    assert dict(result.counts) == {"orient-convolution": 1}
    wanted = [
        line.partition(" : ")[0] for line in print_graph(graph_from_text(EXPECTED)).split("\n")
    ]
    assert [line.partition(" : ")[0] for line in print_graph(graph).split("\n")] == wanted
    feeds = seeded(source)
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-6)


KERNEL = "float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}"
BODIES = {
    "pad": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}, int64[8] pads = {0,0,2,0,0,0,1,0}>
      { p = Pad (x, pads)  y = Conv (p, w) }""",
    "residual": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
      { a = Conv <pads = [1,0,1,0]> (x, w)  b = Sigmoid (a)  y = Add (b, x) }""",
    "several results leave": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
      { a = Conv (x, w)  b = Relu (a)  c = ReduceMean <axes = [2]> (a)  y = Sub (b, c) }""",
    "dilation": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
      { y = Conv <dilations = [2,1], strides = [2,1]> (x, w) }""",
    "transposed": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
      { y = ConvTranspose <strides = [2,1], output_padding = [1,0]> (x, w) }""",
    "channels joined": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
      { a = Conv <pads = [1,0,1,0]> (x, w)  b = Concat <axis = 1> (a, x)  y = Relu (b) }""",
    "global pool": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
      { a = Conv <auto_pad = "VALID"> (x, w)  y = GlobalAveragePool (a) }""",
    "padded average": """
      <float[2,2,3,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
      { a = Conv (x, w)
        y = AveragePool <kernel_shape = [2,1], pads = [1,0,0,0], count_include_pad = 1> (a) }""",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_stands_between_is_taken_along(body: str) -> None:
    header = '<ir_version: 8, opset_import: ["" : 13]> g (float[N,2,8,1] x) => (float y)'
    header = header.replace("float y", "float[A,B,C,D] y")
    graph = typed(header + body)
    source = clone(graph)
    assert run_pass(OrientConvolutions(), graph).counts["orient-convolution"] == 1
    feeds = seeded(source)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-5, strict=True
    )


def test_rows_and_images_are_left_alone() -> None:
    for shape, kernel in (("N,2,1,8", "2,2,1,3"), ("N,2,8,8", "2,2,3,1"), ("N,2,8,1", "2,2,1,1")):
        count = np.prod([int(size) for size in kernel.split(",")])
        data = ",".join(["1"] * int(count))
        graph = typed(
            f"""
            <ir_version: 8, opset_import: ["" : 13]>
            g (float[{shape}] x) => (float[A,B,C,D] y)
            <float[{kernel}] w = {{{data}}}>
            {{ y = Conv (x, w) }}
            """
        )
        assert not run_pass(OrientConvolutions(), graph).changed


def test_what_cannot_be_turned_says_why() -> None:
    header = '<ir_version: 8, opset_import: ["" : 13]>'
    assert_why(
        f"""{header} g (float[N,2,8,1] x, float[2,2,3,1] w) => (float[A,B,C,D] y)
        {{ [c] y = Conv (x, w) }}""",
        "c: weight w is not constant",
    )
    assert_why(
        f"""{header} g (float[N,2,8,1] x) => (float[A,B,C,D] y) <{KERNEL}>
        {{ [c] y = Conv <auto_pad = "SAME_UPPER"> (x, w) }}""",
        "c: it pads by auto_pad",
    )
    assert_why(
        f"""{header} g (float[N,2,8,1] x) => (float[A,B,C,D] y, float[2,2,3,1] z) <{KERNEL}>
        {{ [c] y = Conv (x, w)  [i] z = Relu (w) }}""",
        "c: weight is shared by i",
    )
