"""raise-attention: attention in the spellings of exporters, and why it is left where it is.

The spellings themselves are cells of the recognition table; here are guards, masks and decoys.
"""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import refused, run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.raise_attention import RaiseAttention

QKV = "float[2,3,4,5] q, float[2,3,6,5] k, float[2,3,6,5] v"


def model(
    body: str, inputs: str = QKV, outputs: str = "float[2,3,4,5] y", opset: int = 20
) -> Graph:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g ({inputs}) => ({outputs})
        <float s = {{0.4472136}}, float c = {{-1e9}}, float zero = {{0}}, float two = {{2}},
         float ninf = {{-3.4028235e38}}, int64[1] one = {{1}}>
        {{ {body} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


PLAIN = (
    "t = Transpose <perm = [0,1,3,2]> (k)  l = MatMul (q, t)  m = Mul (l, s)  [p] p = Softmax (m)"
    "  y = MatMul (p, v)"
)
GUARDED = (
    "t = Transpose <perm = [0,1,3,2]> (k)  l = MatMul (q, t)  m = Mul (l, s)  a = Add (m, b)"
    "  [p] p = Softmax (a)  n = IsNaN (p)  g = Where (n, zero, p)  y = MatMul (g, v)"
)
BOOLEAN = (
    "t = Transpose <perm = [0,1,3,2]> (k)  l = MatMul (q, t)  m = Where (b, l, c)"
    "  [p] p = Softmax (m)  y = MatMul (p, v)"
)


def test_it_becomes_the_operator() -> None:
    graph = model(PLAIN)
    source = clone(graph)
    assert dict(run_pass(RaiseAttention(), graph).counts) == {"attention": 1}
    (node,) = graph.nodes()
    assert node.qualified_op == "optc::Attention"
    assert node.get("scale") == pytest.approx(0.4472136)
    feeds = seeded(source)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-6, strict=True
    )


def test_a_guard_is_kept_in_effect_where_a_row_may_be_hidden() -> None:
    graph = model(GUARDED, f"{QKV}, float[2,1,4,6] b")
    source = clone(graph)
    assert run_pass(RaiseAttention(), graph).counts["attention"] == 1
    assert "IsNaN" not in {node.op_type for node in graph.nodes()}
    feeds = seeded(source)
    mask = np.zeros((2, 1, 4, 6), np.float32)
    mask[0, 0, 1], mask[1, 0, 2, :3] = -np.inf, -np.inf
    feeds["b"] = mask
    wanted = run(source, feeds)["y"]
    assert not wanted[0, :, 1].any()  # the guard makes these rows zero
    np.testing.assert_allclose(run(graph, feeds)["y"], wanted, rtol=1e-5, atol=1e-6, strict=True)


def test_least_numbers_in_a_mask_are_not_taken_for_hidden() -> None:
    graph = model(GUARDED, f"{QKV}, float[2,1,4,6] b")
    source = clone(graph)
    run_pass(RaiseAttention(), graph)
    feeds = seeded(source)
    feeds["b"] = np.full((2, 1, 4, 6), np.finfo(np.float32).min)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-6, strict=True
    )


def test_grouped_queries_are_not_repeated() -> None:
    inputs = "float[2,4,1,5] q, float[2,2,6,5] k, float[2,2,6,5] v"
    repeat = (
        "ku = Unsqueeze (k, two1)  ke = Expand (ku, e)  kr = Reshape (ke, r)"
        "  vu = Unsqueeze (v, two1)  ve = Expand (vu, e)  vr = Reshape (ve, r)"
    )
    for rows in (1, 3):
        graph = graph_from_text(
            f"""
            <ir_version: 8, opset_import: ["" : 17]>
            g ({inputs.replace("4,1,5", f"4,{rows},5")}) => (float[2,4,{rows},5] y)
            <int64[1] two1 = {{2}}, int64[5] e = {{2,2,2,6,5}}, int64[4] r = {{2,4,6,5}}>
            {{ {repeat} t = Transpose <perm = [0,1,3,2]> (kr)  l = MatMul (q, t)
               p = Softmax (l)  y = MatMul (p, vr) }}
            """
        )
        InferShapes().apply(graph, PassContext())
        source = clone(graph)
        assert run_pass(RaiseAttention(), graph).counts["attention"] == 1
        (node,) = graph.nodes()
        assert [value.name for value in graph.operands(node) if value] == ["q", "k", "v"]
        feeds = seeded(source)
        np.testing.assert_allclose(
            run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-6, strict=True
        )


@pytest.mark.parametrize(
    ("body", "inputs", "outputs", "reason"),
    [
        (
            PLAIN,
            QKV,
            "float[2,3,4,5] y, float[2,3,4,6] p",
            "the probabilities are the graph output p",
        ),
        (
            PLAIN.replace("Softmax (m)", "Softmax <axis = 2> (m)"),
            QKV,
            "float[2,3,4,5] y",
            "the Softmax is over axis 2 of 4",
        ),
        (
            PLAIN.replace("Mul (l, s)", "Mul (l, w)"),
            f"{QKV}, float[2,3,4,6] w",
            "float[2,3,4,5] y",
            "m scales by what is not a number",
        ),
        (
            GUARDED.partition("  n = ")[0] + "  y = MatMul (p, v)",
            f"{QKV}, float[2,1,4,6] b",
            "float[2,3,4,5] y",
            "without a guard, a row that b hides wholly is NaN, and zero in Attention",
        ),
        (
            BOOLEAN,
            f"{QKV}, bool[2,1,4,6] b",
            "float[2,3,4,5] y",
            "m puts in -1e+09, which is not hidden for sure",
        ),
    ],
)
def test_what_is_left_says_why(body: str, inputs: str, outputs: str, reason: str) -> None:
    result = run_pass(RaiseAttention(), model(body, inputs, outputs))
    assert not result.changed
    assert refused(result) == {"attention": reason}


def test_a_softmax_that_is_no_attention_is_not_spoken_of() -> None:
    graph = model("y = Softmax (q)")
    result = run_pass(RaiseAttention(), graph)
    assert not result.changed
    assert not result.refusals
