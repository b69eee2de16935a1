"""Products of integers as they stand in a graph, and what saturating kernels make of them.

    sum_k (a_k - za) w_k  =  sum_k a_k w_k  -  za sum_k w_k

Kernels saturate in the first sum on the right; the second is exact. Activations of type s8 get 128
added, and so does their zero point. Weights have the zero point 0: kernels for others are not those
that saturate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.ir.ops import attribute
from optc.numerics.saturation import Product, saturated_dot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.numerics.values import Array
    from optc.targets.kernels import Pairing

    Numbers = npt.NDArray[Any]
    Read = Callable[["Value | None", int], Numbers]

_OFFSET: Final = 128


@dataclass(frozen=True)
class Quantized:
    """A tensor in integers.

    Attributes:
        value: the integers; None for a result.
        scale: one step; None: 1.
        zero: the zero point; None: 0.
    """

    value: Value | None
    scale: Value | None = None
    zero: Value | None = None


@dataclass(frozen=True)
class IntegerProduct:
    """One operation that runs as a product of integers.

    Attributes:
        node: the operation, between DequantizeLinear or on integers itself.
        product: how its weights make dot products.
        left: the activations.
        right: the weights, or other activations.
        bias: what is added: real numbers, or integers of the sums' scale where `result` is there.
        result: what the sums are quantized to; None where the result is real or the sums.
    """

    node: Node
    product: Product
    left: Quantized
    right: Quantized
    bias: Value | None = None
    result: Quantized | None = None

    @property
    def observed(self) -> tuple[Value, ...]:
        """What `compute` needs: the operands that are not constant."""
        sides = [side for side in (self.left, self.right, self.result) if side is not None]
        values = [value for side in sides for value in (side.value, side.scale, side.zero)]
        found = dict.fromkeys(v for v in (*values, self.bias) if v is not None)
        return tuple(value for value in found if value.constant is None)

    @property
    def weights(self) -> Numbers | None:
        """The weights where they are constant."""
        value = self.right.value
        return None if value is None or value.constant is None else value.constant.numpy()

    def compute(self, graph: Graph, arrays: Mapping[str, Array], pairing: Pairing) -> Array:
        """The result of the operation where sums saturate.

        Args:
            graph: its graph.
            arrays: the `observed` values by name.
            pairing: which products are added in 16 bits.
        """
        read = partial(_read, arrays)
        data, weights = read(self.left.value, 0), read(self.right.value, 0)
        zero = int(read(self.left.zero, 0).reshape(-1)[0])
        if data.dtype == np.int8:
            data, zero = (data.astype(np.int16) + _OFFSET).astype(np.uint8), zero + _OFFSET
        if self.product.op == "Conv":
            sums = _convolve(graph, self, data, weights, zero, pairing)
        else:
            flipped = self.product.op == "Gemm" and attribute(graph, self.node, "transA")
            sums = _multiply(self.product, data.T if flipped else data, weights, zero, pairing)
        if self.node.is_op("MatMulInteger"):
            return sums.astype(np.int32)
        return self._scaled(graph, sums, read)

    def _scaled(self, graph: Graph, sums: Numbers, read: Read) -> Array:
        """The sums with scales, bias and, where there is one, the quantization of the result."""
        step = (read(self.left.scale, 1) * read(self.right.scale, 1)).astype(np.float32)
        bias = read(self.bias, 0)
        if self.product.op == "Conv":
            tail = (1,) * (sums.ndim - 2)
            step, bias = (a.reshape(-1, *tail) if a.ndim else a for a in (step, bias))
        if self.result is not None:
            return _requantize(sums + bias, step, self.result, read)
        bias = bias.astype(np.float32)
        if self.product.op == "Gemm":
            step = step * np.float32(attribute(graph, self.node, "alpha"))
            bias = bias * np.float32(attribute(graph, self.node, "beta"))
        result: Array = (sums.astype(np.float32) * step + bias).astype(np.float32)
        return result


def read_product(graph: Graph, node: Node) -> IntegerProduct | None:
    """An operation as a product of integers; None where it is none, or not understood.

    Understood are Conv, MatMul and Gemm between DequantizeLinear, QLinearConv, QLinearMatMul and
    MatMulInteger, with one scale for the activations and one, or one per output, for signed weights
    with the zero point 0.
    """
    found = _spelled(graph, node)
    if found is None:
        return None
    zero = found.right.zero
    if zero is not None and (zero.constant is None or zero.constant.numpy().any()):
        return None
    weights, scale = found.weights, found.right.scale
    if weights is not None and scale is not None and scale.constant is not None:
        sizes = {1, weights.shape[_output_axis(found.product, weights.ndim)]}
        if math.prod(scale.constant.shape) not in sizes:
            return None
    return found


def _output_axis(product: Product, rank: int) -> int:
    by_row = product.op == "Conv" or product.transposed
    return 0 if by_row else rank - 1


def _spelled(graph: Graph, node: Node) -> IntegerProduct | None:
    at = partial(graph.operand, node)
    if node.domain:
        return None
    if node.is_op("QLinearConv", "QLinearMatMul"):
        is_conv = node.is_op("QLinearConv")
        return IntegerProduct(
            node,
            _product(graph, node, "Conv" if is_conv else "MatMul"),
            Quantized(at(0), at(1), at(2)),
            Quantized(at(3), at(4), at(5)),
            at(8) if is_conv else None,
            Quantized(None, at(6), at(7)),
        )
    if node.is_op("MatMulInteger"):
        left, right = Quantized(at(0), None, at(2)), Quantized(at(1), None, at(3))
        return IntegerProduct(node, Product("MatMul"), left, right)
    if not node.is_op("Conv", "MatMul", "Gemm"):
        return None
    sides = [_dequantized(graph, value) for value in (at(0), at(1))]
    if sides[0] is None or sides[1] is None:
        return None
    return IntegerProduct(node, _product(graph, node, node.op_type), sides[0], sides[1], at(2))


def _product(graph: Graph, node: Node, op: str) -> Product:
    if op == "Conv":
        return Product("Conv", group=attribute(graph, node, "group") or 1)
    if op == "Gemm":
        return Product("Gemm", transposed=bool(attribute(graph, node, "transB")))
    return Product("MatMul")


def _dequantized(graph: Graph, value: Value | None) -> Quantized | None:
    if value is None or not value.node.is_op("DequantizeLinear"):
        return None
    return Quantized(*(graph.operand(value.node, index) for index in range(3)))


def _read(arrays: Mapping[str, Array], value: Value | None, default: int) -> Numbers:
    if value is None:
        return np.array(default)
    found = arrays[value.name] if value.constant is None else value.constant.numpy()
    return found.reshape(()) if found.size == 1 and found.ndim == 1 else found


def _requantize(sums: Numbers, step: Numbers, result: Quantized, read: Read) -> Array:
    """Sums in the integers of the result; one float32 factor, as MLAS has it."""
    zero = read(result.zero, 0)
    factor = (step / read(result.scale, 1)).astype(np.float32)
    limits = np.iinfo(zero.dtype)
    steps = np.rint(sums.astype(np.float32) * factor) + zero.astype(np.float32)
    found: Array = np.clip(steps, limits.min, limits.max).astype(zero.dtype)
    return found


def _multiply(
    product: Product, data: Numbers, weights: Numbers, zero: int, pairing: Pairing
) -> Numbers:
    """Sums of a matrix product; matrices of both operands broadcast."""
    if weights.ndim <= 2:
        columns = product.pairs(weights, pairing)
        rows = product.operand_pairs(data.reshape(-1, data.shape[-1]), pairing)
        sums = saturated_dot(rows, columns) - zero * columns.astype(np.int64).sum((1, 2))
        shape = data.shape[:-1] if weights.ndim == 1 else (*data.shape[:-1], -1)
        result: Numbers = sums.reshape(shape)
        return result
    lead = np.broadcast_shapes(data.shape[:-2], weights.shape[:-2])
    left = np.broadcast_to(data, (*lead, *data.shape[-2:])).reshape(-1, *data.shape[-2:])
    right = np.broadcast_to(weights, (*lead, *weights.shape[-2:])).reshape(-1, *weights.shape[-2:])
    sums = np.stack(
        [_multiply(product, a, b, zero, pairing) for a, b in zip(left, right, strict=True)]
    )
    return sums.reshape(*lead, *sums.shape[1:])


def _convolve(
    graph: Graph,
    item: IntegerProduct,
    data: Numbers,
    weights: Numbers,
    zero: int,
    pairing: Pairing,
) -> Numbers:
    product, kernel = item.product, weights.shape[2:]
    windows = _windows(graph, item.node, data, kernel, zero)
    size = windows.shape[: 1 + len(kernel)]
    windows = windows.reshape(-1, product.group, weights.shape[1], *kernel)
    parts = weights.reshape(product.group, -1, *weights.shape[1:])
    pairs = np.split(product.pairs(weights, pairing), product.group)
    found = []
    for number, part in enumerate(parts):
        flat = part.reshape(len(part), -1).astype(np.int64)
        own = windows[:, number]
        if product.has_pairs(weights.shape):
            sums = saturated_dot(product.operand_pairs(own, pairing), pairs[number])
        else:
            sums = own.reshape(len(own), -1).astype(np.int64) @ flat.T
        found.append(sums - zero * flat.sum(axis=1))
    total = np.concatenate(found, axis=1).reshape(*size, -1)
    return np.moveaxis(total, -1, 1)


def _windows(graph: Graph, node: Node, data: Numbers, kernel: Sequence[int], zero: int) -> Numbers:
    """What each output element sees, as [batch, *positions, channels, *kernel]."""
    rank = len(kernel)
    strides = attribute(graph, node, "strides") or (1,) * rank
    dilations = attribute(graph, node, "dilations") or (1,) * rank
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _padding(graph, node, data.shape[2:], extents, strides)
    wide = np.pad(data, ((0, 0), (0, 0), *pads), constant_values=zero)
    views = np.lib.stride_tricks.sliding_window_view(wide, extents, axis=tuple(range(2, 2 + rank)))
    every = (slice(None), slice(None))
    steps = tuple(slice(None, None, step) for step in (*strides, *dilations))
    found: Numbers = np.moveaxis(views[every + steps], 1, 1 + rank)
    return found


def _padding(
    graph: Graph,
    node: Node,
    sizes: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    """Elements before and after each spatial axis."""
    mode = (attribute(graph, node, "auto_pad") or b"NOTSET").decode()
    rank = len(sizes)
    if not mode.startswith("SAME"):
        pads = attribute(graph, node, "pads") if mode == "NOTSET" else None
        pads = pads or (0,) * (2 * rank)
        return list(zip(pads[:rank], pads[rank:], strict=True))
    found = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return found
