"""Graphs as data and back: the same to the order of insertion, and to what passes make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

from helpers import graph_from_text
from helpers.random_graphs import graphs
from optc.frontend.onnx import load_model
from optc.ir import DType, Graph, Kind, MapType, Origin, SparseTensor, Tensor, TensorType
from optc.ir.dump import Origins, all_tensors, dump_graph
from optc.ir.restore import load_graph
from optc.ir.text import print_graph
from optc.ir.types import OpaqueType, OptionalType, SequenceType, SparseTensorType
from optc.ir.verify import verify

if TYPE_CHECKING:
    from optc.ir import Node

ROOT = Path(__file__).resolve().parents[2]
MODELS = [
    ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx",
    ROOT / "tests" / "models" / "mnist_resnet.onnx",
]
TEXT = """
<ir_version: 10, opset_import: ["" : 21, "d" : 1], producer_name: "exporter">
g (bool c, float[2] x) => (float[2] y, float[2] z) <float[2] w = {1, 2}> {
  a = Add (x, w)
  y = If (c) <
    then_branch = t () => (float[2] p) { p = Mul (a, w) },
    else_branch = e () => (float[2] q) { q = d.f (a) }>
  z = d.f (a)
}
<domain: "d", opset_import: ["" : 20]>
f (a) => (b) { b = Relu (a) }
"""


class Listed:
    """Tensors by their place in a list."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def dump(self, tensor: Tensor) -> Any:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def load(self, data: Any) -> Tensor:
        number: int = data
        return self.tensors[number]


def copy_of(graph: Graph) -> tuple[Graph, str, str]:
    """The graph after a journey through JSON, with the text before and that of its own dump."""
    tensors, origins = Listed(), Origins()
    text = json.dumps(dump_graph(graph, tensors, origins))
    news = json.loads(json.dumps(origins.news()))
    known = Origins()
    known.learn(news)
    made = load_graph(json.loads(text), tensors, known)
    again = json.dumps(dump_graph(made, Listed(), known))
    assert known.news() == []
    return made, text, again


def order(graph: Graph) -> list[Any]:
    """What passes can see of a graph by walking it, in the order in which they see it."""
    names: dict[Node, int] = {node: i for i, node in enumerate(graph.nodes(*Kind))}
    return [
        [names[n] for n in graph.nodes(*Kind)],
        [
            (value.name, [(names[use.node], use.key) for use in graph.uses(value)])
            for node in graph.nodes(*Kind)
            for value in node.outputs
            if value is not None
        ],
        [[v and v.name for v in graph.operands(node)] for node in graph.nodes(*Kind)],
        [list(graph.captures(node)) for node in graph.nodes()],
    ]


def same(graph: Graph, made: Graph) -> None:
    assert verify(made) == verify(graph)
    assert print_graph(made) == print_graph(graph)
    assert made.fresh_name("a") == graph.fresh_name("a")
    for one, other in zip(graph.walk(), made.walk(), strict=True):
        assert order(one) == order(other)


def full() -> Graph:
    graph = graph_from_text(TEXT)
    values, indices = Tensor.from_numpy([1.0], DType.F32), Tensor.from_numpy([3])
    graph.add_constant(SparseTensor(values, indices, (9,)), "sparse")
    graph.add_input("k", values.type, values)
    graph.add_input("s", TensorType(DType.F32, (9,))).node.sparse = SparseTensor(
        values, indices, (9,)
    )
    graph.add_input("t", TensorType(DType.F32, ("N", None), "image", ("batch", "width")))
    graph.add_input("u", SequenceType(OptionalType(MapType(DType.I64, None))))
    graph.add_input("v", SparseTensorType(DType.F32, ("N",)))
    graph.add_input("w2", OpaqueType("d", "n", "meaning"))
    graph.add_input("x2", None)
    graph.doc = "graph"
    graph.metadata["key"] = "value \udce4"
    graph.opaque["quantization_annotation"] = (b"\x01\xff",)
    graph.model.metadata["model"] = "m"
    graph.model.opaque["training_info"] = (b"\x02",)
    node = graph.value("a").node
    node.doc, node.metadata, node.opaque = "node", {"n": "1"}, b"\x03\x80"
    node.overload = "fast"
    first = Origin("pass", ("source",))
    node.origin = Origin("later", ("other", first, first))
    graph.value("y").node.origin = first
    value = graph.value("a")
    value.doc, value.metadata = "value", {"v": "2"}
    graph.outputs[0].doc, graph.outputs[0].metadata = "output", {"o": "3"}
    return graph


def test_everything_that_a_graph_holds_comes_back() -> None:
    graph = full()
    made, text, again = copy_of(graph)
    assert again == text
    same(graph, made)
    function = made.model.functions["d", "f", ""]
    assert print_graph(function.body) == print_graph(graph.model.functions["d", "f", ""].body)
    assert made.model.opaque == graph.model.opaque
    assert made.value("t").type == graph.value("t").type
    assert repr(made.value("t").type) == repr(graph.value("t").type)
    assert repr(made.value("w2").type) == repr(graph.value("w2").type)


def test_origins_that_are_one_object_stay_one() -> None:
    made, *_ = copy_of(full())
    later, first = made.value("a").node.origin, made.value("y").node.origin
    assert later is not None
    assert later.parents[1] is first
    assert later.parents[2] is first
    assert later.sources() == ("other", "source")


def test_long_chains_of_origins_do_not_recurse() -> None:
    origin = Origin("p", ("s",))
    for _ in range(20_000):
        origin = Origin("p", (origin,))
    origins = Origins()
    assert origins.number(origin) == 20_000
    known = Origins()
    known.learn(origins.news())
    found = known.origin(20_000)
    assert found is not None
    assert found.sources() == ("s",)


def test_names_that_were_used_up_stay_used_up() -> None:
    graph = full()
    made = graph.add("Neg", [graph.value("a")], outputs=[graph.fresh_name("a")])
    assert made.output.name == "a_1"
    graph.remove(made)
    other, *_ = copy_of(graph)
    assert other.fresh_name("a") == graph.fresh_name("a") == "a_2"


def test_the_order_of_uses_is_that_of_the_original() -> None:
    graph = graph_from_text("g (float[2] x) => (float[2] y) { a = Neg (x) y = Add (a, a) }")
    last = graph.add("Abs", [graph.value("x")], outputs=["z"])
    graph.set_operand(graph.value("y").node, 1, last.output)
    graph.set_operand(graph.value("y").node, 1, graph.value("a"))
    graph.set_operand(graph.value("a").node, 0, last.output)
    made, text, again = copy_of(graph)
    assert text == again
    same(graph, made)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_come_back(path: Path) -> None:
    graph = load_model(path)
    made, text, again = copy_of(graph)
    assert text == again
    same(graph, made)
    pairs = zip(all_tensors(graph), all_tensors(made), strict=True)
    assert all(one is other for one, other in pairs)


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_random_graphs_come_back(graph: Graph) -> None:
    made, text, again = copy_of(graph)
    assert text == again
    same(graph, made)
