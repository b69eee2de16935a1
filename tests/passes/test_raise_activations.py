"""raise-activations: the operator that a formula means, and no other; decoys keep their numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import refused, run_pass
from optc.ir import Graph, clone
from optc.ir.text import print_graph
from optc.passes import InferShapes, PassContext
from optc.passes.raise_activations import RaiseActivations


def typed(text: str) -> Graph:
    graph = graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    return graph


def model(body: str, outputs: str = "float[N,4] y", opset: int = 17) -> Graph:
    return typed(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,4] x) => ({outputs})
        <float h = {{0.5}}, float one = {{1}}, float r = {{1.4142135}}, float three = {{3}},
         float six = {{6}}, float zero = {{0}}, float near = {{0.501}}, float[4] v = {{1,2,3,4}}>
        {{ {body} }}
        """
    )


GELU = "d = Div (x, r)  e = Erf (d)  a = Add (e, one)  m = Mul (x, a)  [n] y = Mul (m, h)"


def test_it_becomes_the_one_operator() -> None:
    graph = model(GELU, opset=20)
    assert dict(run_pass(RaiseActivations(), graph).counts) == {"gelu": 1}
    lines = [line.strip() for line in print_graph(graph).splitlines() if "Gelu" in line]
    assert lines == ["%0 = Gelu(%x) : f32[N,4]"]


def test_an_operator_that_the_opset_does_not_have_is_canonical() -> None:
    graph = model(GELU)
    run_pass(RaiseActivations(), graph)
    (node,) = graph.nodes()
    assert node.qualified_op == "optc::Gelu"


def test_a_bias_before_stays_before() -> None:
    graph = model(
        "b = Add (x, v)  d = Div (b, r)  e = Erf (d)  a = Add (e, one)  m = Mul (b, a)"
        "  y = Mul (m, h)"
    )
    run_pass(RaiseActivations(), graph)
    assert [node.op_type for node in graph.ordered()] == ["Add", "Gelu"]


@pytest.mark.parametrize(
    ("body", "outputs", "rule", "reason"),
    [
        (
            GELU.replace("(m, h)", "(m, near)"),
            "float[N,4] y",
            "gelu",
            "computes 0.501 erf(0.707107 x) x + 0.501 x",
        ),
        (
            GELU.replace("(e, one)", "(e, v)"),
            "float[N,4] y",
            "gelu",
            "computes 0.5 erf(0.707107 x) x + 0.5 x v",
        ),
        (GELU, "float[N,4] y, float[N,4] e", "gelu", "Erf output is the graph output e"),
        (
            GELU + "  [k] z = Neg (e)",
            "float[N,4] y, float[N,4] z",
            "gelu",
            "Erf output also feeds k",
        ),
    ],
)
def test_what_is_nearly_an_activation_says_what_it_is(
    body: str, outputs: str, rule: str, reason: str
) -> None:
    graph = model(body, outputs)
    result = run_pass(RaiseActivations(), graph)
    assert not result.changed
    assert refused(result)[rule] == reason


def test_a_cheap_part_that_is_used_elsewhere_stays_and_the_rest_goes() -> None:
    graph = model(GELU + "  z = Neg (d)", "float[N,4] y, float[N,4] z")
    assert run_pass(RaiseActivations(), graph).changed
    assert sorted(node.op_type for node in graph.nodes()) == ["Div", "Gelu", "Neg"]


