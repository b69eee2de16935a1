"""move-transposes: pairs meet and cancel; a region moves as a whole, only when it saves bytes."""

from __future__ import annotations

import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_keeps, assert_rewrites, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes
from optc.passes.move_transposes import MoveTransposes

NHWC, NCHW = "<perm = [0, 2, 3, 1]>", "<perm = [0, 3, 1, 2]>"

REWRITES = {
    # tf2onnx 1.17 of keras Conv2D(activation="relu") twice: a Relu between the layouts of two Conv
    "relu between two convolutions": (
        f"""
        g (float[N,2,4,4] x, float[2,2,1,1] w) => (float[N,2,4,4] y)
        {{
           a = Conv (x, w)
           b = Transpose {NHWC} (a)
           c = Relu (b)
           d = Transpose {NCHW} (c)
           y = Conv (d, w)
        }}
        """,
        """
        g (float[N,2,4,4] x, float[2,2,1,1] w) => (float[N,2,4,4] y)
        { a = Conv (x, w) c = Relu (a) y = Conv (c, w) }
        """,
    ),
    # tf2onnx 1.17 of keras BatchNormalization and ZeroPadding2D, channels last
    "constants, pads, slices and clips": (
        f"""
        g (float[N,2,4,4] x) => (float[N,2,4,6] y)
        <float[2] m = {{2, 3}}, int64[8] p = {{0, 1, 0, 0, 0, 0, 2, 0}}, float lo = {{0}},
         int64[1] s = {{1}}, int64[1] e = {{9}}>
        {{
           b = Transpose {NHWC} (x)
           c = Mul (b, m)
           d = Clip (c, lo)
           f = Pad (d, p)
           h = Slice (f, s, e, s)
           i = Transpose {NCHW} (h)
           y = Neg (i)
        }}
        """,
        """
        g (float[N,2,4,4] x) => (float[N,2,4,6] y)
        <float[2,1,1] m = {2, 3}, int64[8] p = {0, 0, 1, 0, 0, 0, 0, 2}, float lo = {0},
         int64[1] s = {1}, int64[1] e = {9}, int64[1] axes = {2}>
        {
           c = Mul (x, m)
           d = Clip (c, lo)
           f = Pad (d, p)
           h = Slice (f, s, e, axes)
           y = Neg (h)
        }
        """,
    ),
    # tf2onnx 1.17 of keras Concatenate, tf.split, ReduceMax with keepdims
    "concat, split and a reduction": (
        f"""
        g (float[N,4,2,3] x, float[N,4,2,3] z) => (float[N,4,1,3] y, float[N,4,2,3] w)
        <int64[2] s = {{4, 4}}, int64[1] i = {{1}}>
        {{
           a = Transpose {NHWC} (x)
           b = Transpose {NHWC} (z)
           c = Concat <axis = -1> (a, b)
           d, e = Split <axis = 3> (c, s)
           f = ReduceMax (d, i)
           h = Transpose {NCHW} (f)
           y = Relu (h)
           j = Softmax <axis = 1> (e)
           k = Transpose {NCHW} (j)
           w = Relu (k)
        }}
        """,
        """
        g (float[N,4,2,3] x, float[N,4,2,3] z) => (float[N,4,1,3] y, float[N,4,2,3] w)
        <int64[2] s = {4, 4}, int64[1] i = {2}>
        {
           c = Concat <axis = 1> (x, z)
           d, e = Split <axis = 1> (c, s)
           f = ReduceMax (d, i)
           y = Relu (f)
           j = Softmax <axis = 2> (e)
           w = Relu (j)
        }
        """,
    ),
    # tf2onnx 1.17 of keras GlobalMaxPooling2D: the reduction absorbs the layout
    "a reduction that drops its axes": (
        f"""
        g (float[N,2,4,4] x) => (float[N,2] y) <int64[2] i = {{1, 2}}>
        {{
           a = Transpose {NHWC} (x)
           y = ReduceMax <keepdims = 0> (a, i)
        }}
        """,
        """
        g (float[N,2,4,4] x) => (float[N,2] y) <int64[2] i = {2, 3}>
        { y = ReduceMax <keepdims = 0> (x, i) }
        """,
    ),
    "axes in an attribute, perm left out": (
        """
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[2,3] x) => (float[1,3] y)
        {
           a = Transpose (x)
           b = ReduceMax <axes = [-1]> (a)
           c = Transpose (b)
           y = Relu (c)
        }
        """,
        """
        <ir_version: 8, opset_import: ["" : 11]>
        g (float[2,3] x) => (float[1,3] y)
        { b = ReduceMax <axes = [0]> (x) y = Relu (b) }
        """,
    ),
    # PyTorch 2.13 of ConvNeXt: the residual stays channels first, the block is channels last
    "a residual between two blocks": (
        f"""
        g (float[1,8,6,2] x, float[1,8,6,2] z, float[2] w) => (float[1,8,6,2] y)
        {{
           a = LayerNormalization (x, w)
           b = Transpose {NCHW} (a)
           c = LayerNormalization (z, w)
           d = Transpose {NCHW} (c)
           e = Add (b, d)
           f = Transpose {NHWC} (e)
           y = LayerNormalization (f, w)
        }}
        """,
        """
        g (float[1,8,6,2] x, float[1,8,6,2] z, float[2] w) => (float[1,8,6,2] y)
        {
           a = LayerNormalization (x, w)
           c = LayerNormalization (z, w)
           e = Add (a, c)
           y = LayerNormalization (e, w)
        }
        """,
    ),
    "a smaller tensor is transposed instead of the larger": (
        f"""
        g (float[1,2,8,8] x, float[1,1,1,2] z) => (float[1,2,8,8] y)
        {{
           a = Transpose {NHWC} (x)
           b = Mul (a, z)
           c = Transpose {NCHW} (b)
           y = Relu (c)
        }}
        """,
        f"""
        g (float[1,2,8,8] x, float[1,1,1,2] z) => (float[1,2,8,8] y)
        {{
           t = Transpose {NCHW} (z)
           b = Mul (x, t)
           y = Relu (b)
        }}
        """,
    ),
    "batch dimensions of a matrix product": (
        """
        g (float[2,3,4,5] x, float[2,3,5,4] z, float[4,7] w) => (float[2,3,4,7] y)
        {
           a = Transpose <perm = [1, 0, 2, 3]> (x)
           b = Transpose <perm = [1, 0, 2, 3]> (z)
           c = MatMul (a, b)
           d = MatMul (c, w)
           e = Transpose <perm = [1, 0, 2, 3]> (d)
           y = Relu (e)
        }
        """,
        """
        g (float[2,3,4,5] x, float[2,3,5,4] z, float[4,7] w) => (float[2,3,4,7] y)
        { c = MatMul (x, z) d = MatMul (c, w) y = Relu (d) }
        """,
    ),
    "gather, tile, arg max and quantization per axis": (
        f"""
        g (float[1,2,8,8] x) => (float[1,2,8,2] y, int64[1,8,2] z)
        <int64[2] i = {{1, 0}}, int64[4] r = {{1, 1, 1, 1}}, float[2] s = {{0.5, 1}}>
        {{
           a = Transpose {NHWC} (x)
           b = Gather <axis = -2> (a, i)
           q = QuantizeLinear <axis = 3> (b, s)
           d = DequantizeLinear <axis = -1> (q, s)
           t = Tile (d, r)
           z = ArgMax <axis = 3, keepdims = 0> (t)
           u = Transpose {NCHW} (t)
           y = Relu (u)
        }}
        """,
        """
        g (float[1,2,8,8] x) => (float[1,2,8,2] y, int64[1,8,2] z)
        <int64[2] i = {1, 0}, int64[4] r = {1, 1, 1, 1}, float[2] s = {0.5, 1}>
        {
           b = Gather <axis = 3> (x, i)
           q = QuantizeLinear <axis = 1> (b, s)
           d = DequantizeLinear <axis = 1> (q, s)
           t = Tile (d, r)
           z = ArgMax <axis = 1, keepdims = 0> (t)
           y = Relu (t)
        }
        """,
    ),
    "a pair outside of the region that reads the same transpose": (
        """
        g (float[2,4] x) => (float[4] y, float[1,4] z) <int64 k = {1}, int64[1] i = {1}>
        {
           a = Transpose (x)
           b = Transpose (a)
           y = Gather (b, k)
           c = ReduceMax (a, i)
           d = Transpose (c)
           z = Relu (d)
        }
        """,
        """
        g (float[2,4] x) => (float[4] y, float[1,4] z) <int64 k = {1}, int64[1] i = {0}>
        { y = Gather (x, k) c = ReduceMax (x, i) z = Relu (c) }
        """,
    ),
    "a transpose by another permutation follows": (
        """
        g (float[2,3,4] x) => (float[2,3,4] y, float[4,2,3] z)
        {
           a = Transpose <perm = [0, 2, 1]> (x)
           b = Relu (a)
           y = Transpose <perm = [0, 2, 1]> (b)
           z = Transpose <perm = [1, 0, 2]> (b)
        }
        """,
        """
        g (float[2,3,4] x) => (float[2,3,4] y, float[4,2,3] z)
        { y = Relu (x) z = Transpose <perm = [2, 0, 1]> (y) }
        """,
    ),
    "a graph output inside keeps its layout": (
        """
        g (float[64,2] x) => (float[2,1] y, float[64,2] z) <int64[1] i = {-1}>
        {
           a = Transpose (x)
           b = Relu (a)
           y = ReduceMax (b, i)
           c = Transpose (b)
           z = Neg (c)
        }
        """,
        """
        g (float[64,2] x) => (float[2,1] y, float[64,2] z) <int64[1] i = {0}>
        {
           b = Relu (x)
           r = ReduceMax (b, i)
           y = Transpose <perm = [1, 0]> (r)
           z = Neg (b)
        }
        """,
    ),
}


