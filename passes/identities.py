"""When an operation gives back one of its operands unchanged: one predicate per kind of operation.

Equal means equal under ``==`` for every finite or infinite element: ``x + 0`` counts, though it
turns -0.0 into +0.0, and a NaN stays a NaN but may change its payload. Shape and element type are
equal too; what cannot be proved from the types in the graph is not claimed.
Source: the ONNX operator pages of the operators in `NO_OPS`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from optc.ir import DType, TensorType, Value, dims, ops
from optc.ir.shape_site import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir import Dim, Graph, Node, Shape, Tensor

    Verdict: TypeAlias = Value | str | None
    """What the result equals; or why it does not though it looks like it; or None."""

_SCANNED_BYTES: Final = 1 << 16  # a larger operand is a weight: not worth reading
_TO_THE_END: Final = 2**31 - 1  # exporters write this, or INT64_MAX, for "up to the end"
_NEUTRAL: Final[Mapping[str, tuple[float, tuple[int, ...]]]] = {
    "Add": (0, (0, 1)),
    "Mul": (1, (0, 1)),
    "Sub": (0, (1,)),
    "Div": (1, (1,)),
    "Pow": (1, (1,)),
    "PRelu": (1, (1,)),
    "And": (1, (0, 1)),
    "Or": (0, (0, 1)),
    "Xor": (0, (0, 1)),
    "BitwiseOr": (0, (0, 1)),
    "BitwiseXor": (0, (0, 1)),
    "BitShift": (0, (1,)),
}
"""The number that changes nothing, and the operands that it may stand in for."""


class Facts:
    """What the predicates ask about one graph; remembers which constants hold a single number."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._uniform: dict[Tensor, Any] = {}

    def operand(self, node: Node, index: int = 0) -> Value:
        """An operand that the operator requires."""
        value = self.graph.operand(node, index)
        assert value is not None
        return value

    def uniform(self, value: Value | None) -> Any:
        """The number that every element of a small constant equals, or None."""
        tensor = None if value is None else value.constant
        if tensor is None or not tensor.elements or tensor.nbytes > _SCANNED_BYTES:
            return None
        if tensor not in self._uniform and tensor.dtype is not DType.STRING:
            elements = tensor.numpy().reshape(-1)
            self._uniform[tensor] = elements[0] if (elements == elements[0]).all() else None
        return self._uniform.get(tensor)

    def integers(self, node: Node, index: int, name: str = "") -> tuple[int, ...] | None:
        """A constant operand as integers, or the attribute `name` that held it in older opsets.

        Empty when both are left out, None when the operand is not constant.
        """
        value = self.graph.operand(node, index)
        if value is None:
            return tuple(node.get(name, ()))
        if value.constant is None:
            return None
        return tuple(int(item) for item in value.constant.numpy().reshape(-1))

    def attribute(self, node: Node, name: str) -> Any:
        """An attribute, or its default in the graph's opset."""
        return ops.attribute(self.graph, node, name)

    def shape(self, value: Value | None) -> Shape | None:
        """The shape of a tensor, or None when not even its rank is known."""
        return None if value is None else shape_of(self.graph, value)

    def same_shape(self, a: Value, b: Value) -> bool:
        """Whether two values are known to have equal shapes."""
        one, other = self.shape(a), self.shape(b)
        if one is None or other is None or len(one) != len(other):
            return False
        return all(map(dims.equal, one, other))

    def absorbs(self, value: Value, other: Shape | None) -> bool:
        """Whether broadcasting with `other` is known to leave the shape of `value` as it is."""
        if other == ():
            return True
        shape = self.shape(value)
        if other is None or shape is None or len(other) > len(shape):
            return False
        tail = shape[len(shape) - len(other) :]
        return all(dim == 1 or dims.equal(dim, own) for dim, own in zip(other, tail, strict=True))


def _ones(dims: Sequence[Dim]) -> bool:
    return all(dim == 1 for dim in dims)


# ---- predicates --------------------------------------------------------------------------------


def _operand(facts: Facts, node: Node) -> Verdict:
    return facts.operand(node)


def _dropout(facts: Facts, node: Node) -> Verdict:
    if not ops.is_inference_dropout(facts.graph, node):
        return "training mode is not known to be off"
    return facts.operand(node)


def _single_operand(facts: Facts, node: Node) -> Verdict:
    operands = facts.graph.operands(node)
    return operands[0] if len(operands) == 1 else None


def _single_result(facts: Facts, node: Node) -> Verdict:
    return facts.operand(node) if len(node.outputs) == 1 else None


def _neutral(facts: Facts, node: Node) -> Verdict:
    number, places = _NEUTRAL[node.op_type]
    for place in places:
        neutral, value = facts.operand(node, place), facts.operand(node, 1 - place)
        if neutral.constant is None or facts.uniform(neutral) != number:
            continue
        if facts.absorbs(value, neutral.constant.shape):
            return value
        return f"{neutral.name} may broadcast {value.name} to another shape"
    return None


