"""hoist-lookups: elementwise operations on the table instead of on what is looked up."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_same_numbers
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes import InferShapes, PassContext
from optc.passes.hoist_lookups import HoistLookups

HEAD = '<ir_version: 8, opset_import: ["" : 15]> g (int64[4] i) => (float[4,2] y)'
TABLE = "<float[3,2] t = {1,2,3,4,5,6}, float[2] b = {7,8}, float[4,1] c = {1,2,3,4}>"
INDEX = {"i": np.array([2, 0, -1, 1])}


def test_a_chain_moves_as_a_whole() -> None:
    graph = graph_from_text(
        HEAD + TABLE + "{ g = Gather (t, i)  a = Add (g, b)  s = Sigmoid (a)  y = Mul (s, b) }"
    )
    InferShapes().apply(graph, PassContext())
    source = clone(graph)
    result = run_pass(HoistLookups(), graph)
    assert dict(result.counts) == {"lookup": 3}
    assert [node.op_type for node in graph.ordered()] == ["Add", "Sigmoid", "Mul", "Gather"]
    assert_same_numbers(source, graph, INDEX)


def test_a_constant_with_more_axes_than_the_table() -> None:
    text = HEAD.replace("int64[4] i", "int64[2,2] i").replace("[4,2] y", "[2,2,2] y")
    graph = graph_from_text(
        text + "<float[3,2] t = {1,2,3,4,5,6}, float[1,1,2] b = {7,8}>"
        "{ g = Gather (t, i)  y = Add (g, b) }"
    )
    source = clone(graph)
    assert run_pass(HoistLookups(), graph).changed
    assert_same_numbers(source, graph, {"i": np.array([[2, 0], [-1, 1]])})


EXPECTED = HEAD + TABLE + "{ a = Neg (t)  y = Gather (a, i) }"


def test_before_and_after() -> None:
    graph = graph_from_text(HEAD + TABLE + "{ g = Gather (t, i)  y = Neg (g) }")
    assert run_pass(HoistLookups(), graph).changed
    untyped = print_graph(graph).replace(" : f32[3,2]", "")
    assert untyped == print_graph(graph_from_text(EXPECTED))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            "{ g = Gather (t, i)  [n] n = Neg (g)  [m] y = Mul (n, g) }",
            "n: the looked-up value also feeds m",
        ),
        (
            "{ g = Gather (t, i)  [n] y = Mul (g, c) }",
            "n: the constant f32[4,1] differs between rows",
        ),
        (
            "{ g = Gather <axis = 1> (t, i)  [n] y = Neg (g) }",
            "n: the Gather is not along the first axis",
        ),
    ],
)
def test_what_stays_says_why(body: str, reason: str) -> None:
    result = run_pass(HoistLookups(), graph_from_text(HEAD + TABLE + body))
    assert not result.changed
    assert reason in [f"{item.node}: {item.reason}" for item in result.refusals]


def test_a_large_table_stays() -> None:
    text = HEAD.replace("int64[4] i", "int64[N] i").replace("[4,2] y", "[N,2] y")
    result = run_pass(
        HoistLookups(), graph_from_text(text + TABLE + "{ g = Gather (t, i)  [n] y = Neg (g) }")
    )
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == [
        "n: the table is not known to be smaller than what is looked up"
    ]


def test_other_operands_that_are_not_constant_stay() -> None:
    text = HEAD.replace("i) =>", "i, float[4,2] x) =>")
    result = run_pass(
        HoistLookups(), graph_from_text(text + TABLE + "{ g = Gather (t, i)  [n] y = Add (g, x) }")
    )
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == ["n: x is not constant"]
