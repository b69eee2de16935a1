"""Which kernel a convolution is written for: zero points of weights decide on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.observed import decided, quantize
from optc.ir import Graph, Tensor, clone
from optc.passes import InferShapes, PassContext
from optc.passes.quantized import params_of

QGEMM = "MLAS QGEMM u8 x s8 (TDPBUSD)"
SYMMETRIC = "MLAS symmetric convolution u8 x s8 (VPDPBUSD)"


def convolution(channels: int, size: int, kernel: int = 3, group: int = 1) -> Graph:
    """One with normal weights, and a bias."""
    shape = (channels, channels // group, kernel, kernel)
    graph = graph_from_text(
        f"""<ir_version: 8, opset_import: ["" : 13]>
        g (float[1,{channels},{size},{size}] x, float[{",".join(map(str, shape))}] w,
           float[{channels}] b) => (float[A,B,C,D] y) {{
            y = Conv <group = {group}, auto_pad = "SAME_UPPER"> (x, w, b)
        }}"""
    )
    rng = np.random.default_rng(3)
    for name, dims in (("w", shape), ("b", (channels,))):
        old = graph.value(name)
        array = rng.normal(size=dims).astype(np.float32)
        graph.replace_uses(old, graph.add_constant(Tensor.from_numpy(array), f"{name}_"))
        graph.remove(old.node)
    InferShapes().apply(graph, PassContext())
    return graph


def weights(graph: Graph) -> tuple[np.ndarray, set[int], np.ndarray]:
    """Integers of the weight, its zero points, and the real weights that they stand for."""
    node = next(node for node in graph.ordered() if node.is_op("Conv"))
    value = graph.operand(node, 1)
    assert value is not None
    params, integers = params_of(graph, value.node), graph.operand(value.node, 0)
    assert params is not None
    assert integers is not None
    assert integers.constant is not None
    found = integers.constant.numpy()
    return found, set(params.zero_points), params.dequantize(found)


def test_a_large_convolution_is_written_for_amx_where_it_is() -> None:
    amx, vnni = convolution(256, 14), convolution(256, 14)
    on_amx = quantize(amx, target="sapphirerapids")
    on_vnni = quantize(vnni, target="icelake")
    assert decided(on_amx)["y"] == ("int8", QGEMM)
    assert decided(on_vnni)["y"] == ("int8", SYMMETRIC)
    shifted, zeros, real = weights(amx)
    plain, middle, expected = weights(vnni)
    assert (zeros, middle) == ({-1}, {0})
    np.testing.assert_array_equal(shifted.astype(int), plain.astype(int) - 1)
    np.testing.assert_array_equal(real, expected)


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (32, 14, {}),  # sums of few terms: what is in between costs more
        (256, 14, {"group": 4}),
    ],
)
def test_others_keep_their_kernel(channels: int, size: int, options: dict[str, int]) -> None:
    graph = convolution(channels, size, **options)
    result = quantize(graph, target="sapphirerapids", placement="kernels")
    priced = clone(convolution(channels, size, **options))
    quantize(priced, target="sapphirerapids")
    assert decided(result)["y"] == ("int8", SYMMETRIC)
    assert weights(graph)[1] == {0}
    for node in priced.ordered():
        value = graph.operand(node, 1) if node.is_op("Conv") else None
        assert value is None or params_of(priced, value.node) is None or weights(priced)[1] == {0}


def test_openvino_needs_no_such_thing() -> None:
    graph = convolution(256, 14)
    quantize(graph, target="sapphirerapids", runtime="openvino")
    assert weights(graph)[1] == {0}


def test_weights_with_zero_points_of_their_own_keep_them() -> None:
    graph, plain = convolution(256, 14), convolution(256, 14)
    quantize(graph, target="sapphirerapids", symmetric_weights=False, per_channel=False)
    quantize(plain, target="icelake", symmetric_weights=False, per_channel=False)
    assert weights(graph)[1] == weights(plain)[1]


def two() -> Graph:
    """A large convolution, and a pointwise one whose conversions cost a little too much."""
    graph = graph_from_text(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[1,256,20,20] x, float[256,256,3,3] w, float[1,24,240,240] u, float[24,24,1,1] v)
            => (large, small) {
            large = Conv <pads = [1, 1, 1, 1]> (x, w)
            small = Conv (u, v)
        }"""
    )
    for name, shape in (("w", (256, 256, 3, 3)), ("v", (24, 24, 1, 1))):
        old = graph.value(name)
        array = np.random.default_rng(3).normal(size=shape).astype(np.float32)
        graph.replace_uses(old, graph.add_constant(Tensor.from_numpy(array), f"{name}_"))
        graph.remove(old.node)
    InferShapes().apply(graph, PassContext())
    return graph


def test_multiply_adds_come_on_integers_where_that_costs_little_of_the_saving() -> None:
    """235.9 million in the large convolution, 33.2 million (12.3 %) in the small one."""
    fastest = decided(quantize(two(), coverage=0))
    covered = decided(quantize(two()))
    thrifty = decided(quantize(two(), forgo=0.01))
    enough = decided(quantize(two(), coverage=0.85))
    assert fastest["large"] == covered["large"] == ("int8", SYMMETRIC)
    assert fastest["small"] == thrifty["small"] == enough["small"]
    precision, reason = fastest["small"]
    assert precision == "fp32"
    assert covered["small"] == (
        "int8",
        f"{SYMMETRIC}; for 90% of the multiply-adds on integers: {reason}",
    )
