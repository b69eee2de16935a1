"""Affine maps against the flow, up to operations that take them: planned first, made afterwards.

    s f(x) + t  =  f'(s' x + t')        until a linear operation folds s' and t'

`optc.passes.crossings` says what f may be. Beside that a map goes through

    Concat              in parts, each of which must be taken
    Split               as the identity for the other parts
    a + b, a - b        s (a + b) + t = (s a + t) + s b, both must be taken
    a * b, a / b        a scale, into one of the two

and ends in what `optc.passes.weights` folds, in a constant, in a BatchNormalization, or in another
constant affine operation. A plan is made without changing the graph, and is a text that says where
the map got stuck when it cannot be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from optc.ir import Kind, ops
from optc.passes.affine import affine_of
from optc.passes.channel_maps import ChannelMap, for_constant, mapped, reaching
from optc.passes.crossings import axis_of, crossing_of, split_sizes, typed
from optc.passes.linear import linear_ending_at, linear_of, other_use, shape_of, use_text
from optc.passes.weights import FLOATS, check_after, fold_after, range_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir import Graph, Node, Value
    from optc.passes.affine import Affine
    from optc.passes.channel_maps import Array
    from optc.rewrite.driver import Builder

_LONGEST: Final = 32
_COPIED_BYTES: Final = 1 << 16

Make: TypeAlias = "Callable[[Builder], Value]"


@dataclass(frozen=True)
class Move:
    """A plan for a map that goes up.

    Attributes:
        make: builds the value with the map in it.
        nodes: the operations that are built again.
    """

    make: Make
    nodes: tuple[Node, ...]


class Upward:
    """Plans how a value is computed with a map in it.

    A subclass may take maps in more operations (`take`).

    Attributes:
        graph: the graph.
        side: values that other results of a rebuilt operation take the place of; filled by `make`.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.side: list[tuple[Value, Value]] = []

    def plan(self, value: Value, found: ChannelMap, user: Node, depth: int = 0) -> Move | str:
        """How `value`, which only `user` uses, is computed with the map in it.

        Args:
            value: the value.
            found: the map.
            user: what uses the value.
            depth: operations that were crossed before.
        """
        if value.constant is not None:
            return self._constant(value, found, user)
        node = value.node
        if node.kind is not Kind.OP:
            return f"{value.name} is a graph input or captured"
        if not self.is_alone(value):
            other = other_use(self.graph, value, (user,))
            twice = f"{value.name} feeds {user.label} twice"
            return f"{value.name} {use_text(other, 'also feeds')}" if other else twice
        if depth > _LONGEST:
            return f"the way is longer than {_LONGEST} operations"
        taken = self.take(value, found, user, depth)
        if taken is not None:
            return taken
        if node.op_type in ("Add", "Sub", "Mul", "Div") and not node.operator[0]:
            return self._binary(node, found, depth)
        if node.is_op("Concat"):
            return self._concat(node, found, depth)
        if node.is_op("Split"):
            return self._split(value, found, depth)
        return self._cross(node, found, depth)

    def is_alone(self, value: Value) -> bool:
        """Whether nothing but what takes the map uses a value."""
        return self.graph.only_use(value) is not None

    def take(self, value: Value, found: ChannelMap, user: Node, depth: int) -> Move | str | None:
        """The operation takes the map, or says why not; None when it is not one that does."""
        node = value.node
        ends = linear_ending_at(self.graph, node)
        if ends is not None:
            return self._linear(ends, found, user)
        if node.is_op("BatchNormalization"):
            return self._batchnorm(node, found)
        affine = affine_of(self.graph, node)
        return None if affine is None else self._affine(affine, found, depth)

    # ---- where a map ends ----------------------------------------------------------------------

    def _linear(self, ends: tuple[Node, Node | None], found: ChannelMap, user: Node) -> Move | str:
        base, adder = ends
        if base.op_type == "MatMul" and found.shift is not None and adder is None:
            return f"MatMul {base.label} has no bias that could take a shift"
        linear = linear_of(self.graph, base, adder)
        if isinstance(linear, str):
            return f"{base.label}: {linear}"
        axis = None if linear.rank is None else linear.rank + linear.axis
        affine = found.for_channels(axis, linear.outputs)
        reason = (
            affine if isinstance(affine, str) else check_after(self.graph, linear, affine, user)
        )
        if isinstance(affine, str) or reason:
            return f"{base.label}: {reason}"

        def make(build: Builder) -> Value:
            return typed(self.graph, fold_after(build, linear, affine), linear.last.output)

        return Move(make, (base, linear.last))

    def _constant(self, value: Value, found: ChannelMap, user: Node) -> Move | str:
        tensor = value.constant
        assert tensor is not None
        if tensor.dtype not in FLOATS:
            return f"{tensor.dtype.value} arithmetic is not folded"
        if reason := copy_error(self.graph, value, user):
            return reason
        if found.axis is not None and tensor.shape[found.axis : found.axis + 1] != (found.size,):
            return f"the constant {value.name} is not of {found.size} elements on axis {found.axis}"
        array = mapped(tensor.numpy().astype(np.float64), found)
        reason = range_error(array, tensor.dtype, "the constant")
        return reason or Move(lambda build: build.like(array, value), ())

    def _batchnorm(self, node: Node, found: ChannelMap) -> Move | str:
        if ops.attribute(self.graph, node, "training_mode") or len(node.outputs) > 1:
            return f"{node.label} is in training form"
        gamma, beta = self.graph.operand(node, 1), self.graph.operand(node, 2)
        assert gamma is not None
        assert beta is not None
        if gamma.constant is None or beta.constant is None:
            return f"a parameter of {node.label} is not constant"
        if found.axis not in (None, 1):
            return f"the map is over axis {found.axis}, the channels of {node.label} are axis 1"
        here = found.on_axis(0)
        return parameters(self.graph, node, {1: here.only_scale, 2: here})

    def _affine(self, affine: Affine, found: ChannelMap, depth: int) -> Move | str:
        """Into the constant of another affine operation, as far as that takes it."""
        node, graph = affine.node, self.graph
        shape = shape_of(graph, node.output)
        if affine.flipped or shape is None:
            return f"{node.op_type} {node.label} is not crossed"
        inner = affine.tensor.numpy().astype(np.float64)
        if found.axis is not None and not self._keeps_axis(node, affine.data, found.axis):
            return f"{affine.data.name} is enlarged by {node.op_type} {node.label}"
        if inner.size * (1 if found.scale is None else found.scale.size) > _COPIED_BYTES:
            return f"the constant of {node.label} would become large"
        if affine.scales and found.shift is not None:
            return f"a shift does not cross {node.op_type} {node.label}"
        here = for_constant(node.op_type, found)
        array = mapped(reaching(inner, found, len(shape)), here, len(shape))
        rest = None if affine.scales or found.scale is None else found.only_scale
        if reason := range_error(array, affine.tensor.dtype, "the constant"):
            return f"{node.label}: {reason}"
        inside = None if rest is None else self.plan(affine.data, rest, node, depth + 1)
        if isinstance(inside, str):
            return inside

        def make(build: Builder) -> Value:
            data = affine.data if inside is None else inside.make(build)
            operands = [data, build.like(array, affine.constant)]
            if graph.operand(node, 0) is affine.constant:
                operands.reverse()
            return typed(graph, build.node(node.op_type, operands, like=node).output, node.output)

        return Move(make, (node, *(inside.nodes if inside is not None else ())))

    # ---- what a map goes through ---------------------------------------------------------------

    def _cross(self, node: Node, found: ChannelMap, depth: int) -> Move | str:
        crossing = crossing_of(self.graph, node)
        if isinstance(crossing, str):
            return crossing
        above = crossing.up(found)
        if isinstance(above, str):
            return above
        data = self.graph.operand(node, 0)
        assert data is not None
        inner = self.plan(data, above, node, depth + 1)
        if isinstance(inner, str):
            return inner

        def make(build: Builder) -> Value:
            new = crossing.rebuild(self.graph, build, inner.make(build), found)
            return typed(self.graph, new.output, node.output)

        return Move(make, (node, *inner.nodes))

    def _binary(self, node: Node, found: ChannelMap, depth: int) -> Move | str:
        if node.op_type in ("Add", "Sub"):
            shift = found.only_scale if found.scale is not None else None
            parts = (found, shift)
            return self._sum(node, parts, depth)
        if found.shift is not None:
            return f"a shift does not cross {node.op_type} {node.label}"
        first = self.factor(node, 0, found, depth)
        if node.op_type == "Div" or not isinstance(first, str):
            return first
        second = self.factor(node, 1, found, depth)
        return second if not isinstance(second, str) else f"{first}; {second}"

    def _sum(
        self, node: Node, parts: tuple[ChannelMap, ChannelMap | None], depth: int
    ) -> Move | str:
        """Both summands take the scale, one of them the shift."""
        first, second = parts
        if second is None:
            move = self.factor(node, 0, first, depth)
            if isinstance(move, str) and node.op_type == "Add":
                other = self.factor(node, 1, first, depth)
                return f"{move}; {other}" if isinstance(other, str) else other
            return move
        orders = (
            ((first, second), (second, first)) if first.shift is not None else ((first, second),)
        )
        if node.op_type == "Sub":
            orders = orders[:1]
        stuck = ""
        for maps in orders:
            moves = [self._operand(node, i, part, depth) for i, part in enumerate(maps)]
            texts = [move for move in moves if isinstance(move, str)]
            if not texts:
                plans = [move for move in moves if isinstance(move, Move)]
                return self._again(node, plans)
            stuck = stuck or texts[0]
        return stuck

    def factor(self, node: Node, index: int, found: ChannelMap, depth: int) -> Move | str:
        """One operand of a node takes the map, the others stay."""
        move = self._operand(node, index, found, depth)
        if isinstance(move, str):
            return move
        plans: list[Move] = []
        for i, operand in enumerate(self.graph.operands(node)):
            assert operand is not None
            plans.append(move if i == index else Move(_kept(operand), ()))
        return self._again(node, plans)

    def _operand(self, node: Node, index: int, found: ChannelMap, depth: int) -> Move | str:
        value = self.graph.operand(node, index)
        assert value is not None
        if found.axis is not None and not self._keeps_axis(node, value, found.axis):
            return f"{value.name} is enlarged by {node.op_type} {node.label}"
        return self.plan(value, found, node, depth + 1)

    def _keeps_axis(self, node: Node, value: Value, axis: int) -> bool:
        """Whether an operand has the axis of the result, at the same place and in full."""
        shape, result = shape_of(self.graph, value), shape_of(self.graph, node.output)
        return (
            shape is not None
            and result is not None
            and len(shape) == len(result)
            and isinstance(shape[axis], int)
            and shape[axis] == result[axis]
        )

    def _again(self, node: Node, plans: Sequence[Move]) -> Move:
        """A node on operands that are built again."""

        def make(build: Builder) -> Value:
            operands = [move.make(build) for move in plans]
            return typed(
                self.graph, build.node(node.op_type, operands, like=node).output, node.output
            )

        return Move(make, (node, *(inner for move in plans for inner in move.nodes)))

    def _concat(self, node: Node, found: ChannelMap, depth: int) -> Move | str:
        axis = axis_of(self.graph, node, node.output)
        if axis is None:
            return f"the rank of {node.output.name} is not known"
        plans: list[Move] = []
        start = 0
        for operand in self.graph.operands(node):
            assert operand is not None
            part = found
            if found.axis == axis:
                shape = shape_of(self.graph, operand)
                size = None if shape is None else shape[axis]
                if not isinstance(size, int):
                    return f"size of {operand.name} in Concat {node.label} is not known"
                part = found.part(start, size)
                start += size
            move = self.plan(operand, part, node, depth + 1)
            if isinstance(move, str):
                return f"{move} (an operand of Concat {node.label})"
            plans.append(move)
        return self._again(node, plans)

    def _split(self, value: Value, found: ChannelMap, depth: int) -> Move | str:
        node, graph = value.node, self.graph
        data = graph.operand(node, 0)
        assert data is not None
        axis = axis_of(graph, node, data)
        sizes = split_sizes(graph, node)
        if axis is None or sizes is None or found.axis not in (None, axis):
            return f"Split {node.label} is along another axis, or its sizes are not known"
        start = sum(sizes[: value.index])
        whole = found.placed(axis, start, sizes[value.index], sum(sizes))
        move = self.plan(data, whole, node, depth + 1)
        if isinstance(move, str):
            return move

        def make(build: Builder) -> Value:
            rest = graph.operands(node)[1:]
            new = build.node(
                "Split", (move.make(build), *rest), like=node, outputs=len(node.outputs)
            )
            for old, made in zip(node.outputs, new.outputs, strict=True):
                if old is not None and made is not None:
                    typed(graph, made, old)
                    if old is not value:
                        self.side.append((old, made))
            made = new.outputs[value.index]
            assert made is not None
            return made

        return Move(make, (node, *move.nodes))


