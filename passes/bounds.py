"""Bounds of the elements of a value, as far as they follow from how it is computed.

Of masks: conditions are 0 and 1, and the question is whether all of a row may be minus infinity.
Often the first column alone answers it: a causal mask hides it nowhere. Bounds follow real
arithmetic, so what exceeds the range of the type is for the caller to see. Two things are taken for
granted: integers that become floats are 0 and 1, as masks in a model's inputs are, and products of
activations are far from the largest number of their type.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from optc.ir import DType, Kind, TensorType, dims, ops
from optc.ir.ops import Trait
from optc.ir.shape_site import constant_tensor, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir import Graph, Node, Tensor, Value

_DEPTH: Final = 40
_ACTIVATION: Final = 1e9
_LONGEST: Final = 2.0**48
"""No Range has so many elements that it gets beyond this."""


class Bounds(NamedTuple):
    """The least and the greatest an element can be."""

    low: float
    high: float


_ANY: Final = Bounds(-math.inf, math.inf)
_TRUTH: Final = Bounds(0.0, 1.0)


def bounds_of(graph: Graph, value: Value, *, first_column: bool = False) -> Bounds:
    """Bounds of all elements, or of those at index 0 of the last axis."""
    return _Search(graph).run(value, first_column, _DEPTH)


class _Search:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.known: dict[tuple[Value, bool], Bounds] = {}

    def run(self, value: Value, first: bool, depth: int) -> Bounds:
        """Bounds of a value; with `first`, of its first column."""
        key = (value, first)
        if key not in self.known:
            self.known[key] = self._bounds(value, first, depth)
        return self.known[key]

    def _bounds(self, value: Value, first: bool, depth: int) -> Bounds:
        tensor = constant_tensor(value)
        if tensor is not None:
            return _of_tensor(tensor, first)
        node = value.node
        widest = _TRUTH if _dtype(value) is DType.BOOL else _ANY
        if node.kind is not Kind.OP or depth == 0 or node.operator[0]:
            return widest
        if node.op_type in _ARITHMETIC:
            return _ARITHMETIC[node.op_type](*self._operands(node, first, depth))
        if node.op_type == "Cast":
            return self._cast(node, value, first, depth)
        if node.op_type == "Range":
            return self._range(node, first, depth)
        traits = ops.info(node).traits
        if Trait.DATA_MOVEMENT in traits:
            return self._moved(node, first, depth)
        if Trait.MAC in traits:
            return Bounds(-_ACTIVATION, _ACTIVATION)
        return widest

    def _operands(self, node: Node, first: bool, depth: int) -> list[Bounds]:
        return [
            self.run(value, first, depth - 1)
            for value in self.graph.operands(node)
            if value is not None
        ]

    def _cast(self, node: Node, value: Value, first: bool, depth: int) -> Bounds:
        above = self.graph.operand(node, 0)
        assert above is not None
        found = self.run(above, first, depth - 1)
        before, after = _dtype(above), _dtype(value)
        if after is DType.BOOL:
            return found if before is DType.BOOL else _TRUTH
        if before.is_integer and after.is_float and found == _ANY:
            return _TRUTH
        return found

    def _range(self, node: Node, first: bool, depth: int) -> Bounds:
        start, limit, step = self._operands(node, False, depth)
        if first:
            return start
        return Bounds(start.low, min(limit.high, _LONGEST)) if step.low > 0 else _ANY

    def _moved(self, node: Node, first: bool, depth: int) -> Bounds:
        keep = first and self._keeps_first(node)
        operands = [value for value in self.graph.operands(node) if value is not None]
        if node.op_type == "Where":
            return self._where(operands, first, depth)
        if node.op_type == "Trilu":
            return self._trilu(node, operands[0], first, depth)
        data = operands if node.op_type == "Concat" else operands[:1]
        if node.op_type in ("Pad", "Compress", "ScatterND", "ScatterElements", "Scatter"):
            return _ANY
        found = [self.run(value, keep, depth - 1) for value in data]
        return _union(*found)

    def _where(self, operands: list[Value], first: bool, depth: int) -> Bounds:
        condition, yes, no = (self.run(value, first, depth - 1) for value in operands)
        if condition.low == 1:
            return yes
        return no if condition.high == 0 else _union(yes, no)

    def _trilu(self, node: Node, data: Value, first: bool, depth: int) -> Bounds:
        found = self.run(data, first, depth - 1)
        lower = not ops.attribute(self.graph, node, "upper")
        shift = self.graph.operand(node, 1)
        offset = 0.0 if shift is None else self.run(shift, False, depth - 1).low
        return found if first and lower and offset >= 0 else _union(found, Bounds(0, 0))

    def _keeps_first(self, node: Node) -> bool:
        """Whether the first column of the result is of the first column of operand 0."""
        above = self.graph.operand(node, 0)
        assert above is not None
        before, after = shape_of(self.graph, above), shape_of(self.graph, node.output)
        if node.op_type in ("Expand", "Identity"):
            return True
        if not before or not after:
            return False
        if node.op_type == "Slice":
            return dims.equal(before[-1], after[-1]) or self._starts_at_zero(node, len(before))
        if node.op_type == "Unsqueeze":
            return after[-1] != 1
        return node.op_type == "Reshape" and dims.equal(before[-1], after[-1])

    def _starts_at_zero(self, node: Node, rank: int) -> bool:
        def numbers(index: int, name: str) -> list[int] | None:
            value = self.graph.operand(node, index)
            if value is None:
                return list(node.get(name)) if node.get(name) is not None else None
            tensor = constant_tensor(value)
            return None if tensor is None else [int(item) for item in tensor.numpy().reshape(-1)]

        starts, axes = numbers(1, "starts"), numbers(3, "axes")
        steps = numbers(4, "steps")
        if starts is None or (axes is None and self.graph.operand(node, 3) is not None):
            return False
        if self.graph.operand(node, 4) is not None and (steps is None or min(steps) < 1):
            return False
        axes = axes if axes is not None else list(range(len(starts)))
        at_last = [
            start for start, axis in zip(starts, axes, strict=True) if axis % rank == rank - 1
        ]
        return all(start == 0 for start in at_last)


def _dtype(value: Value) -> DType:
    return value.type.dtype if isinstance(value.type, TensorType) else DType.UNDEFINED


def _of_tensor(tensor: Tensor, first: bool) -> Bounds:
    if not tensor.elements or not (
        tensor.dtype.is_float or tensor.dtype.is_integer or tensor.dtype is DType.BOOL
    ):
        return _ANY
    array = tensor.numpy().astype(np.float64)
    if first and array.ndim:
        array = array[..., 0]
    if np.isnan(array).any():
        return _ANY
    return Bounds(float(array.min()), float(array.max()))


def _union(*found: Bounds) -> Bounds:
    return Bounds(min(item.low for item in found), max(item.high for item in found))


def _corners(operation: Callable[[float, float], float]) -> Callable[[Bounds, Bounds], Bounds]:
    def bounds(a: Bounds, b: Bounds) -> Bounds:
        found = [operation(x, y) for x in a for y in b]
        return _ANY if any(math.isnan(item) for item in found) else Bounds(min(found), max(found))

    return bounds


def _quotient(a: Bounds, b: Bounds) -> Bounds:
    if b.low <= 0 <= b.high:
        return _ANY
    return _corners(lambda x, y: x / y)(a, b)


def _truth(certain: bool, impossible: bool) -> Bounds:
    return Bounds(float(certain), float(not impossible))


_ARITHMETIC: Final[Mapping[str, Callable[..., Bounds]]] = {
    "Add": _corners(lambda x, y: x + y),
    "Sub": _corners(lambda x, y: x - y),
    "Mul": _corners(lambda x, y: 0.0 if x == 0 or y == 0 else x * y),
    "Div": _quotient,
    "Neg": lambda a: Bounds(-a.high, -a.low),
    "Abs": lambda a: Bounds(max(a.low, -a.high, 0.0), max(-a.low, a.high)),
    "Sigmoid": lambda a: _TRUTH,
    "Tanh": lambda a: Bounds(-1.0, 1.0),
    "Relu": lambda a: Bounds(max(a.low, 0.0), max(a.high, 0.0)),
    "Max": lambda *a: Bounds(max(x.low for x in a), max(x.high for x in a)),
    "Min": lambda *a: Bounds(min(x.low for x in a), min(x.high for x in a)),
    "Not": lambda a: Bounds(1 - a.high, 1 - a.low),
    "And": lambda a, b: Bounds(min(a.low, b.low), min(a.high, b.high)),
    "Or": lambda a, b: Bounds(max(a.low, b.low), max(a.high, b.high)),
    "Equal": lambda a, b: _truth(
        a.low == a.high == b.low == b.high, a.high < b.low or b.high < a.low
    ),
    "Less": lambda a, b: _truth(a.high < b.low, a.low >= b.high),
    "LessOrEqual": lambda a, b: _truth(a.high <= b.low, a.low > b.high),
    "Greater": lambda a, b: _truth(a.low > b.high, a.high <= b.low),
    "GreaterOrEqual": lambda a, b: _truth(a.low >= b.high, a.high < b.low),
}
"""Operators by what they do to bounds."""
