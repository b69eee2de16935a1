"""The graph: connectivity, names, order, and mutators that check before they change."""

from __future__ import annotations

import random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import graph_from_text
from optc.ir import (
    Attr,
    AttrKind,
    DType,
    Graph,
    Kind,
    Origin,
    SparseTensor,
    Tensor,
    TensorType,
    Use,
)
from optc.ir.text import print_graph
from optc.ir.verify import verify

F32 = TensorType(DType.F32, (2,))


def diamond() -> Graph:
    """``a = Relu(x)``, ``b = Abs(a)``, ``c = Neg(a)``, ``y = Add(b, c)``."""
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    a = graph.add("Relu", [x], outputs=["a"], types=[F32]).output
    b = graph.add("Abs", [a], outputs=["b"], types=[F32]).output
    c = graph.add("Neg", [a], outputs=["c"], types=[F32]).output
    y = graph.add("Add", [b, c], outputs=["y"], types=[F32]).output
    graph.add_output(y, "y", F32)
    return graph


def uses(graph: Graph, name: str) -> list[tuple[str, int | str]]:
    return sorted((use.node.label, use.key) for use in graph.uses(graph.value(name)))


# ---- reading -----------------------------------------------------------------------------------


def test_one_value_used_twice_by_one_node_is_two_uses() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    node = graph.add("Mul", [x, x], outputs=["y"])
    assert graph.operands(node) == (x, x)
    assert list(graph.uses(x)) == [Use(node, 0), Use(node, 1)]
    assert graph.only_use(x) is None


def test_operands_that_are_left_out_are_none() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    node = graph.add("Resize", [x, None, x, None], outputs=["y"])
    assert graph.operands(node) == (x, None, x)
    assert graph.operand(node, 1) is None
    assert graph.operand(node, 3) is None
    assert graph.operand(node, 2) is x


def test_uses_are_of_the_value_and_not_of_its_node() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    split = graph.add("Split", [x], outputs=["a", None, "b"])
    a, b = split.outputs[0], split.outputs[2]
    assert a is not None
    assert b is not None
    relu = graph.add("Relu", [b], outputs=["r"])
    assert list(graph.uses(b)) == [Use(relu, 0)]
    assert not graph.is_used(a)
    assert graph.only_use(b) == Use(relu, 0)
    assert graph.only_use(a) is None


def test_outputs_are_uses() -> None:
    graph = diamond()
    y = graph.value("y")
    assert graph.is_output(y)
    assert not graph.is_output(graph.value("a"))
    assert graph.is_used(y)
    assert [use.node.kind for use in graph.uses(y)] == [Kind.OUTPUT]


def test_len_counts_operations_and_nodes_filters_by_kind() -> None:
    graph = diamond()
    graph.add_constant(Tensor.from_numpy([1.0]), "k")
    assert len(graph) == 4
    assert [node.op_type for node in graph.nodes()] == ["Relu", "Abs", "Neg", "Add"]
    assert [value.name for value in graph.constants()] == ["k"]
    assert [node.name for node in graph.nodes(Kind.INPUT, Kind.OUTPUT)] == ["x", "y"]
    assert graph.value("a").node in graph
    assert diamond().value("a").node not in graph
    assert "a" not in graph


def test_values_by_name() -> None:
    graph = diamond()
    assert graph.value("a").node.op_type == "Relu"
    assert graph.has_value("a")
    assert not graph.has_value("nothing")
    with pytest.raises(KeyError):
        graph.value("nothing")


def test_opset_is_the_root_s() -> None:
    graph = Graph("g", {"": 17, "com.microsoft": 1})
    inner = Graph("inner", parent=Graph("middle", parent=graph))
    graph.set_opset("", 18)
    assert inner.opset == 18
    assert inner.opsets == {"": 18, "com.microsoft": 1}
    assert inner.root is graph
    assert inner.model is graph.model
    inner.set_opset("ai.onnx.ml", 3)
    assert graph.opsets["ai.onnx.ml"] == 3
    assert Graph().opset == 0


def test_order_is_topological_and_by_name_among_what_is_ready() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    z = graph.add("Relu", [x], outputs=["z"]).output
    graph.add("Abs", [z], outputs=["a"])
    graph.add("Neg", [x], outputs=["m"])
    assert [node.key for node in graph.ordered()] == ["m", "z", "a"]
    assert graph.ordered() is graph.ordered()
    graph.add("Exp", [x], outputs=["b"])
    assert [node.key for node in graph.ordered()] == ["b", "m", "z", "a"]


@given(st.integers(0, 10_000))
def test_order_does_not_depend_on_insertion(seed: int) -> None:
    rng = random.Random(seed)
    links = {f"n{i}": [f"n{j}" for j in range(i) if rng.random() < 0.2] for i in range(15)}
    orders = set()
    for _ in range(2):
        graph = Graph("g", {"": 21})
        todo = list(links)
        while todo:
            name = rng.choice([n for n in todo if all(graph.has_value(o) for o in links[n])])
            todo.remove(name)
            graph.add("Op", [graph.value(o) for o in links[name]], outputs=[name])
        orders.add(tuple(node.key for node in graph.ordered()))
    assert len(orders) == 1


