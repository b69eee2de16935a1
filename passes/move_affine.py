"""Move constant affine operations to linear ones that they do not touch.

    up                 s f(x) + t  →  f'(x')         x' is computed with s' and t' in its weights
    down               g(f(s x + t))  →  g'(f'(x))   everything that uses the map takes it
    scale past shift   g(f(x * s + t))  →  g'(f'(x + t / s))      where only the scale can move

An affine operation is a chain of Mul, Add, Sub, Div by constants, one value or one per channel, or
a BatchNormalization in inference form. What lies between (Relu, Clip, Transpose, Reshape, Concat,
Split, Resize, pools, means, residual sums, …) is listed in `optc.passes.upward`, `…downward` and
`…crossings` with the algebra of each. The whole way is planned first: unless it ends in folds that
remove the operation, nothing changes. Neighbours are left to `fold-affine` and `fold-batchnorm`,
which are to run before.
Source: ONNX operators Mul-14, Add-14, Sub-14, Div-14, BatchNormalization-15.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from optc.ir import TensorType
from optc.passes.affine import AFFINE, affine_of, composed
from optc.passes.base import Pass, PassResult
from optc.passes.channel_maps import channel_map, map_of_batchnorm, map_of_chain, spread
from optc.passes.downward import Downward
from optc.passes.linear import linear_ending_at
from optc.passes.upward import Upward
from optc.passes.weights import FLOATS, range_error
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.passes.affine import Affine
    from optc.passes.base import PassContext
    from optc.passes.channel_maps import ChannelMap

_BN = "BatchNormalization"


class MoveAffine(Pass):
    """Move constant affine maps through what lies between, into the linear operations around.

    Refuses, with the place where a map got stuck in both directions: a value on the way that is
    used elsewhere; an operation that the map does not cross; a scale that is not positive before a
    maximum or a rectifier; a shift where padding or a product is in the way; channels that a
    Reshape spreads; an end that cannot take it (see `fold-affine`); constants that may enlarge
    their operand or are not one value per channel.
    """

    name: ClassVar[str] = "move-affine"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Move in the graph and all its subgraphs until nothing is left to move."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            _Mover(nested, trace).run()
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Mover:
    """Moves in one graph. Every move removes an operation, so rounds come to an end."""

    def __init__(self, graph: Graph, trace: Trace) -> None:
        self.graph = graph
        self.trace = trace
        self.refused: list[tuple[Node, str]] = []

    def run(self) -> None:
        while self._round():
            pass
        for node, reason in self.refused:
            self.trace.refused("affine", node, reason)

    def _round(self) -> bool:
        self.refused.clear()
        changed = False
        for node in self.graph.ordered():
            if node not in self.graph:
                continue
            if node.is_op(_BN):
                changed |= self._batchnorm(node)
            elif chain := _chain_ending_at(self.graph, node):
                changed |= self._chain(chain)
        return changed

    def _batchnorm(self, node: Node) -> bool:
        found = map_of_batchnorm(self.graph, node)
        data = self.graph.operand(node, 0)
        assert data is not None
        if isinstance(found, str):
            self.refused.append((node, found))
            return False
        return self._move((node,), data, found, "batchnorm")

    def _chain(self, chain: Sequence[Affine]) -> bool:
        found = map_of_chain(self.graph, chain, composed(chain))
        if isinstance(found, str):
            self._note(chain, found)
            return False
        before = len(self.refused)
        if self._move([affine.node for affine in chain], chain[0].data, found, "affine"):
            return True
        both = found.scale is not None and found.shift is not None
        if both and (self._leading_scale(chain) or self._scale_past_shift(chain, found)):
            del self.refused[before:]
            return True
        if linear_ending_at(self.graph, chain[-1].node) is not None:
            del self.refused[before:]  # the bias of a MatMul is where it belongs
        return False

    # ---- the moves -----------------------------------------------------------------------------

    def _move(self, nodes: Sequence[Node], data: Value, found: ChannelMap, stem: str) -> bool:
        up = self._up(nodes, data, found, f"{stem}-up")
        down = "" if up is None else self._down(nodes, data, found, f"{stem}-down")
        if up is None or down is None:
            return True
        self.refused.append((nodes[-1], f"up: {up}; down: {down}"))
        return False

    def _up(self, nodes: Sequence[Node], data: Value, found: ChannelMap, rule: str) -> str | None:
        """Move a map up; None when that is done, else why not."""
        if not found.is_finite:
            return "the map is not finite"
        upward = Upward(self.graph)
        move = upward.plan(data, found, nodes[0])
        if isinstance(move, str):
            return move
        build = self._builder(nodes, move.nodes)
        new = move.make(build)
        self.trace.applied(rule, nodes[-1])
        for old, made in upward.side:
            self.graph.replace_uses(old, made)
        replace_node(self.graph, nodes[-1], [new], build.made)
        return None

    def _down(self, nodes: Sequence[Node], data: Value, found: ChannelMap, rule: str) -> str | None:
        """Move a map down; None when that is done, else why not."""
        if not found.is_finite:
            return "the map is not finite"
        push = Downward(self.graph).plan(nodes[-1].output, found)
        if isinstance(push, str):
            return push
        build = self._builder(nodes, push.nodes)
        ends = push.make(build, data)
        self.trace.applied(rule, nodes[-1])
        for node, new in ends:
            replace_node(self.graph, node, [new], build.made)
        return None

    def _leading_scale(self, chain: Sequence[Affine]) -> bool:
        """Move the factors that a chain begins with, up."""
        size = next(i for i, affine in enumerate(chain) if not affine.scales)
        if size == 0:
            return False
        part = chain[:size]
        found = map_of_chain(self.graph, part, composed(part))
        nodes = [affine.node for affine in part]
        return not isinstance(found, str) and (
            self._up(nodes, chain[0].data, found, "scale-up") is None
        )

    def _scale_past_shift(self, chain: Sequence[Affine], found: ChannelMap) -> bool:
        """Leave the shift of a chain before its scale, and move that down."""
        shape = chain[0].data.type.shape if isinstance(chain[0].data.type, TensorType) else None
        adder = next(affine for affine in reversed(chain) if not affine.scales)
        if shape is None or adder.node.op_type != "Add":
            return False
        assert found.scale is not None
        assert found.shift is not None
        with np.errstate(all="ignore"):
            inner = channel_map(None, found.shift / found.scale, found.axis)
        if inner.shift is None or range_error(inner.shift, adder.tensor.dtype, "the shift"):
            return False
        scale = found.only_scale
        nodes = [affine.node for affine in chain]
        push = Downward(self.graph).plan(nodes[-1].output, scale)
        if isinstance(push, str):
            return False
        build = self._builder(nodes, push.nodes)
        data = chain[0].data
        constant = build.like(spread(inner.shift, inner.axis, len(shape)), adder.constant)
        shifted = build.Add(data, constant, like=adder.node)
        self.graph.set_type(shifted, data.type)
        ends = push.make(build, shifted)
        self.trace.applied("scale-past-shift", nodes[-1])
        for node, new in ends:
            replace_node(self.graph, node, [new], build.made)
        return True

    # ---- bookkeeping ---------------------------------------------------------------------------

    def _builder(self, nodes: Sequence[Node], path: Sequence[Node]) -> Builder:
        parents = dict.fromkeys((*reversed(nodes), *path))
        return Builder(self.graph, self.trace.pass_name, tuple(parents))

    def _note(self, chain: Sequence[Affine], reason: str) -> None:
        if linear_ending_at(self.graph, chain[-1].node) is None:
            self.refused.append((chain[-1].node, reason))


def _chain_ending_at(graph: Graph, node: Node) -> list[Affine]:
    """The longest chain of affine operations that ends at a node; empty when it does not end."""
    if not node.is_op(*AFFINE):
        return []
    use = graph.only_use(node.output)
    if use is not None and affine_of(graph, use.node) is not None:
        return []
    chain: list[Affine] = []
    while (affine := affine_of(graph, node)) is not None and not affine.is_quotient:
        if affine.tensor.dtype not in FLOATS:
            return []
        chain.append(affine)
        node = affine.data.node
        if graph.only_use(affine.data) is None:
            break
    chain.reverse()
    return chain
