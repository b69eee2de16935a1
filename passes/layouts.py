"""How operations run on permuted operands: the axis algebra of `move-transposes`.

For an operation f and a permutation p, find f' with

    Transpose(f(x, …), p) = f'(Transpose(x, p), …)

An elementwise operation is its own f'. One that names axes gets them where the permutation puts
them: axis a becomes the place of a in p. A reduction that drops its axes may absorb p: when the
axes that stay keep their order, its result is the same.

Source: ONNX operators named in `_RULES`, all versions since opset 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from optc.ir import DType, Kind, TensorType, ops
from optc.ir.shape_site import constant_tensor, normal_axes, normal_axis, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from optc.ir import Graph, Node, Shape, Value

Perm: TypeAlias = "tuple[int, ...]"


@dataclass(frozen=True)
class Moved:
    """What an operation needs to run on permuted operands.

    Attributes:
        data: operands that are permuted; the others stay as they are.
        attributes: attributes that change.
        operands: constant operands that change, as integers (None: the operand is written for the
            first time).
        absorbs: the results are what they were, not permuted.
        slower: the operation works along the last axis now, and would not afterwards.
    """

    data: tuple[int, ...] = (0,)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    operands: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    absorbs: bool = False
    slower: bool = False


def inverse(perm: Sequence[int]) -> Perm:
    """The permutation that undoes this one."""
    return tuple(sorted(range(len(perm)), key=perm.__getitem__))


def composed(first: Sequence[int], second: Sequence[int]) -> Perm:
    """The one permutation that does the first and then the second."""
    return tuple(first[axis] for axis in second)


def perm_of(graph: Graph, node: Node) -> Perm | None:
    """The permutation of a Transpose; None for anything else, or when its rank is not known."""
    if not node.is_op("Transpose"):
        return None
    written = node.get("perm")
    if written is not None:
        return tuple(written)
    operand = graph.operand(node, 0)
    shape = None if operand is None else shape_of(graph, operand)
    return None if shape is None else tuple(reversed(range(len(shape))))


def is_single(shape: Shape | None) -> bool:
    """Whether a tensor has one element for certain: every permutation leaves it as it is."""
    return shape is not None and all(dim == 1 for dim in shape)


def moved(graph: Graph, node: Node, perm: Perm) -> Moved | str:
    """How a node runs on operands permuted by `perm`, or why it cannot."""
    if node.kind is not Kind.OP or not node.outputs or any(True for _ in node.subgraphs()):
        return f"{node.label} is not an operation that can be moved"
    rule = _RULES.get(node.op_type) if node.operator[0] == "" else None
    if rule is None and ops.info(node).has(ops.Trait.ELEMENTWISE):
        rule = _elementwise
    if rule is None or not ops.is_deterministic(graph, node):
        return f"{node.op_type} {node.label} is bound to its layout"
    found = rule(_Place(graph, node, perm))
    if isinstance(found, str):
        return f"{node.op_type} {node.label} {found}"
    rank = len(perm)
    for index in found.data:
        value = graph.operand(node, index)
        shape = None if value is None else shape_of(graph, value)
        if value is None or shape is None:
            return f"the rank of an operand of {node.label} is not known"
        small = is_single(shape) or (value.constant is not None and _is_elementwise(node))
        if len(shape) != rank and not (small and len(shape) < rank):
            return f"{value.name} does not have the {rank} dimensions of {node.label}"
    results = [None if value is None else shape_of(graph, value) for value in node.outputs]
    if not found.absorbs and any(shape is None or len(shape) != rank for shape in results):
        return f"the result of {node.label} does not have {rank} dimensions"
    return found


def permuted_constant(value: Value, perm: Perm) -> npt.NDArray[Any]:
    """A constant operand of an elementwise operation in the permuted layout."""
    tensor = value.constant
    assert tensor is not None
    array = tensor.numpy()
    full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape).transpose(perm)
    if array.ndim < len(perm):  # as short as it can be written, like what it was made from
        while full.ndim and full.shape[0] == 1:
            full = full[0]
    return full


def permuted_type(type_: TensorType, perm: Perm) -> TensorType:
    """The type of a permuted tensor."""
    shape = type_.shape
    assert shape is not None
    return TensorType(type_.dtype, tuple(shape[axis] for axis in perm))


def _is_elementwise(node: Node) -> bool:
    return ops.info(node).has(ops.Trait.ELEMENTWISE)


class _Place:
    """A node and a permutation, as the rules ask about them."""

    def __init__(self, graph: Graph, node: Node, perm: Perm) -> None:
        self.graph, self.node, self.perm = graph, node, perm
        self.rank = len(perm)

    def attr(self, name: str, default: int) -> int:
        found = ops.attribute(self.graph, self.node, name)
        return found if isinstance(found, int) else default

    def axis(self, name: str, default: int) -> int | None:
        """An axis attribute, from the front."""
        return normal_axis(self.attr(name, default), self.rank)

    def at(self, axis: int) -> int:
        """Where the permutation puts an axis."""
        return self.perm.index(axis)

    def operands(self) -> tuple[int, ...]:
        found = self.graph.operands(self.node)
        return tuple(index for index, value in enumerate(found) if value is not None)

    def integers(self, index: int) -> tuple[int, ...] | None:
        value = self.graph.operand(self.node, index)
        tensor = None if value is None else constant_tensor(value)
        return None if tensor is None else tuple(int(item) for item in tensor.numpy().reshape(-1))

    def keeps_last(self, count: int) -> bool:
        """Whether the last axes stay the last, in their order."""
        return self.perm[self.rank - count :] == tuple(range(self.rank - count, self.rank))


_Rule: TypeAlias = "Callable[[_Place], Moved | str]"


def _elementwise(place: _Place) -> Moved | str:
    if place.node.is_op("CastLike", "SwiGLU"):
        return "has an operand that is no data"
    if ops.info(place.node).has(ops.Trait.UNARY):
        return Moved()
    return Moved(place.operands())


def _axis_attribute(default: int, *, every_operand: bool = False) -> _Rule:
    def rule(place: _Place) -> Moved | str:
        axis = place.axis("axis", default)
        if axis is None:
            return "has an axis that does not exist"
        data = place.operands() if every_operand else (0,)
        return Moved(data, {"axis": place.at(axis)})

    return rule


def _softmax(place: _Place) -> Moved | str:
    if place.graph.opset < 13:
        return "flattens its operand"
    axis = place.axis("axis", -1)
    if axis is None:
        return "has an axis that does not exist"
    last = place.rank - 1
    slower = axis == last and place.at(axis) != last
    return Moved(attributes={"axis": place.at(axis)}, slower=slower)


def _dropped(place: _Place, axes: Sequence[int]) -> bool:
    """Whether the axes that stay are in order, so that the results are the same."""
    left = [axis for axis in place.perm if axis not in axes]
    return left == sorted(left)


def _reduce(place: _Place) -> Moved | str:
    as_operand = place.graph.operand(place.node, 1) is not None
    given = place.integers(1) if as_operand else tuple(place.node.get("axes", ()))
    if given is None:
        return "has axes that are not constant"
    if not given:
        return "reduces without axes"
    axes = normal_axes(given, place.rank)
    if axes is None:
        return "has an axis that does not exist"
    keeps = bool(place.attr("keepdims", 1))
    if not keeps and not _dropped(place, axes):
        return "leaves axes in another order"
    new = tuple(sorted(place.at(axis) for axis in axes))
    if as_operand:
        return Moved(operands={1: new}, absorbs=not keeps)
    return Moved(attributes={"axes": new}, absorbs=not keeps)


def _arg(place: _Place) -> Moved | str:
    axis = place.axis("axis", 0)
    if axis is None:
        return "has an axis that does not exist"
    keeps = bool(place.attr("keepdims", 1))
    if not keeps and not _dropped(place, [axis]):
        return "leaves axes in another order"
    return Moved(attributes={"axis": place.at(axis)}, absorbs=not keeps)


def _gather(place: _Place) -> Moved | str:
    axis = place.axis("axis", 0)
    indices = place.graph.operand(place.node, 1)
    shape = None if indices is None else shape_of(place.graph, indices)
    if axis is None or shape is None or len(shape) > 1:
        return "changes the rank"
    if not shape and not _dropped(place, [axis]):
        return "leaves axes in another order"
    return Moved(attributes={"axis": place.at(axis)}, absorbs=not shape)


def _slice(place: _Place) -> Moved | str:
    if place.graph.opset < 10:
        starts = place.node.get("starts", ())
        given = place.node.get("axes", tuple(range(len(starts))))
        axes = normal_axes(given, place.rank)
        if axes is None:
            return "has an axis that does not exist"
        return Moved(attributes={"axes": tuple(place.at(axis) for axis in axes)})
    if place.graph.operand(place.node, 3) is None:
        return "leaves its axes out"
    constant = place.integers(3)
    found = None if constant is None else normal_axes(constant, place.rank)
    if found is None:
        return "has axes that are not constant"
    return Moved(operands={3: tuple(place.at(axis) for axis in found)})


def _pad(place: _Place) -> Moved | str:
    if place.graph.opset < 11:
        pads = place.node.get("pads", ())
        return Moved(attributes={"pads": _permuted_pads(pads, place.perm)})
    if place.graph.operand(place.node, 3) is not None:
        constant = place.integers(3)
        axes = None if constant is None else normal_axes(constant, place.rank)
        if axes is None:
            return "has axes that are not constant"
        return Moved(operands={3: tuple(place.at(axis) for axis in axes)})
    found = place.integers(1)
    if found is None:
        return "has pads that are not constant"
    return Moved(operands={1: _permuted_pads(found, place.perm)})


def _permuted_pads(pads: Sequence[int], perm: Perm) -> tuple[int, ...]:
    rank = len(perm)
    return tuple(pads[axis] for axis in perm) + tuple(pads[rank + axis] for axis in perm)


def _per_axis(place: _Place) -> Moved | str:
    """Tile and Expand: a constant with one number per axis."""
    numbers = place.integers(1)
    if numbers is None or len(numbers) != place.rank:
        return "has an operand that is not one constant number per axis"
    return Moved(operands={1: tuple(numbers[axis] for axis in place.perm)})


def _normalization(place: _Place) -> Moved | str:
    axis = place.axis("axis", -1)
    if axis is None or not place.keeps_last(place.rank - axis):
        return "normalizes axes that would not be the last ones"
    return Moved(attributes={"axis": axis})


def _matmul(place: _Place) -> Moved | str:
    shapes = [shape_of(place.graph, value) for value in place.graph.operands(place.node) if value]
    if any(shape is None for shape in shapes):
        return "has an operand of unknown rank"
    ranks = [len(shape) for shape in shapes if shape is not None]
    if ranks == [place.rank] * 2 and place.rank > 2 and place.keeps_last(2):
        return Moved((0, 1))
    if ranks == [place.rank, 2] and place.rank > 2 and place.keeps_last(1):
        return Moved((0,))
    return "multiplies axes that would move"


def _quantize(place: _Place) -> Moved | str:
    scale = place.graph.operand(place.node, 1)
    shape = None if scale is None else shape_of(place.graph, scale)
    if shape == ():
        return Moved()
    axis = place.axis("axis", 1)
    if shape is None or len(shape) != 1 or axis is None or place.attr("block_size", 0):
        return "has scales that are not per tensor or per axis"
    if place.graph.opset < 13:
        return "has scales that are not per tensor"
    return Moved(attributes={"axis": place.at(axis)})


_RULES: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    **dict.fromkeys(
        (
            *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
            *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        ),
        _reduce,
    ),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    "Concat": _axis_attribute(1, every_operand=True),
    "Split": _axis_attribute(0),
    "LpNormalization": _axis_attribute(-1),
    "Gather": _gather,
    "Slice": _slice,
    "Pad": _pad,
    **dict.fromkeys(("Tile", "Expand"), _per_axis),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalization),
    "MatMul": _matmul,
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantize),
}


def constant_like(numbers: Sequence[int], original: Value | None) -> npt.NDArray[Any]:
    """Integers in the element type of the operand that they replace."""
    tensor = None if original is None else constant_tensor(original)
    return np.asarray(numbers, (DType.I64 if tensor is None else tensor.dtype).numpy)
