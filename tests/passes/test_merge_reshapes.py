"""merge-reshapes: two changes of shape become one or none."""

from __future__ import annotations

import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.merge_reshapes import MergeReshapes

REWRITES = {
    # torchcrepe 0.0.24 (PyTorch): x[:, None, :, None] is two Unsqueeze
    "two unsqueezes": (
        """
        g (float[N,4] x) => (float[N,1,4,1] y) <int64[1] a = {1}, int64[1] b = {-1}>
        { p = Unsqueeze (x, a) y = Unsqueeze (p, b) }
        """,
        """
        g (float[N,4] x) => (float[N,1,4,1] y) <int64[2] a = {1, 3}> { y = Unsqueeze (x, a) }
        """,
    ),
    "two squeezes, the axes in attributes": (
        """
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[1,N,1,4] x) => (float[N,4] y)
        { p = Squeeze <axes = [2]> (x) y = Squeeze <axes = [0]> (p) }
        """,
        """
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[1,N,1,4] x) => (float[N,4] y) { y = Squeeze <axes = [0, 2]> (x) }
        """,
    ),
    "of unknown sizes that undo each other": (
        """
        g (float[?,?] x) => (float[?,?] y) <int64[2] a = {0, 3}, int64[1] b = {0}, int64[1] c = {2}>
        { w = Neg (x) p = Unsqueeze (w, a) q = Squeeze (p, b) r = Squeeze (q, c) y = Relu (r) }
        """,
        "g (float[?,?] x) => (float[?,?] y) { w = Neg (x) y = Relu (w) }",
    ),
    "one added, one dropped": (
        """
        g (float[N,1,4] x) => (float[1,N,4] y) <int64[1] a = {0}, int64[1] b = {2}>
        { p = Unsqueeze (x, a) y = Squeeze (p, b) }
        """,
        "g (float[N,1,4] x) => (float[1,N,4] y) <int64[3] s = {1, -1, 4}> { y = Reshape (x, s) }",
    ),
    # PyTorch 2.13 of AdaptiveAvgPool2d(1), flatten and x[:, :, None]
    "a flatten and an unsqueeze": (
        """
        g (float[N,3,2,2] x) => (float[N,12,1] y) <int64[1] a = {2}>
        { p = Flatten (x) y = Unsqueeze (p, a) }
        """,
        """
        g (float[N,3,2,2] x) => (float[N,12,1] y) <int64[3] s = {0, 12, 1}> { y = Reshape (x, s) }
        """,
    ),
    "a flatten of a reshape": (
        """
        g (float[N,6] x) => (float[A,3] y) <int64[3] s = {0, 2, 3}>
        { p = Reshape (x, s) y = Flatten <axis = 2> (p) }
        """,
        "g (float[N,6] x) => (float[A,3] y) <int64[2] s = {-1, 3}> { y = Reshape (x, s) }",
    ),
    "back to what it was": (
        """
        g (float[N,2,3] x) => (float[N,2,3] y) <int64[2] s = {0, 6}, int64[3] t = {0, 2, 3}>
        { p = Reshape (x, s) q = Reshape (p, t) y = Relu (q) }
        """,
        "g (float[N,2,3] x) => (float[N,2,3] y) { y = Relu (x) }",
    ),
    "a copy that reads another place": (
        """
        g (float[N,2,3] x) => (float[A,3,1] y) <int64[2] s = {-1, 3}, int64[3] t = {0, 3, 1}>
        { p = Reshape (x, s) y = Reshape (p, t) }
        """,
        """
        g (float[N,2,3] x) => (float[A,3,1] y) <int64[3] s = {-1, 3, 1}> { y = Reshape (x, s) }
        """,
    ),
    "three in a row": (
        """
        g (float[1,3,4] x) => (float[12] y) <int64[1] a = {0}, int64[1] b = {1}>
        { p = Squeeze (x, a) q = Unsqueeze (p, b) r = Flatten <axis = 0> (q) y = Squeeze (r, a) }
        """,
        "g (float[1,3,4] x) => (float[12] y) <int64[1] s = {12}> { y = Reshape (x, s) }",
    ),
}


@pytest.mark.parametrize(("before", "expected"), REWRITES.values(), ids=REWRITES)
def test_merges(before: str, expected: str) -> None:
    assert_rewrites(MergeReshapes(), before, expected, typed=True)


REFUSALS = {
    "used elsewhere": (
        """
        g (float[1,3,1] x) => (float[3] y, float[3,1] z) <int64[1] a = {0}, int64[1] b = {1}>
        { p = Squeeze (x, a) y = Squeeze (p, b) [n] z = Neg (p) }
        """,
        "first output also feeds n",
    ),
    "a graph output": (
        """
        g (float[1,3,1] x) => (float[3] y, float[3,1] p) <int64[1] a = {0}, int64[1] b = {1}>
        { p = Squeeze (x, a) y = Squeeze (p, b) }
        """,
        "first output is the graph output p",
    ),
    "captured": (
        """
        g (bool c, float[1,3,1] x) => (float[3] y, float[3,1] z)
        <int64[1] a = {0}, int64[1] b = {1}>
        {
           p = Squeeze (x, a)
           y = Squeeze (p, b)
           [i] z = If (c) <
              then_branch = t () => (float[3,1] q) { q = Relu (p) },
              else_branch = e () => (float[3,1] r) { r = Neg (p) }
           >
        }
        """,
        "first output is captured by a subgraph of i",
    ),
    "nothing is known": (
        "g (x, int64[2] s) => (y) { p = Flatten (x) y = Reshape (p, s) }",
        "the shape before or after both is not known",
    ),
    "two sizes that cannot be written": (
        """
        g (float[N,M,K] x) => (float[A,B,1] y) <int64[1] a = {2}>
        { p = Flatten <axis = 2> (x) y = Unsqueeze (p, a) }
        """,
        "sizes M*N, K cannot both be written",
    ),
    "a size beside one that may be zero": (
        """
        g (float[N,M,6] x) => (float[N,A,1] y) <int64[1] a = {2}>
        { p = Flatten (x) y = Unsqueeze (p, a) }
        """,
        "size 6*M stands beside one that may be zero",
    ),
    "a zero": (
        """
        g (float[3,0] x) => (float[0,1] y) <int64[2] s = {0, 1}>
        { p = Flatten <axis = 0> (x) y = Reshape <allowzero = 1> (p, s) }
        """,
        "size 0 of the result is zero, and not copied from the operand",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(MergeReshapes(), text, typed=True)
    found = [f"{item.node}: {item.reason}" for item in result.refusals if not item.miss]
    assert found == [f"y: {reason}"]
