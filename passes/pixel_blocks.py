"""Transposed convolutions whose blocks lie side by side, as pointwise convolutions.

Where strides are as large as the kernel, every pixel of a block is computed from one pixel of the
operand: a pointwise convolution computes a block as channels, and a DepthToSpace takes them apart.
Channels are in the order (row, column, output), mode DCR of DepthToSpace.
Source: ONNX operators ConvTranspose-22, Conv-22, DepthToSpace-13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from optc.ir import TensorType, ops
from optc.passes.weights import FLOATS

if TYPE_CHECKING:
    from optc.ir import DType, Graph, Node, Value
    from optc.rewrite.driver import Builder

Array: TypeAlias = npt.NDArray[np.float64]

_IMAGE: Final = 4  # dimensions that DepthToSpace takes
_PLAIN: Final = (b"NOTSET", b"VALID")


@dataclass(frozen=True)
class Blocks:
    """A transposed convolution.

    Attributes:
        node: the operation.
        weight: as [inputs, outputs, rows, columns].
        bias: one number for each output, or None.
        dtype: of the weight.
    """

    node: Node
    weight: Array
    bias: Array | None
    dtype: DType

    @property
    def inputs(self) -> int:
        """Channels of the operand."""
        return int(self.weight.shape[0])

    @property
    def outputs(self) -> int:
        """Channels of the result."""
        return int(self.weight.shape[1])

    @property
    def rows(self) -> int:
        """Height of a block."""
        return int(self.weight.shape[2])

    @property
    def columns(self) -> int:
        """Width of a block."""
        return int(self.weight.shape[3])

    def spread(self) -> Array:
        """The weight of the pointwise convolution: [channels, inputs, 1, 1]."""
        channels = self.rows * self.columns * self.outputs
        return self.weight.transpose(2, 3, 1, 0).reshape(channels, -1, 1, 1)


def blocks_of(graph: Graph, node: Node) -> Blocks | str:
    """A transposed convolution whose blocks lie side by side, or why it is none."""
    weight, bias = graph.operand(node, 1), graph.operand(node, 2)
    if weight is None or weight.constant is None or (bias is not None and bias.constant is None):
        return f"a weight or bias of {node.label} is not constant"
    array = weight.constant.numpy().astype(np.float64)
    if array.ndim != _IMAGE or weight.constant.dtype not in FLOATS:
        return f"{node.label} is not on images of floats"
    if node.get("group", 1) != 1:
        return f"{node.label} has groups"
    kernel = array.shape[2:]
    one, none = (1,) * len(kernel), (0,) * len(kernel)
    if tuple(node.get("strides", one)) != kernel or tuple(node.get("dilations", one)) != one:
        return f"the blocks of {node.label} overlap or leave gaps"
    padded = any(node.get("pads", ())) or tuple(node.get("output_padding", none)) != none
    if padded or node.get("output_shape") or ops.attribute(graph, node, "auto_pad") not in _PLAIN:
        return f"{node.label} is padded or cut off"
    numbers = None
    if bias is not None and bias.constant is not None:
        numbers = bias.constant.numpy().astype(np.float64)
    return Blocks(node, array, numbers, weight.constant.dtype)


def pointwise(build: Builder, blocks: Blocks, data: Value, weight: Array) -> Value:
    """A pointwise convolution in the place of a transposed one."""
    node, dtype = blocks.node, blocks.dtype
    operands = [data, build.constant(weight, dtype=dtype, name=f"{node.key}_weight")]
    if blocks.bias is not None:
        bias = np.tile(blocks.bias, len(weight) // blocks.outputs)
        operands.append(build.constant(bias, dtype=dtype, name=f"{node.key}_bias"))
    attributes = dict.fromkeys(node.attributes)
    made = build.node("Conv", operands, like=node, attributes=attributes).output
    if isinstance(data.type, TensorType) and data.type.shape is not None:
        shape = (data.type.shape[0], len(weight), *data.type.shape[2:])
        build.graph.set_type(made, TensorType(data.type.dtype, shape))
    return made
