"""Models of one operator, written down in the form that a route of a kernel table names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import ml_dtypes
import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from optc.targets.kernels import Route

Array = npt.NDArray[Any]
Shapes = tuple[tuple[int, ...], ...]
ZeroPoint = Literal["symmetric", "lowest", "asymmetric"]

ELEMENT = {
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "u8": np.dtype(np.uint8),
    "s8": np.dtype(np.int8),
    "u4": np.dtype(ml_dtypes.uint4),
    "s4": np.dtype(ml_dtypes.int4),
}
_ZERO: dict[tuple[str, ZeroPoint], int] = {
    ("u8", "symmetric"): 128,
    ("u8", "lowest"): 0,
    ("u8", "asymmetric"): 100,
    ("s8", "symmetric"): 0,
    ("s8", "lowest"): -128,
    ("s8", "asymmetric"): -11,
}
_IMAGE = (1, 16, 14, 14)
_ROWS = (32, 64)  # enough for tiles


@dataclass(frozen=True)
class Spec:
    """What an operator needs to stand alone.

    Attributes:
        shapes: one per activation.
        weight: shape of the constant second operand; None when it has none.
        channel: axis of the weight that has a scale of its own.
        pair: shape of a second activation, where a weight can be replaced by one.
        attributes: attributes of the operator.
        constants: further constant operands; None leaves an operand out.
        bound: whether the result lies in [0, 1], which needs a scale of its own.
    """

    shapes: Shapes = (_IMAGE,)
    weight: tuple[int, ...] | None = None
    channel: int = 1
    pair: tuple[int, ...] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[Array | None, ...] = ()
    bound: bool = False


def _ints(*values: int) -> Array:
    return np.array(values, np.int64)


_RECURRENT = np.linspace(-1, 1, 2 * 32 * 16, dtype=np.float32)
SPECS: dict[str, Spec] = {
    "Conv": Spec(weight=(32, 16, 3, 3), channel=0),
    "ConvTranspose": Spec(weight=(16, 32, 3, 3)),
    "MatMul": Spec(((2, 32, 64),), weight=(64, 32), pair=(2, 64, 32)),
    "Gemm": Spec((_ROWS,), weight=(64, 32)),
    "ConvInteger": Spec(weight=(32, 16, 3, 3), channel=0),
    "MatMulInteger": Spec((_ROWS,), weight=(64, 32)),
    "Add": Spec((_IMAGE, _IMAGE)),
    "Mul": Spec((_IMAGE, _IMAGE)),
    "Sub": Spec((_IMAGE, _IMAGE)),
    "Sigmoid": Spec(bound=True),
    "HardSigmoid": Spec(bound=True),
    "LeakyRelu": Spec(),
    "Tanh": Spec(),
    "Exp": Spec(),
    "Sin": Spec(),
    "Log": Spec(),
    "Gelu": Spec(),
    "Sign": Spec(),
    "Softmax": Spec(attributes={"axis": -1}, bound=True),
    "AveragePool": Spec(attributes={"kernel_shape": [2, 2]}),
    "MaxPool": Spec(attributes={"kernel_shape": [2, 2]}),
    "GlobalAveragePool": Spec(),
    "ReduceMean": Spec(constants=(_ints(2, 3),)),
    "Resize": Spec(
        attributes={"mode": "nearest"}, constants=(None, np.array([1, 1, 2, 2], np.float32))
    ),
    "DepthToSpace": Spec(attributes={"blocksize": 2}),
    "Concat": Spec((_IMAGE, _IMAGE), attributes={"axis": 1}),
    "Transpose": Spec(attributes={"perm": [0, 2, 3, 1]}),
    "Reshape": Spec(constants=(_ints(1, -1),)),
    "Flatten": Spec(),
    "Squeeze": Spec(constants=(_ints(0),)),
    "Unsqueeze": Spec(constants=(_ints(0),)),
    "Slice": Spec(constants=(_ints(0), _ints(4), _ints(1))),
    "Gather": Spec(attributes={"axis": 1}, constants=(_ints(0, 1),)),
    "LayerNormalization": Spec((_ROWS,), constants=(np.ones(64, np.float32),)),
    "LSTM": Spec(
        ((5, 1, 16),),
        attributes={"hidden_size": 8},
        constants=(_RECURRENT[:512].reshape(1, 32, 16), _RECURRENT[:256].reshape(1, 32, 8)),
    ),
    "RNN": Spec(
        ((5, 1, 16),),
        attributes={"hidden_size": 8},
        constants=(_RECURRENT[:128].reshape(1, 8, 16), _RECURRENT[:64].reshape(1, 8, 8)),
    ),
    "Einsum": Spec(((4, 16), (16, 8)), attributes={"equation": "ab,bc->ac"}),
    "GRU": Spec(
        ((5, 1, 16),),
        attributes={"hidden_size": 8},
        constants=(_RECURRENT[:384].reshape(1, 24, 16), _RECURRENT[:192].reshape(1, 24, 8)),
    ),
}
"""Operators that can be built; small, but large enough for the blocked kernels."""


def weight_zero(route: Route) -> int:
    """The zero point of a weight: 0, or 128 for u8; -1 where the route is about others."""
    return -1 if route.weight_zero_point == "asymmetric" else 128 * (route.weight == "u8")


class Builder:
    """Collects the nodes of a model; values are named after the nodes that make them."""

    def __init__(self, op: str, zero_point: ZeroPoint = "asymmetric") -> None:
        self.op = op
        self.spec = SPECS[op]
        self.zero_point: ZeroPoint = zero_point
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.random = np.random.default_rng(0)

    def node(self, op: str, operands: list[str], domain: str = "", **attributes: Any) -> str:
        """Add a node with one result and return the result's name."""
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, operands, [result], domain=domain, **attributes))
        return result

    def constant(self, value: npt.ArrayLike) -> str:
        """Add an initializer and return its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, element: str) -> Array:
        """Numbers in the range of the element type, no more than 8 bits for floats."""
        shape = self.spec.weight
        assert shape is not None
        low, high = {"u8": (0, 255), "u4": (0, 15), "s4": (-8, 7)}.get(element, (-127, 127))
        numbers = self.random.integers(low, high, shape)
        scale = 1 if ELEMENT[element].kind in "iu" or element in {"u4", "s4"} else 1 / 64
        return (numbers * scale).astype(ELEMENT[element])

    def zero(self, element: str) -> int:
        """The zero point of activations."""
        return _ZERO[element, self.zero_point]

    def quantized(self, value: str, element: str, scale: float, zero: int) -> tuple[str, list[str]]:
        """Quantize a value; the result and the names of scale and zero point."""
        params = [self.constant(np.float32(scale)), self.constant(ELEMENT[element].type(zero))]
        return self.node("QuantizeLinear", [value, *params]), params

    def around(self, value: str, element: str, scale: float = 0.02, zero: int | None = None) -> str:
        """QuantizeLinear and DequantizeLinear behind a value."""
        point = self.zero(element) if zero is None else zero
        result, params = self.quantized(value, element, scale, point)
        return self.node("DequantizeLinear", [result, *params])

    def scales(self) -> Array:
        """One scale per channel of the weight."""
        assert self.spec.weight is not None
        return np.linspace(0.01, 0.02, self.spec.weight[self.spec.channel], dtype=np.float32)

    def dequantized_weight(self, route: Route) -> str:
        """A constant weight with one scale per channel; for its zero point see `weight_zero`."""
        element = route.weight
        assert element is not None
        zero = weight_zero(route)
        points = np.full(self.scales().shape, zero, ELEMENT[element])
        operands = [self.weight(element), self.scales(), points]
        names = [self.constant(operand) for operand in operands]
        return self.node("DequantizeLinear", names, axis=self.spec.channel)

    def extras(self, element: str = "f32") -> list[str]:
        """The further constant operands; an empty name leaves one out."""
        names = []
        for value in self.spec.constants:
            if value is None:
                names.append("")
            elif value.dtype == np.float32 and self.op != "Resize":
                names.append(self.constant(value.astype(ELEMENT[element])))
            else:
                names.append(self.constant(value))
        return names

    def model(self, result: str, shapes: Shapes) -> ModelProto:
        """The model with inputs x0, x1, … and the output y."""
        last = self.nodes[-1]
        assert last.output[0] == result
        last.output[0] = "y"
        inputs = [
            helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, shape)
            for index, shape in enumerate(shapes)
        ]
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "one", inputs, [output], self.constants)
        opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def build(route: Route, op: str, zero_point: ZeroPoint = "asymmetric") -> ModelProto:
    """The model of one operator in the form and types of a route."""
    builder = Builder(op, zero_point)
    result, shapes = _FORMS[route.form](builder, route)
    return builder.model(result, shapes)


def sandwich(op: str) -> ModelProto:
    """The operator between two matrix products: alone it would be the tail, which stays fp32."""
    builder = Builder(op)
    shape = (1, 8, 64)
    weights = [builder.constant(np.eye(64, dtype=np.float32)) for _ in "ab"]
    value = builder.node("MatMul", ["x0", weights[0]])
    attributes = {"perm": [0, 2, 1]} if op == "Transpose" else builder.spec.attributes
    second = ["x0"] if len(builder.spec.shapes) == 2 else []
    value = builder.node(op, [value, *second, *builder.extras()], **attributes)
    return builder.model(builder.node("MatMul", [value, weights[1]]), (shape,))


def _inputs(builder: Builder, *, pair: bool = False) -> tuple[list[str], Shapes]:
    shapes = builder.spec.shapes
    if pair:
        assert builder.spec.pair is not None
        shapes = (*shapes, builder.spec.pair)
    return [f"x{index}" for index in range(len(shapes))], shapes


def _plain(builder: Builder, route: Route, *, pair: bool = False) -> tuple[str, Shapes]:
    names, shapes = _inputs(builder, pair=pair)
    element = "f32" if route.form == "hint" else route.activation
    kind = helper.np_dtype_to_tensor_dtype(ELEMENT[element])
    if element != "f32":
        names = [builder.node("Cast", [name], to=kind) for name in names]
    if builder.spec.weight is not None and not pair:
        names.append(builder.constant(builder.weight(element)))
    operands = [*names, *builder.extras(element)]
    result = builder.node(builder.op, operands, **builder.spec.attributes)
    if element != "f32":
        result = builder.node("Cast", [result], to=TensorProto.FLOAT)
    return result, shapes


def _pair(builder: Builder, route: Route) -> tuple[str, Shapes]:
    return _plain(builder, route, pair=True)


def _qdq(
    builder: Builder, route: Route, *, pair: bool = False, relu: bool = False
) -> tuple[str, Shapes]:
    inputs, shapes = _inputs(builder, pair=pair)
    names = [builder.around(name, route.activation) for name in inputs]
    if builder.spec.weight is not None and not pair:
        assert route.weight is not None
        names.append(builder.dequantized_weight(route))
    operands = [*names, *builder.extras()]
    result = builder.node(builder.op, operands, **builder.spec.attributes)
    if relu:
        result = builder.node("Relu", [result])
    if route.output != "f32":
        # Movers keep the scale; where the result lies in [0, 1] the range is used as runtimes do.
        scale, zero = (1 / 256, 0) if builder.spec.bound else (0.02, None)
        result = builder.around(result, route.activation, scale, zero)
    return result, shapes


def _qdq_pair(builder: Builder, route: Route) -> tuple[str, Shapes]:
    return _qdq(builder, route, pair=True)


def _qdq_relu(builder: Builder, route: Route) -> tuple[str, Shapes]:
    return _qdq(builder, route, relu=True)


def _qoperator(builder: Builder, route: Route) -> tuple[str, Shapes]:
    names, shapes = _inputs(builder)
    if builder.op == "LSTM":
        return _dynamic_lstm(builder, names[0]), shapes
    zero = builder.zero(route.activation)
    value, params = builder.quantized(names[0], route.activation, 0.02, zero)
    if builder.op == "AveragePool":
        operands = [value, *params, *params]
        attributes = builder.spec.attributes
        result = builder.node("QLinearAveragePool", operands, "com.microsoft", **attributes)
    else:
        assert route.weight is not None
        zero = 0 if route.weight == "u8" else weight_zero(route)
        point = builder.constant(ELEMENT[route.weight].type(zero))
        weight = [builder.constant(builder.weight(route.weight)), params[0], point]
        result = builder.node(f"QLinear{builder.op}", [value, *params, *weight, *params])
    return builder.node("DequantizeLinear", [result, *params]), shapes


def _dynamic_lstm(builder: Builder, name: str) -> str:
    operands = [name]
    constants = [value for value in builder.spec.constants if value is not None]
    operands += [
        builder.constant((value.transpose(0, 2, 1) * 127).astype(np.int8)) for value in constants
    ]
    params: list[Array] = [np.array([0.01], np.float32), np.array([0], np.int8)]
    operands += [""] * 5 + [builder.constant(value) for value in params * 2]
    attributes = builder.spec.attributes
    return builder.node("DynamicQuantizeLSTM", operands, "com.microsoft", **attributes)


def _integer(builder: Builder, route: Route) -> tuple[str, Shapes]:
    names, shapes = _inputs(builder)
    assert route.weight is not None
    value, params = builder.quantized(
        names[0], route.activation, 0.02, builder.zero(route.activation)
    )
    weight = builder.constant(builder.weight(route.weight))
    op = builder.op if builder.op.endswith("Integer") else f"{builder.op}Integer"
    result = builder.node(op, [value, weight, params[1]])
    return builder.node("Cast", [result], to=TensorProto.FLOAT), shapes


def _dynamic(builder: Builder, route: Route) -> tuple[str, Shapes]:
    names, shapes = _inputs(builder)
    assert route.weight is not None
    results = ["quantized", "scale", "zero"]
    builder.nodes.append(helper.make_node("DynamicQuantizeLinear", names, results))
    weight = builder.constant(builder.weight(route.weight))
    point = builder.constant(ELEMENT[route.weight].type(0))
    product = builder.node(f"{builder.op}Integer", ["quantized", weight, "zero", point])
    product = builder.node("Cast", [product], to=TensorProto.FLOAT)
    scale = builder.node("Mul", ["scale", builder.constant(np.float32(0.01))])
    return builder.node("Mul", [product, scale]), shapes


def _weight_only(builder: Builder, route: Route) -> tuple[str, Shapes]:
    names, shapes = _inputs(builder)
    assert route.weight is not None
    assert builder.spec.weight is not None
    if route.weight in {"u4", "s4"}:
        scale = np.full((builder.spec.weight[0] // 32, builder.spec.weight[1]), 0.01, np.float32)
        operands = [builder.constant(builder.weight(route.weight)), builder.constant(scale)]
        weight = builder.node("DequantizeLinear", operands, axis=0, block_size=32)
    else:
        weight = builder.dequantized_weight(route)
    return builder.node(builder.op, [*names, weight]), shapes


_FORMS = {
    "plain": _plain,
    "pair": _pair,
    "hint": _plain,
    "qdq": _qdq,
    "qdq-relu": _qdq_relu,
    "qdq-pair": _qdq_pair,
    "qoperator": _qoperator,
    "integer": _integer,
    "dynamic": _dynamic,
    "weight-only": _weight_only,
}
