"""remove-identity: no-ops go where shapes, types and numbers are provably those of the operand."""

from __future__ import annotations

import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import clone
from optc.passes.remove_identity import RemoveIdentity


def model(type_: str, line: str, constants: str = "", *, opset: int = 21, mid: str = "") -> str:
    """Abs, then `line`, which makes b from a, then Neg; the types of x, a and y are known."""
    known = f"<{mid or type_} a{', ' + constants if constants else ''}>"
    return (
        f'<ir_version: 10, opset_import: ["" : {opset}]> '
        f"g ({type_} x) => ({type_} y) {known} {{ a = Abs (x) {line} y = Neg (b) }}"
    )


T, T4 = "float[2,3,4]", "float[1,2,3,4]"
# name: type, the operation, constants, opset
NO_OPS = {
    "Identity": (T, "b = Identity (a)", "", 21),
    "Identity, nothing known": ("float[N,M]", "b = Identity (a)", "", 21),
    "Dropout": (T, "b = Dropout (a)", "", 21),
    "Dropout, ratio": (T, "b = Dropout (a, r)", "float r = {0.5}", 21),
    "Dropout, mode off": (T, "b = Dropout (a, r, t)", "float r = {0.5}, bool t = {0}", 21),
    "Dropout, no ratio": (T, "b = Dropout (a, , t)", "bool t = {0}", 12),
    "Dropout-7": (T, "b = Dropout <ratio = 0.3> (a)", "", 7),
    "Dropout-10, mask unused": (T, "b, m = Dropout <ratio = 0.3> (a)", "", 10),
    "Cast": (T, "b = Cast <to = 1> (a)", "", 21),
    "CastLike": (T, "b = CastLike (a, x)", "", 21),
    "Concat": (T, "b = Concat <axis = 1> (a)", "", 21),
    "Sum": (T, "b = Sum (a)", "", 21),
    "Mean": (T, "b = Mean (a)", "", 21),
    "Max": (T, "b = Max (a)", "", 21),
    "Min": (T, "b = Min (a)", "", 21),
    "Split": (T, "b = Split <axis = 1, num_outputs = 1> (a)", "", 21),
    "Split-11": (T, "b = Split <axis = 1, split = [3]> (a)", "", 11),
    "Add": (T, "b = Add (a, c)", "float c = {0.0}", 21),
    "Add, left": (T, "b = Add (c, a)", "float c = {0.0}", 21),
    "Add, negative zero": (T, "b = Add (a, c)", "float c = {-0.0}", 21),
    "Add, vector": (T, "b = Add (a, c)", "float[4] c = {0, 0, 0, 0}", 21),
    "Add, column": (T, "b = Add (a, c)", "float[3,1] c = {0, 0, 0}", 21),
    "Add, symbolic": ("float[N,M]", "b = Add (a, c)", "float[1,1] c = {0}", 21),
    "Add, scalar, rank unknown": ("float[N]", "b = Add (a, c)", "float c = {0}", 21),
    "Sub": (T, "b = Sub (a, c)", "float[1] c = {0}", 21),
    "Mul": (T, "b = Mul (a, c)", "float[1,1,1] c = {1}", 21),
    "Mul, left": (T, "b = Mul (c, a)", "float[4] c = {1, 1, 1, 1}", 21),
    "Mul, integers": ("int64[2]", "b = Mul (a, c)", "int64 c = {1}", 21),
    "Div": (T, "b = Div (a, c)", "float c = {1}", 21),
    "Pow": (T, "b = Pow (a, c)", "int64 c = {1}", 21),
    "PRelu": (T, "b = PRelu (a, c)", "float[3,1] c = {1, 1, 1}", 21),
    "Where, true": (T, "b = Where (c, a, d)", "bool[1] c = {1}, float d = {2}", 21),
    "Where, false": (T, "b = Where (c, d, a)", "bool[1] c = {0}, float d = {2}", 21),
    "Where, equal branches": (
        T,
        "c = Greater (x, d) b = Where (c, a, a)",
        "float d = {0}, bool[2,3,4] c",
        21,
    ),
    "Reshape": (T, "b = Reshape (a, s)", "int64[3] s = {2, 3, 4}", 21),
    "Reshape, inferred": (T, "b = Reshape (a, s)", "int64[3] s = {2, -1, 4}", 21),
    "Reshape, copied": ("float[N,M,K]", "b = Reshape (a, s)", "int64[3] s = {0, 0, -1}", 21),
    "Reshape, allowzero": (T, "b = Reshape <allowzero = 1> (a, s)", "int64[3] s = {2, 3, 4}", 21),
    "Reshape, scalar": ("float", "b = Reshape (a, s)", "int64[0] s = {}", 21),
    "Flatten": ("float[N,4]", "b = Flatten (a)", "", 21),
    "Flatten, negative": ("float[N,4]", "b = Flatten <axis = -1> (a)", "", 21),
    "Squeeze, nothing": (T, "b = Squeeze (a)", "", 21),
    "Squeeze-11, nothing": (T, "b = Squeeze (a)", "", 11),
    "Unsqueeze, no axes": (T, "b = Unsqueeze (a, s)", "int64[0] s = {}", 21),
    "Transpose": (T, "b = Transpose <perm = [0, 1, 2]> (a)", "", 21),
    "Transpose, vector": ("float[N]", "b = Transpose (a)", "", 21),
    "Pad": (T, "b = Pad (a, s)", "int64[6] s = {0, 0, 0, 0, 0, 0}", 21),
    "Pad, reflect": (T, 'b = Pad <mode = "reflect"> (a, s)', "int64[6] s = {0,0,0,0,0,0}", 21),
    "Pad-2": (T, "b = Pad <pads = [0, 0, 0, 0, 0, 0]> (a)", "", 10),
    "Slice, ends": (
        T,
        "b = Slice (a, s, e, i)",
        "int64[2] s = {0, 0}, int64[2] e = {3, 99}, int64[2] i = {1, -1}",
        21,
    ),
    "Slice, to the end": (
        "float[N,M]",
        "b = Slice (a, s, e, i, p)",
        "int64[1] s = {0}, int64[1] e = {9223372036854775807}, int64[1] i = {1}, int64[1] p = {1}",
        21,
    ),
    "Slice, int32": (
        "float[N]",
        "b = Slice (a, s, e)",
        "int32[1] s={0}, int32[1] e={2147483647}",
        21,
    ),
    "Slice, from far before": (T, "b = Slice (a, s, e)", "int64[1] s = {-2}, int64[1] e = {2}", 21),
    "Slice-1": (T, "b = Slice <starts = [0], ends = [9], axes = [2]> (a)", "", 9),
    "Expand": (T, "b = Expand (a, s)", "int64[3] s = {2, 3, 4}", 21),
    "Expand, ones": ("float[N,M]", "b = Expand (a, s)", "int64[2] s = {1, 1}", 21),
    "Expand, shorter": (T, "b = Expand (a, s)", "int64[1] s = {4}", 21),
    "Tile": ("float[N,M]", "b = Tile (a, s)", "int64[2] s = {1, 1}", 21),
    "Resize, scales": (T4, "b = Resize (a, , s)", "float[4] s = {1, 1, 1, 1}", 21),
    "Resize, linear": (
        T4,
        'b = Resize <mode = "linear", coordinate_transformation_mode = "align_corners"> (a, , s)',
        "float[4] s = {1, 1, 1, 1}",
        21,
    ),
    "Resize, sizes": (
        T4,
        "b = Resize (a, , , s)",
        "int64[4] s = {1, 2, 3, 4}, float[1,2,3,4] b",
        21,
    ),
    "Resize-10": (T4, "b = Resize (a, s)", "float[4] s = {1, 1, 1, 1}", 10),
    "Upsample-9": (T4, "b = Upsample (a, s)", "float[4] s = {1, 1, 1, 1}", 9),
    "Upsample-7": (T4, "b = Upsample <scales = [1.0, 1.0, 1.0, 1.0]> (a)", "", 7),
    "AveragePool": (T4, "b = AveragePool <kernel_shape = [1, 1]> (a)", "", 21),
    "MaxPool": (T4, "b = MaxPool <kernel_shape = [1, 1], strides = [1, 1]> (a)", "", 21),
    "GlobalAveragePool": ("float[N,3,1,1]", "b = GlobalAveragePool (a)", "", 21),
    "ReduceMean, size 1": ("float[N,1,4]", "b = ReduceMean (a, i)", "int64[1] i = {1}", 21),
    "ReduceSum-11": ("float[N,1,4]", "b = ReduceSum <axes = [1]> (a)", "", 11),
    "ReduceMax, no axes": ("float[1,1]", "b = ReduceMax (a)", "", 21),
    "ReduceSum, told to do nothing": (T, "b = ReduceSum <noop_with_empty_axes = 1> (a)", "", 21),
    "Clip": (T, "b = Clip (a, l, h)", "float l = {-inf}, float h = {inf}", 21),
    "Clip, integers": ("int32[4]", "b = Clip (a)", "", 21),
    "Clip, all int8": ("int8[4]", "b = Clip (a, l, h)", "int8 l = {-128}, int8 h = {127}", 21),
    "LeakyRelu": (T, "b = LeakyRelu <alpha = 1.0> (a)", "", 21),
    "DepthToSpace": (T4, "b = DepthToSpace <blocksize = 1> (a)", "", 21),
    "Abs of Abs": (T, "b = Abs (a)", "", 21),
}


