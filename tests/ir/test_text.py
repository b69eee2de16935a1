"""The canonical text: what it looks like, and that nothing but the graph decides it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import graph_from_text
from optc.ir import (
    Attr,
    AttrKind,
    DType,
    Graph,
    SparseTensor,
    Tensor,
    TensorType,
    clone,
)
from optc.ir.text import print_graph

F32 = TensorType(DType.F32, (2,))


def shown(text: str) -> str:
    return print_graph(graph_from_text(text))


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def test_a_small_model_in_full() -> None:
    text = """
        <ir_version: 9, opset_import: ["com.microsoft" : 1, "" : 17]>
        classifier (float[N,3,32,32] x, bool c) => (float[N,4,32,32] y)
        <float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[1] half = {0.5}> {
          a = Conv <strides = [1, 1], pads = [0, 0, 0, 0]> (x, w)
          b = Mul (a, half)
          d = com.microsoft.Gelu (b)
          y = If (c) <
            then_branch = t () => (float[N,4,32,32] r) { r = Relu (d) },
            else_branch = e () => (float[N,4,32,32] q) { s = Sigmoid (d) q = Mul (s, half) }>
        }
    """
    assert shown(text) == (
        "opsets ai.onnx 17, com.microsoft 1\n"
        "\n"
        "graph classifier {\n"
        "  input %x : f32[N,3,32,32]\n"
        "  input %c : bool[]\n"
        "  %0 = const f32[4,3,1,1] sha256:cb1a0362\n"
        "  %1 = Conv(%x, %0, pads=[0, 0, 0, 0], strides=[1, 1])\n"
        "  %2 = const f32[1] {0.5}\n"
        "  %3 = Mul(%1, %2)\n"
        "  %4 = com.microsoft::Gelu(%3)\n"
        "  %5 = If(%c) captures(%2, %4) : f32[N,4,32,32] {\n"
        "    else_branch {\n"
        "      %6 = Sigmoid(%4)\n"
        "      %7 = Mul(%6, %2) : f32[N,4,32,32]\n"
        "      yield %7 : f32[N,4,32,32]\n"
        "    }\n"
        "    then_branch {\n"
        "      %8 = Relu(%4) : f32[N,4,32,32]\n"
        "      yield %8 : f32[N,4,32,32]\n"
        "    }\n"
        "  }\n"
        "  output y = %5 : f32[N,4,32,32]\n"
        "}\n"
    )


def test_functions_follow_the_graph_with_parameters_and_opsets() -> None:
    text = """
        <ir_version: 10, opset_import: ["" : 21, "my.ops" : 1]>
        g (float[2] x) => (float[2] y) { y = my.ops.scaled <gamma = 2.0> (x) }
        <domain: "my.ops", opset_import: ["" : 20]>
        scaled <gamma, alpha: float = 0.1> (a) => (r) {
          b = LeakyRelu <alpha: float = @alpha> (a)
          r = Elu <alpha: float = @gamma> (b)
        }
    """
    assert shown(text) == (
        "opsets ai.onnx 21, my.ops 1\n"
        "\n"
        "graph g {\n"
        "  input %x : f32[2]\n"
        "  %0 = my.ops::scaled(%x, gamma=2.0) : f32[2]\n"
        "  output y = %0 : f32[2]\n"
        "}\n"
        "\n"
        "function my.ops::scaled {\n"
        "  opsets ai.onnx 20\n"
        "  attribute gamma\n"
        "  attribute alpha = 0.1\n"
        "  input %a\n"
        "  %0 = LeakyRelu(%a, alpha=@alpha)\n"
        "  %1 = Elu(%0, alpha=@gamma)\n"
        "  output r = %1\n"
        "}\n"
    )


def test_loop_bodies_show_their_formals() -> None:
    text = """
        g (int64 n, bool c, float[2] x) => (float[2] y) {
          y = Loop (n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] t) {
            k2 = Identity (k)
            t = Add (s, x)
          }>
        }
    """
    assert lines(shown(text))[6:11] == [
        "%0 = Loop(%n, %c, %x) captures(%x) : f32[2] {",
        "body(%1 : i64[], %2 : bool[], %3 : f32[2]) {",
        "%4 = Identity(%2) : bool[]",
        "%5 = Add(%3, %x) : f32[2]",
        "yield %4, %5 : bool[], f32[2]",
    ]


def test_captures_of_captures_keep_the_name_of_the_outermost_value() -> None:
    text = """
        g (bool c, float[2] x) => (float[2] y) {
          y = If (c) <
            then_branch = t () => (float[2] r) {
              r = If (c) <
                then_branch = a () => (float[2] p) { p = Relu (x) },
                else_branch = b () => (float[2] q) { q = Abs (x) }>
            },
            else_branch = e () => (float[2] s) { s = Neg (x) }>
        }
    """
    found = [line for line in lines(shown(text)) if "captures" in line or "Relu" in line]
    assert found == [
        "%0 = If(%c) captures(%c, %x) : f32[2] {",
        "%2 = If(%c) captures(%x) : f32[2] {",
        "%4 = Relu(%x) : f32[2]",
    ]


def test_omitted_operands_and_results_and_unknown_types() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", None)
    node = graph.add(
        "LSTM", [x, x, x, None, None, x], outputs=["a", None, "b"], types=[None, None, F32]
    )
    graph.add_output(node.output, "out")
    assert lines(print_graph(graph))[3:6] == [
        "input %x",
        "%0, _, %1 = LSTM(%x, %x, %x, _, _, %x) : ?, ?, f32[2]",
        "output out = %0",
    ]


def test_inputs_with_defaults_sparse_and_unused_constants() -> None:
    graph = Graph("", {})
    graph.add_input("k", TensorType(DType.I64, ()), Tensor.from_numpy(np.int64(3)))
    graph.add_constant(Tensor.from_numpy([2.0], DType.F32), "unused_b")
    sparse = SparseTensor(Tensor.from_numpy([1.0], DType.F32), Tensor.from_numpy([4]), (9,))
    graph.add_constant(sparse, "unused_a")
    graph.add_input("s", TensorType(DType.F32, (9,))).node.sparse = sparse
    assert lines(print_graph(graph)) == [
        "opsets none",
        "",
        "graph {",
        "input %k : i64[] = i64[] {3}",
        "input %s : f32[9] = sparse(f32[9]) values f32[1] {1.0} indices i64[1] {4}",
        "%0 = const sparse(f32[9]) values f32[1] {1.0} indices i64[1] {4}",
        "%1 = const f32[1] {2.0}",
        "}",
    ]


def test_odd_names_are_quoted() -> None:
    graph = Graph("my graph", {"": 21})
    x = graph.add_input("0", F32)
    node = graph.add("Odd Op", [x], outputs=["y"], domain="a b")
    graph.add_output(node.output, "out put")
    assert lines(print_graph(graph))[2:6] == [
        'graph "my graph" {',
        'input %"0" : f32[2]',
        '%0 = "a b::Odd Op"(%"0")',
        'output "out put" = %0',
    ]


def test_overloads_are_shown() -> None:
    graph = Graph("g", {"d": 1})
    node = graph.add("f", [], outputs=["y"], domain="d")
    node.overload = "fast"
    assert "%0 = d::f:fast()" in print_graph(graph)


def test_several_subgraphs_in_one_attribute_are_numbered() -> None:
    graph = Graph("g", {"d": 1})
    bodies = tuple(Graph(name, parent=graph) for name in "ab")
    for body in bodies:
        body.add_output(body.add_constant(Tensor.from_numpy([1.0]), f"c_{body.name}"), "r")
    attributes = {"cases": Attr(AttrKind.GRAPHS, bodies)}
    graph.add("Switch", [], outputs=["y"], domain="d", attributes=attributes)
    assert lines(print_graph(graph))[3:9] == [
        "%0 = d::Switch() {",
        "cases[0] {",
        "%1 = const f64[1] {1.0}",
        "yield %1",
        "}",
        "cases[1] {",
    ]


def test_without_weights_only_digests_are_left_out() -> None:
    graph = Graph("g", {"": 21})
    graph.add_constant(Tensor.from_numpy(np.arange(9.0)), "big")
    graph.add_constant(Tensor.from_numpy([1, 2]), "small")
    assert lines(print_graph(graph, weights=False))[3:5] == [
        "%0 = const f64[9]",
        "%1 = const i64[2] {1, 2}",
    ]


def test_named_text_shows_names_of_values() -> None:
    graph = graph_from_text(
        """g (bool c, float[2] x) => (float[2] y) {
             a = Relu (x)
             y = If (c) <then_branch = t () => (float[2] p) { p = Abs (a) },
                         else_branch = e () => (float[2] q) { q = Neg (a) }>
           }"""
    )
    found = lines(print_graph(graph, named=True))
    assert "%a = Relu(%x)" in found
    assert "%p = Abs(%a) : f32[2]" in found
    assert "%y = If(%c) captures(%a) : f32[2] {" in found


def test_a_subgraph_can_be_printed_alone() -> None:
    graph = graph_from_text(
        """g (bool c, float[2] x) => (float[2] y) {
             y = If (c) <then_branch = t () => (float[2] p) { p = Abs (x) },
                         else_branch = e () => (float[2] q) { q = Neg (x) }>
           }"""
    )
    inner = dict(next(graph.nodes()).subgraphs())["then_branch"]
    assert lines(print_graph(inner))[2:6] == [
        "graph t {",
        "%0 = Abs(%x) : f32[2]",
        "output p = %0 : f32[2]",
        "}",
    ]


# ---- broken graphs -----------------------------------------------------------------------------


def test_a_cycle_is_printed() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    a = graph.add("Add", [x, x], outputs=["a"])
    b = graph.add("Relu", [a.output], outputs=["b"])
    graph.set_operand(a, 1, b.output)
    assert lines(print_graph(graph))[4:6] == ["%0 = Add(%x, %!b)", "%1 = Relu(%0)"]


def test_a_capture_without_edge_is_printed() -> None:
    graph = Graph("g", {"": 21})
    body = Graph("b", parent=graph)
    body.add_output(body.add("Relu", [body.add_capture("lost", F32)], outputs=["r"]).output, "r")
    graph.add("If", [], outputs=["y"], attributes={"then_branch": Attr(AttrKind.GRAPH, body)})
    assert "%1 = Relu(%!lost)" in lines(print_graph(graph))


# ---- determinism -------------------------------------------------------------------------------


def shuffled(seed: int, values: str = "v{}") -> Graph:
    """A graph of 40 operations and 10 constants, inserted in an order that depends on the seed."""
    rng = random.Random(seed)
    graph = Graph("g", {"": 21})
    names = {i: values.format(f"{i:02d}") for i in range(50)}
    made = {-1: graph.add_input("x", F32)}
    todo = list(range(50))
    while todo:
        i = rng.choice([i for i in todo if i % 5 == 0 or (i - 1 in made and i // 2 - 1 in made)])
        todo.remove(i)
        if i % 5 == 0:
            made[i] = graph.add_constant(Tensor.from_numpy([float(i), 0.0], DType.F32), names[i])
            continue
        attributes = [("alpha", Attr(AttrKind.FLOAT, 0.5)), ("beta", Attr(AttrKind.INT, i))]
        rng.shuffle(attributes)
        operands = [made[i - 1], made[i // 2 - 1]]
        node = graph.add(
            "Op", operands, outputs=[names[i]], attributes=dict(attributes), types=[F32]
        )
        made[i] = node.output
    graph.add_output(made[49], "y", F32)
    return graph


@pytest.mark.parametrize("seed", range(1, 6))
def test_order_of_insertion_does_not_matter(seed: int) -> None:
    assert print_graph(shuffled(seed)) == print_graph(shuffled(0))


def test_names_inside_the_graph_do_not_matter_as_long_as_they_sort_alike() -> None:
    assert print_graph(shuffled(0, "other/{}")) == print_graph(shuffled(0))


def test_a_clone_prints_the_same() -> None:
    graph = shuffled(3)
    assert print_graph(clone(graph)) == print_graph(graph)


def test_the_hash_seed_does_not_matter(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = [{str(Path(__file__).parent.parent)!r}, {str(Path(__file__).parent)!r}]\n"
        "from test_text import shuffled\n"
        "from optc.ir.text import print_graph\n"
        "sys.stdout.write(print_graph(shuffled(1)))\n",
        encoding="utf-8",
    )
    texts = {
        subprocess.run(
            [sys.executable, str(script)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert texts == {print_graph(shuffled(1))}
