"""merge-transposes: transposes of what a reshape has made, with inferred types."""

from __future__ import annotations

import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.merge_transposes import MergeTransposes

TYPED = {
    # torch.export (PyTorch 2.13) of scaled_dot_product_attention: the keys of all heads as one
    # batch, transposed, and parted again
    "joined axes, parted again": (
        """
        g (float[N,4,2,8] x) => (float[N,2,8,4] y)
        <int64[3] s = {-1, 4, 8}, int64[4] t = {-1, 2, 8, 4}>
        {
           w = Transpose <perm = [0, 2, 1, 3]> (x)
           a = Reshape (w, s)
           b = Transpose <perm = [0, 2, 1]> (a)
           y = Reshape (b, t)
        }
        """,
        "g (float[N,4,2,8] x) => (float[N,2,8,4] y) { y = Transpose <perm = [0, 2, 3, 1]> (x) }",
        {"reshape-transpose-reshape": 1, "transpose-transpose": 1},
    ),
    # tf2onnx 1.17 of EfficientNet in keras: pooled features become [N, 1, 1, C], then NCHW
    "of ones that a reshape has made": (
        """
        g (float[N,8] x) => (float[N,8,1,1] y) <int64[4] s = {0, 1, 1, 8}>
        { a = Reshape (x, s) y = Transpose <perm = [0, 3, 1, 2]> (a) }
        """,
        "g (float[N,8] x) => (float[N,8,1,1] y) <int64[4] s = {0, 8, 1, 1}> { y = Reshape (x, s) }",
        {"reshape-transpose": 1},
    ),
    "of a copied size that is a number": (
        """
        g (float[4,6] x) => (float[1,6,2,2] y) <int64[4] s = {0, 2, 1, 2}>
        { w = Transpose (x) a = Reshape (w, s) y = Transpose <perm = [2, 0, 1, 3]> (a) }
        """,
        """
        g (float[4,6] x) => (float[1,6,2,2] y) <int64[4] s = {1, 6, 2, 2}>
        { w = Transpose (x) y = Reshape (w, s) }
        """,
        {"reshape-transpose": 1},
    ),
    "with axes of one element": (
        """
        g (float[2,1,3,4] x) => (float[4,2,1,3] y) <int64[2] s = {6, 4}, int64[4] t = {4, 2, 1, 3}>
        { a = Reshape (x, s) b = Transpose (a) y = Reshape (b, t) }
        """,
        "g (float[2,1,3,4] x) => (float[4,2,1,3] y) { y = Transpose <perm = [3, 0, 1, 2]> (x) }",
        {"reshape-transpose-reshape": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), TYPED.values(), ids=TYPED)
def test_merges_joined_axes(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(MergeTransposes(), before, expected, counts=counts, typed=True)


MADE = {
    "elements move": (
        """
        g (float[N,8] x) => (float[4,N,2] y) <int64[3] s = {0, 2, 4}>
        { a = Reshape (x, s) y = Transpose <perm = [2, 0, 1]> (a) }
        """,
        "the Transpose moves dimensions that are not known to be 1",
    ),
    "a copied symbol": (
        """
        g (float[N,8] x) => (float[1,N,8] y) <int64[3] s = {0, 1, 8}>
        { a = Reshape (x, s) y = Transpose <perm = [1, 0, 2]> (a) }
        """,
        "the new shape copies a dimension that is not a positive number",
    ),
    "the reshape is used": (
        """
        g (float[N,8] x) => (float[N,8,1] y, float[N,1,8] z) <int64[3] s = {0, 1, 8}>
        { a = Reshape (x, s) y = Transpose <perm = [0, 2, 1]> (a) [n] z = Neg (a) }
        """,
        "Reshape output also feeds n",
    ),
}


@pytest.mark.parametrize(("text", "reason"), MADE.values(), ids=MADE)
def test_refuses_ones_of_a_reshape(text: str, reason: str) -> None:
    result = assert_keeps(MergeTransposes(), text, typed=True)
    found = [item.reason for item in result.refusals if item.rule == "reshape-transpose"]
    assert found == [reason]


JOINED = {
    # ShuffleNet and window attention: the axes are parted otherwise than they were joined
    "parted otherwise": (
        """
        g (float[4,2,8] x) => (float[8,2,4] y) <int64[2] s = {8, 8}, int64[3] t = {8, 2, 4}>
        { a = Reshape (x, s) b = Transpose (a) y = Reshape (b, t) }
        """,
        "the reshapes are not known to join and part the same axes",
    ),
    "the joined form is used": (
        """
        g (float[4,2,8] x) => (float[8,4,2] y, float[8,8] z)
        <int64[2] s = {8, 8}, int64[3] t = {8, 4, 2}>
        { a = Reshape (x, s) b = Transpose (a) y = Reshape (b, t) [n] z = Neg (a) }
        """,
        "join output also feeds n",
    ),
}


@pytest.mark.parametrize(("text", "reason"), JOINED.values(), ids=JOINED)
def test_refuses_joined_axes(text: str, reason: str) -> None:
    result = assert_keeps(MergeTransposes(), text, typed=True)
    rule = "reshape-transpose-reshape"
    assert [item.reason for item in result.refusals if item.rule == rule] == [reason]
