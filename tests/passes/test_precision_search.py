"""Accuracy goals move operations back to fp32, those that cost most first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

from helpers import graph_from_text
from helpers.observing import SampleObserver
from optc.ir.text import print_graph
from optc.passes import AssignPrecision, InferShapes, PassContext
from optc.passes.base import AccuracyGoal
from optc.passes.precision_search import Judge, rounded

if TYPE_CHECKING:
    from optc.ir import Graph

SIZE = 256
RNG = np.random.default_rng(5)
W, V = (RNG.normal(size=(SIZE, SIZE)).astype(np.float32) for _ in range(2))
X = RNG.normal(size=(SIZE, SIZE)).astype(np.float32)
FEEDS = {"x": X, "c": (X @ W * np.float32(0.99)).astype(np.float32), "w": W, "v": V}


def model(opset: int = 21) -> Graph:
    """Output ``y`` is the hundredth part of what it is the difference of; ``z`` is a product."""
    graph = graph_from_text(
        f"""<ir_version: 10, opset_import: ["" : {opset}]>
        g (float[{SIZE},{SIZE}] x, float[{SIZE},{SIZE}] c, float[{SIZE},{SIZE}] w,
           float[{SIZE},{SIZE}] v) => (y, z) {{
           [p] a = MatMul(x, w)  [s] y = Sub(a, c)  [q] z = MatMul(x, v) }}"""
    )
    InferShapes().apply(graph, PassContext())
    return graph


def context(*goals: tuple[str, float]) -> PassContext:
    observer = SampleObserver([FEEDS, FEEDS])
    own = tuple(AccuracyGoal(*goal) for goal in goals)
    return PassContext("sapphirerapids", "openvino", observer=observer, goals=own)


OPTIONS = AssignPrecision.Options.model_validate({"ranges": False, "infer": ["s"]})


@pytest.mark.parametrize("opset", [11, 21])
def test_the_worst_go_back_until_the_goal_holds(opset: int) -> None:
    graph = model(opset)
    before = print_graph(graph)
    # A product of rounded operands has about 54 dB, and 40 dB less after a difference of 1 %.
    result = AssignPrecision(OPTIONS).apply(graph, context(("sqnr", 45.0)))
    found = {d.node: d for d in result.decisions}
    assert {n: d.precision for n, d in found.items()} == {"p": "fp32", "s": "fp32", "q": "bf16"}
    assert found["p"].rule == "accuracy"
    assert found["p"].reason.startswith("alone in bf16 it gives sqnr 1")
    assert result.figures["denied_for_accuracy"] in (1, 2)  # what is left alone may go by the cut
    assert 50 < result.figures["expected_sqnr"] < 58
    assert print_graph(graph) == before


def test_a_goal_that_holds_changes_nothing() -> None:
    plain = AssignPrecision(OPTIONS).apply(model(), context())
    result = AssignPrecision(OPTIONS).apply(model(), context(("sqnr", 5.0)))
    assert result.decisions == plain.decisions
    assert result.figures["denied_for_accuracy"] == 0


def test_a_goal_that_bf16_cannot_reach_leaves_fp32() -> None:
    result = AssignPrecision(OPTIONS).apply(model(), context(("sqnr", 100.0)))
    assert {d.precision for d in result.decisions} == {"fp32"}
    assert result.figures["bf16"] == 0
    assert "expected_sqnr" not in result.figures  # nothing differs: it is infinite
    assert result.warnings == ()


def test_goals_that_need_labels_are_not_searched_for() -> None:
    result = AssignPrecision(OPTIONS).apply(model(), context(("top1", 0.9)))
    assert result.warnings == ("top1 needs labels, which calibration has not: no search",)


def test_the_judge_measures_on_the_exact_roundings() -> None:
    graph = model()
    judge = Judge(graph, SampleObserver([FEEDS]), [("sqnr", 45.0), ("cosine", 0.5)])
    nodes = {node.name: node for node in graph.nodes()}
    good, bad = judge.score({nodes["q"]}), judge.score({nodes["p"]})
    assert good.met
    assert not bad.met
    assert bad.badness > good.badness
    assert str(good).startswith("sqnr 5")
    product = (bf16(bf16(X) @ bf16(V)) - X @ V) / np.sqrt(np.mean((X @ V) ** 2))
    assert good.values[0] == pytest.approx(-10 * np.log10(np.mean(product**2)), abs=0.1)


def bf16(array: np.ndarray) -> np.ndarray:
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


def test_bodies_are_rounded_as_well() -> None:
    graph = graph_from_text(
        """g (bool c, float[4,4] x, float[4,4] w) => (float[4,4] y) {
           y = If (c) <
             then_branch = t () => (float[4,4] p) { [m] p = MatMul(x, w) },
             else_branch = e () => (float[4,4] q) { q = Neg(x) }> }"""
    )
    InferShapes().apply(graph, PassContext())
    bodies = [n for g in graph.walk() for n in g.nodes() if n.name == "m"]
    text = print_graph(rounded(graph, bodies))
    assert text.count("to=bf16") == 3  # both operands and the result
