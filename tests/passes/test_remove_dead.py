"""remove-dead: what no output depends on goes; the interface and what selects a meaning stay."""

from __future__ import annotations

import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_rewrites, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import DType, Graph, Kind, TensorType, clone
from optc.ir.text import print_graph
from optc.passes.remove_dead import RemoveDead

REWRITES = {
    "a chain of operations and its constants": (
        """
        g (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}, float[2] u = {3.0, 4.0}>
        {
           y = Add (x, w)
           a = Mul (x, u)
           b = Relu (a)
        }
        """,
        """
        g (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}>
        {
           y = Add (x, w)
        }
        """,
        {"dead-operation": 2, "dead-constant": 1},
    ),
    "a random operation": (
        """
        g (float[2] x) => (float[2] y) { y = Relu (x)  r = RandomNormalLike (x) }
        """,
        """
        g (float[2] x) => (float[2] y) { y = Relu (x) }
        """,
        {"dead-operation": 1},
    ),
    "a trailing optional output": (
        """
        g (float[1,2,4,4] x) => (float[1,2,2,2] y)
        {
           y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        }
        """,
        """
        g (float[1,2,4,4] x) => (float[1,2,2,2] y)
        {
           y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
        }
        """,
        {"dead-output": 1},
    ),
    "an optional output before one that is used": (
        """
        g (float[6] x) => (float[N] y, int64[N] n) { y, i, j, n = Unique (x) }
        """,
        """
        g (float[6] x) => (float[N] y, int64[N] n) { y,,, n = Unique (x) }
        """,
        {"dead-output": 2},
    ),
    "the mask of a Dropout": (
        "g (float[2] x) => (float[2] y) { y, mask = Dropout (x) }",
        "g (float[2] x) => (float[2] y) { y = Dropout (x) }",
        {"dead-output": 1},
    ),
    "the state of an LSTM, first output included": (
        """
        g (float[5,1,2] x, float[1,12,2] w, float[1,12,3] r) => (float[1,1,3] h)
        {
           y, h, c = LSTM <hidden_size = 3> (x, w, r)
        }
        """,
        """
        g (float[5,1,2] x, float[1,12,2] w, float[1,12,3] r) => (float[1,1,3] h)
        {
           , h = LSTM <hidden_size = 3> (x, w, r)
        }
        """,
        {"dead-output": 2},
    ),
    "code and captures inside of branches, and what fed only these": (
        """
        g (bool c, float[2] x, float[2] z) => (float[2] y)
        {
           a = Relu (x)
           b = Neg (z)
           y = If (c) <
              then_branch = t () => (float[2] p) { p = Abs (a)  q = Add (a, b) },
              else_branch = e () => (float[2] r) { r = Exp (x) }
           >
        }
        """,
        """
        g (bool c, float[2] x, float[2] z) => (float[2] y)
        {
           a = Relu (x)
           y = If (c) <
              then_branch = t () => (float[2] p) { p = Abs (a) },
              else_branch = e () => (float[2] r) { r = Exp (x) }
           >
        }
        """,
        {"dead-operation": 2, "dead-capture": 1},
    ),
    "a capture through two levels": (
        """
        g (bool c, float[2] x, float[2] z) => (float[2] y)
        {
           b = Neg (z)
           y = If (c) <
              then_branch = t () => (float[2] p)
              {
                 p = If (c) <
                    then_branch = u () => (float[2] i) { i = Abs (x)  j = Exp (b) },
                    else_branch = v () => (float[2] k) { k = Relu (x) }
                 >
              },
              else_branch = e () => (float[2] r) { r = Exp (x) }
           >
        }
        """,
        """
        g (bool c, float[2] x, float[2] z) => (float[2] y)
        {
           y = If (c) <
              then_branch = t () => (float[2] p)
              {
                 p = If (c) <
                    then_branch = u () => (float[2] i) { i = Abs (x) },
                    else_branch = v () => (float[2] k) { k = Relu (x) }
                 >
              },
              else_branch = e () => (float[2] r) { r = Exp (x) }
           >
        }
        """,
        {"dead-operation": 2, "dead-capture": 2},
    ),
    "an owner with everything in it": (
        """
        g (bool c, float[2] x) => (float[2] y)
        {
           a = Relu (x)
           b = If (c) <
              then_branch = t () => (float[2] p) { p = Abs (a) },
              else_branch = e () => (float[2] r) { r = Exp (a) }
           >
           y = Neg (x)
        }
        """,
        """
        g (bool c, float[2] x) => (float[2] y) { y = Neg (x) }
        """,
        {"dead-operation": 2},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_removes(before: str, expected: str, counts: dict[str, int]) -> None:
    graph = assert_rewrites(RemoveDead(), before, expected, counts=counts)
    assert [value.name for value in graph.inputs] == [
        value.name for value in graph_from_text(before).inputs
    ]


def test_functions_that_no_call_reaches() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17, "f" : 1]>
    g (float[2] x) => (float[2] y) { y = f.Used (x) }
    <domain: "f", opset_import: ["" : 17, "f" : 1]> Used (x) => (y) { y = f.Inner (x) }
    <domain: "f", opset_import: ["" : 17]> Inner (x) => (y) { y = Relu (x) }
    <domain: "f", opset_import: ["" : 17, "f" : 1]> Unused (x) => (y) { y = f.Deep (x) }
    <domain: "f", opset_import: ["" : 17]> Deep (x) => (y) { y = Relu (x) }
    """
    graph = graph_from_text(text)
    source = clone(graph)
    assert run_pass(RemoveDead(), graph).counts == {"dead-function": 2}
    assert [name for _, name, _ in graph.model.functions] == ["Used", "Inner"]
    assert_same_numbers(source, graph)


def test_calls_from_subgraphs_count() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17, "f" : 1]>
    g (bool c, float[2] x) => (float[2] y)
    {
       y = If (c) <
          then_branch = t () => (float[2] p) { p = f.Used (x) },
          else_branch = e () => (float[2] r) { r = Exp (x) }
       >
    }
    <domain: "f", opset_import: ["" : 17]> Used (x) => (y) { y = Relu (x) }
    """
    assert_refuses(RemoveDead(), text)


KEPT = {
    "unused inputs": ("g (float[2] x, float[2] z) => (float[2] y) { y = Relu (x) }", ()),
    "a constant output": (
        "g (float[2] x) => (float[2] y, float[1] w) <float[1] w = {1.0}> { y = Relu (x) }",
        (),
    ),
    "outputs that the operator requires": (
        "g (float[4] x, int64[1] k) => (float[N] y) { y, i = TopK (x, k) }",
        (),
    ),
    "outputs of operators without schema": (
        '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
        "g (float[2] x) => (float[2] y) { y, z = my.Op (x) }",
        (),
    ),
    "results of a Split": (
        "g (float[4] x) => (float[2] y) { y, z = Split <num_outputs = 2> (x) }",
        (),
    ),
    "statistics that make a BatchNormalization the training form": (
        '<ir_version: 8, opset_import: ["" : 9]>'
        "g (float[1,2,3] x, float[2] s) => (float[1,2,3] y)"
        "{ [bn] y, m, v, a, b = BatchNormalization (x, s, s, s, s) }",
        ("bn: b makes this the training form (opset 9 < 14)",),
    ),
    "statistics in training mode": (
        "g (float[1,2,3] x, float[2] s) => (float[1,2,3] y)"
        "{ [bn] y, m, v = BatchNormalization <training_mode = 1> (x, s, s, s, s) }",
        ("bn: training_mode is on, which needs v",),
    ),
    "one of two statistics": (
        "g (float[1,2,3] x, float[2] s) => (float[1,2,3] y, float[2] v)"
        "{ [bn] y, m, v = BatchNormalization (x, s, s, s, s) }",
        ("bn: m belongs to v, which is used",),
    ),
    "the cache of an Attention that has a past": (
        '<ir_version: 10, opset_import: ["" : 23]>'
        "g (float[1,2,3,4] q, float[1,2,5,4] p) => (float[1,2,3,4] y)"
        "{ [at] y, k, v = Attention (q, q, q, , p, p) }",
        ("at: v belongs to the operand past_key",),
    ),
    "half of the cache of an Attention": (
        '<ir_version: 10, opset_import: ["" : 23]>'
        "g (float[1,2,3,4] q) => (float[1,2,3,4] y, float[1,2,3,4] k)"
        "{ [at] y, k, v = Attention (q, q, q) }",
        ("at: v belongs to k, which is used",),
    ),
}


@pytest.mark.parametrize(("text", "reasons"), KEPT.values(), ids=KEPT)
def test_keeps(text: str, reasons: tuple[str, ...]) -> None:
    assert_refuses(RemoveDead(), text, *reasons)


def test_statistics_that_inference_mode_does_not_have_go_together() -> None:
    text = """
    g (float[1,2,3] x, float[2] s) => (float[1,2,3] y)
    {
       y, m, v = BatchNormalization (x, s, s, s, s)
    }
    """
    graph = graph_from_text(text)
    assert run_pass(RemoveDead(), graph).counts == {"dead-output": 2}
    assert [len(node.outputs) for node in graph.nodes()] == [1]


def test_the_unused_cache_of_an_attention_without_past_goes() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 23]>
    g (float[1,2,3,4] q) => (float[1,2,3,4] y) { y, k, v = Attention (q, q, q) }
    """
    graph = graph_from_text(text)
    source = clone(graph)
    assert run_pass(RemoveDead(), graph).counts == {"dead-output": 2}
    assert [len(node.outputs) for node in graph.nodes()] == [1]
    assert_same_numbers(source, graph)


def test_a_long_chain_takes_one_sweep() -> None:
    graph = Graph("g", {"": 21})
    value = graph.add_input("x", TensorType(DType.F32, (2,)))
    graph.add_output(graph.add("Relu", [value], outputs=["y"]).output, "y")
    for i in range(5000):
        value = graph.add("Relu", [value], outputs=[f"v{i}"]).output
    assert run_pass(RemoveDead(), graph).counts == {"dead-operation": 5000}
    assert len(graph) == 1


# ---- Graph.drop_output -------------------------------------------------------------------------


def _unique() -> Graph:
    return graph_from_text("g (float[6] x) => (float[N] y, int64[N] n) { y, i, j, n = Unique (x) }")


def test_drop_output_keeps_positions_and_frees_the_name() -> None:
    graph = _unique()
    node = graph.value("y").node
    graph.drop_output(graph.value("i"))
    assert [value and value.name for value in node.outputs] == ["y", None, "j", "n"]
    assert not graph.has_value("i")
    assert graph.fresh_name("i") == "i"


@pytest.mark.parametrize(
    ("name", "message"),
    [("y", "y cannot go: y uses it"), ("x", "x is all that x produces")],
)
def test_drop_output_checks_first(name: str, message: str) -> None:
    graph = _unique()
    before = print_graph(graph)
    with pytest.raises(ValueError, match=message):
        graph.drop_output(graph.value(name))
    assert print_graph(graph) == before


def test_the_last_output_of_a_node_stays() -> None:
    graph = graph_from_text("g (float[2] x) => (float[2] y) { y = Relu (x)  z = Neg (x) }")
    with pytest.raises(ValueError, match="z is all that z produces"):
        graph.drop_output(graph.value("z"))
    assert next(graph.nodes(Kind.INPUT)).name == "x"
