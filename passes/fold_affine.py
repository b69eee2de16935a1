"""Fold multiplications, additions, subtractions and divisions by constants.

    forward      s * linear(x) + t  →  linear'(x)           into weight and bias of what feeds them
    backward     linear(s * x + t)  →  linear'(x)           into weight and bias of what they feed
    merge        ((x * a) + b) * c  →  x * (a c) + (b c)    chains become at most one Mul, one Add
    past shift   linear(x * a + b)  →  linear'(x + b / a)   where only the shift cannot be folded

Linear operations are Conv and ConvTranspose of any rank, grouped too, Gemm and MatMul (with the Add
of a constant as bias, if there is one). Constants are one value, or one per channel, in any shape
that broadcasts so. A Conv or Gemm without bias gets one; an Add after a MatMul is its bias and
stays. Backward, a shift needs a Conv that does not pad; `optc.passes.weights` has the algebra.
Division by a constant is multiplication by its reciprocal, taken in float64. Where a product on the
way overflows in the source, the folded one may stay finite.
Source: ONNX operators Mul-14, Add-14, Sub-14, Div-14.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from optc.ir import TensorType, dims
from optc.passes.affine import (
    AFFINE,
    Affine,
    Terms,
    affine_of,
    chains_ending_at,
    composed,
    growth_error,
    merged_shapes,
    used_elsewhere,
    whole_chain,
)
from optc.passes.base import Pass, PassResult
from optc.passes.linear import (
    LINEAR,
    STEMS,
    bias_adder,
    linear_ending_at,
    linear_of,
    shape_of,
)
from optc.passes.weights import (
    FLOATS,
    ChannelAffine,
    check_after,
    check_before,
    factor_error,
    fold_after,
    fold_before,
    not_per_channel,
    range_error,
    vector,
)
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.linear import Linear


class FoldAffine(Pass):
    """Fold constant affine operations into linear ones, before and after them, and each other.

    Refuses: a value in between that is used elsewhere; a constant that is not one value per
    channel or enlarges its operand; a weight that is shared or not constant, or that would
    overflow or become subnormal; a bias that is not constant; a shift in front of a Conv that
    pads; integers; a constant divided by the data; a merged constant that takes more memory.
    """

    name: ClassVar[str] = "fold-affine"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Fold in the graph and all its subgraphs until nothing is left to fold."""
        trace = Trace(self.name)
        changed = False
        for nested in tuple(graph.walk()):
            changed |= _Folder(nested, trace).run()
        return PassResult(changed, trace.counts, trace.refusals)


