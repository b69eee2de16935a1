"""fall-back: the worst operations get their precision back until the goal holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers.lowered import quantized, sqnr
from optc.ir import Tensor, clone
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.numerics.planned import plan_node
from optc.passes import FallBack, InferShapes, QuantizeInt8
from optc.passes.base import AccuracyGoal, PassContext
from optc.passes.quantized_layers import quantized_layers
from optc.passes.restoring import Restorer
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from helpers.observing import SampleObserver
    from optc.ir import Graph


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


BESIDE = """agraph (float[1,3,8,8] x) => (float[1,5,8,8] y)
   <float[5,3,3,3] w, float[5,3,3,3] v, float[1] c> {
   a = Conv <pads=[1,1,1,1]> (x, w)
   s = Mul(a, c)
   b = Conv <pads=[1,1,1,1]> (x, v)
   y = Add(s, b)
}"""
CHAIN = """agraph (float[1,3,8,8] x) => (float[1,5,8,8] y)
   <float[6,3,3,3] w, float[5,6,3,3] v> {
   a = Conv <pads=[1,1,1,1]> (x, w)
   y = Conv <pads=[1,1,1,1]> (a, v)
}"""


def beside() -> tuple[Graph, Graph, SampleObserver]:
    """The rounding of the least exact operation is nothing at the output."""
    reference, _, observer = quantized(BESIDE)
    for product, number in (("a", None), ("s", 1e-5)):
        old = reference.operand(reference.value(product).node, 1)
        assert old is not None
        assert old.constant is not None
        array = np.full_like(old.constant.numpy(), number or 1e-3)
        if number is None:  # one large weight, beside which the others are lost in rounding
            array[:, 0, 0, 0] = 1.0
            array[:, :, 2, 2] = 3.9e-3
        new = reference.add_constant(Tensor.from_numpy(array), reference.fresh_name(old.name))
        reference.replace_uses(old, new)
        reference.remove(old.node)
    graph = clone(reference)
    wanted = QuantizeInt8.Options.model_validate({"placement": "kernels"})
    QuantizeInt8(wanted).apply(graph, PassContext(observer=observer))
    InferShapes().apply(graph, PassContext())
    return reference, graph, observer


def on_floats(graph: Graph, reference: Graph) -> set[str]:
    known = {layer.node.key for layer in quantized_layers(graph, reference)}
    return {n.key for n in graph.ordered() if n.is_op("Conv") and n.key not in known}


@pytest.mark.parametrize(("trials", "back"), [(24, {"b"}), (0, {"a", "b"})])
def test_what_does_not_reach_the_output_stays_on_integers(trials: int, back: set[str]) -> None:
    reference, graph, observer = beside()
    before = sqnr(reference, graph, observer)
    options = FallBack.Options.model_validate({"sqnr": before + 6, "trials": trials})
    result = FallBack(options).apply(graph, PassContext(observer=observer, reference=reference))
    assert on_floats(graph, reference) == back
    assert result.counts == {"fall-back": len(back)}
    assert sqnr(reference, graph, observer) >= before + 6
    ranks = {d.node: d.reason.split(";")[0] for d in result.decisions}
    assert ranks["b"] == "brought back to fp32: number 2 of the least exact"


@pytest.mark.parametrize(("runtime", "pairs"), [("onnxruntime", 2), ("openvino", 1)])
def test_a_kernel_that_gives_integers_alone_keeps_the_pair_behind_it(
    runtime: str, pairs: int
) -> None:
    reference, graph, observer = quantized(CHAIN)
    context = PassContext(runtime=runtime)
    table = shipped_kernels(runtime)
    Restorer(reference, table, context.described.capabilities).bring_back(graph, ["y"])
    InferShapes().apply(graph, PassContext())
    assert not verify(graph)
    assert on_floats(graph, reference) == {"y"}
    assert sum(node.is_op("QuantizeLinear") for node in graph.nodes()) == pairs
    first = next(node for node in graph.ordered() if node.is_op("Conv"))
    assert plan_node(graph, first, table, context.described.capabilities).expected == "int8"
    assert sqnr(reference, graph, observer) > 20
