"""Merge two operations in a row that only give a tensor another shape.

    Unsqueeze(Unsqueeze(x, a), b)   = Unsqueeze(x, both)
    Squeeze(Unsqueeze(x, a), a)     = x, or the one Squeeze or Unsqueeze that is left
    Flatten(Squeeze(x, a))          = Reshape(x, shape)           any other pair that can be written

The elements keep their order in Reshape, Flatten, Squeeze and Unsqueeze, so two of them are one
Reshape to the last shape. In that, a size is written as a number, as 0 where x has it at the same
place, or once as -1. Squeeze and Unsqueeze are traced by axis, which needs no sizes.

`remove-identity` lets a Reshape with a constant shape read past the operation before it; this pass
does the rest. Source: ONNX operators Reshape-25, Flatten-25, Squeeze-25, Unsqueeze-25.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from optc.ir import DType, dims
from optc.ir.shape_site import Site, normal_axes, shape_of
from optc.passes.base import RewritePass
from optc.passes.identities import VIEWS
from optc.rewrite.pattern import Rule, optional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Shape, Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_AXES_OPERAND_SINCE: Final = 13  # Squeeze and Unsqueeze: an attribute before


@dataclass(frozen=True)
class _Plan:
    """The one operation that does the work of both.

    Attributes:
        op_type: Squeeze, Unsqueeze or Reshape; empty when nothing is left to do.
        numbers: its axes, or its new shape.
    """

    op_type: str
    numbers: tuple[int, ...] = ()


class ViewView(Rule):
    """Two changes of shape in a row.

    Refuses: the first result is used elsewhere (nothing would be gained); a new shape that cannot
    be written: two sizes that are neither numbers nor those of x at their place, a size of zero
    that is none of x, a -1 beside a size that may be zero.
    """

    def pattern(self, op: Any, x: Pattern, a: Pattern, b: Pattern) -> Pattern:
        """Squeeze(Reshape(x, a), b) and all other pairs."""
        view = op.any(*VIEWS)
        root: Pattern = view(view(x, optional(a), name="first"), optional(b), name="second")
        return root

    def check(self, match: Match) -> Refusal | None:
        """The result can be written as one operation."""
        if use := match.other_use("first"):
            return match.refuse_use("first", use)
        plan = _plan(match)
        return match.refuse(plan) if isinstance(plan, str) else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The one operation; x itself when nothing is left."""
        plan, x = _plan(match), match.value("x")
        assert isinstance(plan, _Plan)
        if not plan.op_type:
            return x
        if plan.op_type != "Reshape" and match.graph.opset < _AXES_OPERAND_SINCE:
            return build.node(plan.op_type, [x], attributes={"axes": list(plan.numbers)}).output
        what = "shape" if plan.op_type == "Reshape" else "axes"
        name = f"{match.root.key}_{what}"
        operand = build.constant(list(plan.numbers), dtype=DType.I64, name=name)
        return build.node(plan.op_type, [x, operand]).output


class MergeReshapes(RewritePass):
    """Merge chains of Reshape, Flatten, Squeeze and Unsqueeze into one operation, or none."""

    name = "merge-reshapes"
    rules = (ViewView(),)


def _plan(match: Match) -> _Plan | str:
    graph, x = match.graph, match.value("x")
    before = shape_of(graph, x)
    if before is not None and (found := _by_axes(match, len(before))) is not None:
        return found
    after = shape_of(graph, match.node("second").output)
    if before is None or after is None:
        return "the shape before or after both is not known"
    return _reshape(before, after)


def _by_axes(match: Match, rank: int) -> _Plan | None:
    """What two operations that only add or drop axes are together; None for any others."""
    # An entry is an axis of x, or -1 for one that has been put in.
    entries: list[int] | None = list(range(rank))
    for name in ("first", "second"):
        entries = None if entries is None else _traced(match.graph, match.node(name), entries)
    if entries is None:
        return None
    kept = [entry for entry in entries if entry >= 0]
    dropped = tuple(axis for axis in range(rank) if axis not in kept)
    added = tuple(place for place, entry in enumerate(entries) if entry < 0)
    if dropped and added:
        return None
    if dropped:
        return _Plan("Squeeze", dropped)
    return _Plan("Unsqueeze", added) if added else _Plan("")


def _traced(graph: Graph, node: Node, entries: Sequence[int]) -> list[int] | None:
    if not node.is_op("Squeeze", "Unsqueeze"):
        return None
    given = Site(graph, node, {}).parameter("axes", 1)
    if not given:
        return None
    if node.is_op("Squeeze"):
        axes = normal_axes(given, len(entries))
        return None if axes is None else [e for i, e in enumerate(entries) if i not in axes]
    axes = normal_axes(given, len(entries) + len(given))
    if axes is None:
        return None
    rest = iter(entries)
    return [-1 if i in axes else next(rest) for i in range(len(entries) + len(axes))]


def _reshape(before: Shape, after: Shape) -> _Plan | str:
    if len(before) == len(after) and all(map(dims.equal, before, after)):
        return _Plan("")
    target: list[int] = []
    for place, size in enumerate(after):
        if isinstance(size, int) and size > 0:
            target.append(size)
        elif place < len(before) and dims.equal(size, before[place]):
            target.append(0)
        elif size == 0:
            return f"size {place} of the result is zero, and not copied from the operand"
        else:
            target.append(-1)
    unknown = [place for place, entry in enumerate(target) if entry == -1]
    if len(unknown) > 1:
        return f"sizes {', '.join(str(after[place]) for place in unknown)} cannot both be written"
    if unknown and not all(
        dims.at_least(size, 1) for place, size in enumerate(after) if target[place] == 0
    ):
        return f"size {after[unknown[0]]} stands beside one that may be zero"
    return _Plan("Reshape", tuple(target))
