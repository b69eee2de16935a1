"""The table of shape rules: what they say of each operator, in all its forms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.shape_checks import infer_line
from optc.ir import dims

if TYPE_CHECKING:
    from optc.ir import Shape

X = "float[N,C,H,W] x"
# fmt: off
# name: inputs, operations, constants, opset, shapes of the results of the last operation
RULES: dict[str, tuple[str, str, str, int, list[Shape | None]]] = {
    "unary": (X, "y = Relu (x)", "", 21, [("N", "C", "H", "W")]),
    "scalar": ("float x", "y = Relu (x)", "", 21, [()]),
    "broadcast": ("float[N,1,L] a, float[8,1] b", "y = Add (a, b)", "", 21, [("N", 8, "L")]),
    "broadcast of two symbols": ("float[N] a, float[M] b", "y = Add (a, b)", "", 21, [(None,)]),
    "Where": ("bool[N,1] c, float[L] a, float b", "y = Where (c, a, b)", "", 21, [("N", "L")]),
    "PRelu": ("float[N,C] x, float[C] s", "y = PRelu (x, s)", "", 21, [("N", "C")]),
    "Dropout": ("float[N] x", "y, m = Dropout (x)", "", 21, [("N",)] * 2),
    "Conv": (
        X + ", float[16,3,3,3] w",
        "y = Conv <strides = [2, 1], pads = [1, 0, 1, 0], dilations = [1, 2]> (x, w)", "", 21,
        [("N", 16, "floor((H + 1)/2)", "W - 4")],
    ),
    "Conv, same": (
        X + ", float[16,3,3,3] w", 'y = Conv <strides = [2, 1], auto_pad = "SAME_UPPER"> (x, w)',
        "", 21, [("N", 16, "floor((H + 1)/2)", "W")],
    ),
    "Conv, kernel unknown": (
        X + ", float[O,C,K,3] w", "y = Conv (x, w)", "", 21, [("N", "O", "H - K + 1", "W - 2")],
    ),
    "Conv, larger than its operand": (
        "float[1,1,2] x, float[1,1,5] w", "y = Conv (x, w)", "", 21, [(1, 1, None)],
    ),
    "ConvTranspose": (
        "float[N,8,H,10] x, float[8,4,3,3] w",
        "y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 0], "
        "group = 2> (x, w)", "", 21, [("N", 8, "2*H", 19)],
    ),
    "ConvTranspose, output_shape": (
        "float[N,8,H,W] x, float[8,4,3,3] w", "y = ConvTranspose <output_shape = [20, 30]> (x, w)",
        "", 21, [("N", 4, 20, 30)],
    ),
    "ConvTranspose, same": (
        "float[N,8,H,W] x, float[8,4,3,3] w", 'y = ConvTranspose <auto_pad = "SAME_LOWER"> (x, w)',
        "", 21, [("N", 4, None, None)],
    ),
    "MaxPool": (
        X, "y, i = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)", "",
        21, [("N", "C", "floor((H + 1)/2)", "floor((W + 1)/2)")] * 2,
    ),
    "MaxPool, ceil": (
        X, "y = MaxPool <kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1> (x)", "", 21,
        [("N", "C", "floor(H/2)", "floor((W + 1)/2)")],
    ),
    "MaxPool, ceil, last window in the padding": (
        X,
        "y = MaxPool <kernel_shape = [2, 2], strides = [2, 2], pads = [1, 1, 1, 1], ceil_mode "
        "= 1> (x)", "", 21, [("N", "C", None, None)],
    ),
    "MaxPool, same, dilated": (
        X, 'y = MaxPool <kernel_shape = [2, 2], dilations = [2, 1], auto_pad = "SAME_UPPER"> (x)',
        "", 21, [("N", "C", None, None)],
    ),
    "GlobalAveragePool": (X, "y = GlobalAveragePool (x)", "", 21, [("N", "C", 1, 1)]),
    "RoiAlign": (
        X + ", float[R,4] r, int64[R] b",
        "y = RoiAlign <output_height = 7, output_width = 5> (x, r, b)", "", 21, [("R", "C", 7, 5)],
    ),
    "GridSample": (
        X + ", float[N,P,Q,2] g", "y = GridSample (x, g)", "", 21, [("N", "C", "P", "Q")],
    ),
    "Resize, scales": (
        X, "y = Resize (x, , s)", "float[4] s = {1.0, 1.0, 2.0, 0.5}", 21,
        [("N", "C", "2*H", "floor(W/2)")],
    ),
    "Resize, a scale that is no exact fraction": (
        "float[N,2,10,W] x", "y = Resize (x, , s)", "float[4] s = {1, 1, 0.3, 0.3}", 21,
        [("N", 2, 3, None)],
    ),
    "Resize, sizes": (
        X, "y = Resize (x, , , s)", "int64[4] s = {1, 3, 20, 30}", 21, [(1, 3, 20, 30)],
    ),
    "Resize, axes": (
        X, "y = Resize <axes = [3, -2]> (x, , , s)", "int64[2] s = {20, 30}", 21,
        [("N", "C", 30, 20)],
    ),
    "Resize, aspect ratio": (
        X, 'y = Resize <axes = [2, 3], keep_aspect_ratio_policy = "not_larger"> (x, , , s)',
        "int64[2] s = {20, 30}", 21, [("N", "C", None, None)],
    ),
    "Resize, crop": (
        X + ", float[8] r",
        'y = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, r, s)',
        "float[4] s = {1, 1, 2, 2}", 21, [(None, None, None, None)],
    ),
    "Resize-11, empty sizes": (
        X, "y = Resize (x, r, s, e)",
        "float[0] r = {}, float[4] s = {1, 1, 2, 2}, int64[0] e = {}", 11,
        [("N", "C", "2*H", "2*W")],
    ),
    "Resize-10": (
        X, "y = Resize (x, s)", "float[4] s = {1, 1, 2, 2}", 10, [("N", "C", "2*H", "2*W")],
    ),
    "Upsample-7": (
        X, "y = Upsample <scales = [1.0, 1.0, 2.0, 2.0]> (x)", "", 7, [("N", "C", "2*H", "2*W")],
    ),
    "MatMul": (
        "float[N,1,L,64] a, float[12,64,M] b", "y = MatMul (a, b)", "", 21, [("N", 12, "L", "M")],
    ),
    "MatMul, vectors": ("float[K] a, float[N,K,M] b", "y = MatMul (a, b)", "", 21, [("N", "M")]),
    "MatMul, dot": ("float[K] a, float[K] b", "y = MatMul (a, b)", "", 21, [()]),
    "Gemm": (
        "float[K,N] a, float[M,K] b", "y = Gemm <transA = 1, transB = 1> (a, b)", "", 21,
        [("N", "M")],
    ),
    "Einsum": (
        "float[B,H,I,D] a, float[B,H,J,D] b", 'y = Einsum <equation = "bhid,bhjd->bhij"> (a, b)',
        "", 21, [("B", "H", "I", "J")],
    ),
    "Einsum, ellipsis": (
        "float[B,1,I,D] a, float[8,D,J] b",
        'y = Einsum <equation = "...id, ...dj -> ...ij"> (a, b)', "", 21, [("B", 8, "I", "J")],
    ),
    "Einsum, implicit": ("float[B,A] x", 'y = Einsum <equation = "ba"> (x)', "", 21, [("A", "B")]),
    "Reshape": (
        "float[N,L,768] x", "y = Reshape (x, s)", "int64[4] s = {0, -1, 12, 64}", 21,
        [("N", "L", 12, 64)],
    ),
    "Reshape, flat": (
        "float[N,L,768] x", "y = Reshape (x, s)", "int64[2] s = {-1, 96}", 21, [("8*L*N", 96)],
    ),
    "Reshape, not divisible for all": (
        "float[N,L] x", "y = Reshape (x, s)", "int64[2] s = {-1, 4}", 21, [("floor(L*N/4)", 4)],
    ),
    "Reshape, allowzero": (
        "float[N,0] x", "y = Reshape <allowzero = 1> (x, s)", "int64[2] s = {0, 4}", 21, [(0, 4)],
    ),
    "Reshape, shape unknown": (
        "float[N,0] x, int64[3] s", "y = Reshape (x, s)", "", 21, [(None, None, None)],
    ),
    "Flatten": (X, "y = Flatten <axis = 2> (x)", "", 21, [("C*N", "H*W")]),
    "Flatten, negative": (X, "y = Flatten <axis = -1> (x)", "", 21, [("C*H*N", "W")]),
    "Transpose": (X, "y = Transpose <perm = [0, 2, 3, 1]> (x)", "", 21, [("N", "H", "W", "C")]),
    "Transpose, default": ("float[N,C] x", "y = Transpose (x)", "", 21, [("C", "N")]),
    "Squeeze": ("float[N,1,L,1] x", "y = Squeeze (x, a)", "int64[2] a = {1, -1}", 21, [("N", "L")]),
    "Squeeze-11": ("float[N,1,L,1] x", "y = Squeeze <axes = [1]> (x)", "", 11, [("N", "L", 1)]),
    "Squeeze, all": ("float[2,1,3,1] x", "y = Squeeze (x)", "", 21, [(2, 3)]),
    "Squeeze, all, dynamic": ("float[N,1] x", "y = Squeeze (x)", "", 21, [None]),
    "Squeeze, axes unknown": (
        "float[N,1,L,1] x, int64[2] a", "y = Squeeze (x, a)", "", 21, [(None, None)],
    ),
    "Unsqueeze": (
        "float[N,L] x", "y = Unsqueeze (x, a)", "int64[2] a = {-1, 0}", 21, [(1, "N", "L", 1)],
    ),
    "Unsqueeze-11": ("float[N,L] x", "y = Unsqueeze <axes = [1]> (x)", "", 11, [("N", 1, "L")]),
    "Concat": (
        "float[N,2,L] a, float[?,M,8] b", "y = Concat <axis = 1> (a, b)", "", 21,
        [("N", "M + 2", 8)],
    ),
    "Split": ("float[N,12] x", "y, z, q = Split <axis = 1> (x)", "", 17, [("N", 4)] * 3),
    "Split, sizes": (
        "float[N,L] x", "y, z = Split <axis = 1> (x, s)", "int64[2] s = {3, 5}", 21,
        [("N", 3), ("N", 5)],
    ),
    "Split, uneven": (
        "float[10] x", "y, z, q = Split <num_outputs = 3> (x)", "", 21, [(4,), (4,), (2,)],
    ),
    "Split-11": (
        "float[N,8] x", "y, z = Split <axis = 1, split = [2, 6]> (x)", "", 11,
        [("N", 2), ("N", 6)],
    ),
    "Slice": (
        "float[N,L,10] x", "y = Slice (x, b, e, a, s)",
        "int64[3] b = {1, -3, 8}, int64[3] e = {9223372036854775807, 9223372036854775807, 2}, "
        "int64[3] a = {0, 1, -1}, int64[3] s = {2, 1, -2}", 21,
        [("floor((max(0, N - 1) + 1)/2)", "min(3, L)", 3)],
    ),
    "Slice-9": (
        "float[N,L] x", "y = Slice <starts = [0], ends = [5], axes = [1]> (x)", "", 9,
        [("N", "min(5, L)")],
    ),
    "Slice, bounds unknown": (
        "float[N,4] x, int64[1] b, int64[1] e", "y = Slice (x, b, e)", "", 21, [(None, None)],
    ),
    "Gather": ("float[V,D] x, int64[N,L] i", "y = Gather (x, i)", "", 21, [("N", "L", "D")]),
    "Gather, scalar": (
        "float[N,L,D] x", "y = Gather <axis = -2> (x, i)", "int64 i = {0}", 21, [("N", "D")],
    ),
    "GatherElements": (
        "float[N,L] x, int64[N,3] i", "y = GatherElements (x, i)", "", 21, [("N", 3)],
    ),
    "GatherND": (
        "float[N,L,D,E] x, int64[N,K,2] i", "y = GatherND <batch_dims = 1> (x, i)", "", 21,
        [("N", "K", "E")],
    ),
    "ScatterND": (
        "float[N,L] x, int64[K,1] i, float[K,L] u", "y = ScatterND (x, i, u)", "", 21,
        [("N", "L")],
    ),
    "Expand": ("float[N,1] x", "y = Expand (x, s)", "int64[3] s = {5, 1, 7}", 21, [(5, "N", 7)]),
    "Tile": ("float[N,3] x", "y = Tile (x, r)", "int64[2] r = {2, 4}", 21, [("2*N", 12)]),
    "Pad": (
        "float[N,3,L] x", "y = Pad (x, p)", "int64[6] p = {0, 1, 2, 0, 1, -1}", 21,
        [("N", 5, "L + 1")],
    ),
    "Pad, axes": (
        "float[N,3,L] x", "y = Pad (x, p, , a)", "int64[2] p = {2, 3}, int64[1] a = {-1}", 21,
        [("N", 3, "L + 5")],
    ),
    "Pad-2": ("float[N,L] x", "y = Pad <pads = [0, 1, 0, 1]> (x)", "", 7, [("N", "L + 2")]),
    "DepthToSpace": (
        X, "y = DepthToSpace <blocksize = 2> (x)", "", 21, [("N", "floor(C/4)", "2*H", "2*W")],
    ),
    "SpaceToDepth": (
        "float[N,3,H,8] x", "y = SpaceToDepth <blocksize = 2> (x)", "", 21,
        [("N", 12, "floor(H/2)", 4)],
    ),
    "Compress": (
        X + ", bool[K] c", "y = Compress <axis = 1> (x, c)", "", 21, [("N", None, "H", "W")],
    ),
    "ReduceMean": (X, "y = ReduceMean (x, a)", "int64[2] a = {2, -1}", 21, [("N", "C", 1, 1)]),
    "ReduceMean-13": (
        X, "y = ReduceMean <axes = [1], keepdims = 0> (x)", "", 13, [("N", "H", "W")],
    ),
    "ReduceSum, all": (X, "y = ReduceSum <keepdims = 0> (x)", "", 21, [()]),
    "ReduceSum, nothing": (
        X, "y = ReduceSum <noop_with_empty_axes = 1> (x)", "", 21, [("N", "C", "H", "W")],
    ),
    "ReduceSum, axes unknown": (
        X + ", int64[2] a", "y = ReduceSum (x, a)", "", 21, [(None, None, None, None)],
    ),
    "ArgMax": (X, "y = ArgMax <axis = 1, keepdims = 0> (x)", "", 21, [("N", "H", "W")]),
    "TopK": ("float[N,L] x", "y, i = TopK (x, k)", "int64[1] k = {5}", 21, [("N", 5)] * 2),
    "OneHot": (
        "int64[N,L] i, float[2] v", "y = OneHot (i, d, v)", "int64 d = {10}", 21, [("N", "L", 10)],
    ),
    "Softmax": (X, "y = Softmax (x)", "", 21, [("N", "C", "H", "W")]),
    "LayerNormalization": (
        "float[N,L,D] x, float[D] s", "y, m, i = LayerNormalization (x, s)", "", 21,
        [("N", "L", "D"), ("N", "L", 1), ("N", "L", 1)],
    ),
    "QuantizeLinear": ("float[N,L] x, float s", "y = QuantizeLinear (x, s)", "", 21, [("N", "L")]),
    "DynamicQuantizeLinear": (
        "float[N,L] x", "y, s, z = DynamicQuantizeLinear (x)", "", 21, [("N", "L"), (), ()],
    ),
    "Shape": (X, "y = Shape <start = 1, end = -1> (x)", "", 21, [(2,)]),
    "Size": (X, "y = Size (x)", "", 21, [()]),
    "ConstantOfShape": (
        "float[N] x", "y = ConstantOfShape (s)", "int64[2] s = {2, 3}", 21, [(2, 3)],
    ),
    "Range": (
        "float[N] x", "y = Range (a, b, c)", "int64 a = {7}, int64 b = {0}, int64 c = {-2}", 21,
        [(4,)],
    ),
    "NonZero": ("float[N,L] x", "y = NonZero (x)", "", 21, [(2, None)]),
    "LSTM": (
        "float[T,N,16] x, float[2,32,16] w, float[2,32,8] r",
        'y, h, c = LSTM <hidden_size = 8, direction = "bidirectional"> (x, w, r)', "", 21,
        [("T", 2, "N", 8), (2, "N", 8), (2, "N", 8)],
    ),
    "GRU, batch first": (
        "float[N,T,16] x, float[1,24,16] w, float[1,24,8] r", "y, h = GRU <layout = 1> (x, w, r)",
        "", 21, [("N", "T", 1, 8), ("N", 1, 8)],
    ),
    "Attention": (
        "float[N,L,64] q, float[N,M,64] k, float[N,M,32] v",
        "y = Attention <q_num_heads = 8, kv_num_heads = 4> (q, k, v)", "", 23, [("N", "L", 64)],
    ),
    "CenterCropPad": (
        X, "y = CenterCropPad <axes = [2, 3]> (x, s)", "int64[2] s = {9, 8}", 21,
        [("N", "C", 9, 8)],
    ),
    "If": (
        "bool c, float[N,4] x",
        "y = If (c) <then_branch = t () => (float[N,4] a) { a = Relu (x) }, else_branch = e "
        "() => (float[M,4] b) { b = Neg (x) }>", "", 21, [(None, 4)],
    ),
    "FusedMatMul": (
        "float[N,K,L] a, float[N,M,K] b",
        "y = com.microsoft.FusedMatMul <transA = 1, transB = 1> (a, b)", "", 21, [("N", "L", "M")],
    ),
    "SkipLayerNormalization": (
        "float[N,L,D] x, float[N,L,D] s, float[D] g",
        "y, m, i, q = com.microsoft.SkipLayerNormalization (x, s, g)", "", 21,
        [("N", "L", "D"), ("N", "L", 1), ("N", "L", 1), ("N", "L", "D")],
    ),
    "QLinearConcat": (
        "float s, uint8 z, uint8[N,2] a, uint8[N,3] b",
        "y = com.microsoft.QLinearConcat <axis = 1> (s, z, a, s, z, b, s, z)", "", 21, [("N", 5)],
    ),
    "channels last": (
        X + ", float s, uint8 z",
        "y = com.microsoft.QLinearGlobalAveragePool <channels_last = 1> (x, s, z, s, z)", "", 21,
        [None],
    ),
}
# fmt: on


def canonical(shape: Shape | None) -> Shape | None:
    return None if shape is None else tuple(map(dims.canonical, shape))


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    inputs, line, constants, opset, expected = RULES[name]
    found = infer_line(inputs, line, constants, opset)
    assert list(map(canonical, found)) == list(map(canonical, expected))
