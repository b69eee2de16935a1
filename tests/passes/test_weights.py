from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.promises import refused, run_pass
from optc.ir import DType, Tensor, TensorType
from optc.passes.fold_affine import FoldAffine
from optc.passes.fold_batchnorm import FoldBatchnorm
from optc.passes.linear import Linear, linear_of, shape_of
from optc.passes.weights import ChannelAffine, factor_error, not_per_channel, range_error, vector

VIEWS = {
    "Conv <group = 2> (x, w)": ("float[1,6,4] x", "[4,3,5]", 6, 4, -2, -2),
    "ConvTranspose <group = 2> (x, w)": ("float[1,4,4] x", "[4,3,5]", 4, 6, -2, -2),
    "Gemm(x, w)": ("float[2,3] x", "[3,4]", 3, 4, -1, -1),
    "Gemm <transA = 1, transB = 1> (x, w)": ("float[3,2] x", "[4,3]", 3, 4, -2, -1),
    "MatMul(x, w)": ("float[2,3] x", "[5,3,4]", 3, 4, -1, -1),
    "MatMul(w, x)": ("float[3,2] x", "[4,3]", 3, 4, -2, -2),
}


@pytest.mark.parametrize(("node", "form"), VIEWS.items(), ids=VIEWS)
def test_every_layout_tells_its_channels(
    node: str, form: tuple[str, str, int, int, int, int]
) -> None:
    data, shape, inputs, outputs, data_axis, axis = form
    sizes = [int(size) for size in shape[1:-1].split(",")]
    numbers = ", ".join(map(str, range(int(np.prod(sizes)))))
    graph = graph_from_text(f"g ({data}) => (y) <float{shape} w = {{{numbers}}}> {{ y = {node} }}")
    (found,) = graph.ordered()
    linear = linear_of(graph, found)
    assert isinstance(linear, Linear)
    assert (linear.inputs, linear.outputs) == (inputs, outputs)
    assert (linear.data_axis, linear.axis) == (data_axis, axis)
    assert np.prod(linear.view) == np.prod(sizes)


@pytest.mark.parametrize(
    ("shape", "axis", "channels", "rank", "reason"),
    [
        ((), -3, 4, 4, None),
        ((1,), -3, 4, 4, None),
        ((1, 1, 1), -3, 4, 4, None),
        ((4, 1, 1), -3, 4, 4, None),
        ((1, 4, 1, 1), -3, 4, 4, None),
        ((4,), -1, 4, 2, None),
        ((), -1, 4, None, None),
        ((4,), -3, 4, 4, "is not one value per channel"),
        ((2, 4, 1, 1), -3, 4, 4, "is not one value per channel"),
        ((3, 1, 1), -3, 4, 4, "does not fit 4 channels"),
        ((1, 1, 1, 1, 1), -3, 4, 4, "would enlarge the result"),
        ((4,), -1, 4, None, "may enlarge the result"),
        ((0,), -1, 4, 2, "does not fit 4 channels"),
    ],
)
def test_which_constants_are_per_channel(
    shape: tuple[int, ...], axis: int, channels: int, rank: int | None, reason: str | None
) -> None:
    tensor = Tensor.from_numpy(np.ones(shape, np.float32))
    expected = reason and f"the constant {tensor.type} {reason}"
    assert not_per_channel(tensor, axis, channels, rank) == expected
    if reason is None:
        values = vector(tensor.numpy().astype(np.float64), channels)
        assert values is not None
        assert values.shape == (channels,)


def test_a_shift_of_zeros_is_none() -> None:
    assert ChannelAffine(None, np.zeros(2)).shift is None


@pytest.mark.parametrize(
    ("values", "dtype", "reason"),
    [
        ([1.0, np.inf], DType.F64, "it is not finite"),
        ([1.0, np.nan], DType.F32, "it is not finite"),
        ([65504.0], DType.F16, None),
        ([65536.0], DType.F16, "it overflows f16"),
        ([65536.0], DType.BF16, None),
        ([1e39], DType.BF16, "it overflows bf16"),
        ([0.0, 6.2e-5], DType.F16, None),
        ([0.0, 6.0e-5], DType.F16, "it underflows f16"),
        ([6.0e-5], DType.BF16, None),
    ],
)
def test_what_a_type_can_hold(values: list[float], dtype: DType, reason: str | None) -> None:
    array = np.array(values)
    assert factor_error(array, dtype, "it") == reason
    if reason is None or "underflows" not in reason:
        assert range_error(array, dtype, "it") == reason


def f16(nodes: str, weight: str, scale: str) -> dict[str, str]:
    """Why the pass refused in a two-channel f16 model; empty when it folded."""
    graph = graph_from_text(f"""g (float16[1,2,4] x) => (float16[1,2,4] y)
        <float16[2,2,1] w = {weight}, float16[2,1] s = {scale}> {{ {nodes} }}""")
    result = run_pass(FoldAffine(), graph)
    assert result.changed == (not refused(result))
    return refused(result)


def halves(*values: float) -> str:
    """Numbers as ONNX text takes f16 ones: by their bits."""
    bits = np.array(values, np.float16).view(np.uint16)
    return "{" + ", ".join(str(item) for item in bits) + "}"


AFTER, BEFORE = "z = Conv(x, w)  y = Mul(z, s)", "z = Mul(x, s)  y = Conv(z, w)"


