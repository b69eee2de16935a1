"""Lay the long axis of one-dimensional images innermost.

    Conv(x [N, C, H, 1], W [O, I, k, 1])  =  swap(Conv(swap(x) [N, C, 1, H], W' [O, I, 1, k]))

where swap exchanges the last two axes, which moves nothing in memory as one of them is 1.
Frameworks write convolutions over time or text as two-dimensional ones, often with time first.
Kernels run along the innermost axis: with a single column they compute one place at a time. The
pools, pads and elementwise operations between such convolutions are taken along.
Source: ONNX operators Conv-22, ConvTranspose-22, MaxPool-22, AveragePool-22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optc.ir import TensorType
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassResult
from optc.passes.windows import CONVOLUTIONS, grow, obstacle, rewrite
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from optc.ir import Graph, Node, Shape, Value
    from optc.passes.base import PassContext
    from optc.rewrite.driver import Builder

_RULE = "orient-convolution"


class _Swapped:
    """The layout in which the two spatial axes are exchanged."""

    rank = 4

    def fits(self, shape: Shape | None) -> bool:
        return shape is not None and len(shape) == 4 and shape[3] == 1

    def shape(self, shape: Shape) -> Shape:
        return (shape[0], shape[1], shape[3], shape[2])

    def enter(self, build: Builder, value: Value) -> Value:
        return self._transposed(build, value)

    def leave(self, build: Builder, value: Value) -> Value:
        return self._transposed(build, value)

    def _transposed(self, build: Builder, value: Value) -> Value:
        made = build.Transpose(value, perm=[0, 1, 3, 2])
        kind = value.type
        if isinstance(kind, TensorType) and kind.shape is not None:
            build.graph.set_type(made, TensorType(kind.dtype, self.shape(kind.shape)))
        return made

    def per_axis(self, values: Sequence[int]) -> list[int]:
        return list(reversed(values))

    def pads(self, values: Sequence[int]) -> list[int]:
        top, left, bottom, right = values
        return [left, top, right, bottom]

    def array(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array if array.ndim < 2 else np.ascontiguousarray(np.swapaxes(array, -1, -2))

    def window_obstacle(self, graph: Graph, node: Node) -> str | None:
        return None  # with one column before and after, any window can be turned


class OrientConvolutions(Pass):
    """Compute convolutions over one column of places as such over one row.

    Refuses: a weight that is not constant or is shared; padding by auto_pad; an output_shape.
    """

    name: ClassVar[str] = "orient-convolutions"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Turn every region of such convolutions, in the graph and its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and _is_tall(nested, node):
                    self._turn(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)

    def _turn(self, graph: Graph, node: Node, trace: Trace) -> None:
        layout = _Swapped()
        if reason := obstacle(graph, node, layout):
            trace.refused(_RULE, node, reason)
            return
        region = grow(graph, node, layout)
        for member in region.nodes:
            if _is_tall(graph, member):
                trace.applied(_RULE, member)
        rewrite(graph, region, layout, self.name)


def _is_tall(graph: Graph, node: Node) -> bool:
    """Whether a convolution has a kernel of several rows and one column, over one column."""
    if not node.is_op(*CONVOLUTIONS):
        return False
    data, weight = graph.operand(node, 0), graph.operand(node, 1)
    shape = None if data is None else shape_of(graph, data)
    kernel = None if weight is None else shape_of(graph, weight)
    if shape is None or kernel is None or len(shape) != 4 or len(kernel) != 4:
        return False
    return shape[3] == 1 and kernel[3] == 1 and kernel[2] != 1
