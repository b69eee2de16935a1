"""Sums that saturate in 16 bits, held against the kernels of onnxruntime and OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from optc.numerics.saturation import (
    Product,
    Witness,
    find_saturation,
    safe_scales,
    saturated_dot,
)
from optc.targets import host_capabilities

if TYPE_CHECKING:
    import numpy.typing as npt

    Integers = npt.NDArray[Any]

saturates_here = pytest.mark.skipif(
    "vnni" in host_capabilities(), reason="kernels with VNNI do not saturate"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a convolution."""

    channels: int
    outputs: int
    kernel: int
    group: int = 1
    stride: int = 1


CONVOLUTIONS = (
    Shape(3, 8, 3),  # odd channels: pairs across kernel positions, or not
    Shape(5, 7, 3, stride=2),
    Shape(16, 16, 3),
    Shape(8, 16, 1),
    Shape(8, 8, 3, group=2),
    Shape(15, 15, 3, group=3),
    Shape(8, 16, 3, group=8),
    Shape(16, 16, 3, group=16),  # depthwise: no pairs
)


def weights_of(shape: tuple[int, ...]) -> Integers:
    """Mostly large weights of both signs, so that many sums saturate."""
    found = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    found[np.abs(found.astype(int)) < 60] = 100
    return found


def activations_of(shape: tuple[int, ...]) -> Integers:
    found = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
    found[found < 90] = 255
    return found


def convolve(data: Integers, weights: Integers, case: Shape, zero: int, pairing: Any) -> Integers:
    """The convolution by the model under test, from the definition of a convolution."""
    pad, size = case.kernel // 2, case.kernel
    wide = np.pad(data, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=zero)
    views = np.lib.stride_tricks.sliding_window_view(wide, (size, size), axis=(2, 3))
    views = views[:, :, :: case.stride, :: case.stride].transpose(0, 2, 3, 1, 4, 5)
    batch, high, across = views.shape[:3]
    product = Product("Conv", group=case.group)
    pairs = product.pairs(weights, pairing)
    found = []
    for number in range(case.group):
        own = case.channels // case.group
        windows = views[:, :, :, number * own : (number + 1) * own]
        windows = windows.reshape(-1, own, size, size)
        outputs = slice(
            number * case.outputs // case.group, (number + 1) * case.outputs // case.group
        )
        part = weights[outputs].astype(np.int64)
        if product.has_pairs(weights.shape):
            sums = saturated_dot(product.operand_pairs(windows, pairing), pairs[outputs])
        else:
            sums = (
                windows.reshape(len(windows), -1).astype(np.int64) @ part.reshape(len(part), -1).T
            )
        found.append(sums - zero * part.reshape(len(part), -1).sum(axis=1))
    total = np.concatenate(found, axis=1)
    return total.reshape(batch, high, across, -1).transpose(0, 3, 1, 2)


def run_onnxruntime(node: Any, data: Integers, constants: dict[str, Any], out: int) -> Integers:
    import onnxruntime

    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, data.shape)],
        [helper.make_tensor_value_info("y", out, None)],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found: Integers = session.run(None, {"x": data})[0]
    return found


@saturates_here
@pytest.mark.parametrize(("rows", "terms", "columns"), [(1, 64, 33), (5, 7, 8), (17, 300, 16)])
def test_matrix_product_of_onnxruntime(rows: int, terms: int, columns: int) -> None:
    data, weights = activations_of((rows, terms)), weights_of((terms, columns))
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    actual = run_onnxruntime(node, data, {"w": weights}, TensorProto.INT32)
    product = Product("MatMul")
    expected = saturated_dot(product.operand_pairs(data, "terms"), product.pairs(weights, "terms"))
    np.testing.assert_array_equal(actual, expected)
    assert (expected != data.astype(int) @ weights.astype(int)).any()


