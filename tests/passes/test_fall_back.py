"""fall-back: the worst operations get their precision back until the goal holds."""

from __future__ import annotations

import math

import pytest

from helpers.lowered import quantized, sqnr
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.passes import FallBack
from optc.passes.base import AccuracyGoal, PassContext


def fall_back(goal: float | None = None) -> FallBack:
    return FallBack(FallBack.Options.model_validate({"sqnr": goal}))


def test_as_few_as_the_goal_allows() -> None:
    reference, graph, observer = quantized()
    before = sqnr(reference, graph, observer)
    context = PassContext(observer=observer, reference=reference)
    step = fall_back(before + 1)
    result = step.apply(graph, context)
    assert result.counts == {"fall-back": 1}
    assert not verify(graph)
    assert sqnr(reference, graph, observer) >= before + 1
    (decision,) = result.decisions
    assert decision.precision == "fp32"
    assert "number 1 of the least exact" in decision.reason
    assert not result.warnings
    assert decision.figures["sqnr"] > decision.figures["sqnr_before"]
    products = [node for node in graph.nodes() if node.is_op("Conv")]
    weights = [graph.operand(node, 1) for node in products]
    assert sum(value is not None and value.constant is not None for value in weights) == 1
    text = print_graph(graph)
    assert not step.apply(graph, context).changed
    assert print_graph(graph) == text


def test_a_goal_that_only_fp32_reaches_leaves_nothing_quantized() -> None:
    reference, graph, observer = quantized()
    context = PassContext(observer=observer, reference=reference)
    result = fall_back(1000.0).apply(graph, context)
    assert result.counts == {"fall-back": 2}
    assert not any(node.op_type.endswith("Linear") for node in graph.nodes())
    assert sqnr(reference, graph, observer) > 100
    (warning,) = result.warnings
    assert warning.startswith("all 2 quantized operations went back to fp32: ")
    # No error has no ratio to it; reports hold finite numbers only.
    assert all(math.isfinite(number) for d in result.decisions for number in d.figures.values())
    assert not fall_back(1000.0).apply(graph, context).changed


def test_goals_of_the_recipe() -> None:
    reference, graph, observer = quantized()
    goals = (AccuracyGoal("cosine", 2.0), AccuracyGoal("sqnr", 5.0))
    context = PassContext(observer=observer, reference=reference, goals=goals)
    result = fall_back().apply(graph, context)
    assert "the goal is not reached" in result.decisions[0].reason


def test_without_a_goal_what_so_many_roundings_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, graph, observer = quantized()
    context = PassContext(observer=observer, reference=reference)
    text = print_graph(graph)
    assert not fall_back().apply(graph, context).changed
    assert print_graph(graph) == text
    before = sqnr(reference, graph, observer)
    monkeypatch.setattr("optc.passes.fall_back.floor", lambda count: before + 1 if count else 99.0)
    result = fall_back().apply(graph, context)
    assert result.counts == {"fall-back": 1}
    assert sqnr(reference, graph, observer) >= before + 4  # and 3 dB more


@pytest.mark.parametrize("missing", ["observer", "reference"])
def test_nothing_to_do(missing: str) -> None:
    reference, graph, observer = quantized()
    text = print_graph(graph)
    context = PassContext(
        observer=None if missing == "observer" else observer,
        reference=None if missing == "reference" else reference,
    )
    assert not fall_back(99.0).apply(graph, context).changed
    assert print_graph(graph) == text


def test_a_goal_that_holds_already() -> None:
    reference, graph, observer = quantized()
    text = print_graph(graph)
    context = PassContext(observer=observer, reference=reference)
    assert not fall_back(1.0).apply(graph, context).changed
    assert print_graph(graph) == text
