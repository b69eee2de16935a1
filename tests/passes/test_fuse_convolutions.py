"""fuse-convolutions: two linear operations in a row become one where that takes less."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.passes.base import PassContext
from optc.passes.fuse_convolutions import FuseConvolutions
from optc.passes.infer_shapes import InferShapes

CASES = {
    "a pointwise convolution after another": (
        """g (float[1,3,8,8] x) => (float[1,4,3,3] y)
        <float[6,3,3,3] a, float[6] b, float[4,6,1,1] c, float[4] d>
        { u = Conv <strides = [2, 2], pads = [1, 1, 0, 0]> (x, a, b)
          y = Conv <strides = [2, 2]> (u, c, d) }""",
        "conv-conv",
    ),
    "and before one, with padding and no bias": (
        """g (float[1,2,4,4] x) => (float[1,3,4,4] y)
        <float[40,2,1,1] a, float[3,40,3,3] c, float[3] d>
        { u = Conv(x, a)  y = Conv <pads = [1, 1, 1, 1]> (u, c, d) }""",
        "conv-conv",
    ),
    "with a bias and no padding": (
        """g (float[1,2,4,4] x) => (float[1,3,2,2] y)
        <float[40,2,1,1] a, float[40] b, float[3,40,3,3] c>
        { u = Conv(x, a, b)  y = Conv(u, c) }""",
        "conv-conv",
    ),
    "one dimension": (
        """g (float[1,2,6] x) => (float[1,3,6] y) <float[8,2,1] a, float[3,8,1] c>
        { u = Conv(x, a)  y = Conv(u, c) }""",
        "conv-conv",
    ),
    "products, with both biases": (
        """g (float[N,3,2] x) => (float[N,3,4] y)
        <float[2,8] a, float[8] b, float[8,4] c, float[4] d>
        { s = MatMul(x, a)  t = Add(s, b)  u = MatMul(t, c)  y = Add(d, u) }""",
        "matmul-matmul",
    ),
    "Gemm with factors and a transposed weight": (
        """g (float[5,2] x) => (float[5,4] y) <float[2,8] a, float[8] b, float[4,8] c, float[4] d>
        { s = Gemm <alpha = 2.0, beta = 0.5> (x, a, b)
          y = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (s, c, d) }""",
        "matmul-matmul",
    ),
    "a product after a Gemm": (
        """g (float[5,2] x) => (float[5,4] y) <float[2,8] a, float[8] b, float[8,4] c>
        { s = Gemm(x, a, b)  y = MatMul(s, c) }""",
        "matmul-matmul",
    ),
}


@pytest.mark.parametrize(("text", "rule"), CASES.values(), ids=CASES)
def test_fuses(text: str, rule: str) -> None:
    graph = filled_graph(text)
    source = clone(graph)
    assert run_pass(FuseConvolutions(), graph).counts == {rule: 1}
    left = [node.op_type for node in graph.nodes() if node.op_type != "Add"]
    assert len(left) == 1
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    # Sums of at most 720 products below 16: twice that many roundings of 2^-24 of the sum.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], atol=2e-3, rtol=0, strict=True
    )


def test_a_chain_of_three() -> None:
    text = """g (float[5,2] x) => (float[5,3] y) <float[2,8] a, float[8,9] b, float[9,3] c>
    { s = MatMul(x, a)  t = MatMul(s, b)  y = MatMul(t, c) }"""
    graph = filled_graph(text)
    assert run_pass(FuseConvolutions(), graph).counts == {"matmul-matmul": 2}
    assert [node.op_type for node in graph.nodes()] == ["MatMul"]


REFUSALS = {
    "a bottleneck": (
        """g (float[5,8] x) => (float[5,8] y) <float[8,2] a, float[2,8] c>
        { s = MatMul(x, a)  y = MatMul(s, c) }""",
        "64 multiplications in place of 32",
    ),
    "sizes that are not known": (
        """g (float[1,2,H,W] x) => (float[1,3,H,W] y) <float[8,2,1,1] a, float[3,8,1,1] c>
        { u = Conv(x, a)  y = Conv(u, c) }""",
        "the number of multiplications is not known",
    ),
    "a result that is used elsewhere": (
        """g (float[5,2] x) => (float[5,4] y, float[5,8] z) <float[2,8] a, float[8,4] c>
        { s = MatMul(x, a)  y = MatMul(s, c)  [n] z = Neg(s) }""",
        "MatMul output also feeds n",
    ),
    "a result that is a graph output": (
        """g (float[5,2] x) => (float[5,4] y, float[5,8] s) <float[2,8] a, float[8,4] c>
        { s = MatMul(x, a)  y = MatMul(s, c) }""",
        "MatMul output is the graph output s",
    ),
    "a weight that is shared": (
        """g (float[5,8] x) => (float[5,8] y) <float[8,8] a>
        { s = MatMul(x, a)  [m] y = MatMul(s, a) }""",
        "weight is shared by m",
    ),
    "groups": (
        """g (float[1,2,4,4] x) => (float[1,3,4,4] y) <float[8,1,1,1] a, float[3,8,1,1] c>
        { [u] u = Conv <group = 2> (x, a)  y = Conv(u, c) }""",
        "u has groups",
    ),
    "two windows": (
        """g (float[1,2,8,8] x) => (float[1,3,4,4] y) <float[8,2,3,3] a, float[3,8,3,3] c>
        { u = Conv(x, a)  y = Conv(u, c) }""",
        "neither convolution is pointwise",
    ),
    "places that are left out": (
        """g (float[1,2,8,8] x) => (float[1,3,2,2] y) <float[8,2,1,1] a, float[3,8,3,3] c>
        { [u] u = Conv <strides = [2, 2]> (x, a)  y = Conv(u, c) }""",
        "u leaves places out",
    ),
    "padding by strides": (
        """g (float[1,2,8,8] x) => (float[1,3,4,4] y) <float[8,2,3,3] a, float[3,8,1,1] c>
        { [u] u = Conv <auto_pad = "SAME_UPPER"> (x, a)  y = Conv <strides = [2, 2]> (u, c) }""",
        "the padding of u depends on its strides",
    ),
    "a bias and a border": (
        """g (float[1,2,4,4] x) => (float[1,3,4,4] y)
        <float[8,2,1,1] a, float[8] b, float[3,8,3,3] c>
        { [u] u = Conv(x, a, b)  [v] y = Conv <pads = [1, 1, 1, 1]> (u, c) }""",
        "the bias of u does not reach the border of v",
    ),
    "a bias per row": (
        """g (float[5,2] x) => (float[5,4] y) <float[2,8] a, float[5,1] b, float[8,4] c>
        { s = Gemm(x, a, b)  y = MatMul(s, c) }""",
        "bias b is not one value per output",
    ),
    "a bias that is computed": (
        """g (float[5,2] x, float[8] b) => (float[5,4] y) <float[2,8] a, float[8,4] c>
        { s = Gemm(x, a, b)  y = MatMul(s, c) }""",
        "bias b is not constant",
    ),
    "several matrices": (
        """g (float[2,5,2] x) => (float[2,5,4] y) <float[2,2,8] a, float[8,4] c>
        { [s] s = MatMul(x, a)  y = MatMul(s, c) }""",
        "weight of s holds several matrices",
    ),
    "transposed data": (
        """g (float[2,5] x) => (float[5,4] y) <float[2,8] a, float[8,4] c>
        { [s] s = Gemm <transA = 1> (x, a)  y = MatMul(s, c) }""",
        "s has its data transposed",
    ),
    "a weight on the left": (
        """g (float[2,5] x) => (float[8,4] y) <float[8,2] a, float[5,4] c>
        { [s] s = MatMul(a, x)  y = MatMul(s, c) }""",
        "s has its weight on the left",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = run_pass(FuseConvolutions(), filled_graph(text))
    assert not result.changed
    assert [item.reason for item in result.refusals] == [reason]


@pytest.mark.parametrize(
    "text",
    [
        """g (float[5,2] x) => (float[5,4] y) <float[2,8] a, float[8,4] c>
        { s = MatMul(x, a)  t = Relu(s)  y = MatMul(t, c) }""",
        """g (float[5,2] x, float[2,8] a, float[8,4] c) => (float[5,4] y)
        { s = MatMul(x, a)  y = MatMul(s, c) }""",
        """g (float[1,2,4,4] x) => (float[1,3,4,4] y) <float[2,8,1,1] a, float[3,8,1,1] c>
        { s = ConvTranspose(x, a)  y = Conv(s, c) }""",
    ],
    ids=["an activation in between", "products of activations", "a ConvTranspose"],
)
def test_others_are_no_matches(text: str) -> None:
    result = run_pass(FuseConvolutions(), filled_graph(text))
    assert not result.changed
    assert not result.refusals
