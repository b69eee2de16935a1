"""fold-shapes: what it leaves alone, and why."""

from __future__ import annotations

import pytest

from helpers.promises import run_pass
from helpers.shape_models import SIZES, model, reasons, typed
from optc.passes.fold_shapes import FoldShapes

REFUSALS = {
    "two unknown sizes": (
        "float[N,L,48] x, float[P] z",
        f"{SIZES} p = Shape (z) q = Div (n, p) c = Concat <axis = 0> (n, l, q, m1)"
        " y = Reshape (x, c)", "",
        ["reshape-shape y: sizes ? and -1 of the new shape are not known"],
    ),
    "two products": (
        "float[N,L,48] x, float[P,Q] z",
        "p = Shape (z) c = Concat <axis = 0> (p, m1) y = Reshape (x, c)", "",
        ["reshape-shape y: sizes P and Q and -1 of the new shape are not known"],
    ),
    "a copy that may be zero beside the wildcard": (
        "float[N,L,W,48] x",
        "z = Slice (x, i1, e) s = Shape (z) n = Gather (s, i0) g = Gather (s, a)"
        " p = ReduceProd (g) c = Concat <axis = 0> (n, p, k) y = Reshape (z, c)",
        "int64[1] e = {100000000000}, int64[2] a = {1, 2}, int64[1] k = {48}",
        ["reshape-shape y: size max(0, N - 1) beside the unknown one may be zero"],
    ),
    "an explicit zero": (
        "float[N,L,0] x", f"{SIZES} c = Concat <axis = 0> (l, n, i0)"
        " y = Reshape <allowzero = 1> (x, c)", "",
        ["reshape-shape y: an explicit zero in the new shape (allowzero)"],
    ),
    "a shape that is an input": (
        "float[N,L,48] x, int64[2] c", "y = Reshape (x, c)", "",
        ["reshape-shape y: nothing is known of c"],
    ),
    "Expand to another size": (
        "float[N,1] x, float[N,L] z", "s = Shape (z) y = Expand (x, s)", "",
        ["expand-shape y: size L is not that of the operand, 1"],
    ),
    "Slice before the end": (
        "float[N,L] x", "s = Shape (x) n = Gather (s, i0) y = Slice (x, i0, n, i1)", "",
        ["slice-ends y: end N may lie before the last of L"],
    ),
    "Slice backwards": (
        "float[N,L] x", "s = Shape (x) l = Gather (s, i1) y = Slice (x, m1, l, i1, m1)", "",
        ["slice-ends y: it slices backwards, or by a step that is not known"],
    ),
    "Slice of unknown axes": (
        "float[N,L] x, int64[1] a",
        "s = Shape (x) l = Gather (s, i1) y = Slice (x, i0, l, a)", "",
        ["slice-ends y: the sliced axes are not known"],
    ),
    "Resize by no whole number": (
        "float[N,3,H] x", "s = Shape (x) a = Slice (s, i0, t) b = Slice (s, t, m)"
        " p = Add (b, i1) c = Concat <axis = 0> (a, p) y = Resize (x, , , c)",
        "int64[1] t = {2}, int64[1] m = {3}",
        ["resize-scales y: size H + 1 is no exact multiple of H"],
    ),
    "Resize by a third": (
        "float[N,9,H] x", "s = Shape (x) a = Slice (s, i0, i1) b = Slice (s, t, m)"
        " c = Concat <axis = 0> (a, m, b) y = Resize (x, , , c)",
        "int64[1] t = {2}, int64[1] m = {3}",
        ["resize-scales y: size 3 is no exact multiple of 9"],
    ),
    "Resize that crops": (
        "float[N,3,H] x, float[6] r",
        "s = Shape (x)"
        ' y = Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, r, , s)', "",
        ["resize-scales y: it crops"],
    ),
    "Resize that keeps the aspect ratio": (
        "float[N,3,H,W] x", "s = Shape <start = 2> (x)"
        ' y = Resize <keep_aspect_ratio_policy = "not_larger", axes = [2, 3]> (x, , , s)', "",
        ["resize-scales y: it keeps the aspect ratio"],
    ),
    "a known value that is a graph output": (
        "float[2,3] x", "y = Shape (x)", "",
        ["known-value y: y is the graph output y"],
    ),
    "a symbolic value that is a graph output": (
        "float[N,3] x", "s = Shape (x) a = ConstantOfShape (s) b = Size (a) y = Shape (a)", "",
        [],
    ),
    "shapes of which nothing is known": (
        "float[] x", f"{SIZES} c = Concat <axis = 0> (n, l) y = Reshape (x, c)", "",
        ["reshape-shape y: nothing is known of c"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name: str) -> None:
    inputs, line, constants, expected = REFUSALS[name]
    graph = typed(model(inputs, line, constants))
    result = run_pass(FoldShapes(), graph)
    assert reasons(result) == expected
    assert not result.changed
