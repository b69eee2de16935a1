"""quantize-int8: integers where the runtime computes on them, and a reason where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.executed import executed
from helpers.observed import chain, decided, quantize
from helpers.pass_checks import run, seeded
from optc.errors import DataError, ModelError
from optc.ir import DType, Graph, Node, Tensor, clone
from optc.ir.text import print_graph
from optc.passes import FoldConstants, InferShapes, PassContext
from optc.passes.int8_sites import Kernels, Site, find_site
from optc.passes.quantize_int8 import QuantizeInt8
from optc.targets import load_target
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from pathlib import Path

KERNELS: dict[str, Any] = {"placement": "kernels"}


def net(body: str, *, opset: int = 13, x: str = "1,4,8,8", **weights: tuple[int, ...]) -> Graph:
    """A graph of x with normal weights of these shapes, seeded by their names."""
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[{x}] x, {
            ", ".join(f"float[{_text(shape)}] {name}" for name, shape in weights.items())
            or "float z"
        })
        => (float[*] y) {{ {body} }}
        """.replace("float[*] y", "float y")
    )
    for name, shape in weights.items():
        rng = np.random.default_rng(sum(map(ord, name)))
        value = graph.value(name)
        made = graph.add_constant(
            Tensor.from_numpy(rng.normal(size=shape).astype(np.float32)), f"{name}_"
        )
        graph.replace_uses(value, made)
        graph.remove(value.node)
        graph.rename(made, name)
    if not weights:
        graph.remove(graph.value("z").node)
    for node in graph.outputs:
        graph.set_declared(node, None)
    for node in graph.nodes():
        graph.set_type(node.output, None)
    InferShapes().apply(graph, PassContext())
    return graph


