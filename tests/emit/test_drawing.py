from __future__ import annotations

from helpers import graph_from_text
from helpers.small_graphs import branches, small
from optc.emit.drawing import Drawing
from optc.passes.base import PassContext

CONTEXT = PassContext("cascadelake")
CHAIN = "g (float[2] x) => (float[2] y) { a = Relu (x) b = Mul (a, a) y = Add (b, x) }"


def test_what_feeds_an_operation_is_a_row_or_an_input_each_once() -> None:
    drawing = Drawing(graph_from_text(CHAIN))
    assert [row["inputs"] for row in drawing.rows()] == [["x"], [0], [1, "x"]]
    assert drawing.ends() == {
        "inputs": {"x": "f32[2]"},
        "outputs": {"y": {"type": "f32[2]", "from": 2}},
    }


def test_constants_feed_nothing() -> None:
    assert [row["inputs"] for row in Drawing(small()).rows()] == [["x"], [0]]


def test_nested_operations_say_where_they_are_and_what_they_capture() -> None:
    row = {"precision": "fp32", "type": "f32[2]"}
    assert Drawing(branches()).describe()["nodes"] == [
        {**row, "name": "if", "op": "If", "inputs": ["c", "x"]},
        {**row, "name": "q", "op": "Neg", "inputs": ["x"], "inside": [0, "else_branch"]},
        {**row, "name": "p", "op": "Relu", "inputs": ["x"], "inside": [0, "then_branch"]},
    ]


def test_a_capture_of_a_capture_is_the_outermost_operation() -> None:
    graph = graph_from_text(
        """
        g (bool c, float[2] x) => (float[2] y) {
          a = Relu (x)
          y = If (c) <
            then_branch = t () => (float[2] p) {
              p = If (c) <
                then_branch = tt () => (float[2] pp) { pp = Neg (a) },
                else_branch = te () => (float[2] pe) { pe = Abs (a) }>
            },
            else_branch = e () => (float[2] q) { q = Neg (x) }>
        }
        """
    )
    drawing = Drawing(graph)
    rows = drawing.describe()["nodes"]
    assert isinstance(rows, list)
    inner = {row["name"]: row for row in rows}
    assert inner["pp"]["inputs"] == [0]
    assert rows[inner["pp"]["inside"][0]]["name"] == "p"
    order = [n.label for nested in graph.walk() for n in nested.ordered()]
    assert [row["name"] for row in rows] == order


def test_an_output_may_be_an_input_or_a_constant() -> None:
    graph = graph_from_text("g (float[2] x) => (float[2] x) {}")
    assert Drawing(graph).ends()["outputs"] == {"x": {"type": "f32[2]", "from": "x"}}
