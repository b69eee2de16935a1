"""remove-identity: no-ops go where shapes, types and numbers are provably those of the operand."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_rewrites, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import Tensor, clone
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


SHORTCUTS = {
    "casts through a wider float": (
        "g (float16[4] x) => (float16[4] y) {"
        "  a = Cast <to = 1> (x) b = Cast <to = 10> (a) y = Abs (b) }",
        "g (float16[4] x) => (float16[4] y) { y = Abs (x) }",
        {"cast-of-cast": 1, "no-op-cast": 1},
    ),
    "casts to a third type": (
        "g (int8[4] x) => (float[4] y) { a = Cast <to = 7> (x) y = Cast <to = 1> (a) }",
        "g (int8[4] x) => (float[4] y) { y = Cast <to = 1> (x) }",
        {"cast-of-cast": 1},
    ),
    "casts with an inner result that is used": (
        "g (float[4] x) => (float16[4] y, double[4] z) {"
        "  a = Cast <to = 11> (x) y = Cast <to = 10> (a) z = Neg (a) }",
        "g (float[4] x) => (float16[4] y, double[4] z) {"
        "  a = Cast <to = 11> (x) y = Cast <to = 10> (x) z = Neg (a) }",
        {"cast-of-cast": 1},
    ),
    "reshapes in a row": (
        "g (float[N,6] x) => (float[P,2] y) <int64[3] s = {0, 3, 2}, int64[2] t = {-1, 2}> {"
        "  a = Reshape (x, s) y = Reshape (a, t) }",
        "g (float[N,6] x) => (float[P,2] y) <int64[2] t = {-1, 2}> { y = Reshape (x, t) }",
        {"reshape-of-view": 1},
    ),
    "a reshape that copies a dimension that is the same": (
        "g (float[N,6] x) => (float[N,3,2] y)"
        "  <int64[2] s = {0, -1}, int64[3] t = {0, 3, 2}, float[N,1,6] a> {"
        "  a = Unsqueeze (x, i) y = Reshape (a, t) i = Constant <value_ints = [1]> () }",
        "g (float[N,6] x) => (float[N,3,2] y) <int64[2] s = {0, -1}, int64[3] t = {0, 3, 2}> {"
        "  y = Reshape (x, t) }",
        {"reshape-of-view": 1},
    ),
    "a view and back": (
        "g (float[N,6] x) => (float[N,6] y) <int64[1] i = {1}, float[N,1,6] a, float[N,6] b> {"
        "  a = Unsqueeze (x, i) b = Squeeze (a, i) y = Exp (b) }",
        "g (float[N,6] x) => (float[N,6] y) { y = Exp (x) }",
        {"no-op-squeeze": 1},
    ),
    "negation twice": (
        "g (float[4] x) => (float[4] y) { a = Neg (x) b = Neg (a) y = Exp (b) }",
        "g (float[4] x) => (float[4] y) { y = Exp (x) }",
        {"no-op-neg": 1},
    ),
    "not not": (
        "g (bool[4] x) => (bool[4] y, bool[4] z) { z = Not (x) b = Not (z) y = And (b, x) }",
        "g (bool[4] x) => (bool[4] y, bool[4] z) { z = Not (x) y = And (x, x) }",
        {"no-op-not": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), SHORTCUTS.values(), ids=SHORTCUTS)
def test_shortcuts(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


KEPT_CHAINS = {
    "a narrower float": (
        "g (float[4] x) => (float[4] y) { a = Cast <to = 10> (x) [c] y = Cast <to = 1> (a) }",
        ("c: f16 does not hold every value of f32",),
    ),
    "integers through a float": (
        "g (int32[4] x) => (int32[4] y) { a = Cast <to = 1> (x) [c] y = Cast <to = 6> (a) }",
        ("c: f32 does not hold every value of i32",),
    ),
    "signed through unsigned": (
        "g (int8[4] x) => (int8[4] y) { a = Cast <to = 13> (x) [c] y = Cast <to = 3> (a) }",
        ("c: u64 does not hold every value of i8",),
    ),
    "a float that becomes an integer": (
        "g (float16[4] x) => (int32[4] y) { a = Cast <to = 1> (x) y = Cast <to = 6> (a) }",
        (),
    ),
    "a shape that is not constant": (
        "g (float[N,6] x, int64[2] s) => (float[P,Q] y) <int64[3] t = {0, 3, 2}>"
        "{ a = Reshape (x, t) [r] y = Reshape (a, s) }",
        ("r: the new shape s is not constant",),
    ),
    "a shape that copies a dimension that may have changed": (
        "g (float[N,4] x) => (float[P,Q,R] y) <int64[2] s = {4, -1}, int64[3] t = {0, 2, -1}>"
        "{ a = Reshape (x, s) [r] y = Reshape (a, t) }",
        ("r: the new shape copies dimension 0, which a may have changed",),
    ),
}


@pytest.mark.parametrize(("text", "reasons"), KEPT_CHAINS.values(), ids=KEPT_CHAINS)
def test_keeps_chains(text: str, reasons: tuple[str, ...]) -> None:
    assert_refuses(RemoveIdentity(), text, *reasons)


# ---- outputs -----------------------------------------------------------------------------------

ENDS = {
    "an operation's result may become the output": (
        "g (float[2] x) => (float[2] y) { a = Relu (x) y = Identity (a) }",
        "g (float[2] x) => (float[2] y) { y = Relu (x) }",
        {"no-op-identity": 1},
    ),
    "what reads a needed copy reads the source": (
        "g (float[2] x) => (float[2] y, float[2] z) { y = Identity (x) z = Relu (y) }",
        "g (float[2] x) => (float[2] y, float[2] z) { y = Identity (x) z = Relu (x) }",
        {"bypass-identity": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), ENDS.values(), ids=ENDS)
def test_outputs(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


def test_another_no_op_before_an_output_goes_even_if_the_emitter_has_to_copy() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Dropout (x) }"
    graph = graph_from_text(text)
    source = clone(graph)
    assert run_pass(RemoveIdentity(), graph).counts == {"no-op-dropout": 1}
    assert len(graph) == 0
    assert_same_numbers(source, graph)


NEEDED = {
    "graph input": (
        "g (float[2] x) => (float[2] y) { [i] y = Identity (x) }",
        ("i: it makes the graph input x an output",),
    ),
    "constant": (
        "g (float[2] x) => (float[2] y, float[1] z) <float[1] c = {1.0}>"
        "{ y = Relu (x) [i] z = Identity (c) }",
        ("i: it makes the constant c an output",),
    ),
    "second output": (
        "g (float[2] x) => (float[2] y, float[2] z) { y = Relu (x) [i] z = Identity (y) }",
        ("i: it makes a second output of y",),
    ),
    "captured value": (
        "g (bool c, float[2] x) => (float[2] y) { y = If (c) <"
        " then_branch = t () => (float[2] p) { [i] p = Identity (x) },"
        " else_branch = e () => (float[2] q) { q = Relu (x) }> }",
        ("i: it makes the captured value x an output",),
    ),
}


@pytest.mark.parametrize(("text", "reasons"), NEEDED.values(), ids=NEEDED)
def test_an_identity_that_onnx_needs_stays(text: str, reasons: tuple[str, ...]) -> None:
    assert_refuses(RemoveIdentity(), text, *reasons)


def test_the_first_of_two_copies_goes() -> None:
    before = """
    g (float[2] x) => (float[2] y, float[2] z)
    {
       a = Relu (x)
       y = Identity (a)
       z = Identity (a)
    }
    """
    expected = """
    g (float[2] x) => (float[2] y, float[2] z)
    {
       y = Relu (x)
       z = Identity (y)
    }
    """
    assert_rewrites(RemoveIdentity(), before, expected, counts={"no-op-identity": 1})


# ---- neighbours --------------------------------------------------------------------------------


def test_chains_and_shared_operands_go_in_one_run() -> None:
    before = """
    g (float[2,3] x) => (float[2,3] y) <float one = {1.0}, float zero = {0.0}, int64[2] s = {2, 3}>
    {
       a = Mul (x, one)
       b = Add (a, zero)
       c = Reshape (b, s)
       d = Mul (one, c)
       e = Identity (d)
       y = Add (e, a)
    }
    """
    expected = "g (float[2,3] x) => (float[2,3] y) { y = Add (x, x) }"
    counts = {"no-op-mul": 2, "no-op-add": 1, "no-op-reshape": 1, "no-op-identity": 1}
    # The shape of a is that of x, which is known; nothing else in the chain has a type.
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


def test_inside_of_branches_and_for_captured_values() -> None:
    before = """
    g (bool c, float[2] x) => (float[2] y)
    {
       a = Identity (x)
       y = If (c) <
          then_branch = t () => (float[2] p) { q = Dropout (a) p = Abs (q) },
          else_branch = e () => (float[2] r) { r = Exp (a) }
       >
    }
    """
    expected = """
    g (bool c, float[2] x) => (float[2] y)
    {
       y = If (c) <
          then_branch = t () => (float[2] p) { p = Abs (x) },
          else_branch = e () => (float[2] r) { r = Exp (x) }
       >
    }
    """
    counts = {"no-op-identity": 1, "no-op-dropout": 1}
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


def test_a_number_in_a_weight_is_not_looked_for() -> None:
    graph = graph_from_text(
        "g (float[200,200] x, float[1] o) => (float[200,200] y) { y = Mul (x, o) }"
    )
    node = graph.value("y").node
    large = graph.add_constant(Tensor.from_numpy(np.ones((200, 200), np.float32)), "ones")
    graph.set_operand(node, 1, large)
    assert not run_pass(RemoveIdentity(), graph).changed


def test_operators_of_other_domains_are_not_taken_for_these() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
        "g (float[2] x) => (float[2] y) { a = my.Identity (x) y = Relu (a) }"
    )
    assert_refuses(RemoveIdentity(), text)


def test_the_type_of_the_result_is_kept_where_the_operand_has_none() -> None:
    text = """
    g (float[N] x) => (float[M] y) <float[M] b> { a = NonZero (x) c = Cast <to = 1> (a)
       d = Identity (c) e = Identity (d) y = ReduceMax <keepdims = 0> (e, i)
       i = Constant <value_ints = [0]> () }
    """
    graph = graph_from_text(text)
    assert run_pass(RemoveIdentity(), graph).counts == {"no-op-identity": 2}
