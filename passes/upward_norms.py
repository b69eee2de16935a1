"""Affine maps against the flow that normalizations and products of activations take as well.

norm(x, g, b) * s + t  =  norm(x, g s, b s + t)
(q @ k) * s            =  (s q) @ k
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import ops
from optc.passes.channel_maps import spread
from optc.passes.linear import shape_of
from optc.passes.upward import Move, Upward, parameters

if TYPE_CHECKING:
    from optc.ir import Node, Value
    from optc.passes.channel_maps import ChannelMap

_LAST_AXES: Final = ("LayerNormalization", "RMSNormalization")
_CHANNELS: Final = ("InstanceNormalization", "GroupNormalization")
NORMALIZATIONS: Final = (*_LAST_AXES, *_CHANNELS)
"""Operations whose scale and bias take a map."""


class UpwardNorms(Upward):
    """Also takes maps in normalizations, and one factor through a product of activations."""

    def take(self, value: Value, found: ChannelMap, user: Node, depth: int) -> Move | str | None:
        """See `Upward.take`."""
        node = value.node
        if node.is_op(*NORMALIZATIONS):
            return self._norm(node, found)
        if node.is_op("MatMul") and not any(v and v.constant for v in self.graph.operands(node)):
            if found.shift is not None or found.axis is not None:
                return f"only one factor crosses MatMul {node.label}"
            first = self.factor(node, 0, found, depth)
            if not isinstance(first, str):
                return first
            second = self.factor(node, 1, found, depth)
            return f"{first}; {second}" if isinstance(second, str) else second
        return super().take(value, found, user, depth)

    def _norm(self, node: Node, found: ChannelMap) -> Move | str:
        graph = self.graph
        if len(node.outputs) > 1:
            return f"{node.op_type} {node.label} has more outputs"
        scale, bias = graph.operand(node, 1), graph.operand(node, 2)
        shape = shape_of(graph, node.output)
        if scale is None or scale.constant is None or (bias and bias.constant is None):
            return f"a parameter of {node.op_type} {node.label} is not constant"
        if shape is None:
            return f"the rank of {node.output.name} is not known"
        here = self._for_parameters(node, found, len(shape))
        if isinstance(here, str):
            return here
        size = scale.constant.shape
        if here.axis is not None and not _holds(size, here):
            return f"the scale {scale.constant.type} of {node.label} is not one value per element"
        if bias is not None:
            return parameters(graph, node, {1: here.only_scale, 2: here})
        if found.shift is None:
            return parameters(graph, node, {1: here})
        if not node.is_op("LayerNormalization"):
            return f"{node.op_type} {node.label} has no bias that could take a shift"
        added = np.broadcast_to(spread(found.shift, here.axis, len(size)), size)
        return parameters(graph, node, {1: here.only_scale}, added)

    def _for_parameters(self, node: Node, found: ChannelMap, rank: int) -> ChannelMap | str:
        """The map over the axes of the parameters, as if these were all the axes there are."""
        if node.is_op(*_CHANNELS):
            first, last = 1, 2
        else:
            axis = int(ops.attribute(self.graph, node, "axis"))
            first, last = axis % rank, rank
        if found.axis is not None and not first <= found.axis < last:
            return f"the map is over axis {found.axis}, the parameters of {node.label} are not"
        return found.on_axis(None if found.axis is None else found.axis - first)


def _holds(size: tuple[int, ...], found: ChannelMap) -> bool:
    """Whether parameters of this shape have the axis of a map in full."""
    return found.axis is not None and size[found.axis : found.axis + 1] == (found.size,)
