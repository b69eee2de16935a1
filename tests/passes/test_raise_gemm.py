"""raise-gemm: a product of two matrices and its bias."""

from __future__ import annotations

import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.raise_gemm import RaiseGemm

REWRITES = {
    "a bias per column": (
        """g (float[N,3] x) => (float[N,2] y)
        <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {1, 2}>
        { [m] a = MatMul(x, w)  [s] y = Add(a, b) }""",
        """g (float[N,3] x) => (float[N,2] y)
        <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {1, 2}>
        { y = Gemm(x, w, b) }""",
    ),
    "a computed summand on the left": (
        """g (float[4,3] x, float[3,2] w, float[4,1] c) => (float[4,2] y)
        { a = MatMul(x, w)  y = Add(c, a) }""",
        """g (float[4,3] x, float[3,2] w, float[4,1] c) => (float[4,2] y) { y = Gemm(x, w, c) }""",
    ),
    "a scalar": (
        """g (double[4,3] x, double[3,2] w) => (double[4,2] y) <double b = {2}>
        { a = MatMul(x, w)  y = Add(a, b) }""",
        """g (double[4,3] x, double[3,2] w) => (double[4,2] y) <double b = {2}>
        { y = Gemm(x, w, b) }""",
    ),
}


@pytest.mark.parametrize(("before", "expected"), REWRITES.values(), ids=REWRITES)
def test_raises(before: str, expected: str) -> None:
    assert_rewrites(RaiseGemm(), before, expected, counts={"matmul-add": 1})


REFUSALS = {
    "three dimensions": (
        """g (float[2,4,3] x, float[3,2] w, float[2] b) => (float[2,4,2] y)
        { a = MatMul(x, w)  y = Add(a, b) }""",
        "MatMul has 3 and 2 dimensions, Gemm has 2",
    ),
    "an unknown rank": (
        """g (x, float[3,2] w, float[2] b) => (y) { a = MatMul(x, w)  y = Add(a, b) }""",
        "the rank of an operand is not known",
    ),
    "a summand that enlarges the product": (
        """g (float[1,3] x, float[3,2] w, float[4,2] b) => (float[4,2] y)
        { a = MatMul(x, w)  y = Add(a, b) }""",
        "b may enlarge the product",
    ),
    "a summand that may": (
        """g (float[N,3] x, float[3,2] w, float[M,2] b) => (float[K,2] y)
        { a = MatMul(x, w)  y = Add(a, b) }""",
        "b may enlarge the product",
    ),
    "a summand of three dimensions": (
        """g (float[4,3] x, float[3,2] w, float[1,1,2] b) => (float[1,4,2] y)
        { a = MatMul(x, w)  y = Add(a, b) }""",
        "b has 3 dimensions",
    ),
    "a product that is used elsewhere": (
        """g (float[4,3] x, float[3,2] w, float[2] b) => (float[4,2] y, float[4,2] z)
        { a = MatMul(x, w)  y = Add(a, b)  [n] z = Neg(a) }""",
        "MatMul output also feeds n",
    ),
    "a product that is a graph output": (
        """g (float[4,3] x, float[3,2] w, float[2] b) => (float[4,2] y, float[4,2] a)
        { a = MatMul(x, w)  y = Add(a, b) }""",
        "MatMul output is the graph output a",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(RaiseGemm(), text)
    assert [item.reason for item in result.refusals if not item.miss] == [reason]


def test_a_sum_alone_is_no_match() -> None:
    text = "g (float[2,3] x, float[2,3] z) => (float[2,3] y) { a = Relu(x)  y = Add(a, z) }"
    assert all(item.miss for item in assert_keeps(RaiseGemm(), text).refusals)
