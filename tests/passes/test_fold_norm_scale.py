"""fold-norm-scale: maps into normalizations, factors of scores into projections."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes.base import PassContext
from optc.passes.fold_norm_scale import FoldNormScale
from optc.passes.infer_shapes import InferShapes

ROWS = "g (float[2,3,4] x) => (float[2,3,4] y)"
IMAGE = "g (float[1,4,2,2] x) => (float[1,4,2,2] y)"
NORMS = {
    "a scale and a shift": (
        f"""{ROWS} <float[4] g, float[4] b, float[4] s, float t = {{2}}>
        {{ a = LayerNormalization(x, g, b)  c = Mul(a, s)  y = Add(c, t) }}""",
        "LayerNormalization",
    ),
    "a quotient on two axes": (
        f"""{ROWS} <float[3,4] g, float[3,4] b, float[3,1] s>
        {{ a = LayerNormalization <axis = 1> (x, g, b)  y = Div(a, s) }}""",
        "LayerNormalization",
    ),
    "a shift where there is no bias": (
        f"""{ROWS} <float[4] g, float[4] t>
        {{ a = LayerNormalization(x, g)  y = Add(a, t) }}""",
        "LayerNormalization",
    ),
    "an RMSNormalization of a lower opset": (
        f"""<ir_version: 10, opset_import: ["" : 23]> {ROWS} <float[4] g, float[4] s>
        {{ a = RMSNormalization(x, g)  y = Mul(s, a) }}""",
        "RMSNormalization",
    ),
    "an InstanceNormalization": (
        f"""{IMAGE} <float[4] g, float[4] b, float[4,1,1] s, float[1,4,1,1] t>
        {{ a = InstanceNormalization(x, g, b)  c = Mul(a, s)  y = Sub(c, t) }}""",
        "InstanceNormalization",
    ),
    "a GroupNormalization": (
        f"""{IMAGE} <float[4] g, float[4] b, float[4,1,1] s>
        {{ a = GroupNormalization <num_groups = 2> (x, g, b)  y = Mul(a, s) }}""",
        "GroupNormalization",
    ),
}


@pytest.mark.parametrize(("text", "op_type"), NORMS.values(), ids=NORMS)
def test_folds_into_a_normalization(text: str, op_type: str) -> None:
    graph = filled_graph(text)
    source = clone(graph)
    assert run_pass(FoldNormScale(), graph).counts == {"norm-affine": 1}
    assert [node.op_type for node in graph.nodes()] == [op_type]
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    # Normalized values are below 4, parameters below 5: 8 roundings of at most 2^-24 of 80.
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], atol=1e-4, rtol=0)


HEADS = """g (float[1,3,4] x) => (float[1,2,3,3] y)
    <float[4,4] w, float[4] b, float[4,4] v, int64[4] h = {1, 3, 2, 2}, float s = {0.5}>
    { p = MatMul(x, w)  q = Add(p, b)  r = Reshape(q, h)
      t = Transpose <perm = [0, 2, 1, 3]> (r)
      k = MatMul(x, v)  l = Reshape(k, h)  m = Transpose <perm = [0, 2, 3, 1]> (l)
      c = MatMul(t, m)  """


@pytest.mark.parametrize("end", ["y = Mul(c, s) }", "d = Div(c, s)  y = Div(d, s) }"])
def test_folds_the_scale_of_scores_into_the_projection(end: str) -> None:
    graph = filled_graph(HEADS + end)
    source = clone(graph)
    assert run_pass(FoldNormScale(), graph).counts == {"attention-scale": 1}
    assert not {"Mul", "Div"} & {node.op_type for node in graph.nodes()}
    feeds = seeded(source)
    # Powers of two: no rounding differs.
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"])


def test_takes_the_keys_where_the_query_is_an_input() -> None:
    text = """g (float[3,4] q, float[3,4] x) => (float[3,3] y) <float[4,4] v, float s = {0.5}>
    { k = MatMul(x, v)  t = Transpose(k)  c = MatMul(q, t)  y = Mul(c, s) }"""
    graph = filled_graph(text)
    assert run_pass(FoldNormScale(), graph).counts == {"attention-scale": 1}
    assert "Mul(" not in print_graph(graph).replace("MatMul(", "")


REFUSALS = {
    "a normalization that is used elsewhere": (
        """g (float[2,4] x) => (float[2,4] y, float[2,4] z) <float[4] g, float s = {2}>
        { a = LayerNormalization(x, g)  y = Mul(a, s)  [n] z = Neg(a) }""",
        "norm-affine: a also feeds n",
    ),
    "a scale that is not constant": (
        """g (float[2,4] x, float[4] g) => (float[2,4] y) <float s = {2}>
        { a = LayerNormalization(x, g)  y = Mul(a, s) }""",
        "norm-affine: a parameter of LayerNormalization a is not constant",
    ),
    "another axis": (
        f"""{ROWS} <float[4] g, float[3,1] s>
        {{ a = LayerNormalization(x, g)  y = Mul(a, s) }}""",
        "norm-affine: the map is over axis 1, the parameters of a are not",
    ),
    "a shift of an RMSNormalization": (
        f"""<ir_version: 10, opset_import: ["" : 23]> {ROWS} <float[4] g, float t = {{2}}>
        {{ a = RMSNormalization(x, g)  y = Add(a, t) }}""",
        "norm-affine: RMSNormalization a has no bias that could take a shift",
    ),
    "mean and deviation as results": (
        """g (float[2,4] x) => (float[2,4] y, float[2,1] m) <float[4] g, float s = {2}>
        { a, m = LayerNormalization(x, g)  y = Mul(a, s) }""",
        "norm-affine: LayerNormalization a has more outputs",
    ),
    "scores of inputs": (
        """g (float[3,4] q, float[4,3] k) => (float[3,3] y) <float s = {2}>
        { a = MatMul(q, k)  y = Mul(a, s) }""",
        "attention-scale: q is a graph input or captured; k is a graph input or captured",
    ),
    "a mask": (
        """g (float[3,4] q, float[4,3] k) => (float[3,3] y) <float s = {2}>
        { a = MatMul(q, k)  b = Mul(a, s)  y = Add(b, s) }""",
        "attention-scale: only one factor crosses MatMul a",
    ),
    "a factor per column": (
        """g (float[3,4] q, float[4,3] k) => (float[3,3] y) <float[3] s>
        { a = MatMul(q, k)  y = Mul(a, s) }""",
        "attention-scale: only one factor crosses MatMul a",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = run_pass(FoldNormScale(), filled_graph(text))
    assert not result.changed
    assert [f"{item.rule}: {item.reason}" for item in result.refusals] == [reason]


def test_others_are_no_matches() -> None:
    text = f"""{ROWS} <float s = {{2}}, float[4,4] w>
    {{ a = Relu(x)  b = Mul(a, s)  c = MatMul(b, w)  y = Mul(c, s) }}"""
    assert not run_pass(FoldNormScale(), filled_graph(text)).refusals