def _where(facts: Facts, node: Node) -> Verdict:
    condition, *branches = (facts.operand(node, i) for i in range(3))
    chosen = facts.uniform(condition)
    if branches[0] is not branches[1] and chosen is None:
        return None
    taken, other = branches if chosen is None or chosen else branches[::-1]
    same = other is taken or facts.absorbs(taken, facts.shape(other))
    if same and facts.absorbs(taken, facts.shape(condition)):
        return taken
    return f"{taken.name} may be broadcast to another shape"


def _cast(facts: Facts, node: Node) -> Verdict:
    return _same_dtype(facts.operand(node), cast_type(facts, node))


def cast_type(facts: Facts, node: Node) -> DType:
    """The element type that a Cast gives; UNDEFINED for a number that is none."""
    number = facts.attribute(node, "to")
    return DType.from_onnx(number) if number in range(len(DType)) else DType.UNDEFINED


def _cast_like(facts: Facts, node: Node) -> Verdict:
    like = facts.operand(node, 1).type
    return _same_dtype(facts.operand(node), like.dtype) if isinstance(like, TensorType) else None


def _same_dtype(value: Value, dtype: DType) -> Value | None:
    same = isinstance(value.type, TensorType) and value.type.dtype is dtype
    return value if same and dtype is not DType.UNDEFINED else None


def _reshape(facts: Facts, node: Node) -> Verdict:
    if (found := _view(facts, node)) is not None:
        return found
    value = facts.operand(node)
    shape, target = facts.shape(value), facts.integers(node, 1)
    if shape is None or target is None or len(shape) != len(target) or target.count(-1) > 1:
        return None
    copies = not facts.attribute(node, "allowzero")
    # One dimension may be -1: it takes what the others leave, which is what it was.
    kept = (
        dim == -1 or (dim == 0 and copies) or dims.equal(dim, own)
        for dim, own in zip(target, shape, strict=True)
    )
    return value if all(kept) else None


def _view(facts: Facts, node: Node) -> Verdict:
    """Elements keep their order: with equal shapes, all is equal. Looks through one view above."""
    value = facts.operand(node)
    if facts.same_shape(value, node.output):
        return value
    if value.node.is_op(*VIEWS):
        above = facts.operand(value.node)
        if facts.same_shape(above, node.output):
            return above
    return None


def _squeeze(facts: Facts, node: Node) -> Verdict:
    value = facts.operand(node)
    shape = facts.shape(value)
    # Without axes, all dimensions of size 1 go: there is none when all are known and not 1.
    if shape is not None and facts.integers(node, 1, "axes") == ():
        return value if all(isinstance(dim, int) and dim != 1 for dim in shape) else None
    return _view(facts, node)


def _unsqueeze(facts: Facts, node: Node) -> Verdict:
    return facts.operand(node) if facts.integers(node, 1, "axes") == () else _view(facts, node)


def _flatten(facts: Facts, node: Node) -> Verdict:
    value = facts.operand(node)
    shape = facts.shape(value)
    if shape is not None and len(shape) == 2 and facts.attribute(node, "axis") in (1, -1):
        return value
    return _view(facts, node)


def _transpose(facts: Facts, node: Node) -> Verdict:
    value = facts.operand(node)
    perm, shape = node.get("perm"), facts.shape(value)
    if perm is None:
        return value if shape is not None and len(shape) < 2 else None
    return value if list(perm) == sorted(perm) else None


def _pad(facts: Facts, node: Node) -> Verdict:
    pads = facts.integers(node, 1, "pads")
    return facts.operand(node) if pads is not None and not any(pads) else None


def _slice(facts: Facts, node: Node) -> Verdict:
    starts, ends = facts.integers(node, 1, "starts"), facts.integers(node, 2, "ends")
    axes, steps = facts.integers(node, 3, "axes"), facts.integers(node, 4)
    if starts is None or ends is None or axes is None or steps is None:
        return None
    if not len(starts) == len(ends) == len(axes or starts) == len(steps or starts):
        return None
    value = facts.operand(node)
    shape = facts.shape(value) or ()
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = axes[i] if axes else i
        dim = shape[axis] if -len(shape) <= axis < len(shape) else None
        size = dim if isinstance(dim, int) else _TO_THE_END
        if (steps and steps[i] != 1) or end < size or (start != 0 and start > -size):
            return None
    return value


def _expand(facts: Facts, node: Node) -> Verdict:
    value = facts.operand(node)
    if facts.same_shape(value, node.output):
        return value
    target = facts.integers(node, 1)
    return value if target is not None and facts.absorbs(value, target) else None


def _tile(facts: Facts, node: Node) -> Verdict:
    return facts.operand(node) if facts.uniform(facts.operand(node, 1)) == 1 else None


_EXACT_MODES: Final = frozenset({b"nearest", b"linear"})
_EXACT_COORDINATES: Final = frozenset(
    {None, b"half_pixel", b"pytorch_half_pixel", b"align_corners", b"asymmetric"}
)


