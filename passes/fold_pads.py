"""Fold a Pad into the convolution or pooling behind it, or into another Pad.

    Conv(Pad(x, p), W, pads=q)         = Conv(x, W, pads=p+q)                    zeros
    AveragePool(Pad(x, p), pads=0)     = AveragePool(x, pads=p, count_include_pad=1)   zeros
    MaxPool(Pad(x, p), pads=q)         = MaxPool(x, pads=p+q)    -inf, or zeros where x >= 0
    Pad(Pad(x, p), q)                  = Pad(x, p+q)             of one value
    Squeeze(Pad(Unsqueeze(x, a)), a)   = Pad(x)                  no padding at a

A pooling takes only pads that are smaller than its window: then every window has an element of x,
and what is put beside x never decides a maximum. PyTorch writes ``ZeroPad2d`` as a Pad before Conv,
tf2onnx does for ``ZeroPadding2D`` (MobileNet: odd padding of strided convolutions), and
paddle2onnx pads in five dimensions, between Unsqueeze and Squeeze.

Source: ONNX operators Pad-2, -11, -18, Conv-11, AveragePool-10, -19, MaxPool-8, -10, -12.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.ir import DType, TensorType
from optc.ir.shape_site import Site, constant_tensor, normal_axes
from optc.passes.base import RewritePass
from optc.passes.padding import Padding, padding_of
from optc.rewrite.pattern import Rule, optional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_NOT_NEGATIVE: Final = ("Relu", "Sigmoid", "HardSigmoid", "Abs", "Exp", "Softplus", "Softmax")
_KEEP_SIGN: Final = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity")
_LOOKED_THROUGH: Final = 8


class _Folded(Rule):
    """What the rules share: a Pad, which nothing else uses, and the pads of what follows."""

    family = "pad"

    user = ""

    def padding(self, match: Match) -> Padding | str:
        """The Pad, when it can be part of a window."""
        if use := match.other_use("Pad"):
            return match.refuse_use("Pad", use).reason
        found = padding_of(match.graph, match.node("Pad"))
        if isinstance(found, str):
            return found
        if not found.is_spatial:
            return "it pads batch or channels"
        if not found.grows:
            return "it cuts elements off"
        auto = match.node(self.user).get("auto_pad", b"NOTSET")
        if auto not in (b"NOTSET", b"VALID"):
            return f"{self.user} pads by auto_pad {auto.decode()}"
        return found

    def total(self, match: Match, padding: Padding) -> list[int]:
        """The pads of both together."""
        found = (*padding.before[2:], *padding.after[2:])
        own = match.node(self.user).get("pads") or (0,) * len(found)
        return [int(a + b) for a, b in zip(found, own, strict=True)]

    def small(self, match: Match, padding: Padding) -> str | None:
        """Why a pooling cannot take the pads, or None."""
        node = match.node(self.user)
        window = node.get("kernel_shape", ())
        if any(item != 1 for item in node.get("dilations", ())):
            return "the window is dilated"
        if node.get("ceil_mode", 0):
            return "the number of windows is rounded up"
        if any(a >= b for a, b in zip(self.total(match, padding), (*window, *window), strict=True)):
            return "a pad is not smaller than the window"
        return None


class PadConv(_Folded):
    """Zeros before a convolution.

    Refuses: another value or mode; pads that are negative, of batch or channels, or not constant;
    automatic padding; a Pad that is used elsewhere.
    """

    user = "Conv"

    def pattern(
        self,
        op: Any,
        x: Pattern,
        weight: Pattern,
        bias: Pattern,
        pads: Pattern,
        value: Pattern,
        axes: Pattern,
    ) -> Pattern:
        """Conv(Pad(x))."""
        pad = op.Pad(x, optional(pads), optional(value), optional(axes))
        root: Pattern = op.Conv(pad, weight, optional(bias))
        return root

    def check(self, match: Match) -> Refusal | None:
        """The convolution would pad the same."""
        found = self.padding(match)
        if isinstance(found, str):
            return match.refuse(found)
        return match.refuse(f"it pads with {found.value:g}") if found.value else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Conv(x) with all pads."""
        found = self.padding(match)
        assert isinstance(found, Padding)
        return build.Conv(
            match.value("x"),
            match.value("weight"),
            match.values["bias"],
            like=match.node("Conv"),
            pads=self.total(match, found),
            auto_pad=None,
        )


