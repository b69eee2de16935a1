"""raise-split: slices and gathers that share out one axis."""

from __future__ import annotations

import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_keeps, assert_rewrites, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import clone
from optc.passes.raise_split import RaiseSplit

_BOUNDS = "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] i2 = {2}, int64[1] i3 = {3}"

REWRITES = {
    # PyTorch 2.13, TorchScript and torch.export, of y[..., :2], y[..., 2:3], y[..., 3:]
    "slices up to the end, with negative bounds": (
        f"""
        g (float[N,6] x) => (float[N,2] a, float[N,1] b, float[N,3] c)
        <{_BOUNDS}, int64[1] m = {{-1}}, int64[1] e = {{9223372036854775807}}, int64[1] h = {{-4}}>
        {{
           c = Slice (x, i3, e, i1)
           a = Slice (x, i0, h, m)
           b = Slice (x, i2, i3, i1, i1)
        }}
        """,
        """
        g (float[N,6] x) => (float[N,2] a, float[N,1] b, float[N,3] c) <int64[3] s = {2, 1, 3}>
        { a, b, c = Split <axis = 1> (x, s) }
        """,
    ),
    # PyTorch 2.13 (TorchScript and torch.export) of q, k, v = qkv[0], qkv[1], qkv[2]
    "gathers of scalars": (
        """
        g (float[3,N,4] w) => (float[N,4] a, float[N,4] b, float[N,4] c)
        <int64 i = {0}, int64 j = {1}, int64 k = {-1}>
        {
           x = Relu (w)
           a = Gather (x, i)
           b = Gather (x, j)
           c = Gather (x, k)
        }
        """,
        """
        g (float[3,N,4] w) => (float[N,4] a, float[N,4] b, float[N,4] c)
        <int64[3] s = {1, 1, 1}, int64[1] i = {0}, int64[1] j = {0}, int64[1] k = {0}>
        {
           x = Relu (w)
           p, q, r = Split <axis = 0> (x, s)
           a = Squeeze (p, i)
           b = Squeeze (q, j)
           c = Squeeze (r, k)
        }
        """,
    ),
    "gathers of vectors of one index, and equal ones": (
        """
        g (float[N,2] x) => (float[N,1] a, float[N,1] b, float[N,1] c)
        <int64[1] i = {0}, int64[1] j = {1}>
        {
           p = Gather <axis = -1> (x, j)
           a = Relu (p)
           q = Gather <axis = 1> (x, i)
           b = Neg (q)
           r = Gather <axis = 1> (x, j)
           c = Abs (r)
        }
        """,
        """
        g (float[N,2] x) => (float[N,1] a, float[N,1] b, float[N,1] c) <int64[2] s = {1, 1}>
        {
           q, p = Split <axis = 1> (x, s)
           a = Relu (p)
           b = Neg (q)
           c = Abs (p)
        }
        """,
    ),
    # paddle2onnx 2.1 of qkv[0], qkv[1] in operator set 9: bounds and axes in attributes
    "attributes": (
        """
        <ir_version: 8, opset_import: ["" : 9]>
        g (float[2,4] x) => (float[4] a, float[1,4] b)
        {
           p = Slice <axes = [0], starts = [0], ends = [1]> (x)
           a = Squeeze <axes = [0]> (p)
           b = Slice <axes = [0], starts = [1], ends = [2]> (x)
        }
        """,
        """
        <ir_version: 8, opset_import: ["" : 9]>
        g (float[2,4] x) => (float[4] a, float[1,4] b)
        {
           p, b = Split <axis = 0, split = [1, 1]> (x)
           a = Squeeze <axes = [0]> (p)
        }
        """,
    ),
    "scalars before opset 13": (
        """
        <ir_version: 8, opset_import: ["" : 12]>
        g (float[2,4] x) => (float[4] a, float[4] b) <int64 i = {0}, int64 j = {1}>
        { a = Gather (x, i) b = Gather (x, j) }
        """,
        """
        <ir_version: 8, opset_import: ["" : 12]>
        g (float[2,4] x) => (float[4] a, float[4] b)
        {
           p, q = Split <axis = 0, split = [1, 1]> (x)
           a = Squeeze <axes = [0]> (p)
           b = Squeeze <axes = [0]> (q)
        }
        """,
    ),
}