def test_a_cycle_has_no_order() -> None:
    graph = diamond()
    graph.set_operand(graph.value("a").node, 0, graph.value("y"))
    with pytest.raises(ValueError, match="cycle"):
        graph.ordered()


def test_walk_goes_through_nested_graphs_from_the_outside_in() -> None:
    graph = graph_from_text(
        """g (bool c, float[2] x) => (float[2] y) {
             y = If (c) <then_branch = t () => (float[2] p) {
                           p = If (c) <then_branch = tt () => (float[2] r) { r = Relu (x) },
                                       else_branch = te () => (float[2] s) { s = Abs (x) }> },
                         else_branch = e () => (float[2] q) { q = Neg (x) }>
           }"""
    )
    assert [inner.name for inner in graph.walk()] == ["g", "e", "t", "te", "tt"]
    node = next(graph.nodes())
    assert {name: value.name for name, value in graph.captures(node).items()} == {
        "c": "c",
        "x": "x",
    }
    assert uses(graph, "x") == [("y", "x")]


# ---- names -------------------------------------------------------------------------------------


def test_fresh_names_avoid_all_scopes_of_the_model() -> None:
    graph = Graph("g", {"": 21})
    graph.add_input("x", F32)
    inner = Graph("inner", parent=graph)
    inner.add_input("x_1", F32)
    graph.add_output(graph.value("x"), "y")
    assert graph.fresh_name("z") == "z"
    assert graph.fresh_name("x") == "x_2"
    assert inner.fresh_name("x_1") == "x_1_1"
    assert graph.fresh_name("y") == "y_1"
    assert graph.fresh_name("") == "value"


def test_a_name_is_free_again_after_its_value_is_gone() -> None:
    graph = diamond()
    graph.add("Exp", [graph.value("a")], outputs=["e"])
    assert graph.fresh_name("e") == "e_1"
    graph.remove(graph.value("e").node)
    assert graph.fresh_name("e") == "e"


def test_rename() -> None:
    graph = diamond()
    graph.rename(graph.value("a"), "a2")
    graph.rename(graph.value("x"), "x2")
    assert [value.name for value in graph.inputs] == ["x2"]
    assert graph.value("x2").node.name == "x2"
    assert not graph.has_value("a")
    assert graph.fresh_name("a") == "a"
    graph.rename(graph.value("a2"), "a2")
    with pytest.raises(ValueError, match="a value named 'b' already"):
        graph.rename(graph.value("a2"), "b")
    assert verify(graph) == ()


def test_captured_values_keep_their_name() -> None:
    inner = Graph("inner", parent=Graph("g", {"": 21}))
    value = inner.add_capture("x", F32)
    with pytest.raises(ValueError, match="x is a captured value and keeps its name"):
        inner.rename(value, "z")


# ---- checks ------------------------------------------------------------------------------------


def test_nothing_changes_when_a_mutator_refuses() -> None:
    graph, other = diamond(), diamond()
    text = print_graph(graph)
    foreign, a = other.value("x"), graph.value("a")
    with pytest.raises(ValueError, match="'x' is not of this graph"):
        graph.add("Relu", [foreign], outputs=["r"])
    with pytest.raises(ValueError, match="'x' is not of this graph"):
        graph.add("If", [a], outputs=["r"], captures={"x": foreign})
    with pytest.raises(ValueError, match="a value named 'b' already"):
        graph.add("Relu", [a], outputs=["b"])
    with pytest.raises(ValueError, match="a name is given twice: r, r"):
        graph.add("Split", [a], outputs=["r", "r"])
    with pytest.raises(ValueError, match="a value named 'a' already"):
        graph.add_input("a", F32)
    with pytest.raises(ValueError, match="an output named 'y' already"):
        graph.add_output(a, "y")
    with pytest.raises(ValueError, match="'x' is not of this graph"):
        graph.add_output(foreign, "z")
    with pytest.raises(ValueError, match="'x' is not of this graph"):
        graph.replace_uses(a, foreign)
    with pytest.raises(ValueError, match="'x' is not of this graph"):
        graph.set_operand(a.node, 0, foreign)
    with pytest.raises(ValueError, match="b uses a; it would use its own result"):
        graph.replace_uses(a, graph.value("b"))
    with pytest.raises(ValueError, match="a cannot go: b uses a"):
        graph.remove(a.node)
    with pytest.raises(ValueError, match="a is not an input with a default"):
        graph.freeze_input(a)
    with pytest.raises(ValueError, match="x is not an input with a default"):
        graph.freeze_input(graph.value("x"))
    assert print_graph(graph) == text
    assert verify(graph) == ()


# ---- changing ----------------------------------------------------------------------------------


def test_replace_uses_moves_operands_and_outputs() -> None:
    graph = diamond()
    graph.add_output(graph.value("a"), "also")
    assert graph.replace_uses(graph.value("a"), graph.value("x"))
    assert uses(graph, "x") == [("a", 0), ("also", 0), ("b", 0), ("c", 0)]
    assert not graph.replace_uses(graph.value("a"), graph.value("x"))
    assert not graph.replace_uses(graph.value("x"), graph.value("x"))
    graph.remove(graph.value("a").node)
    assert [node.key for node in graph.ordered()] == ["b", "c", "y"]
    assert verify(graph) == ()


