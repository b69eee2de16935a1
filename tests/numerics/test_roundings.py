"""How rounding errors add up in a graph: hand-counted cases."""

import math
from collections.abc import Mapping

import numpy as np
import pytest

from optc.ir.graph import Graph
from optc.ir.model import Function
from optc.ir.nodes import Attr, AttrKind, Node, Value
from optc.ir.tensor import Tensor
from optc.ir.types import DType, Shape, TensorType
from optc.numerics.roundings import derive_tolerances, rounding_chain

U = 2.0**-24


class Builder:
    """A graph with an input, to which operations are added with the types of their results."""

    def __init__(self, shape: Shape = (1, 8), dtype: DType = DType.F32) -> None:
        self.graph = Graph("g", {"": 17})
        self.x = self.graph.add_input("x", TensorType(dtype, shape))

    def weight(self, *shape: int) -> Value:
        tensor = Tensor.from_numpy(np.zeros(shape, np.float32))
        return self.graph.add_constant(tensor, self.graph.fresh_name("w"))

    def op(
        self,
        op_type: str,
        *operands: Value,
        shape: Shape | None = None,
        dtype: DType = DType.F32,
        attributes: Mapping[str, Attr] | None = None,
    ) -> Value:
        return self.graph.add(
            op_type,
            operands,
            outputs=[self.graph.fresh_name(op_type)],
            types=[TensorType(dtype, shape)],
            attributes=attributes,
        ).output

    def chain(self, value: Value) -> int:
        self.graph.add_output(value, self.graph.fresh_name("out"))
        return round(rounding_chain(self.graph))


@pytest.mark.parametrize(
    ("op_type", "data", "weight", "expected"),
    [
        ("Conv", (1, 16, 8, 8), (32, 16, 3, 3), 16 * 9),
        ("Conv", (1, 16, 8, 8), (16, 1, 3, 3), 9),  # depthwise
        ("ConvTranspose", (1, 16, 8, 8), (16, 32, 2, 2), 16 * 4),
        ("MatMul", (1, 8), (8, 4), 8),
        ("MatMul", (2, 3, 8), (2, 8, 4), 8),
        ("Gemm", (1, 8), (8, 4), 8),
        ("LSTM", (5, 1, 8), (1, 16, 8), (8 + 8) * 5),
    ],
)
def test_a_dot_product_counts_its_length(
    op_type: str, data: Shape, weight: tuple[int, ...], expected: int
) -> None:
    build = Builder(data)
    assert build.chain(build.op(op_type, build.x, build.weight(*weight))) == expected


def test_a_transposed_gemm_weight_has_its_length_last() -> None:
    build = Builder((1, 8))
    flags = {"transB": Attr(AttrKind.INT, 1)}
    assert build.chain(build.op("Gemm", build.x, build.weight(4, 8), attributes=flags)) == 8


def test_an_unknown_length_is_a_few_hundred() -> None:
    build = Builder(("N", "K"))
    other = build.graph.add_input("w", TensorType(DType.F32, None))
    assert build.chain(build.op("MatMul", build.x, other)) == 256


@pytest.mark.parametrize(
    ("op_type", "result", "expected"),
    [
        ("ReduceSum", (1, 1), 8),
        ("GlobalAveragePool", (1, 1), 8),
        ("Softmax", (1, 8), 8),
        ("ReduceMax", (1, 1), 0),
        ("Relu", (1, 8), 4),
        ("Exp", (1, 8), 4),
        ("Add", (1, 8), 1),
        ("Mul", (1, 8), 1),
        ("Transpose", (8, 1), 0),
        ("Shape", (2,), 0),
        ("BatchNormalization", (1, 8), 4),
        ("Mystery", (1, 8), 4),
    ],
)
def test_other_operations(op_type: str, result: Shape, expected: int) -> None:
    build = Builder()
    assert build.chain(build.op(op_type, build.x, shape=result)) == max(expected, 0)


def test_the_longest_path_counts() -> None:
    build = Builder()
    long = build.op(
        "MatMul",
        build.op("MatMul", build.x, build.weight(8, 8), shape=(1, 8)),
        build.weight(8, 8),
        shape=(1, 8),
    )
    short = build.op("Neg", build.x)
    assert build.chain(build.op("Add", short, long)) == 17


