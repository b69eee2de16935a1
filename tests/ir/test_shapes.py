"""Symbolic shapes: nothing is claimed that a run refutes, and nothing crashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.shape_checks import infer_all, infer_line
from optc.frontend.onnx import load_model
from optc.ir import Tensor, TensorType, dims, shapes
from optc.ir.shape_rules_move import sliced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Shape
    from optc.ir.types import Dim


@pytest.mark.parametrize("call", ["Unique (x)", "com.microsoft.Foo (x)", "SequenceConstruct (x)"])
def test_nothing_is_said_of_operators_without_a_rule(call: str) -> None:
    assert infer_line("float[N] x", f"y = {call}") == []


def test_nothing_is_said_of_a_model_local_function_of_a_known_name() -> None:
    graph = graph_from_text(
        '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
        " g (float[N,4] x) => (float y) { y = com.microsoft.Gelu (x) }"
        ' <opset_import: ["" : 21], domain: "com.microsoft"> Gelu (a) => (b)'
        " { b = Transpose (a) }"
    )
    assert shapes.infer(graph, graph.ordered()[0]) is None


def test_unnamed_dimensions_of_inputs_are_told_apart() -> None:
    line = "a = Relu (x) b = Add (a, x) c = Transpose (x) y = Add (b, c)"
    assert infer_line("float[?,?] x", line) == [(None, None)]
    assert infer_line("float[?,?] x", "a = Relu (x) y = Add (a, x)") == [("x_dim_0", "x_dim_1")]


BROKEN = [
    "y = Transpose <perm = [0, 7]> (x)",
    "y = Concat <axis = 9> (x, x)",
    "y = Gather <axis = 9> (x, x)",
    "y = MaxPool <kernel_shape = [3]> (x)",
    "y = MaxPool <kernel_shape = [3, 3], strides = [0, 0]> (x)",
    "y = MaxPool <kernel_shape = [3, 3], pads = [1]> (x)",
    "y = Conv <kernel_shape = [3, 3, 3]> (x, x)",
    "y = Conv (x)",
    "y = MatMul (x)",
    "y = Gemm (x, x)",
    "y = Reshape (x)",
    "y = Slice (x)",
    "y = Split <num_outputs = 0> (x)",
    'y = Einsum <equation = "ab,c"> (x)',
    'y = Einsum <equation = "ab->c"> (x)',
    "y = LSTM (x)",
    "y = Resize (x)",
    "y = TopK (x, x)",
    "y = DepthToSpace <blocksize = 0> (x)",
    "y = Flatten <axis = 9> (x)",
    "y = ReduceSum (x, x)",
    "y = Add ()",
    "y = Concat <axis = 0> ()",
    "y = Where (x)",
]


@pytest.mark.parametrize("line", BROKEN)
@pytest.mark.parametrize("type_", ["float[2,3,4,5]", "float[]", "float[N,C,H,W]", "int64[3]"])
def test_a_broken_node_is_no_crash(line: str, type_: str) -> None:
    graph = graph_from_text(f"g ({type_} x) => (float y) {{ {line} }}")
    found = shapes.infer(graph, graph.ordered()[0])
    assert found is None or len(found) == 1
    shapes.values(graph)


SIZES = (0, 1, 2, 5, 9)
INDICES = (-(2**63), -9, -2, -1, 0, 1, 3, 9, 2**31 - 1, 2**63 - 1)


@pytest.mark.parametrize("step", [-2, -1, 1, 3])
def test_a_symbolic_slice_has_the_length_that_numpy_has(step: int) -> None:
    for start in INDICES:
        for end in INDICES:
            symbolic = sliced("L", start, end, step)
            for size in SIZES:
                expected = np.zeros(size)[start:end:step].size
                assert sliced(size, start, end, step) == expected
                assert dims.substitute(symbolic, {"L": size}) in (expected, None)
                assert symbolic is not None or step < 0


def test_a_slice_between_symbols() -> None:
    assert sliced("L", 0, "L", 1) == "L"
    assert sliced("L + P", "P", 2**31 - 1, 1) == "L"
    assert sliced("L", 0, "M", 1) == "min(L, M)"
    assert sliced("L", "L - M", 9, 1) is None
    assert sliced(None, 0, 4, 1) is None


# ---- the cases of the ONNX project -------------------------------------------------------------


def describe(
    graph: Graph, operands: Sequence[object], *, symbolic: bool, constant: bool
) -> dict[str, Dim]:
    """Give the inputs the shapes of `operands`, or symbols for them; freeze the small ones."""
    sizes: dict[str, Dim] = {}
    for value, array in zip(graph.inputs, operands, strict=True):
        if not isinstance(array, np.ndarray) or not isinstance(value.type, TensorType):
            continue
        shape: Shape = array.shape
        if constant and array.ndim < 2 and array.size <= 16 and array.dtype.kind in "if":
            value.node.tensor = Tensor.from_numpy(array)
            graph.freeze_input(value)
        elif symbolic:
            shape = tuple(f"{value.name}_{axis}" for axis in range(array.ndim))
            sizes.update(zip((str(dim) for dim in shape), array.shape, strict=True))
        graph.set_type(value, TensorType(value.type.dtype, shape))
    return sizes


@pytest.mark.slow
@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("constant", [False, True], ids=["operands unknown", "operands known"])
@pytest.mark.filterwarnings("ignore")
def test_no_node_case_of_onnx_is_refuted(symbolic: bool, constant: bool) -> None:
    from onnx.backend.test.case.node import collect_testcases

    compared = 0
    for case in collect_testcases():
        if case.model.opset_import[0].version < 7 or not case.data_sets:
            continue
        operands, results = case.data_sets[0]
        graph = load_model(case.model)
        sizes = describe(graph, operands, symbolic=symbolic, constant=constant)
        infer_all(graph)
        for node, result in zip(graph.outputs, results, strict=True):
            value = graph.operand(node, 0)
            if value is None or not shapes.rule_of(graph, value.node):
                continue
            if not isinstance(result, np.ndarray | np.generic):  # a TensorProto of a small float
                continue
            assert isinstance(value.type, TensorType), case.name
            shape = tuple(dims.substitute(dim, sizes) for dim in value.type.shape or ())
            assert not dims.conflict(shape, np.shape(result)), case.name
            compared += 1
    assert compared > 1500
