"""Write QuantizeLinear and DequantizeLinear around operations, and weights in integers.

    x ─ Q ─ DQ ─ operation ─ [Relu] ─ Q ─ DQ ─ ...        W' ─ DQ ─ operation

Every value has one pair, which all its users share; equal weights of several operations are stored
once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from optc.ir import Attr, AttrKind, DType, Origin, Tensor, TensorType
from optc.numerics.quantize import bias_params, fit_bias, quantize_tensor, weight_params
from optc.numerics.saturation import Product, safe_scales
from optc.passes.int8_sites import channel_axis, product_of

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    from optc.ir import Graph, Node, Value
    from optc.numerics.quantize import QuantParams


@dataclass(frozen=True)
class WeightStyle:
    """How weights are quantized.

    Attributes:
        dtype: the integer type.
        per_channel: whether every output channel has a scale of its own.
        symmetric: whether zero points are 0 (128 for u8).
        safe: whether no sum of two products may saturate in 16 bits.
        bias: whether a bias becomes int32, in the scale of the products.
        off_middle: whether zero points are one below what they would be; integers from -127 to 127
            then go from -128 to 126, and stand for the same weights.
    """

    dtype: DType = DType.I8
    per_channel: bool = True
    symmetric: bool = True
    safe: bool = False
    bias: bool = True
    off_middle: bool = False

    def matrix_params(self, weights: npt.NDArray[Any]) -> QuantParams:
        """Parameters of the second operand of a MatMul; its zero points are the middle."""
        axis = 1 if self.per_channel and weights.ndim == 2 else None
        return self.made_safe(weight_params(weights, axis, self.dtype), weights, Product("MatMul"))

    def made_safe(
        self, params: QuantParams, weights: npt.NDArray[Any], product: Product
    ) -> QuantParams:
        """The parameters, coarser where sums of two products would saturate otherwise."""
        if not self.safe:
            return params
        scales = np.array(params.scales, np.float32)
        return replace(params, scales=tuple(map(float, safe_scales(weights, scales, product))))


class Writer:
    """Adds quantization to a graph."""

    def __init__(self, graph: Graph, made_by: str) -> None:
        self.graph = graph
        self._made_by = made_by
        self._weights: dict[tuple[Value, QuantParams], Value] = {}
        self._pairs: dict[tuple[Value, QuantParams], Value] = {}

    def pair(self, value: Value, params: QuantParams) -> Value:
        """A value as it comes back from integers: the DequantizeLinear of its QuantizeLinear."""
        key = (value, params)
        if key not in self._pairs:
            scale = self._constant(value, "scale", params.scale_array, DType.F32)
            zero = self._constant(value, "zero_point", params.zero_point_array, params.dtype)
            origin = self._origin(value.node)
            quantized = self._add("QuantizeLinear", [value, scale, zero], value, params, origin)
            self._pairs[key] = self._add(
                "DequantizeLinear", [quantized, scale, zero], value, params, origin
            )
        return self._pairs[key]

    def weight(self, node: Node, style: WeightStyle, activation: float | None) -> None:
        """Quantize the weight of a product, and its bias.

        Args:
            node: the product; its second operand is a constant, and so is the third if any.
            style: how.
            activation: scale of the first operand; None: the bias stays as it is.
        """
        value = self.graph.operand(node, 1)
        assert value is not None
        assert value.constant is not None
        bias = self.graph.operand(node, 2)
        moved = bias if style.bias and activation is not None else None
        params = self._weight_params(node, value.constant, style, moved, activation)
        self.graph.set_operand(node, 1, self.constant(value, params))
        if moved is not None and activation is not None:
            self.graph.set_operand(node, 2, self.constant(moved, bias_params(params, activation)))

    def constant(self, value: Value, params: QuantParams) -> Value:
        """A constant as it comes back from integers."""
        key = (value, params)
        if key not in self._weights:
            tensor = value.constant
            assert tensor is not None
            origin = value.node.origin
            quantized = self.graph.add_constant(
                quantize_tensor(tensor, params), self._name(value, "quantized"), origin
            )
            scale = self._constant(value, "scale", params.scale_array, DType.F32)
            zero = self._constant(value, "zero_point", params.zero_point_array, params.dtype)
            self._weights[key] = self._add(
                "DequantizeLinear", [quantized, scale, zero], value, params, origin
            )
        return self._weights[key]

    def _weight_params(
        self,
        node: Node,
        tensor: Tensor,
        style: WeightStyle,
        bias: Value | None,
        activation: float | None,
    ) -> QuantParams:
        weights = tensor.numpy()
        axis = channel_axis(node, weights.ndim) if style.per_channel else None
        product = product_of(node)
        bits = 7 if style.safe and product is None else 8
        params = weight_params(weights, axis, style.dtype, symmetric=style.symmetric, bits=bits)
        if bias is not None and activation is not None:
            assert bias.constant is not None
            params = fit_bias(params, weights, bias.constant.numpy(), activation)
        params = params if product is None else style.made_safe(params, weights, product)
        if not (style.off_middle and params.is_symmetric):
            return params
        return replace(params, zero_points=tuple(zero - 1 for zero in params.zero_points))

    def _add(
        self,
        op_type: str,
        operands: list[Value],
        value: Value,
        params: QuantParams,
        origin: Origin | None,
    ) -> Value:
        suffix = "quantized" if op_type == "QuantizeLinear" else "dequantized"
        kind = value.type
        dtype = params.dtype if op_type == "QuantizeLinear" else DType.F32
        types = [TensorType(dtype, kind.shape)] if isinstance(kind, TensorType) else []
        output = self._name(value, suffix)
        # A shared constant may have several, one for each scale: numbered as their results are.
        number = output.removeprefix(f"{value.name}_{suffix}")
        node = self.graph.add(
            op_type,
            operands,
            outputs=[output],
            name=f"{value.name}/{op_type}{number}",
            attributes={} if params.axis is None else {"axis": Attr(AttrKind.INT, params.axis)},
            types=types,
            origin=origin,
        )
        return node.output

    def _constant(
        self, value: Value, what: str, array: npt.NDArray[np.generic], dtype: DType
    ) -> Value:
        tensor = Tensor.from_numpy(array, dtype)
        return self.graph.add_constant(tensor, self._name(value, what), self._origin(value.node))

    def _name(self, value: Value, what: str) -> str:
        return self.graph.fresh_name(f"{value.name}_{what}")

    def _origin(self, node: Node) -> Origin:
        return Origin(self._made_by, (node.source_origin(),))