def test_constants_and_moves_alone_are_exact() -> None:
    build = Builder()
    assert build.chain(build.op("Reshape", build.x, build.weight(2))) == 0


def test_loops_count_their_body_several_times_and_branches_once() -> None:
    for op_type, expected in (("Loop", 16), ("If", 1)):
        build = Builder()
        inner = Graph("body", parent=build.graph)
        value = inner.add_capture("x", build.x.type)
        added = inner.add("Add", [value, value], outputs=["inner"])
        inner.add_output(added.output, "inner_out")
        body = {"body": Attr(AttrKind.GRAPH, inner)}
        node: Node = build.graph.add(
            op_type, [], outputs=["y"], attributes=body, captures={"x": build.x}
        )
        assert build.chain(node.output) == expected


def test_functions_count_their_body() -> None:
    build = Builder()
    body = Graph("f", {"": 17}, model=build.graph.model)
    a = body.add_input("a", None)
    body.add_output(body.add("Add", [a, a], outputs=["b"]).output, "b_out")
    build.graph.model.functions["mine", "Twice", ""] = Function("Twice", "mine", "", body)
    node = build.graph.add("Twice", [build.x], outputs=["y"], domain="mine")
    assert build.chain(node.output) == 1


# ---- tolerances --------------------------------------------------------------------------------


def test_each_output_has_the_tolerance_of_its_own_path() -> None:
    build = Builder()
    near = build.op("Add", build.x, build.x)
    far = build.op("MatMul", near, build.weight(8, 8), shape=(1, 8))
    build.graph.add_output(near, "near")
    build.graph.add_output(far, "far")
    found = derive_tolerances(build.graph)
    assert found["near"].relative == pytest.approx(4 * U)
    assert found["far"].relative == pytest.approx(4 * U * 3)
    assert found["far"].absolute == 2.0**-126


@pytest.mark.parametrize(
    ("dtype", "unit"), [(DType.F16, 2**-11), (DType.BF16, 2**-8), (DType.F8E4M3FN, 2**-4)]
)
def test_results_in_small_types_are_rounded_once_more(dtype: DType, unit: float) -> None:
    build = Builder((1, 8), dtype)
    once = build.op("MatMul", build.x, build.weight(8, 8), shape=(1, 8), dtype=dtype)
    moved = build.op("Reshape", once, build.weight(2), shape=(8, 1), dtype=dtype)
    build.graph.add_output(build.op("Add", moved, moved, shape=(8, 1), dtype=dtype), "y")
    expected = 4 * math.sqrt(2 * unit**2 + 9 * U**2)
    assert derive_tolerances(build.graph)["y"].relative == pytest.approx(expected)


def test_double_precision_is_held_to_float32_at_most() -> None:
    build = Builder((1, 8), DType.F64)
    build.graph.add_output(build.op("Add", build.x, build.x, dtype=DType.F64), "y")
    assert derive_tolerances(build.graph)["y"].relative == 4 * U


def test_the_loosest_of_source_and_result_holds() -> None:
    source, result = Builder(), Builder()
    source.graph.add_output(source.op("Add", source.x, source.x), "y")
    result.graph.add_output(
        result.op("Cast", result.op("Cast", result.x, dtype=DType.BF16), dtype=DType.F32), "y"
    )
    found = derive_tolerances(source.graph, result.graph)["y"]
    assert found.relative == pytest.approx(4 * 2.0**-8, rel=1e-3)


@pytest.mark.parametrize("op_type", ["Sigmoid", "Tanh", "Softmax", "HardSigmoid"])
def test_results_of_the_size_of_one_have_an_absolute_floor(op_type: str) -> None:
    build = Builder()
    unit = build.op(op_type, build.x)
    build.graph.add_output(build.op("Transpose", build.op("Concat", unit, build.x)), "moved")
    build.graph.add_output(build.op("Mul", unit, unit), "product")
    found = derive_tolerances(build.graph)
    assert found["moved"].absolute == 16 * U
    assert found["product"].absolute == 2.0**-126
