"""Merge transposes with each other and with the reshapes around them.

    Transpose(Transpose(x, p), q)    = Transpose(x, [p[i] for i in q]), or x when that is in order
    Reshape(Transpose(x, p), s)      = Reshape(x, s)         p moves only dimensions of size 1
    Squeeze(Transpose(x, p), a)      = Squeeze(x, [p[i] for i in a])  what is left stays in order
    Transpose(Unsqueeze(x, a), p)    = Unsqueeze(x, [i where p[i] in a])                 likewise
    Transpose(Reshape(x, s), p)      = Reshape(x, [s[i] for i in p])   p moves only sizes of 1
    Reshape(Transpose(Reshape(x)))   = Transpose(x, q)       the reshapes only join and part axes

The four before the last remove a transpose that moves no element in memory. The last is how
torch.export (PyTorch 2.13) writes the keys of an attention: [B, h, L, d] as [B·h, L, d], that
transposed, and back to [B, h, d, L].
Source: ONNX operators Transpose-25, Reshape-25, Squeeze-25, Unsqueeze-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optc.ir import TensorType, dims
from optc.ir.shape_site import shape_of
from optc.passes.base import RewritePass
from optc.rewrite.pattern import Rule, optional

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from optc.ir import Shape, Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_AXES_OPERAND_SINCE = 13  # Squeeze and Unsqueeze: an attribute before, an operand from then on


class TransposeTranspose(Rule):
    """Two transposes in a row become one, or none when they undo each other.

    Refuses: a permutation left out while the rank is unknown; the first result is used elsewhere,
    unless the two undo each other (one transpose would stay and another be added).
    """

    family = "transposes"

    def pattern(self, op: Any, x: Pattern) -> Pattern:
        """Transpose(Transpose(x))."""
        root: Pattern = op.Transpose(op.Transpose(x, name="first"), name="second")
        return root

    def check(self, match: Match) -> Refusal | None:
        """Both permutations known, and the second transpose is gone afterwards."""
        perm = self._composed(match)
        if perm is None:
            return match.refuse("perm is left out and the rank is not known")
        use = match.other_use("first")
        if use is not None and perm != sorted(perm):
            return match.refuse_use("first", use)
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """One transpose by the composed permutation."""
        perm, x = self._composed(match), match.value("x")
        assert perm is not None
        if perm == sorted(perm):
            return x
        return build.Transpose(x, like=match.node("second"), perm=perm)

    def _composed(self, match: Match) -> list[int] | None:
        rank = _rank(match.value("x"))
        first, second = _perm(match, "first", rank), _perm(match, "second", rank)
        first = first or (second and list(reversed(range(len(second)))))
        second = second or (first and list(reversed(range(len(first)))))
        if first is None or second is None:
            return None
        return [first[i] for i in second]


class TransposeReshape(Rule):
    """A Reshape does not see a transpose that moves only dimensions of size 1.

    Refuses: a transpose that moves elements, or dimensions that are not known to be 1; a shape
    that is not constant; a 0 in the shape (copy the dimension) where that dimension is not known,
    or is 0, which can only be written as a copy.
    """

    family = "transposes"

    def pattern(self, op: Any, x: Pattern, shape: Pattern) -> Pattern:
        """Reshape(Transpose(x), shape)."""
        root: Pattern = op.Reshape(op.Transpose(x), shape)
        return root

    def check(self, match: Match) -> Refusal | None:
        """The elements keep their order in memory, and the new shape can be written down."""
        shape = _shape(match.value("x"))
        perm = _perm(match, "Transpose", None if shape is None else len(shape))
        if shape is None or perm is None:
            return match.refuse("the shape before the Transpose is not known")
        if not _in_order(i for i in perm if shape[i] != 1):
            return match.refuse("the Transpose moves dimensions that are not known to be 1")
        if match.tensor("shape") is None:
            return match.refuse(f"the new shape {match.value('shape').name} is not constant")
        if self._new_shape(match) is None:
            return match.refuse("the new shape copies a dimension that is not a positive number")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Reshape(x, shape), copied dimensions written as numbers."""
        shape = match.value("shape")
        new = self._new_shape(match)
        if new != match.array("shape").tolist():
            assert shape.constant is not None
            shape = build.constant(new or [], dtype=shape.constant.dtype, name=shape.name)
        return build.Reshape(match.value("x"), shape, like=match.node("Reshape"))

    def _new_shape(self, match: Match) -> list[int] | None:
        shape = _shape(match.value("x"))
        assert shape is not None
        perm = _perm(match, "Transpose", len(shape))
        assert perm is not None
        target = [int(dim) for dim in match.array("shape")]
        if match.attribute("Reshape", "allowzero"):
            return target
        if len(target) > len(perm) and 0 in target[len(perm) :]:
            return None  # not a valid Reshape
        dims = [shape[perm[i]] if dim == 0 else dim for i, dim in enumerate(target)]
        numbers = [dim for dim in dims if isinstance(dim, int) and dim != 0]
        return numbers if len(numbers) == len(dims) else None


