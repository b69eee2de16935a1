"""raise-attention: attention in the spellings of exporters, and why it is left where it is.

The spellings themselves are cells of the recognition table; here are guards, masks and decoys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import refused, run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, LowerOperators, PassContext
from optc.passes.attention_masks import may_hide_row
from optc.passes.lower_operators import LowerOperatorsOptions
from optc.passes.raise_attention import RaiseAttention, RaiseAttentionOptions

CLOSE: Any = {"rtol": 1e-5, "atol": 1e-6, "strict": True}
"""Two products of a dozen terms near 1, and an exponential."""
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


# ---- rows that are hidden ----------------------------------------------------------------------


def test_with_zero_rows_a_hidden_row_may_become_zero() -> None:
    body = GUARDED.partition("  n = ")[0] + "  y = MatMul (p, v)"
    graph = model(body, f"{QKV}, float[2,1,4,6] b")
    source = clone(graph)
    step = RaiseAttention(RaiseAttentionOptions(zero_rows=True))
    assert run_pass(step, graph).counts["attention"] == 1
    feeds = seeded(source)
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], **CLOSE)
    feeds["b"] = np.full((2, 1, 4, 6), -np.inf, np.float32)
    assert np.isnan(run(source, feeds)["y"]).all()
    assert not run(graph, feeds)["y"].any()


@pytest.mark.parametrize(
    ("mask", "hides"),
    [
        ("b = Where (c, zero, ninf)", True),
        ("t = Trilu <upper = 0> (ones)  d = Equal (t, zero)  b = Where (d, ninf, zero)", False),
        ("t = Trilu <upper = 1> (ones)  d = Equal (t, zero)  b = Where (d, ninf, zero)", True),
        ("u = Not (c)  f = Cast <to = 1> (u)  b = Mul (f, least)", False),
        ("f = Cast <to = 1> (i)  g = Sub (one, f)  b = Mul (g, least)", False),
        ("f = Where (c, zero, least)  b = Add (f, f)", True),
        ("e = LessOrEqual (row, column)  b = Where (e, zero, ninf)", False),
        ("e = Less (row, column)  b = Where (e, zero, ninf)", True),
        ("w = Where (c, zero, ten)  b = Neg (w)", False),
        ("w = Log (m)  b = Identity (w)", True),
        (
            "r = Range (start, end, step)  f = Cast <to = 1> (r)  w = Mul (f, ones)  b = Neg (w)",
            False,
        ),
    ],
)
def test_a_mask_hides_a_row_or_cannot(mask: str, hides: bool) -> None:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 20]>
        g (bool[4,4] c, int64[4,4] i, float[4,4] m) => (float[4,4] b)
        <float zero = {{0}}, float one = {{1}}, float ten = {{10}}, float ninf = {{-inf}},
         float least = {{-3.4028235e38}}, int64[1,4] row = {{0,1,2,3}},
         int64[4,1] column = {{0,1,2,3}},
         int64 start = {{0}}, int64 end = {{4}}, int64 step = {{1}},
         float[4,4] ones = {{1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}}>
        {{ {mask} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    (output,) = graph.outputs
    value = graph.operand(output, 0)
    assert value is not None
    assert may_hide_row(graph, value) is hides


# ---- caches and heads --------------------------------------------------------------------------

SPLIT = (
    "qs = Reshape (q, h)  qt = Transpose <perm = [0,2,1,3]> (qs)"
    "  ks = Reshape (k, h)  kt = Transpose <perm = [0,2,1,3]> (ks)"
    "  vs = Reshape (v, h)  vt = Transpose <perm = [0,2,1,3]> (vs)"
)
ATTEND = (
    "tt = Transpose <perm = [0,1,3,2]> (kk)  l = MatMul (qt, tt)  p = Softmax (l)"
    "  a = MatMul (p, vv)  at = Transpose <perm = [0,2,1,3]> (a)  y = Reshape (at, o)"
)
CACHES = "float[2,4,12] q, float[2,4,12] k, float[2,4,12] v, float[2,3,5,4] pk, float[2,3,5,4] pv"
CONCAT = "kk = Concat <axis = 2> (pk, kt)  vv = Concat <axis = -2> (pv, vt)"


def cached(body: str, outputs: str = "float[2,4,12] y") -> Graph:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 20]>
        g ({CACHES}) => ({outputs})
        <int64[4] h = {{0,0,3,4}}, int64[3] o = {{0,0,12}}>
        {{ {body} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


def test_caches_and_heads_are_taken_inside() -> None:
    outputs = "float[2,4,12] y, float[2,3,9,4] kk, float[2,3,9,4] vv"
    graph = cached(f"{SPLIT}  {CONCAT}  {ATTEND}", outputs)
    source = clone(graph)
    result = run_pass(RaiseAttention(), graph)
    assert dict(result.counts) == {"attention": 1, "attention-past": 1, "attention-3d": 1}
    (node,) = graph.nodes()
    operands = [value.name if value else "" for value in graph.operands(node)]
    assert operands == ["q", "k", "v", "", "pk", "pv"]
    assert (node.get("q_num_heads"), node.get("kv_num_heads")) == (3, 3)
    feeds = seeded(source)
    computed = run(graph, feeds)
    for name, array in run(source, feeds).items():
        np.testing.assert_allclose(computed[name], array, **CLOSE)


def test_a_cache_that_feeds_something_else_stays_outside() -> None:
    outputs = "float[2,4,12] y, float[2,3,9,4] kk, float[2,3,9,4] z"
    graph = cached(f"{SPLIT}  {CONCAT}  {ATTEND}  z = Relu (vv)", outputs)
    result = run_pass(RaiseAttention(), graph)
    assert dict(result.counts) == {"attention": 1}
    assert refused(result) == {"attention-past": "vv also feeds z"}


def test_heads_stay_split_where_one_operand_is_not() -> None:
    graph = cached(f"{SPLIT}  kk = Identity (pk)  vv = Identity (pv)  {ATTEND}")
    result = run_pass(RaiseAttention(), graph)
    assert dict(result.counts) == {"attention": 1}
    (miss,) = (item.reason for item in result.refusals if item.rule == "attention-3d")
    assert miss == "heads of kk are not split by Reshape and Transpose"


def test_shifted_windows_in_five_dimensions() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 20]>
        g (float[6,2,4,3] q, float[6,2,4,3] k, float[6,2,4,3] v, bool[1,3,1,4,4] b)
          => (float[6,2,4,3] y)
        <float zero = {0}, float hidden = {-100}, int64[5] five = {2,3,2,4,4},
         int64[4] four = {6,2,4,4}>
        {
            t = Transpose <perm = [0,1,3,2]> (k)  l = MatMul (q, t)  w = Reshape (l, five)
            m = Where (b, zero, hidden)  a = Add (w, m)  f = Reshape (a, four)
            p = Softmax (f)  y = MatMul (p, v)
        }
        """
    )
    InferShapes().apply(graph, PassContext())
    source = clone(graph)
    assert run_pass(RaiseAttention(), graph).counts["attention"] == 1
    feeds = seeded(source)
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], **CLOSE)


def test_onnxruntime_takes_heads_that_are_not_split() -> None:
    graph = cached(
        f"{SPLIT}  {CONCAT}  {ATTEND}", "float[2,4,12] y, float[2,3,9,4] kk, float[2,3,9,4] vv"
    )
    source = clone(graph)
    run_pass(RaiseAttention(), graph)
    options = {"forms": {"Attention": ["microsoft"]}, "domains": ["com.microsoft"]}
    run_pass(LowerOperators(LowerOperatorsOptions.model_validate(options)), graph)
    assert [node.qualified_op for node in graph.nodes()] == ["com.microsoft::MultiHeadAttention"]
    feeds = seeded(source)
    computed = run(graph, feeds)
    for name, array in run(source, feeds).items():
        np.testing.assert_allclose(computed[name], array, **CLOSE)
