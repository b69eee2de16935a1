"""Quantization parameters, and integers that are those of ONNX Runtime bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from optc.ir import DType, Tensor
from optc.numerics.quantize import (
    QuantParams,
    activation_params,
    bias_params,
    fit_bias,
    quantize_tensor,
    weight_params,
    with_its_ends,
)

ONNX_TYPES = {DType.U8: TensorProto.UINT8, DType.I8: TensorProto.INT8}


def in_runtime(values: np.ndarray, params: QuantParams) -> tuple[np.ndarray, np.ndarray]:
    """What QuantizeLinear and DequantizeLinear of ONNX Runtime make of an array."""
    initializers = [
        helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())
        for name, kind, array in (
            ("s", TensorProto.FLOAT, params.scale_array),
            ("z", ONNX_TYPES[params.dtype], params.zero_point_array),
        )
    ]
    axis: dict[str, Any] = {} if params.axis is None else {"axis": params.axis}
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], **axis),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], **axis),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [
            helper.make_tensor_value_info("q", ONNX_TYPES[params.dtype], values.shape),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, values.shape),
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    integers, numbers = session.run(None, {"x": values})
    return np.asarray(integers), np.asarray(numbers)


@pytest.mark.parametrize("dtype", [DType.U8, DType.I8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("low", "high"), [(-1.3, 4.1), (0.0, 6.0), (-3e4, 1e-3), (-1e-9, 1e-9)])
def test_integers_are_those_of_the_runtime(
    dtype: DType, symmetric: bool, low: float, high: float
) -> None:
    params = activation_params(low, high, dtype, symmetric=symmetric)
    values = np.random.default_rng(0).uniform(low * 1.2, high * 1.2, (40, 50)).astype(np.float32)
    # Halves between two steps, where rounding to even shows.
    values[0] = (np.arange(50) + np.float32(0.5)) * np.float32(params.scales[0])
    integers, numbers = in_runtime(values, params)
    np.testing.assert_array_equal(params.quantize(values), integers, strict=True)
    np.testing.assert_array_equal(params.dequantize(integers), numbers, strict=True)


def test_integers_per_channel_are_those_of_the_runtime() -> None:
    values = np.random.default_rng(1).normal(size=(5, 7, 3)).astype(np.float32)
    values *= np.array([1, 10, 0, 1e-6, 3], np.float32)[:, None, None]
    params = weight_params(values, 0)
    assert params.zero_points == (0,) * 5
    assert params.scales[2] == 1.0  # a channel of zeros
    integers, numbers = in_runtime(values, params)
    np.testing.assert_array_equal(params.quantize(values), integers, strict=True)
    np.testing.assert_array_equal(params.dequantize(integers), numbers, strict=True)
    assert np.abs(integers.astype(int)).max(axis=(1, 2)).tolist() == [127, 127, 0, 127, 127]
    tensor = quantize_tensor(Tensor.from_numpy(values), params)
    assert tensor.dtype is DType.I8
    np.testing.assert_array_equal(tensor.numpy(), integers)


def test_zero_is_exact_and_the_range_is_covered() -> None:
    for low, high in ((0.5, 2.0), (-7.0, -3.0), (-0.1, 5.0), (0.0, 0.0)):
        params = activation_params(low, high)
        assert params.dequantize(params.quantize(np.zeros(1)))[0] == 0
        least, most = params.interval
        step = params.scales[0]
        # The zero point is rounded to a whole step, so an end may be missed by half of one.
        assert least <= min(low, 0.0) + 0.51 * step
        assert most >= high - 0.51 * step
    assert activation_params(0.0, 6.0).zero_points == (0,)
    assert activation_params(0.0, 6.0, DType.I8).zero_points == (-128,)


@pytest.mark.parametrize(
    ("low", "high"), [(-3.0, 13.58), (-3.0, 0.4), (-3.0, 3.0), (-0.01, 7.0), (-7.0, 0.01)]
)
def test_the_ends_of_a_range_are_reached(low: float, high: float) -> None:
    params = activation_params(*with_its_ends(low, high))
    (scale,), (zero,) = params.scales, params.zero_points
    assert zero < 255
    # Scales are float32: relative error 2^-24.
    assert -zero * scale <= low * (1 - 1e-7)
    assert (255 - zero) * scale >= high * (1 - 1e-7)
    # The steps grow by the fraction of a step that either end is off, of the steps on its side.
    assert scale <= (high - low) / 255 * (1 + 1 / min(zero, 255 - zero)) * (1 + 1e-6)


@pytest.mark.parametrize(("low", "high"), [(0.0, 2.0), (-2.0, 0.0), (0.0, 0.0)])
def test_a_range_that_ends_at_zero_stays(low: float, high: float) -> None:
    assert with_its_ends(low, high) == (low, high)


def test_symmetric_types() -> None:
    assert activation_params(-1.0, 3.0, symmetric=True).zero_points == (128,)
    assert activation_params(-1.0, 3.0, DType.I8, symmetric=True).zero_points == (0,)
    assert activation_params(-1.0, 3.0, symmetric=True).is_symmetric
    assert not activation_params(-1.0, 3.0).is_symmetric


def test_seven_bits_cannot_saturate_sums_of_two_products() -> None:
    values = np.linspace(-3, 3, 101, dtype=np.float32).reshape(1, -1)
    params = weight_params(values, 0, bits=7)
    integers = params.quantize(values).astype(int)
    assert np.abs(integers).max() <= 64
    assert 2 * 255 * np.abs(integers).max() <= 32767
    assert activation_params(0.0, 1.0, bits=7).quantize(np.ones(1))[0] == 127


def test_a_bias_that_overflows_coarsens_its_channel() -> None:
    weights = np.array([[1e-9, -1e-9], [1.0, -1.0], [0.0, 0.0]], np.float32)
    bias = np.array([100.0, 100.0, 7.25], np.float32)
    params = weight_params(weights, 0)
    fitted = fit_bias(params, weights, bias, 0.01)
    assert fitted.scales[1] == params.scales[1]
    assert fitted.scales[0] > params.scales[0]
    found = bias_params(fitted, 0.01)
    assert found.dtype is DType.I32
    back = found.dequantize(found.quantize(bias))
    # Half a step of the bias, which for the channel of zeros is 2^-24 of it.
    assert (np.abs(back - bias) <= 0.5001 * np.array(found.scales)).all()
    assert back[2] == bias[2]
    per_tensor = fit_bias(weight_params(weights, None), weights, bias, 0.01)
    assert per_tensor == weight_params(weights, None)
    without = fit_bias(weight_params(weights[2:], 0), weights[2:], np.zeros(1), 0.01)
    assert without.scales == (1.0,)


@pytest.mark.parametrize(("low", "high"), [(np.nan, 1.0), (0.0, np.inf), (2.0, 1.0)])
def test_what_is_no_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="no range"):
        activation_params(low, high)


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="zero point"):
        QuantParams(DType.U8, (1.0,), ())
    with pytest.raises(ValueError, match="axis"):
        QuantParams(DType.U8, (1.0, 1.0), (0, 0))
    with pytest.raises(ValueError, match="positive"):
        QuantParams(DType.U8, (0.0,), (0,))
    with pytest.raises(ValueError, match="of type i8"):
        QuantParams(DType.I8, (1.0,), (200,))
