"""Differences that become a root or a divisor stay fp32, with their terms."""

from __future__ import annotations

import pytest

from helpers import graph_from_text
from optc.passes import AssignPrecision, InferShapes, PassContext
from optc.passes.precision_roots import rooted_differences

VARIANCE = """
    axes = Constant<value = int64[1] {1}>()  eps = Constant<value = float {1e-5}>()
    [m] m = ReduceMean(x, axes)  [mm] mm = Mul(m, m)
    [xx] xx = Mul(x, x)  [e] e = ReduceMean(xx, axes)
    [d] d = Sub(e, mm)  [r] r = Relu(d)  [a] a = Add(r, eps)  [s] s = Sqrt(a)
    [c] c = Sub(x, m)  [q] n = Div(c, s)  [p] y = MatMul(n, w)"""


def names(body: str) -> dict[str, str]:
    text = f"g (float[512,512] x, float[512,512] w) => (y) {{ {body} }}"
    return {node.name: why for node, why in rooted_differences(graph_from_text(text)).items()}


def test_a_variance_as_a_difference_stays_with_its_terms() -> None:
    found = names(VARIANCE)
    assert sorted(found) == ["d", "e", "m", "mm"]  # not xx: what is summed averages out
    assert found["d"] == (
        "its terms may cancel, and s takes the root of what is left, or divides by it"
    )
    assert found["m"] == (
        "it computes a term of the difference d, of which s takes a root or divides by it"
    )
    graph = graph_from_text(f"g (float[512,512] x, float[512,512] w) => (y) {{ {VARIANCE} }}")
    InferShapes().apply(graph, PassContext())
    context = PassContext("sapphirerapids", "openvino")
    decided = {d.node: d for d in AssignPrecision().apply(graph, context).decisions}
    assert {decided[name].rule for name in found} == {"cancellation"}
    assert decided["p"].precision == "bf16"


OTHERS = {
    "a mean that is subtracted": "a = Constant<value = int64[1] {1}>()  m = ReduceMean(x, a)"
    "  c = Sub(x, m)  e = Mul(c, c)  v = ReduceMean(e, a)  s = Sqrt(v)  y = Div(c, s)",
    "a dividend": "c = Sub(x, w)  y = Div(c, w)",
    "a root of something else": "c = Sub(x, w)  m = MatMul(c, w)  y = Sqrt(m)",
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_other_differences_are_free(body: str) -> None:
    assert names(body) == {}


def test_a_divisor_counts_as_well_and_elements_that_come_as_they_are_do_not() -> None:
    assert sorted(names("[c] c = Sub(x, w)  y = Div(x, c)")) == ["c"]
