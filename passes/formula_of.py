"""The formula that a value computes from another one, read from the graph.

Numbers are constants of one element, parameters those of several. Statistics may drop their axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from optc.ir import DType, Kind, dims, ops
from optc.ir.shape_site import shape_of
from optc.passes import formula_functions as functions
from optc.passes.formula import Atom, Formula, FormulaTooLongError, X, number, of, sigmoid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from optc.ir import Graph, Node, Shape, Value
    from optc.passes.formula import Axes

    _Unary: TypeAlias = Callable[[Formula], Formula]

FLOATS: Final = (DType.F32, DType.F16, DType.BF16, DType.F64)
VIEWS: Final = ("Reshape", "Unsqueeze", "Squeeze", "Expand")
_BOUNDS_SINCE: Final = 11

_UNARY: Final[Mapping[str, _Unary]] = {
    "Identity": lambda p: p,
    "Neg": lambda p: p.times(-1),
    "Reciprocal": lambda p: p.power(-1),
    "Sqrt": lambda p: p.power(0.5),
    "Exp": functions.exp,
    "Log": functions.log,
    "Erf": functions.erf,
    "Tanh": functions.tanh,
    "Sigmoid": sigmoid,
    "Relu": functions.relu,
    "Abs": lambda p: functions.relu(p).times(2) - p,
    "Softplus": lambda p: functions.log(number(1) + functions.exp(p)),
}
_BINARY: Final[Mapping[str, Callable[[Formula, Formula], Formula]]] = {
    "Add": Formula.__add__,
    "Sum": Formula.__add__,
    "Sub": Formula.__sub__,
    "Mul": Formula.__mul__,
    "Div": lambda p, q: p * q.power(-1),
    "Max": functions.maximum,
    "Min": lambda p, q: functions.maximum(p.times(-1), q.times(-1)).times(-1),
}
_REDUCTIONS: Final = (
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSumExp",
)
_WHOLE: Final = ("GlobalAveragePool", "GlobalMaxPool")
_ONE_AXIS_SINCE: Final = 13
_PARAMETRIC: Final = ("Pow", "Clip", "HardSigmoid", "LeakyRelu", "PRelu", "Elu", "Where")
COMPARED: Final = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")

READABLE: Final = frozenset(
    {*_UNARY, *_BINARY, *_REDUCTIONS, *_PARAMETRIC, *VIEWS, *COMPARED, *_WHOLE, "Softmax"}
)
"""Operators that formulas are read from."""


@dataclass(frozen=True)
class _Read:
    """What was read of a value.

    Attributes:
        formula: the formula.
        dropped: axes of the leaf that the value does not have.
    """

    formula: Formula
    dropped: Axes = ()


class FormulaReader:
    """Reads formulas of one leaf; remembers what it has read.

    Attributes:
        given_up: values whose formula is longer than any idea, and those behind them.
    """

    def __init__(self, graph: Graph, leaf: Value) -> None:
        self._graph = graph
        self._leaf = leaf
        self._shape = shape_of(graph, leaf)
        self._read: dict[Value, _Read | None] = {leaf: _Read(X)}
        self.given_up: set[Value] = set()

    @property
    def shape(self) -> Shape | None:
        """The shape of the leaf."""
        return self._shape

    def formula(self, value: Value) -> Formula | None:
        """The formula of a value of the shape of the leaf; None when it has none."""
        read = self._of(value)
        return None if read is None or read.dropped else read.formula

    def total(self, inner: Formula, axes: Axes) -> Formula:
        """The sum over axes: the mean times the number of places, where that is known."""
        count = self._count(axes)
        if count is None:
            return functions.statistic("sum", inner, axes)
        return functions.mean(inner, axes).times(count)

    def _count(self, axes: Axes) -> int | None:
        shape = self._shape
        sizes = [shape[axis] for axis in axes] if shape else []
        known = [size for size in sizes if isinstance(size, int)]
        return math.prod(known) if sizes and len(known) == len(sizes) else None

    def _of(self, value: Value) -> _Read | None:
        if value not in self._read:
            self._read[value] = None  # while it is being read
            try:
                self._read[value] = self._compute(value)
            except FormulaTooLongError:
                self.given_up.add(value)
            except ArithmeticError:
                pass
            else:
                if self._read[value] is None and value.node.kind is Kind.OP:
                    operands = self._graph.operands(value.node)
                    if not self.given_up.isdisjoint(operands):
                        self.given_up.add(value)
        return self._read[value]

    def _compute(self, value: Value) -> _Read | None:
        if value.constant is not None:
            return _constant(value)
        node = value.node
        if node.kind is not Kind.OP or node.operator[0] or value.index:
            return None
        operands = self._graph.operands(node)
        if node.op_type in _UNARY:
            return self._mapped(operands[0], _UNARY[node.op_type])
        if node.op_type in _BINARY and len(operands) == 2:
            return self._combined(operands, _BINARY[node.op_type])
        if node.op_type in _REDUCTIONS or node.op_type in _WHOLE:
            return self._reduction(node)
        if node.op_type == "Softmax":
            return self._softmax(node)
        if node.op_type in VIEWS:
            return self._view(node)
        rule = getattr(self, f"_{node.op_type.lower()}", None)
        found: _Read | None = rule(node) if node.op_type in _PARAMETRIC and rule else None
        return found

    def _mapped(self, operand: Value | None, function: _Unary) -> _Read | None:
        read = None if operand is None else self._of(operand)
        return None if read is None else _Read(function(read.formula), read.dropped)

    def _combined(
        self,
        operands: tuple[Value | None, ...],
        function: Callable[[Formula, Formula], Formula],
    ) -> _Read | None:
        one = None if operands[0] is None else self._of(operands[0])
        other = None if operands[1] is None or one is None else self._of(operands[1])
        if one is None or other is None:
            return None
        varying = {read.dropped for read in (one, other) if read.formula.number is None}
        if len(varying) > 1:
            return None
        dropped = varying.pop() if varying else ()
        return _Read(function(one.formula, other.formula), dropped)

    # ---- operators with parameters -------------------------------------------------------------

    def _number(self, node: Node, index: int) -> float | None:
        value = self._graph.operand(node, index)
        read = None if value is None else self._of(value)
        return None if read is None else read.formula.number

    def _attribute(self, node: Node, name: str) -> Any:
        return ops.attribute(self._graph, node, name)

    def _pow(self, node: Node) -> _Read | None:
        exponent = self._number(node, 1)
        if exponent is None:
            return None
        return self._mapped(self._graph.operand(node, 0), lambda p: p.power(exponent))

    def _clip(self, node: Node) -> _Read | None:
        if self._graph.opset < _BOUNDS_SINCE:
            low, high = node.get("min", -math.inf), node.get("max", math.inf)
        else:
            bounds = []
            for index, open_ in ((1, -math.inf), (2, math.inf)):
                left_out = self._graph.operand(node, index) is None
                bounds.append(open_ if left_out else self._number(node, index))
            low, high = bounds
        if low is None or high is None:
            return None
        return self._mapped(
            self._graph.operand(node, 0), lambda p: functions.clip(p, float(low), float(high))
        )

    def _hardsigmoid(self, node: Node) -> _Read | None:
        alpha, beta = self._attribute(node, "alpha"), self._attribute(node, "beta")
        return self._mapped(
            self._graph.operand(node, 0),
            lambda p: functions.clip01(p.times(alpha) + number(beta)),
        )

    def _leakyrelu(self, node: Node) -> _Read | None:
        alpha = self._attribute(node, "alpha")
        return self._mapped(
            self._graph.operand(node, 0),
            lambda p: functions.relu(p).times(1 - alpha) + p.times(alpha),
        )

    def _prelu(self, node: Node) -> _Read | None:
        return self._combined(
            self._graph.operands(node),
            lambda p, slope: functions.relu(p) * (number(1) - slope) + p * slope,
        )

    def _elu(self, node: Node) -> _Read | None:
        alpha = self._attribute(node, "alpha")
        return self._mapped(
            self._graph.operand(node, 0),
            lambda p: (
                functions.relu(p) + (functions.exp(p - functions.relu(p)) - number(1)).times(alpha)
            ),
        )

    def _where(self, node: Node) -> _Read | None:
        condition, *branches = self._graph.operands(node)
        reads = [None if value is None else self._of(value) for value in branches]
        above = None if condition is None else self._condition(condition.node)
        if above is None or any(read is None or read.dropped for read in reads):
            return None
        one, other = (read.formula for read in reads if read is not None)
        return _Read(other + above * (one - other))

    def _condition(self, node: Node) -> Formula | None:
        """1 where a comparison holds, else 0."""
        if not node.is_op(*COMPARED):
            return None
        left, right = (None if v is None else self._of(v) for v in self._graph.operands(node))
        if left is None or right is None or left.dropped or right.dropped:
            return None
        difference = left.formula - right.formula
        if node.op_type.startswith("Less"):
            difference = difference.times(-1)
        return functions.step(difference, strict=not node.op_type.endswith("OrEqual"))

    # ---- statistics and views ------------------------------------------------------------------

    def _reduction(self, node: Node) -> _Read | None:
        operand = self._graph.operand(node, 0)
        read = None if operand is None else self._of(operand)
        if read is None or read.dropped or self._shape is None or operand is None:
            return None
        shape = shape_of(self._graph, operand)
        axes = self._axes(node, len(self._shape))
        if shape is None or not axes or not _same(shape, self._shape):
            return None
        whole = node.op_type in _WHOLE
        keeps = whole or bool(self._attribute(node, "keepdims"))
        return _Read(self._reduced(node.op_type, read.formula, axes), () if keeps else axes)

    def _reduced(self, op_type: str, inner: Formula, axes: Axes) -> Formula:
        if op_type in {"ReduceMean", "GlobalAveragePool"}:
            return functions.mean(inner, axes)
        if op_type in {"ReduceMax", "GlobalMaxPool"}:
            return functions.statistic("max", inner, axes)
        if op_type == "ReduceSum":
            return self.total(inner, axes)
        if op_type == "ReduceLogSumExp":
            return functions.log(self.total(functions.exp(inner), axes))
        square = self.total(inner * inner, axes)
        return square if op_type == "ReduceSumSquare" else square.power(0.5)

    def _softmax(self, node: Node) -> _Read | None:
        operand = self._graph.operand(node, 0)
        read = None if operand is None else self._of(operand)
        if read is None or read.dropped or self._shape is None:
            return None
        rank = len(self._shape)
        axis = self._attribute(node, "axis") % rank
        if self._graph.opset < _ONE_AXIS_SINCE and axis != rank - 1:
            return None
        largest = functions.statistic("max", read.formula, (axis,))
        exponential = functions.exp(read.formula - largest)
        return _Read(exponential * self.total(exponential, (axis,)).power(-1))

    def _axes(self, node: Node, rank: int) -> Axes:
        """The reduced axes; none when they are not known."""
        if node.op_type in _WHOLE:
            return tuple(range(2, rank))
        operand = self._graph.operand(node, 1)
        if operand is None:
            written = node.get("axes")
            noop = written is None and self._attribute(node, "noop_with_empty_axes")
            written = () if noop else (range(rank) if written is None else written)
        elif operand.constant is None:
            return ()
        else:
            written = [int(axis) for axis in operand.constant.numpy().reshape(-1)]
        return tuple(sorted(axis % rank for axis in written))

    def _view(self, node: Node) -> _Read | None:
        """A view of a statistic that puts dropped axes back, drops them, or repeats along them."""
        operand = self._graph.operand(node, 0)
        read = None if operand is None else self._of(operand)
        shape = shape_of(self._graph, node.output)
        if read is None or shape is None or self._shape is None or operand is None:
            return None
        if read.formula.number is not None:
            return read
        axes = read.dropped or _axes_of(read.formula)
        if not axes:
            return None
        kept = tuple(1 if i in axes else dim for i, dim in enumerate(self._shape))
        before = shape_of(self._graph, operand)
        if _same(shape, kept) or (before is not None and _same(shape, self._shape)):
            if node.is_op("Expand") or _same(shape, kept):
                return _Read(read.formula)
            return None
        bare = tuple(dim for i, dim in enumerate(self._shape) if i not in axes)
        return _Read(read.formula, axes) if _same(shape, bare) else None


def _axes_of(formula: Formula) -> Axes:
    """The axes that a formula of statistics is constant along; none when it is not one of these."""
    found = set(_all_axes(formula))
    if len(found) != 1:
        return ()
    (axes,) = found
    return axes if formula.constant_along(axes) else ()


def _all_axes(formula: Formula) -> Iterator[Axes]:
    for monomial, _ in formula.terms:
        for atom, _ in monomial:
            if atom.axes:
                yield atom.axes
            elif atom.inner is not None:
                yield from _all_axes(atom.inner)


def _same(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(map(dims.equal, one, other))


def _constant(value: Value) -> _Read | None:
    if (tensor := value.constant) is None:
        return None
    if tensor.elements == 1 and (tensor.dtype in FLOATS or tensor.dtype.is_integer):
        return _Read(number(functions.meant(tensor)))
    if tensor.dtype not in FLOATS:
        return None
    return _Read(of(Atom("value", value=value)))
