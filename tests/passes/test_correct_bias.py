"""correct-bias: what rounding adds on average is taken out of biases."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.lowered import TEXT, quantized, sqnr
from optc.ir import clone
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.passes import CorrectBias
from optc.passes.base import PassContext

CHAIN = """agraph (float[32,16] x) => (float[32,8] y)
   <float[16,24] w, float[24] c, float[24,8] v> {
   p = MatMul(x, w)
   a = Add(p, c)
   r = Relu(a)
   y = MatMul(r, v)
}"""


def test_the_output_is_closer_to_the_source() -> None:
    reference, graph, observer = quantized()
    before = sqnr(reference, graph, observer)
    context = PassContext(observer=observer, reference=reference)
    step = CorrectBias(CorrectBias.Options.model_validate({"min_gain": 0.0}))
    result = step.apply(graph, context)
    assert result.changed
    assert result.counts == {"bias": 2}
    assert not verify(graph)
    assert sqnr(reference, graph, observer) > before
    text = print_graph(graph)
    again = step.apply(graph, context)
    assert not again.changed
    assert print_graph(graph) == text


def test_the_mean_of_the_first_operation_is_that_of_the_source() -> None:
    reference, graph, observer = quantized()
    step = CorrectBias(CorrectBias.Options.model_validate({"min_gain": 0.0}))

    def shift() -> float:
        pairs = zip(
            observer.observe(reference, [reference.value("a")], dict),
            observer.observe(graph, [graph.value("a")], dict),
            strict=True,
        )
        errors = [other["a"].mean((0, 2, 3)) - one["a"].mean((0, 2, 3)) for one, other in pairs]
        return float(np.abs(np.mean(errors, axis=0)).max())

    before = shift()
    step.apply(graph, PassContext(observer=observer, reference=reference))
    # All 64 places of all 8 samples are rows; 2^-9 is what rounding of the shift leaves, and half a
    # step of the int32 bias is far below.
    assert shift() <= before * 2**-7


def test_a_sum_behind_a_product_is_its_bias() -> None:
    reference, graph, observer = quantized(CHAIN)
    step = CorrectBias(CorrectBias.Options.model_validate({"min_gain": 0.0}))
    result = step.apply(graph, PassContext(observer=observer, reference=reference))
    reasons = [refusal.reason for refusal in result.refusals]
    assert result.counts == {"bias": 1} or any("would be at" in reason for reason in reasons)
    assert "it has no constant bias" in reasons or not result.changed


def test_a_shift_that_matters_little_stays() -> None:
    reference, graph, observer = quantized()
    text = print_graph(graph)
    step = CorrectBias(CorrectBias.Options.model_validate({"min_gain": 50.0}))
    result = step.apply(graph, PassContext(observer=observer, reference=reference))
    assert not result.changed
    assert print_graph(graph) == text
    assert all("less than 50" in refusal.reason for refusal in result.refusals)


@pytest.mark.parametrize("missing", ["observer", "reference", "quantization"])
def test_nothing_to_do(missing: str) -> None:
    reference, graph, observer = quantized(TEXT)
    context = PassContext(
        observer=None if missing == "observer" else observer,
        reference=None if missing == "reference" else reference,
    )
    given = clone(reference) if missing == "quantization" else graph
    text = print_graph(given)
    assert not CorrectBias().apply(given, context).changed
    assert print_graph(given) == text