@pytest.mark.parametrize(("before", "expected"), REWRITES.values(), ids=REWRITES)
def test_raises(before: str, expected: str) -> None:
    assert_rewrites(RaiseSplit(), before, expected, counts={"split": 1}, typed=True)


def _two(start: int, end: int, *, size: str = "6", more: str = "") -> str:
    return f"""
    g (float[N,{size}] x, int64[1] d) => (float[N,A] a, float[N,B] b)
    <{_BOUNDS}, int64[1] s = {{{start}}}, int64[1] e = {{{end}}}, int64[1] t = {{2}}>
    {{ a = Slice (x, i0, i2, i1) b = Slice (x, s, e, i1{more}) }}
    """


REFUSALS = {
    "a gap": (_two(3, 6), "no part has the elements from 2 to 2"),
    "the end is missing": (_two(2, 5), "no part has the elements from 5 on"),
    "an overlap": (_two(1, 6), "the parts overlap, or one is empty"),
    "an empty part": (_two(6, 6), "no part has the elements from 2 to 5"),
    "twice the same": (_two(0, 2), "all take the same part"),
    # PyTorch 2.13 and paddle2onnx 2.1 of the focus layer of YOLOv5: x[..., ::2], x[..., 1::2]
    "a step": (_two(2, 6, more=", t"), "b takes every 2. element"),
    "a symbolic size": (_two(2, 6, size="M"), "the size M of axis 1 is not a number"),
    "bounds that are not constant": (
        _two(2, 6).replace("(x, s,", "(x, d,"),
        "the bounds of b are not constant",
    ),
    "an index that is not constant": (
        """
        g (float[2,4] x, int64 i) => (float[4] a, float[4] b) <int64 j = {1}>
        { a = Gather (x, i) b = Gather (x, j) }
        """,
        "the index of a is not constant",
    ),
    "only some of the indices": (
        """
        g (float[3,4] x) => (float[4] a, float[4] b) <int64 i = {0}, int64 j = {1}>
        { a = Gather (x, i) b = Gather (x, j) }
        """,
        "no part has the elements from 2 on",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(RaiseSplit(), text)
    assert [(item.rule, item.node, item.reason) for item in result.refusals] == [
        ("split", "a", reason)
    ]


DECOYS = {
    "one slice": f"g (float[6] x) => (float[2] a) <{_BOUNDS}> {{ a = Slice (x, i0, i2) }}",
    "two axes": f"""
        g (float[4,6] x) => (float[2,6] a, float[4,1] b) <{_BOUNDS}>
        {{ a = Slice (x, i0, i2, i0) b = Slice (x, i2, i3, i1) }}
        """,
    "several axes at once": """
        g (float[4,4] x) => (float[2,2] a, float[2,2] b)
        <int64[2] i = {0, 0}, int64[2] j = {2, 2}, int64[2] k = {4, 4}>
        { a = Slice (x, i, j) b = Slice (x, j, k) }
        """,
    "an embedding": """
        g (int64 i, int64 j) => (float[2] a, float[2] b) <float[2,2] w = {1, 2, 3, 4}>
        { a = Gather (w, i) b = Gather (w, j) }
        """,
}


@pytest.mark.parametrize("text", DECOYS.values(), ids=DECOYS)
def test_is_no_match(text: str) -> None:
    assert not assert_keeps(RaiseSplit(), text).refusals


def test_a_captured_value() -> None:
    graph = graph_from_text(
        """
        g (bool c, float[2,3] x) => (float[1,3] y)
        {
           y = If (c) <
              then_branch = t () => (float[1,3] p)
              <int64[1] i = {0}, int64[1] j = {1}, int64[1] k = {2}>
              { a = Slice (x, i, j, i) b = Slice (x, j, k, i) p = Sub (a, b) },
              else_branch = e () => (float[1,3] q)
              <int64[1] i = {0}, int64[1] j = {1}> { q = Slice (x, i, j, i) }
           >
        }
        """
    )
    source = clone(graph)
    assert run_pass(RaiseSplit(), graph).counts == {"split": 1}
    assert_same_numbers(source, graph)
