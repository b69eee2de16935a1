"""The verifier: silent on sound graphs, exact on every kind of damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx.backend.test.case.node import collect_testcases

from helpers import graph_from_text
from helpers.small_graphs import branches, inner, node, problems, small
from optc.frontend.onnx import load_model
from optc.ir import (
    Attr,
    AttrKind,
    DType,
    Graph,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensor,
    SparseTensorType,
    Tensor,
    TensorType,
    Type,
    clone,
)
from optc.ir.verify import conflict, verify

F32 = TensorType(DType.F32, (2,))
I64 = TensorType(DType.I64, (2,))


def op(
    op_type: str,
    operands: list[Type | None],
    results: list[Type | None],
    attributes: dict[str, Attr] | None = None,
    *,
    opset: int = 21,
    domain: str = "",
) -> list[str]:
    """Problems of a graph of one operation; UNDEFINED in `operands` leaves one out."""
    graph = Graph("g", {"": opset, domain: opset})
    values = [
        None if type is OMITTED else graph.add_input(f"x{i}", type)
        for i, type in enumerate(operands)
    ]
    graph.add(
        op_type,
        values,
        outputs=[f"y{i}" for i in range(len(results))],
        types=results,
        attributes=attributes,
        domain=domain,
        name="n",
    )
    return [text.removeprefix("n: ") for text in problems(graph)]


OMITTED = OpaqueType("", "left out")
INT = AttrKind.INT


# ---- sound graphs ------------------------------------------------------------------------------


def test_small_graphs_are_sound() -> None:
    assert verify(small()) == ()
    assert verify(branches()) == ()
    assert verify(clone(branches())) == ()
    assert verify(inner(branches())) == ()
    assert verify(Graph()) == ()


@pytest.mark.slow
def test_all_node_cases_of_onnx_are_sound_with_inferred_types() -> None:
    with np.errstate(all="ignore"):
        cases = collect_testcases(None)
    assert len(cases) > 1500
    for case in cases:
        model = onnx.shape_inference.infer_shapes(case.model)
        assert problems(load_model(model, oldest_opset=1)) == [], case.name


def test_all_other_cases_of_onnx_are_sound() -> None:
    data = Path(onnx.backend.test.__file__).parent / "data"
    files = [*data.glob("*/*/model.onnx"), *data.glob("light/*.onnx")]
    assert len(files) > 100
    for file in sorted(files):
        assert problems(load_model(file, oldest_opset=1)) == [], file


# ---- operators ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (op("Relu", [], [F32]), ["Relu-14 needs at least 1 operand, found 0"]),
        (op("Relu", [F32, F32], [F32]), ["Relu-14 has at most 1 operand, found 2"]),
        (op("Relu", [F32], [F32, F32]), ["Relu-14 has at most 1 result, found 2"]),
        (op("Split", [F32], []), ["Split-18 needs at least 1 result, found 0"]),
        (
            op("Where", [OMITTED, F32, F32], [F32]),
            ["operand 0 (condition) of Where-16 is left out but required"],
        ),
        (op("Clip", [F32, OMITTED, TensorType(DType.F32, ())], [F32]), []),
        (
            op("Gelu", [F32], [F32], opset=19),
            ["ai.onnx 19 has no operator Gelu; it exists since 20"],
        ),
        (op("Glue", [F32], [F32]), ["ai.onnx 21 has no operator Glue"]),
        (op("Glue", [F32], [F32], domain="ai.onnx.ml"), ["ai.onnx.ml 21 has no operator Glue"]),
        (op("Glue", [F32], [F32], domain="com.acme"), []),
        (op("Upsample", [F32, F32], [F32]), ["Upsample is deprecated since opset 10"]),
        (op("LayerNormalization", [F32, F32], [F32], opset=12), []),
        (op("SimplifiedLayerNormalization", [F32, F32], [F32]), []),
        (
            op("Softmax", [F32], [F32], {"axes": Attr(INT, 0)}),
            ["Softmax-13 has no attribute axes, did you mean 'axis'?"],
        ),
        (
            op("Softmax", [F32], [F32], {"axis": Attr(AttrKind.FLOAT, 0.0)}),
            ["attribute axis of Softmax-13 is INT, found FLOAT"],
        ),
        (op("Concat", [F32], [F32]), ["attribute axis of Concat-13 is required"]),
        (
            op("Relu", [TensorType(DType.STRING)], [None]),
            ["operand 0 (X) of Relu-14 may not be str"],
        ),
        (op("Add", [F32, I64], [F32]), ["operand 1 (B) is i64 but operand 0 (A) is f32"]),
        (op("Add", [F32, F32], [I64]), ["result 0 (C) is i64 but operand 0 (A) is f32"]),
        (
            op("Sum", [F32, F32, TensorType(DType.F64)], [F32]),
            ["operand 2 (data_0) is f64 but operand 0 (data_0) is f32"],
        ),
        (op("Add", [F32, None], [F32]), []),
        (op("Add", [F32, TensorType(DType.UNDEFINED, (2,))], [F32]), []),
        (op("Add", [F32, SparseTensorType(DType.F32, (2,))], [F32]), []),
        (
            op("SequenceLength", [SequenceType(MapType(DType.I64, F32))], [None]),
            ["operand 0 (input_sequence) of SequenceLength-11 may not be seq(map(i64, f32))"],
        ),
        (op("SequenceLength", [SequenceType(None)], [TensorType(DType.I64, ())]), []),
        (op("OptionalHasElement", [OptionalType(SequenceType(F32))], [None]), []),
        (
            op(
                "ZipMap",
                [F32],
                [SequenceType(MapType(DType.STRING, TensorType(DType.F32)))],
                domain="ai.onnx.ml",
                opset=1,
            ),
            [],
        ),
        (op("Cast", [F32], [I64], {"to": Attr(INT, 7)}), []),
        (op("Cast", [F32], [F32], {"to": Attr(INT, 7)}), ["casts to i64, but its result is f32"]),
    ],
)
def test_operators_against_their_schemas(found: list[str], expected: list[str]) -> None:
    assert found == expected


def test_a_domain_must_be_imported() -> None:
    graph = small()
    node(graph, "relu").domain = "com.acme"
    assert problems(graph) == ["relu: is of domain com.acme, which the model does not import"]


@pytest.mark.parametrize(
    ("attribute", "held"),
    [
        (Attr(INT, 1.5), "axis is INT, but holds float"),
        (Attr(INT, True), "axis is INT, but holds bool"),
        (Attr(INT, None), "axis is INT, but holds NoneType"),
        (Attr(AttrKind.INTS, [1]), "axis is INTS, but holds list"),
        (Attr(AttrKind.INTS, (1.5,)), "axis is INTS, but holds tuple"),
        (Attr(AttrKind.STRING, "text"), "axis is STRING, but holds str"),
        (Attr(AttrKind.TENSOR, np.zeros(2)), "axis is TENSOR, but holds ndarray"),
        (Attr(AttrKind.GRAPH, None), "axis is GRAPH, but holds NoneType"),
    ],
)
def test_attributes_hold_what_their_kind_says(attribute: Attr, held: str) -> None:
    assert f"attribute {held}" in op("Acme", [], [], {"axis": attribute}, domain="com.acme")


@pytest.mark.parametrize(
    "attribute",
    [
        Attr(INT, 1),
        Attr(AttrKind.FLOATS, ()),
        Attr(AttrKind.STRINGS, (b"a",)),
        Attr(AttrKind.TYPE, SequenceType(F32)),
        Attr(AttrKind.TENSOR, Tensor.from_numpy([1])),
        Attr(INT, None, ref="parameter"),
    ],
)
def test_sound_attributes(attribute: Attr) -> None:
    assert op("Acme", [], [], {"axis": attribute}, domain="com.acme") == []


def test_calls_of_functions_and_their_bodies() -> None:
    graph = graph_from_text(
        """
        <ir_version: 10, opset_import: ["" : 21, "d" : 1]>
        g (float[2] x) => (float[2] y) { y = d.f (x) }
        <domain: "d", opset_import: ["" : 20]>
        f <alpha> (a) => (b) { b = Elu <alpha: float = @alpha> (a) }
        """
    )
    assert verify(graph) == ()
    call = next(graph.nodes())
    graph.set_operand(call, 1, graph.value("x"))
    next(graph.model.functions["d", "f", ""].body.nodes()).op_type = "Elf"
    assert problems(graph) == [
        "y: function d::f has 1 operands, found 2",
        "d::f/b: ai.onnx 20 has no operator Elf",
    ]


# ---- types and shapes --------------------------------------------------------------------------


def tensor(*shape: int | str | None, dtype: DType = DType.F32) -> TensorType:
    return TensorType(dtype, shape)


@pytest.mark.parametrize(
    ("op_type", "operands", "result", "attributes", "right"),
    [
        ("Add", [tensor(3, 1), tensor(1, 4)], tensor(3, 5), {}, "[3,4]"),
        ("Add", [tensor(3, 1), tensor(1, 4)], tensor(3), {}, "[3,4]"),
        ("Relu", [tensor(3, "N")], tensor(4, "N"), {}, "[3,N]"),
        ("MatMul", [tensor(2, 3), tensor(3, 4)], tensor(2, 5), {}, "[2,4]"),
        ("Conv", [tensor(1, 3, 8, 8), tensor(4, 3, 3, 3)], tensor(1, 5, 6, 6), {}, "[1,4,6,6]"),
        ("Concat", [tensor(2), tensor(3)], tensor(6), {"axis": Attr(INT, 0)}, "[5]"),
        ("Transpose", [tensor(2, 3)], tensor(2, 3), {}, "[3,2]"),
        ("Flatten", [tensor(2, 3, 4)], tensor(2, 13), {}, "[2,12]"),
    ],
)
def test_recorded_shapes_that_cannot_be(
    op_type: str, operands: list[Type | None], result: TensorType, attributes: Any, right: str
) -> None:
    recorded = str(result).removeprefix("f32")
    assert op(op_type, operands, [result], attributes) == [
        f"y0 is recorded as {recorded}, but must be {right}"
    ]
    assert op(op_type, operands, [TensorType(DType.F32)], attributes) == []
    unknown = TensorType(DType.F32, (None,) * (right.count(",") + 1))
    assert op(op_type, operands, [unknown], attributes) == []


def test_shapes_are_not_judged_when_the_structure_is_broken() -> None:
    graph = small()
    graph.set_type(graph.value("a"), tensor(3))
    assert "add: a is recorded as [3], but must be [2]" in problems(graph)
    graph.set_operand(graph.outputs[0], 0, None)
    assert problems(graph) == ["y: is an output of 0 values, not of one"]


def test_declared_types_of_outputs() -> None:
    graph = small()
    graph.outputs[0].declared = tensor(3)
    assert problems(graph) == ["y: is declared as f32[3], but b is f32[2]"]
    graph.outputs[0].declared = tensor("N")
    assert verify(graph) == ()


def test_types_of_constants_and_defaults() -> None:
    graph = small()
    graph.add_input("k", I64, Tensor.from_numpy([1, 2]))
    indices = Tensor.from_numpy([1])
    sparse = graph.add_constant(SparseTensor(Tensor.from_numpy([1.0]), indices, (9,)), "s")
    assert verify(graph) == ()
    for name in ("w", "k"):
        graph.value(name).type = tensor(7)
    sparse.type = SparseTensorType(DType.F32, (9,))
    assert problems(graph)[:1] == ["w: is recorded as f32[7], but its data is f32[2]"]
    assert "k: is recorded as f32[7], but its data is i64[2]" in problems(graph)
    assert "s: is recorded as sparse(f32[9]), but its data is sparse(f64[9])" in problems(graph)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (None, F32, False),
        (F32, F32, False),
        (F32, I64, True),
        (F32, TensorType(DType.F32), False),
        (tensor("N", None, 3), tensor("M", 2, 3), False),
        (tensor(1), tensor(2), True),
        (tensor(1), tensor(1, 1), True),
        (TensorType(DType.UNDEFINED, (2,)), F32, False),
        (SparseTensorType(DType.F32, (2,)), F32, False),
        (SequenceType(F32), F32, True),
        (SequenceType(F32), SequenceType(I64), True),
        (SequenceType(None), SequenceType(I64), False),
        (OptionalType(F32), OptionalType(I64), True),
        (OptionalType(F32), F32, False),
        (MapType(DType.I64, F32), MapType(DType.STRING, F32), True),
        (MapType(DType.I64, F32), MapType(DType.I64, None), False),
        (OpaqueType("a", "b"), OpaqueType("a", "c"), True),
        (OpaqueType("a", "b"), F32, True),
    ],
)
def test_conflicting_types(a: Type | None, b: Type | None, expected: bool) -> None:
    assert conflict(a, b) is expected
    assert conflict(b, a) is expected


# ---- bodies of control flow --------------------------------------------------------------------

LOOP = """
g (int64 n, bool c, float[2] x) => (float[2] y, float[s, 2] z) {
  [loop] y, z = Loop (n, c, x) <body = b (int64 i, bool k, float[2] s)
      => (bool k2, float[2] t, float[2] u) { k2 = Identity (k) t = Add (s, x) u = Neg (s) }>
}
"""
SCAN = """
g (float[2] a, float[3,2] x) => (float[2] y, float[3,2] z) {
  [scan] y, z = Scan <num_scan_inputs = 1, body = b (float[2] s, float[2] e)
      => (float[2] t, float[2] u) { t = Add (s, e) u = Neg (t) }> (a, x)
}
"""


def test_bodies_of_loops_and_scans() -> None:
    for text in (LOOP, SCAN):
        assert verify(graph_from_text(text)) == ()


def test_a_branch_with_inputs() -> None:
    graph = branches()
    inner(graph).add_input("k", None)
    assert "if: subgraph then_branch has 1 inputs, the operation gives it 0" in problems(graph)


def test_a_branch_with_too_few_results() -> None:
    graph = branches()
    body = inner(graph)
    body.remove(body.outputs[0])
    assert "if: subgraph then_branch gives 0 results, the operation has 1" in problems(graph)


def test_a_branch_with_results_of_another_type() -> None:
    graph = branches()
    inner(graph).value("p").type = TensorType(DType.F16, (2,))
    assert "if: p of subgraph then_branch is f16[2], but y is f32[2]" in problems(graph)


@pytest.mark.parametrize(("text", "name"), [(LOOP, "loop"), (SCAN, "scan")])
def test_formals_and_results_of_loops_and_scans(text: str, name: str) -> None:
    graph = graph_from_text(text)
    body = inner(graph, "body")
    body.value("s").type = TensorType(DType.F16, (2,))
    body.value("u").type = TensorType(DType.F16, (2,))
    outer = "x" if name == "loop" else "a"
    found = problems(graph)
    assert f"{name}: s of subgraph body is f16[2], but {outer} is f32[2]" in found
    assert any(t.startswith(f"{name}: u of subgraph body is f16[2], but z is f32[") for t in found)
    body.add_input("extra", None)
    count = len(body.inputs)
    expected = f"{name}: subgraph body has {count} inputs, the operation gives it {count - 1}"
    assert expected in problems(graph)
