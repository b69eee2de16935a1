"""Write convolutions over one axis as convolutions over two.

    Conv(x [N, C, L], W [O, I, k])  =  Squeeze(Conv(Unsqueeze(x) [N, C, 1, L], W' [O, I, 1, k]))

A runtime may have its fast kernels for images only. The pools, pads and elementwise operations
between such convolutions are taken along.
Source: ONNX operators Conv-22, ConvTranspose-22, MaxPool-22, AveragePool-22.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optc.ir import DType, TensorType
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

_RULE = "widen-convolution"
_AXIS = 2
_AXES_OPERAND_SINCE = 13


class _Widened:
    """The layout with another spatial axis of size 1 in front of the one."""

    rank = 3

    def fits(self, shape: Shape | None) -> bool:
        return shape is not None and len(shape) == 3

    def shape(self, shape: Shape) -> Shape:
        return (*shape[:_AXIS], 1, *shape[_AXIS:])

    def enter(self, build: Builder, value: Value) -> Value:
        return self._seen_as(build, "Unsqueeze", value)

    def leave(self, build: Builder, value: Value) -> Value:
        return self._seen_as(build, "Squeeze", value)

    def _seen_as(self, build: Builder, op_type: str, value: Value) -> Value:
        if build.graph.opset < _AXES_OPERAND_SINCE:
            return build.node(op_type, [value], attributes={"axes": [_AXIS]}).output
        axes = build.constant([_AXIS], dtype=DType.I64, name=f"{value.name}_axes")
        made = build.node(op_type, [value, axes]).output
        kind = value.type
        if op_type == "Unsqueeze" and isinstance(kind, TensorType) and kind.shape is not None:
            build.graph.set_type(made, TensorType(kind.dtype, self.shape(kind.shape)))
        return made

    def per_axis(self, values: Sequence[int]) -> list[int]:
        return [1, *values]

    def pads(self, values: Sequence[int]) -> list[int]:
        begin, end = values
        return [0, begin, 0, end]

    def array(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array if array.ndim < 2 else np.expand_dims(array, -2)

    def window_obstacle(self, graph: Graph, node: Node) -> str | None:
        return "it has output_padding" if node.get("output_padding") else None


class WidenConvolutions(Pass):
    """Compute convolutions over one axis as convolutions over images of one row.

    Refuses: a weight that is not constant or is shared; padding by auto_pad; an output_shape or
    output_padding.
    """

    name: ClassVar[str] = "widen-convolutions"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Widen every region of such convolutions, in the graph and its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and _is_single(nested, node):
                    self._widen(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)

    def _widen(self, graph: Graph, node: Node, trace: Trace) -> None:
        layout = _Widened()
        if reason := obstacle(graph, node, layout):
            trace.refused(_RULE, node, reason)
            return
        region = grow(graph, node, layout)
        for member in region.nodes:
            if _is_single(graph, member):
                trace.applied(_RULE, member)
        rewrite(graph, region, layout, self.name)


def _is_single(graph: Graph, node: Node) -> bool:
    """Whether a convolution is over one axis."""
    weight = graph.operand(node, 1) if node.is_op(*CONVOLUTIONS) else None
    shape = None if weight is None else shape_of(graph, weight)
    return shape is not None and len(shape) == 3