class _Folder:
    """Folds in one graph.

    Every fold removes at least one operation, so rounds come to an end. The last round changes
    nothing: what it refuses is what is refused in the result.
    """

    def __init__(self, graph: Graph, trace: Trace) -> None:
        self.graph = graph
        self.trace = trace
        self.made: list[Node] = []
        self.refused: list[tuple[str, Node, str]] = []

    def run(self) -> bool:
        nodes = [node for node in self.graph.ordered() if node.is_op(*AFFINE, *LINEAR)]
        rounds = 0
        while self._round(nodes):
            nodes = [node for node in (*nodes, *self.made) if node in self.graph]
            self.made.clear()
            rounds += 1
        for rule, node, reason in self.refused:
            self.trace.refused(rule, node, reason)
        return rounds > 0

    def _round(self, nodes: Sequence[Node]) -> bool:
        self.refused.clear()
        changed = False
        for node in nodes:
            changed |= node in self.graph and self._merge_whole(node)
        for node in nodes:
            changed |= node in self.graph and self._forward(node)
        for node in nodes:
            changed |= node in self.graph and self._merge(node)
        for node in reversed(nodes):
            changed |= node in self.graph and self._backward(node)
        return changed

    # ---- into the operation that feeds the map -------------------------------------------------

    def _forward(self, node: Node) -> bool:
        affine = affine_of(self.graph, node)
        if affine is None:
            return False
        found = linear_ending_at(self.graph, affine.data.node)
        if found is None:
            self._missed("conv-affine", node, LINEAR, affine.data.node)
            return False
        base, adder = found
        if base.op_type == "MatMul" and not affine.scales:
            return False  # it is the bias, or merges with that
        rule = f"{STEMS[base.op_type]}-affine"
        linear = linear_of(self.graph, base, adder)
        plan = linear if isinstance(linear, str) else self._plan_forward(affine, linear)
        if isinstance(plan, str):
            self._refuse(rule, node, plan)
            return False
        assert not isinstance(linear, str)
        build = self._builder(node, linear)
        self._replace(rule, node, build, fold_after(build, linear, plan))
        return True

    def _plan_forward(self, affine: Affine, linear: Linear) -> ChannelAffine | str:
        if affine.is_quotient:
            return "a constant divided by the data is not affine"
        reason = not_per_channel(affine.tensor, linear.axis, linear.outputs, linear.min_rank)
        if reason:
            return reason
        plan = _per_channel(affine.terms(), linear.outputs)
        return check_after(self.graph, linear, plan, affine.node) or plan

    # ---- into the operation that the map feeds -------------------------------------------------

    def _backward(self, node: Node) -> bool:
        if not node.is_op(*LINEAR):
            return False
        changed = False
        while (build := self._backward_once(node)) is not None:
            node, changed = next(made for made in build.made if made.is_op(*LINEAR)), True
        return changed

    def _backward_once(self, node: Node) -> Builder | None:
        """Fold one map into `node`; returns what built the result, None when nothing did."""
        rule = f"affine-{STEMS[node.op_type]}"
        linear = linear_of(self.graph, node)
        data = self.graph.operand(node, 0) if isinstance(linear, str) else linear.data
        assert data is not None
        affine = affine_of(self.graph, data.node)
        if affine is None:
            self._missed(rule, node, AFFINE, data.node)
            return None
        if node.op_type == "MatMul" and not affine.scales:
            adder = bias_adder(self.graph, node)
            linear = linear_of(self.graph, node, adder) if adder else linear
        plan = linear if isinstance(linear, str) else self._plan_backward(affine, linear)
        if isinstance(plan, ChannelAffine):
            assert not isinstance(linear, str)
            build = self._builder(affine.node, linear)
            new = fold_before(build, linear, plan, affine.data)
            return self._replace(rule, linear.last, build, new)
        past = None if isinstance(linear, str) else self._past_shift(affine, linear)
        if past is None and plan:
            self._refuse(rule, affine.node, plan)
        return past

    def _plan_backward(self, affine: Affine, linear: Linear) -> ChannelAffine | str:
        if affine.is_quotient:
            return "a constant divided by the data is not affine"
        if linear.node.op_type == "MatMul" and not affine.scales and linear.adder is None:
            return ""  # nothing gained: without a bias, an Add would follow instead
        tensor, axis = affine.tensor, linear.data_axis
        shape = shape_of(self.graph, affine.data)
        rank = None if shape is None else len(shape)
        if rank is None and linear.data_rank is not None and len(tensor.shape) < linear.data_rank:
            rank = linear.data_rank  # a smaller constant cannot have raised the rank
        if reason := not_per_channel(tensor, axis, linear.inputs, rank):
            return reason
        if tensor.elements > 1 and (shape is None or shape[axis] != linear.inputs):
            return f"the constant {tensor.type} may enlarge {affine.data.name}"
        plan = _per_channel(affine.terms(), linear.inputs)
        return check_before(self.graph, linear, plan, affine.node) or plan

    def _past_shift(self, affine: Affine, linear: Linear) -> Builder | None:
        """Fold the scale of x * m + t where the shift cannot be folded: (x + t / m) * m."""
        inner = affine_of(self.graph, affine.data.node)
        if affine.scales or inner is None or not inner.scales or inner.is_quotient:
            return None
        chain = (inner, affine)
        tensor, axis = inner.tensor, linear.data_axis
        if not_per_channel(tensor, axis, linear.inputs, linear.data_rank):
            return None
        shape = np.broadcast_shapes(*merged_shapes(chain))
        if used_elsewhere(self.graph, chain, last=linear.node) or growth_error(
            self.graph, chain, [shape]
        ):
            return None
        total = composed(chain)
        assert total.scale is not None
        assert total.shift is not None
        with np.errstate(all="ignore"):
            shift = total.shift / total.scale
        plan = _per_channel(Terms(total.scale, None), linear.inputs)
        if range_error(shift, affine.tensor.dtype, "the shift") or check_before(
            self.graph, linear, plan, affine.node
        ):
            return None
        build = self._builder(affine.node, linear, inner.node)
        shifted = build.Add(inner.data, build.like(shift, affine.constant), like=affine.node)
        self.graph.set_type(shifted, affine.node.output.type)
        new = fold_before(build, linear, plan, shifted)
        return self._replace("scale-past-shift", linear.last, build, new)

    # ---- into each other -----------------------------------------------------------------------

    def _merge_whole(self, node: Node) -> bool:
        """Merge a whole chain at once, whatever its length; `_merge` does what this cannot."""
        chain = whole_chain(self.graph, node)
        plan = self._plan_merge(chain) if chain else ""
        return isinstance(plan, Terms) and self._merge_chain(chain, plan)

    def _merge(self, node: Node) -> bool:
        for chain in chains_ending_at(self.graph, node):
            plan = self._plan_merge(chain)
            if isinstance(plan, Terms):
                return self._merge_chain(chain, plan)
            self._refuse("affine-affine", node, plan)
        return False

    def _merge_chain(self, chain: Sequence[Affine], total: Terms) -> bool:
        parents = [affine.node for affine in reversed(chain)]
        build = Builder(self.graph, self.trace.pass_name, parents)
        self._replace("affine-affine", parents[0], build, _emit(build, chain, total))
        return True

    def _plan_merge(self, chain: Sequence[Affine]) -> Terms | str:
        dtype = chain[0].tensor.dtype
        if dtype not in FLOATS:
            return f"{dtype.value} arithmetic is not folded"
        reason = used_elsewhere(self.graph, chain, last=chain[-1].node)
        reason = reason or growth_error(self.graph, chain, merged_shapes(chain))
        if reason:
            return reason
        total = composed(chain)
        if total.scale is not None:
            reason = factor_error(total.scale, dtype, "the product")
        if total.shift is not None:
            reason = reason or range_error(total.shift, dtype, "the sum")
        return reason or total

    # ---- bookkeeping ---------------------------------------------------------------------------

    def _builder(self, node: Node, linear: Linear, *more: Node) -> Builder:
        parents = dict.fromkeys((node, *more, linear.node, linear.last))
        return Builder(self.graph, self.trace.pass_name, tuple(parents))

    def _replace(self, rule: str, root: Node, build: Builder, new: Value) -> Builder:
        self.trace.applied(rule, root)
        replace_node(self.graph, root, [new], build.made)
        self.made.extend(build.made)
        return build

    def _refuse(self, rule: str, node: Node, reason: str) -> None:
        self.refused.append((rule, node, reason))

    def _missed(self, rule: str, node: Node, wanted: Sequence[str], found: Node) -> None:
        what = found.qualified_op or f"the {found.kind.value} {found.name}"
        self.trace.missed(rule, node, 1, f"expected {' or '.join(wanted)}, found {what}")


def _per_channel(terms: Terms, channels: int) -> ChannelAffine:
    return ChannelAffine(vector(terms.scale, channels), vector(terms.shift, channels))


def _emit(build: Builder, chain: Sequence[Affine], total: Terms) -> Value:
    """A chain as one or two operations that continue operations of their kind."""
    data = chain[0].data
    scaling = next((affine for affine in reversed(chain) if affine.scales), None)
    shifting = next((affine for affine in reversed(chain) if not affine.scales), None)
    if scaling is None:
        assert shifting is not None
        assert total.shift is not None
        shift = build.like(total.shift, shifting.constant)
        if total.scale is None or total.scale > 0:
            return build.Add(data, shift, like=shifting.node)
        return build.Sub(shift, data, like=shifting.node)
    assert total.scale is not None
    scaled = build.Mul(data, build.like(total.scale, scaling.constant), like=scaling.node)
    if shifting is None:
        return scaled
    assert total.shift is not None
    if isinstance(data.type, TensorType):
        shape = dims.broadcast_shapes(data.type.shape, total.scale.shape)
        build.graph.set_type(scaled, TensorType(data.type.dtype, shape))
    return build.Add(scaled, build.like(total.shift, shifting.constant), like=shifting.node)