@pytest.mark.parametrize(("before", "expected"), REWRITES.values(), ids=REWRITES)
def test_moves(before: str, expected: str) -> None:
    assert_rewrites(MoveTransposes(), before, expected, typed=True)


def test_a_branch_is_a_graph_of_its_own() -> None:
    text = """
    g (bool c, float[4,3] x) => (float[4,3] y)
    {
       y = If (c) <
          then_branch = t () => (float[4,3] p)
          { a = Transpose (x) b = Relu (a) d = Transpose (b) p = Neg (d) },
          else_branch = e () => (float[4,3] q) { q = Neg (x) }
       >
    }
    """
    graph = graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    source = clone(graph)
    assert run_pass(MoveTransposes(), graph).counts == {"transposes": 1}
    assert "Transpose" not in print_graph(graph)
    assert_same_numbers(source, graph)


REFUSALS = {
    "a resize is bound to its layout": f"""
        g (float[1,2,8,8] x) => (float[1,2,16,16] y) <float[4] s = {{1, 2, 2, 1}}>
        {{
           a = Transpose {NHWC} (x)
           r = Relu (a)
           b = Resize (r, , s)
           [t] y = Transpose {NCHW} (b)
        }}
        """,
    "a softmax would leave the last axis": f"""
        g (float[1,2,8,8] x) => (float[1,2,8,8] y)
        {{
           [s] a = Transpose {NHWC} (x)
           b = Softmax (a)
           [t] y = Transpose {NCHW} (b)
        }}
        """,
    "the weights stand in another layout": f"""
        g (float[1,2,8,8] x, float[2,2] w) => (float[1,2,8,8] y)
        {{
           a = Transpose {NHWC} (x)
           r = Relu (a)
           [m] b = MatMul (r, w)
           c = Neg (b)
           y = Transpose {NCHW} (c)
        }}
        """,
    "an operand has another rank": f"""
        g (float[1,2,8,8] x, float[2] z) => (float[1,2,8,8] y)
        {{
           a = Transpose {NHWC} (x)
           b = Mul (a, z)
           y = Transpose {NCHW} (b)
        }}
        """,
    "axes that are not constant": """
        g (float[4,3] x, int64[1] i) => (float[A,B] y)
        {
           a = Transpose (x)
           [r] b = ReduceMax (a, i)
           y = Transpose (b)
        }
        """,
}


