"""Binding inputs: sizes reach everything of the same symbol, and misfits are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import graph_from_text
from optc.errors import ModelError
from optc.ir import DType, TensorType
from optc.ir.bind import bind_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph

MODEL = """
g (float[N,3,H,W] x, int64[N,L] ids, float[?,4] free, seq(float[N]) list, float[2] fixed)
    => (float[N,8,Q,R] y, float[N,L] z)
<float[N,3,H,W] a> { a = Relu (x) b = Neg (a) y = Exp (b) z = Cast <to = 1> (ids) }
"""


def types(graph: Graph) -> dict[str, str]:
    found = {value.name: str(value.type) for value in graph.inputs}
    found["a"] = str(graph.value("a").type)
    return found | {node.name: str(node.declared) for node in graph.outputs}


def test_a_size_reaches_all_types_of_its_symbol() -> None:
    graph = graph_from_text(MODEL)
    bind_inputs(graph, {"x": [2, 3, 320, None]})
    assert types(graph) == {
        "x": "f32[2,3,320,W]",
        "ids": "i64[2,L]",
        "free": "f32[?,4]",
        "list": "seq(f32[2])",
        "fixed": "f32[2]",
        "a": "f32[2,3,320,W]",
        "y": "f32[2,8,Q,R]",
        "z": "f32[2,L]",
    }


def test_expressions_are_computed() -> None:
    graph = graph_from_text(MODEL)
    shape = ("2*N", "floor((H + 1)/2)", "H + W", None)
    graph.set_type(graph.value("a"), TensorType(DType.F32, shape))
    bind_inputs(graph, {"x": [2, 3, 9, None]})
    assert types(graph)["a"] == "f32[4,5,W + 9,?]"


def test_a_name_leaves_a_named_dimension_as_it_is() -> None:
    graph = graph_from_text(MODEL)
    bind_inputs(graph, {"ids": ["batch", 7]})
    assert types(graph)["z"] == "f32[N,7]"
    assert types(graph)["x"] == "f32[N,3,H,W]"


def test_unnamed_dimensions_can_be_named_and_fixed() -> None:
    graph = graph_from_text(MODEL)
    bind_inputs(graph, {"free": ["batch", 4]})
    assert types(graph)["free"] == "f32[batch,4]"
    bind_inputs(graph, {"free": [6, 4]})
    assert types(graph)["free"] == "f32[6,4]"


def test_inner_values_of_an_unnamed_dimension_follow() -> None:
    graph = graph_from_text("g (float[?,4] x) => (float[?,4] y) <float[x_dim_0,4] a>"
                            " { a = Relu (x) y = Neg (a) }")  # fmt: skip
    bind_inputs(graph, {"x": [5, 4]})
    assert str(graph.value("a").type) == "f32[5,4]"


def test_subgraphs_are_reached() -> None:
    graph = graph_from_text(
        "g (bool c, float[N] x) => (float[N] y) { y = If (c) <then_branch = t () => (float[N] a)"
        " { a = Relu (x) }, else_branch = e () => (float[N] b) { b = Neg (x) }> }"
    )
    bind_inputs(graph, {"x": [5]})
    inner = [part for part in graph.walk() if part.parent]
    assert [str(node.declared) for part in inner for node in part.outputs] == ["f32[5]"] * 2
    assert all(str(v.type) == "f32[5]" for p in inner for n in p.nodes() for v in n.outputs if v)


@pytest.mark.parametrize(
    ("shapes", "code", "message"),
    [
        (
            {"idz": [1]},
            "input-unknown",
            "the model has no input 'idz'; its inputs are x, ids, free",
        ),
        ({"x": [1, 3]}, "input-shape-mismatch", "input x cannot be [1,3]: the model has [N,3,H,W]"),
        (
            {"x": [1, 4, 8, 8]},
            "input-shape-mismatch",
            "input x cannot be 4: dimension 1 is 3 in the model",
        ),
        (
            {"x": [1, 3, 8, 8], "ids": [2, 7]},
            "input-shape-mismatch",
            "input ids cannot be 2: dimension 0 is N = 1 in the model",
        ),
        ({"ids": [-1, 7]}, "input-shape-mismatch", "input ids cannot be -1: dimension 0 cannot"),
        ({"list": [1]}, "input-shape-mismatch", "input list cannot be 1: it is seq(f32[N])"),
    ],
)
def test_a_shape_that_does_not_fit_changes_nothing(
    shapes: dict[str, Sequence[int]], code: str, message: str
) -> None:
    graph = graph_from_text(MODEL)
    before = types(graph)
    with pytest.raises(ModelError) as raised:
        bind_inputs(graph, shapes)
    assert raised.value.code == code
    assert raised.value.message.startswith(message)
    assert raised.value.hint
    assert types(graph) == before


def test_a_tensor_of_unknown_rank_gets_the_shape() -> None:
    graph = graph_from_text(MODEL)
    graph.set_type(graph.inputs[4], TensorType(DType.F32))
    bind_inputs(graph, {"fixed": [2, 4]})
    assert types(graph)["fixed"] == "f32[2,4]"


def test_an_input_without_a_type_cannot_be_bound() -> None:
    graph = graph_from_text(MODEL)
    graph.set_type(graph.inputs[4], None)
    with pytest.raises(ModelError, match="the model gives it no type"):
        bind_inputs(graph, {"fixed": [2, 4]})
