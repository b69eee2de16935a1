"""pad-kernels: kernels that a runtime computes wrongly get another column of zeros."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.emit.onnx import save_model
from optc.ir import Graph, clone
from optc.ir.shape_site import shape_of
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions
from optc.passes import InferShapes, PassContext
from optc.passes.pad_kernels import PadKernels
from optc.targets import host_capabilities

if TYPE_CHECKING:
    from pathlib import Path

WRONG = {
    1: [(4, 32), (8, 24), (12, 16), (16, 8), (20, 16), (28, 16)],
    2: [(2, 32), (6, 16), (8, 8)],
}
"""Channels and widths that go wrong, by bytes of an element."""

RIGHT = {
    1: [(16, 4), (16, 7), (16, 9), (15, 64), (32, 8), (2, 64), (24, 10)],
    2: [(8, 4), (8, 7), (3, 64), (16, 8), (6, 12)],
}


def model(
    channels: int, width: int, size: int = 1, attributes: str = "pads = [0,3,0,5]", zero: int = 0
) -> Graph:
    """A convolution of 4 outputs, quantized where an element has one byte."""
    count = 4 * channels * width
    numbers = np.random.default_rng(0).integers(-9, 10, count)
    shape = f"4,{channels},1,{width}"
    if size == 2:
        weight = f"<float[{shape}] w = {{{','.join(str(0.125 * n) for n in numbers)}}}>"
        body = f"y = Conv <{attributes}> (x, w)"
    else:
        weight = f"""<int8[{shape}] q = {{{",".join(map(str, numbers))}}}, float xs = {{0.02}},
            uint8 xz = {{7}}, float[4] s = {{0.1, 0.2, 0.3, 0.4}},
            int8[4] z = {{{zero}, 0, 0, 0}}>"""
        body = f"""
            xq = QuantizeLinear (x, xs, xz)
            xd = DequantizeLinear (xq, xs, xz)
            w = DequantizeLinear <axis = 0> (q, s, z)
            y = Conv <{attributes}> (xd, w)"""
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[2,{channels},3,80] x) => (float[2,4,H,W] y)
        {weight}
        {{ {body} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


def width_of(graph: Graph) -> int:
    InferShapes().apply(graph, PassContext())
    (conv,) = (node for node in graph.ordered() if node.is_op("Conv"))
    weight = graph.operand(conv, 1)
    shape = None if weight is None else shape_of(graph, weight)
    assert shape is not None
    assert isinstance(shape[-1], int)
    return shape[-1]


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize(
    "attributes",
    ["pads = [0,3,0,5]", "kernel_shape = [1, 16], pads = [1,0,1,0], strides = [2,3]", "group = 1"],
)
@pytest.mark.parametrize("zero", [0, 3])
def test_the_result_is_the_same(size: int, attributes: str, zero: int) -> None:
    graph = model(8, 16, size, attributes, zero)
    source = clone(graph)
    result = run_pass(PadKernels(), graph)
    assert dict(result.counts) == {"pad-kernel": 1}
    assert width_of(graph) == 17
    feeds = seeded(source)
    # Sums of 128 products, which a kernel may add up in another order.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=1e-5, strict=True
    )


@pytest.mark.parametrize("size", [1, 2])
def test_only_what_goes_wrong_is_padded(size: int) -> None:
    for shapes, count in ((WRONG, 1), (RIGHT, 0)):
        for channels, width in shapes[size]:
            result = run_pass(PadKernels(), model(channels, width, size))
            assert sum(result.counts.values()) == count, (channels, width)


def test_a_dilated_kernel_stays() -> None:
    assert not run_pass(PadKernels(), model(8, 16, 1, "dilations = [1,2]")).changed


def test_refuses_automatic_padding() -> None:
    result = run_pass(PadKernels(), model(8, 16, 1, 'auto_pad = "SAME_UPPER"'))
    assert not result.changed
    assert [refusal.reason for refusal in result.refusals] == ["it pads by auto_pad SAME_UPPER"]


def test_refuses_weights_that_are_computed() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[2,8,3,80] x, float[4,8,1,16] v) => (float[2,4,H,W] y)
        { w = Relu (v)  y = Conv (x, w) }
        """
    )
    InferShapes().apply(graph, PassContext())
    result = run_pass(PadKernels(), graph)
    assert not result.changed
    assert [refusal.reason for refusal in result.refusals] == ["its weights are not constant"]


@pytest.mark.skipif(
    "amx_int8" not in host_capabilities() or importlib.util.find_spec("openvino") is None,
    reason="kernels for AMX",
)
@pytest.mark.parametrize("size", [1, 2])
def test_openvino_computes_right_what_was_wrong(size: int, tmp_path: Path) -> None:
    """Nothing is padded in vain, and nothing that is not padded is wrong."""

    def error(graph: Graph, name: str) -> float:
        options = LaunchOptions.default("openvino")
        if size == 2:
            hint = {**options.properties, "INFERENCE_PRECISION_HINT": "bf16"}
            options = options.model_copy(update={"properties": hint})
        save_model(graph, tmp_path / f"{name}.onnx")
        feeds = seeded(graph)
        found = np.asarray(open_engine(tmp_path / f"{name}.onnx", options).run(feeds)["y"])
        exact = run(graph, feeds)["y"]
        return float(np.sqrt(np.square(found - exact).mean() / np.square(exact).mean()))

    for index, (channels, width) in enumerate(WRONG[size]):
        graph = model(channels, width, size)
        assert error(graph, f"wrong{index}") > 0.1
        PadKernels().apply(graph, PassContext())
        assert error(graph, f"mended{index}") < 0.01
    for index, (channels, width) in enumerate(RIGHT[size]):
        assert error(model(channels, width, size), f"right{index}") < 0.01
