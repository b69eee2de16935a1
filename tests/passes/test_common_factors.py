"""common-factors: one product instead of two."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.pass_checks import assert_keeps, run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes.base import PassContext
from optc.passes.common_factors import CommonFactors
from optc.passes.infer_shapes import InferShapes

REWRITES = {
    "a computed factor": (
        """g (float[2,3] a, float[2,3] b, float[3] x) => (float[2,3] y)
        { p = Mul(a, x)  q = Mul(x, b)  y = Add(p, q) }""",
        """g (float[2,3] a, float[2,3] b, float[3] x) => (float[2,3] y)
        { p = Add(a, b)  y = Mul(p, x) }""",
        "sum-of-products",
    ),
    "equal constants, and a difference": (
        """g (float[2,3] a, float[2,3] b) => (float[2,3] y) <float c = {2}, float d = {2}>
        { p = Mul(a, c)  q = Mul(b, d)  y = Sub(p, q) }""",
        """g (float[2,3] a, float[2,3] b) => (float[2,3] y) <float c = {2}>
        { p = Sub(a, b)  y = Mul(p, c) }""",
        "sum-of-products",
    ),
    # RSELayer of PP-OCR: squeeze-and-excitation with a shortcut
    "gates of channels with a shortcut": (
        """g (float[1,2,H,W] x, float[1,2,1,1] b) => (float[1,2,H,W] y)
        { p = Mul(x, b)  y = Add(x, p) }""",
        """g (float[1,2,H,W] x, float[1,2,1,1] b) => (float[1,2,H,W] y) <float one = {1}>
        { p = Add(one, b)  y = Mul(x, p) }""",
        "sum-with-product",
    ),
    "a value less its product": (
        """g (float[2,3] x, float[3] b) => (float[2,3] y) { p = Mul(b, x)  y = Sub(x, p) }""",
        """g (float[2,3] x, float[3] b) => (float[2,3] y) <float one = {1}>
        { p = Sub(one, b)  y = Mul(x, p) }""",
        "sum-with-product",
    ),
    "a product less its value": (
        """g (float[2,3] x, float[3] b) => (float[2,3] y) { p = Mul(x, b)  y = Sub(p, x) }""",
        """g (float[2,3] x, float[3] b) => (float[2,3] y) <float one = {1}>
        { p = Sub(b, one)  y = Mul(x, p) }""",
        "sum-with-product",
    ),
    # scaled_dot_product_attention, torch.onnx.export of torch 2.13, both exporters
    "the root of the scale on both sides of scores": (
        """g (float[2,3] q, float[3,2] k) => (float[2,2] y) <float c = {0.5}, float d = {0.5}>
        { p = Mul(q, c)  r = Mul(k, d)  y = MatMul(p, r) }""",
        """g (float[2,3] q, float[3,2] k) => (float[2,2] y) <float c = {0.25}>
        { p = Mul(q, c)  y = MatMul(p, k) }""",
        "product-of-scaled",
    ),
}


@pytest.mark.parametrize(("before", "expected", "rule"), REWRITES.values(), ids=REWRITES)
def test_rewrites(before: str, expected: str, rule: str) -> None:
    graph = filled_graph(before)
    source = clone(graph)
    assert run_pass(CommonFactors(), graph).counts == {rule: 1}
    assert print_graph(graph) == print_graph(filled_graph(expected))
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    # Two products below 16 and a sum: three roundings of at most 2^-24 of 32.
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], atol=1e-5, rtol=0)


REFUSALS = {
    "no common factor": (
        """g (float[2] a, float[2] b, float[2] x, float[2] z) => (float[2] y)
        { p = Mul(a, x)  q = Mul(b, z)  y = Add(p, q) }""",
        "the products have no factor in common",
    ),
    "other factors of different shapes": (
        """g (float[2,1] a, float[3] b, float x) => (float[2,3] y)
        { p = Mul(a, x)  q = Mul(b, x)  y = Add(p, q) }""",
        "the other factors are not known to have the same shape",
    ),
    "a product that is used elsewhere": (
        """g (float[2] a, float[2] b, float[2] x) => (float[2] y, float[2] z)
        { p = Mul(a, x)  q = Mul(b, x)  y = Add(p, q)  [n] z = Neg(q) }""",
        "second output also feeds n",
    ),
    "a product that is a graph output": (
        """g (float[2] a, float[2] b, float[2] x) => (float[2] y, float[2] p)
        { p = Mul(a, x)  q = Mul(b, x)  y = Add(p, q) }""",
        "first output is the graph output p",
    ),
    "one product twice": (
        "g (float[2] a, float[2] x) => (float[2] y) { p = Mul(a, x)  y = Add(p, p) }",
        "both summands are the same product",
    ),
    "a factor as large as the value": (
        """g (float[2,N] x, float[2,N] b) => (float[2,N] y) { p = Mul(x, b)  y = Add(x, p) }""",
        "b is not known to have fewer elements than x",
    ),
    "a factor that makes the product larger": (
        "g (float[2,1] x, float[1,3] b) => (float[2,3] y) { p = Mul(x, b)  y = Add(x, p) }",
        "b is not known to have fewer elements than x",
    ),
    "a gated value that is used elsewhere": (
        """g (float[2,3] x, float[3] b) => (float[2,3] y, float[2,3] z)
        { p = Mul(x, b)  y = Add(x, p)  [n] z = Neg(p) }""",
        "product output also feeds n",
    ),
    "gates of integers": (
        "g (int64[2,3] x, int64[3] b) => (int64[2,3] y) { p = Mul(x, b)  y = Add(x, p) }",
        "only floats are factored",
    ),
    "a factor per column": (
        """g (float[2,3] q, float[3,2] k) => (float[2,2] y)
        <float[3] c = {1, 2, 3}, float d = {0.5}>
        { p = Mul(q, c)  r = Mul(k, d)  y = MatMul(p, r) }""",
        "c is not one number",
    ),
    "a scaled value that is used elsewhere": (
        """g (float[2,3] q, float[3,2] k) => (float[2,2] y, float[2,3] z)
        <float c = {0.5}, float d = {0.5}>
        { p = Mul(q, c)  r = Mul(k, d)  y = MatMul(p, r)  [n] z = Neg(p) }""",
        "left output also feeds n",
    ),
    "one value on both sides": (
        """g (float[2,2] q) => (float[2,2] y) <float c = {0.5}>
        { p = Mul(q, c)  y = MatMul(p, p) }""",
        "both sides are the same value",
    ),
    "integers": (
        """g (int64[2,3] q, int64[3,2] k) => (int64[2,2] y) <int64 c = {2}, int64 d = {3}>
        { p = Mul(q, c)  r = Mul(k, d)  y = MatMul(p, r) }""",
        "i64 arithmetic is not folded",
    ),
    "a product that underflows": (
        """g (float[2,3] q, float[3,2] k) => (float[2,2] y)
        <float c = {1e-20}, float d = {1e-20}>
        { p = Mul(q, c)  r = Mul(k, d)  y = MatMul(p, r) }""",
        "the product underflows f32",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(CommonFactors(), text)
    assert [item.reason for item in result.refusals if not item.miss] == [reason]
