"""The table of op knowledge against the operator schemas, and the queries on it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from onnx import defs

from helpers import graph_from_text
from optc.ir import Attr, AttrKind, DType, Graph, Kind, Node, Tensor, TensorType, ops
from optc.ir.ops import OPS, UNKNOWN, Trait

STANDARD = {s.name for s in defs.get_all_schemas_with_history() if s.domain == ""}


def node_of(text: str, op_type: str) -> tuple[Graph, Node]:
    graph = graph_from_text(text)
    return graph, next(node for node in graph.nodes() if node.op_type == op_type)


def test_covers_every_standard_operator_of_every_version() -> None:
    assert {name for domain, name in OPS if not domain} - ops.SCHEMALESS == STANDARD - {
        "LayerNormalization"
    }


def test_every_other_row_of_an_onnx_domain_has_a_schema() -> None:
    known = {(s.domain, s.name) for s in defs.get_all_schemas_with_history()}
    rows = {key for key in OPS if key[0].startswith("ai.onnx")}
    assert rows <= known


def test_contrib_rows_are_operators_of_onnxruntime() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    contrib = {s.name for s in runtime.get_all_operator_schema() if s.domain == ops.MICROSOFT}
    assert {name for domain, name in OPS if domain == ops.MICROSOFT} <= contrib


def test_no_operator_is_listed_twice() -> None:
    listed = [(domain, name) for domain, _, names in ops._ROWS for name in names.split()]
    assert len(listed) == len(set(listed)) == len(OPS)


def test_random_agrees_with_the_determinism_that_schemas_state() -> None:
    stated = {
        s.name
        for s in defs.get_all_schemas_with_history()
        if s.domain == "" and s.node_determinism == defs.OpSchema.NodeDeterminism.NonDeterministic
    }
    bodies_decide = {row.op_type for row in OPS.values() if row.has(Trait.CONTROL_FLOW)}
    wrong = {"AffineGrid"}  # computes a grid from its operands; the schema's mark is a slip
    random = {row.op_type for row in OPS.values() if row.has(Trait.RANDOM)}
    assert stated - bodies_decide - wrong <= random
    # The operand `training_mode` decides for Dropout; Bernoulli draws samples.
    assert random - stated <= {"Dropout", "Bernoulli"}


def test_unary_operators_are_elementwise() -> None:
    assert all(row.has(Trait.ELEMENTWISE) for row in OPS.values() if row.has(Trait.UNARY))


def test_commutative_operators_take_operands_of_one_type() -> None:
    for row in OPS.values():
        if row.has(Trait.COMMUTATIVE):
            schema = ops.schema(row.op_type, "", defs.onnx_opset_version())
            assert schema is not None
            assert len({formal.type_str for formal in schema.inputs}) == 1


def test_control_flow_is_what_has_graph_attributes() -> None:
    with_graphs = {
        (s.domain, s.name)
        for s in defs.get_all_schemas_with_history()
        if any(a.type == defs.OpSchema.AttrType.GRAPH for a in s.attributes.values())
    }
    flow = {key for key, row in OPS.items() if row.has(Trait.CONTROL_FLOW)}
    assert flow == {key for key in with_graphs if key in OPS}


def test_import_does_not_load_onnx() -> None:
    code = "import sys, optc.ir.ops; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_operators_have_no_traits() -> None:
    graph = Graph("g", {"custom": 1})
    x = graph.add_input("x", None)
    node = graph.add("Frob", [x], outputs=["y"], domain="custom")
    assert ops.info(node) is UNKNOWN
    assert not UNKNOWN.known
    assert UNKNOWN.traits is Trait.NONE
    assert not ops.is_deterministic(graph, node)
    assert ops.info(x.node) is UNKNOWN


@pytest.mark.parametrize(("reduction", "moves"), [(None, True), (b"none", True), (b"add", False)])
def test_scatter_that_reduces_is_no_data_movement(reduction: bytes | None, moves: bool) -> None:
    graph = Graph("g", {"": 18})
    x = graph.add_input("x", None)
    attributes = {} if reduction is None else {"reduction": Attr(AttrKind.STRING, reduction)}
    node = graph.add("ScatterND", [x, x, x], outputs=["y"], attributes=attributes)
    assert ops.info(node).has(Trait.DATA_MOVEMENT) is moves
    assert ops.info(node).known


@pytest.mark.parametrize(
    ("opset", "attributes", "training", "deterministic"),
    [
        (6, {}, None, False),
        (6, {"is_test": Attr(AttrKind.INT, 1)}, None, True),
        (7, {}, None, True),
        (13, {}, None, True),
        (13, {}, "constant false", True),
        (13, {}, "constant true", False),
        (13, {}, "input", False),
    ],
)
def test_dropout_is_deterministic_in_inference(
    opset: int, attributes: dict[str, Attr], training: str | None, deterministic: bool
) -> None:
    graph = Graph("g", {"": opset})
    operands = [graph.add_input("x", None)]
    if training is not None:
        operands.append(graph.add_constant(Tensor.from_numpy([0.5], DType.F32), "ratio"))
    if training == "input":
        operands.append(graph.add_input("mode", TensorType(DType.BOOL, ())))
    elif training is not None:
        mode = Tensor.from_numpy(training == "constant true")
        operands.append(graph.add_constant(mode, "mode"))
    node = graph.add("Dropout", operands, outputs=["y"], attributes=attributes)
    assert ops.is_deterministic(graph, node) is deterministic


@pytest.mark.parametrize(("op", "deterministic"), [("Relu", True), ("RandomNormalLike", False)])
def test_bodies_decide_whether_control_flow_is_deterministic(op: str, deterministic: bool) -> None:
    graph, node = node_of(
        f"""
        g (bool c, float[2] x) => (float[2] y) {{
          y = If (c) <
            then_branch = t () => (float[2] a) {{ a = {op} (x) }},
            else_branch = e () => (float[2] b) {{ b = Abs (x) }}>
        }}
        """,
        "If",
    )
    assert ops.is_deterministic(graph, node) is deterministic


@pytest.mark.parametrize(("op", "deterministic"), [("Relu", True), ("RandomNormalLike", False)])
def test_bodies_decide_whether_functions_are_deterministic(op: str, deterministic: bool) -> None:
    graph, node = node_of(
        f"""
        <ir_version: 10, opset_import: ["" : 21, "d" : 1]>
        g (float[2] x) => (float[2] y) {{ y = d.outer (x) }}
        <domain: "d", opset_import: ["" : 21, "d" : 1]>
        outer (x) => (y) {{ y = d.inner (x) }}
        <domain: "d", opset_import: ["" : 21]>
        inner (x) => (y) {{ y = {op} (x) }}
        """,
        "outer",
    )
    assert ops.is_deterministic(graph, node) is deterministic
    assert not ops.info(node).known


def test_attribute_is_the_written_value_or_the_default_of_the_opset() -> None:
    graph, node = node_of(
        "g (float[1,3,8,8] x, float[4,3,3,3] w) => (y) { y = Conv (x, w) }", "Conv"
    )
    assert ops.attribute(graph, node, "group") == 1
    assert ops.attribute(graph, node, "auto_pad") == b"NOTSET"
    assert ops.attribute(graph, node, "pads") is None
    assert ops.attribute(graph, node, "nonsense") is None


@pytest.mark.parametrize(("opset", "axis"), [(12, 1), (13, -1)])
def test_defaults_follow_the_opset(opset: int, axis: int) -> None:
    graph = Graph("g", {"": opset})
    node = graph.add("Softmax", [graph.add_input("x", None)], outputs=["y"])
    assert ops.attribute(graph, node, "axis") == axis


def test_written_lists_and_defaults_are_tuples_and_floats_are_float32_values() -> None:
    graph = Graph("g", {"": 21, ops.ML: 5})
    x = graph.add_input("x", None)
    gelu = graph.add("HardSigmoid", [x], outputs=["y"])
    assert ops.attribute(graph, gelu, "alpha") == 0.20000000298023224
    rnn = graph.add("RNN", [x, x, x], outputs=["z"])
    assert ops.attribute(graph, rnn, "activations") == (b"Tanh", b"Tanh")


def test_schema_since_and_first_opset() -> None:
    assert ops.schema("Nonsense", "", 21) is None
    assert ops.schema("Gelu", "", 19) is None
    assert ops.since("Conv", 21) == 11
    assert ops.since("Conv", 22) == 22
    assert ops.since("Gelu", 19) is None
    assert ops.first_opset("Gelu") == 20
    assert ops.first_opset("Conv") == 1
    assert ops.first_opset("LabelEncoder", ops.ML) == 1
    assert ops.first_opset("Nonsense") is None
    upsample = ops.schema("Upsample", "", 10)
    assert upsample is not None
    assert upsample.deprecated


def test_info_ignores_nodes_that_are_no_operations() -> None:
    graph = Graph("g", {"": 21})
    x = graph.add_input("Relu", None)
    assert x.node.kind is Kind.INPUT
    assert not ops.info(x.node).known
