"""Linear operations seen per channel: which axis of which operand is a channel.

Conv, ConvTranspose, Gemm and MatMul all compute, for every output channel o,

    y[o] = gain * sum_i W[o, i] · x[i]  +  bias_gain * bias[o]

and differ in where the weight keeps o and i. `Linear` hides that behind three shapes of equal
rank: `view`, into which the weight is reshaped, and `outs` and `ins`, the shapes of a vector over
the output or the input channels that broadcasts against it.

    Conv            [O, I/g, k…]   view (g, O/g, I/g, k)   outs (g, O/g, 1, 1)   ins (g, 1, I/g, 1)
    ConvTranspose   [I, O/g, k…]   view (g, I/g, O/g, k)   outs (g, 1, O/g, 1)   ins (g, I/g, 1, 1)
    Gemm            [K, N]         view (1, K, N)          outs (1, 1, N)        ins (1, K, 1)
    Gemm, transB    [N, K]         view (1, N, K)          outs (1, N, 1)        ins (1, 1, K)
    MatMul, right   [b…, K, N]     view (b, K, N)          outs (1, 1, N)        ins (1, K, 1)
    MatMul, left    [b…, M, K]     view (b, M, K)          outs (1, M, 1)        ins (1, 1, K)

Source: ONNX operators Conv-22, ConvTranspose-22, Gemm-13, MatMul-13.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from optc.ir import Kind, TensorType, ops

if TYPE_CHECKING:
    from collections.abc import Collection

    from optc.ir import Dim, Graph, Node, Shape, Use, Value

STEMS: Final = {
    "Conv": "conv",
    "ConvTranspose": "conv-transpose",
    "Gemm": "gemm",
    "MatMul": "matmul",
}
"""The operators that `linear_of` understands, and how names of rules call them."""

LINEAR: Final = tuple(STEMS)
"""The operators that `linear_of` understands."""


@dataclass(frozen=True)
class Linear:
    """One linear operation.

    Attributes:
        node: the operation.
        adder: for a MatMul, the Add of a constant that serves as its bias; else None.
        data: the operand that carries the input channels.
        weight: the other factor; not necessarily constant.
        bias: the added operand; None when there is none.
        rank: dimensions of the result, None when not known.
        min_rank: what the result has at least.
        data_rank: dimensions of `data`, None when not known.
        axis: channel axis of the result, counted from the end.
        data_axis: channel axis of `data`, counted from the end.
        bias_axis: channel axis of `bias`, counted from the end.
        view: shape into which the weight is reshaped.
        outs: shape of a vector over output channels, against `view`.
        ins: shape of a vector over input channels, against `view`.
        gain: factor of the product (alpha of a Gemm).
        bias_gain: factor of the bias (beta of a Gemm).
    """

    node: Node
    data: Value
    weight: Value
    bias: Value | None
    rank: int | None
    min_rank: int
    data_rank: int | None
    axis: int
    data_axis: int
    bias_axis: int
    view: tuple[int, ...]
    outs: tuple[int, ...]
    ins: tuple[int, ...]
    adder: Node | None = None
    gain: float = 1.0
    bias_gain: float = 1.0

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return math.prod(self.outs)

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return math.prod(self.ins)

    @property
    def last(self) -> Node:
        """The node whose output is the result, bias included."""
        return self.adder or self.node

    @property
    def is_batched(self) -> bool:
        """True when the weight of a MatMul holds several matrices."""
        return self.node.op_type == "MatMul" and self.view[0] > 1


def linear_of(graph: Graph, node: Node, adder: Node | None = None) -> Linear | str:
    """A node as linear operation, or the reason why it cannot be seen as one.

    Args:
        graph: its graph.
        node: an operation of `LINEAR`.
        adder: for a MatMul, the Add that is to count as its bias; see `bias_adder`.
    """
    if node.op_type == "MatMul":
        found = _matmul(graph, node, adder)
    elif node.op_type == "Gemm":
        found = _gemm(graph, node)
    else:
        found = _convolution(graph, node)
    if isinstance(found, Linear) and 0 in found.view:
        return f"weight {found.weight.name} is empty"
    return found


def linear_ending_at(graph: Graph, node: Node) -> tuple[Node, Node | None] | None:
    """The linear operation whose result, bias included, a node computes, with its adder.

    Returns:
        `(node, None)` for an operation of `LINEAR`; `(matmul, node)` when the node adds a constant
        to the result of a MatMul; else None.
    """
    if node.is_op(*LINEAR):
        return node, None
    if node.is_op("Add"):
        for product, constant in _both_orders(graph, node):
            if product.node.is_op("MatMul") and constant.constant is not None:
                return product.node, node
    return None


def bias_adder(graph: Graph, matmul: Node) -> Node | None:
    """The Add of a constant that is the only use of a MatMul's result, or None."""
    use = graph.only_use(matmul.output)
    if use is None or not use.node.is_op("Add"):
        return None
    other = graph.operand(use.node, 1 - cast("int", use.key))
    return use.node if other is not None and other.constant is not None else None


def other_use(graph: Graph, value: Value, inside: Collection[Node]) -> Use | None:
    """A use of a value by a node that is not `inside`; looks at no more uses than it must."""
    return next((use for use in graph.uses(value) if use.node not in inside), None)


