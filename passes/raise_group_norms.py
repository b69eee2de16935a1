"""Recognise GroupNormalization in a normalization of reshaped groups.

    Reshape(norm(Reshape(x, [N, G, …])), shape of x) · s + b  =  GroupNormalization(x, s, b, G)

norm is InstanceNormalization, or LayerNormalization over all that is behind the groups, with scale
one and bias zero; s and b are constants by channel.
Source: ONNX operators GroupNormalization-21, InstanceNormalization-22, LayerNormalization-17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optc.ir import DType, TensorType, dims
from optc.ir.shape_site import shape_of
from optc.passes.base import RewritePass
from optc.passes.weights import not_per_channel, vector
from optc.rewrite.pattern import Rule, const, either, optional

if TYPE_CHECKING:
    from optc.ir import Shape, Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_STATISTICS = (DType.F32, DType.F64)


class GroupNormalization(Rule):
    """Reshaped, normalized, reshaped back, scaled and shifted.

    Refuses: a result in between that something else uses; groups that do not divide the channels;
    a normalization with a scale or bias of its own, or over other axes; scale or bias that are not
    one value per channel.
    """

    def pattern(
        self, op: Any, x: Any, groups: Any, one: Any, zero: Any, shape: Any, scale: Any, bias: Any
    ) -> Pattern:
        """Add(Mul(Reshape(norm(Reshape(x))), scale), bias)."""
        parted = op.Reshape(x, groups, name="part")
        normal = either(
            op.InstanceNormalization(parted, const(one), const(zero), name="norm"),
            op.LayerNormalization(parted, const(one), optional(zero), name="norm"),
        )
        whole = op.Reshape(normal, shape, name="join")
        found: Pattern = op.Add(op.Mul(whole, const(scale)), const(bias))
        return found

    def check(self, match: Match) -> Refusal | None:
        """The groups are of channels, and nothing but the groups is normalized over."""
        for name in ("Mul", "join", "norm", "part"):
            if (use := match.other_use(name)) is not None:
                return match.refuse_use(name, use)
        before, parted = self._shapes(match)
        if before is None or parted is None or len(before) < 3 or len(parted) < 3:
            return match.refuse("the shape before or after the Reshape is not known")
        channels, groups = before[1], parted[1]
        if not isinstance(channels, int) or not isinstance(groups, int) or channels % groups:
            return match.refuse(f"{groups} groups do not divide {channels} channels")
        if not dims.equal(before[0], parted[0]) or not self._joins(match, before):
            return match.refuse("the Reshapes do not part channels into groups and join them again")
        return self._norm_error(match, len(parted)) or self._scale_error(match, channels, before)

    def _shapes(self, match: Match) -> tuple[Shape | None, Shape | None]:
        parted = match.node("part").output
        return shape_of(match.graph, match.value("x")), shape_of(match.graph, parted)

    def _joins(self, match: Match, before: Shape) -> bool:
        after = shape_of(match.graph, match.node("join").output)
        return (
            after is not None and len(after) == len(before) and all(map(dims.equal, after, before))
        )

    def _norm_error(self, match: Match, rank: int) -> Refusal | None:
        node = match.node("norm")
        if node.is_op("LayerNormalization"):
            axis = match.attribute("norm", "axis")
            if axis % rank != 2 or any(value is not None for value in node.outputs[1:]):
                return match.refuse("the normalization is not over all that is behind the groups")
        zero = match.tensor("zero")
        if not np.all(match.array("one") == 1) or (zero is not None and match.array("zero").any()):
            return match.refuse("the normalization has a scale or bias of its own")
        kind = match.value("x").type
        if not isinstance(kind, TensorType) or kind.dtype not in _STATISTICS:
            return match.refuse(f"the statistics of {kind} are taken in another type")
        return None

    def _scale_error(self, match: Match, channels: int, before: Shape) -> Refusal | None:
        for name in ("scale", "bias"):
            tensor = match.tensor(name)
            assert tensor is not None
            if reason := not_per_channel(tensor, 1 - len(before), channels, len(before)):
                return match.refuse(reason)
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The operator."""
        before, parted = self._shapes(match)
        assert before is not None
        assert parted is not None
        channels = before[1]
        assert isinstance(channels, int)
        scale, bias = (vector(match.array(name), channels) for name in ("scale", "bias"))
        assert scale is not None
        assert bias is not None
        return build.GroupNormalization(
            match.value("x"),
            build.like(scale, match.value("scale")),
            build.like(bias, match.value("bias")),
            num_groups=parted[1],
            epsilon=match.attribute("norm", "epsilon"),
        )


class RaiseGroupNorms(RewritePass):
    """Write normalizations of reshaped groups as GroupNormalization (see the rule for refusals)."""

    name: ClassVar[str] = "raise-group-norms"
    rules: ClassVar[tuple[Rule, ...]] = (GroupNormalization(),)
