"""What a precision hint leaves in fp32 behind the last products, and plans that know of it."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import pytest

import optc
from helpers import graph_from_text
from optc.ir import DType, TensorType
from optc.passes import AssignPrecision, InferShapes, PassContext
from optc.passes.precision_tail import hint_tail
from optc.targets import host_capabilities, load_runtime

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph

OPENVINO = load_runtime("openvino")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

DETECTOR = """
g (float[1,64,64,64] x, float[64,64,3,3] w, float[64,64,2,2] u) => (float[1,64,126,126] y) {
  [first] a = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (x, u)
  [conv] b = Conv <kernel_shape = [3, 3], strides = [2, 2]> (a, w)
  [relu] c = Relu (b)
  [last] d = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (c, u)
  [sigmoid] y = Sigmoid (d)
}
"""


def graph(body: str, outputs: str = "y") -> Graph:
    text = f"g (float[64,64] x, float[64,64] w) => ({outputs}) {{ {body} }}"
    return typed(graph_from_text(text))


def typed(made: Graph) -> Graph:
    InferShapes().apply(made, PassContext())
    return made


def names(made: Graph, runtime: str = "openvino") -> list[str]:
    return sorted(node.name for node in hint_tail(made, load_runtime(runtime)) if node.name)


CASES = {
    "behind a product": ("[p] a = MatMul(x, w)  [e] y = Exp(a)", ["e"]),
    "a product itself": ("[n] a = Neg(x)  [p] y = MatMul(a, w)", []),
    "a way around the product": (
        "[n] a = Neg(x)  [p] b = MatMul(a, w)  [s] y = Add(a, b)",
        ["n", "s"],
    ),
    "without a product": ("[n] a = Neg(x)  [e] y = Exp(a)", ["e", "n"]),
    "before another output": ("[n] z = Neg(x)  [p] y = MatMul(z, w)", ["n"]),
    "integers": ("[p] a = MatMul(x, w)  [m] y = ArgMax<axis = 1>(a)", []),
}


@pytest.mark.parametrize(("body", "expected"), CASES.values(), ids=CASES)
def test_the_tail_ends_at_products(body: str, expected: list[str]) -> None:
    assert names(graph(body, "y, z" if "z =" in body else "y")) == expected


def test_a_convolution_ends_it_and_a_transposed_one_does_not() -> None:
    assert names(typed(graph_from_text(DETECTOR))) == ["last", "relu", "sigmoid"]


def test_a_runtime_without_a_hint_has_none() -> None:
    assert names(graph(CASES["behind a product"][0]), "onnxruntime") == []


def test_what_is_computed_inside_of_subgraphs_is_reached_through_what_they_capture() -> None:
    body = """[n] a = Neg(x)  c = Constant<value = bool {1}>()
        [i] y = If(c) <
            then_branch = t () => (p) { p = Identity(a) },
            else_branch = e () => (q) { q = Identity(x) }
        >"""
    assert names(graph(body)) == ["i", "n"]


def decided(made: Graph, *, by_hint: bool, **options: Any) -> dict[str, Any]:
    context = PassContext("sapphirerapids", "openvino", by_hint=by_hint)
    asked = AssignPrecision.Options.model_validate(options)
    found = AssignPrecision(asked).apply(made, context).decisions
    return {decision.node: decision for decision in found}


def test_plans_follow_the_hint_where_nothing_else_tells_the_runtime() -> None:
    stated, left = (decided(typed(graph_from_text(DETECTOR)), by_hint=b) for b in (False, True))
    assert {stated[name].precision for name in ("first", "conv", "relu", "last")} == {"bf16"}
    assert {name for name, d in left.items() if d.precision == "bf16"} == {"first", "conv"}
    assert left["last"].rule == "hint"
    assert "behind its last products a model stays fp32" in left["last"].reason


def test_a_recipe_cannot_ask_for_what_the_hint_does_not_do() -> None:
    found = decided(typed(graph_from_text(DETECTOR)), by_hint=True, allow=["ConvTranspose"])
    assert (found["first"].precision, found["last"].precision) == ("bf16", "fp32")


def test_an_output_in_bf16_has_no_tail() -> None:
    made = graph(CASES["behind a product"][0])
    value = made.operand(made.outputs[0], 0)
    assert value is not None
    made.set_type(value, TensorType(DType.BF16, (64, 64)))
    assert hint_tail(made, OPENVINO) == frozenset()


@needs_openvino
def test_the_file_has_no_marks_there_and_the_report_says_fp32(tmp_path: Path) -> None:
    found, marked = compiled(tmp_path, "implicit")
    assert found["precision"] == {
        "Conv": {"bf16": 1},
        "ConvTranspose": {"bf16": 1, "fp32": 1},
        "Relu": {"fp32": 1},
        "Sigmoid": {"fp32": 1},
    }
    assert marked == 0


@needs_openvino
def test_types_that_are_stated_reach_the_outputs(tmp_path: Path) -> None:
    assert compiled(tmp_path, "explicit")[0]["precision"]["ConvTranspose"] == {"bf16": 2}


def compiled(folder: Path, form: str) -> tuple[dict[str, Any], int]:
    """The report of the detector, and how many marks its file has."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 22]> {DETECTOR}')
    drawn = np.random.default_rng(0)
    for name, shape in (("w", (64, 64, 3, 3)), ("u", (64, 64, 2, 2))):
        weights = drawn.normal(0, 0.05, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
        del proto.graph.input[1]
    onnx.save(proto, folder / "m.onnx")
    recipe = {
        "schema_version": 1,
        "model": str(folder / "m.onnx"),
        "targets": ["sapphirerapids"],
        "runtime": "openvino",
        "pipeline": ["infer-shapes", "cast-bf16"],
        "emit": {"format": "openvino", "bf16": form},
    }
    optc.compile(recipe, output=folder / "out")
    place = folder / "out" / "sapphirerapids"
    report = json.loads((place / "report.json").read_text())
    return report, (place / "model.xml").read_text().count('name="precise"')


@needs_openvino
@pytest.mark.skipif("avx512" not in host_capabilities(), reason="OpenVINO has no bf16 on this CPU")
def test_openvino_leaves_the_tail_in_fp32(tmp_path: Path) -> None:
    import openvino as ov

    compiled(tmp_path, "implicit")
    file = tmp_path / "out" / "sapphirerapids" / "model.xml"
    model = ov.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    ran = {
        label: info["runtimePrecision"].value
        for node in model.get_runtime_model().get_ordered_ops()
        if (info := node.get_rt_info())["layerType"].value in ("Convolution", "Deconvolution")
        for label in info["originalLayersNames"].value.split(",")
    }
    assert (ran["conv"], ran["last"]) == ("bf16", "f32")


STATED = """
<ir_version: 10, opset_import: ["" : 22]>
g (float[16,16] x, bfloat16[16,16] v) => (float[16,16] y) {
  [in] a = Cast <to = 16> (x)
  BODY
  [relu] r = Relu (p)
  y = Cast <to = 1> (r)
}
"""


@needs_openvino
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("[prod] p = MatMul (a, v)", {"MatMul": {"bf16": 1}, "Relu": {"fp32": 1}}),
        ("[sum] p = Add (a, v)", {"Add": {"fp32": 1}, "Relu": {"fp32": 1}}),
    ],
)
def test_what_a_model_states_in_bf16_is_reported_as_the_hint_computes_it(
    body: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    proto = onnx.parser.parse_model(STATED.replace("BODY", body))
    weights = np.random.default_rng(0).standard_normal((16, 16))
    raw = weights.astype(DType.BF16.numpy).tobytes()
    kind = onnx.TensorProto.BFLOAT16
    proto.graph.initializer.append(onnx.helper.make_tensor("v", kind, (16, 16), raw, raw=True))
    del proto.graph.input[1]
    onnx.save(proto, tmp_path / "m.onnx")
    recipe = {
        "schema_version": 1,
        "model": str(tmp_path / "m.onnx"),
        "targets": ["sapphirerapids"],
        "runtime": "openvino",
        "pipeline": ["infer-shapes"],
        "emit": {"format": "openvino"},
    }
    optc.compile(recipe, output=tmp_path / "out")
    place = tmp_path / "out" / "sapphirerapids"
    assert json.loads((place / "report.json").read_text())["precision"] == expected
    assert 'name="precise"' not in (place / "model.xml").read_text()
