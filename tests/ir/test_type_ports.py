"""Which operands and results change type together, and from which opset on they may be bf16."""

from __future__ import annotations

import pytest

from helpers import graph_from_text
from optc.ir import DType, Graph, Node
from optc.ir.type_ports import Ports, admits, opset_for, ports_of
from optc.passes import InferShapes, PassContext


def only(text: str, opset: int = 21) -> tuple[Graph, Node]:
    graph = graph_from_text(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    InferShapes().apply(graph, PassContext())
    return graph, graph.ordered()[-1]


CASES = {
    "all operands": (
        "g (float[1,2,4,4] x, float[2,2,1,1] w, float[2] b) => (y) { y = Conv(x, w, b) }",
        Ports((0, 1, 2), (0,)),
    ),
    "a condition keeps its type": (
        "g (bool[2] c, float[2] x, float[2] z) => (y) { y = Where(c, x, z) }",
        Ports((1, 2), (0,)),
    ),
    "scales keep theirs": (
        "g (float[1,1,2,2] x, float[4] s) => (y) { y = Resize(x, , s) }",
        Ports((0,), (0,)),
    ),
    "a result of whole numbers": (
        "g (float[3] x) => (y) { y = ArgMax(x) }",
        Ports((0,), ()),
    ),
    "one of two results": (
        "g (float[3] x, int64[1] k) => (v, i) { v, i = TopK(x, k) }",
        Ports((0,), (0,)),
    ),
    "statistics have their own type": (
        """g (float[1,2,4] x, float[2] s, float[2] b, float[2] m, float[2] v) => (y) {
           y = BatchNormalization(x, s, b, m, v) }""",
        Ports((0,), (0,)),
    ),
    "whole numbers have none": ("g (int64[2] x) => (y) { y = Add(x, x) }", Ports((), ())),
    "another type ties it": (
        "g (float16[2] x, float[2] s, float[2] b) => (y) { y = LayerNormalization(x, s, b) }",
        Ports((), ()),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ports(case: tuple[str, Ports]) -> None:
    text, ports = case
    assert ports_of(*only(text)) == ports


def test_operators_with_mixed_parameters_change_as_one() -> None:
    text = "g (float[1,2,4] x, float[4] s) => (y) { y = RMSNormalization(x, s) }"
    assert ports_of(*only(text, 23)) == Ports((0, 1), (0,))


@pytest.mark.parametrize(
    ("op", "opset", "lowest"),
    [("Conv", 17, 22), ("Conv", 22, 22), ("MatMul", 9, 13), ("MatMul", 18, 18), ("TopK", 18, 24)],
)
def test_lowest_opset(op: str, opset: int, lowest: int) -> None:
    texts = {
        "Conv": "g (float[1,2,4,4] x, float[2,2,1,1] w) => (y) { y = Conv(x, w) }",
        "MatMul": "g (float[2,2] x, float[2,2] w) => (y) { y = MatMul(x, w) }",
        "TopK": "g (float[3] x, int64[1] k) => (v, i) { v, i = TopK(x, k) }",
    }
    graph, node = only(texts[op], opset)
    assert opset_for(graph, node, DType.BF16) == lowest
    assert admits(graph, node, DType.BF16) == (lowest == opset)


def test_a_type_that_is_not_known_ties_it() -> None:
    graph = graph_from_text("g (float[2] x) => (y) { z = Neg(x)  y = Neg(z) }")
    assert not any(ports_of(graph, node) for node in graph.nodes())


def test_what_has_no_bf16_in_any_opset() -> None:
    text = "g (float[3] x) => (y) { y = Shrink(x) }"
    graph, node = only(text)
    assert opset_for(graph, node, DType.BF16) is None
    assert not admits(graph, node, DType.BF16)


def test_a_call_of_a_function_has_no_ports() -> None:
    graph = graph_from_text(
        """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        g (float[2] x) => (y) { y = own.Twice(x) }
        <domain: "own", opset_import: ["" : 21]> Twice (x) => (y) { y = Add(x, x) }"""
    )
    (node,) = graph.nodes()
    assert not ports_of(graph, node)
    assert opset_for(graph, node, DType.BF16) is None
