"""Give a convolution another column of zero weights where a kernel computes its width wrongly.

    Conv(x, W [O, C, …, k], pads=(p, q))  =  Conv(x, W' [O, C, …, k + 1], pads=(p, q + 1))

with W' zero in its last column. A kernel may take one row of the window and all its channels, k * C
elements, for one step, which goes wrong for certain numbers of bytes. No such number is left with
one more column. How many bytes an element has is a matter of the precision that the runtime
computes in: 1 behind DequantizeLinear, and 2 for float32, which it computes in bfloat16 where the
CPU has that and nothing says otherwise. Dilated kernels are computed in another way.
Source: ONNX operator Conv-22; tests/passes/test_pad_kernels.py shows which shapes go wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from pydantic import Field

from optc.ir import DType, TensorType
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.quantized import dequantize_before, params_of
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    import numpy.typing as npt

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "pad-kernel"
_LANE: Final = 4  # bytes of which a dot product takes the elements together
_BYTES: Final = {DType.F32: 2, DType.BF16: 2, DType.I8: 1, DType.U8: 1}


class PadKernelsOptions(PassOptions):
    """Options of `pad-kernels`."""

    row: int = Field(
        default=64,
        ge=2,
        description="bytes of one row of the window; larger multiples of that are avoided",
    )
    channels_below: int = Field(
        default=32, ge=1, description="bytes of the channels of one place; where they are fewer"
    )


class PadKernels(Pass):
    """Add a column of zeros to kernels whose rows have a number of bytes that is computed wrongly.

    Refuses: automatic padding; weights that are not constant, or quantized in blocks.
    """

    name: ClassVar[str] = "pad-kernels"
    Options: ClassVar[type[PassOptions]] = PadKernelsOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Rewrite in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node.is_op("Conv") and self._is_wrong(nested, node):
                    _pad(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)

    def _is_wrong(self, graph: Graph, node: Node) -> bool:
        assert isinstance(self.options, PadKernelsOptions)
        weight = graph.operand(node, 1)
        shape = None if weight is None else shape_of(graph, weight)
        size = None if weight is None else _BYTES.get(_dtype(graph, weight))
        if size is None or shape is None or node.get("dilations", (1,))[-1] != 1:
            return False
        channels, width = shape[1], shape[-1]
        if not isinstance(channels, int) or not isinstance(width, int):
            return False
        place = channels * size
        whole = place % _LANE == 0 and place < self.options.channels_below
        row = place * width
        return whole and row > self.options.row and row % self.options.row == 0


def _dtype(graph: Graph, weight: Value) -> DType:
    """The type that the weights are computed in: of the integers, where they are quantized."""
    dequantize = dequantize_before(graph, weight)
    stored = weight if dequantize is None else graph.operand(dequantize, 0)
    kind = None if stored is None else stored.type
    return kind.dtype if isinstance(kind, TensorType) else DType.UNDEFINED


def _pad(graph: Graph, node: Node, trace: Trace) -> None:
    automatic = node.get("auto_pad", b"NOTSET")
    if automatic not in (b"NOTSET", b"VALID"):
        trace.refused(_RULE, node, f"it pads by auto_pad {automatic.decode()}")
        return
    build = Builder(graph, trace.pass_name, (node,))
    weight = _wider(graph, build, node)
    if isinstance(weight, str):
        trace.refused(_RULE, node, weight)
        return
    operands = list(graph.operands(node))
    assert operands[1] is not None
    shape = shape_of(graph, operands[1])
    assert shape is not None
    pads = [int(pad) for pad in node.get("pads", (0,) * (2 * len(shape[2:])))]
    pads[-1] += 1
    attributes = {name: item.value for name, item in node.attributes.items() if name != "auto_pad"}
    if "kernel_shape" in attributes:
        *others, width = attributes["kernel_shape"]
        attributes["kernel_shape"] = [*others, width + 1]
    operands[1] = weight
    made = build.node("Conv", operands, attributes={**attributes, "pads": pads})
    made.name = node.name
    trace.applied(_RULE, node)
    replace_node(graph, node, [made.output], build.made)


def _wider(graph: Graph, build: Builder, node: Node) -> Value | str:
    """The weights with another column, dequantized where they were, or why there are none."""
    weight = graph.operand(node, 1)
    assert weight is not None
    dequantize = dequantize_before(graph, weight)
    if dequantize is None:
        if weight.constant is None:
            return "its weights are not constant"
        array = weight.constant.numpy()
        return build.constant(_grown(array, np.zeros(1)), name=f"{node.key}_weight")
    params, stored = params_of(graph, dequantize), graph.operand(dequantize, 0)
    if params is None or stored is None or stored.constant is None or params.axis not in (None, 0):
        return "its weights are not constant, or not quantized by output channel"
    array = _grown(stored.constant.numpy(), np.array(params.zero_points))
    integers = build.constant(array, name=f"{node.key}_weight")
    attributes = {name: item.value for name, item in dequantize.attributes.items()}
    operands = [integers, *graph.operands(dequantize)[1:]]
    return build.node("DequantizeLinear", operands, attributes=attributes).output


def _grown(array: npt.NDArray[Any], zeros: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The weights with a last column of what stands for zero, per output channel or for all."""
    column = np.broadcast_to(
        zeros.astype(array.dtype).reshape(-1, *(1,) * (array.ndim - 1)), (*array.shape[:-1], 1)
    )
    return np.concatenate([array, column], axis=-1)
