"""raise-norms: normalizations by their formula; wrong axes, epsilons and statistics are refused."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.raise_norms import RaiseNorms


def model(body: str, outputs: str = "float[N,3,4] y", dtype: str = "float") -> Graph:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g ({dtype}[N,3,4] x) => ({outputs})
        <{dtype} eps = {{0.001}}, {dtype} two = {{2}}, {dtype}[4] s = {{1,2,3,4}},
         {dtype}[1,1,4] b = {{-1,0,1,2}}, {dtype}[3,1] c = {{1,2,3}}, {dtype} k = {{0.5}}>
        {{ {body} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


LAYER = (
    "m = ReduceMean <axes = [-1]> (x)  d = Sub (x, m)  q = Pow (d, two)"
    "  [v] v = ReduceMean <axes = [-1]> (q)"
    "  e = Add (v, eps)  r = Sqrt (e)  n = Div (d, r)  g = Mul (n, s)  y = Add (g, b)"
)
SPELLINGS = {
    "pow and sqrt": LAYER,
    "reciprocal": LAYER.replace("n = Div (d, r)", "i = Reciprocal (r)  n = Mul (d, i)"),
    "mean of squares": (
        "m = ReduceMean <axes = [2]> (x)  q = Mul (x, x)  w = ReduceMean <axes = [2]> (q)"
        "  p = Mul (m, m)  v = Sub (w, p)  e = Add (v, eps)  r = Sqrt (e)  d = Sub (x, m)"
        "  n = Div (d, r)  g = Mul (n, s)  y = Add (g, b)"
    ),
    "scale first": (
        "m = ReduceMean <axes = [2]> (x)  d = Sub (x, m)  q = Mul (d, d)"
        "  v = ReduceMean <axes = [2]> (q)  e = Add (v, eps)  r = Sqrt (e)  i = Reciprocal (r)"
        "  t = Mul (i, s)  a = Mul (x, t)  u = Mul (m, t)  w = Sub (b, u)  y = Add (a, w)"
    ),
    "two differences": LAYER.replace("n = Div (d, r)", "d2 = Sub (x, m)  n = Div (d2, r)"),
    "without scale and bias": LAYER.partition("  g = ")[0].replace("n = Div", "y = Div"),
    "one factor": LAYER.replace("Mul (n, s)", "Mul (n, k)"),
}


@pytest.mark.parametrize("body", SPELLINGS.values(), ids=SPELLINGS)
def test_layer_normalization(body: str) -> None:
    graph = model(body)
    source = clone(graph)
    assert dict(run_pass(RaiseNorms(), graph).counts) == {"layer-normalization": 1}
    (node,) = graph.nodes()
    assert node.is_op("LayerNormalization")
    assert node.get("epsilon") == pytest.approx(1e-3)
    feeds = seeded(source)
    # A dozen roundings on numbers around 1; the mean of squares loses some more.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=2e-5, atol=2e-6, strict=True
    )


RMS = (
    "q = Mul (x, x)  v = ReduceMean <axes = [-1]> (q)  e = Add (v, eps)  r = Sqrt (e)"
    "  n = Div (x, r)  y = Mul (s, n)"
)


def test_rms_normalization() -> None:
    graph = model(RMS)
    source = clone(graph)
    assert dict(run_pass(RaiseNorms(), graph).counts) == {"rms-normalization": 1}
    feeds = seeded(source)
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5)


def test_a_bias_after_rms_normalization_stays() -> None:
    graph = model(RMS.replace("y = Mul", "g = Mul") + "  y = Add (g, b)")
    run_pass(RaiseNorms(), graph)
    assert [node.op_type for node in graph.ordered()] == ["RMSNormalization", "Add"]


def test_instance_normalization_takes_scale_and_bias_by_channel() -> None:
    graph = model(LAYER.replace("(n, s)", "(n, c)").replace("(g, b)", "(g, c)"))
    source = clone(graph)
    assert dict(run_pass(RaiseNorms(), graph).counts) == {"instance-normalization": 1}
    feeds = seeded(source)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=2e-5, atol=2e-6
    )


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        (
            LAYER.replace("[-1]", "[1]").replace("(n, s)", "(n, k)"),
            "float[N,3,4] y",
            "the axes 1 are not the last of 3: it would need a Transpose",
        ),
        (
            LAYER.replace("(v, eps)", "(v, k)")
            .replace("e = Add", "z = Add")
            .replace("r = Sqrt (e)", "w = Sqrt (v)  r = Add (w, eps)"),
            "float[N,3,4] y",
            "epsilon is added outside of the root",
        ),
        (LAYER, "float[N,3,4] y, float[N,3,1] v", "ReduceMean output is the graph output v"),
        (
            LAYER.replace("v = ReduceMean <axes = [-1]> (q)", "v = ReduceMean <axes = [1]> (q)"),
            "float[N,3,4] y",
            "mean and variance are over different axes",
        ),
    ],
)
def test_what_is_nearly_a_normalization_says_why(body: str, outputs: str, reason: str) -> None:
    graph = model(body, outputs)
    result = run_pass(RaiseNorms(), graph)
    assert not result.changed
    assert reason in [item.reason for item in result.refusals]


def test_statistics_of_doubles_would_lose_digits() -> None:
    graph = model(LAYER, "double[N,3,4] y", "double")
    result = run_pass(RaiseNorms(), graph)
    assert not result.changed
    assert "statistics of f64 would be taken in f32" in [item.reason for item in result.refusals]


def test_the_size_of_the_axes_must_be_known() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,M] x) => (float[N,M] y) <float eps = {0.001}>
        {
          m = ReduceMean <axes = [1]> (x)  d = Sub (x, m)  q = Mul (d, d)
          v = ReduceMean <axes = [1]> (q)  e = Add (v, eps)  r = Sqrt (e)  y = Div (d, r)
        }
        """
    )
    InferShapes().apply(graph, PassContext())
    result = run_pass(RaiseNorms(), graph)
    assert "the sizes of the normalized axes are not known" in [r.reason for r in result.refusals]
