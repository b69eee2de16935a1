"""Raise reductions and poolings of all spatial axes to global pooling.

    ReduceMean(x, axes=[2, 3])              = GlobalAveragePool(x)
    ReduceMean(x, axes=[2, 3], keepdims=0)  = Flatten(GlobalAveragePool(x))
    AveragePool(x, kernel = size of x)      = GlobalAveragePool(x)
    ReduceMean(Reshape(x, [N, C, -1]), -1)  = Flatten(GlobalAveragePool(x))
    ReduceMean(ReduceMean(x, 3), 2)         = GlobalAveragePool(x)

and the same of ReduceMax, MaxPool and GlobalMaxPool. Axis 1 holds the channels. PyTorch writes
``AdaptiveAvgPool2d(1)`` as GlobalAveragePool (TorchScript) or ReduceMean (torch.export),
``x.mean((2, 3))``, ``x.mean(3).mean(2)`` and ``x.flatten(2).mean(-1)`` as ReduceMean; keras
global pooling comes as ReduceMean over [1, 2], which `move-transposes` turns into [2, 3].

Source: ONNX operators GlobalAveragePool-1, -22, GlobalMaxPool-1, ReduceMean-18, ReduceMax-20.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from optc.ir import DType, TensorType, dims, ops
from optc.ir.shape_site import normal_axes, shape_of
from optc.passes.base import RewritePass
from optc.rewrite.pattern import Rule, optional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Graph, Shape, Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_GLOBAL: Final[Mapping[str, str]] = {
    "ReduceMean": "GlobalAveragePool",
    "ReduceMax": "GlobalMaxPool",
    "AveragePool": "GlobalAveragePool",
    "MaxPool": "GlobalMaxPool",
}
_FLOATS: Final = (DType.F16, DType.F32, DType.F64)
_RANKS: Final = (3, 4, 5)
_LOOKED_THROUGH: Final = 8
"""Operations between a convolution and the pooling of its result, at most."""


class SpatialReduction(Rule):
    """A reduction of all spatial axes.

    Refuses: axes that are not constant, or not all the spatial ones; unknown rank, or one other
    than 3, 4 or 5; integers; with three dimensions, data that no convolution or pooling is seen to
    have made (a mean of the last axis is mostly part of a normalization).
    """

    family = "pool"

    def pattern(self, op: Any, x: Pattern, axes: Pattern) -> Pattern:
        """ReduceMean or ReduceMax(x, axes)."""
        root: Pattern = op.any("ReduceMean", "ReduceMax")(x, optional(axes), name="reduce")
        return root

    def check(self, match: Match) -> Refusal | None:
        """The axes are the spatial ones of something with channels."""
        shape = shape_of(match.graph, match.value("x"))
        if shape is None or len(shape) not in _RANKS:
            return match.refuse("the rank is not known, or not 3, 4 or 5")
        if reason := _wrong_type(match.value("x")):
            return match.refuse(reason)
        axes = _axes(match, len(shape))
        if axes is None:
            return match.refuse("the axes are not constant")
        if sorted(axes) != list(range(2, len(shape))):
            return match.refuse(f"axes {sorted(axes)} are not all the spatial ones")
        if len(shape) == 3 and not _is_spatial(match.graph, match.value("x")):
            return match.refuse("no convolution or pooling is seen to make the three dimensions")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Global pooling, flattened when the axes are dropped."""
        pooled = _pooled(match, build, match.value("x"), "reduce")
        if match.attribute("reduce", "keepdims"):
            return pooled
        return build.Flatten(pooled, axis=1)