@pytest.mark.parametrize("text", REFUSALS.values(), ids=REFUSALS)
def test_keeps(text: str) -> None:
    assert_keeps(MoveTransposes(), text, typed=True)


def test_a_refusal_names_what_binds_the_layout() -> None:
    text = f"""
    g (float[1,2,8,8] x, float[2] w, float[1,2,8,8] v) => (float[1,8,8,2] y)
    {{
       a = Transpose {NHWC} (x)
       b = Relu (a)
       [n] c = LayerNormalization (b, w)
       d = Transpose {NHWC} (v)
       [m] y = Add (b, c)
    }}
    """
    assert_keeps(MoveTransposes(), text, typed=True)
    island = f"""
    g (float[1,2,8,8] x, float[1,2,8,8] v, float[2] w) => (float[1,8,8,2] y)
    {{
       [s] a = Transpose {NHWC} (x)
       [t] d = Transpose {NHWC} (v)
       e = Add (a, d)
       f = Relu (a)
       i = Relu (d)
       [n] c = LayerNormalization (f, w)
       [o] j = LayerNormalization (i, w)
       [p] y = Sum (c, j, e)
    }}
    """
    result = assert_keeps(MoveTransposes(), island, typed=True)
    reasons = {item.node: item.reason for item in result.refusals}
    assert set(reasons) == {"s", "t"}
    assert all("no fewer bytes would be transposed" in reason for reason in reasons.values())