@saturates_here
@pytest.mark.parametrize("zero", [0, 117])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution_of_onnxruntime(case: Shape, zero: int) -> None:
    data = activations_of((1, case.channels, 9, 9))
    weights = weights_of((case.outputs, case.channels // case.group, case.kernel, case.kernel))
    expected = convolve(data, weights, case, zero, "terms")
    scale = np.float32(np.abs(expected).max() / 127)
    node = helper.make_node(
        "QLinearConv",
        ["x", "one", "zero", "w", "one", "none", "scale", "middle"],
        ["y"],
        pads=[case.kernel // 2] * 4,
        strides=[case.stride] * 2,
        group=case.group,
    )
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(zero),
        "w": weights,
        "none": np.int8(0),
        "scale": scale,
        "middle": np.uint8(128),
    }
    actual = run_onnxruntime(node, data, constants, TensorProto.UINT8)
    steps = np.rint(expected.astype(np.float32) * (np.float32(1) / scale)) + 128
    np.testing.assert_array_equal(actual, np.clip(steps, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("product", "shape", "axis"),
    [
        (Product("MatMul"), (64, 32), 1),
        (Product("MatMul"), (3, 64, 32), 2),
        (Product("MatMul"), (640,), None),
        (Product("Gemm", transposed=True), (32, 65), 0),
        (Product("Conv"), (32, 3, 3, 3), 0),
        (Product("Conv", group=4), (32, 5, 3), 0),
    ],
    ids=str,
)
def test_safe_scales_are_safe_and_finer_than_seven_bits(
    product: Product, shape: tuple[int, ...], axis: int | None
) -> None:
    weights = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = np.abs(weights).max(axis=None if axis is None else others)
    full = np.asarray(largest / 127, np.float32)
    scales = safe_scales(weights, full, product)
    assert scales.shape == full.shape
    spread = scales.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    integers = np.rint(weights / spread)
    assert np.abs(integers).max() <= 127
    assert find_saturation(integers.astype(np.int8), product) is None
    assert (scales >= full).all()
    assert (scales <= largest / 63).all()
    assert scales.mean() < 0.9 * (largest / 64).mean()
    coarse = np.rint(weights / np.resize(full, scales.size).reshape(spread.shape)).astype(np.int8)
    assert find_saturation(coarse, product) is not None


def test_safe_scales_keep_what_is_safe() -> None:
    weights = np.array([[1.0, 1.0], [-1.0, 0.005]], np.float32)
    full = np.array([1 / 127, 1 / 127], np.float32)
    scales = safe_scales(weights, full, Product("MatMul"))
    np.testing.assert_array_equal(scales[0], full[0])  # of other signs: 127 x 255 fits
    assert scales[1] <= 1.005 / 127
    integers = np.rint(weights / scales).astype(np.int8)
    assert integers[1, 1] == 1
    narrow = safe_scales(np.ones((2, 1)), full[:1], Product("MatMul"), highest=127)
    np.testing.assert_array_equal(narrow, full[:1])  # 127 x 127 x 2 fits


def test_boundary_is_exact() -> None:
    product = Product("MatMul")
    fits = np.array([[64, 127, -64], [64, 1, -64]], np.int8)  # 255 x 128 = 32640
    assert find_saturation(fits, product) is None
    over = np.array([[64, 127], [65, 2]], np.int8)
    assert find_saturation(over, product) == Witness(0, (0, 2), (64, 65), (255, 255), 32895)
    assert find_saturation(over, product, activations=(0, 250)) is None
    down = np.array([[-64], [-65]], np.int8)
    found = find_saturation(down, product)
    assert found is not None
    assert found.total == -32895
    assert str(found) == "255 x -64 + 255 x -65 = -32895 in output 0"


def test_least_activation_counts() -> None:
    weights = np.array([[127], [-128]], np.int8)
    assert find_saturation(weights, Product("MatMul")) is None
    odd = np.array([[127], [127], [127]], np.int8)  # the third term is alone
    assert find_saturation(odd[2:], Product("MatMul")) is None


def test_pairing_of_odd_channels() -> None:
    weights = np.zeros((1, 3, 1, 2), np.int8)
    weights[0, 2, 0, 0] = weights[0, 0, 0, 1] = 100  # neighbours across kernel positions
    product = Product("Conv")
    assert find_saturation(weights, product, pairings=("positions",)) is None
    found = find_saturation(weights, product, pairings=("terms",))
    assert found is not None
    assert found.terms == (4, 1)
    assert find_saturation(weights, product) == found


def test_depthwise_has_no_pairs() -> None:
    weights = np.full((8, 1, 3, 3), 127, np.int8)
    assert find_saturation(weights, Product("Conv", group=8)) is None
    assert find_saturation(weights, Product("Conv", group=1)) is not None
    doubled = np.full((16, 1, 3, 3), 127, np.int8)
    assert find_saturation(doubled, Product("Conv", group=8)) is not None
