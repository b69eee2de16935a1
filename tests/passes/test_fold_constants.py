"""fold-constants: regions of constants are evaluated at once, in all types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_rewrites, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import DType, ExternalData, Graph, Tensor, TensorType, clone
from optc.passes.fold_constants import FoldConstants
from optc.rewrite.driver import Builder, replace_node, to_attr

if TYPE_CHECKING:
    from pathlib import Path


REWRITES = {
    "one operation": (
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}>"
        "{ c = Mul (a, b) y = Add (x, c) }",
        "g (float[2] x) => (float[2] y) <float[2] c = {3, 8}> { y = Add (x, c) }",
        1,
    ),
    "a region of several, with one result": (
        """
        g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}>
        { c = Mul (a, b) d = Neg (c) e = Add (d, a) y = Add (x, e) }
        """,
        "g (float[2] x) => (float[2] y) <float[2] e = {-2, -6}> { y = Add (x, e) }",
        3,
    ),
    "a result used inside and outside": (
        """
        g (float[2] x) => (float[2] y) <float[2] a = {1, 2}>
        {
           c = Neg (a)
           d = Exp (a)
           e = Sub (d, d)
           f = Add (e, c)
           g = Mul (x, c)
           y = Add (g, f)
        }
        """,
        """
        g (float[2] x) => (float[2] y) <float[2] c = {-1, -2}, float[2] f = {-1, -2}>
        {
           g = Mul (x, c)
           y = Add (g, f)
        }
        """,
        4,
    ),
    "several results of one operation": (
        """
        g (float[2] x) => (float[2] y) <float[4] a = {1, 2, 3, 4}>
        {
           b, c = Split <num_outputs = 2> (a)
           d = Mul (x, b)
           y = Add (d, c)
        }
        """,
        """
        g (float[2] x) => (float[2] y) <float[2] b = {1, 2}, float[2] c = {3, 4}>
        {
           d = Mul (x, b)
           y = Add (d, c)
        }
        """,
        1,
    ),
    "a constant that stays in use": (
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}>"
        "{ b = Neg (a) c = Mul (x, a) y = Add (c, b) }",
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {-1, -2}>"
        "{ c = Mul (x, a) y = Add (c, b) }",
        1,
    ),
    "an operation without operands left in": (
        "g (float[2,2] x) => (float[2,2] y) <float[2,2] a = {1, 2, 3, 4}, float h = {2}>"
        "{ b = Clip (a, , h) y = Add (x, b) }",
        "g (float[2,2] x) => (float[2,2] y) <float[2,2] b = {1, 2, 2, 2}> { y = Add (x, b) }",
        1,
    ),
    "inside of a branch": (
        """
        g (bool c, float[2] x) => (float[2] y)
        {
           y = If (c) <
              then_branch = t () => (float[2] p) <float[2] a = {1, 2}>
              {
                 b = Neg (a)
                 p = Mul (x, b)
              },
              else_branch = e () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
        """
        g (bool c, float[2] x) => (float[2] y)
        {
           y = If (c) <
              then_branch = t () => (float[2] p) <float[2] b = {-1, -2}> { p = Mul (x, b) },
              else_branch = e () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
        1,
    ),
    "shapes and scalars": (
        """
        g (float[4] x) => (float[2,2] y) <float[2,2] a = {1, 2, 3, 4}>
        {
           s = Shape (a)
           y = Reshape (x, s)
        }
        """,
        "g (float[4] x) => (float[2,2] y) <int64[2] s = {2, 2}> { y = Reshape (x, s) }",
        1,
    ),
    "generated data within the limit": (
        """
        g (float[3] x) => (float[3] y) <int64[1] n = {3}>
        {
           a = ConstantOfShape <value = float[1] {2}> (n)
           y = Mul (x, a)
        }
        """,
        "g (float[3] x) => (float[3] y) <float[3] a = {2, 2, 2}> { y = Mul (x, a) }",
        1,
    ),
    "generated floats within the limit": (
        """
        g (float[4] x) => (float[4] y) <float s = {0}, float l = {2}, float d = {0.5}>
        {
           a = Range (s, l, d)
           y = Mul (x, a)
        }
        """,
        "g (float[4] x) => (float[4] y) <float[4] a = {0, 0.5, 1, 1.5}> { y = Mul (x, a) }",
        1,
    ),
    "a copy of a constant": (
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}>"
        "{ b = Identity (a) c = Mul (x, b) y = Add (c, a) }",
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { c = Mul (x, a) y = Add (c, a) }",
        1,
    ),
    "up to quantization": (
        """
        g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}, float s = {0.5}>
        {
           c = Mul (a, b)
           q = QuantizeLinear (c, s)
           d = DequantizeLinear (q, s)
           y = Add (x, d)
        }
        """,
        """
        g (float[2] x) => (float[2] y) <float[2] c = {3, 8}, float s = {0.5}>
        {
           q = QuantizeLinear (c, s)
           d = DequantizeLinear (q, s)
           y = Add (x, d)
        }
        """,
        1,
    ),
}


@pytest.mark.parametrize(("before", "expected", "count"), REWRITES.values(), ids=REWRITES)
def test_folds(before: str, expected: str, count: int, sessions: list[int]) -> None:
    assert_rewrites(FoldConstants(), before, expected, counts={"fold-constant": count})
    assert len(sessions) <= 1


KEPT = {
    "graph inputs, also with a default": (
        "g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { v = Neg (w) y = Add (x, v) }",
        (),
    ),
    "a graph output": (
        "g (float[2] x) => (float[2] y, float[2] z) <float[2] a = {1, 2}>"
        "{ [n] z = Neg (a) y = Add (x, z) }",
        ("n: its result is the graph output z",),
    ),
    "a captured value": (
        """
        g (bool c, float[2] x) => (float[2] y) <float[2] a = {1, 2}>
        {
           [n] b = Neg (a)
           [i] y = If (c) <
              then_branch = t () => (float[2] p) { p = Mul (x, b) },
              else_branch = e () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
        ("n: its result is captured by a subgraph of i",),
    ),
    "what a subgraph captures is not constant there": (
        """
        g (bool c, float[2] x) => (float[2] y) <float[2] a = {1, 2}>
        {
           y = If (c) <
              then_branch = t () => (float[2] p) { b = Neg (a) p = Mul (x, b) },
              else_branch = e () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
        (),
    ),
    "random operations": (
        "g (float[2] x) => (float[2] y) { [r] a = RandomNormal <shape = [2]> () y = Add (x, a) }",
        ("r: RandomNormal may give another result on each run",),
    ),
    "quantization": (
        "g (float[2] x) => (float[2] y) <uint8[2] q = {1, 2}, float s = {0.5}>"
        "{ [d] w = DequantizeLinear (q, s) y = Add (x, w) }",
        ("d: DequantizeLinear carries quantization, which is kept",),
    ),
    "control flow": (
        """
        g (float[2] x) => (float[2] y) <bool c = {1}>
        {
           [i] a = If (c) <
              then_branch = t () => (float[2] p) { p = Constant <value = float[2] {1, 2}> () },
              else_branch = e () => (float[2] q) { q = Constant <value = float[2] {3, 4}> () }
           >
           y = Add (x, a)
        }
        """,
        ("i: If is control flow",),
    ),
    "custom operators": (
        '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { [f] b = my.Op (a) y = Add (x, b) }",
        ("f: my::Op is no operator of ONNX's own domain",),
    ),
    "calls of functions": (
        '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { [f] b = my.Op (a) y = Add (x, b) }"
        '<domain: "my", opset_import: ["" : 17]> Op (u) => (v) { v = Neg (u) }',
        ("f: my::Op is no operator of ONNX's own domain",),
    ),
    "sequences": (
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, int64 z = {0}>"
        "{ [s] b = SequenceConstruct (a) c = SequenceAt (b, z) y = Add (x, c) }",
        ("s: its result b is not a tensor",),
    ),
}


@pytest.mark.parametrize(("text", "reasons"), KEPT.values(), ids=KEPT)
def test_keeps(text: str, reasons: tuple[str, ...], sessions: list[int]) -> None:
    assert_refuses(FoldConstants(), text, *reasons)
    assert sessions == []


# ---- types, memory, provenance -----------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype",
    [DType.F32, DType.F64, DType.F16, DType.BF16, DType.I64, DType.I32, DType.U8, DType.I8],
    ids=lambda dtype: dtype.value,
)
def test_element_types(dtype: DType) -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", TensorType(dtype, (2, 3)))
    tensor = Tensor.from_numpy(np.arange(6).reshape(3, 2), dtype)
    a = graph.add_constant(tensor, "a")
    b = graph.add("Transpose", [a], outputs=["b"]).output
    graph.add_output(
        graph.add("Concat", [x, b], outputs=["y"], attributes={"axis": to_attr(0)}).output, "y"
    )
    run_pass(FoldConstants(), graph)
    (constant,) = graph.constants()
    assert constant.constant is not None
    assert constant.constant.same_as(Tensor.from_numpy(np.arange(6).reshape(3, 2).T, dtype))


def test_strings_bools_and_empty_tensors() -> None:
    graph = graph_from_text(
        """
        g (string[2] x, bool[2] c, float[0] e) => (string[4] y, bool[4] d, float[0] f)
        <string[1,2] s = {"a", "b"}, bool[2] t = {1, 0}, int64[1] k = {-1}>
        {
           u = Reshape (s, k)
           y = Concat <axis = 0> (x, u)
           v = Not (t)
           d = Concat <axis = 0> (c, v)
           f = Neg (e)
        }
        """
    )
    assert run_pass(FoldConstants(), graph).counts == {"fold-constant": 2}
    found = {value.name: value.constant for value in graph.constants()}
    assert {name: tensor and tensor.numpy().tolist() for name, tensor in found.items()} == {
        "u": [b"a", b"b"],
        "v": [False, True],
    }


def test_large_weights_are_not_copied_into_the_model(tmp_path: Path, sessions: list[int]) -> None:
    weight = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    path = tmp_path / "weights"
    path.write_bytes(weight.tobytes())
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", TensorType(DType.F32, (1, 64)))
    tensor = Tensor.external(DType.F32, weight.shape, ExternalData(path, 0, weight.nbytes))
    w = graph.add_constant(tensor, "w")
    t = graph.add("Transpose", [w], outputs=["t"]).output
    graph.add_output(graph.add("Add", [x, t], outputs=["y"]).output, "y")
    source = clone(graph)
    assert run_pass(FoldConstants(), graph).counts == {"fold-constant": 1}
    assert len(sessions) == 1
    assert sessions[0] < 1000
    assert_same_numbers(source, graph)


def test_large_regions_are_evaluated_in_parts(
    monkeypatch: pytest.MonkeyPatch, sessions: list[int]
) -> None:
    # Each transpose reads and writes 32 bytes; three parts of at most two of the five.
    monkeypatch.setattr("optc.passes.fold_constants._PART_BYTES", 130)
    lines = " ".join(f"t{i} = Transpose (w{i}) y{i} = Add (x, t{i})" for i in range(5))
    weights = ", ".join(f"float[2,4] w{i} = {{{', '.join([str(i)] * 8)}}}" for i in range(5))
    outputs = ", ".join(f"float[4,2] y{i}" for i in range(5))
    graph = graph_from_text(f"g (float[4,2] x) => ({outputs}) <{weights}> {{ {lines} }}")
    source = clone(graph)
    assert run_pass(FoldConstants(), graph).counts == {"fold-constant": 5}
    assert len(sessions) == 3
    assert_same_numbers(source, graph)


def test_long_regions_are_evaluated_in_parts_too(
    monkeypatch: pytest.MonkeyPatch, sessions: list[int]
) -> None:
    monkeypatch.setattr("optc.passes.fold_constants._PART_NODES", 4)
    chain = " ".join(f"c{i + 1} = Neg (c{i})" for i in range(10))
    graph = graph_from_text(
        f"g (float[2] x) => (float[2] y) <float[2] c0 = {{1, 2}}> {{ {chain} y = Add (x, c10) }}"
    )
    assert run_pass(FoldConstants(), graph).counts == {"fold-constant": 10}
    assert len(sessions) == 3
    assert [value.name for value in graph.constants()] == ["c10"]


def test_what_depends_on_a_failure_in_an_earlier_part_stays(
    monkeypatch: pytest.MonkeyPatch, sessions: list[int]
) -> None:
    monkeypatch.setattr("optc.passes.fold_constants._PART_NODES", 2)
    graph = graph_from_text(
        "g (float[N] x, float[2] z) => (float[N] y, float[2] w)"
        "<float[2] a = {1, 2}, int64[1] i = {7}>"
        "{ b = Neg (a) [bad] c = Gather (b, i) d = Neg (c) e = Neg (d) y = Add (x, e)"
        "  f = Neg (b) h = Exp (f) w = Add (z, h) }"
    )
    result = run_pass(FoldConstants(), graph)
    assert [item.node for item in result.refusals] == ["bad"]
    assert [node.op_type for node in graph.ordered()] == ["Gather", "Neg", "Neg", "Add", "Add"]


def test_provenance_names_all_that_went_into_a_constant() -> None:
    graph = graph_from_text(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}>"
        "{ [n] b = Neg (a) [m] c = Exp (b) [k] d = Add (c, b) y = Add (x, d) }"
    )
    run_pass(FoldConstants(), graph)
    (constant,) = graph.constants()
    assert constant.name == "d"
    assert constant.node.origin is not None
    assert constant.node.origin.passes() == ("fold-constants",)
    assert sorted(constant.node.origin.sources()) == ["k", "m", "n"]


def test_nodes_without_or_with_equal_names_are_told_apart() -> None:
    graph = graph_from_text(
        "g (float[2] x, float[N] z) => (float[2] y, float[N] w)"
        "<float[2] a = {1, 2}, int64[1] i = {7}, int64[2] j = {0, 1}>"
        "{ [n] b = Gather (a, j) [n] c = Gather (a, i) y = Add (x, b) w = Add (z, c) }"
    )
    result = run_pass(FoldConstants(), graph)
    assert result.counts == {"fold-constant": 1}
    assert [node.op_type for node in graph.ordered()] == ["Gather", "Add", "Add"]


def test_many_operations_on_shared_constants_take_one_session(sessions: list[int]) -> None:
    lines = " ".join(f"c{i} = Add (a, b{i % 3}) y{i} = Mul (x, c{i})" for i in range(300))
    outputs = ", ".join(f"float[2] y{i}" for i in range(300))
    shared = ", ".join(f"float[2] b{i} = {{{i}, 1}}" for i in range(3))
    graph = graph_from_text(
        f"g (float[2] x) => ({outputs}) <float[2] a = {{1, 2}}, {shared}> {{ {lines} }}"
    )
    assert run_pass(FoldConstants(), graph).counts == {"fold-constant": 300}
    assert len(sessions) == 1


def test_canonical_operations_are_evaluated_as_well() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[3] x) => (float[3] y) <float[3] c = {-2, -1, 1}, float[1] one = {1}>
        { s = Add (c, one)  m = Neg (s)  y = Add (x, m) }
        """
    )
    negated = graph.value("m").node
    build = Builder(graph, "a-pass", (negated,))
    replace_node(graph, negated, [build.Gelu(graph.value("s"))], build.made)
    result = run_pass(FoldConstants(), graph)
    assert result.changed
    (folded,) = (value.constant for value in graph.constants())
    assert folded is not None
    # x (1 + erf(x / sqrt 2)) / 2
    np.testing.assert_allclose(folded.numpy(), [-0.15865526, 0, 1.9544997], rtol=1e-6)
