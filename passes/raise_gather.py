"""Recognise a one-hot matrix times a constant table as a lookup in the table.

    MatMul(OneHot(i, depth, [0, 1]), T)                 =  Gather(T', i')
    MatMul(Cast(Equal(i, [0, 1, … depth - 1])), T)      =  Gather(T', i')

An index that is out of range has a row of zeros. So the table gets one more row, of zeros, and the
index is clipped onto it:

    Equal form    T' = [T, 0]       i' = Clip(i, -1, depth)            -1 counts from the end
    OneHot form   T' = [T, 0, T]    i' = Clip(i, -depth - 1, depth)    it takes negative indices too

The product adds zeros to what is looked up, so the result is the same to the bit.
Source: ONNX operators OneHot-11, Equal-19, Gather-13, Clip-13, MatMul-13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from optc.ir import DType, TensorType, dims
from optc.ir.shape_site import shape_of
from optc.passes.base import RewritePass
from optc.rewrite.pattern import Rule, const

if TYPE_CHECKING:
    from optc.ir import Graph, Shape, Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_CLIP_SINCE: Final = 12
_AXES_OPERAND_SINCE: Final = 13
_CLIPPED: Final = (DType.I32, DType.I64)


class OneHotEqual(Rule):
    """A comparison with all indices, times a table.

    Refuses: what is compared with is not 0, 1, 2, … along the last axis; the index has more than
    one element in a row; no Clip for its type.
    """

    family = "gather"

    def pattern(self, op: Any, index: Any, numbers: Any, table: Any) -> Pattern:
        """MatMul(Cast(Equal(index, numbers)), table)."""
        found: Pattern = op.MatMul(op.Cast(op.Equal(index, const(numbers))), const(table))
        return found

    def check(self, match: Match) -> Refusal | None:
        """The comparison is a one-hot matrix, and the index can be brought into range."""
        numbers, table = match.tensor("numbers"), match.tensor("table")
        assert numbers is not None
        assert table is not None
        depth = table.shape[0] if len(table.shape) == 2 else 0
        flat = match.array("numbers").reshape(-1)
        if not depth or numbers.shape[-1:] != (depth,) or not np.array_equal(flat, range(depth)):
            return match.refuse(
                f"{match.value('numbers').name} is not 0, 1, 2, … to the table's end"
            )
        index = _single(match.graph, match.value("index"))
        if index is None:
            return match.refuse(f"{match.value('index').name} has several columns")
        if (shape := shape_of(match.graph, index)) is None or len(shape) < len(numbers.shape):
            return match.refuse(f"rank of {index.name} is not known, or raised by the comparison")
        return _type_error(match, index)

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Gather in the table with a row of zeros."""
        index = _single(match.graph, match.value("index"))
        assert index is not None
        table = match.array("table")
        depth = len(table)
        padded = np.concatenate([table, np.zeros((1, table.shape[1]))])
        rows = _without_column(build, index)
        return _lookup(match, build, rows, padded, (-1, depth))


class OneHotTable(Rule):
    """The operator OneHot, times a table.

    Refuses: other values than 0 and 1; another axis than the last; a depth that is not constant or
    not the table's; no Clip for the type of the index.
    """

    family = "gather"

    def pattern(self, op: Any, index: Any, depth: Any, values: Any, table: Any) -> Pattern:
        """MatMul(OneHot(index, depth, values), table)."""
        hot = op.OneHot(index, const(depth), const(values))
        found: Pattern = op.MatMul(hot, const(table))
        return found

    def check(self, match: Match) -> Refusal | None:
        """The matrix has ones at the indices and zeros elsewhere."""
        table = match.tensor("table")
        assert table is not None
        if match.array("values").tolist() != [0.0, 1.0]:
            return match.refuse("the values of OneHot are not 0 and 1")
        if match.attribute("OneHot", "axis") != -1:
            return match.refuse("the axis of OneHot is not the last")
        if len(table.shape) != 2 or match.array("depth").reshape(-1).tolist() != [table.shape[0]]:
            return match.refuse("the depth of OneHot is not the height of the table")
        return _type_error(match, match.value("index"))

    def rewrite(self, match: Match, build: Builder) -> Value:
        """Gather in the table, a row of zeros, and the table again."""
        table = match.array("table")
        depth = len(table)
        padded = np.concatenate([table, np.zeros((1, table.shape[1])), table])
        return _lookup(match, build, match.value("index"), padded, (-depth - 1, depth))


class RaiseGather(RewritePass):
    """Write products of a one-hot matrix and a table as lookups (see the rules for refusals)."""

    name: ClassVar[str] = "raise-gather"
    rules: ClassVar[tuple[Rule, ...]] = (OneHotEqual(), OneHotTable())


def _type_error(match: Match, index: Value) -> Refusal | None:
    kind = index.type
    if match.graph.opset < _CLIP_SINCE:
        return match.refuse(f"opset {match.graph.opset} has no Clip of integers")
    if not isinstance(kind, TensorType) or kind.dtype not in _CLIPPED:
        return match.refuse(f"index {index.name} is {kind or 'of unknown type'}")
    return None


def _lookup(
    match: Match, build: Builder, index: Value, table: Any, bounds: tuple[int, int]
) -> Value:
    assert isinstance(index.type, TensorType)
    low, high = (
        build.constant(bound, dtype=index.type.dtype, name=f"{index.name}_bound")
        for bound in bounds
    )
    rows = build.like(table, match.value("table"))
    return build.Gather(rows, build.Clip(index, low, high), axis=0)


def _single(graph: Graph, value: Value) -> Value | None:
    """The index before it was repeated along the last axis; None when that has several elements."""
    while True:
        shape = shape_of(graph, value)
        if shape is not None and shape and shape[-1] == 1:
            return value
        if not value.node.is_op("Expand"):
            return None
        source = graph.operand(value.node, 0)
        assert source is not None
        before = shape_of(graph, source)
        if shape is None or before is None or not _only_last(before, shape):
            return None
        value = source


def _only_last(before: Shape, after: Shape) -> bool:
    """Whether an Expand repeats the last axis only."""
    if len(before) != len(after):
        return False
    return all(dims.equal(one, other) for one, other in zip(before[:-1], after[:-1], strict=True))


def _without_column(build: Builder, index: Value) -> Value:
    if build.graph.opset < _AXES_OPERAND_SINCE:
        row = build.node("Squeeze", [index], attributes={"axes": [-1]}).output
    else:
        axes = build.constant([-1], dtype=DType.I64, name=f"{index.name}_axis")
        row = build.Squeeze(index, axes)
    if isinstance(index.type, TensorType) and index.type.shape is not None:
        build.graph.set_type(row, TensorType(index.type.dtype, index.type.shape[:-1]))
    return row
