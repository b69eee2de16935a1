"""Fold constant factors and summands into normalizations and into the projections of attention.

    norm(x, g, b) * s + t  →  norm(x, g s, b s + t)     Layer, RMS, Group, InstanceNormalization
    (q @ k) * s            →  q' @ k                    s goes into the weights that make q, or k

On its way to the weights a factor of scores goes through what lies between (heads: Reshape,
Transpose, Split, RotaryEmbedding; see `optc.passes.upward`). A factor of q or k itself is
`move-affine`'s. The scale and bias of a normalization stay there: the operator has them anyway, so
that to fold them into a following linear operation would remove nothing.
Source: ONNX operators LayerNormalization-17, RMSNormalization-23, GroupNormalization-21,
InstanceNormalization-22, MatMul-13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from optc.ir import ops
from optc.passes.affine import composed, float_chain
from optc.passes.base import Pass, PassResult
from optc.passes.channel_maps import map_of_chain, spread
from optc.passes.linear import linear_ending_at, shape_of
from optc.passes.upward import Move, Upward, parameters
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.passes.affine import Affine
    from optc.passes.base import PassContext
    from optc.passes.channel_maps import ChannelMap

_LAST_AXES: Final = ("LayerNormalization", "RMSNormalization")
_CHANNELS: Final = ("InstanceNormalization", "GroupNormalization")


class FoldNormScale(Pass):
    """Fold constant affine maps after normalizations, and factors of attention scores.

    Refuses: a normalization, or a value on the way, that something else uses; a scale or bias that
    is not constant; a map over other axes than the normalization's parameters; a shift where there
    is no bias to take it; factors of scores that are not one number, or that reach no weight.
    """

    name: ClassVar[str] = "fold-norm-scale"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Fold in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and (chain := float_chain(nested, node)):
                    _fold(nested, chain, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _fold(graph: Graph, chain: Sequence[Affine], trace: Trace) -> None:
    data = chain[0].data
    if data.node.is_op(*_LAST_AXES, *_CHANNELS):
        rule = "norm-affine"
    elif data.node.is_op("MatMul") and linear_ending_at(graph, chain[-1].node) is None:
        if any(value.constant for value in graph.operands(data.node) if value):
            return  # a linear operation: `fold-affine` has it
        rule = "attention-scale"
    else:
        return
    found = map_of_chain(graph, chain, composed(chain))
    upward = _Upward(graph)
    move = found if isinstance(found, str) else upward.plan(data, found, chain[0].node)
    if isinstance(move, str):
        trace.refused(rule, chain[-1].node, move)
        return
    parents = dict.fromkeys((*(affine.node for affine in reversed(chain)), *move.nodes))
    build = Builder(graph, trace.pass_name, tuple(parents))
    new = move.make(build)
    trace.applied(rule, chain[-1].node)
    for old, made in upward.side:
        graph.replace_uses(old, made)
    replace_node(graph, chain[-1].node, [new], build.made)


class _Upward(Upward):
    """Also takes maps in normalizations, and one factor through a product of activations."""

    def take(self, value: Value, found: ChannelMap, user: Node, depth: int) -> Move | str | None:
        node = value.node
        if node.is_op(*_LAST_AXES, *_CHANNELS):
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