class PadAveragePool(_Folded):
    """Zeros before an average: they count.

    Refuses: what PadConv refuses; an average that leaves its own padding out of the count;
    dilation; rounding up; pads that are not smaller than the window.
    """

    user = "AveragePool"

    def pattern(self, op: Any, x: Pattern, pads: Pattern, value: Pattern, axes: Pattern) -> Pattern:
        """AveragePool(Pad(x))."""
        pad = op.Pad(x, optional(pads), optional(value), optional(axes))
        root: Pattern = op.AveragePool(pad)
        return root

    def check(self, match: Match) -> Refusal | None:
        """Every element of a window counts already, padding or not."""
        found = self.padding(match)
        if isinstance(found, str):
            return match.refuse(found)
        if found.value:
            return match.refuse(f"it pads with {found.value:g}")
        node = match.node("AveragePool")
        if any(node.get("pads", ())) and not node.get("count_include_pad", 0):
            return match.refuse("the average does not count its own padding")
        reason = self.small(match, found)
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """AveragePool(x) with all pads, which count."""
        found = self.padding(match)
        assert isinstance(found, Padding)
        return build.AveragePool(
            match.value("x"),
            like=match.node("AveragePool"),
            pads=self.total(match, found),
            count_include_pad=1,
            auto_pad=None,
        )


class PadMaxPool(_Folded):
    """-inf before a maximum, or zeros where nothing is below zero.

    Refuses: what PadConv refuses; another value, or zeros beside data that may be negative;
    integers; dilation; rounding up; pads that are not smaller than the window; used indices.
    """

    user = "MaxPool"

    def pattern(self, op: Any, x: Pattern, pads: Pattern, value: Pattern, axes: Pattern) -> Pattern:
        """MaxPool(Pad(x))."""
        pad = op.Pad(x, optional(pads), optional(value), optional(axes))
        root: Pattern = op.MaxPool(pad)
        return root

    def check(self, match: Match) -> Refusal | None:
        """The padding never decides."""
        found, x = self.padding(match), match.value("x")
        if isinstance(found, str):
            return match.refuse(found)
        if not isinstance(x.type, TensorType) or not x.type.dtype.is_float:
            return match.refuse(f"{x.name} is not known to be of floats")
        if len(match.node("MaxPool").outputs) > 1:
            return match.refuse("it gives indices, too")
        if found.value > 0 or (found.value > -math.inf and not _not_negative(match.graph, x)):
            return match.refuse(f"{x.name} may be smaller than the {found.value:g} beside it")
        reason = self.small(match, found)
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """MaxPool(x) with all pads."""
        found = self.padding(match)
        assert isinstance(found, Padding)
        pads = self.total(match, found)
        node = match.node("MaxPool")
        return build.MaxPool(match.value("x"), like=node, pads=pads, auto_pad=None)