def test_replace_uses_moves_captures() -> None:
    graph = graph_from_text(
        """g (bool c, float[2] x) => (float[2] y) {
             a = Relu (x)
             y = If (c) <then_branch = t () => (float[2] p) { p = Abs (a) },
                         else_branch = e () => (float[2] q) { q = Neg (a) }>
           }"""
    )
    assert graph.replace_uses(graph.value("a"), graph.value("x"))
    assert graph.captures(graph.value("y").node) == {"a": graph.value("x")}
    graph.remove(graph.value("a").node)
    assert verify(graph) == ()
    assert "%1 = Neg(%x) : f32[2]" in print_graph(graph)


def test_set_operand() -> None:
    graph = diamond()
    add, x = graph.value("y").node, graph.value("x")
    graph.set_operand(add, 1, x)
    assert graph.operands(add) == (graph.value("b"), x)
    assert not graph.is_used(graph.value("c"))
    graph.set_operand(add, 1, None)
    assert graph.operands(add) == (graph.value("b"),)
    graph.set_operand(add, 3, x)
    assert graph.operands(add) == (graph.value("b"), None, None, x)
    graph.set_operand(add, 0, x)
    assert graph.operands(add) == (x, None, None, x)


def test_remove_inputs_and_outputs() -> None:
    graph = diamond()
    graph.add_input("unused", None)
    graph.remove(graph.value("unused").node)
    assert [value.name for value in graph.inputs] == ["x"]
    graph.remove(graph.outputs[0])
    assert graph.outputs == ()
    assert verify(graph) == ()


def test_drop_output() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    node = graph.add("Dropout", [x], outputs=["y", "mask"])
    graph.add_output(node.output, "y")
    mask = node.outputs[1]
    assert mask is not None
    with pytest.raises(ValueError, match="y cannot go: y uses it"):
        graph.drop_output(node.output)
    graph.drop_output(mask)
    assert len(node.outputs) == 1
    assert graph.fresh_name("mask") == "mask"
    with pytest.raises(ValueError, match="y is all that y produces"):
        graph.drop_output(node.output)
    assert verify(graph) == ()


def test_freeze_input_makes_a_constant_of_its_default() -> None:
    graph = Graph("g", {"": 21})
    default = Tensor.from_numpy([1.0, 2.0], DType.F32)
    k = graph.add_input("k", TensorType(DType.F32, ("N",)), default)
    graph.add_output(graph.add("Relu", [k], outputs=["y"], types=[F32]).output, "y")
    assert k.node.kind is Kind.INPUT
    graph.freeze_input(k)
    assert graph.inputs == ()
    assert k.constant is default
    assert k.type == F32
    assert verify(graph) == ()


def test_set_type_and_attributes() -> None:
    graph = diamond()
    a = graph.value("a")
    assert not graph.set_type(a, F32)
    assert graph.set_type(a, None)
    assert a.type is None
    attributes = {"alpha": Attr(AttrKind.FLOAT, 0.5)}
    graph.set_attributes(a.node, attributes)
    attributes.clear()
    assert a.node.get("alpha") == 0.5
    assert a.node.get("beta", 1) == 1


def test_constants_have_the_type_of_their_data() -> None:
    graph = Graph("g", {"": 21})
    origin = Origin("fold-constants", ("conv",))
    dense = graph.add_constant(Tensor.from_numpy(np.zeros((2, 3), np.int8)), "d", origin)
    values, indices = Tensor.from_numpy([1.0], DType.F32), Tensor.from_numpy([3])
    sparse = graph.add_constant(SparseTensor(values, indices, (9,)), "s")
    assert str(dense.type) == "i8[2,3]"
    assert str(sparse.type) == "sparse(f32[9])"
    assert dense.node.origin is origin
    assert sparse.constant is None


@given(st.data())
def test_random_edits_through_mutators_leave_a_sound_graph(data: st.DataObject) -> None:
    graph = Graph("g", {"d": 1})
    values = [graph.add_input("x", None)]
    for step in range(data.draw(st.integers(1, 25))):
        kind = data.draw(st.sampled_from(["add", "replace", "remove", "output", "operand"]))
        first, second = (data.draw(st.sampled_from(values)) for _ in range(2))
        free = not nx.has_path(graph._g, first.node, second.node)
        if kind == "add":
            operands = [first, second, first][: data.draw(st.integers(0, 3))]
            values.append(graph.add("Op", operands, outputs=[f"v{step}"], domain="d").output)
        elif kind == "replace" and free:
            graph.replace_uses(first, second)
        elif kind == "remove" and first.node.kind is Kind.OP and not graph.is_used(first):
            graph.remove(first.node)
            values.remove(first)
        elif kind == "output":
            graph.add_output(first, f"out{step}")
        elif kind == "operand" and first.node.kind is Kind.OP and free:
            graph.set_operand(first.node, data.draw(st.integers(0, 3)), second)
        assert verify(graph) == ()
