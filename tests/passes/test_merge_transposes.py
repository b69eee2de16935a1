"""merge-transposes: two become one or none; those that move no element go into the reshape."""

from __future__ import annotations

import pytest

from helpers.pass_checks import assert_keeps, assert_refuses, assert_rewrites
from optc.passes.merge_transposes import MergeTransposes

REWRITES = {
    "two that undo each other": (
        """
        g (float[N,3,4] x) => (float[N,3,4] y)
        {
           a = Transpose <perm = [0, 2, 1]> (x)
           b = Transpose <perm = [0, 2, 1]> (a)
           y = Relu (b)
        }
        """,
        "g (float[N,3,4] x) => (float[N,3,4] y) { y = Relu (x) }",
        {"transpose-transpose": 1},
    ),
    "two that undo each other, the first used elsewhere": (
        """
        g (float[2,3] x) => (float[2,3] y, float[3,2] z)
        {
           a = Transpose (x)
           b = Transpose (a)
           y = Relu (b)
           z = Neg (a)
        }
        """,
        """
        g (float[2,3] x) => (float[2,3] y, float[3,2] z)
        {
           a = Transpose (x)
           y = Relu (x)
           z = Neg (a)
        }
        """,
        {"transpose-transpose": 1},
    ),
    "two in a row": (
        """
        g (float[2,3,4] x) => (float[4,2,3] y)
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           [t] y = Transpose <perm = [2, 1, 0]> (a)
        }
        """,
        "g (float[2,3,4] x) => (float[4,2,3] y) { [t] y = Transpose <perm = [2, 0, 1]> (x) }",
        {"transpose-transpose": 1},
    ),
    "three in a row": (
        """
        g (float[2,3,4] x) => (float[3,4,2] y)
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           b = Transpose <perm = [2, 1, 0]> (a)
           y = Transpose <perm = [2, 0, 1]> (b)
        }
        """,
        "g (float[2,3,4] x) => (float[3,4,2] y) { y = Transpose <perm = [1, 2, 0]> (x) }",
        None,
    ),
    "perm left out in one": (
        """
        g (float[2,3,4] w) => (float[3,2,4] y)
        {
           x = Abs (w)
           a = Transpose (x)
           y = Transpose <perm = [1, 2, 0]> (a)
        }
        """,
        """
        g (float[2,3,4] w) => (float[3,2,4] y)
        {
           x = Abs (w)
           y = Transpose <perm = [1, 0, 2]> (x)
        }
        """,
        {"transpose-transpose": 1},
    ),
    "before a reshape": (
        """
        g (float[N,3,1,1] x) => (float[N,3] y) <int64[2] s = {-1, 3}>
        {
           a = Transpose <perm = [0, 2, 3, 1]> (x)
           y = Reshape (a, s)
        }
        """,
        "g (float[N,3,1,1] x) => (float[N,3] y) <int64[2] s = {-1, 3}> { y = Reshape (x, s) }",
        {"transpose-reshape": 1},
    ),
    "before a reshape that copies dimensions": (
        """
        g (float[1,6,4] x) => (float[6,2,2] y) <int64[3] s = {0, 2, 2}>
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           y = Reshape (a, s)
        }
        """,
        """
        g (float[1,6,4] x) => (float[6,2,2] y) <int64[3] s = {6, 2, 2}> { y = Reshape (x, s) }
        """,
        {"transpose-reshape": 1},
    ),
    "before a squeeze": (
        """
        g (float[1,N,4] x) => (float[N,4] y) <int64[1] i = {-1}>
        {
           a = Transpose <perm = [1, 2, 0]> (x)
           y = Squeeze (a, i)
        }
        """,
        "g (float[1,N,4] x) => (float[N,4] y) <int64[1] i = {0}> { y = Squeeze (x, i) }",
        {"transpose-squeeze": 1},
    ),
    "before a squeeze that has its axes in an attribute": (
        """
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[1,N,4] x) => (float[N,4] y)
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           y = Squeeze <axes = [1]> (a)
        }
        """,
        """
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[1,N,4] x) => (float[N,4] y) { y = Squeeze <axes = [0]> (x) }
        """,
        {"transpose-squeeze": 1},
    ),
    "after an unsqueeze": (
        """
        g (float[N,4] x) => (float[N,1,4] y) <int64[1] i = {0}>
        {
           a = Unsqueeze (x, i)
           y = Transpose <perm = [1, 0, 2]> (a)
        }
        """,
        "g (float[N,4] x) => (float[N,1,4] y) <int64[1] i = {1}> { y = Unsqueeze (x, i) }",
        {"unsqueeze-transpose": 1},
    ),
    "in a branch": (
        """
        g (bool c, float[2,3] x) => (float[2,3] y)
        {
           y = If (c) <
              then_branch = t () => (float[2,3] p)
              {
                 a = Transpose (x)
                 b = Transpose (a)
                 p = Relu (b)
              },
              else_branch = e () => (float[2,3] q) { q = Neg (x) }
           >
        }
        """,
        """
        g (bool c, float[2,3] x) => (float[2,3] y)
        {
           y = If (c) <
              then_branch = t () => (float[2,3] p) { p = Relu (x) },
              else_branch = e () => (float[2,3] q) { q = Neg (x) }
           >
        }
        """,
        {"transpose-transpose": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_merges(before: str, expected: str, counts: dict[str, int] | None) -> None:
    assert_rewrites(MergeTransposes(), before, expected, counts=counts)


REFUSALS = {
    "the first result is used elsewhere": (
        """
        g (float[2,3,4] x) => (float[4,2,3] y, float[3,2,4] z)
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           y = Transpose <perm = [2, 1, 0]> (a)
           [n] z = Neg (a)
        }
        """,
        "y: first output also feeds n",
    ),
    "the first result is a graph output": (
        """
        g (float[2,3,4] x) => (float[4,2,3] y, float[3,2,4] a)
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           y = Transpose <perm = [2, 1, 0]> (a)
        }
        """,
        "y: first output is the graph output a",
    ),
    "the first result is captured": (
        """
        g (bool c, float[2,3,4] x) => (float[4,2,3] y, float[3,2,4] z)
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           y = Transpose <perm = [2, 1, 0]> (a)
           [i] z = If (c) <
              then_branch = t () => (float[3,2,4] p) { p = Relu (a) },
              else_branch = e () => (float[3,2,4] q) { q = Neg (a) }
           >
        }
        """,
        "y: first output is captured by a subgraph of i",
    ),
    "nothing is known of two that leave perm out": (
        "g (x) => (y) { a = Transpose (x) y = Transpose (a) }",
        "y: perm is left out and the rank is not known",
    ),
    "elements move before a reshape": (
        """
        g (float[2,3] x) => (float[6] y) <int64[1] s = {6}>
        {
           a = Transpose (x)
           y = Reshape (a, s)
        }
        """,
        "y: the Transpose moves dimensions that are not known to be 1",
    ),
    "a dimension is not known before a reshape": (
        """
        g (float[N,3] x) => (float[M] y) <int64[1] s = {-1}>
        {
           a = Transpose (x)
           y = Reshape (a, s)
        }
        """,
        "y: the Transpose moves dimensions that are not known to be 1",
    ),
    "the shape is not constant": (
        """
        g (float[1,3] x, int64[1] s) => (float[M] y)
        {
           a = Transpose (x)
           y = Reshape (a, s)
        }
        """,
        "y: the new shape s is not constant",
    ),
    "a copied dimension is not a number": (
        """
        g (float[1,N] x) => (float[N,1] y) <int64[2] s = {0, 1}>
        {
           a = Transpose (x)
           y = Reshape (a, s)
        }
        """,
        "y: the new shape copies a dimension that is not a positive number",
    ),
    "a copied dimension is zero": (
        """
        g (float[0,1,3] x) => (float[1,0,1,3] y) <int64[4] s = {0, 0, 1, 3}>
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           y = Reshape (a, s)
        }
        """,
        "y: the new shape copies a dimension that is not a positive number",
    ),
    "nothing is known before a reshape": (
        "g (x) => (y) <int64[1] s = {-1}> { a = Transpose (x) y = Reshape (a, s) }",
        "y: the shape before the Transpose is not known",
    ),
    "a squeeze leaves what moves": (
        """
        g (float[1,3,4] x) => (float[4,3] y) <int64[1] i = {2}>
        {
           a = Transpose (x)
           y = Squeeze (a, i)
        }
        """,
        "y: the Transpose moves dimensions that stay",
    ),
    "a squeeze without axes": (
        """
        g (float[1,3,4] x) => (float[3,4] y)
        {
           a = Transpose <perm = [1, 0, 2]> (x)
           y = Squeeze (a)
        }
        """,
        "y: the axes are left out",
    ),
    "a squeeze with axes that are not constant": (
        """
        g (float[1,3] x, int64[1] i) => (float[M] y)
        {
           a = Transpose (x)
           y = Squeeze (a, i)
        }
        """,
        "y: the axes are not constant",
    ),
    "an unsqueeze and other dimensions that move": (
        """
        g (float[3,4] x) => (float[4,3,1] y) <int64[1] i = {0}>
        {
           a = Unsqueeze (x, i)
           y = Transpose (a)
        }
        """,
        "y: the Transpose moves dimensions that were there before",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(MergeTransposes(), text)
    found = [f"{item.node}: {item.reason}" for item in result.refusals if not item.miss]
    assert found == [reason]


def test_a_transpose_alone_is_no_match() -> None:
    text = "g (float[2,3] x) => (float[3,2] y) { a = Relu (x) y = Transpose (a) }"
    assert_refuses(
        MergeTransposes(),
        text,
        "y: expected Reshape, found Relu",
        "y: expected Transpose, found Relu",
        "y: expected Unsqueeze, found Relu",
    )