def test_integers_and_shapes_that_grow_are_left_alone() -> None:
    graph = typed(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[1,4] y) <float[1,1] z = {0}> { y = Max (x, z) }
        """
    )
    assert not run_pass(RaiseActivations(), graph).changed


# ---- decoys ------------------------------------------------------------------------------------

PIECES = {
    "gelu": GELU,
    "gelu-shared": "d = Div (x, r)  e = Erf (d)  a = Add (e, one)  m = Mul (x, a)  y = Mul (a, m)",
    "hard-swish": "a = Add (x, three)  b = Clip (a, zero, six)  m = Mul (x, b)  y = Div (m, six)",
    "hard-swish-off": "a = Add (x, one)  b = Clip (a, zero, six)  m = Mul (x, b)  y = Div (m, six)",
    "hard-swish-other": "a = Add (x, three)  b = Clip (a, zero, six)  m = Mul (v, b)  y = Neg (m)",
    "swish": "n = Neg (x)  e = Exp (n)  a = Add (e, one)  y = Div (x, a)",
    "swish-off": "n = Neg (x)  e = Exp (n)  a = Add (e, three)  y = Div (x, a)",
    "mish": "p = Softplus (x)  t = Tanh (p)  y = Mul (x, t)",
    "leaky": "p = Relu (x)  n = Neg (x)  q = Relu (n)  m = Mul (q, h)  y = Sub (p, m)",
    "prelu": "p = Relu (x)  n = Neg (x)  q = Relu (n)  m = Mul (q, v)  y = Sub (p, m)",
    "where": "c = Greater (x, zero)  m = Mul (x, h)  y = Where (c, x, m)",
    "where-off": "c = Greater (x, one)  m = Mul (x, h)  y = Where (c, x, m)",
    "elu": "c = Less (x, zero)  e = Exp (x)  m = Sub (e, one)  y = Where (c, m, x)",
    "softsign": "a = Abs (x)  b = Add (one, a)  y = Div (x, b)",
    "clip": "a = Min (x, six)  y = Max (a, one)",
    "clip-empty": "a = Min (x, zero)  y = Max (a, one)",
    "tanh": "t = Tanh (x)  m = Mul (t, h)  y = Add (m, h)",
}


@given(
    first=st.sampled_from(sorted(PIECES)),
    second=st.sampled_from(sorted(PIECES)),
    tap=st.booleans(),
)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_compositions_and_decoys_compute_what_they_did(first: str, second: str, tap: bool) -> None:
    names = ["a", "b", "c", "d", "e", "m", "n", "p", "q", "t"]
    one, other = PIECES[first].replace("[n] ", ""), PIECES[second].replace("[n] ", "")
    words = [f"z{w}" if w in names else {"x": "w", "y": "y"}.get(w, w) for w in _words(other)]
    body = f"{one.replace(' y = ', ' w = ')}  {''.join(words)}"
    inner = _words(one)[0]
    outputs = f"float[N,4] y, float[N,4] {inner}" if tap and inner in names[:-1] else "float[N,4] y"
    outputs = outputs.replace("float[N,4] c", "bool[N,4] c")
    graph = model(body, outputs)
    source = clone(graph)
    run_pass(RaiseActivations(), graph)
    feeds = seeded(source)
    found = run(graph, feeds)
    for name, array in run(source, feeds).items():
        # A dozen roundings on numbers around 1; differences of such lose as much again.
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=5e-6, err_msg=name)


def _words(text: str) -> list[str]:
    return re.split(r"(?<=\W)(?=\w)|(?<=\w)(?=\W)", text)


def test_work_that_stays_is_not_done_twice() -> None:
    graph = model(
        "n = Neg (x)  e = Exp (n)  a = Add (e, one)  y = Reciprocal (a)",
        "float[N,4] y, float[N,4] a",
    )
    result = run_pass(RaiseActivations(), graph)
    assert refused(result) == {"sigmoid": "Exp output also feeds a"}


def test_branches_that_disagree_at_zero_are_no_relu() -> None:
    graph = model(
        "above = Greater (x, zero)  from = GreaterOrEqual (x, zero)"
        "  below = Where (from, six, zero)  y = Where (above, x, below)"
    )
    assert not run_pass(RaiseActivations(), graph).changed


@pytest.mark.parametrize(
    "body",
    [
        "c = Greater (x, zero)  y = Where (c, x, zero)",
        "c = GreaterOrEqual (x, zero)  y = Where (c, x, zero)",
        "c = Less (x, zero)  y = Where (c, zero, x)",
        "c = LessOrEqual (x, zero)  y = Where (c, zero, x)",
        "c = Less (zero, x)  y = Where (c, x, zero)",
    ],
)
def test_relu_by_any_comparison(body: str) -> None:
    graph = model(body)
    source = clone(graph)
    assert dict(run_pass(RaiseActivations(), graph).counts) == {"relu": 1}
    feeds = {"x": np.array([[-1.0, -0.0, 0.0, 2.0]], np.float32)}
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"])


def test_a_clip_may_end_in_relu() -> None:
    graph = model("m = Min (x, six)  y = Relu (m)")
    source = clone(graph)
    assert dict(run_pass(RaiseActivations(), graph).counts) == {"clip": 1}
    feeds = seeded(source)
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"])


def test_exponential_over_one_more_than_itself() -> None:
    graph = model("e = Exp (x)  a = Add (e, one)  y = Div (e, a)")
    assert dict(run_pass(RaiseActivations(), graph).counts) == {"sigmoid": 1}


def test_numbers_in_half_precision_are_the_ones_that_they_round() -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 20]>
        g (float16[N,4] x) => (float16[N,4] y)
        <float16 r = {ROOT}, float16 one = {15360}, float16 h = {14336}> {
        d = Div (x, r)  e = Erf (d)  a = Add (e, one)  m = Mul (x, a)  y = Mul (m, h) }
    """
    root = int(np.float16(np.sqrt(2)).view(np.uint16))
    graph = typed(text.replace("ROOT", str(root)))
    assert dict(run_pass(RaiseActivations(), graph).counts) == {"gelu": 1}
    graph = typed(text.replace("ROOT", str(root + 1)))
    assert not run_pass(RaiseActivations(), graph).changed


def test_the_leaf_itself_is_no_leaky_relu() -> None:
    assert not run_pass(RaiseActivations(), model("y = Max (x, x)")).changed
