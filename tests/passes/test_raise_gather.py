"""raise-gather: one-hot matrices times tables become lookups, exact for every index."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_same_numbers
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.raise_gather import RaiseGather

# jax2tf 1.x through tf2onnx 1.16, jax.nn.one_hot: the index is repeated, then compared.
JAX = """
<ir_version: 8, opset_import: ["" : 15]>
g (int32[N,4,1] i, int64[3] s) => (float[N,4,2] y)
<int32[1,1,3] n = {0,1,2}, float[3,2] t = {1,2,3,4,5,6}>
{ r = Expand (i, s)  e = Equal (r, n)  h = Cast <to = 1> (e)  [m] y = MatMul (h, t) }
"""
EQUAL = """
<ir_version: 8, opset_import: ["" : 15]>
g (int32[N,4,1] i) => (float[N,4,2] y)
<int32[1,1,3] n = {0,1,2}, float[3,2] t = {1,2,3,4,5,6}>
{ e = Equal (i, n)  h = Cast <to = 1> (e)  [m] y = MatMul (h, t) }
"""
ONE_HOT = """
<ir_version: 8, opset_import: ["" : 15]>
g (int64[N,4] i) => (float[N,4,2] y)
<int64 d = {3}, float[2] v = {0,1}, float[3,2] t = {1,2,3,4,5,6}>
{ h = OneHot (i, d, v)  [m] y = MatMul (h, t) }
"""


def typed(text: str) -> Graph:
    graph = graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    return graph


@pytest.mark.parametrize(("text", "rule"), [(EQUAL, "one-hot-equal"), (ONE_HOT, "one-hot-table")])
def test_a_lookup_gives_what_the_product_gives_for_every_index(text: str, rule: str) -> None:
    graph = typed(text)
    source = clone(graph)
    result = run_pass(RaiseGather(), graph)
    assert dict(result.counts) == {rule: 1}
    assert "MatMul" not in {node.op_type for node in graph.nodes()}
    dtype = np.int32 if text is EQUAL else np.int64
    index = np.array([[0, 1, 2, 3], [-1, -3, -4, 100], [-100, 2, 2, 0]], dtype)
    feeds = {"i": index[..., None] if text is EQUAL else index}
    assert_same_numbers(source, graph, feeds)


def test_the_index_before_it_was_repeated_is_used() -> None:
    text = JAX.replace(", int64[3] s", "").replace("<int32", "<int64[3] s = {1,1,3}, int32")
    graph = typed(text)
    source = clone(graph)
    assert run_pass(RaiseGather(), graph).changed
    assert "Expand" not in {node.op_type for node in graph.nodes()}
    assert_same_numbers(source, graph, {"i": np.array([[[0], [2], [-1], [3]]], np.int32)})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (EQUAL.replace("{0,1,2}", "{0,2,1}"), "m: n is not 0, 1, 2, … to the table's end"),
        (EQUAL.replace("int32[N,4,1] i", "int32[N,4,3] i"), "m: i has several columns"),
        (EQUAL.replace(": 15", ": 11"), "m: opset 11 has no Clip of integers"),
        (ONE_HOT.replace("{0,1}", "{0,2}"), "m: the values of OneHot are not 0 and 1"),
        (
            ONE_HOT.replace("{3}, float[2]", "{4}, float[2]")
            .replace("[3,2] t", "[4,2] t")
            .replace("5,6}", "5,6,7,8}")
            .replace("OneHot (", "OneHot <axis = 1> (")
            .replace("[N,4] i", "[N,4] i"),
            "m: the axis of OneHot is not the last",
        ),
        (ONE_HOT.replace("int64[N,4] i", "int32[N,4] i").replace("int64 d", "int64 d"), ""),
    ],
)
def test_what_is_no_lookup_says_why(text: str, reason: str) -> None:
    if reason:
        result = run_pass(RaiseGather(), typed(text))
        assert not result.changed
        assert reason in [f"{item.node}: {item.reason}" for item in result.refusals]
    else:
        assert run_pass(RaiseGather(), typed(text)).changed


def test_a_table_that_is_not_constant_is_the_nearest_miss() -> None:
    text = EQUAL.replace("i) =>", "i, float[3,2] t) =>").replace(
        ", float[3,2] t = {1,2,3,4,5,6}", ""
    )
    result = run_pass(RaiseGather(), typed(text))
    assert not result.changed
    assert {item.reason for item in result.refusals if item.rule == "one-hot-equal"} == {
        "table is t, which is not constant"
    }