@pytest.mark.parametrize(("type_", "line", "constants", "opset"), NO_OPS.values(), ids=NO_OPS)
def test_removes(type_: str, line: str, constants: str, opset: int) -> None:
    before = model(type_, line, constants, opset=opset)
    graph = graph_from_text(before)
    source = clone(graph)
    result = run_pass(RemoveIdentity(), graph)
    assert sum(result.counts.values()) == 1
    assert [name for name in result.counts if not name.startswith("no-op-")] == []
    assert [n.op_type for n in graph.ordered() if n.op_type != "Greater"] == ["Abs", "Neg"]
    assert_same_numbers(source, graph)


# name: type, the operation, constants, opset, reasons
KEPT = {
    "Dropout, training": (
        T,
        "b = Dropout (a, r, t)",
        "float r = {0.5}, bool t = {1}",
        21,
        "b: training mode is not known to be off",
    ),
    "Cast to another type": (
        T,
        "c = Cast <to = 7> (a) b = Cast <to = 1> (c)",
        "",
        21,
        "b: i64 does not hold every value of f32",
    ),
    "Concat of two": (T, "b = Max (a, x)", "", 21, None),
    "Add, broadcasting": (
        "float[4]",
        "d = Add (a, c) b = ReduceMax <keepdims = 0> (d, i)",
        "float[2,4] c = {0,0,0,0,0,0,0,0}, int64[1] i = {0}",
        21,
        "d: c may broadcast a to another shape",
    ),
    "Add, dimension not known": (
        "float[N]",
        "b = Add (a, c)",
        "float[3] c = {0, 0, 0}",
        21,
        "b: c may broadcast a to another shape",
    ),
    "Add, not zero everywhere": (T, "b = Add (a, c)", "float[4] c = {0, 0, 0, 1}", 21, None),
    "Sub from zero": (T, "b = Sub (c, a)", "float c = {0}", 21, None),
    "one by x": (T, "b = Div (c, a)", "float c = {1}", 21, None),
    "one to the x": (T, "b = Pow (c, a)", "float c = {1}", 21, None),
    "Where, broadcasting": (
        "float[4]",
        "d = Where (c, a, e) b = ReduceMax <keepdims = 0> (d, i)",
        "bool[2,1] c = {1, 1}, float e = {2}, int64[1] i = {0}",
        21,
        "d: a may be broadcast to another shape",
    ),
    "Where, mixed": (T, "b = Where (c, a, d)", "bool[4] c = {1,0,1,1}, float d = {2}", 21, None),
    "Squeeze, perhaps something": ("float[N]", "b = Squeeze (a)", "", 21, None),
    "Transpose": ("float[2,2]", "b = Transpose (a)", "", 21, None),
    "Pad": (
        T,
        "c = Pad (a, s) b = Slice (c, o, e)",
        "int64[6] s = {1,0,0,0,0,0}, int64[1] o = {1}, int64[1] e = {3}",
        21,
        None,
    ),
    "Slice, backwards": (
        T,
        "b = Slice (a, s, e, i, p)",
        "int64[1] s={-1}, int64[1] e={-9}, int64[1] i={0}, int64[1] p={-1}",
        21,
        None,
    ),
    "Slice, up to a number": (
        "float[N]",
        "b = Slice (a, s, e)",
        "int64[1] s={0}, int64[1] e={9}",
        21,
        None,
    ),
    "Slice, not constant": ("int64[3]", "b = Slice (a, s, x)", "int64[3] s = {0, 0, 0}", 21, None),
    "Expand, dimension not known": ("float[N]", "b = Expand (a, s)", "int64[1] s = {3}", 21, None),
    "Tile": (
        T,
        "c = Tile (a, s) b = Slice (c, o, e)",
        "int64[3] s = {2,1,1}, int64[1] o = {0}, int64[1] e = {2}",
        21,
        None,
    ),
    "Resize, cubic": (
        T4,
        'b = Resize <mode = "cubic"> (a, , s)',
        "float[4] s = {1, 1, 1, 1}",
        21,
        "b: all scales are 1, but the interpolation is not exact there",
    ),
    "Resize, cropping": (
        T4,
        'b = Resize <mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize"> '
        "(a, r, s)",
        "float[8] r = {0, 0, 0, 0, 1, 1, 1, 1}, float[4] s = {1, 1, 1, 1}",
        21,
        "b: all scales are 1, but coordinate_transformation_mode shifts the samples",
    ),
    "MaxPool, indices used": (
        T4,
        "b, i = MaxPool <kernel_shape = [1, 1]> (a) j = Neg (i)",
        "",
        21,
        "b: its result i is used",
    ),
    "MaxPool, padded": (
        T4,
        "c = MaxPool <kernel_shape = [1, 1], pads = [0, 0, 1, 0]> (a) b = Slice (c, s, e, i)",
        "int64[1] s = {0}, int64[1] e = {3}, int64[1] i = {2}",
        21,
        None,
    ),
    "GlobalAveragePool": (
        "float[N,3,1,S]",
        "c = GlobalAveragePool (a) b = Add (a, c)",
        "",
        21,
        None,
    ),
    "ReduceMean, dimension not known": (
        "float[N,4]",
        "c = ReduceMean (a, i) b = Add (a, c)",
        "int64[1] i = {0}",
        21,
        None,
    ),
    "ReduceMean, dimension dropped": (
        "float[N,1]",
        "c = ReduceMean <keepdims = 0> (a, i) b = Unsqueeze (c, j)",
        "int64[1] i = {1}, int64[1] j = {-1}",
        21,
        None,
    ),
    "Clip, no bounds": (
        T,
        "b = Clip (a)",
        "",
        21,
        "b: without bounds it still makes infinities finite",
    ),
    "Clip-6, no bounds": (
        T,
        "b = Clip (a)",
        "",
        7,
        "b: without bounds it still makes infinities finite",
    ),
    "Clip, half open": (T, "b = Clip (a, l)", "float l = {-inf}", 21, None),
    "Clip, bound not known": (T, "l = ReduceMin <keepdims = 0> (x) b = Clip (a, l)", "", 21, None),
    "LeakyRelu": (T, "b = LeakyRelu (a)", "", 21, None),
    "Relu of Abs": (T, "b = Relu (a)", "", 21, None),
}


@pytest.mark.parametrize(("type_", "line", "constants", "opset", "reason"), KEPT.values(), ids=KEPT)
def test_keeps(type_: str, line: str, constants: str, opset: int, reason: str | None) -> None:
    reasons = () if reason is None else (reason,)
    assert_refuses(RemoveIdentity(), model(type_, line, constants, opset=opset), *reasons)
