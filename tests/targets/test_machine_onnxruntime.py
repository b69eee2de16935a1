"""The kernel table of ONNX Runtime, checked on the machine that runs the tests.

Each route is built as a model of one operator; the saved optimized model shows what the session
made of it. Which instruction a kernel uses is not shown, so slow paths are told by their time.
"""

from __future__ import annotations

import importlib.metadata
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unsupported

from helpers.one_op import ELEMENT, SPECS, ZeroPoint, build
from optc.targets import detect_host, load_runtime
from optc.targets.capabilities import capabilities_of
from optc.targets.fact import version_key
from optc.targets.host import CPUINFO
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from optc.targets.kernels import Route

VERSION = importlib.metadata.version("onnxruntime")
CAPABILITIES = capabilities_of(detect_host().flags if CPUINFO.exists() else ())
NOT_BUILT = {
    "Attention": "needs opset 23, which the other models do not",
    "Split": "has several results",
    "GatherND": "moves like Gather",
    "GatherElements": "moves like Gather",
    "ScatterND": "moves like Gather",
    "ScatterElements": "moves like Gather",
    "Cast": "stands around every operator that is built in bf16",
    "Identity": "is removed by the session",
    "IsNaN": "has a boolean result",
    "IsInf": "has a boolean result",
}
ANY = {  # what stands for `*`: operators without a route of their own in these types
    ("plain", "f32"): ("Tanh", "Softmax"),
    ("plain", "bf16"): ("MatMul", "Gemm", "Conv", "Add", "Sigmoid", "Softmax", "MaxPool"),
    ("plain", "f16"): ("MatMul", "Conv", "Tanh"),
    ("qdq", "u8"): ("Sub", "Tanh", "Gelu", "ReduceMean", "LayerNormalization"),
}
_QUANTIZE = {"QuantizeLinear", "DequantizeLinear"}


def cases() -> Iterator[Any]:
    for route in shipped_kernels("onnxruntime").routes:
        ops = ANY[route.form, route.activation] if "*" in route.ops else route.ops
        if not route.holds_for(VERSION):
            continue
        for op in ops:
            for zero in zero_points(route):
                if op in SPECS:
                    yield pytest.param(route, op, zero, id=f"{op}-{route.spelling}-{zero}")


def zero_points(route: Route) -> tuple[ZeroPoint, ...]:
    if route.zero_point != "any":
        return (route.zero_point,)
    quantized = route.activation in {"u8", "s8"} and route.form != "dynamic"
    return ("symmetric", "asymmetric") if quantized else ("symmetric",)


@pytest.fixture(autouse=True)
def _described() -> None:
    """Skip where the table says nothing: other machines, older versions."""
    if "avx2" not in CAPABILITIES:
        pytest.skip("the table is about x86-64 CPUs with AVX2")
    minimum = load_runtime("onnxruntime").versions.minimum
    if version_key(VERSION) < version_key(minimum):
        pytest.skip(f"onnxruntime {VERSION} is older than {minimum}")


def session(model: onnx.ModelProto, optimized: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    content = model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def feed(model: onnx.ModelProto) -> dict[str, Any]:
    random = np.random.default_rng(1)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    return {name: random.random(shape, dtype=np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize(("route", "op", "zero"), list(cases()))
def test_the_session_makes_of_it_what_the_route_says(
    route: Route, op: str, zero: ZeroPoint, tmp_path: Path
) -> None:
    choice = route.choice(CAPABILITIES)
    if choice is None:
        pytest.skip("the CPU is below every choice of the route")
    model = build(route, op, zero)
    if choice.outcome == "rejected":
        with pytest.raises(Unsupported, match="NOT_IMPLEMENTED"):
            session(model)
        return
    saved = tmp_path / "optimized.onnx"
    session(model, saved).run(None, feed(model))
    nodes = [node.op_type for node in onnx.load(saved).graph.node]
    expected = (route.becomes or op).replace("*", op)
    # fp32 plans may fuse or drop nodes; int8 and bf16 ones are looked at closely.
    if route.activation != "f32":
        assert expected in nodes
    if choice.outcome == "native" and route.becomes is None and route.form == "qdq":
        assert set(nodes) - _QUANTIZE == {op}
        assert nodes.count("DequantizeLinear") == 1  # only the one in front of the output
    if choice.outcome == "converted" and route.form.startswith("qdq"):
        before = nodes[: nodes.index(expected)]
        assert "DequantizeLinear" in before
    if route.activation == "f16":
        assert "Cast" in nodes


def test_what_is_not_built_is_listed_with_its_reason() -> None:
    ops = {op for route in shipped_kernels("onnxruntime").routes for op in route.ops} - {"*"}
    assert ops - set(SPECS) == set(NOT_BUILT)


# ---- slow paths --------------------------------------------------------------------------------

SIZE = 384


def seconds(model: onnx.ModelProto, feeds: dict[str, Any]) -> float:
    """The best of some runs on one thread."""
    runner = session(model)
    runner.run(None, feeds)
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        runner.run(None, feeds)
        best = min(best, time.perf_counter() - start)
    return best


def product(activation: str, weight: str) -> float:
    """Time of MatMulInteger, or of MatMul for f32."""
    random = np.random.default_rng(2)
    shape = (SIZE, SIZE)

    def matrix(element: str) -> Any:
        return random.integers(0, 100, shape).astype(ELEMENT[element])

    kinds = [helper.np_dtype_to_tensor_dtype(ELEMENT[element]) for element in (activation, weight)]
    node = helper.make_node("MatMul" if activation == "f32" else "MatMulInteger", ["a", "w"], ["y"])
    result = TensorProto.FLOAT if activation == "f32" else TensorProto.INT32
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("a", kinds[0], shape)],
        [helper.make_tensor_value_info("y", result, shape)],
        [numpy_helper.from_array(matrix(weight), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return seconds(model, {"a": matrix(activation)})


def test_slow_type_pairs_are_slower_than_the_recommended_one() -> None:
    if "avx512_vnni" not in CAPABILITIES:
        pytest.skip("the CPU has no VNNI: u8 x s8 has no lead to show")
    fast = product("u8", "s8")
    # 12 to 26 and 2.5 to 4.6 times were measured; half of the least leaves room for a busy machine.
    assert product("s8", "s8") > 6 * fast
    assert product("s8", "u8") > 6 * fast
    assert product("u8", "u8") > 1.3 * fast


def test_the_reference_kernel_is_slower_than_fp32() -> None:
    if "avx512" not in CAPABILITIES or "amx_int8" in CAPABILITIES:
        pytest.skip("measured on CPUs with AVX-512 and without AMX")
    # 3 to 5 times were measured.
    assert product("s8", "s8") > 1.5 * product("f32", "f32")
