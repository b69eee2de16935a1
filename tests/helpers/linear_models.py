"""Random models of one linear operation between elementwise operations, with an error bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    import numpy.typing as npt

Step = tuple[str, str, bool]
"""Operator (or ``BatchNormalization``), form of the constant, constant on the left."""


@dataclass(frozen=True)
class LinearModel:
    """Steps, a linear operation, steps.

    Attributes:
        op: Conv, ConvTranspose, Gemm or MatMul.
        spatial: number of spatial axes of a convolution.
        group: groups of a convolution.
        inputs: input channels per group.
        outputs: output channels per group.
        bias: None, or which of the forms of a bias; see `_bias_shape`.
        attributes: attributes of the operation.
        kernel: kernel size of a convolution, all axes.
        side: which operand of a MatMul is the weight.
        rank: dimensions of the data of a MatMul, 2 or 3.
        before: steps between the input and the operation.
        after: steps between the operation and the output.
        seed: seed of all numbers.
    """

    op: str
    spatial: int = 2
    group: int = 1
    inputs: int = 2
    outputs: int = 3
    bias: int | None = None
    attributes: tuple[tuple[str, Any], ...] = ()
    kernel: int = 1
    side: Literal["left", "right"] = "right"
    rank: int = 3
    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    seed: int = 0

    @property
    def taps(self) -> int:
        """Products that one element of the result sums, at most."""
        return int(self.inputs * self.kernel**self.spatial)

    @property
    def depth(self) -> int:
        """Elementwise operations on the way."""
        return len(self.before) + len(self.after)


@dataclass
class _Writer:
    model: LinearModel
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.model.seed)

    def constant(self, shape: tuple[int, ...], low: float = -2.0) -> str:
        """Numbers of magnitude 0.5 to 2, both signs unless `low` is positive."""
        values = self.rng.uniform(0.5, 2.0, shape)
        if low < 0:
            values *= self.rng.choice([-1.0, 1.0], shape)
        name = f"c{len(self.initializers)}"
        array = np.asarray(values, np.float32)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def node(self, op: str, operands: list[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [name], name=f"n_{name}", **attributes))
        return name

    def step(self, step: Step, value: str, shape: tuple[int, ...], axis: int) -> str:
        op, form, flipped = step
        channels = shape[axis]
        if op == "BatchNormalization":
            sizes = (shape[1],)
            parameters = [self.constant(sizes) for _ in range(3)]
            return self.node(op, [value, *parameters, self.constant(sizes, low=0.5)])
        trailing = (1,) * (-axis - 1)
        shapes = {
            "scalar": (),
            "one": (1,),
            "channel": (channels, *trailing),
            "full": (1,) * (len(shape) + axis) + (channels, *trailing),
            "places": (*((1,) * (len(shape) - 1)), shape[-1]),
        }
        constant = self.constant(shapes[form])
        return self.node(op, [constant, value] if flipped else [value, constant])


def build(model: LinearModel) -> tuple[onnx.ModelProto, npt.NDArray[np.float32]]:
    """The model and an input for it."""
    writer = _Writer(model)
    shape, axis = _data(model)
    x = writer.rng.standard_normal(shape).astype(np.float32)
    value = "x"
    for step in model.before:
        value = writer.step(step, value, shape, axis)
    value, shape, axis = _linear(writer, model, value, shape)
    for step in model.after:
        value = writer.step(step, value, shape, axis)
    graph = helper.make_graph(
        writer.nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, None)],
        writer.initializers,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(proto), x


def _data(model: LinearModel) -> tuple[tuple[int, ...], int]:
    channels = model.group * model.inputs
    if model.op in ("Conv", "ConvTranspose"):
        return (2, channels, *(6, 5, 4)[: model.spatial]), -1 - model.spatial
    if model.op == "Gemm":
        return ((channels, 4), -2) if dict(model.attributes).get("transA") else ((4, channels), -1)
    shape, axis = ((3, channels, 4), -2) if model.side == "left" else ((3, 4, channels), -1)
    return shape[-model.rank :], axis


def _linear(
    writer: _Writer, model: LinearModel, value: str, shape: tuple[int, ...]
) -> tuple[str, tuple[int, ...], int]:
    attributes = dict(model.attributes)
    inputs, outputs = model.inputs, model.outputs
    if model.op in ("Conv", "ConvTranspose"):
        across = (model.group * (inputs if model.op == "ConvTranspose" else outputs),)
        within = outputs if model.op == "ConvTranspose" else inputs
        weight = writer.constant((*across, within, *(model.kernel,) * model.spatial))
        channels = model.group * outputs
        biases = [] if model.bias is None else [writer.constant((channels,))]
        result = writer.node(model.op, [value, weight, *biases], group=model.group, **attributes)
        # Only the last size matters, and only for constants that are refused.
        return result, (2, channels, *(1,) * model.spatial), -1 - model.spatial
    if model.op == "Gemm":
        transposed = attributes.get("transB")
        weight = writer.constant((outputs, inputs) if transposed else (inputs, outputs))
        forms = [(), (outputs,), (1, outputs), (4, outputs), (4, 1), (1,)]
        biases = [] if model.bias is None else [writer.constant(forms[model.bias % len(forms)])]
        return writer.node("Gemm", [value, weight, *biases], **attributes), (4, outputs), -1
    on_left = model.side == "left"
    weight = writer.constant((outputs, inputs) if on_left else (inputs, outputs))
    product = writer.node("MatMul", [weight, value] if on_left else [value, weight])
    shape, axis = ((3, outputs, 4), -2) if on_left else ((3, 4, outputs), -1)
    shape = shape[-model.rank :]
    if model.bias is not None:
        forms = [(), (outputs, 1) if on_left else (outputs,), shape, (1, *shape[1:])]
        bias = writer.constant(forms[model.bias % len(forms)])
        product = writer.node("Add", [product, bias] if model.bias % 2 else [bias, product])
    return product, shape, axis


def majorant(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every number replaced by its magnitude and every Sub by an Add.

    On magnitudes of the data it computes a bound on the sum of the magnitudes of all terms whose
    sum is the model's result, whatever order they are summed in and whatever is distributed.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    means = {node.input[3] for node in model.graph.node if node.op_type == "BatchNormalization"}
    for tensor in result.graph.initializer:
        values = np.abs(numpy_helper.to_array(tensor))
        signed = -values if tensor.name in means else values  # it is subtracted
        tensor.CopyFrom(numpy_helper.from_array(signed, tensor.name))
    for node in result.graph.node:
        if node.op_type == "Sub":
            node.op_type = "Add"
        for attribute in node.attribute:
            if attribute.name in ("alpha", "beta"):
                attribute.f = abs(attribute.f)
    return result


def run(model: onnx.ModelProto | bytes, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first output on ONNX Runtime, as the model is written (no graph optimization)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    data = model if isinstance(model, bytes) else model.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    result: npt.NDArray[Any] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return result


# ---- hypothesis --------------------------------------------------------------------------------


def affine_steps(*, most: int = 3) -> st.SearchStrategy[tuple[Step, ...]]:
    """Up to `most` operations with a constant; rarely one that cannot be folded."""
    forms = st.sampled_from(["scalar", "one", "channel", "full", "channel", "full", "places"])
    operators = st.sampled_from(["Mul", "Add", "Sub", "Div"])
    step = st.tuples(operators, forms, st.booleans()).map(
        lambda step: (step[0], step[1], step[2] and step[0] != "Div")
    )
    return st.lists(step, max_size=most).map(tuple)


@st.composite
def linear_models(
    draw: st.DrawFn,
    before: st.SearchStrategy[tuple[Step, ...]],
    after: st.SearchStrategy[tuple[Step, ...]],
) -> LinearModel:
    """Any linear operation between steps."""
    op = draw(st.sampled_from(["Conv", "ConvTranspose", "Gemm", "MatMul"]))
    is_convolution = op in ("Conv", "ConvTranspose")
    spatial = draw(st.integers(1, 3)) if is_convolution else 0
    kernel = draw(st.integers(1, 3)) if is_convolution else 1
    attributes: dict[str, Any] = {}
    if is_convolution:
        attributes = _convolution_attributes(draw, op, spatial)
    elif op == "Gemm":
        attributes = {
            "transA": draw(st.integers(0, 1)),
            "transB": draw(st.integers(0, 1)),
            "alpha": draw(st.sampled_from([1.0, 0.5, -2.0])),
            "beta": draw(st.sampled_from([1.0, 0.25, -3.0, 0.0])),
        }
    return LinearModel(
        op=op,
        spatial=spatial,
        kernel=kernel,
        group=draw(st.integers(1, 3)) if is_convolution else 1,
        inputs=draw(st.integers(1, 3)),
        outputs=draw(st.integers(1, 3)),
        bias=draw(st.none() | st.integers(0, 5)),
        attributes=tuple(attributes.items()),
        side=draw(st.sampled_from(["left", "right"])) if op == "MatMul" else "right",
        rank=draw(st.integers(2, 3)),
        before=draw(before),
        after=draw(after),
        seed=draw(st.integers(0, 2**16)),
    )


def _convolution_attributes(draw: st.DrawFn, op: str, spatial: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {"strides": [draw(st.integers(1, 2))] * spatial}
    if op == "Conv":
        mode = draw(st.sampled_from(["none", "pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
        if mode == "pads":
            attributes["pads"] = [draw(st.integers(0, 1)) for _ in range(2 * spatial)]
        elif mode != "none":
            attributes["auto_pad"] = mode
    elif draw(st.booleans()):
        attributes["output_padding"] = [attributes["strides"][0] - 1] * spatial
    return attributes