class TransposeSqueeze(Rule):
    """A Squeeze that takes out all the dimensions that a transpose moves takes them from its input.

    Refuses: axes that are not constant or left out; other dimensions change their order.
    """

    family = "transposes"

    def pattern(self, op: Any, x: Pattern, axes: Pattern) -> Pattern:
        """Squeeze(Transpose(x), axes)."""
        root: Pattern = op.Squeeze(op.Transpose(x), optional(axes))
        return root

    def check(self, match: Match) -> Refusal | None:
        """What the Squeeze leaves is in the order of x."""
        perm = _perm(match, "Transpose", _rank(match.value("x")))
        if perm is None:
            return match.refuse("perm is left out and the rank is not known")
        axes = _axes(match, "Squeeze", len(perm))
        if axes is None:
            return match.refuse("the axes are not constant")
        if not axes:
            return match.refuse("the axes are left out")
        if not _in_order(axis for i, axis in enumerate(perm) if i not in axes):
            return match.refuse("the Transpose moves dimensions that stay")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Squeeze(x, axes before the transpose)."""
        perm = _perm(match, "Transpose", _rank(match.value("x")))
        assert perm is not None
        axes = _axes(match, "Squeeze", len(perm))
        assert axes is not None
        return _with_axes(match, build, "Squeeze", sorted(perm[i] for i in axes))


class UnsqueezeTranspose(Rule):
    """A transpose that moves only what an Unsqueeze has put in: put it in where it ends up.

    Refuses: axes that are not constant; other dimensions change their order.
    """

    family = "transposes"

    def pattern(self, op: Any, x: Pattern, axes: Pattern) -> Pattern:
        """Transpose(Unsqueeze(x, axes))."""
        root: Pattern = op.Transpose(op.Unsqueeze(x, optional(axes)))
        return root

    def check(self, match: Match) -> Refusal | None:
        """The dimensions of x keep their order."""
        perm = _perm(match, "Transpose", self._rank(match))
        if perm is None:
            return match.refuse("perm is left out and the rank is not known")
        axes = _axes(match, "Unsqueeze", len(perm))
        if axes is None:
            return match.refuse("the axes are not constant")
        if not _in_order(axis for axis in perm if axis not in axes):
            return match.refuse("the Transpose moves dimensions that were there before")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Unsqueeze(x, axes after the transpose)."""
        perm = _perm(match, "Transpose", self._rank(match))
        assert perm is not None
        axes = _axes(match, "Unsqueeze", len(perm))
        assert axes is not None
        found = [i for i, axis in enumerate(perm) if axis in axes]
        return _with_axes(match, build, "Unsqueeze", found)

    def _rank(self, match: Match) -> int | None:
        before = _rank(match.value("x"))
        axes = _axes(match, "Unsqueeze", 1)
        return None if before is None or axes is None else before + len(axes)