# ---- shared ------------------------------------------------------------------------------------


def copy_error(graph: Graph, value: Value, user: Node) -> str | None:
    """Why a constant that `user` uses cannot be replaced there, or None."""
    tensor = value.constant
    assert tensor is not None
    other = next((use for use in graph.uses(value) if use.node is not user), None)
    if other is None or tensor.nbytes <= _COPIED_BYTES:
        return None
    return f"{value.name} of {tensor.nbytes} bytes {use_text(other, 'is shared by')}"


def _kept(value: Value) -> Make:
    return lambda build: value


def parameters(
    graph: Graph, node: Node, maps: Mapping[int, ChannelMap], bias: Array | None = None
) -> Move | str:
    """The node with maps applied to some of its constant operands, by operand index.

    A `bias` becomes one more operand, of the element type of operand 1.
    """
    arrays: dict[int, Array] = {}
    for index, found in maps.items():
        value = graph.operand(node, index)
        assert value is not None
        assert value.constant is not None
        if found.scale is None and found.shift is None:
            continue
        arrays[index] = mapped(value.constant.numpy().astype(np.float64), found)
        if reason := range_error(arrays[index], value.constant.dtype, value.name):
            return f"{node.label}: {reason}"
    operands = graph.operands(node)

    def make(build: Builder) -> Value:
        new = [
            build.like(arrays[i], value) if i in arrays and value is not None else value
            for i, value in enumerate(operands)
        ]
        if bias is not None and (scale := operands[1]) is not None and scale.constant:
            dtype = scale.constant.dtype
            new.append(build.constant(bias, dtype=dtype, name=f"{node.key}_bias"))
        made = build.node(node.op_type, new, like=node, outputs=len(node.outputs)).output
        return typed(graph, made, node.output)

    return Move(make, (node,))