class NestedReduction(Rule):
    """Two reductions, one axis after the other, that are all the spatial axes together.

    Refuses: reductions of two kinds; one keeps the dimensions and the other does not; other axes;
    integers; unknown shapes; the first result is used elsewhere.
    """

    family = "pool"

    def pattern(self, op: Any, x: Pattern, axes: Pattern, outer: Pattern) -> Pattern:
        """ReduceMean(ReduceMean(x, axes), outer)."""
        reduction = op.any("ReduceMean", "ReduceMax")
        root: Pattern = reduction(
            reduction(x, optional(axes), name="inner"), optional(outer), name="reduce"
        )
        return root

    def check(self, match: Match) -> Refusal | None:
        """One kind, one shape, all spatial axes."""
        shape = shape_of(match.graph, match.value("x"))
        if match.node("inner").op_type != match.node("reduce").op_type:
            return match.refuse("the reductions are of two kinds")
        if shape is None or len(shape) not in _RANKS[1:]:
            return match.refuse("the rank is not known, or not 4 or 5")
        if bool(match.attribute("inner", "keepdims")) != bool(
            match.attribute("reduce", "keepdims")
        ):
            return match.refuse("one keeps the dimensions, the other does not")
        if self._axes(match, len(shape)) != list(range(2, len(shape))):
            return match.refuse("together they do not reduce all spatial axes")
        if use := match.other_use("inner"):
            return match.refuse_use("inner", use)
        reason = _wrong_type(match.value("x"))
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Global pooling, flattened when the axes are dropped."""
        pooled = _pooled(match, build, match.value("x"), "reduce")
        if match.attribute("reduce", "keepdims"):
            return pooled
        return build.Flatten(pooled, axis=1)

    def _axes(self, match: Match, rank: int) -> list[int] | None:
        first = _axes(match, rank, "axes", "inner")
        if first is None:
            return None
        if match.attribute("inner", "keepdims"):
            second = _axes(match, rank, "outer")
            return None if second is None else sorted({*first, *second})
        left = [axis for axis in range(rank) if axis not in first]
        second = _axes(match, len(left), "outer")
        return None if second is None else sorted([*first, *(left[axis] for axis in second)])


class FlatReduction(Rule):
    """A reduction of spatial axes that a reshape has made one.

    Refuses: a reshape that is not [N, C, the rest]; unknown shapes; integers.
    """

    family = "pool"

    def pattern(self, op: Any, x: Pattern, shape: Pattern, axes: Pattern) -> Pattern:
        """ReduceMean or ReduceMax(Reshape(x, shape), axes)."""
        reshape = op.Reshape(x, shape)
        root: Pattern = op.any("ReduceMean", "ReduceMax")(reshape, optional(axes), name="reduce")
        return root

    def check(self, match: Match) -> Refusal | None:
        """The reshape keeps batch and channels, and the rest is one axis that is reduced."""
        before = shape_of(match.graph, match.value("x"))
        after = shape_of(match.graph, match.node("Reshape").output)
        if before is None or after is None or len(before) not in _RANKS[1:] or len(after) != 3:
            return match.refuse("the Reshape does not make three dimensions of four or five")
        if not all(map(dims.equal, before[:2], after[:2])):
            return match.refuse("the Reshape changes batch or channels")
        if _axes(match, 3) != [2]:
            return match.refuse("it is not the last axis that is reduced")
        reason = _wrong_type(match.value("x"))
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Global pooling, in the shape that the reduction gave."""
        x = match.value("x")
        pooled = _pooled(match, build, x, "reduce")
        if not match.attribute("reduce", "keepdims"):
            return build.Flatten(pooled, axis=1)
        return build.Reshape(pooled, build.constant([0, 0, 1], dtype=DType.I64, name="shape"))


class WholePooling(Rule):
    """A pooling whose window is all of the data.

    Refuses: spatial sizes that are not numbers, or not those of the window; padding; dilation; the
    indices of a MaxPool are used.
    """

    family = "pool"

    def pattern(self, op: Any, x: Pattern) -> Pattern:
        """AveragePool or MaxPool(x)."""
        root: Pattern = op.any("AveragePool", "MaxPool")(x, name="pool")
        return root

    def check(self, match: Match) -> Refusal | None:
        """One window, without padding, over everything."""
        node, shape = match.node("pool"), shape_of(match.graph, match.value("x"))
        if shape is None or len(shape) not in _RANKS:
            return match.refuse("the rank is not known, or not 3, 4 or 5")
        if list(shape[2:]) != list(node.get("kernel_shape", ())):
            return match.refuse("the window is not known to cover all of the data")
        if any(node.get("pads", ())) or node.get("auto_pad", b"NOTSET") not in _UNPADDED:
            return match.refuse("it pads")
        if any(item != 1 for item in node.get("dilations", ())):
            return match.refuse("the window is dilated")
        if len(node.outputs) > 1:
            return match.refuse("it gives indices, too")
        reason = _wrong_type(match.value("x"))
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Global pooling."""
        return _pooled(match, build, match.value("x"), "pool")


_UNPADDED: Final = (b"NOTSET", b"VALID")


class RaisePools(RewritePass):
    """Raise reductions and poolings of all spatial axes to GlobalAveragePool and GlobalMaxPool.

    An instance normalization that is still decomposed would lose its form: raise those before.
    """

    name = "raise-pools"
    rules = (NestedReduction(), FlatReduction(), SpatialReduction(), WholePooling())


def _pooled(match: Match, build: Builder, x: Value, name: str) -> Value:
    node, shape = match.node(name), shape_of(match.graph, x)
    assert shape is not None
    made = build.node(_GLOBAL[node.op_type], [x]).output
    if isinstance(x.type, TensorType):
        pooled: Shape = (*shape[:2], *(1,) * (len(shape) - 2))
        match.graph.set_type(made, TensorType(x.type.dtype, pooled))
    return made


def _wrong_type(value: Value) -> str | None:
    if isinstance(value.type, TensorType) and value.type.dtype in _FLOATS:
        return None
    return f"{value.name} is not known to be f16, f32 or f64"


def _axes(
    match: Match, rank: int, variable: str = "axes", name: str = "reduce"
) -> list[int] | None:
    """The reduced axes from the front; None when they are not constant."""
    given: Sequence[int]
    if match.values[variable] is None:
        given = match.node(name).get("axes", ())
    elif match.tensor(variable) is None:
        return None
    else:
        given = [int(axis) for axis in match.array(variable).reshape(-1)]
    if not given:
        return [] if match.attribute(name, "noop_with_empty_axes") else list(range(rank))
    return normal_axes(given, rank)


def _is_spatial(graph: Graph, value: Value) -> bool:
    """Whether a convolution or pooling makes a value, perhaps with elementwise steps after it."""
    for _ in range(_LOOKED_THROUGH):
        node = value.node
        if node.is_op("Conv", "ConvTranspose") or ops.info(node).has(ops.Trait.POOLING):
            return True
        if not (node.is_op("BatchNormalization") or ops.info(node).has(ops.Trait.ELEMENTWISE)):
            return False
        operand = graph.operand(node, 0)
        if operand is None:
            return False
        value = operand
    return False
