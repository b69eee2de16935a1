"""round-weights: which way weights are rounded is decided on data."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.lowered import quantized, sqnr
from helpers.observing import SampleObserver
from optc.ir import clone
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.numerics.saturation import Product, find_saturation
from optc.passes import CorrectBias, RoundWeights
from optc.passes.base import PassContext
from optc.passes.quantized_layers import quantized_layers
from optc.passes.weight_rounding import batches
from optc.rewrite.decisions import Decisions
from optc.rewrite.trace import Decision, StepRecord

ALWAYS = RoundWeights(RoundWeights.Options.model_validate({"min_gain": 0.0}))
TWICE = """agraph (float[8,16] x) => (float[8,16] y)
   <float[16,16] w> {
   p = MatMul(x, w)
   r = Relu(p)
   y = MatMul(r, w)
}"""


def test_outputs_are_closer_to_the_source_on_other_data() -> None:
    reference, graph, observer = quantized()
    before = print_graph(graph)
    _, _, other = quantized(seed=1)
    known = sqnr(reference, graph, observer), sqnr(reference, graph, other)
    result = ALWAYS.apply(graph, PassContext(observer=observer, reference=reference))
    assert result.changed
    assert result.counts == {"round": 2}
    assert not verify(graph)
    assert sqnr(reference, graph, observer) > known[0] + 0.2
    assert sqnr(reference, graph, other) > known[1] + 0.2
    for decision in result.decisions:
        assert decision.precision == "int8"
        assert decision.figures["sqnr_db_after"] > decision.figures["sqnr_db_before"]
        assert "weights are rounded the other way" in decision.reason
    text = print_graph(graph)
    assert text != before
    assert not ALWAYS.apply(graph, PassContext(observer=observer, reference=reference)).changed
    assert print_graph(graph) == text


def test_a_mean_error_is_taken_back_once() -> None:
    reference, graph, observer = quantized()
    context = PassContext(observer=observer, reference=reference)
    assert ALWAYS.apply(graph, context).counts == {"round": 2}
    text = print_graph(graph)
    always = CorrectBias(CorrectBias.Options.model_validate({"min_gain": 0.0}))
    result = always.apply(graph, context)
    assert not result.changed
    assert not result.refusals
    assert print_graph(graph) == text


def test_the_reason_for_int8_stays() -> None:
    reference, graph, observer = quantized()
    step = StepRecord("quantize-int8", decisions=(_decision("a"), _decision("y")))
    context = PassContext(observer=observer, reference=reference, decisions=Decisions([step]))
    for decision in ALWAYS.apply(graph, context).decisions:
        assert decision.reason.startswith("predicted to be faster; ")
        assert decision.figures["cycles"] == 7.0


def _decision(value: str) -> Decision:
    return Decision(value, "int8", "gain", "predicted to be faster", {"cycles": 7.0}, value=value)


def test_every_weight_is_one_of_its_neighbours() -> None:
    reference, graph, observer = quantized()
    ALWAYS.apply(graph, PassContext(observer=observer, reference=reference))
    for layer in quantized_layers(graph, reference):
        scales = np.array(layer.weights.scales).reshape(1, 1, -1)
        assert (np.abs(layer.matrix - layer.before.matrix) < scales * 1.01).all()


def test_what_cannot_saturate_does_not_begin_to() -> None:
    reference, graph, observer = quantized(options={"saturation": "avoid"})
    result = ALWAYS.apply(graph, PassContext(observer=observer, reference=reference))
    assert result.changed
    for layer in quantized_layers(graph, reference):
        weight = graph.operand(layer.node, 1)
        assert weight is not None
        integers = graph.operand(weight.node, 0)
        assert integers is not None
        assert integers.constant is not None
        assert find_saturation(integers.constant.numpy(), Product("Conv")) is None


@pytest.mark.parametrize("missing", ["observer", "reference", "quantization"])
def test_nothing_to_do(missing: str) -> None:
    reference, graph, observer = quantized()
    context = PassContext(
        observer=None if missing == "observer" else observer,
        reference=None if missing == "reference" else reference,
    )
    target = clone(reference) if missing == "quantization" else graph
    text = print_graph(target)
    assert not ALWAYS.apply(target, context).changed
    assert print_graph(target) == text


def test_a_weight_of_two_operations_stays() -> None:
    reference, graph, observer = quantized(TWICE)
    result = ALWAYS.apply(graph, PassContext(observer=observer, reference=reference))
    assert {refusal.reason for refusal in result.refusals} == {
        "its weight is used by several operations"
    }


@pytest.mark.parametrize(
    ("samples", "value", "reason"),
    [
        (3, 1.0, "it needs 4 samples of data with an element"),
        (8, np.inf, "its data is not finite"),
    ],
)
def test_data_that_is_of_no_use(samples: int, value: float, reason: str) -> None:
    reference, graph, observer = quantized()
    data = [
        {"x": np.asarray(sample["x"]) * np.float32(value)} for sample in observer.samples[:samples]
    ]
    context = PassContext(observer=SampleObserver(data), reference=reference)
    result = ALWAYS.apply(graph, context)
    assert not result.changed
    assert reason in {refusal.reason for refusal in result.refusals}


def test_little_gain_is_refused() -> None:
    reference, graph, observer = quantized()
    step = RoundWeights(RoundWeights.Options.model_validate({"min_gain": 50.0}))
    text = print_graph(graph)
    result = step.apply(graph, PassContext(observer=observer, reference=reference))
    assert not result.changed
    assert print_graph(graph) == text
    assert all("less than 50" in refusal.reason for refusal in result.refusals)


def test_batches_hold_every_operation_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, graph, observer = quantized()
    whole = clone(graph)
    ALWAYS.apply(whole, PassContext(observer=observer, reference=reference))
    monkeypatch.setattr("optc.passes.weight_rounding._MEMORY", 1)
    assert [len(batch) for batch in batches([])] == []
    result = ALWAYS.apply(graph, PassContext(observer=observer, reference=reference))
    assert result.counts == {"round": 2}
    assert print_graph(graph) == print_graph(whole)