def _text(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def sqnr(source: Graph, graph: Graph) -> float:
    """Signal to quantization noise of the outputs, in dB."""
    feeds = seeded(source)
    expected, found = run(source, feeds), run(graph, feeds)
    noise = sum(float(((expected[name] - found[name]) ** 2).sum()) for name in expected)
    return float(10 * np.log10(sum(float((a**2).sum()) for a in expected.values()) / noise))


# Noise of a tensor of normal numbers in 8 bits over +-3 sigma: 6/255/sqrt(12) of it, 43 dB. A
# result of a product has that of two operands and its own; each further product adds about as much.
ONE_PRODUCT = 36.0


def test_a_convolution_with_its_relu() -> None:
    graph = net("c = Conv (x, w, b)  y = Relu (c)", w=(8, 4, 3, 3), b=(8,))
    source = clone(graph)
    result = quantize(graph, **KERNELS)
    assert chain(graph) == [
        "QuantizeLinear", "DequantizeLinear", "Conv", "Relu", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    assert sqnr(source, graph) > ONE_PRODUCT
    assert {name: found[0] for name, found in decided(result).items()} == {"c": "int8", "y": "int8"}
    figures = next(item.figures for item in result.decisions if item.node == "c")
    assert figures["result_zero_point"] == 0  # the Relu is what saturation does
    tensors = [v.constant for v in graph.constants() if v.constant and v.constant.shape]
    assert {(t.dtype, t.shape) for t in tensors} == {
        (DType.I8, (8, 4, 3, 3)),
        (DType.I32, (8,)),
        (DType.F32, (8,)),
        (DType.I8, (8,)),
    }
    dequantized = [n for n in graph.ordered() if n.get("axis") is not None]
    assert [n.get("axis") for n in dequantized] == [0, 0]


def test_a_product_gives_floats_where_a_kernel_does() -> None:
    graph = net("y = MatMul (x, w)", x="4,16", w=(16, 8))
    source = clone(graph)
    quantize(graph, **KERNELS)
    assert chain(graph) == ["QuantizeLinear", "DequantizeLinear", "MatMul"]
    assert sqnr(source, graph) > ONE_PRODUCT
    assert [n.get("axis") for n in graph.ordered() if n.get("axis") is not None] == [1]


def test_a_gemm_with_a_transposed_weight_and_a_bias() -> None:
    graph = net("y = Gemm <transB = 1> (x, w, b)", x="4,16", w=(8, 16), b=(8,))
    source = clone(graph)
    quantize(graph, **KERNELS)
    assert sqnr(source, graph) > ONE_PRODUCT
    assert {n.get("axis") for n in graph.ordered()} == {0, None}


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [
        ("HardSwish (c)", -3.0, None),
        ("HardSigmoid (c)", -2.5, 2.5),
        ("HardSigmoid <alpha = 0.25, beta = 0.75> (c)", -3.0, 1.0),
        ("HardSigmoid <alpha = -0.2> (c)", None, None),
        ("HardSigmoid <beta = 2.0> (c)", None, None),
        ("Sigmoid (c)", None, None),
        ("Mul (c, c)", None, None),
    ],
)
def test_steps_are_where_the_activation_tells_values_apart(
    activation: str, low: float | None, high: float | None
) -> None:
    """Sums of 36 products of normal numbers reach far beyond either end."""
    opset = 14 if "HardSwish" in activation else 13
    graph = net(f"c = Conv (x, w)  y = {activation}", opset=opset, w=(8, 4, 3, 3))
    source = clone(graph)
    result = quantize(graph, **KERNELS)
    figures = next(item.figures for item in result.decisions if item.node == "c")
    scale, zero = figures["result_scale"], figures["result_zero_point"]
    values = run(observed(source, "c"), seeded(source))["c"]
    assert values.min() < -6
    assert values.max() > 6
    # An end that is told apart is reached by an integer; that takes a step, and steps that are
    # longer by a fraction of a step divided among those on the shorter side.
    longer = 1 / min(zero, 255 - zero)
    for end, least, reached in (
        (low, values.min(), -zero * scale),
        (high, values.max(), (255 - zero) * scale),
    ):
        wanted = least if end is None else end
        assert abs(reached - wanted) <= 1.01 * scale + abs(wanted) * longer
        assert end is None or abs(reached) >= abs(end) * (1 - 1e-5)


def observed(graph: Graph, name: str) -> Graph:
    """A copy that gives a value."""
    copy = clone(graph)
    copy.add_output(copy.value(name), name, copy.value(name).type)
    return copy


RESIDUAL = """
    a = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu (a)
    b = Conv <pads = [1,1,1,1]> (r, v)
    s = Add (b, r)
    t = Relu (s)
    p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (t)
    y = Conv (p, u)
"""
SHAPES: dict[str, Any] = {"w": (4, 4, 3, 3), "v": (4, 4, 3, 3), "u": (4, 4, 1, 1)}


def test_what_lies_between_products_stays_on_integers() -> None:
    graph = net(RESIDUAL, **SHAPES)
    source = clone(graph)
    result = quantize(graph, **KERNELS)
    for node in graph.ordered():
        if node.op_type in {"Conv", "Add", "MaxPool"}:
            operands = graph.operands(node)
            count = 2 if node.op_type == "Add" else 1
            assert all(v is not None and v.node.op_type == "DequantizeLinear"
                       for v in operands[:count])  # fmt: skip
    assert sum(op == "QuantizeLinear" for op in chain(graph)) == 6
    assert sqnr(source, graph) > ONE_PRODUCT - 8  # three products, one sum
    assert {found[0] for found in decided(result).values()} == {"int8"}
    # MaxPool has one scale on both sides.
    pool = next(node for node in graph.ordered() if node.op_type == "MaxPool")
    before = graph.operand(pool, 0)
    (after,) = [use.node for use in graph.uses(pool.output)]
    assert before is not None
    scales = [graph.operand(before.node, 1), graph.operand(after, 1)]
    assert all(value is not None and value.constant is not None for value in scales)
    assert len({float(v.constant.numpy()) for v in scales if v and v.constant}) == 1


def test_the_operands_of_a_concat_have_one_scale() -> None:
    graph = net(
        "a = Conv (x, w)  b = Conv (x, v)  c = Concat <axis = 1> (a, b)  y = Conv (c, u)",
        w=(4, 4, 1, 1),
        v=(4, 4, 1, 1),
        u=(4, 8, 1, 1),
    )
    quantize(graph, **KERNELS)
    concat = next(node for node in graph.ordered() if node.op_type == "Concat")
    operands = [value for value in graph.operands(concat) if value is not None]
    scales = [graph.operand(value.node, 1) for value in operands]
    assert len({float(s.constant.numpy()) for s in scales if s and s.constant}) == 1
    assert len(operands) == 2


SKIP = """
    a = Conv <pads = [1,1,1,1]> (x, w)
    r = Relu (a)
    p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (r)
    b = Conv (p, v)
    k = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
                nearest_mode = "floor"> (b, , s)
    c = Concat <axis = 1> (r, k)
    d = Conv <pads = [1,1,1,1]> (c, u)
    y = Relu (d)
"""


@pytest.mark.parametrize(("relu", "equal"), [(False, False), (True, True)])
def test_a_concat_does_not_take_the_kernel_from_a_convolution_with_a_relu(
    relu: bool, equal: bool, tmp_path: Path
) -> None:
    """Its zero point has to stay the least integer, where others have negative elements."""
    body = SKIP.replace("b = Conv (p, v)", "e = Conv (p, v)  b = Relu (e)") if relu else SKIP
    graph = net(
        f"s = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()  {body}",
        w=(4, 4, 3, 3),
        v=(4, 4, 1, 1),
        u=(4, 8, 3, 3),
    )
    FoldConstants().apply(graph, PassContext())
    source = clone(graph)
    quantize(graph, **KERNELS)
    pairs = quantized_as(graph, "Concat")
    assert pairs[0][1] == 0
    assert (pairs[0] == pairs[1]) is equal
    assert quantized_as(graph, "MaxPool")[0] == pairs[0]
    assert sqnr(source, graph) > ONE_PRODUCT - 8  # three products in a row
    if relu:
        return
    # What ONNX Runtime makes of it: no convolution on floats.
    found = executed(graph, tmp_path / "saved.onnx")
    assert found.count("QLinearConv") == 3
    assert "Conv" not in found
    assert "FusedConv" not in found


def test_which_values_need_the_least_integer_as_zero_point() -> None:
    """Behind an absorbed Relu on ONNX Runtime, before a transposed convolution on OpenVINO."""
    graph = net(
        "a = Conv (x, w)  r = Relu (a)  y = ConvTranspose (r, q)", w=(4, 4, 1, 1), q=(4, 8, 2, 2)
    )
    nodes = {node.output.name: node for node in graph.nodes()}
    found = {}
    for runtime in ("onnxruntime", "openvino"):
        capabilities = load_target("cascadelake").capabilities
        kernels = Kernels(shipped_kernels(runtime), capabilities, "u8", "u8", "s8", ())
        for name in ("a", "y"):
            site = find_site(graph, nodes[name], kernels)
            if isinstance(site, Site):
                found[runtime, name] = [value.name for value in site.from_zero]
    assert found == {
        ("onnxruntime", "a"): ["r"],
        ("openvino", "a"): [],
        ("openvino", "y"): ["r"],
    }


def quantized_as(graph: Graph, op_type: str) -> list[tuple[float, int]]:
    """Scale and zero point of the operands of an operation."""
    node = next(node for node in graph.ordered() if node.is_op(op_type))
    found = []
    for value in graph.operands(node):
        assert value is not None
        scale, zero = (graph.operand(value.node, index) for index in (1, 2))
        assert scale is not None
        assert scale.constant is not None
        assert zero is not None
        assert zero.constant is not None
        found.append((float(scale.constant.numpy()), int(zero.constant.numpy())))
    return found


def test_floats_in_between_are_quantized_on_both_sides_only() -> None:
    graph = net("a = Conv (x, w)  h = Tanh (a)  y = Conv (h, u)", w=(4, 4, 1, 1), u=(4, 4, 1, 1))
    result = quantize(graph, **KERNELS)
    assert chain(graph) == [
        "QuantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear", "DequantizeLinear",
        "Tanh", "QuantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear", "DequantizeLinear",
    ]  # fmt: skip
    assert decided(result)["h"] == (
        "fp32",
        "Tanh is not among the operators to be computed on integers",
    )


def test_openvino_quantizes_before_products_and_not_between_them_and_their_activations() -> None:
    graph = net(
        "a = Conv (x, w, b)  h = HardSwish (a)  y = Conv (h, u)",
        opset=14,
        w=(4, 4, 1, 1),
        u=(4, 4, 1, 1),
        b=(4,),
    )
    quantize(graph, runtime="openvino", **KERNELS)
    assert chain(graph) == [
        "QuantizeLinear", "DequantizeLinear", "Conv", "HardSwish", "QuantizeLinear",
        "DequantizeLinear", "Conv",
    ]  # fmt: skip
    conv = next(node for node in graph.ordered() if node.op_type == "Conv")
    bias = graph.operand(conv, 2)
    assert bias is not None
    assert bias.constant is not None  # stays in floats


def zero_type(graph: Graph, node: Node, index: int) -> DType:
    """The type that an operand of a product, or what moves it there, is quantized to."""
    value = graph.operand(node, index)
    while value is not None and not value.node.is_op("DequantizeLinear"):
        value = graph.operand(value.node, 0)
    assert value is not None
    zero = graph.operand(value.node, 2)
    assert zero is not None
    assert zero.constant is not None
    return zero.constant.dtype


@pytest.mark.parametrize(
    ("attributes", "before", "runtime", "zero"),
    [
        ("pads = [1,1,1,1]", "Identity", "openvino", 128),  # the middle
        ('auto_pad = "SAME_UPPER"', "Identity", "openvino", 128),
        ("pads = [1,1,1,1]", "Relu", "openvino", 0),  # nothing is negative: all the range
        ("pads = [0,0,0,0]", "Identity", "openvino", None),
        ("pads = [1,1,1,1]", "Identity", "onnxruntime", None),
    ],
)
def test_operands_of_padded_convolutions(
    attributes: str, before: str, runtime: str, zero: int | None
) -> None:
    """What is read of the border costs OpenVINO time unless zero is 0 or the middle."""
    body = f"h = {before} (x)  y = Conv <{attributes}> (h, w)"
    graph = net(body, w=(4, 4, 3, 3))
    quantize(graph, runtime=runtime, **KERNELS)
    quantizer = next(node for node in graph.ordered() if node.is_op("QuantizeLinear"))
    point = graph.operand(quantizer, 2)
    assert point is not None
    assert point.constant is not None
    found = int(point.constant.numpy())
    assert found == zero if zero is not None else found not in (0, 128)


@pytest.mark.parametrize(
    ("before", "target", "reason"),
    [
        ("Relu (x)", "cascadelake", ""),
        ("Clip (x, zero, six)", "cascadelake", ""),
        ("Clip (x, below, six)", "cascadelake", "converted and computed in another type"),
        ("Identity (x)", "cascadelake", "converted and computed in another type"),
        ("Relu (x)", "skylake", "sums of its products may saturate"),
    ],
)
def test_openvino_takes_operands_from_zero_into_transposed_convolutions(
    before: str, target: str, reason: str
) -> None:
    graph = net(
        f"zero = Constant <value_float = 0.0> ()  six = Constant <value_float = 6.0> () "
        f"below = Constant <value_float = -1.0> ()  h = {before}  y = ConvTranspose (h, w)",
        w=(4, 8, 2, 2),
    )
    FoldConstants().apply(graph, PassContext())
    precision, why = decided(quantize(graph, target=target, runtime="openvino", **KERNELS))["y"]
    assert precision == ("fp32" if reason else "int8")
    assert reason in why
    if not reason:
        quantizer = next(node for node in graph.ordered() if node.is_op("QuantizeLinear"))
        zero = graph.operand(quantizer, 2)
        assert zero is not None
        assert zero.constant is not None
        assert int(zero.constant.numpy()) == 0


def test_pairs_of_activations_are_quantized_where_the_runtime_can() -> None:
    body = "a = MatMul (x, w)  t = Transpose <perm = [1,0]> (a)  y = MatMul (a, t)"
    found = {}
    for runtime in ("openvino", "onnxruntime"):
        graph = net(body, x="4,16", w=(16, 8))
        result = quantize(graph, runtime=runtime, **KERNELS)
        found[runtime] = decided(result)["y"]
        if runtime == "openvino":
            (pair,) = (node for node in graph.nodes() if node.output.name == "y")
            (product,) = (node for node in graph.nodes() if node.output.name == "a")
            assert [zero_type(graph, pair, index) for index in (0, 1)] == [DType.I8, DType.I8]
            assert zero_type(graph, product, 0) is DType.U8  # finer, where the other is constant
    assert found["openvino"][0] == "int8"
    assert found["onnxruntime"][0] == "fp32"
    assert "computed slowly" in found["onnxruntime"][1] or "no integer" in found["onnxruntime"][1]


def test_a_shared_weight_is_stored_once() -> None:
    graph = net("a = MatMul (x, w)  b = Tanh (a)  y = MatMul (b, w)", x="4,8", w=(8, 8))
    quantize(graph, **KERNELS)
    integers = [v for v in graph.constants() if v.constant and v.constant.shape == (8, 8)]
    assert [v.constant.dtype for v in integers if v.constant] == [DType.I8]


def test_a_shared_bias_has_a_name_for_each_scale() -> None:
    graph = net(
        "a = Conv (x, w, b)  r = Relu (a)  y = Conv (r, v, b)",
        w=(4, 4, 1, 1),
        v=(4, 4, 1, 1),
        b=(4,),
    )
    source = clone(graph)
    quantize(graph, **KERNELS)
    names = [node.name for node in graph.nodes() if node.name]
    assert len(set(names)) == len(names)
    assert sqnr(source, graph) > ONE_PRODUCT - 3  # two products; ONNX Runtime loads it


def test_without_vnni_no_pair_of_products_saturates() -> None:
    for target, safe in (("skylake", True), ("cascadelake", False)):
        graph = net("y = MatMul (x, w)", x="4,64", w=(64, 8))
        quantize(graph, target=target, **KERNELS)
        (stored,) = [
            v.constant for v in graph.constants() if v.constant and v.constant.shape == (64, 8)
        ]
        pairs = stored.numpy().astype(int).reshape(32, 2, 8)
        worst = max(np.maximum(pairs, 0).sum(axis=1).max(), -np.minimum(pairs, 0).sum(axis=1).min())
        assert (worst * 255 <= 32767) == safe


@pytest.mark.parametrize(
    ("body", "shapes", "reason"),
    [
        ("y = MatMul (w, x)", {"w": (4, 4)}, "its first operand is a constant"),
        ("y = Gemm <transA = 1> (x, w)", {"w": (4, 4)}, "it transposes its first operand"),
        ("y = Gemm <alpha = 0.5> (x, w)", {"w": (4, 4)}, "alpha or beta is not 1"),
        ("y = Gemm (x, x)", {}, "its weight x is not constant"),
        ("y = MatMul (x, w)", {"w": (4,)}, "its weight w is a vector"),
        ("t = Tanh (w)  y = Gemm (x, w, t)", {"w": (4, 4)}, "its bias t is not constant"),
    ],
)
def test_products_that_have_no_integer_form(body: str, shapes: dict[str, Any], reason: str) -> None:
    graph = net(body, x="4,4", **shapes)
    before = print_graph(graph)
    result = quantize(graph, **KERNELS)
    assert not result.changed
    assert print_graph(graph) == before
    assert decided(result)["y"] == ("fp32", reason)
    assert [(item.node, item.reason) for item in result.refusals] == [("y", reason)]


TWO = "a = MatMul (x, w)  b = Tanh (a)  y = MatMul (b, v)"


@pytest.mark.parametrize(
    ("options", "kept", "reason"),
    [
        ({"keep": ["a_node"]}, "a_node", "the recipe keeps name 'a_node'"),
        ({"only": ["y_node"]}, "a_node", "the recipe selects others"),
        ({"first": False}, "a_node", "the recipe keeps the first products"),
        ({"last": False}, "y_node", "the recipe keeps the last products"),
    ],
)
def test_selection(options: dict[str, Any], kept: str, reason: str) -> None:
    graph = net(TWO, x="4,8", w=(8, 8), v=(8, 8))
    for node in graph.nodes():
        node.name = f"{node.output.name}_node"
    result = quantize(graph, **KERNELS, **options)
    other = "y_node" if kept == "a_node" else "a_node"
    assert decided(result)[kept] == ("fp32", reason)
    assert decided(result)[other][0] == "int8"


def test_selectors_that_fit_nothing_are_told() -> None:
    graph = net(TWO, x="4,8", w=(8, 8), v=(8, 8))
    result = quantize(graph, keep=["no", {"op": "Tanh"}], only=[{"op": "Gemm"}, {"op": "MatMul"}])
    told = [warning for warning in result.warnings if "no node" in warning]
    assert told == ["only: no node fits op 'Gemm'", "keep: no node fits name 'no'"]


def test_a_graph_output_and_a_second_use_keep_their_value() -> None:
    graph = net("a = Conv (x, w)  h = Tanh (a)  y = Add (a, h)", w=(4, 4, 1, 1))
    graph.add_output(graph.value("a"), "a_out")
    source = clone(graph)
    quantize(graph, **KERNELS)
    assert [node.name for node in graph.outputs] == ["y", "a_out"]
    assert sqnr(source, graph) > ONE_PRODUCT


def test_small_products_do_not_pay_and_large_ones_do() -> None:
    for size, precision in ((4, "fp32"), (512, "int8")):
        graph = net("y = MatMul (x, w)", x=f"{size},{size}", w=(size, size))
        result = quantize(graph)
        assert decided(result)["y"][0] == precision
        assert result.changed == (precision == "int8")
        if precision == "fp32":
            assert "predicted" in decided(result)["y"][1]


@pytest.mark.parametrize(("channels", "precision"), [(3, "fp32"), (64, "int8")])
def test_a_pool_is_on_bytes_behind_a_convolution_on_bytes_only(
    channels: int, precision: str
) -> None:
    """ONNX Runtime has no fast MaxPool of bytes else; three channels have no int8 kernel."""
    graph = net(
        "a = Conv (x, w)  r = Relu (a)  p = MaxPool <kernel_shape = [3,3], strides = [2,2]> (r) "
        "b = Conv (p, v)  s = Relu (b)  y = Conv (s, v)",
        x=f"1,{channels},58,58",
        w=(64, channels, 3, 3),
        v=(64, 64, 3, 3),
    )
    result = decided(quantize(graph))
    assert {name: result[name][0] for name in ("a", "p")} == {"a": precision, "p": precision}
    assert result["b"][0] == result["y"][0] == "int8"


def test_values_of_zeros_only() -> None:
    graph = net("c = Conv (x, w, b)  y = Relu (c)", w=(4, 4, 1, 1), b=(4,))
    zero = np.zeros((1, 4, 8, 8), np.float32)
    quantize(graph, samples=[{"x": zero}], **KERNELS)
    assert np.isfinite(run(graph, {"x": zero})["y"]).all()


def test_the_operations_of_subgraphs_stay() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[2,2] x, bool c) => (float[2,2] y)
        <float[2,2] w = {1,2,3,4}>
        {
          y = If (c) <
            then_branch = t () => (float[2,2] a) { a = MatMul (x, w) },
            else_branch = e () => (float[2,2] b) { b = Identity (x) }
          >
        }
        """
    )
    result = quantize(graph, **KERNELS)
    assert not result.changed
    assert decided(result)["a"][1] == "it is part of a subgraph, whose values cannot be observed"


def test_an_opset_that_has_no_scales_per_channel() -> None:
    graph = net("y = MatMul (x, w)", opset=12, x="4,8", w=(8, 8))
    with pytest.raises(ModelError, match="has opset 12") as caught:
        quantize(graph, **KERNELS)
    assert caught.value.code == "opset-too-low"
    assert caught.value.hint is not None
    assert "upgrade-opset: {to: 13}" in caught.value.hint
    source = clone(graph)
    assert quantize(graph, per_channel=False, **KERNELS).changed
    assert sqnr(source, graph) > ONE_PRODUCT - 3  # one scale for all channels


def test_without_data_nothing_can_be_static() -> None:
    graph = net("y = MatMul (x, w)", x="4,8", w=(8, 8))
    with pytest.raises(DataError, match="needs inputs") as caught:
        QuantizeInt8().apply(graph, PassContext())
    assert caught.value.code == "no-calibration"


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_dynamic(op: str) -> None:
    operands = "x, w" if op == "MatMul" else "x, w, b"
    shapes: dict[str, Any] = {"w": (16, 8)} | ({"b": (8,)} if op == "Gemm" else {})
    graph = net(f"y = {op} ({operands})", x="4,16", **shapes)
    source = clone(graph)
    # MatMulInteger itself saturates on a CPU without VNNI.
    result = quantize(graph, mode="dynamic", saturation="avoid", **KERNELS)
    ops = [node.op_type for node in graph.ordered()]
    assert ops == ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"] + (
        ["Add"] if op == "Gemm" else []
    )
    assert sqnr(source, graph) > ONE_PRODUCT
    assert {found[0] for found in decided(result).values()} == {"int8"}


def test_dynamic_quantizes_a_shared_operand_once_and_leaves_convolutions() -> None:
    graph = net("a = MatMul (x, w)  b = MatMul (x, v)  y = Add (a, b)", x="4,8", w=(8, 8), v=(8, 8))
    quantize(graph, mode="dynamic", **KERNELS)
    assert sum(n.op_type == "DynamicQuantizeLinear" for n in graph.ordered()) == 1
    conv = net("y = Conv (x, w)", w=(4, 4, 1, 1))
    result = quantize(conv, mode="dynamic", **KERNELS)
    assert not result.changed
    assert decided(result)["y"][1].startswith("no integer kernel is described for Conv as dynamic")


def test_weights_alone() -> None:
    graph = net("y = MatMul (x, w)", x="4,16", w=(16, 8))
    source = clone(graph)
    result = quantize(graph, runtime="openvino", mode="weights")
    assert chain(graph) == ["MatMul"]
    stored = [v.constant for v in graph.constants() if v.constant]
    assert [tensor.dtype for tensor in stored if tensor.shape == (16, 8)] == [DType.I8]
    assert decided(result)["y"][0] == "fp32"
    assert sqnr(source, graph) > ONE_PRODUCT
    plain = net("y = MatMul (x, w)", x="4,16", w=(16, 8))
    assert not quantize(plain, mode="weights").changed  # ONNX Runtime has no kernel for it


def test_the_order_of_nodes_does_not_matter() -> None:
    texts = set()
    for _ in range(2):
        graph = net(RESIDUAL, **SHAPES)
        InferShapes().apply(graph, PassContext())
        quantize(graph, **KERNELS)
        texts.add(print_graph(graph))
    assert len(texts) == 1
