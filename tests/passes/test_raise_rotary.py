"""raise-rotary: rotary embeddings in the spellings of exporters, and why they are left.

The spellings as exported are cells of the recognition table; here are decoys and layouts.
"""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import refused, run_pass
from optc.ir import Graph, clone
from optc.ir.text import print_graph
from optc.passes import InferShapes, LowerOperators, PassContext
from optc.passes.lower_operators import LowerOperatorsOptions
from optc.passes.raise_rotary import RaiseRotary

HALF = (
    "x1 = Slice (x, zero, two, last)  x2 = Slice (x, two, four, last)  n = Neg (x2)"
    "  r = Concat <axis = -1> (n, x1)"
)
SUM = f"{HALF}  a = Mul (x, c)  b = Mul (r, s)  y = Add (a, b)"
DOUBLED = "c = Concat <axis = -1> (f, f)  s = Concat <axis = -1> (h, h)"


def model(body: str, inputs: str, output: str = "float[2,3,5,4] y", opset: int = 20) -> Graph:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g ({inputs}) => ({output})
        <int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] four = {{4}},
         int64[1] last = {{3}}, int64[4] heads = {{0, 0, 3, 4}}>
        {{ {body} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


def assert_raised(graph: Graph, count: int = 1, **options: int) -> None:
    """It is one RotaryEmbedding with these attributes, and computes the same."""
    source = clone(graph)
    assert run_pass(RaiseRotary(), graph).counts["rotary-embedding"] == count
    found = [node for node in graph.nodes() if node.is_op("RotaryEmbedding")]
    assert len(found) == count
    assert {name: value.value for name, value in found[0].attributes.items()} == options
    feeds = seeded(source)
    wanted, computed = run(source, feeds), run(graph, feeds)
    for name, array in wanted.items():
        # Two products and a sum, in another order at most.
        np.testing.assert_allclose(computed[name], array, rtol=1e-6, atol=1e-6, strict=True)


def test_halves_become_the_operator_with_single_angles() -> None:
    before = """
        <ir_version: 8, opset_import: ["" : 23]>
        g (float[2,3,5,4] x, float[2,5,2] f, float[2,5,2] h) => (float[2,3,5,4] y)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] four = {4},
         int64[1] last = {3}>
        {
            cc = Concat <axis = -1> (f, f)  ss = Concat <axis = -1> (h, h)
            [c] c = Unsqueeze (cc, one)  [s] s = Unsqueeze (ss, one)
            x1 = Slice (x, zero, two, last)  x2 = Slice (x, two, four, last)  n = Neg (x2)
            r = Concat <axis = -1> (n, x1)  a = Mul (x, c)  b = Mul (r, s)  y = Add (a, b)
        }
    """
    graph = graph_from_text(before)
    InferShapes().apply(graph, PassContext())
    run_pass(RaiseRotary(), graph)
    expected = """
        <ir_version: 8, opset_import: ["" : 23]>
        g (float[2,3,5,4] x, float[2,5,2] f, float[2,5,2] h) => (float[2,3,5,4] y)
        { y = RotaryEmbedding (x, f, h) }
    """
    assert print_graph(graph) == print_graph(graph_from_text(expected))


@pytest.mark.parametrize("opset", [12, 13, 20])
def test_a_constant_table_that_repeats(opset: int) -> None:
    table = "float[5,4] c = {1,2,1,2, 3,4,3,4, 5,6,5,6, 7,8,7,8, 9,0,9,0}"
    text = f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[1,3,5,4] x) => (float[1,3,5,4] y)
        <int64[1] zero = {{0}}, int64[1] two = {{2}}, int64[1] four = {{4}}, int64[1] last = {{-1}},
         {table}, {table.replace(" c ", " s ")}>
        {{ {SUM} }}
    """
    graph = graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    assert_raised(graph)


def test_one_table_for_a_batch_of_unknown_size_is_repeated_once() -> None:
    graph = model(
        f"""{DOUBLED}  {HALF}  a = Mul (x, c)  b = Mul (r, s)  z = Add (a, b)
        z1 = Slice (z, zero, two, last)  z2 = Slice (z, two, four, last)  zn = Neg (z2)
        zr = Concat <axis = -1> (zn, z1)  za = Mul (z, c)  zb = Mul (zr, s)  y = Add (za, zb)""",
        "float[N,3,5,4] x, float[5,2] f, float[5,2] h",
        output="float[N,3,5,4] y",
    )
    assert_raised(graph, 2)
    assert sum(node.is_op("Expand") for node in graph.nodes()) == 2


def test_heads_after_the_sequence_that_a_reshape_has_split() -> None:
    tables = "f = Unsqueeze (f3, two)  h = Unsqueeze (h3, two)"
    graph = model(
        f"x = Reshape (w, heads)  {tables}  {DOUBLED}  {SUM}",
        "float[2,5,12] w, float[2,5,2] f3, float[2,5,2] h3",
        output="float[2,5,3,4] y",
    )
    assert_raised(graph, num_heads=3)


@pytest.mark.parametrize(
    ("body", "inputs", "reason"),
    [
        (
            SUM,
            "float[2,3,5,4] x, float[5,4] c, float[5,4] s",
            "c does not hold each angle twice",
        ),
        (
            f"{DOUBLED}  {SUM}",
            "float[2,3,5,4] x, float[2,3,5,2] f, float[2,3,5,2] h",
            "c is not one row per position of x",
        ),
        (
            f"{DOUBLED}  {SUM}",
            "float[2,3,5,4] x, float[3,1,2] f, float[3,1,2] h",
            "heads of x come after the sequence, and no Reshape split them",
        ),
    ],
)
def test_what_is_left_says_why(body: str, inputs: str, reason: str) -> None:
    result = run_pass(RaiseRotary(), model(body, inputs))
    assert not result.changed
    assert refused(result) == {"rotary-embedding": reason}


@pytest.mark.parametrize(
    "body",
    [
        SUM.replace("(n, x1)", "(x1, n)"),
        SUM.replace("y = Add (a, b)", "y = Sub (a, b)"),
        SUM.replace("Neg (x2)", "Neg (x1)").replace("(n, x1)", "(n, x2)"),
        SUM.replace("Mul (x, c)", "Mul (r, c)"),
    ],
)
def test_other_sums_are_not_spoken_of(body: str) -> None:
    inputs = "float[2,3,5,4] x, float[5,2] f, float[5,2] h"
    result = run_pass(RaiseRotary(), model(f"{DOUBLED}  {body}", inputs))
    assert not result.changed
    assert not result.refusals


def test_onnxruntime_takes_tables_by_position() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[2,3,5,4] x, float[8,2] c, float[8,2] s, int64[2,5] p) => (float[2,3,5,4] y)
        { y = RotaryEmbedding (x, c, s, p) }
    """
    graph, source = graph_from_text(text), graph_from_text(text)
    options = LowerOperatorsOptions.model_validate(
        {"forms": {"RotaryEmbedding": ["microsoft"]}, "domains": ["com.microsoft"]}
    )
    run_pass(LowerOperators(options), graph)
    assert [node.qualified_op for node in graph.nodes()] == ["com.microsoft::RotaryEmbedding"]
    feeds = seeded(source)
    np.testing.assert_allclose(run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-6)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("part", [0, 2])
@pytest.mark.parametrize("joined", [False, True])
def test_primitives_compute_the_same(interleaved: int, part: int, joined: bool) -> None:
    half = part // 2 or 2
    shape, heads = ("2,5,12", "num_heads = 3,") if joined else ("2,3,5,4", "")
    if part and not joined:
        heads = "num_heads = 3,"  # onnxruntime asks for it with a part of a head
    text = f"""
        <ir_version: 10, opset_import: ["" : 23]>
        g (float[{shape}] x, float[2,5,{half}] c, float[2,5,{half}] s) => (float[{shape}] y)
        {{ y = RotaryEmbedding <{heads} interleaved = {interleaved}, rotary_embedding_dim = {part}>
               (x, c, s) }}
    """
    graph, source = graph_from_text(text), graph_from_text(text)
    InferShapes().apply(graph, PassContext())
    options = LowerOperatorsOptions.model_validate({"forms": {"RotaryEmbedding": ["primitives"]}})
    run_pass(LowerOperators(options), graph)
    assert "RotaryEmbedding" not in {node.op_type for node in graph.nodes()}
    feeds = seeded(source)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-6, atol=1e-6, strict=True
    )
