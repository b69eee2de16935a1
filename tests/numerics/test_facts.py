"""What inputs a graph takes."""

import numpy as np
import pytest

from optc.ir.graph import Graph
from optc.ir.nodes import Attr, AttrKind, Value
from optc.ir.tensor import Tensor
from optc.ir.types import DType, TensorType
from optc.numerics.facts import index_limits, required_inputs


def graph_with(dtype: DType = DType.I64) -> tuple[Graph, Value]:
    graph = Graph("g", {"": 17})
    return graph, graph.add_input("ids", TensorType(dtype, ("N",)))


def constant(graph: Graph, values: object, name: str = "c") -> Value:
    return graph.add_constant(Tensor.from_numpy(np.asarray(values)), graph.fresh_name(name))


def op(graph: Graph, op_type: str, *operands: Value, **ints: int) -> Value:
    attributes = {name: Attr(AttrKind.INT, value) for name, value in ints.items()}
    name = graph.fresh_name(op_type)
    return graph.add(op_type, operands, outputs=[name], attributes=attributes).output


def table(graph: Graph, *shape: int) -> Value:
    return constant(graph, np.zeros(shape, np.float32), "table")


def test_inputs_with_a_default_are_not_required() -> None:
    graph, _ = graph_with()
    graph.add_input("w", TensorType(DType.F32, (1,)), Tensor.from_numpy(np.ones(1, np.float32)))
    graph.add_input("u", None)
    assert required_inputs(graph) == {
        "ids": TensorType(DType.I64, ("N",)),
        "u": TensorType(DType.UNDEFINED),
    }


@pytest.mark.parametrize(
    ("op_type", "axis"), [("Gather", 0), ("Gather", -2), ("GatherElements", 0)]
)
def test_a_gather_limits_its_indices(op_type: str, axis: int) -> None:
    graph, ids = graph_with()
    op(graph, op_type, table(graph, 100, 8), ids, axis=axis)
    assert index_limits(graph) == {"ids": 100}


def test_the_axis_decides() -> None:
    graph, ids = graph_with()
    op(graph, "Gather", table(graph, 100, 8), ids, axis=1)
    assert index_limits(graph) == {"ids": 8}


def test_the_smallest_of_several_tables_counts() -> None:
    graph, ids = graph_with()
    op(graph, "Gather", table(graph, 100, 8), ids)
    op(graph, "Gather", table(graph, 50, 8), op(graph, "Cast", ids, to=6))
    assert index_limits(graph) == {"ids": 50}


def test_moves_and_casts_are_followed() -> None:
    graph, ids = graph_with(DType.I32)
    other = constant(graph, [1])
    moved = op(graph, "Reshape", op(graph, "Cast", ids, to=7), constant(graph, [-1, 1]))
    joined = op(graph, "Concat", op(graph, "Transpose", moved), other, axis=0)
    chosen = op(graph, "Where", constant(graph, [True]), other, joined)
    op(graph, "Gather", table(graph, 30, 2), chosen)
    assert index_limits(graph) == {"ids": 30}


def test_a_one_hot_code_limits_its_indices() -> None:
    graph, ids = graph_with()
    op(graph, "OneHot", ids, constant(graph, 12), constant(graph, [0.0, 1.0]))
    assert index_limits(graph) == {"ids": 12}


@pytest.mark.parametrize("swap", [False, True])
def test_a_comparison_with_many_numbers_is_a_one_hot_code(swap: bool) -> None:
    graph, ids = graph_with()
    numbers = constant(graph, np.arange(257))
    op(graph, "Equal", *((numbers, ids) if swap else (ids, numbers)))
    assert index_limits(graph) == {"ids": 257}


@pytest.mark.parametrize(
    "use",
    ["data of a gather", "shape of a reshape", "comparison", "condition", "table of unknown size"],
)
def test_other_uses_tell_nothing(use: str) -> None:
    graph, ids = graph_with()
    one = constant(graph, [1])
    match use:
        case "data of a gather":
            op(graph, "Gather", ids, one)
        case "shape of a reshape":
            op(graph, "Gather", table(graph, 9, 2), op(graph, "Reshape", one, ids))
        case "comparison":
            op(graph, "Equal", ids, one)
        case "condition":
            chosen = op(graph, "Where", op(graph, "Cast", ids, to=9), one, one)
            op(graph, "Gather", table(graph, 9, 2), chosen)
        case "table of unknown size":
            op(graph, "Gather", graph.add_input("data", TensorType(DType.F32, ("M", 2))), ids)
    assert index_limits(graph) == {}


def test_float_inputs_have_no_limit() -> None:
    graph, x = graph_with(DType.F32)
    op(graph, "Gather", table(graph, 9, 2), op(graph, "Cast", x, to=7))
    assert index_limits(graph) == {}
