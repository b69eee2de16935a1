"""How rounding errors add up in a graph, and the tolerances that follow.

Each operation adds the variance of its roundings to that of its worst operand. A float32 operation
contributes (2^-24)² per addition and multiplication that go into one element: the length of a dot
product, the number of elements that a reduction takes. An operation that stores its result in
fewer bits (float16, bfloat16, float8) contributes the roundoff of that type once more: kernels
accumulate such types in float32. Moving data is exact.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final

import ml_dtypes

from optc.ir.ops import Trait, attribute, info
from optc.ir.types import DType, TensorType
from optc.numerics.tolerance import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.ir.types import Shape

_FLOAT32: Final = 2.0**-24
_UNKNOWN_LENGTH: Final = 256  # of a dot product or reduction whose size the graph does not tell
_UNKNOWN_TRIPS: Final = 16
_FUNCTION_ROUNDINGS: Final = 4  # exp, tanh, erf, … are good to a few units in the last place
_BATCHNORM_ROUNDINGS: Final = 4

# Results of the size of 1 by construction, which kernels compute with an error of a few roundoffs
# of 1 however small the result is: onnxruntime's Sigmoid is off by up to 3, its Tanh by up to 6.
_UNIT_OPS: Final = ("Sigmoid", "HardSigmoid", "Tanh", "Softmax", "Erf", "Softsign")
_UNIT_ERROR: Final = 16 * _FLOAT32

QUANTIZE_ERROR: Final = 2.0**-7
"""Relative error when one of 64 elements is a step off, with 256 steps to 16 times the rms."""


def derive_tolerances(
    graph: Graph, *others: Graph, stored: DType = DType.F32
) -> dict[str, Tolerance]:
    """A tolerance for each output of a graph, by name.

    Args:
        graph: the source model's graph.
        others: what became of it; the loosest bound holds, so that operations that a pass moved to
            a smaller type count.
        stored: element type that the float32 weights of `others` are stored in: each operation
            with such a weight adds the variance of its rounding. Errors of the terms of a dot
            product are independent and add like the terms, so its length does not count.

    An input that has fewer bits in `others` is rounded before it is given.
    """
    bounds = _bounds(graph)
    for other in others:
        found = _bounds(other, _roundoff(stored), _narrowed(graph, other))
        for name, bound in found.items():
            bounds[name] = bounds[name].loosest(bound) if name in bounds else bound
    return bounds


def _narrowed(graph: Graph, other: Graph) -> dict[Node, float]:
    """Variances of the inputs of another form of a graph that have fewer bits there."""
    known = {value.name: _roundoff(_dtype(value.node)) for value in graph.inputs}
    rounded = {value.node: _roundoff(_dtype(value.node)) for value in other.inputs}
    return {
        node: error**2
        for node, error in rounded.items()
        if error > known.get(node.output.name, error)
    }


def rounding_chain(graph: Graph) -> float:
    """Roundings in float32 on the worst path to any result, for `Tolerance.for_fp32`."""
    return _total(graph, ()) / _FLOAT32**2


def own_tolerances(graph: Graph) -> dict[Node, Tolerance]:
    """What rounding in each operation alone may add to the error of its operands.

    An operation that quantizes rounds some elements to the neighbouring step.
    """
    found: dict[Node, Tolerance] = {}
    for node in graph.ordered():
        floor = _UNIT_ERROR if node.is_op(*_UNIT_OPS) else 0.0
        found[node] = Tolerance.from_variance(_own_variance(graph, node, ()), floor=floor)
        if info(node).has(Trait.QUANTIZE):
            found[node] = replace(found[node], relative=QUANTIZE_ERROR)
    return found


def _bounds(
    graph: Graph, stored: float = 0.0, inputs: Mapping[Node, float] | None = None
) -> dict[str, Tolerance]:
    variances = _variances(graph, (), stored if stored > _FLOAT32 else 0.0, inputs)
    found: dict[str, Tolerance] = {}
    for output in graph.outputs:
        value = graph.operand(output, 0)
        assert value is not None
        variance = variances.get(value.node, 0.0)
        floor = _UNIT_ERROR if _is_unit(graph, value) else 0.0
        found[output.name] = Tolerance.from_variance(variance, floor=floor)
    return found


def _is_unit(graph: Graph, value: Value) -> bool:
    """Whether a value is the result of an operation of the size of 1, perhaps moved around."""
    stack, seen = [value], {value}
    while stack:
        node = stack.pop().node
        if node.is_op(*_UNIT_OPS):
            return True
        if info(node).has(Trait.DATA_MOVEMENT):
            fresh = [v for v in graph.operands(node) if v is not None and v not in seen]
            stack.extend(fresh)
            seen.update(fresh)
    return False


def _variances(
    graph: Graph,
    calls: tuple[Graph, ...],
    stored: float = 0.0,
    inputs: Mapping[Node, float] | None = None,
) -> Mapping[Node, float]:
    """Variance of the relative error of the results of each operation."""
    found = dict(inputs or {})
    for node in graph.ordered():
        before = [value for value in graph.operands(node) if value is not None]
        before.extend(graph.captures(node).values())
        worst = max((found.get(value.node, 0.0) for value in before), default=0.0)
        found[node] = worst + _own_variance(graph, node, calls)
        if stored and any(_is_weight(value) for value in before):
            found[node] += stored**2
    return found


def _is_weight(value: Value) -> bool:
    return value.constant is not None and value.constant.dtype is DType.F32


def _own_variance(graph: Graph, node: Node, calls: tuple[Graph, ...]) -> float:
    function = graph.model.functions.get((node.domain, node.op_type, node.overload))
    if function is not None:
        return 0.0 if function.body in calls else _total(function.body, (*calls, function.body))
    traits = info(node)
    if traits.has(Trait.CONTROL_FLOW):
        trips = 1 if node.is_op("If") else _UNKNOWN_TRIPS
        return trips * max((_total(inner, calls) for _, inner in node.subgraphs()), default=0.0)
    stored = _roundoff(_dtype(node))
    single = min(_FLOAT32, stored) if stored else _FLOAT32
    variance = _roundings(graph, node) * single**2
    narrowed = stored > _FLOAT32 and not traits.has(Trait.DATA_MOVEMENT)
    return variance + stored**2 if narrowed else variance


def _total(graph: Graph, calls: tuple[Graph, ...]) -> float:
    return max(_variances(graph, calls).values(), default=0.0)


def _dtype(node: Node) -> DType:
    for value in node.outputs:
        if value is not None and isinstance(value.type, TensorType):
            return value.type.dtype
    return DType.UNDEFINED


@cache
def _roundoff(dtype: DType) -> float:
    """Half the distance from 1 to the next number; 0 when it is no real float type."""
    return float(ml_dtypes.finfo(dtype.numpy).eps) / 2 if dtype.is_float else 0.0


def _roundings(graph: Graph, node: Node) -> int:
    """Additions and multiplications that go into one element."""
    traits = info(node)
    if traits.has(Trait.MAC):
        return _dot_length(graph, node)
    if any(map(traits.has, (Trait.REDUCTION, Trait.POOLING, Trait.NORMALIZATION))):
        return _reduced(graph, node)
    if traits.has(Trait.DATA_MOVEMENT) or traits.has(Trait.SHAPE_ONLY):
        return 0
    if node.is_op("BatchNormalization"):
        return _BATCHNORM_ROUNDINGS
    return 1 if traits.has(Trait.COMMUTATIVE) else _FUNCTION_ROUNDINGS


def _dot_length(graph: Graph, node: Node) -> int:
    """Terms of the sums that make one output element."""
    data, weight = _shape(graph.operand(node, 0)), _shape(graph.operand(node, 1))
    if "Conv" in node.op_type and weight and len(weight) > 2:
        # The weight is [outputs, inputs per group, kernel…]; a transposed one [inputs, outputs, …].
        over = (weight[0], *weight[2:]) if "Transpose" in node.op_type else weight[1:]
        return _product(over)
    if node.op_type in ("LSTM", "GRU", "RNN") and weight and data:
        terms = _product(weight[2:]) + _product((_shape(graph.operand(node, 2)) or weight)[2:])
        return terms * _size(data[0])
    if node.op_type == "Gemm" and weight and len(weight) == 2:
        return _size(weight[1 if attribute(graph, node, "transB") else 0])
    if weight and len(weight) >= 2:
        return _size(weight[-2])
    return _size(data[-1]) if data else _UNKNOWN_LENGTH


def _reduced(graph: Graph, node: Node) -> int:
    """Elements that go into one output element."""
    shape = _shape(graph.operand(node, 0))
    if shape is None:
        return _UNKNOWN_LENGTH
    result = _shape(node.outputs[0]) if node.outputs else None
    whole = _product(shape[1:])
    if info(node).has(Trait.NORMALIZATION) or result is None:
        return _size(shape[-1]) if shape else 1
    if node.op_type in ("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin"):
        return 0
    return max(whole // max(_product(result[1:]), 1), 1)


def _shape(value: Value | None) -> Shape | None:
    return value.type.shape if value is not None and isinstance(value.type, TensorType) else None


def _size(dim: int | str | None) -> int:
    return dim if isinstance(dim, int) else _UNKNOWN_LENGTH


def _product(shape: Shape) -> int:
    return math.prod(_size(dim) for dim in shape)
