"""Damage that goes around the mutators: every kind is found and named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.small_graphs import F32, branches, inner, node, problems, small
from optc.ir import DType, Graph, Kind, Node, Tensor, TensorType, Value
from optc.ir.verify import Violation, verify

if TYPE_CHECKING:
    from collections.abc import Callable


def break_cycle(graph: Graph) -> None:
    graph.set_operand(node(graph, "add"), 1, graph.value("b"))


def break_edge_value(graph: Graph) -> None:
    edge = graph._pred[node(graph, "relu")][node(graph, "add")][0]
    edge["value"] = graph.value("x")
    node(graph, "relu")._operands = None


def break_double_operand(graph: Graph) -> None:
    graph._g.add_edge(graph.value("w").node, node(graph, "add"), key=0, value=graph.value("w"))


def break_operand_cache(graph: Graph) -> None:
    node(graph, "relu")._operands = ()


def break_operator(graph: Graph) -> None:
    node(graph, "relu").op_type = ""


def break_output_use(graph: Graph) -> None:
    graph._g.add_edge(graph.value("a").node, graph.outputs[0], key=1, value=graph.value("a"))
    graph.outputs[0]._operands = None


def break_output_source(graph: Graph) -> None:
    graph.set_operand(graph.outputs[0], 0, None)


def break_source_operand(graph: Graph) -> None:
    graph._g.add_edge(graph.value("x").node, graph.value("w").node, key=0, value=graph.value("x"))


def break_source_values(graph: Graph) -> None:
    graph.add_constant(Tensor.from_numpy([1.0]), "c").node.outputs = ()


def break_constant(graph: Graph) -> None:
    graph.value("w").node.tensor = None


def break_name(graph: Graph) -> None:
    graph.value("a").name = "other"


def break_empty_name(graph: Graph) -> None:
    graph.rename(graph.value("a"), "")


def break_index(graph: Graph) -> None:
    graph.value("b").index = 1


def break_value_table(graph: Graph) -> None:
    graph._values["ghost"] = Value("ghost", None, node(graph, "add"), 3)


def break_input_list(graph: Graph) -> None:
    graph._inputs.clear()


def break_output_list(graph: Graph) -> None:
    graph._outputs.append(Node(Kind.OUTPUT, name="z"))


def break_output_names(graph: Graph) -> None:
    graph.add_output(graph.value("a"), "z").name = "y"


def break_empty_output_name(graph: Graph) -> None:
    graph.outputs[0].name = ""


def break_root_capture(graph: Graph) -> None:
    graph.add_capture("k", None)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (break_cycle, "add: is part of a cycle: add -> relu -> add"),
        (break_edge_value, "relu: operand 0 is x, no result of add"),
        (break_double_operand, "add: operand 0 is both x and w"),
        (
            break_operand_cache,
            "relu: the operands that the node remembers are not those of its edges",
        ),
        (break_operator, "relu: is an operation without operator"),
        (break_output_use, "y: is an output of 2 values, not of one"),
        (break_output_source, "y: is an output of 0 values, not of one"),
        (break_source_operand, "w: is of kind constant and has operands"),
        (break_source_values, "c: is of kind constant and has 0 values, not one"),
        (break_constant, "w: is a constant without data, or with both dense and sparse data"),
        (break_name, "add: result 0 has the name other, which is not registered as its own"),
        (break_empty_name, "add: result 0 has an empty name"),
        (break_index, "relu: result 0 (b) says it is another one"),
        (break_value_table, "g: the name ghost belongs to a value that is not in the graph"),
        (break_input_list, "g: the list of inputs is not the input nodes of the graph"),
        (break_output_list, "g: the list of outputs is not the output nodes of the graph"),
        (break_output_names, "g: 2 outputs have the name y"),
        (break_empty_output_name, "g: an output has an empty name"),
        (
            break_root_capture,
            "k: stands for a captured value, but the graph has no enclosing graph",
        ),
    ],
)
def test_damaged_structure(damage: Callable[[Graph], None], expected: str) -> None:
    graph = small()
    damage(graph)
    assert expected in problems(graph)


def test_a_value_that_is_used_twice_as_one_operand_is_two_edges() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    graph.add("Mul", [x, x], outputs=["y"], types=[F32])
    assert verify(graph) == ()


# ---- captures ----------------------------------------------------------------------------------


def break_capture_edge(graph: Graph) -> None:
    graph.set_operand(node(graph, "if"), "x", None)


def break_capture_node(graph: Graph) -> None:
    graph._g.add_edge(graph.value("c").node, node(graph, "if"), key="k", value=graph.value("c"))


def break_parent(graph: Graph) -> None:
    inner(graph).parent = None


def break_capture_type(graph: Graph) -> None:
    value = inner(graph).value("x")
    value.type = TensorType(DType.F16, (2,))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (break_capture_edge, "if: a subgraph captures x, for which the node has no edge"),
        (break_capture_node, "if: the node has an edge for k, which no subgraph captures"),
        (break_parent, "if: the parent of subgraph then_branch is not the graph of its owner"),
        (break_capture_type, "if: x is recorded as f32[2], inside as f16[2]"),
    ],
)
def test_damaged_captures(damage: Callable[[Graph], None], expected: str) -> None:
    graph = branches()
    damage(graph)
    assert expected in problems(graph)


def test_violations_inside_subgraphs_carry_the_path() -> None:
    graph = branches()
    relu = next(inner(graph).nodes())
    relu.op_type = "Rleu"
    assert problems(graph) == ["if.then_branch/p: ai.onnx 21 has no operator Rleu"]
    assert verify(graph)[0] == Violation("if.then_branch/p", "ai.onnx 21 has no operator Rleu")