@pytest.mark.parametrize(
    ("nodes", "weight", "scale", "reason"),
    [
        (AFTER, (1, 1, 1, 1), (2, 3), None),
        (AFTER, (300, 1, 1, 1), (300, 1), "the scaled weight overflows f16"),
        (AFTER, (0.01, 0.01, 0.01, 0.01), (0.001, 0.001), "the scaled weight underflows f16"),
        # One output channel that hardly counts is rounded no worse than the others.
        (AFTER, (0.01, 0.01, 1, 1), (0.001, 1), None),
        # But data may be large where the weight of an input channel is small.
        (BEFORE, (0.01, 1, 0.01, 1), (0.001, 1), "the scaled weight underflows f16"),
        (BEFORE, (1, 1, 1, 1), (0.001, 1), None),
        (BEFORE, (0, 1, 0, 1), (0.001, 1), None),
    ],
)
def test_the_range_of_f16(
    nodes: str, weight: tuple[float, ...], scale: tuple[float, ...], reason: str | None
) -> None:
    rule = "conv-affine" if nodes is AFTER else "affine-conv"
    found = f16(nodes, halves(*weight), halves(*scale))
    assert found == ({} if reason is None else {rule: reason})


def test_a_bias_that_overflows() -> None:
    text = f"""g (float16[1,2,4] x) => (float16[1,1,4] y)
        <float16[1,2,1] w = {halves(40000, 40000)}, float16 t = {halves(1)}>
        {{ z = Add(x, t)  y = Conv(z, w) }}"""
    result = run_pass(FoldAffine(), graph_from_text(text))
    assert refused(result) == {"affine-conv": "the bias overflows f16"}


def test_channels_that_are_dead_in_f32_are_no_reason_to_refuse() -> None:
    graph = graph_from_text("""g (float[1,1,4] x) => (float[1,2,4] y)
        <float[2,1,1] w = {1, 1e-30}, float[2,1] s = {2, 1e-12}>
        { z = Conv(x, w)  y = Mul(z, s) }""")
    assert run_pass(FoldAffine(), graph).counts == {"conv-affine": 1}


def test_a_reciprocal_is_taken_in_f64() -> None:
    graph = graph_from_text("""g (float[1,1,4] x) => (float[1,1,4] y)
        <float[1,1,1] w = {3}, float s = {3}> { z = Conv(x, w)  y = Div(z, s) }""")
    run_pass(FoldAffine(), graph)
    weight = graph.operands(graph.ordered()[0])[1]
    assert weight is not None
    assert weight.constant is not None
    assert weight.constant.numpy() == 1.0  # 3 * fl32(1 / 3) would round up


def test_bf16_keeps_its_type_and_rounds_once() -> None:
    graph = graph_from_text("""<ir_version: 10, opset_import: ["" : 22]>
        g (bfloat16[1,1,4] x) => (bfloat16[1,1,4] y)
        <bfloat16[1,1,1] w = {16257}, bfloat16 s = {16258}, bfloat16 t = {16256}>
        { z = Conv(x, w)  a = Mul(z, s)  y = Add(a, t) }""")  # bits of 1 + 2^-7, 1 + 2^-6, 1
    run_pass(FoldAffine(), graph)
    _, weight, bias = graph.operands(graph.ordered()[0])
    assert weight is not None
    assert bias is not None
    assert weight.constant is not None
    assert weight.type == TensorType(DType.BF16, (1, 1, 1))
    assert bias.type == TensorType(DType.BF16, (1,))
    # 1 + 3 * 2^-7 + 2^-13 rounds down.
    assert weight.constant.numpy().astype(np.float64) == 1 + 3 * 2.0**-7


def test_a_normalization_in_f32_of_an_f16_conv_gives_an_f16_bias() -> None:
    graph = graph_from_text(f"""<ir_version: 8, opset_import: ["" : 15]>
        g (float16[1,1,4] x) => (float16[1,2,4] y)
        <float16[2,1,1] w = {halves(1, 2)}, float[2] g = {{1, 2}}, float[2] b = {{3, 4}},
         float[2] m = {{0, 0}}, float[2] v = {{1, 1}}>
        {{ z = Conv(x, w)  y = BatchNormalization <epsilon = 0.0> (z, g, b, m, v) }}""")
    assert run_pass(FoldBatchnorm(), graph).changed
    _, weight, bias = graph.operands(graph.ordered()[0])
    assert weight is not None
    assert bias is not None
    assert weight.type == TensorType(DType.F16, (2, 1, 1))
    assert bias.type == TensorType(DType.F16, (2,))


def test_a_shape_is_known_behind_operations_that_keep_it() -> None:
    graph = graph_from_text("""g (float[N,1,W] x) => (y)
        <float[2,1,3] w = {1, 2, 3, 4, 5, 6}, float[2] v = {1, 1}> {
          a = Conv(x, w)  b = Relu(a)  c = BatchNormalization(b, v, v, v, v)
          d = Cast <to = 1> (c)  e = Transpose(d)  y = Relu(e) }""")
    assert shape_of(graph, graph.value("x")) == ("N", 1, "W")
    assert shape_of(graph, graph.value("d")) == (None, 2, None)
    assert shape_of(graph, graph.value("y")) is None


def test_a_broken_group_is_a_reason() -> None:
    graph = graph_from_text("""g (float[1,2,4] x) => (y)
        <float[3,1,1] w = {1, 2, 3}, float s = {2}>
        { z = Conv <group = 2> (x, w)  y = Mul(z, s) }""")
    assert refused(run_pass(FoldAffine(), graph)) == {
        "conv-affine": "3 channels do not make 2 groups"
    }
