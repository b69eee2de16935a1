"""How products are written, and what the kernel tables make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

import optc
from helpers import graph_from_text
from helpers.one_op import ELEMENT, SPECS, build
from optc.numerics.planned import plan_node
from optc.numerics.written import written
from optc.targets import load_target
from optc.targets.loading import RUNTIME_NAMES, shipped_kernels

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph, Node
    from optc.targets.kernels import Route

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "ConvInteger", "MatMulInteger")
QDQ = ("qdq", "qdq-pair", "weight-only")


def cases() -> list[tuple[str, Route, str]]:
    return [
        (runtime, route, op)
        for runtime in RUNTIME_NAMES
        for route in shipped_kernels(runtime).routes
        for op in route.ops
        if op in PRODUCTS and op in SPECS and route.form in QDQ and route.activation in ELEMENT
    ]


def typed(model: onnx.ModelProto, path: Path) -> Graph:
    onnx.save(model, path)
    return optc.run_passes(optc.load_model(path), ["infer-shapes"]).graph


@pytest.mark.parametrize(
    ("runtime", "route", "op"),
    [pytest.param(*case, id=f"{case[0]}-{case[2]}-{case[1].spelling}") for case in cases()],
)
def test_a_model_built_from_a_route_is_recognized_as_it(
    runtime: str, route: Route, op: str, tmp_path: Path
) -> None:
    zero = "asymmetric" if route.zero_point == "any" else route.zero_point
    graph = typed(build(route, op, zero), tmp_path / "m.onnx")
    (node,) = (node for node in graph.nodes() if node.op_type == op)
    found = written(graph, node)
    assert found is not None
    assert (found.op, found.form, found.activation) == (op, route.form, route.activation)
    assert route.weight in (None, found.weight)
    assert route.output in (None, found.output)
    if route.form != "weight-only":
        assert found.zero_point == zero
    assert (found.weight_zero_point == "asymmetric") == (route.weight_zero_point == "asymmetric")
    table = shipped_kernels(runtime)
    assert table.find(
        op,
        found.form,
        found.activation,
        found.weight,
        found.output,
        found.zero_point,
        weight_zero_point=found.weight_zero_point,
    ) in (route, *(other for other in table.routes if other.form == found.form))


RELU = """
g (float[1,4] x) => (float[1,1] y)
<int8[4,1] w = {{1, 1, 1, 1}}, float s = {{1}}, uint8 z = {{{zero}}}, int8 n = {{0}}>
{{
  q = QuantizeLinear (x, s, z)
  a = DequantizeLinear (q, s, z)
  b = DequantizeLinear (w, s, n)
  m = MatMul (a, b)
  r = Relu (m)
  p = QuantizeLinear (r, s, z)
  y = DequantizeLinear (p, s, z)
}}
"""


def product(graph: Graph) -> Node:
    return next(node for node in graph.nodes() if node.op_type == "MatMul")


@pytest.mark.parametrize(("zero", "form"), [(0, "qdq"), (7, "qdq-relu")])
def test_a_relu_is_absorbed_by_a_zero_point_at_the_lowest_value(zero: int, form: str) -> None:
    graph = graph_from_text(RELU.format(zero=zero))
    optc_graph = optc.run_passes(graph, ["infer-shapes"]).graph
    found = written(optc_graph, product(optc_graph))
    assert found is not None
    assert found.form == form
    assert found.output == "u8"


def test_plain_products() -> None:
    graph = graph_from_text(
        """
        g (float[4,4] x, float[4,4] v) => (float[4,4] y) { a = MatMul (x, v)  y = Neg (a) }
        """
    )
    found = written(graph, product(graph))
    assert found is not None
    assert found.spelling == "pair of f32"
    assert written(graph, next(n for n in graph.nodes() if n.op_type == "Neg")) is None


def test_the_plan_says_what_stands_in_the_way() -> None:
    """u8 weights: int8 on onnxruntime, slowly; fp32 on OpenVINO."""
    text = RELU.format(zero=0).replace("int8[4,1] w", "uint8[4,1] w").replace("int8 n", "uint8 n")
    graph = optc.run_passes(graph_from_text(text), ["infer-shapes"]).graph
    clx = load_target("cascadelake").capabilities
    ort = plan_node(graph, product(graph), shipped_kernels("onnxruntime"), clx)
    assert (ort.precision, ort.expected, ort.obstacle) == ("int8", "int8", "")
    ov = plan_node(graph, product(graph), shipped_kernels("openvino"), clx)
    assert (ov.precision, ov.expected) == ("int8", "fp32")
    assert ov.obstacle.startswith("as qdq of lowest u8 x asymmetric u8 -> u8 it is converted")


def test_the_plan_names_the_kernel_of_the_target() -> None:
    graph = optc.run_passes(graph_from_text(RELU.format(zero=0)), ["infer-shapes"]).graph
    table = shipped_kernels("openvino")
    isas = {
        name: plan_node(graph, product(graph), table, load_target(name).capabilities).isa
        for name in ("skylake", "cascadelake", "sapphirerapids")
    }
    assert isas == {
        "skylake": "avx512",
        "cascadelake": "avx512_vnni",
        "sapphirerapids": "amx_int8",
    }


CONVOLUTION = """
g (float[1,1,8,8] x) => (float[1,16,8,8] y)
<int8[16,1,1,1] w = {ONES}, float s = {1}, uint8 z = {7}, float[16] v = {ONES},
 int8[16] n = {NUMBERS}>
{
  q = QuantizeLinear (x, s, z)
  a = DequantizeLinear (q, s, z)
  b = DequantizeLinear <axis = 0> (w, v, n)
  c = Conv (a, b)
  p = QuantizeLinear (c, s, z)
  y = DequantizeLinear (p, s, z)
}
"""


@pytest.mark.parametrize(
    ("numbers", "spelling", "isa"),
    [
        ([0] * 16, "qdq of asymmetric u8 x s8 -> u8", "avx512_vnni"),
        ([-1] * 16, "qdq of asymmetric u8 x asymmetric s8 -> u8", "amx_int8"),
        ([*range(16)], "qdq of asymmetric u8 x asymmetric s8 -> u8", "amx_int8"),
    ],
)
def test_zero_points_of_weights_decide_the_kernel_of_a_convolution(
    numbers: list[int], spelling: str, isa: str
) -> None:
    text = CONVOLUTION.replace("NUMBERS", ", ".join(map(str, numbers)))
    graph = graph_from_text(text.replace("ONES", ", ".join("1" * 16)))
    graph = optc.run_passes(graph, ["infer-shapes"]).graph
    node = next(node for node in graph.nodes() if node.op_type == "Conv")
    found = written(graph, node)
    assert found is not None
    assert found.spelling == spelling
    table, spr = shipped_kernels("onnxruntime"), load_target("sapphirerapids").capabilities
    assert plan_node(graph, node, table, spr).isa == isa
    known = plan_node(graph, node, shipped_kernels("openvino"), spr).isa
    assert known == "amx_int8"  # all zero points go by one route there


def test_a_hint_is_a_plan_for_fp32_operations() -> None:
    graph = graph_from_text(
        "g (float[4,4] x, float[4,4] v) => (float[4,4] y) { y = MatMul (x, v) }"
    )
    table = shipped_kernels("openvino")
    spr = load_target("sapphirerapids").capabilities
    found = plan_node(graph, product(graph), table, spr, hint="bf16")
    assert (found.precision, found.expected, found.isa) == ("bf16", "bf16", "amx_bf16")