def _resize(facts: Facts, node: Node) -> Verdict:
    if not _keeps_size(facts, node):
        return None
    if facts.attribute(node, "mode") not in _EXACT_MODES or facts.attribute(node, "antialias"):
        return "all scales are 1, but the interpolation is not exact there"
    if facts.attribute(node, "coordinate_transformation_mode") not in _EXACT_COORDINATES:
        return "all scales are 1, but coordinate_transformation_mode shifts the samples"
    return facts.operand(node)


def _keeps_size(facts: Facts, node: Node) -> bool:
    if node.op_type == "Upsample" and facts.graph.opset < 9:
        return _ones(node.get("scales", ()))
    scales = facts.graph.operand(node, 1 if len(facts.graph.operands(node)) == 2 else 2)
    if facts.uniform(scales) == 1:
        return True
    sizes = facts.graph.operand(node, 3)
    return sizes is not None and facts.same_shape(facts.operand(node), node.output)


def _pool(facts: Facts, node: Node) -> Verdict:
    exact = _ones(node.get("kernel_shape", (0,))) and _ones(node.get("strides", ()))
    return facts.operand(node) if exact and not any(node.get("pads", ())) else None


def _global_pool(facts: Facts, node: Node) -> Verdict:
    shape = facts.shape(facts.operand(node))
    return facts.operand(node) if shape is not None and _ones(shape[2:]) else None


def _reduce(facts: Facts, node: Node) -> Verdict:
    value, axes = facts.operand(node), facts.integers(node, 1, "axes")
    if axes == () and facts.attribute(node, "noop_with_empty_axes"):
        return value
    shape = facts.shape(value)
    if shape is None or axes is None or not facts.attribute(node, "keepdims"):
        return None
    reduced = [shape[axis] for axis in axes if -len(shape) <= axis < len(shape)] if axes else shape
    return value if _ones(reduced) else None


def _clip(facts: Facts, node: Node) -> Verdict:
    value = facts.operand(node)
    if not isinstance(value.type, TensorType) or value.type.dtype is DType.UNDEFINED:
        return None
    dtype = value.type.dtype
    low, high = (_bound(facts, node, i, name) for i, name in ((1, "min"), (2, "max")))
    if dtype.is_float:
        if low == -math.inf and high == math.inf:
            return value
        return "without bounds it still makes infinities finite" if low is high is None else None
    if not dtype.is_integer or dtype.bits < 8:
        return None
    lowest, highest = _range(dtype)
    open_low = low is None or low <= lowest
    return value if open_low and (high is None or high >= highest) else None


def _range(dtype: DType) -> tuple[int, int]:
    if dtype.value[0] == "u":
        return 0, 2**dtype.bits - 1
    return -(2 ** (dtype.bits - 1)), 2 ** (dtype.bits - 1) - 1


def _bound(facts: Facts, node: Node, index: int, name: str) -> Any:
    """A bound of a Clip; None when it is left out, NaN when it is not known."""
    if facts.graph.opset < 11:
        return node.get(name)
    operand = facts.graph.operand(node, index)
    number = facts.uniform(operand)
    return math.nan if operand is not None and number is None else number


def _factor_one(facts: Facts, node: Node) -> Verdict:
    one = 1 in (node.get("alpha"), node.get("blocksize"))
    return facts.operand(node) if one else None


def _idempotent(facts: Facts, node: Node) -> Verdict:
    value = facts.operand(node)
    return value if value.node.is_op(node.op_type) else None


def _involution(facts: Facts, node: Node) -> Verdict:
    inner = facts.operand(node).node
    return facts.operand(inner) if inner.is_op(node.op_type) else None


VIEWS: Final = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operations that keep the elements and their order, and give them another shape."""

_ROWS: Final[tuple[tuple[str, Callable[[Facts, Node], Verdict]], ...]] = (
    ("Identity", _operand),
    ("Dropout", _dropout),
    ("Concat Sum Mean Max Min", _single_operand),
    ("Split", _single_result),
    (" ".join(_NEUTRAL), _neutral),
    ("Where", _where),
    ("Cast BitCast", _cast),
    ("CastLike", _cast_like),
    ("Reshape", _reshape),
    ("Squeeze", _squeeze),
    ("Unsqueeze", _unsqueeze),
    ("Flatten", _flatten),
    ("Transpose", _transpose),
    ("Pad", _pad),
    ("Slice", _slice),
    ("Expand", _expand),
    ("Tile", _tile),
    ("Resize Upsample", _resize),
    ("AveragePool MaxPool", _pool),
    ("GlobalAveragePool GlobalMaxPool", _global_pool),
    ("ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum", _reduce),
    ("Clip", _clip),
    ("LeakyRelu DepthToSpace SpaceToDepth", _factor_one),
    ("Relu Abs Ceil Floor Round Sign", _idempotent),
    ("Neg Not BitwiseNot", _involution),
)

NO_OPS: Final[Mapping[str, tuple[str, Callable[[Facts, Node], Verdict]]]] = {
    name: (f"no-op-{re.sub(r'(?<!^)(?=[A-Z][a-z])', '-', name).lower()}", predicate)
    for names, predicate in _ROWS
    for name in names.split()
}
"""Rule name and predicate by operator of ONNX's own domain."""
