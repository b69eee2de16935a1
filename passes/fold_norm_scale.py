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

from typing import TYPE_CHECKING, ClassVar

from optc.passes.affine import composed, float_chain
from optc.passes.base import Pass, PassResult
from optc.passes.channel_maps import map_of_chain
from optc.passes.linear import linear_ending_at
from optc.passes.upward_norms import NORMALIZATIONS, UpwardNorms
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph
    from optc.passes.affine import Affine
    from optc.passes.base import PassContext


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
    if data.node.is_op(*NORMALIZATIONS):
        rule = "norm-affine"
    elif data.node.is_op("MatMul") and linear_ending_at(graph, chain[-1].node) is None:
        if any(value.constant for value in graph.operands(data.node) if value):
            return  # a linear operation: `fold-affine` has it
        rule = "attention-scale"
    else:
        return
    found = map_of_chain(graph, chain, composed(chain))
    upward = UpwardNorms(graph)
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
