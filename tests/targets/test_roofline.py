"""A model on the roofline of a target: counts by hand, bounds, unknowns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from helpers import graph_from_text
from optc.errors import TargetError
from optc.numerics.roofline import NodeCost, Roofline, roofline
from optc.numerics.traffic import precision, traffic
from optc.passes import InferShapes
from optc.passes.base import PassContext
from optc.targets import load_runtime, load_target
from optc.targets.model import Target

if TYPE_CHECKING:
    from optc.ir import Graph

MATMUL = """
one (float[64, 256] x, float[256, 512] w) => (float[64, 512] y) {
    y = MatMul (x, w)
}
"""
QDQ = """
one (float[64, 256] x, int8[256, 512] w, float s, uint8 z, float t, int8 u)
=> (float[64, 512] y) {
    xq = QuantizeLinear (x, s, z)
    xd = DequantizeLinear (xq, s, z)
    wd = DequantizeLinear (w, t, u)
    m = MatMul (xd, wd)
    yq = QuantizeLinear (m, s, z)
    y = DequantizeLinear (yq, s, z)
}
"""


def graph(text: str) -> Graph:
    model = graph_from_text(text)
    InferShapes().apply(model, PassContext())
    return model


def known(name: str, **frequency: float) -> Target:
    data = load_target(name).model_dump()
    for key, value in frequency.items():
        data["frequency"][key] = {"value": value, "source": "a data sheet", "confidence": "high"}
    return Target.model_validate(data)


def node(result: Roofline, op: str) -> NodeCost:
    return next(entry for entry in result.nodes if entry.op == op)


def test_a_product_is_counted_as_by_hand() -> None:
    result = roofline(graph(MATMUL), load_target("clx"), cores=2, ghz=2.0)
    (cost,) = result.nodes
    macs = 64 * 256 * 512
    moved = 4 * (64 * 256 + 256 * 512 + 64 * 512)
    assert (cost.macs, cost.bytes) == (macs, moved)
    assert cost.intensity == pytest.approx(2 * macs / moved)
    assert cost.path == "fp32_avx512"
    assert cost.cycles == pytest.approx(2 * macs / (64 * 2))
    assert cost.compute_seconds == pytest.approx(2 * macs / (64 * 2) / 2.0e9)
    # 140.8 GB/s of a socket, of which STREAM reaches 78 %.
    assert cost.memory_seconds == pytest.approx(moved / (140.8e9 * 0.78))
    assert cost.bound == "compute"
    assert result.seconds == cost.seconds == cost.compute_seconds
    assert (result.macs, result.bytes) == (macs, moved)


def test_one_row_is_bound_by_memory() -> None:
    text = MATMUL.replace("float[64, 256] x", "float[1, 256] x").replace(
        "float[64, 512] y", "float[1, 512] y"
    )
    result = roofline(graph(text), load_target("spr"), cores=4, ghz=2.0)
    assert result.nodes[0].bound == "memory"
    assert result.seconds == result.nodes[0].memory_seconds


def test_without_a_clock_there_are_cycles_and_the_clock_that_decides() -> None:
    result = roofline(graph(MATMUL), load_target("clx"), cores=2)
    (cost,) = result.nodes
    assert cost.cycles is not None
    assert cost.cycles == pytest.approx(2 * 64 * 256 * 512 / 128)
    assert cost.compute_seconds is None
    assert cost.seconds is None
    assert cost.bound is None
    assert cost.memory_seconds is not None
    assert cost.memory_bound_above_ghz == pytest.approx(cost.cycles / cost.memory_seconds / 1e9)
    assert not result.has_clock
    assert result.seconds is None
    above = roofline(graph(MATMUL), load_target("clx"), cores=2, ghz=cost.memory_bound_above_ghz)
    assert above.nodes[0].compute_seconds == pytest.approx(above.nodes[0].memory_seconds)


def test_the_clock_of_the_descriptor_is_taken_when_it_has_one() -> None:
    result = roofline(graph(MATMUL), known("clx", avx512_ghz=2.5))
    assert result.has_clock
    assert result.nodes[0].compute_seconds == pytest.approx(2 * 64 * 256 * 512 / 64 / 2.5e9)


def test_quantization_around_an_operator_makes_it_int8_and_its_bytes_small() -> None:
    model = graph(QDQ)
    result = roofline(model, load_target("clx"), ghz=2.0)
    cost = node(result, "MatMul")
    assert cost.precision == "int8"
    assert cost.path == "int8_vnni"
    assert cost.bytes == 64 * 256 + 256 * 512 + 64 * 512
    quantizes = [entry.bytes for entry in result.nodes if entry.op == "QuantizeLinear"]
    # The one at the input reads fp32; the one behind the product is part of it.
    assert quantizes == [64 * 256 * 5 + 4 + 1, 0]
    dequantizes = [entry.bytes for entry in result.nodes if entry.op == "DequantizeLinear"]
    # Only the one in front of the output writes anything.
    assert dequantizes == [0, 0, 64 * 512 * 4]


def test_a_runtime_takes_the_path_of_its_kernel() -> None:
    target = load_target("spr")
    text = """
    one (float[1, 16, 8, 8] x, float[16, 16, 1, 1] w) => (float[1, 16, 8, 8] y) {
        y = Conv (x, w)
    }
    """
    free = roofline(graph(text), target, ghz=2.0)
    bound = roofline(graph(text), target, runtime=load_runtime("openvino"), ghz=2.0)
    assert node(free, "Conv").path == node(bound, "Conv").path == "fp32_avx512"
    # The best int8 path of the CPU is AMX, the product of ONNX Runtime reaches it as well.
    assert node(roofline(graph(QDQ), target), "MatMul").path == "int8_amx"
    engine = load_runtime("onnxruntime")
    assert node(roofline(graph(QDQ), target, runtime=engine), "MatMul").path == "int8_amx"


def test_what_the_runtime_does_not_compute_is_remarked_and_unknown() -> None:
    text = MATMUL.replace("float[", "bfloat16[")
    result = roofline(graph(text), load_target("spr"), runtime=load_runtime("onnxruntime"), ghz=2.0)
    assert result.nodes[0].path is None
    assert result.nodes[0].compute_seconds is None
    assert result.remarks[0].startswith(
        "MatMul in bf16 on sapphirerapids with onnxruntime: as plain"
    )
    native = roofline(graph(text), load_target("spr"), runtime=load_runtime("openvino"), ghz=2.0)
    assert native.nodes[0].path == "bf16_amx"
    lacking = roofline(graph(text), load_target("clx"), ghz=2.0)
    assert lacking.remarks[0] == "MatMul in bf16: cascadelake has no path for it"


def test_what_is_converted_is_computed_in_fp32() -> None:
    text = MATMUL.replace("float[", "float16[")
    result = roofline(graph(text), load_target("spr"), runtime=load_runtime("onnxruntime"), ghz=2.0)
    assert result.nodes[0].path == "fp32_avx512"
    assert "converted and computed in another type" in result.remarks[0]


def test_unknown_shapes_are_named_and_count_nothing() -> None:
    text = MATMUL.replace("float[64, 256] x", "float[N, 256] x").replace(
        "float[64, 512]", "float[N, 512]"
    )
    result = roofline(graph(text), load_target("clx"), ghz=2.0)
    assert result.nodes[0].macs is None
    assert result.nodes[0].intensity is None
    assert result.macs == 0
    assert result.remarks[0] == "1 operations have unknown shapes and count nothing: MatMul"


def test_views_move_nothing_and_elementwise_operators_are_bound_by_memory() -> None:
    text = """
    one (float[8, 64] x) => (float[512] y) {
        a = Relu (x)
        shape = Constant <value_ints = [512]> ()
        y = Reshape (a, shape)
    }
    """
    result = roofline(graph(text), load_target("clx"), ghz=2.0)
    assert node(result, "Relu").bound == "memory"
    assert node(result, "Relu").bytes == 2 * 8 * 64 * 4
    assert node(result, "Reshape").bytes == 0
    assert node(result, "Reshape").bound is None


def test_weights_that_fit_the_caches_are_remarked() -> None:
    text = """
    one (float[4, 2] x) => (float[4, 2] y) <float[2, 2] w = {1.0, 2.0, 3.0, 4.0}> {
        y = MatMul (x, w)
    }
    """
    result = roofline(graph(text), load_target("clx"), ghz=2.0)
    assert result.remarks == (
        "the weights (0.0 MiB) fit into the caches of 1 core (2.4 MiB): repeated runs need less "
        "memory traffic than counted",
    )


def test_cores_of_two_sockets_have_the_bandwidth_of_both() -> None:
    one = roofline(graph(MATMUL), load_target("spr"), cores=60, ghz=2.0)
    two = roofline(graph(MATMUL), load_target("spr"), cores=61, ghz=2.0)
    assert one.bandwidth_gbps == pytest.approx(307.2 * 0.78)
    assert two.bandwidth_gbps == pytest.approx(2 * 307.2 * 0.78)


@pytest.mark.parametrize(("cores", "ghz"), [(0, 2.0), (1, 0.0)])
def test_cores_and_clock_must_be_positive(cores: int, ghz: float) -> None:
    with pytest.raises(TargetError, match="cores and clock must be positive"):
        roofline(graph(MATMUL), load_target("clx"), cores=cores, ghz=ghz)


def test_bodies_count_once_and_are_remarked() -> None:
    text = """
    one (bool c, float[4, 8] x) => (float[4, 8] y) {
        y = If (c) <
            then_branch = yes () => (float[4, 8] a) { a = Relu (x) },
            else_branch = no () => (float[4, 8] b) { b = Tanh (x) }
        >
    }
    """
    result = roofline(graph(text), load_target("clx"), ghz=2.0)
    assert {entry.op for entry in result.nodes} == {"If", "Relu", "Tanh"}
    assert "bodies of loops and branches count once" in result.remarks


def test_integer_arithmetic_has_no_precision() -> None:
    model = graph("one (int64[4] x) => (int64[4] y) { y = Add (x, x) }")
    (operation,) = model.nodes()
    assert precision(model, operation) is None
    assert traffic(model, operation) == 3 * 4 * 8


def test_everything_is_data_as_well() -> None:
    data: dict[str, Any] = roofline(graph(MATMUL), load_target("clx"), cores=2).to_dict()
    assert data["cores"] == 2
    assert data["seconds"] is None
    assert data["nodes"][0]["memory_bound_above_ghz"] > 0
    assert data["peaks"][0]["path"] == "fp32_avx512"
