"""Clones: equal in every respect, and independent."""

from __future__ import annotations

from helpers import graph_from_text
from optc.ir import (
    DType,
    Graph,
    Kind,
    Origin,
    SparseTensor,
    Tensor,
    TensorType,
    clone,
)
from optc.ir.diff import diff_graphs
from optc.ir.text import print_graph
from optc.ir.verify import verify

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


def full() -> Graph:
    graph = graph_from_text(TEXT)
    values, indices = Tensor.from_numpy([1.0], DType.F32), Tensor.from_numpy([3])
    sparse = SparseTensor(values, indices, (9,))
    graph.add_constant(sparse, "sparse")
    graph.add_input("k", values.type, values)
    graph.add_input("s", TensorType(DType.F32, (9,))).node.sparse = sparse
    graph.doc = "graph"
    graph.metadata["key"] = "value"
    graph.opaque["quantization_annotation"] = (b"\x01",)
    graph.model.metadata["model"] = "m"
    graph.model.opaque["training_info"] = (b"\x02",)
    node = graph.value("a").node
    node.doc, node.metadata, node.opaque = "node", {"n": "1"}, b"\x03"
    node.overload, node.origin = "fast", Origin("pass", ("source",))
    value = graph.value("a")
    value.doc, value.metadata = "value", {"v": "2"}
    graph.outputs[0].doc, graph.outputs[0].metadata = "output", {"o": "3"}
    return graph


def test_text_and_structure_are_equal() -> None:
    graph = full()
    copy = clone(graph)
    assert print_graph(copy) == print_graph(graph)
    assert diff_graphs(graph, copy).is_empty
    assert copy.opsets == graph.opsets
    assert [v.name for v in copy.inputs] == [v.name for v in graph.inputs]
    assert [n.name for n in copy.outputs] == [n.name for n in graph.outputs]


def test_everything_that_is_carried_is_there() -> None:
    graph = full()
    copy = clone(graph)
    assert (copy.name, copy.doc, copy.metadata, copy.opaque) == (
        graph.name,
        graph.doc,
        graph.metadata,
        graph.opaque,
    )
    assert copy.model.producer_name == "exporter"
    assert copy.model.metadata == {"model": "m"}
    assert copy.model.opaque == {"training_info": (b"\x02",)}
    old, new = graph.value("a").node, copy.value("a").node
    for name in ("name", "doc", "metadata", "opaque", "overload", "origin", "attributes"):
        assert getattr(new, name) == getattr(old, name)
    assert (copy.value("a").doc, copy.value("a").metadata) == ("value", {"v": "2"})
    assert (copy.outputs[0].doc, copy.outputs[0].metadata) == ("output", {"o": "3"})
    assert copy.value("s").node.sparse is graph.value("s").node.sparse
    assert copy.value("w").constant is graph.value("w").constant


def test_a_clone_is_sound() -> None:
    graph = graph_from_text(TEXT)
    copy = clone(graph)
    assert verify(copy) == ()
    inner = dict(copy.value("y").node.subgraphs())["then_branch"]
    assert inner.parent is copy
    assert inner.model is copy.model


def test_changes_of_the_copy_do_not_show_in_the_original() -> None:
    graph = full()
    text = print_graph(graph)
    copy = clone(graph)
    copy.set_opset("", 22)
    copy.metadata["key"] = "other"
    copy.model.metadata.clear()
    copy.set_type(copy.value("a"), None)
    copy.replace_uses(copy.value("a"), copy.value("x"))
    copy.rename(copy.value("a"), "renamed")
    for inner in copy.walk():
        for node in list(inner.nodes(Kind.OP)):
            inner.set_attributes(node, {})
    for function in copy.model.functions.values():
        function.body.rename(function.body.value("b"), "renamed")
    assert print_graph(graph) == text
    assert graph.metadata == {"key": "value"}
    assert graph.model.metadata == {"model": "m"}
    assert graph.model.functions["d", "f", ""].body.has_value("b")


def test_fresh_names_of_a_clone_avoid_the_names_of_its_subgraphs() -> None:
    copy = clone(graph_from_text(TEXT))
    assert copy.fresh_name("p") == "p_1"
    assert copy.fresh_name("w") == "w_1"
