"""fold-constants: nothing grows unasked, and what onnxruntime cannot run is named and left."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import DType, Graph, Tensor, TensorType, clone
from optc.passes import constant_regions
from optc.passes.fold_constants import FoldConstants, FoldConstantsOptions


def folding(max_growth: int) -> FoldConstants:
    return FoldConstants(FoldConstantsOptions(max_growth=max_growth))


# ---- growth ------------------------------------------------------------------------------------


def test_what_would_be_too_large_is_never_computed(sessions: list[int]) -> None:
    text = """
    g (float x) => (float[N,M] y) <int64[2] n = {50000, 50000}>
    {
       [c] a = ConstantOfShape (n)
       y = Add (x, a)
    }
    """
    reason = "its result has 10000000000 bytes, its operands 16; max_growth allows 1048576 more"
    assert_refuses(FoldConstants(), text, f"c: {reason}")
    assert sessions == []


def test_so_it_is_when_the_size_is_computed_first(sessions: list[int]) -> None:
    # Shape inference does not follow tensors of more than 128 elements: only evaluation tells.
    before = """
    g (float x) => (float[N] y) <int64 o = {200}, int64 s = {0}, int64 d = {1}, int64[1] k = {-1}>
    {
       r = Range (s, o, d)
       p = ReduceSum <keepdims = 0> (r)
       q = Mul (p, p)
       n = Reshape (q, k)
       [c] a = ConstantOfShape (n)
       y = Add (x, a)
    }
    """
    graph = graph_from_text(before)
    result = run_pass(FoldConstants(), graph)
    assert result.counts == {"fold-constant": 4}
    assert [refusal.reason for refusal in result.refusals] == [
        "its result has 1584040000 bytes, its operands 8; max_growth allows 1048576 more"
    ]
    assert [node.op_type for node in graph.ordered()] == ["ConstantOfShape", "Add"]


def test_generated_floats_are_judged_before_too(sessions: list[int]) -> None:
    text = """
    g (float[N] x) => (float[N] y) <float s = {0}, float l = {1099511627776}, float d = {0.5}>
    {
       [r] a = Range (s, l, d)
       y = Mul (x, a)
    }
    """
    reason = "its result has 8796093022208 bytes, its operands 12; max_growth allows 1048576 more"
    assert_refuses(FoldConstants(), text, f"r: {reason}")
    assert sessions == []


@pytest.mark.parametrize("window", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows_are_folded(window: str) -> None:
    graph = graph_from_text(
        f"g (float[4] x) => (float[4] y) <int64 n = {{4}}> {{ a = {window} (n) y = Mul (x, a) }}"
    )
    source = clone(graph)
    assert run_pass(FoldConstants(), graph).counts == {"fold-constant": 1}
    assert_same_numbers(source, graph)


@pytest.mark.parametrize(("limit", "folded"), [(12, True), (11, False)])
def test_the_limit_counts_bytes_beyond_the_operands(limit: int, folded: bool) -> None:
    graph = graph_from_text(
        "g (float[4] x) => (float[4] y) <float a = {1}, int64[1] s = {4}>"
        "{ b = Expand (a, s) y = Add (x, b) }"
    )
    # 16 bytes come from 4 of a and 8 of s.
    assert run_pass(folding(limit - 8), graph).changed == folded


def test_two_constants_that_broadcast_to_something_large() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", TensorType(DType.F32, (1000, 1000)))
    column = graph.add_constant(Tensor.from_numpy(np.ones((1000, 1), np.float32)), "c")
    row = graph.add_constant(Tensor.from_numpy(np.ones(1000, np.float32)), "r")
    outer = graph.add("Add", [column, row], outputs=["o"]).output
    graph.add_output(graph.add("Mul", [x, outer], outputs=["y"]).output, "y")
    assert [item.reason for item in run_pass(FoldConstants(), graph).refusals] == [
        "its result has 4000000 bytes, its operands 8000; max_growth allows 1048576 more"
    ]


def test_a_size_that_depends_on_the_data_is_judged_afterwards() -> None:
    text = f"""
    g (int64[1,N] x) => (int64[1,M] y) <float[40] a = {{{", ".join(["1"] * 40)}}}>
    {{
       b = NonZero (a)
       y = Concat <axis = 1> (b, x)
    }}
    """
    # 320 bytes of indices from 160 bytes of data.
    refused = run_pass(folding(159), graph_from_text(text)).refusals
    assert [item.reason for item in refused] == [
        "its result has 320 bytes, its operands 160; max_growth allows 159 more"
    ]
    assert run_pass(folding(160), graph_from_text(text)).counts == {"fold-constant": 1}


# ---- what onnxruntime cannot do ----------------------------------------------------------------


def test_operations_without_kernel_are_named_and_the_rest_is_folded(sessions: list[int]) -> None:
    before = """
    <ir_version: 10, opset_import: ["" : 22]>
    g (float[2] x, bfloat16[2] z) => (float[2] y, bfloat16[2] w)
    <float[2] a = {1, 2}, bfloat16[2] b = {3, 4}>
    {
       c = Neg (a)
       y = Add (x, c)
       [p] d = Sin (b)
       [q] e = Sin (d)
       [r] f = Sin (b)
       h = Max (e, f)
       w = Max (z, h)
    }
    """
    graph = graph_from_text(before)
    result = run_pass(FoldConstants(), graph)
    assert result.counts == {"fold-constant": 1}
    assert [item.node for item in result.refusals] == ["p", "r"]
    assert all("Could not find an implementation for Sin" in r.reason for r in result.refusals)
    # One failure tells about all operations of this operator on these types; twice two runs.
    assert len(sessions) == 3


def test_an_operation_that_fails_on_its_data_is_named_and_the_rest_is_folded() -> None:
    graph = graph_from_text(
        """
        g (float[N] x, float[2] z) => (float[N] y, float[2] w)
        <float[2] a = {1, 2}, int64[1] i = {7}, int64[1] j = {1}>
        {
           [bad] b = Gather (a, i)
           y = Add (x, b)
           [good] c = Gather (a, j)
           w = Add (z, c)
        }
        """
    )
    result = run_pass(FoldConstants(), graph)
    assert result.counts == {"fold-constant": 1}
    ((node, reason),) = [(item.node, item.reason) for item in result.refusals]
    assert node == "bad"
    assert reason.startswith("onnxruntime: ")
    assert "indices element out of data bounds" in reason


def test_nameless_failures_are_found_by_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constant_regions, "failing_node", lambda error: None)
    lines = " ".join(f"c{i} = Neg (a) y{i} = Add (x, c{i})" for i in range(6))
    outputs = ", ".join(f"float[2] y{i}" for i in range(6))
    graph = graph_from_text(
        f"g (float[2] x) => ({outputs}, float[2] z) <float[2] a = {{1, 2}}, int64[1] i = {{7}}>"
        f"{{ {lines} [bad] b = Gather (a, i) z = Add (x, b) }}"
    )
    result = run_pass(FoldConstants(), graph)
    assert result.counts == {"fold-constant": 6}
    assert [item.node for item in result.refusals] == ["bad"]


def test_it_gives_up_after_many_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optc.passes.fold_constants._MAX_FAILURES", 2)
    lines = " ".join(f"[n{i}] b{i} = Gather (a, i) y{i} = Add (x, b{i})" for i in range(3))
    outputs = ", ".join(f"float[N] y{i}" for i in range(3))
    graph = graph_from_text(
        f"g (float[N] x) => ({outputs}) <float[2] a = {{1, 2}}, int64[1] i = {{7}}> {{ {lines} }}"
    )
    result = FoldConstants().apply(graph, None)  # type: ignore[arg-type] # the pass asks nothing
    assert not result.changed
    assert [item.node for item in result.refusals] == ["n0", "n1", "n2"]
    assert result.refusals[1].reason.startswith("2 evaluations failed; last: onnxruntime: ")


def test_a_result_that_contradicts_the_graph_is_not_used() -> None:
    graph = graph_from_text(
        "g (float[N] x) => (float[N] y) <float[2] a = {1, 2}, float[3] b>"
        "{ b = Neg (a) y = Add (x, b) }"
    )
    result = FoldConstants().apply(graph, None)  # type: ignore[arg-type] # the pass asks nothing
    assert [item.reason for item in result.refusals] == [
        "onnxruntime gives f32[2], the graph says f32[3]"
    ]
