"""Elements of shape tensors: what is known of what models compute about their shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.shape_checks import infer_all
from optc.ir import shapes

if TYPE_CHECKING:
    from optc.ir.types import Dim

# name: the operations that make y from x: f32[N,3,L], constants, the elements of y
VALUES: dict[str, tuple[str, str, tuple[Dim | float, ...]]] = {
    "Shape": ("y = Shape (x)", "", ("N", 3, "L")),
    "Shape, part": ("y = Shape <start = 1> (x)", "", (3, "L")),
    "Size": ("y = Size (x)", "", ("3*L*N",)),
    "Gather": ("s = Shape (x) y = Gather (s, i)", "int64[2] i = {-1, 0}", ("L", "N")),
    "Gather, out of range": ("s = Shape (x) y = Gather (s, i)", "int64 i = {3}", ()),
    "Slice": ("s = Shape (x) y = Slice (s, b, e)", "int64[1] b = {1}, int64[1] e = {9}", (3, "L")),
    "Concat": ("s = Shape (x) y = Concat <axis = 0> (s, c)", "int64[1] c = {7}", ("N", 3, "L", 7)),
    "Concat, unknown part": (
        "s = Shape (x) y = Concat <axis = 0> (s, unknown)", "", ("N", 3, "L", None),
    ),
    "arithmetic": (
        "s = Shape (x) a = Add (s, c) b = Mul (a, c) d = Sub (b, c) y = Div (d, c)",
        "int64 c = {2}", ("N + 1", 4, "L + 1"),
    ),
    "division of what may be negative": (
        "s = Shape (x) a = Sub (s, c) y = Div (a, c)", "int64 c = {2}", (None, 0, None),
    ),
    "division rounds toward zero": ("y = Div (a, c)", "int64[2] a = {-7, 7}, int64 c = {2}",
                                    (-3, 3)),
    "division by zero": ("y = Div (a, c)", "int64 a = {7}, int64 c = {0}", (None,)),
    "Mod": ("s = Shape (x) y = Mod (s, c)", "int64 c = {2}",
            ("N - 2*floor(N/2)", 1, "L - 2*floor(L/2)")),
    "Mod, signs": ("y = Mod (a, c)", "int64[2] a = {-7, 7}, int64[2] c = {3, -3}", (2, -2)),
    "fmod": ("y = Mod <fmod = 1> (a, c)", "int64[2] a = {-7, 7}, int64[2] c = {3, -3}", (-1, 1)),
    "Min and Max": (
        "s = Shape (x) a = Min (s, c) y = Max (a, d)", "int64 c = {512}, int64 d = {0}",
        ("min(512, N)", 3, "min(512, L)"),
    ),
    "overflow": ("y = Mul (a, a)", "int64 a = {9223372036854775807}", (None,)),
    "Where and Equal": (
        "s = Shape (x) t = Concat <axis = 0> (s, m) e = Equal (t, m) y = Where (e, o, t)",
        "int64[1] m = {-1}, int64[1] o = {1}", ("N", 3, "L", 1),
    ),
    "Equal, may be": ("s = Shape (x) y = Equal (s, c)", "int64 c = {3}", (None, True, None)),
    "comparisons": (
        "s = Shape (x) a = GreaterOrEqual (s, z) b = Less (s, z) c = Not (b) y = And (a, c)",
        "int64 z = {0}", (True, True, True),
    ),
    "Cast": ("s = Shape (x) a = Cast <to = 6> (s) y = Cast <to = 7> (a)", "", ("N", 3, "L")),
    "Cast through float": (
        "s = Shape (x) a = Cast <to = 1> (s) b = Mul (a, h) c = Floor (b) y = Cast <to = 7> (c)",
        "float h = {0.5}", (None, 1, None),
    ),
    "Cast toward zero": ("y = Cast <to = 7> (a)", "float[3] a = {-1.5, 2.5, 1e30}", (-1, 2, None)),
    "Squeeze and Unsqueeze": (
        "s = Shape (x) g = Gather (s, i) u = Unsqueeze (g, a) q = Squeeze (u, a)"
        " y = Unsqueeze (q, a)", "int64 i = {0}, int64[1] a = {0}", ("N",),
    ),
    "Reshape and Transpose": (
        "s = Shape (x) c = Concat <axis = 0> (s, o) r = Reshape (c, t) p = Transpose (r)"
        " y = Reshape (p, f)", "int64[1] o = {1}, int64[2] t = {2, 2}, int64[1] f = {-1}",
        ("N", "L", 3, 1),
    ),
    "Split": ("s = Shape (x) y, z = Split (s, p)", "int64[2] p = {2, 1}", ("N", 3)),
    "Expand": ("s = Shape <start = 0, end = 1> (x) y = Expand (s, e)", "int64[1] e = {2}",
               ("N", "N")),
    "Tile": ("s = Shape <start = 0, end = 2> (x) y = Tile (s, r)", "int64[1] r = {2}",
             ("N", 3, "N", 3)),
    "ReduceProd": ("s = Shape (x) y = ReduceProd <keepdims = 0> (s)", "", ("3*L*N",)),
    "ReduceSum": ("s = Shape (x) y = ReduceSum (s)", "", ("L + N + 3",)),
    "ReduceMax": ("s = Shape (x) y = ReduceMax (s)", "", ("max(3, L, N)",)),
    "ConstantOfShape": ("y = ConstantOfShape <value = int64[1] {1}> (s)", "int64[1] s = {3}",
                        (1, 1, 1)),
    "ConstantOfShape, default": ("y = ConstantOfShape (s)", "int64[1] s = {2}", (0.0, 0.0)),
    "ConstantOfShape, large": ("y = ConstantOfShape (s)", "int64[1] s = {1000000}", ()),
    "Range": ("y = Range (a, b, c)", "int64 a = {1}, int64 b = {8}, int64 c = {3}", (1, 4, 7)),
    "Range, symbolic": ("s = Size (x) y = Range (a, s, c)", "int64 a = {0}, int64 c = {1}", ()),
    "NonZero": ("c = ConstantOfShape <value = int64[1] {1}> (s) n = NonZero (c) t = Transpose (n)"
                " y = Squeeze (t, a)", "int64[1] s = {3}, int64[1] a = {1}", (0, 1, 2)),
    "Neg and Abs": ("s = Shape (x) n = Neg (s) m = Neg (n) y = Abs (m)", "", ("N", 3, "L")),
    "float arithmetic": ("y = Mul (a, a)", "float a = {0.1}", (float(np.float32(0.1) ** 2),)),
}  # fmt: skip


def known_elements(line: str, constants: str) -> tuple[object, ...]:
    known = f"<{constants}>" if constants else ""
    graph = graph_from_text(
        f"g (float[N,3,L] x, int64[1] unknown) => (int64 y) {known} {{ {line} }}"
    )
    infer_all(graph)
    part = shapes.values(graph).get(graph.value("y"))
    return () if part is None else part.items


@pytest.mark.parametrize("name", VALUES)
def test_values(name: str) -> None:
    line, constants, expected = VALUES[name]
    assert known_elements(line, constants) == expected


def test_an_unknown_size_is_equal_to_itself_and_no_wildcard() -> None:
    graph = graph_from_text(
        "g (float[N] x) => (int64 y) <int64 m = {-1}>"
        " { z = NonZero (x) s = Shape (z) e = Equal (s, s) f = Equal (s, m) y = Concat <axis = 0>"
        " (e, f) }"
    )
    infer_all(graph)
    found = shapes.values(graph)
    assert found[graph.value("s")].items == (1, "?z:1")
    assert found[graph.value("y")].items == (True, True, False, False)
    assert not found[graph.value("s")].is_known
    with pytest.raises(ValueError, match="an element is not a number"):
        found[graph.value("s")].tensor()


def test_values_reach_into_subgraphs() -> None:
    graph = graph_from_text(
        "g (bool c, float[N,4] x) => (float y) <int64[1] d = {4}> { s = Shape (x) y = If (c) <"
        "then_branch = t () => (float a) { p = Mul (s, d) a = Reshape (x, p) },"
        " else_branch = e () => (float b) { b = Neg (x) }> }"
    )
    graph.set_type(graph.value("s"), None)
    found = {value.name: part.items for value, part in shapes.values(graph).items()}
    assert found == {"s": ("N", 4), "d": (4,), "p": ("4*N", 16)}
