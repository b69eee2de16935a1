"""raise-matmul: Einsum of every kind, and a Gemm between reshapes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.filled import filled_graph
from helpers.pass_checks import assert_keeps, run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes
from optc.passes.raise_matmul import RaiseMatmul

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6, "h": 2, "i": 2, "j": 3, "k": 4, "n": 4, "q": 3}
EQUATIONS = {
    "ij,jk->ik": ("MatMul",),
    "ij,jk": ("MatMul",),
    "i j, j k -> i k": ("MatMul",),
    "ij,kj->ik": ("Transpose", "MatMul"),
    "ij,jk->ki": ("Transpose", "Transpose", "MatMul"),
    "abc,cd->abd": ("MatMul",),
    "abc,cde->abde": ("Reshape", "MatMul", "Reshape"),  # EinsumDense of Keras's attention
    "abde,dec->abc": ("Reshape", "Reshape", "MatMul"),
    "bhqd,bhkd->bhqk": ("Transpose", "MatMul"),
    "bqhd,bkhd->bhqk": ("Transpose", "Transpose", "MatMul"),
    "bhqk,bkhd->bqhd": ("Transpose", "MatMul", "Transpose"),
    "aecd,abcd->acbe": ("Transpose", "Transpose", "MatMul"),
    "bhqc,hkc->bhqk": ("Transpose", "Reshape", "Transpose", "MatMul", "Reshape", "Transpose"),
    "bij,bj->bi": ("Unsqueeze", "MatMul", "Squeeze"),
    "ij,ij->i": ("Unsqueeze", "Unsqueeze", "MatMul", "Squeeze"),
    "i,i->": ("MatMul",),
    "i,ij->j": ("MatMul",),
    "ij,j->i": ("MatMul",),
    "ab,ab": ("Reshape", "Reshape", "MatMul"),
    "i,j->ij": ("Unsqueeze", "Unsqueeze", "Mul"),
    "ij,ij->ij": ("Mul",),
    "ij,kn->iknj": ("Unsqueeze", "Unsqueeze", "Mul"),
    "a,abc->abc": ("Unsqueeze", "Mul"),
    "...ij,...jk->...ik": ("MatMul",),
    "...i,ij->...j": ("MatMul",),
    "ab->ba": ("Transpose",),
    "abc->ca": ("ReduceSum", "Transpose"),
    "ab->": ("ReduceSum",),
    "ab->ab": ("Identity",),
}


def einsum(equation: str, opset: int = 21, named: bool = False) -> str:
    terms = equation.replace(" ", "").partition("->")[0].replace("...", "ac").split(",")
    shapes = [",".join(t.upper() if named else str(SIZES[t]) for t in term) for term in terms]
    inputs = ", ".join(f"float[{shape}] x{i}" for i, shape in enumerate(shapes))
    operands = ", ".join(f"x{i}" for i in range(len(terms)))
    return f"""<ir_version: 8, opset_import: ["" : {opset}]>
    g ({inputs}) => (y) {{ y = Einsum <equation = "{equation}"> ({operands}) }}"""


@pytest.mark.parametrize("opset", [12, 21])
@pytest.mark.parametrize(("equation", "expected"), EQUATIONS.items(), ids=EQUATIONS)
def test_raises(equation: str, expected: tuple[str, ...], opset: int) -> None:
    graph = graph_from_text(einsum(equation, opset))
    InferShapes().apply(graph, PassContext())
    source = clone(graph)
    assert run_pass(RaiseMatmul(), graph).changed
    assert sorted(node.op_type for node in graph.nodes()) == sorted(expected)
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    # Sums of at most 30 products near 1: each of 60 roundings is 2^-24 of at most 100.
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("equation", ["bhqd,bhkd->bhqk", "ij,kj->ik", "i,j->ij", "bij,bj->bi"])
def test_sizes_may_be_unknown(equation: str) -> None:
    graph = graph_from_text(einsum(equation, named=True))
    assert run_pass(RaiseMatmul(), graph).changed
    assert "Einsum" not in {node.op_type for node in graph.nodes()}


REFUSALS = {
    "three operands": (
        "g (float[2,3] a, float[3,4] b, float[4,5] c) => (y) "
        '{ y = Einsum <equation = "ij,jk,kl->il"> (a, b, c) }',
        "3 operands",
    ),
    "a diagonal": (
        'g (float[3,3] a) => (y) { y = Einsum <equation = "ii->i"> (a) }',
        "ii takes a diagonal",
    ),
    "a sum in one operand": (
        'g (float[2,3] a, float[3,4] b) => (y) { y = Einsum <equation = "ij,jk->j"> (a, b) }',
        "i is summed over in one operand only",
    ),
    "sizes that may differ": (
        'g (float[2,N] a, float[M,4] b) => (y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }',
        "the sizes of j are not known to be equal",
    ),
    "a summed size of one": (
        'g (float[2,1] a, float[3,4] b) => (y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }',
        "the sizes of j are not known to be equal",
    ),
    "merged sizes that are not known": (
        'g (float[2,N] a, float[N,4,3] b) => (y) { y = Einsum <equation = "ij,jkl->ikl"> (a, b) }',
        "the size of j is not known to be a positive number, for a Reshape",
    ),
    "a rank that is not known": (
        'g (float[2,3] a, b) => (y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }',
        "the rank of an operand is not known",
    ),
    "a type that MatMul does not have": (
        'g (int8[2,3] a, int8[3,4] b) => (y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }',
        "MatMul has no i8",
    ),
    "an equation of other ranks": (
        'g (float[2,3] a, float[3] b) => (y) { y = Einsum <equation = "ij,jk->ik"> (a, b) }',
        "the equation ij,jk->ik does not fit the ranks of its operands",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(RaiseMatmul(), text)
    assert [f"{item.rule}: {item.reason}" for item in result.refusals] == [f"matmul: {reason}"]


# ---- a Gemm between reshapes: addmm of flattened rows, as Conv1D of GPT-2 in both torch exporters


def flattened(gemm: str = "Gemm(f, w, b)", extra: str = "", out: str = "float[2,3,5] y") -> str:
    return f"""g (float[2,3,4] x) => ({out})
    <float[4,5] w, float[5] b, float[6,5] m, int64[2] r = {{-1, 4}}, int64[3] s = {{2, 3, 5}}>
    {{ f = Reshape(x, r)  [g] o = {gemm}  [s] y = Reshape(o, s)  {extra} }}"""


def test_flattened_rows_are_left_as_they_are() -> None:
    graph = filled_graph(flattened())
    source = clone(graph)
    result = run_pass(RaiseMatmul(), graph)
    assert dict(result.counts) == {"flattened-gemm": 1}
    rows = [line for line in print_graph(graph).splitlines() if "= MatMul" in line or "Add" in line]
    assert len(rows) == len(tuple(graph.nodes())) == 2
    feeds = seeded(source)
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"])


def test_a_transposed_weight_without_bias() -> None:
    graph = filled_graph(flattened("Gemm <transB = 1> (f, w)").replace("[4,5] w", "[5,4] w"))
    source = clone(graph)
    assert run_pass(RaiseMatmul(), graph).changed
    assert sorted(node.op_type for node in graph.nodes()) == ["MatMul", "Transpose"]
    feeds = seeded(source)
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"])


FLATTENED = {
    "factors": (flattened("Gemm <alpha = 2.0> (f, w, b)"), "alpha or beta is not 1"),
    "a bias per row": (flattened("Gemm(f, w, m)"), "the bias m is not one value per column"),
    "a product that is used elsewhere": (
        flattened(extra="[n] z = Neg(o)", out="float[2,3,5] y, float[6,5] z"),
        "Gemm output also feeds n",
    ),
    "rows that are used elsewhere": (
        flattened(extra="[n] z = Neg(f)", out="float[2,3,5] y, float[6,4] z"),
        "Reshape output also feeds n",
    ),
    "other rows": (
        flattened(out="float[3,2,5] y").replace("{2, 3, 5}", "{3, 2, 5}"),
        "s does not split the rows as f merged them",
    ),
    "other columns": (
        flattened(out="float[2,5,3] y").replace("{2, 3, 5}", "{2, 5, 3}"),
        "s does not split the rows as f merged them",
    ),
    "columns that a Reshape changes": (
        flattened(out="float[2,15,1] y")
        .replace("{2, 3, 5}", "{2, 15, 1}")
        .replace("float[2,3,4] x", "float[2,15,1] x")
        .replace("{-1, 4}", "{-1, 5}")
        .replace("[4,5] w", "[5,5] w"),
        "a Reshape changes the columns",
    ),
    "transposed rows": (
        flattened("Gemm <transA = 1> (f, w, b)").replace("{-1, 4}", "{4, 6}"),
        "the rows are transposed",
    ),
}


@pytest.mark.parametrize(("text", "reason"), FLATTENED.values(), ids=FLATTENED)
def test_refuses_flattened(text: str, reason: str) -> None:
    result = run_pass(RaiseMatmul(), filled_graph(text))
    assert not result.changed
    assert [f"{item.rule}: {item.reason}" for item in result.refusals] == [
        f"flattened-gemm: {reason}"
    ]
