"""Affine maps with the flow, down to operations that take them: planned first, made afterwards.

    f(s x + t)  =  s' f'(x) + t'        until all that is reached folds s' and t'

`optc.passes.crossings` says what f may be. Beside that a map goes through

    fan-out             everything that uses a value must take the map
    Concat              as the identity for the other operands
    Split               in parts
    a + b, a - b        a shift of one is a shift of the sum
    a * b, a / b        a scale of a is a scale of the product

and ends in what `optc.passes.weights` folds, in a BatchNormalization, or in another constant affine
operation. A plan is made without changing the graph, and is a text that says where the map got
stuck when it cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from optc.ir import Kind
from optc.passes.affine import affine_of
from optc.passes.channel_maps import ChannelMap, map_of_batchnorm, mapped, spread
from optc.passes.crossings import axis_of, crossing_of, inverse, split_sizes, typed
from optc.passes.linear import LINEAR, bias_adder, linear_of, shape_of, use_text
from optc.passes.weights import blocked_before, fold_before, overflow_before, range_error

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from optc.ir import Graph, Node, Use, Value
    from optc.passes.affine import Affine
    from optc.rewrite.driver import Builder

_LONGEST: Final = 32

Ends: TypeAlias = "list[tuple[Node, Value]]"
"""Nodes whose results are the old ones again, and the values that take their places."""

Make: TypeAlias = "Callable[[Builder, Value], Ends]"


@dataclass(frozen=True)
class Push:
    """A plan for a map that goes down.

    Attributes:
        make: builds everything that uses a value on the value without the map.
        nodes: the operations that are built again.
    """

    make: Make
    nodes: tuple[Node, ...]


class Downward:
    """Plans how all that uses a value takes a map of it. One object serves one plan."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._seen: set[Node] = set()
        self._folds: list[tuple[Node, Callable[[], str | None]]] = []

    def plan(self, value: Value, found: ChannelMap, depth: int = 0) -> Push | str:
        """How everything that uses `value` is computed from the value without the map."""
        pushes: list[Push] = []
        if depth > _LONGEST:
            return f"the way is longer than {_LONGEST} operations"
        uses = sorted(self.graph.uses(value), key=lambda use: (use.node.key, str(use.key)))
        if not uses:
            return f"nothing uses {value.name}"
        for use in uses:
            push = self._use(value, use, found, depth)
            if isinstance(push, str):
                return push
            pushes.append(push)
        if depth == 0:  # weights are read when nothing else is in the way
            for node, overflow in self._folds:
                if reason := overflow():
                    return f"{node.label}: {reason}"
        return _all(pushes)

    def _use(self, value: Value, use: Use, found: ChannelMap, depth: int) -> Push | str:
        node = use.node
        if node.kind is Kind.OUTPUT or isinstance(use.key, str):
            return f"{value.name} {use_text(use, 'also feeds')}"
        if node in self._seen:
            return f"{node.op_type} {node.label} is reached twice"
        self._seen.add(node)
        if node.is_op(*LINEAR):
            return self._linear(value, node, found)
        if use.key == 0 and node.is_op("BatchNormalization"):
            return self._batchnorm(node, found)
        affine = affine_of(self.graph, node)
        if affine is not None:
            return self._affine(affine, found, depth)
        if node.is_op("Add", "Sub", "Mul", "Div"):
            return self._binary(value, node, use.key, found, depth)
        if node.is_op("Concat"):
            return self._concat(value, node, use.key, found, depth)
        if use.key != 0:
            return f"{value.name} is operand {use.key} of {node.op_type} {node.label}"
        if node.is_op("Split"):
            return self._split(node, found, depth)
        return self._cross(node, found, depth)

    # ---- where a map ends ----------------------------------------------------------------------

    def _linear(self, value: Value, node: Node, found: ChannelMap) -> Push | str:
        adder = None
        if node.op_type == "MatMul" and found.shift is not None:
            adder = bias_adder(self.graph, node)
            if adder is None:
                return f"MatMul {node.label} has no bias that could take a shift"
        linear = linear_of(self.graph, node, adder)
        if isinstance(linear, str):
            return f"{node.label}: {linear}"
        if linear.data is not value:
            return f"{value.name} is not the data of {node.op_type} {node.label}"
        rank = linear.data_rank
        affine = found.for_channels(
            None if rank is None else rank + linear.data_axis, linear.inputs
        )
        reason = (
            affine
            if isinstance(affine, str)
            else blocked_before(self.graph, linear, affine, node, with_others=True)
        )
        if isinstance(affine, str) or reason:
            return f"{node.label}: {reason}"
        self._folds.append((node, partial(overflow_before, linear, affine)))
        return Push(
            lambda build, data: [(linear.last, fold_before(build, linear, affine, data))],
            (node, linear.last),
        )

    def _batchnorm(self, node: Node, found: ChannelMap) -> Push | str:
        own = map_of_batchnorm(self.graph, node)
        if isinstance(own, str):
            return own
        if found.axis not in (None, 1):
            return f"the map is over axis {found.axis}, the channels of {node.label} are axis 1"
        arrays = _normalized(self.graph, node, own, found)
        operands = self.graph.operands(node)
        for index, array in arrays.items():
            value = operands[index]
            assert value is not None
            assert value.constant is not None
            if reason := range_error(array, value.constant.dtype, value.name):
                return f"{node.label}: {reason}"

        def make(build: Builder, data: Value) -> Ends:
            rest = [
                build.like(arrays[i], value) if i in arrays and value is not None else value
                for i, value in enumerate(operands)
            ]
            new = build.node(
                node.op_type, (data, *rest[1:]), like=node, outputs=len(node.outputs)
            ).output
            return [(node, typed(self.graph, new, node.output))]

        return Push(make, (node,))

    def _affine(self, affine: Affine, found: ChannelMap, depth: int) -> Push | str:
        """Into the constant of another affine operation, as far as that takes it."""
        node, graph = affine.node, self.graph
        shape = shape_of(graph, affine.data)
        if (
            node.op_type not in ("Add", "Mul")
            or shape is None
            or shape != shape_of(graph, node.output)
        ):
            return f"{node.op_type} {node.label} is not crossed"
        if affine.scales and found.shift is not None:
            return f"a shift does not cross Mul {node.label}"
        constant = affine.tensor.numpy().astype(np.float64)
        reach = 0 if found.axis is None else len(shape) - found.axis
        constant = constant.reshape((1,) * max(0, reach - constant.ndim) + constant.shape)
        rest = None
        if affine.scales:
            array = mapped(constant, found, len(shape))
        else:  # s x + t + c = s (x + (t + c) / s)
            shift = ChannelMap(None, found.shift, found.axis)
            array = mapped(constant, shift, len(shape))
            if found.scale is not None:
                rest = found.only_scale
                with np.errstate(all="ignore"):
                    array = array / spread(found.scale, found.axis, len(shape))
        if reason := range_error(array, affine.tensor.dtype, "the constant"):
            return f"{node.label}: {reason}"
        below = None if rest is None else self.plan(node.output, rest, depth + 1)
        if isinstance(below, str):
            return below

        def make(build: Builder, data: Value) -> Ends:
            operands = [data, build.like(array, affine.constant)]
            if graph.operand(node, 0) is affine.constant:
                operands.reverse()
            new = build.node(node.op_type, operands, like=node).output
            typed(graph, new, node.output)
            return [(node, new)] if below is None else below.make(build, new)

        return Push(make, (node, *(below.nodes if below is not None else ())))

    # ---- what a map goes through ---------------------------------------------------------------

    def _cross(self, node: Node, found: ChannelMap, depth: int) -> Push | str:
        crossing = crossing_of(self.graph, node)
        if isinstance(crossing, str):
            return crossing
        below = crossing.down(found)
        if isinstance(below, str):
            return below
        push = self.plan(node.output, below, depth + 1)
        if isinstance(push, str):
            return push

        def make(build: Builder, data: Value) -> Ends:
            new = crossing.rebuild(self.graph, build, data, inverse(found)).output
            return push.make(build, typed(self.graph, new, node.output))

        return Push(make, (node, *push.nodes))

    def _binary(
        self, value: Value, node: Node, index: int, found: ChannelMap, depth: int
    ) -> Push | str:
        sums = node.op_type in ("Add", "Sub")
        if sums and found.scale is not None:
            return f"a scale of one summand does not cross {node.op_type} {node.label}"
        if not sums and found.shift is not None:
            return f"a shift does not cross {node.op_type} {node.label}"
        if node.op_type == "Div" and index == 1:
            return f"{value.name} divides in {node.label}"
        below = found
        if node.op_type == "Sub" and index == 1:
            assert found.shift is not None
            below = ChannelMap(None, -found.shift, found.axis)
        if found.axis is not None:
            shape, result = shape_of(self.graph, value), shape_of(self.graph, node.output)
            if shape is None or result is None:
                return f"the shapes of {node.op_type} {node.label} are not known"
            below = below.on_axis(found.axis + len(result) - len(shape))
        push = self.plan(node.output, below, depth + 1)
        if isinstance(push, str):
            return push
        return Push(self._again(node, index, push), (node, *push.nodes))

    def _again(self, node: Node, index: int, push: Push) -> Make:
        """The node with another operand, and what comes after it."""

        def make(build: Builder, data: Value) -> Ends:
            operands = list(self.graph.operands(node))
            operands[index] = data
            new = build.node(node.op_type, operands, like=node).output
            return push.make(build, typed(self.graph, new, node.output))

        return make

    def _concat(
        self, value: Value, node: Node, index: int, found: ChannelMap, depth: int
    ) -> Push | str:
        axis = axis_of(self.graph, node, node.output)
        sizes = [shape_of(self.graph, operand) for operand in self.graph.operands(node) if operand]
        parts = [shape[axis] for shape in sizes if shape is not None and axis is not None]
        numbers = [size for size in parts if isinstance(size, int)]
        if axis is None or len(numbers) != len(sizes) or found.axis not in (None, axis):
            return f"Concat {node.label} is along another axis, or its sizes are not known"
        whole = found.placed(axis, sum(numbers[:index]), numbers[index], sum(numbers))
        push = self.plan(node.output, whole, depth + 1)
        if isinstance(push, str):
            return push
        return Push(self._again(node, index, push), (node, *push.nodes))

    def _split(self, node: Node, found: ChannelMap, depth: int) -> Push | str:
        graph = self.graph
        data = graph.operand(node, 0)
        assert data is not None
        axis, sizes = axis_of(graph, node, data), split_sizes(graph, node)
        if found.axis is not None and (sizes is None or axis is None):
            return f"the sizes of Split {node.label} are not known"
        pushes: list[Push] = []
        for value in node.outputs:
            if value is None or not graph.is_used(value):
                return f"a result of Split {node.label} is not used"
            part = found
            if found.axis is not None and found.axis == axis and sizes is not None:
                part = found.part(sum(sizes[: value.index]), sizes[value.index])
            push = self.plan(value, part, depth + 1)
            if isinstance(push, str):
                return push
            pushes.append(push)
        rest = graph.operands(node)[1:]

        def make(build: Builder, data: Value) -> Ends:
            new = build.node("Split", (data, *rest), like=node, outputs=len(node.outputs))
            ends: Ends = []
            for old, made, push in zip(node.outputs, new.outputs, pushes, strict=True):
                assert old is not None
                assert made is not None
                ends += push.make(build, typed(graph, made, old))
            return ends

        return Push(make, (node, *(inner for push in pushes for inner in push.nodes)))


def _all(pushes: list[Push]) -> Push:
    def make(build: Builder, data: Value) -> Ends:
        return [end for push in pushes for end in push.make(build, data)]

    return Push(make, tuple(node for push in pushes for node in push.nodes))


def _normalized(
    graph: Graph, node: Node, own: ChannelMap, found: ChannelMap
) -> dict[int, npt.NDArray[np.float64]]:
    """Parameters of a BatchNormalization, by operand index, with a map of its data in them.

    The mean is in units of the data: s x + t - m = s (x - (m - t) / s).
    """
    gamma, beta, mean = (
        value.constant.numpy().astype(np.float64)
        for value in graph.operands(node)[1:4]
        if value is not None and value.constant is not None
    )
    with np.errstate(all="ignore"):
        if found.scale is None:
            slope = np.broadcast_to(np.ones(1) if own.scale is None else own.scale, gamma.shape)
            return {2: beta + slope * (0.0 if found.shift is None else found.shift)}
        shift = 0.0 if found.shift is None else found.shift
        return {1: gamma * found.scale, 3: (mean - shift) / found.scale}
