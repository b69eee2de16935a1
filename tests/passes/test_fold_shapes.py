"""fold-shapes: computed shapes become constants where the result is the same for every run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_same_numbers
from helpers.promises import run_pass
from helpers.shape_models import SIZES, model, reasons, typed
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes.fold_shapes import FoldShapes, FoldShapesOptions

if TYPE_CHECKING:
    from optc.ir import Graph

X = "float[N,L,48] x"
REWRITES = {
    "known value": (
        "float[N,6,8] x",
        "s = Shape (x) c = Gather (s, i) d = Div (c, t) e = Unsqueeze (d, i0)"
        " f = Concat <axis = 0> (m1, e, t1) y = Reshape (x, f)",
        "int64 i = {1}, int64 t = {2}, int64[1] t1 = {16}",
        "y = Reshape (x, f)",
        "int64[3] f = {-1, 3, 16}",
        {"known-value": 1},
    ),
    "known value, two results": (
        "float[4,6] x, float[2,2] z", "s = Shape (x) a, b = Split (s, p) y = Reshape (z, a)",
        "int64[2] p = {1, 1}", "y = Reshape (z, a)", "int64[1] a = {4}", {"known-value": 1},
    ),
    "copies": (
        X, f"{SIZES} c = Concat <axis = 0> (n, l, heads) y = Reshape (x, c)", "",
        "y = Reshape (x, c)", "int64[4] c = {0, 0, 12, 4}", {"reshape-shape": 1},
    ),
    "a copy beside a wildcard that was there": (
        X, "s = Shape (x) n = Gather (s, i0) c = Concat <axis = 0> (n, m1) y = Reshape (x, c)", "",
        "y = Reshape (x, c)", "int64[2] c = {0, -1}", {"reshape-shape": 1},
    ),
    "a wildcard that turns out to be known": (
        X, f"{SIZES} p = Mul (n, l) c = Concat <axis = 0> (p, m1) y = Reshape (x, c)", "",
        "y = Reshape (x, c)", "int64[2] c = {-1, 48}", {"reshape-shape": 1},
    ),
    "a wildcard that is a copy": (
        X, "s = Shape (x) n = Gather (s, i0) c = Concat <axis = 0> (n, m1, heads)"
        " y = Reshape (x, c)", "",
        "y = Reshape (x, c)", "int64[4] c = {0, 0, 12, 4}", {"reshape-shape": 1},
    ),
    "one product": (
        X, f"{SIZES} p = Mul (n, l) c = Concat <axis = 0> (p, k) y = Reshape (x, c)",
        "int64[1] k = {48}", "y = Reshape (x, c)", "int64[2] c = {-1, 48}", {"reshape-shape": 1},
    ),
    "a product beside a copy that is at least one": (
        "float[N,L,W,48] x",
        "s = Shape (x) n = Gather (s, i0) w = Gather (s, a) p = ReduceProd (w)"
        " c = Concat <axis = 0> (n, p, k) y = Reshape (x, c)",
        "int64[2] a = {1, 2}, int64[1] k = {48}",
        "y = Reshape (x, c)", "int64[3] c = {0, -1, 48}", {"reshape-shape": 1},
    ),
    "allowzero without a zero": (
        X, f"{SIZES} c = Concat <axis = 0> (n, l, heads) y = Reshape <allowzero = 1> (x, c)", "",
        "y = Reshape (x, c)", "int64[4] c = {0, 0, 12, 4}", {"reshape-shape": 1},
    ),
    "the shape of another value": (
        f"{X}, float[N,L,12,4] z", "s = Shape (z) y = Reshape (x, s)", "",
        "y = Reshape (x, c)", "int64[4] c = {0, 0, 12, 4}", {"reshape-shape": 1},
    ),
    "sizes without a name": (
        "float[?,?,48] x", f"{SIZES} c = Concat <axis = 0> (n, l, heads) y = Reshape (x, c)", "",
        "y = Reshape (x, c)", "int64[4] c = {0, 0, 12, 4}", {"reshape-shape": 1},
    ),
    "a size that only the run knows": (
        "float[N] x",
        "z = NonZero (x) s = Shape (z) l = Gather (s, i1) c = Concat <axis = 0> (i1, l, i1)"
        " y = Reshape (z, c)", "",
        "z = NonZero (x) y = Reshape (z, c)", "int64[3] c = {1, 0, 1}", {"reshape-shape": 1},
    ),
    "through Where and Equal": (
        "float[N,1,48] x, float[N,L,48] z",
        "s = Shape (z) n = Gather (s, i0) c = Concat <axis = 0> (n, m1, k)"
        " e = Equal (c, m1) w = Where (e, i1, c) y = Expand (x, w)",
        "int64[1] k = {48}", "y = Identity (x)", "", {"expand-shape": 1},
    ),
    "Expand": (
        "float[N,1,L] x", "s = Shape (x) n = Gather (s, i0) l = Gather (s, t)"
        " c = Concat <axis = 0> (n, k, l) y = Expand (x, c)",
        "int64[1] t = {2}, int64[1] k = {12}", "y = Expand (x, c)", "int64[3] c = {1, 12, 1}",
        {"expand-shape": 1},
    ),
    "Expand of more axes": (
        "float[N] x", "s = Shape (x) c = Concat <axis = 0> (i1, s) y = Expand (x, c)", "",
        "y = Expand (x, c)", "int64[2] c = {1, 1}", {"expand-shape": 1},
    ),
    "Expand that expands nothing": (
        "float[N,L] x", "a = Relu (x) s = Shape (x) y = Expand (a, s)", "",
        "y = Relu (x)", "", {"expand-shape": 1},
    ),
    "Slice to the end": (
        "float[N,L] x", "s = Shape (x) l = Gather (s, i1) y = Slice (x, i0, l, i1)", "",
        "y = Slice (x, i0, e, i1)",
        "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] e = {9223372036854775807}",
        {"slice-ends": 1},
    ),
    "Slice to the end and beyond, in int32": (
        "float[N,L] x",
        "s = Shape (x) t = Add (s, k) c = Cast <to = 6> (t) y = Slice (x, b, c)",
        "int64 k = {1}, int32[2] b = {0, 1}", "y = Slice (x, b, e)",
        "int32[2] b = {0, 1}, int32[2] e = {2147483647, 2147483647}", {"slice-ends": 1},
    ),
    "Resize": (
        "float[N,3,H,W] x",
        "s = Shape (x) a = Slice (s, i0, t) b = Slice (s, t, m) p = Mul (b, t)"
        " c = Concat <axis = 0> (a, p) y = Resize (x, , , c)",
        "int64[1] t = {2}, int64[1] m = {4}", "y = Resize (x, , c)",
        "float[4] c = {1, 1, 2, 2}", {"resize-scales": 1},
    ),
    "Resize, axes": (
        "float[N,3,H,8] x",
        "s = Shape (x) h = Gather (s, t) p = Mul (h, k) c = Concat <axis = 0> (q, p)"
        ' y = Resize <axes = [-1, 2], mode = "linear"> (x, , , c)',
        "int64[1] t = {2}, int64[1] k = {3}, int64[1] q = {4}",
        'y = Resize <axes = [-1, 2], mode = "linear"> (x, , c)',
        "float[2] c = {0.5, 3}", {"resize-scales": 1},
    ),
    "equal results": (
        "float[N,L,48] x, float[N,L,8] z",
        "s = Shape <end = 2> (x) t = Shape <end = 2> (z) a = ConstantOfShape (s)"
        " b = ConstantOfShape (t) c = Shape <end = 2> (x) d = ConstantOfShape (c)"
        " e = Add (a, b) y = Add (e, d)", "",
        "s = Shape <end = 2> (x) a = ConstantOfShape (s) b = ConstantOfShape (s)"
        " d = ConstantOfShape (s) e = Add (a, b) y = Add (e, d)", "", {"same-value": 2},
    ),
}  # fmt: skip


def used(graph: Graph) -> Graph:
    """The graph without constants that nothing uses."""
    for value in tuple(graph.constants()):
        if not graph.is_used(value):
            graph.remove(value.node)
    return graph


@pytest.mark.parametrize("name", REWRITES)
def test_rewrite(name: str) -> None:
    inputs, line, constants, after, left, counts = REWRITES[name]
    graph = typed(model(inputs, line, constants))
    source = clone(graph)
    result = run_pass(FoldShapes(), graph)
    expected = typed(f"g ({inputs}) => (y) {'<' + left + '>' if left else ''} {{ {after} }}")
    if after == "y = Identity (x)":
        assert not list(graph.nodes())
    else:
        assert structure(used(graph)) == structure(expected)
    assert dict(result.counts) == counts
    assert_same_numbers(source, graph)


def structure(graph: Graph) -> str:
    """The canonical text without types of results: the folded forms say less of them."""
    for node in graph.nodes():
        for value in node.outputs:
            if value is not None:
                graph.set_type(value, None)
    for node in graph.outputs:
        node.declared = None
    return print_graph(graph)


PRODUCT = REWRITES["a product beside a copy that is at least one"]


def test_with_empty_inputs_no_wildcard_stands_beside_their_sizes() -> None:
    graph = typed(model(*PRODUCT[:3]))
    source = clone(graph)
    result = run_pass(FoldShapes(FoldShapesOptions(empty_inputs=True)), graph)
    assert reasons(result) == ["reshape-shape y: size N beside the unknown one may be zero"]
    empty = {"x": np.zeros((0, 2, 3, 48), dtype=np.float32)}
    assert_same_numbers(source, graph, empty)


def test_without_wildcard_empty_inputs_are_as_before() -> None:
    graph = typed(model(*REWRITES["copies"][:3]))
    source = clone(graph)
    run_pass(FoldShapes(FoldShapesOptions(empty_inputs=True)), graph)
    assert len(graph) == 1
    assert_same_numbers(source, graph, {"x": np.zeros((0, 2, 48), dtype=np.float32)})


def test_words_for_some_size_are_not_equal_sizes() -> None:
    body = "s = Shape (x) a = Gather (s, i1) b = Gather (s, i0) c = Concat <axis = 0> (a, b)"
    graph = typed(model("float[dynamic,dynamic] x", f"{body} y = Reshape (x, c)"))
    source = clone(graph)
    result = run_pass(FoldShapes(), graph)
    assert reasons(result) == [
        "reshape-shape y: sizes x_dim_1 and x_dim_0 of the new shape are not known"
    ]
    assert_same_numbers(source, graph, {"x": np.ones((2, 3), dtype=np.float32)})


def test_a_shape_that_others_use_stays() -> None:
    line = f"{SIZES} c = Concat <axis = 0> (n, l, heads) y = Reshape (x, c)"
    graph = typed(model(X, line).replace("=> (y)", "=> (y, c)"))
    source = clone(graph)
    result = run_pass(FoldShapes(), graph)
    assert dict(result.counts) == {"reshape-shape": 1}
    assert [node.op_type for node in graph.ordered()].count("Concat") == 1
    assert_same_numbers(source, graph)


SUBGRAPH = """
g (bool c, float[N,L,48] x) => (y) <int64[2] heads = {12, 4}> {
    s = Shape <end = 2> (x)
    y = If (c) <
        then_branch = t () => (a) { p = Concat <axis = 0> (s, heads) a = Reshape (x, p) },
        else_branch = e () => (b) { q = Concat <axis = 0> (s, heads) b = Reshape (x, q) }
    >
}
"""


def test_captured_shapes_are_followed_into_subgraphs() -> None:
    graph = typed(SUBGRAPH)
    source = clone(graph)
    result = run_pass(FoldShapes(), graph)
    assert dict(result.counts) == {"reshape-shape": 2}
    assert [n.op_type for part in graph.walk() if part.parent for n in part.nodes()] == [
        "Reshape",
        "Reshape",
    ]
    assert_same_numbers(source, graph)


def test_a_known_value_that_a_subgraph_captures_becomes_a_constant() -> None:
    graph = typed(
        "g (bool c, float[N,L] x, float[4,6] z) => (y) { s = Shape (z) y = If (c) <"
        "then_branch = t () => (a) { a = Reshape (x, s) }, else_branch = e () => (b)"
        " { b = Expand (x, s) }> }"
    )
    source = clone(graph)
    result = run_pass(FoldShapes(), graph)
    assert dict(result.counts) == {"known-value": 1}
    assert [node.op_type for node in graph.ordered()] == ["If"]
    feeds = {
        "c": np.array(True),
        "x": np.ones((8, 3), dtype=np.float32),
        "z": np.ones((4, 6), dtype=np.float32),
    }
    assert_same_numbers(source, graph, feeds)


@pytest.mark.parametrize("opset", [9, 12, 17])
def test_older_forms(opset: int) -> None:
    axes = "u = Unsqueeze <axes = [0]> (n)" if opset < 13 else "u = Unsqueeze (n, i0)"
    line = f"s = Shape (x) n = Gather (s, zero) {axes} c = Concat <axis = 0> (u, m1, heads)"
    text = model(X, f"{line} y = Reshape (x, c)", "int64 zero = {0}")
    graph = typed(text, opset)
    source = clone(graph)
    result = run_pass(FoldShapes(), graph)
    assert dict(result.counts) == {"reshape-shape": 1}
    assert len(graph) == 1
    assert_same_numbers(source, graph)


def test_empty_sizes_of_old_resize_go() -> None:
    line = "s = Shape (x) a = Slice (s, i0, t) b = Slice (s, t, m) p = Mul (b, t)"
    text = model(
        "float[N,3,H,W] x",
        f"{line} c = Concat <axis = 0> (a, p) y = Resize (x, e, e, c)",
        "int64[1] t = {2}, int64[1] m = {4}, float[0] e = {}",
    )
    graph = typed(text, 11)
    source = clone(graph)
    assert dict(run_pass(FoldShapes(), graph).counts) == {"resize-scales": 1}
    assert [len(graph.operands(node)) for node in graph.ordered()] == [3]
    assert_same_numbers(source, graph)


def test_new_constants_say_where_they_come_from() -> None:
    graph = typed(model(*REWRITES["copies"][:3]))
    run_pass(FoldShapes(), graph)
    value = graph.operand(graph.ordered()[0], 1)
    assert value is not None
    assert value.name == "y_shape"
    assert value.node.origin is not None
    assert value.node.origin.made_by == "fold-shapes"
    assert value.node.origin.sources() == ("y",)


def test_without_recorded_types_only_what_the_graph_shows_is_folded() -> None:
    line = f"a = Relu (x) {SIZES} c = Concat <axis = 0> (n, l, heads) y = Reshape (a, c)"
    graph = graph_from_text(model(X, line))
    source = clone(graph)
    result = run_pass(FoldShapes(), graph)
    assert reasons(result) == ["reshape-shape y: sizes N and L of the new shape are not known"]
    assert_same_numbers(source, graph)