def use_text(use: Use, verb: str) -> str:
    """What a use does, for reasons: `verb` and the consumer, or graph output, or capture."""
    if use.node.kind is Kind.OUTPUT:
        return f"is the graph output {use.node.name}"
    if isinstance(use.key, str):
        return f"is captured by a subgraph of {use.node.label}"
    return f"{verb} {use.node.label}"


def shape_of(graph: Graph, value: Value) -> Shape | None:
    """Dimensions of a value, as far as its type tells, or where that comes from.

    Where the type is missing, the shape is that of the value that it is an elementwise function
    of, or of the convolution or Gemm that computes it. None when the rank is not known.
    """
    while True:
        if isinstance(value.type, TensorType) and value.type.shape is not None:
            return value.type.shape
        node, source = value.node, graph.operand(value.node, 0)
        same = ops.info(node).has(ops.Trait.UNARY) or node.is_op("BatchNormalization")
        if source is None or value.index > 0 or not same:
            break
        value = source
    if not node.is_op(*LINEAR) or node.op_type == "MatMul":
        return None
    linear = linear_of(graph, node)
    if isinstance(linear, str) or linear.rank is None:
        return None
    shape: list[Dim] = [None] * linear.rank
    shape[linear.axis] = linear.outputs
    return tuple(shape)


def _static_shape(value: Value) -> tuple[int, ...] | None:
    if isinstance(value.type, TensorType) and value.type.is_static:
        return cast("tuple[int, ...]", value.type.shape)
    return None


def _both_orders(graph: Graph, node: Node) -> tuple[tuple[Value, Value], ...]:
    left, right = graph.operands(node)
    assert left is not None
    assert right is not None
    return ((left, right), (right, left))


def _convolution(graph: Graph, node: Node) -> Linear | str:
    data, weight = graph.operand(node, 0), graph.operand(node, 1)
    assert data is not None
    assert weight is not None
    shape = _static_shape(weight)
    if shape is None or len(shape) < 3:
        return f"shape of weight {weight.name} is not known"
    groups = ops.attribute(graph, node, "group")
    first, second, taps = shape[0], shape[1], math.prod(shape[2:])
    if groups < 1 or first % groups:
        return f"{first} channels do not make {groups} groups"
    view = (groups, first // groups, second, taps)
    across, within = (groups, first // groups, 1, 1), (groups, 1, second, 1)
    transposed = node.op_type == "ConvTranspose"
    rank = len(shape)
    return Linear(
        node=node,
        data=data,
        weight=weight,
        bias=graph.operand(node, 2),
        rank=rank,
        min_rank=rank,
        data_rank=rank,
        axis=1 - rank,
        data_axis=1 - rank,
        bias_axis=-1,
        view=view,
        outs=within if transposed else across,
        ins=across if transposed else within,
    )


def _gemm(graph: Graph, node: Node) -> Linear | str:
    data, weight = graph.operand(node, 0), graph.operand(node, 1)
    assert data is not None
    assert weight is not None
    shape = _static_shape(weight)
    if shape is None or len(shape) != 2:
        return f"shape of weight {weight.name} is not known"
    rows, columns = shape
    transposed = bool(ops.attribute(graph, node, "transB"))
    return Linear(
        node=node,
        data=data,
        weight=weight,
        bias=graph.operand(node, 2),
        rank=2,
        min_rank=2,
        data_rank=2,
        axis=-1,
        data_axis=-2 if ops.attribute(graph, node, "transA") else -1,
        bias_axis=-1,
        view=(1, rows, columns),
        outs=(1, rows, 1) if transposed else (1, 1, columns),
        ins=(1, 1, columns) if transposed else (1, rows, 1),
        gain=ops.attribute(graph, node, "alpha"),
        bias_gain=ops.attribute(graph, node, "beta"),
    )


def _matmul(graph: Graph, node: Node, adder: Node | None) -> Linear | str:
    left, right = _both_orders(graph, node)[0]
    on_left = right.constant is None and left.constant is not None
    data, weight = (right, left) if on_left else (left, right)
    data_shape = shape_of(graph, data)
    data_rank = None if data_shape is None else len(data_shape)
    if weight.constant is None:
        return f"neither {data.name} nor {weight.name} is constant"
    shape = weight.constant.shape
    if len(shape) < 2 or data_rank == 1:
        return f"{(weight if len(shape) < 2 else data).name} has one dimension"
    if on_left and data_rank is None:
        return f"rank of {data.name} is not known"
    *batch, rows, columns = shape
    row_vector, column_vector = (1, 1, columns), (1, rows, 1)
    axis = -2 if on_left else -1
    rank = None if data_rank is None else max(data_rank, len(shape))
    return Linear(
        node=node,
        data=data,
        weight=weight,
        bias=_added_constant(graph, adder) if adder is not None else None,
        adder=adder,
        rank=rank,
        # With one-dimensional data, which is possible unless the rank is known, a row is left out.
        min_rank=rank or len(shape) - 1,
        data_rank=data_rank,
        axis=axis,
        data_axis=axis,
        bias_axis=axis,
        view=(math.prod(batch), rows, columns),
        outs=column_vector if on_left else row_vector,
        ins=row_vector if on_left else column_vector,
    )


def _added_constant(graph: Graph, adder: Node) -> Value:
    left, right = _both_orders(graph, adder)[0]
    return right if right.constant is not None else left
