"""What a Softmax of attention is taken of: products of queries and keys, scaled, with masks.

    logits  =  cap · tanh(scale / cap · Q Kᵀ)  +  Σ masks

Going up from the Softmax through multiplications and divisions by a number, sums and differences,
a tanh, `Where` with a constant, casts, and reshapes of leading dimensions, to the MatMul or Einsum
that multiplies. Terms that come off on the way are masks: numbers that are added, or conditions
that say what is hidden. What Keras writes is a `Where` too: logits · seen + fill · (1 - seen).
Source: ONNX operators Attention-24, MatMul-13, Einsum-12, Where-16.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import DType, TensorType, ops
from optc.ir.shape_site import constant_tensor, shape_of
from optc.passes.attention_views import keeps_rows, same_shape

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Shape, Value

_DEPTH: Final = 24
"""Operations between the product and the Softmax; exporters write at most a dozen."""

_ABSORBING: Final = 1e30
"""What fills hidden places must be so large that adding a logit to it is lost in rounding."""

PRODUCTS: Final = ("MatMul", "Einsum")
"""Operators that can multiply queries with keys."""


@dataclass(frozen=True)
class Mask:
    """A term of the logits.

    Attributes:
        value: numbers to add, or a condition.
        factor: what the numbers are multiplied with.
        fill: for a condition, what stands where it hides; None for numbers.
        hides: whether a condition is true, not false, where it hides.
        view: shape of the logits where it is added.
    """

    value: Value
    factor: float
    fill: float | None
    hides: bool
    view: Shape


@dataclass
class Logits:
    """The operand of a Softmax, taken apart.

    Attributes:
        product: the operation that multiplies queries with keys.
        scale: factor of the product.
        softcap: bound of the tanh; 0 for none.
        masks: what is added.
        wide: the type that a cast gives on the way; None without one.
        shape: shape of the logits as the Softmax sees them.
    """

    product: Node
    shape: Shape
    scale: float = 1.0
    softcap: float = 0.0
    masks: list[Mask] = field(default_factory=list)
    wide: DType | None = None


def number(value: Value | None) -> float | None:
    """The number that a constant of one element is; None for anything else."""
    tensor = None if value is None else constant_tensor(value)
    if tensor is None or tensor.elements != 1 or not tensor.dtype.is_float:
        return None
    return float(tensor.numpy().astype(np.float64).reshape(-1)[0])


def factor_of(graph: Graph, node: Node) -> tuple[Value, float] | None:
    """What a multiplication or division by a number multiplies, and with what."""
    if not node.is_op("Mul", "Div"):
        return None
    first, second = graph.operand(node, 0), graph.operand(node, 1)
    if first is None or second is None:
        return None
    if node.op_type == "Mul" and number(first) is not None:
        first, second = second, first
    found = number(second)
    if found is None or not same_shape(graph, first, node.output):
        return None
    if node.op_type == "Div":
        return (first, 1 / found) if found else None
    return first, found


def is_product(graph: Graph, node: Node) -> bool:
    """Whether it multiplies two things that are computed."""
    if not node.is_op(*PRODUCTS):
        return False
    operands = graph.operands(node)
    return len(operands) == 2 and all(
        value is not None and constant_tensor(value) is None for value in operands
    )


def find_logits(graph: Graph, softmax: Node) -> Logits | str | None:
    """Take the operand of a Softmax apart.

    Returns:
        The parts; a reason when a product is there and something on the way is not understood;
        None when there is no product.
    """
    value = graph.operand(softmax, 0)
    assert value is not None
    if _spine(graph, value) is None:
        return None
    shape = shape_of(graph, value)
    if shape is None:
        return f"rank of {value.name} is not known"
    return _Climb(graph, softmax, shape).run(value)


def _spine(graph: Graph, value: Value) -> int | None:
    """Number of operations from the nearest product of two activations down to a value."""
    level, seen = [value], {value}
    for depth in range(_DEPTH):
        if any(is_product(graph, item.node) for item in level):
            return depth
        above = [found for item in level for found in _above(graph, item.node)]
        level = [item for item in dict.fromkeys(above) if item not in seen]
        seen.update(level)
    return None


def _above(graph: Graph, node: Node) -> list[Value]:
    """The operands through which the way up may lead."""
    operands = [value for value in graph.operands(node) if value is not None]
    if node.is_op("Add", "Sub", "Mul"):
        return operands
    if node.is_op("Where"):
        return operands[1:]
    if node.is_op("Div", "Tanh", "Cast", "Identity", "Reshape", "Dropout"):
        return operands[:1]
    return []


def _selected(graph: Graph, node: Node) -> tuple[Value, Value, float] | None:
    """Condition, logits and fill where a sum is logits · seen + fill · (not seen)."""
    for kept, filled in permutations(graph.operands(node), 2):
        if kept is None or filled is None or not node.is_op("Add"):
            continue
        hidden, fill = factor_of(graph, filled.node) or (None, 0.0)
        if hidden is None or not hidden.node.is_op("Cast") or not kept.node.is_op("Mul"):
            continue
        negated = graph.operand(hidden.node, 0)
        seen = graph.operand(negated.node, 0) if negated and negated.node.is_op("Not") else None
        for logits, mask in permutations(graph.operands(kept.node), 2):
            if seen is None or mask is None or logits is None or not mask.node.is_op("Cast"):
                continue
            if graph.operand(mask.node, 0) is seen:
                return seen, logits, fill
    return None


def _selected_by_constants(graph: Graph, node: Node) -> tuple[Value, Value] | None:
    """Logits and addend where a sum is logits · seen + addend, both factors constant.

    The addend is so large where `seen` is zero that logits added to it would be lost.
    """
    for kept, addend in permutations(graph.operands(node), 2):
        tensor = None if addend is None else constant_tensor(addend)
        if kept is None or addend is None or tensor is None or not kept.node.is_op("Mul"):
            continue
        for logits, seen in permutations(graph.operands(kept.node), 2):
            factor = None if seen is None else constant_tensor(seen)
            if factor is None or logits is None or factor.shape != tensor.shape:
                continue
            ones, numbers = factor.numpy(), tensor.numpy()
            hidden = ones == 0
            fits = ((ones == 1) | hidden).all() and (numbers[hidden] < -_ABSORBING).all()
            return (logits, addend) if fits and node.is_op("Add") else None
    return None


class _Climb:
    """The way up; `factor` is what the value reached is multiplied with."""

    def __init__(self, graph: Graph, softmax: Node, shape: Shape) -> None:
        self.graph = graph
        self.below: Node = softmax
        self.view = shape
        self.found = Logits(softmax, shape)
        self.factor = 1.0

    def run(self, value: Value) -> Logits | str:
        while True:
            node = value.node
            use = self.graph.only_use(value)
            if use is None:
                return f"{node.label} is used elsewhere too"
            self.below = node
            if is_product(self.graph, node):
                self.found.product, self.found.scale = node, self.factor
                return self.found
            step = self._step(node)
            if isinstance(step, str):
                return step
            value = step

    def _step(self, node: Node) -> Value | str:
        if node.is_op("Mul", "Div"):
            scaled = factor_of(self.graph, node)
            if scaled is None:
                return f"{node.label} scales by what is not a number"
            self.factor *= scaled[1]
            return scaled[0]
        if node.is_op("Add", "Sub"):
            return self._sum(node)
        if node.is_op("Where"):
            return self._where(node)
        if node.is_op("Tanh"):
            return self._tanh(node)
        return self._passed(node)

    def _passed(self, node: Node) -> Value | str:
        """A cast, a reshape, or nothing."""
        above = self.graph.operand(node, 0)
        assert above is not None
        if node.is_op("Cast"):
            return self._cast(node, above)
        if node.is_op("Reshape"):
            view = shape_of(self.graph, above)
            if view is None or not keeps_rows(view, self.view):
                return f"{node.label} reshapes queries or keys"
            self.view = view
            return above
        if node.is_op("Dropout") and not ops.is_inference_dropout(self.graph, node):
            return f"{node.label} is in training mode"
        return above

    def _cast(self, node: Node, above: Value) -> Value | str:
        before, after = above.type, node.output.type
        if not isinstance(before, TensorType) or not isinstance(after, TensorType):
            return f"type of {above.name} is not known"
        if self.found.wide is not None or before.dtype.bits > after.dtype.bits:
            return f"{node.label} casts the logits to {after.dtype.value}"
        if self.found.masks or self.factor != 1:
            return f"what is added or multiplied after {node.label} is {after.dtype.value}"
        self.found.wide = after.dtype if before.dtype is not after.dtype else None
        return above

    def _sum(self, node: Node) -> Value | str:
        selected = _selected(self.graph, node)
        if selected is not None:
            return self._filled(node, *selected)
        constant = _selected_by_constants(self.graph, node)
        if constant is not None and same_shape(self.graph, constant[0], node.output):
            mask = Mask(constant[1], self.factor, None, False, self.view)
            return self._mask(node, mask) or constant[0]
        first, second = self.graph.operand(node, 0), self.graph.operand(node, 1)
        assert first is not None
        assert second is not None
        ways = [_spine(self.graph, value) for value in (first, second)]
        if ways[0] is None or (ways[1] is not None and ways[1] < ways[0]):
            first, second = second, first
            if node.op_type == "Sub":
                return f"{node.label} subtracts the logits"
        if not same_shape(self.graph, first, node.output):
            return f"{second.name}, which {node.label} adds, may enlarge the logits"
        sign = -1.0 if node.op_type == "Sub" else 1.0
        return self._mask(node, Mask(second, sign * self.factor, None, False, self.view)) or first

    def _where(self, node: Node) -> Value | str:
        condition, yes, no = self.graph.operands(node)
        assert condition is not None
        assert yes is not None
        assert no is not None
        hides = number(yes) is not None
        kept, fill = (no, number(yes)) if hides else (yes, number(no))
        if fill is None:
            return f"{node.label} puts in what is not a number"
        return self._filled(node, condition, kept, fill, hides=hides)

    def _filled(
        self, node: Node, condition: Value, kept: Value, fill: float, *, hides: bool = False
    ) -> Value | str:
        if not same_shape(self.graph, kept, node.output):
            return f"{condition.name}, the condition of {node.label}, may enlarge the logits"
        fill *= self.factor
        if not fill < -_ABSORBING:
            return f"{node.label} puts in {fill:g}, which is not hidden for sure"
        return self._mask(node, Mask(condition, 1.0, fill, hides, self.view)) or kept

    def _tanh(self, node: Node) -> Value | str:
        above = self.graph.operand(node, 0)
        assert above is not None
        if self.found.softcap or self.factor <= 0:
            return f"{node.label} is not a cap"
        self.found.softcap = self.factor
        return above

    def _mask(self, node: Node, mask: Mask) -> str | None:
        if self.found.softcap:
            return f"{node.label} adds below the cap"
        self.found.masks.append(mask)
        return None
