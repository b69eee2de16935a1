"""Nodes, values, attributes and provenance."""

from __future__ import annotations

import pytest

from optc.ir import Attr, AttrKind, DType, Graph, Kind, Node, Origin, Tensor, TensorType, Value


def test_labels_and_keys() -> None:
    graph = Graph("g", {"": 21, "d": 1})
    x = graph.add_input("x", None)
    named = graph.add("Relu", [x], outputs=["a"], name="relu")
    unnamed = graph.add("Split", [x], outputs=[None, "b"], domain="d")
    silent = graph.add("Print", [x], outputs=[], domain="d")
    assert (named.label, named.key) == ("relu", "a")
    assert (unnamed.label, unnamed.key) == ("b", "b")
    assert (silent.label, silent.key) == ("Print", "")
    assert unnamed.qualified_op == "d::Split"
    assert named.qualified_op == "Relu"
    assert repr(named) == "<op Relu relu>"
    assert repr(x) == "%x: ?"
    assert repr(Value("v", TensorType(DType.F32, (2,)), named, 0)) == "%v: f32[2]"


def test_output_is_the_first_one() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", None)
    assert x.node.output is x
    node = graph.add("Split", [x], outputs=[None, "b"], name="split")
    with pytest.raises(ValueError, match="split has no first output"):
        _ = node.output
    with pytest.raises(ValueError, match="y has no first output"):
        _ = graph.add_output(x, "y").output


def test_is_op() -> None:
    node = Node(Kind.OP, "Gelu", domain="com.microsoft")
    assert node.is_op("Relu", "Gelu", domain="com.microsoft")
    assert not node.is_op("Gelu")
    assert not Node(Kind.CONSTANT, "Gelu").is_op("Gelu")


def test_attributes() -> None:
    graph = Graph("g", {"": 21})
    bodies = [Graph(name, parent=graph) for name in "ab"]
    assert Attr(AttrKind.GRAPH, bodies[0]).graphs == (bodies[0],)
    assert Attr(AttrKind.GRAPHS, tuple(bodies)).graphs == tuple(bodies)
    assert Attr(AttrKind.GRAPH, None, ref="body").graphs == ()
    assert Attr(AttrKind.INT, 1).graphs == ()
    assert Attr(AttrKind.INT, 1, doc="x") == Attr(AttrKind.INT, 1)
    node = Node(Kind.OP, "If")
    node.attributes = {
        "then_branch": Attr(AttrKind.GRAPH, bodies[0]),
        "else_branch": Attr(AttrKind.GRAPH, bodies[1]),
        "n": Attr(AttrKind.INT, 3),
    }
    assert list(node.subgraphs()) == [("else_branch", bodies[1]), ("then_branch", bodies[0])]
    assert node.get("n") == 3
    assert node.get("m") is None


def test_constant_is_the_tensor_of_a_constant_only() -> None:
    graph = Graph("g", {"": 21})
    tensor = Tensor.from_numpy([1.0])
    assert graph.add_constant(tensor, "k").constant is tensor
    assert graph.add_input("x", tensor.type, tensor).constant is None


def test_provenance_reaches_the_source_nodes_through_all_passes() -> None:
    conv = Origin("fold-batchnorm", ("conv", "bn"))
    fused = Origin("fold-affine", (conv, "mul", "conv"))
    again = Origin("fold-affine", (fused, fused))
    assert again.sources() == ("conv", "bn", "mul")
    assert again.passes() == ("fold-affine", "fold-batchnorm")
    node = Node(Kind.OP, "Conv", "conv")
    assert node.source_origin() == "conv"
    node.origin = conv
    assert node.source_origin() is conv
    assert Origin("", ("a",)).passes() == ()


def test_long_chains_of_provenance_need_no_recursion() -> None:
    origin = Origin("p", ("source",))
    for _ in range(5000):
        origin = Origin("p", (origin,))
    assert origin.sources() == ("source",)
    assert origin.passes() == ("p",)