class ReshapeTranspose(Rule):
    """A transpose that moves only dimensions of size 1 which a Reshape has made: make them there.

    Refuses: a transpose that moves elements; a shape that is not constant; a copied dimension (0)
    that is no number and would be another place's; a Reshape that is used elsewhere.
    """

    def pattern(self, op: Any, x: Pattern, shape: Pattern) -> Pattern:
        """Transpose(Reshape(x, shape))."""
        root: Pattern = op.Transpose(op.Reshape(x, shape))
        return root

    def check(self, match: Match) -> Refusal | None:
        """The elements keep their order in memory, and the new shape can be written down."""
        shape = shape_of(match.graph, match.node("Reshape").output)
        perm = _perm(match, "Transpose", None if shape is None else len(shape))
        if shape is None or perm is None:
            return match.refuse("the shape before the Transpose is not known")
        if not _in_order(i for i in perm if shape[i] != 1):
            return match.refuse("the Transpose moves dimensions that are not known to be 1")
        if use := match.other_use("Reshape"):
            return match.refuse_use("Reshape", use)
        if match.tensor("shape") is None:
            return match.refuse(f"the new shape {match.value('shape').name} is not constant")
        if self._target(match) is None:
            return match.refuse("the new shape copies a dimension that is not a positive number")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Reshape(x, the shape in the new order)."""
        old = match.tensor("shape")
        assert old is not None
        target = self._target(match) or []
        shape = build.constant(target, dtype=old.dtype, name=match.value("shape").name)
        return build.Reshape(match.value("x"), shape, like=match.node("Reshape"))

    def _target(self, match: Match) -> list[int] | None:
        shape = shape_of(match.graph, match.node("Reshape").output)
        assert shape is not None
        perm = _perm(match, "Transpose", len(shape))
        assert perm is not None
        target = [int(dim) for dim in match.array("shape")]
        copies = not match.attribute("Reshape", "allowzero")
        found: list[int] = []
        for place, axis in enumerate(perm):
            entry, size = target[axis], shape[axis]
            if entry == 0 and copies and place != axis:
                if not isinstance(size, int) or size < 1:
                    return None
                entry = size
            found.append(entry)
        return found


class ReshapeTransposeReshape(Rule):
    """A transpose of joined axes, which are parted again afterwards, is one of the axes themselves.

    Refuses: unknown shapes; a reshape that does more than to join neighbouring axes of x, or to
    part them again; a result of the first two that is used elsewhere.
    """

    family = "transposes"

    def pattern(self, op: Any, x: Pattern, joined: Pattern, parted: Pattern) -> Pattern:
        """Reshape(Transpose(Reshape(x, joined)), parted)."""
        inner = op.Transpose(op.Reshape(x, joined, name="join"))
        root: Pattern = op.Reshape(inner, parted, name="part")
        return root

    def check(self, match: Match) -> Refusal | None:
        """The reshapes undo each other up to the transpose."""
        for name in ("join", "Transpose"):
            if use := match.other_use(name):
                return match.refuse_use(name, use)
        if self._perm(match) is None:
            return match.refuse("the reshapes are not known to join and part the same axes")
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """One transpose of x."""
        perm = self._perm(match)
        assert perm is not None
        return build.Transpose(match.value("x"), like=match.node("Transpose"), perm=perm)

    def _perm(self, match: Match) -> list[int] | None:
        shapes = [
            shape_of(match.graph, value)
            for value in (match.value("x"), match.node("join").output, match.node("part").output)
        ]
        before, joined, after = shapes
        perm = _perm(match, "Transpose", None if joined is None else len(joined))
        if before is None or joined is None or after is None or perm is None:
            return None
        for early in (True, False):
            groups = _groups(before, joined, early=early)
            found = [axis for i in perm for axis in groups[i]] if groups else []
            if len(found) == len(after) and all(
                dims.equal(before[axis], size) for axis, size in zip(found, after, strict=True)
            ):
                return found
        return None


class MergeTransposes(RewritePass):
    """Merge consecutive transposes, and drop those that a reshape beside them makes pointless.

    A transpose of a constant is left to `fold-constants`.
    """

    name = "merge-transposes"
    rules = (
        TransposeTranspose(),
        TransposeReshape(),
        TransposeSqueeze(),
        UnsqueezeTranspose(),
        ReshapeTransposeReshape(),
        ReshapeTranspose(),
    )


def _groups(before: Shape, joined: Shape, *, early: bool) -> list[list[int]] | None:
    """Which axes are joined to which; axes of size 1 go to the earlier group, or to the later."""
    groups: list[list[int]] = []
    axis = 0
    for size in joined:
        group: list[int] = []
        while not (group and dims.equal(dims.product(before[i] for i in group), size)):
            if axis == len(before):
                return None
            group.append(axis)
            axis += 1
        while early and axis < len(before) and before[axis] == 1 and size != 1:
            group.append(axis)
            axis += 1
        groups.append(group)
    if axis < len(before) and any(size != 1 for size in before[axis:]):
        return None
    if groups:
        groups[-1].extend(range(axis, len(before)))
    return groups


def _shape(value: Value) -> Shape | None:
    return value.type.shape if isinstance(value.type, TensorType) else None


def _rank(value: Value) -> int | None:
    shape = _shape(value)
    return None if shape is None else len(shape)


def _perm(match: Match, name: str, rank: int | None) -> list[int] | None:
    """The permutation; left out, it reverses the dimensions, which needs the rank."""
    written = match.node(name).get("perm")
    if written is not None:
        return list(written)
    return None if rank is None else list(reversed(range(rank)))


def _axes(match: Match, name: str, rank: int) -> list[int] | None:
    """Non-negative axes; empty when they are left out, None when they are not constant."""
    if match.values["axes"] is None:
        axes = match.node(name).get("axes", ())
    elif match.tensor("axes") is None:
        return None
    else:
        axes = match.array("axes").reshape(-1).tolist()
    return [int(axis) % rank for axis in axes]


def _with_axes(match: Match, build: Builder, name: str, axes: Sequence[int]) -> Value:
    """The same operation on x with other axes, in the form of the graph's opset."""
    x, node = match.value("x"), match.node(name)
    if match.graph.opset < _AXES_OPERAND_SINCE:
        return build.node(name, [x], like=node, attributes={"axes": list(axes)}).output
    old = match.value("axes")
    assert old.constant is not None
    operand = build.constant(axes, dtype=old.constant.dtype, name=old.name)
    return build.node(name, [x, operand], like=node).output


def _in_order(axes: Iterable[int]) -> bool:
    found = list(axes)
    return found == sorted(found)
