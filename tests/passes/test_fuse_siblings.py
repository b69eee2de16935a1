"""fuse-siblings: linear operations of one value become one."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes.base import PassContext
from optc.passes.fuse_siblings import FuseSiblings, FuseSiblingsOptions
from optc.passes.infer_shapes import InferShapes

ALL = FuseSiblingsOptions(max_rows=None, convolutions=True)
CASES = {
    # BertSelfAttention of transformers, both torch exporters.
    "query, key and value": (
        """g (float[2,3,4] x) => (float[2,3,4] p, float[2,3,4] q, float[2,3,2] r)
        <float[4,4] a, float[4,4] b, float[4,2] c, float[4] d, float[4] e, float[2] f>
        { s = MatMul(x, a)  p = Add(s, d)  t = MatMul(x, b)  q = Add(e, t)
          u = MatMul(x, c)  r = Add(u, f) }""",
        ["MatMul", "Add", "Split"],
        "matmul-siblings",
    ),
    # WhisperAttention of transformers: k_proj has no bias.
    "one without bias": (
        """g (float[N,4] x) => (float[N,4] p, float[N,4] q)
        <float[4,4] a, float[4,4] b, float[4] d>
        { s = MatMul(x, a)  p = Add(s, d)  q = MatMul(x, b) }""",
        ["MatMul", "Add", "Split"],
        "matmul-siblings",
    ),
    # LlamaMLP of transformers.
    "gate and up": (
        """g (float[2,4] x) => (float[2,6] y) <float[4,6] a, float[4,6] b>
        { s = MatMul(x, a)  t = MatMul(x, b)  u = Sigmoid(s)  y = Mul(u, t) }""",
        ["MatMul", "Split", "Sigmoid", "Mul"],
        "matmul-siblings",
    ),
    "a summand that is not per column stays": (
        """g (float[2,4] x) => (float[2,3] p, float[2,3] q)
        <float[4,3] a, float[4,3] b, float[2,3] d>
        { s = MatMul(x, a)  p = Add(s, d)  q = MatMul(x, b) }""",
        ["MatMul", "Split", "Add"],
        "matmul-siblings",
    ),
    "transposed weights of Gemm": (
        """g (float[2,4] x) => (float[2,3] p, float[2,5] q)
        <float[3,4] a, float[5,4] b, float[3] d, float[5] e>
        { p = Gemm <transB = 1> (x, a, d)  q = Gemm <transB = 1> (x, b, e) }""",
        ["Gemm", "Split"],
        "gemm-siblings",
    ),
    # The branches of an Inception block, torchvision.
    "convolutions": (
        """g (float[1,4,3,3] x) => (float[1,2,3,3] p, float[1,3,3,3] q)
        <float[2,4,1,1] a, float[3,4,1,1] b, float[3] e>
        { p = Conv(x, a)  q = Conv(x, b, e) }""",
        ["Conv", "Split"],
        "conv-siblings",
    ),
    "sizes as an attribute of an old opset": (
        """<ir_version: 8, opset_import: ["" : 11]>
        g (float[2,4] x) => (float[2,3] p, float[2,5] q) <float[4,3] a, float[4,5] b>
        { p = MatMul(x, a)  q = MatMul(x, b) }""",
        ["MatMul", "Split"],
        "matmul-siblings",
    ),
}


@pytest.mark.parametrize(("text", "expected", "rule"), CASES.values(), ids=CASES)
def test_fuses(text: str, expected: list[str], rule: str) -> None:
    graph = filled_graph(text)
    source = clone(graph)
    assert run_pass(FuseSiblings(ALL), graph).counts == {rule: 1}
    assert sorted(node.op_type for node in graph.nodes()) == sorted(expected)
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    wanted, found = run(source, feeds), run(graph, feeds)
    for name, array in wanted.items():
        # Four products below 8 in another order: eight roundings of at most 2^-24 of 32.
        np.testing.assert_allclose(found[name], array, atol=2e-5, rtol=0, strict=True)


def test_before_and_after() -> None:
    text = """g (float[2,1] x) => (float[2,1] p, float[2,2] q)
    <float[1,1] a = {1}, float[1,2] b = {2, 3}> { p = MatMul(x, a)  q = MatMul(x, b) }"""
    expected = """g (float[2,1] x) => (float[2,1] p, float[2,2] q)
    <float[1,3] a = {1, 2, 3}, int64[2] s = {1, 2}>
    { t = MatMul(x, a)  p, q = Split <axis = -1> (t, s) }"""
    graph = filled_graph(text)
    run_pass(FuseSiblings(), graph)
    assert print_graph(graph) == print_graph(filled_graph(expected))


def test_no_more_outputs_than_asked_for() -> None:
    weights = ", ".join(f"float[4,3] w{i}" for i in range(4))
    products = "  ".join(f"y{i} = MatMul(x, w{i})" for i in range(4))
    outputs = ", ".join(f"float[2,3] y{i}" for i in range(4))
    graph = filled_graph(f"g (float[2,4] x) => ({outputs}) <{weights}> {{ {products} }}")
    result = FuseSiblings(FuseSiblingsOptions(max_outputs=2)).apply(graph, None)  # type: ignore[arg-type] # not read
    assert result.counts == {"matmul-siblings": 2}


PAIR = "{ p = MatMul(x, a)  q = MatMul(x, b) }"
REFUSALS = {
    "many rows": (
        f"""g (float[4,5,4] x) => (float[4,5,3] p, float[4,5,3] q)
        <float[4,3] a, float[4,3] b> {PAIR}""",
        ["20 rows > 16", "20 rows > 16"],
    ),
    "rows that are not known": (
        f"g (float[N,4] x) => (float[N,3] p, float[N,3] q) <float[4,3] a, float[4,3] b> {PAIR}",
        ["the number of rows is not known"] * 2,
    ),
    "a weight that is computed": (
        f"g (float[2,4] x, float[4,3] a) => (float[2,3] p, float[2,3] q) <float[4,3] b> {PAIR}",
        ["neither x nor a is constant"],
    ),
    "a weight that is shared": (
        f"""g (float[2,4] x, float[2,4] z) => (float[2,3] p, float[2,3] q, float[2,3] r)
        <float[4,3] a, float[4,3] b> {PAIR[:-1]} [n] r = MatMul(z, a) }}""",
        ["weight is shared by n"],
    ),
    "a weight of several matrices": (
        f"""g (float[2,1,4] x) => (float[2,1,3] p, float[2,1,3] q)
        <float[2,4,3] a, float[2,4,3] b> {PAIR}""",
        ["weight of MatMul is on the left or holds several matrices"] * 2,
    ),
    "a bias that is not per column": (
        """g (float[2,4] x) => (float[2,3] p, float[2,3] q)
        <float[4,3] a, float[4,3] b, float[2,1] d> { p = Gemm(x, a, d)  q = Gemm(x, b) }""",
        ["bias d is not one value per output"],
    ),
    "a bias that is computed": (
        """g (float[2,4] x, float[3] d) => (float[2,3] p, float[2,3] q)
        <float[4,3] a, float[4,3] b> { p = Gemm(x, a, d)  q = Gemm(x, b) }""",
        ["bias d is not constant"],
    ),
}


@pytest.mark.parametrize(("text", "reasons"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reasons: list[str]) -> None:
    result = run_pass(FuseSiblings(), filled_graph(text))
    assert not result.changed
    assert [item.reason for item in result.refusals] == reasons


def test_groups_are_refused() -> None:
    text = """g (float[1,4,3,3] x) => (float[1,2,3,3] p, float[1,2,3,3] q)
    <float[2,2,1,1] a, float[2,2,1,1] b>
    { p = Conv <group = 2> (x, a)  q = Conv <group = 2> (x, b) }"""
    result = run_pass(FuseSiblings(ALL), filled_graph(text))
    assert [item.reason for item in result.refusals] == ["Conv has groups"] * 2


@pytest.mark.parametrize(
    "text",
    [
        """g (float[1,4,3,3] x) => (float[1,2,3,3] p, float[1,2,3,3] q)
        <float[2,4,1,1] a, float[2,4,1,1] b> { p = Conv(x, a)  q = Conv(x, b) }""",
        """g (float[2,4] x, float[2,4] z) => (float[2,3] p, float[2,3] q)
        <float[4,3] a, float[4,3] b> { p = MatMul(x, a)  q = MatMul(z, b) }""",
        """g (float[2,4] x) => (float[2,3] p, float[2,3] q)
        <float[4,3] a, float[4,3] b> { p = Gemm <alpha = 2.0> (x, a)  q = Gemm(x, b) }""",
    ],
    ids=["convolutions, unless asked for", "other data", "other factors"],
)
def test_no_siblings(text: str) -> None:
    result = run_pass(FuseSiblings(), filled_graph(text))
    assert not result.changed
    assert not result.refusals