class PadPad(Rule):
    """Two constant paddings of one value.

    Refuses: other modes or values; a cut; unknown pads; a first result that is used elsewhere.
    """

    family = "pad"

    def pattern(
        self,
        op: Any,
        x: Pattern,
        pads: Pattern,
        value: Pattern,
        axes: Pattern,
        pads2: Pattern,
        value2: Pattern,
        axes2: Pattern,
    ) -> Pattern:
        """Pad(Pad(x))."""
        first = op.Pad(x, optional(pads), optional(value), optional(axes), name="first")
        root: Pattern = op.Pad(
            first, optional(pads2), optional(value2), optional(axes2), name="second"
        )
        return root

    def check(self, match: Match) -> Refusal | None:
        """Both put the same number around x."""
        if use := match.other_use("first"):
            return match.refuse_use("first", use)
        first, second = (padding_of(match.graph, match.node(name)) for name in ("first", "second"))
        if isinstance(first, str) or isinstance(second, str):
            return match.refuse(first if isinstance(first, str) else str(second))
        if first.value != second.value:
            return match.refuse(f"they pad with {first.value:g} and {second.value:g}")
        if not (first.grows and second.grows):
            return match.refuse("one cuts elements off")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Pad(x) by both amounts."""
        first, second = (padding_of(match.graph, match.node(name)) for name in ("first", "second"))
        assert isinstance(first, Padding)
        assert isinstance(second, Padding)
        before = [a + b for a, b in zip(first.before, second.before, strict=True)]
        after = [a + b for a, b in zip(first.after, second.after, strict=True)]
        value = match.values["value2"] if match.values["value2"] else match.values["value"]
        return _pad(match, build, "second", [*before, *after], value)


class PadView(Rule):
    """A Pad between an Unsqueeze and the Squeeze that undoes it.

    Refuses: other axes; padding along them; unknown axes or pads; results that are used elsewhere.
    """

    family = "pad"

    def pattern(
        self,
        op: Any,
        x: Pattern,
        added: Pattern,
        pads: Pattern,
        value: Pattern,
        axes: Pattern,
        dropped: Pattern,
    ) -> Pattern:
        """Squeeze(Pad(Unsqueeze(x, added)), dropped)."""
        inner = op.Unsqueeze(x, optional(added))
        pad = op.Pad(inner, optional(pads), optional(value), optional(axes))
        root: Pattern = op.Squeeze(pad, optional(dropped))
        return root

    def check(self, match: Match) -> Refusal | None:
        """The Pad does not see the axes."""
        for name in ("Unsqueeze", "Pad"):
            if use := match.other_use(name):
                return match.refuse_use(name, use)
        found = padding_of(match.graph, match.node("Pad"))
        if isinstance(found, str):
            return match.refuse(found)
        axes = self._axes(match, len(found.before))
        if axes is None:
            return match.refuse("the axes are not known, or not the same")
        if any(found.before[axis] or found.after[axis] for axis in axes):
            return match.refuse("it pads along an axis that is dropped")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Pad(x)."""
        found = padding_of(match.graph, match.node("Pad"))
        assert isinstance(found, Padding)
        axes = self._axes(match, len(found.before)) or []
        kept = [axis for axis in range(len(found.before)) if axis not in axes]
        pads = [found.before[axis] for axis in kept] + [found.after[axis] for axis in kept]
        return _pad(match, build, "Pad", pads, match.values["value"])

    def _axes(self, match: Match, rank: int) -> list[int] | None:
        both = []
        for name in ("Unsqueeze", "Squeeze"):
            given = Site(match.graph, match.node(name), {}).parameter("axes", 1)
            both.append(None if not given else normal_axes(given, rank))
        first, second = both
        if first is None or second is None or sorted(first) != sorted(second):
            return None
        return first


class FoldPads(RewritePass):
    """Fold Pad into the padding of Conv, AveragePool and MaxPool, and into other Pads."""

    name = "fold-pads"
    rules = (PadView(), PadPad(), PadConv(), PadAveragePool(), PadMaxPool())


def _pad(
    match: Match, build: Builder, name: str, pads: Sequence[int], value: Value | None
) -> Value:
    node, x = match.node(name), match.value("x")
    if match.graph.opset < 11:
        return build.Pad(x, like=node, pads=list(pads))
    amounts = build.constant(np.asarray(pads), dtype=DType.I64, name=f"{node.key}_pads")
    return build.Pad(x, amounts, value, like=node)


def _not_negative(graph: Graph, value: Value) -> bool:
    """Whether no element of a value is below zero."""
    for _ in range(_LOOKED_THROUGH):
        node = value.node
        if node.is_op(*_NOT_NEGATIVE):
            return True
        if node.is_op("Clip"):
            return _lower_bound(graph, node) >= 0
        operand = graph.operand(node, 0) if node.is_op(*_KEEP_SIGN) else None
        if operand is None:
            return False
        value = operand
    return False


def _lower_bound(graph: Graph, node: Node) -> float:
    if graph.opset < 11:
        return float(node.get("min", -math.inf))
    operand = graph.operand(node, 1)
    tensor = None if operand is None else constant_tensor(operand)
    return -math.inf if tensor is None else float(tensor.numpy().reshape(-1)[0])
