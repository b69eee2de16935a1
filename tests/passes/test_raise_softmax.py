"""raise-softmax: exponentials over their sum, and its logarithm."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.raise_softmax import RaiseSoftmax


def model(body: str, opset: int = 13, outputs: str = "float[N,3,4] y") -> Graph:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,3,4] x) => ({outputs}) <int64[1] last = {{-1}}, int64[1] middle = {{1}}>
        {{ {body} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


SOFTMAX = (
    "m = ReduceMax <axes = [-1]> (x)  d = Sub (x, m)  e = Exp (d)  s = ReduceSum (e, last)"
    "  [n] y = Div (e, s)"
)


@pytest.mark.parametrize(
    ("body", "op", "axis"),
    [
        (SOFTMAX, "Softmax", -1),
        (SOFTMAX.replace("y = Div (e, s)", "r = Reciprocal (s)  y = Mul (r, e)"), "Softmax", -1),
        ("e = Exp (x)  s = ReduceSum (e, middle)  y = Div (e, s)", "Softmax", -2),
        (SOFTMAX.replace("y = Div", "p = Div") + "  y = Log (p)", "LogSoftmax", -1),
        ("p = Softmax <axis = 2> (x)  y = Log (p)", "LogSoftmax", -1),
        ("l = ReduceLogSumExp <axes = [1]> (x)  y = Sub (x, l)", "LogSoftmax", -2),
        (
            "m = ReduceMax <axes = [-1]> (x)  d = Sub (x, m)  e = Exp (d)  s = ReduceSum (e, last)"
            "  l = Log (s)  y = Sub (d, l)",
            "LogSoftmax",
            -1,
        ),
    ],
)
def test_spellings(body: str, op: str, axis: int) -> None:
    graph = model(body)
    source = clone(graph)
    assert run_pass(RaiseSoftmax(), graph).changed
    (node,) = graph.nodes()
    assert (node.op_type, node.get("axis")) == (op, axis)
    feeds = seeded(source)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-6, strict=True
    )


@pytest.mark.parametrize(
    ("body", "opset", "outputs", "reason"),
    [
        (
            "e = Exp (x)  s = ReduceSum <axes = [1]> (e)  [n] y = Div (e, s)",
            11,
            "float[N,3,4] y",
            "axis 1 is not the last, and opset 11 < 13",
        ),
        (
            SOFTMAX,
            13,
            "float[N,3,4] y, float[N,3,4] e",
            "Exp output is the graph output e",
        ),
    ],
)
def test_what_is_nearly_a_softmax_says_why(
    body: str, opset: int, outputs: str, reason: str
) -> None:
    result = run_pass(RaiseSoftmax(), model(body, opset, outputs))
    assert not result.changed
    assert reason in [item.reason for item in result.refusals]


def test_a_sum_over_another_axis_is_a_softmax_of_the_difference() -> None:
    graph = model(SOFTMAX.replace("(e, last)", "(e, middle)"))
    source = clone(graph)
    assert run_pass(RaiseSoftmax(), graph).changed
    assert [node.op_type for node in graph.ordered()] == ["ReduceMax", "Sub", "Softmax"]
    feeds = seeded(source)
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5)


def test_before_opset_13_the_last_axis_is_written_from_the_front() -> None:
    graph = model(SOFTMAX.replace("ReduceSum (e, last)", "ReduceSum <axes = [2]> (e)"), 11)
    assert run_pass(RaiseSoftmax(), graph).changed
    (node,) = graph.nodes()
    assert node.get("axis") == 2
