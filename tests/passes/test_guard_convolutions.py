"""guard-convolutions: the scale of an int8 convolution stays out of one of several uses."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.emit.openvino import save_ir
from optc.ir import Graph, clone
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions
from optc.passes import InferShapes, PassContext
from optc.passes.guard_convolutions import GuardConvolutions
from optc.targets import host_capabilities

if TYPE_CHECKING:
    from pathlib import Path


QUANTIZED = "cq = QuantizeLinear (c, cs, cz)  y = DequantizeLinear (cq, cs, cz)"
SIZES = "sizes = Constant <value = float[4] {1, 1, 2, 2}> ()"
# What OpenVINO computes wrong without a guard, by what uses the result c of the convolution.
WRONG = {
    "quantized": (QUANTIZED, "o = Sigmoid (c)"),
    "squeeze-and-excitation": ("p = GlobalAveragePool (c)  y = Mul (c, p)", "o = Sigmoid (y)"),
    "relu": ("y = Relu (c)", "o = Sigmoid (c)"),
    "resize": (
        f'{SIZES}  y = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",'
        ' nearest_mode = "floor"> (c, , sizes)',
        "o = Sigmoid (c)",
    ),
    "max pool": ("y = MaxPool <kernel_shape = [2, 2]> (c)", "o = Neg (c)"),
    "scaled": ("m = Mul (c, cs)  y = Relu (m)", "o = Sigmoid (m)"),
    "moved": (
        "m = Transpose <perm = [0, 1, 3, 2]> (c)  " + QUANTIZED.replace("(c,", "(m,"),
        "o = Sigmoid (m)",
    ),
}


def model(
    second: str = "o = Sigmoid (c)",
    *,
    first: str = QUANTIZED,
    op: str = "Conv",
    bias: str = "",
    size: str = "H",
    opset: int = 13,
    tail: str = "",
) -> Graph:
    numbers = np.random.default_rng(0).integers(-127, 128, 16 * 8)
    shape = "16,8,1,1" if op == "Conv" else "8,16,1,1"
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,8,{size},15] x) => (float[N,16,A,B] y, float[N,16,C,D] o)
        <int8[{shape}] q = {{{",".join(map(str, numbers))}}}, float xs = {{0.02}}, uint8 xz = {{0}},
         float s = {{0.03}}, int8 z = {{0}}, float cs = {{0.4}}, uint8 cz = {{133}},
         float[16] b = {{{bias or "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"}}}>
        {{
            xq = QuantizeLinear (x, xs, xz)
            xd = DequantizeLinear (xq, xs, xz)
            w = DequantizeLinear (q, s, z)
            c = {op} (xd, w{", b" if bias else ""})
            {first}
            {second}
        }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("opset", [10, 13])
def test_a_result_that_is_used_twice_is_guarded(op: str, opset: int) -> None:
    graph = model(op=op, opset=opset)
    source = clone(graph)
    result = run_pass(GuardConvolutions(), graph)
    assert dict(result.counts) == {"guard-convolution": 1}
    (clip,) = (node for node in graph.ordered() if node.is_op("Clip"))
    assert clip.output.name == "c"
    feeds = seeded(source, size=2)
    expected = run(source, feeds)
    for name, found in run(graph, feeds).items():
        np.testing.assert_array_equal(found, expected[name])


@pytest.mark.parametrize(
    "options",
    [
        {"second": "o = Identity (y)"},
        {"second": "o = QuantizeLinear (c, s, cz)"},
        {"bias": "1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"},
        {"size": "15", "second": "o = Sigmoid (c)"},
        {"first": "y = Relu (c)", "second": "o = Sigmoid (y)"},
    ],
)
def test_others_stay(options: dict[str, str]) -> None:
    graph = model(**options)  # type: ignore[arg-type]
    if options.get("size"):
        graph = _static(graph)
    result = run_pass(GuardConvolutions(), graph)
    assert not result.changed


def _static(graph: Graph) -> Graph:
    from optc.ir import TensorType

    (data,) = (value for value in graph.inputs if value.name == "x")
    assert isinstance(data.type, TensorType)
    graph.set_type(data, TensorType(data.type.dtype, (1, 8, 15, 15)))
    InferShapes().apply(graph, PassContext())
    return graph


def test_a_float_convolution_stays() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[N,8,H,15] x, float[4,8,1,1] w) => (float[N,4,A,B] y, uint8[N,4,C,D] o)
        <float cs = {0.4}, uint8 cz = {133}>
        { c = Conv (x, w)  o = QuantizeLinear (c, cs, cz)  y = Sigmoid (c) }
        """
    )
    InferShapes().apply(graph, PassContext())
    assert not run_pass(GuardConvolutions(), graph).changed


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("bias", ["", "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"])
@pytest.mark.parametrize(("first", "second"), WRONG.values(), ids=WRONG)
def test_openvino_computes_right_what_was_wrong(
    first: str, second: str, op: str, bias: str, tmp_path: Path
) -> None:
    def error(graph: Graph, name: str) -> float:
        save_ir(graph, tmp_path / f"{name}.xml")
        feeds = seeded(graph, size=3)
        engine = open_engine(tmp_path / f"{name}.xml", LaunchOptions.default("openvino"))
        found, exact = engine.run(feeds), run(graph, feeds)
        return max(
            float(np.sqrt(np.square(np.asarray(found[n]) - e).mean() / np.square(e).mean()))
            for n, e in exact.items()
        )

    graph = model(second, first=first, op=op, bias=bias)
    wrong = error(graph, "wrong")
    assert GuardConvolutions().apply(graph, PassContext()).changed
    assert error(graph, "mended") < 0.02
    # Where it was measured in all versions: without AVX-512 a ConvTranspose is not in int8, and
    # OpenVINO 2025.4 moves no scale past a Transpose.
    here = first == QUANTIZED if "avx512" in host_capabilities() else op == "Conv"
    if here and "Transpose" not in first:
        assert wrong > 0.02
