"""Recognise rotary embeddings as the operator RotaryEmbedding.

    x · [cos, cos] + [-x₂, x₁] · [sin, sin]                    x₁, x₂ the halves of x
    [x₁ cos - x₂ sin, x₂ cos + x₁ sin]                         the same, written by halves
    x · cos + [-x₁, x₀, -x₃, x₂, …] · sin                      interleaved: angles of neighbours
    [RotaryEmbedding(x[:r]), x[r:]]                            of a part of each head

Tables become (batch, sequence, size / 2); `optc.passes.rotary_tables` finds the single angles in
them. Heads may be before the sequence, or after it where they were split by a Reshape.
Source: ONNX operator RotaryEmbedding-23.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from optc.ir import TensorType, dims, ops
from optc.ir.shape_site import constant_tensor, shape_of
from optc.passes.attention_views import equal_shapes
from optc.passes.base import Pass, PassResult
from optc.passes.rotary_tables import half, layout, placed, repeats
from optc.rewrite.driver import Builder, remove_unused, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "rotary-embedding"
_RANK: Final = 4


class RaiseRotary(Pass):
    """Write rotary embeddings as the operator RotaryEmbedding.

    Refuses: tables that do not hold each angle twice, or are not one per position; x of another
    rank than four or of odd size; tables of another element type; heads after the sequence that
    no Reshape has split.
    """

    name: ClassVar[str] = "raise-rotary"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Raise in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            _Raiser(nested, trace).run()
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


@dataclass(frozen=True)
class _Rotation:
    """A rotary embedding as written.

    Attributes:
        last: the operation that ends it.
        x: what is rotated.
        tables: cosines and sines.
        doubled: whether the tables hold each angle twice.
        neighbours: whether an angle is for neighbours, not for the two halves.
    """

    last: Node
    x: Value
    tables: tuple[Value, Value]
    doubled: bool = True
    neighbours: bool = False


class _Raiser:
    """Raises in one graph, from its inputs on, so that tables can be shared with what follows."""

    def __init__(self, graph: Graph, trace: Trace) -> None:
        self.graph = graph
        self.trace = trace
        self.tables: dict[tuple[Value, bool, object], Value] = {}

    def run(self) -> None:
        for node in self.graph.ordered():
            if node not in self.graph:
                continue
            found = _summed(self.graph, node) or _joined(self.graph, node)
            if found is not None:
                self._raise(found)
        for node in self.graph.ordered():
            if node.is_op("RotaryEmbedding"):
                self._absorb_rest(node)

    def _raise(self, found: _Rotation) -> None:
        heads_first = self._layout(found)
        if isinstance(heads_first, str):
            self.trace.refused(_RULE, found.last, heads_first)
            return
        build = Builder(self.graph, self.trace.pass_name, (found.last,))
        source, heads = _heads_after(self.graph, found.x) or (found.x, 0)
        if heads_first:
            source, heads = found.x, 0
        tables = [self._table(build, found, table, heads_first) for table in found.tables]
        attributes = {"interleaved": int(found.neighbours) or None, "num_heads": heads or None}
        made = build.node("RotaryEmbedding", [source, *tables], attributes=attributes).output
        self.graph.set_type(made, source.type)
        if not heads_first:
            made = build.Reshape(made, self.graph.operand(found.x.node, 1), like=found.x.node)
        self.trace.applied(_RULE, found.last)
        replace_node(self.graph, found.last, [made], build.made)
        remove_unused(self.graph, build.made)

    def _layout(self, found: _Rotation) -> bool | str:
        """Whether the heads of x come before the sequence; a reason against raising it."""
        shape = shape_of(self.graph, found.x)
        if shape is None or len(shape) != _RANK:
            return f"rank of {found.x.name} is not four"
        if not isinstance(shape[3], int) or shape[3] % 2:
            return f"size of {found.x.name} is not an even number"
        layouts = []
        for table in found.tables:
            own = shape_of(self.graph, table)
            wide = shape[3] if found.doubled else shape[3] // 2
            if own is None or own[-1:] != (wide,):
                return f"{table.name} is not as wide as {found.x.name}"
            if found.doubled and not repeats(self.graph, table, neighbours=found.neighbours):
                return f"{table.name} does not hold each angle twice"
            if _dtype(table) != _dtype(found.x):
                return f"{table.name} is of another element type than {found.x.name}"
            layouts.append(layout(own, shape))
        if layouts[0] is None or layouts[0] is not layouts[1]:
            return f"{found.tables[0].name} is not one row per position of {found.x.name}"
        if not layouts[0] and _heads_after(self.graph, found.x) is None:
            return f"heads of {found.x.name} come after the sequence, and no Reshape split them"
        return layouts[0]

    def _table(self, build: Builder, found: _Rotation, table: Value, heads_first: bool) -> Value:
        shape = shape_of(self.graph, found.x)
        assert shape is not None
        key = (table, heads_first, dims.canonical(shape[0]))
        if key not in self.tables or self.tables[key].node not in self.graph:
            single = half(build, table, neighbours=found.neighbours) if found.doubled else table
            self.tables[key] = placed(build, single, found.x, heads_first=heads_first)
        return self.tables[key]

    def _absorb_rest(self, node: Node) -> None:
        """Let RotaryEmbedding take all of each head where it rotates a part."""
        x = self.graph.operand(node, 0)
        assert x is not None
        part, use = _part(self.graph, x), self.graph.only_use(node.output)
        if part is None or use is None or part.start != 0 or node.get("num_heads"):
            return
        join = use.node
        if not join.is_op("Concat") or not _last_axis(self.graph, join) or use.key != 0:
            return
        parts = self.graph.operands(join)
        rest = None if len(parts) != 2 or parts[1] is None else _part(self.graph, parts[1])
        if rest is None or rest.base is not part.base or (rest.start, rest.step) != (part.end, 1):
            return
        size = (shape_of(self.graph, part.base) or (None,))[-1]
        if part.step != 1 or rest.end != size:
            return
        build = Builder(self.graph, self.trace.pass_name, (join, node))
        operands = [part.base, *self.graph.operands(node)[1:]]
        made = build.node(
            node.op_type, operands, like=node, attributes={"rotary_embedding_dim": part.end}
        )
        self.trace.applied("rotary-part", join)
        replace_node(self.graph, join, [made.output], build.made)


# ---- the forms ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """Elements start, start + step, … before `end` of the last axis of a value."""

    base: Value
    start: int
    end: int
    step: int = 1


def _summed(graph: Graph, node: Node) -> _Rotation | None:
    """Find x · cos + across · sin."""
    if not node.is_op("Add"):
        return None
    for direct, turned in _orders(graph, node, "Mul"):
        for across, sin in _orders_of(graph, turned):
            found = _across(graph, across)
            if found is None:
                continue
            x, neighbours = found
            for own, cos in _orders_of(graph, direct):
                if own is x:
                    return _Rotation(node, x, (cos, sin), neighbours=neighbours)
    return None


def _joined(graph: Graph, node: Node) -> _Rotation | None:
    """[x₁ cos - x₂ sin, x₂ cos + x₁ sin]."""
    if not node.is_op("Concat") or not _last_axis(graph, node):
        return None
    parts = graph.operands(node)
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        return None
    if not parts[0].node.is_op("Sub") or not parts[1].node.is_op("Add"):
        return None
    left, right = (graph.operand(parts[0].node, index) for index in (0, 1))
    if left is None or right is None or not left.node.is_op("Mul") or not right.node.is_op("Mul"):
        return None
    for first, cos in _orders_of(graph, left.node):
        for second, sin in _orders_of(graph, right.node):
            x = _halves(graph, first, second)
            if x is not None and _is_other_half(graph, parts[1].node, (first, second), (cos, sin)):
                return _Rotation(node, x, (cos, sin), doubled=False)
    return None


def _is_other_half(
    graph: Graph, node: Node, x: tuple[Value, Value], tables: tuple[Value, Value]
) -> bool:
    """Whether a sum is x₂ cos + x₁ sin."""
    wanted = [{x[1], tables[0]}, {x[0], tables[1]}]
    return any(
        [set(graph.operands(product)) for product in order] == wanted
        for order in _orders(graph, node, "Mul")
    )


def _across(graph: Graph, value: Value) -> tuple[Value, bool] | None:
    """Find x in [-x₂, x₁], or in the same of neighbours; says also whether it is of these."""
    node = value.node
    neighbours = node.is_op("Reshape")
    if neighbours:
        joined = graph.operand(node, 0)
        assert joined is not None
        before, after = shape_of(graph, joined), shape_of(graph, value)
        if before is None or after is None or len(before) != len(after) + 1:
            return None
        if before[-1] != 2 or not equal_shapes(before[:-2], after[:-1]):
            return None
        node = joined.node
    if not node.is_op("Concat") or not _last_axis(graph, node):
        return None
    parts = list(graph.operands(node))
    if neighbours:
        parts = [_before_unsqueeze(graph, part) for part in parts]
    if len(parts) != 2 or parts[0] is None or parts[1] is None or not parts[0].node.is_op("Neg"):
        return None
    second, first = graph.operand(parts[0].node, 0), parts[1]
    assert second is not None
    x = (_neighbours if neighbours else _halves)(graph, first, second)
    return None if x is None else (x, neighbours)


def _before_unsqueeze(graph: Graph, value: Value | None) -> Value | None:
    if value is None or not value.node.is_op("Unsqueeze", "Reshape"):
        return None
    above = graph.operand(value.node, 0)
    before = None if above is None else shape_of(graph, above)
    if before is None or not equal_shapes((*before, 1), shape_of(graph, value)):
        return None
    return above


def _halves(graph: Graph, first: Value, second: Value) -> Value | None:
    """Find what two values are the halves of."""
    a, b = _part(graph, first), _part(graph, second)
    if a is None or b is None or a.base is not b.base or (a.step, b.step) != (1, 1):
        return None
    size = (shape_of(graph, a.base) or (None,))[-1]
    fits = (a.start, b.start, b.end) == (0, a.end, size) and size == 2 * a.end
    return a.base if fits else None


def _neighbours(graph: Graph, first: Value, second: Value) -> Value | None:
    """Find what two values are the even and the odd elements of."""
    a, b = _part(graph, first), _part(graph, second)
    if a is None or b is None or a.base is not b.base or (a.step, b.step) != (2, 2):
        return None
    size = (shape_of(graph, a.base) or (None,))[-1]
    return a.base if (a.start, b.start) == (0, 1) and a.end == b.end == size else None


def _part(graph: Graph, value: Value) -> _Part | None:
    """What a Slice of the last axis, or a result of a Split, takes."""
    base = graph.operand(value.node, 0) if value.node.is_op("Slice", "Split") else None
    shape = None if base is None else shape_of(graph, base)
    if base is None or not shape or not isinstance(shape[-1], int):
        return None
    if value.node.is_op("Split"):
        return _split_part(graph, value, base, len(shape))
    numbers = [_numbers(graph, value.node, index) for index in range(1, 5)]
    starts, ends, axes, steps = numbers
    if starts is None or ends is None or len(starts) != 1 or len(ends) != 1:
        return None
    axis = 0 if axes is None else axes[0]
    step = 1 if steps is None else steps[0]
    if axis % len(shape) != len(shape) - 1 or step < 1:
        return None
    start, end, _ = slice(starts[0], ends[0], step).indices(shape[-1])
    return _Part(base, start, end, step)


_SLICE_ATTRIBUTES: Final = ("starts", "ends", "axes", "steps")


def _numbers(graph: Graph, node: Node, index: int) -> list[int] | None:
    operand = graph.operand(node, index)
    if operand is None:
        written = node.get(_SLICE_ATTRIBUTES[index - 1])
        return None if written is None else list(written)
    tensor = constant_tensor(operand)
    return None if tensor is None else [int(item) for item in tensor.numpy().reshape(-1)]


def _split_part(graph: Graph, value: Value, base: Value, rank: int) -> _Part | None:
    node = value.node
    if int(ops.attribute(graph, node, "axis")) % rank != rank - 1:
        return None
    start = 0
    for output in node.outputs:
        shape = None if output is None else shape_of(graph, output)
        if not shape or not isinstance(shape[-1], int):
            return None
        if output is value:
            return _Part(base, start, start + shape[-1])
        start += shape[-1]
    return None


def _last_axis(graph: Graph, node: Node) -> bool:
    shape = shape_of(graph, node.output)
    return shape is not None and node.get("axis") in (-1, len(shape) - 1)


def _orders(graph: Graph, node: Node, op_type: str) -> list[tuple[Node, Node]]:
    """The operations that make both operands, in both orders; none unless they are `op_type`."""
    made = [value.node for value in graph.operands(node) if value is not None]
    if len(made) != 2 or not all(item.is_op(op_type) for item in made):
        return []
    return [(made[0], made[1]), (made[1], made[0])]


def _orders_of(graph: Graph, node: Node) -> Iterator[tuple[Value, Value]]:
    """Both operands in both orders."""
    first, second = graph.operand(node, 0), graph.operand(node, 1)
    if first is not None and second is not None:
        yield first, second
        yield second, first


def _heads_after(graph: Graph, x: Value) -> tuple[Value, int] | None:
    """The source (batch, sequence, heads · size) of x (batch, sequence, heads, size)."""
    if not x.node.is_op("Reshape"):
        return None
    source = graph.operand(x.node, 0)
    assert source is not None
    before, after = shape_of(graph, source), shape_of(graph, x)
    if before is None or after is None or len(before) != 3 or len(after) != _RANK:
        return None
    heads = after[2]
    if not isinstance(heads, int) or not equal_shapes(before[:2], after[:2]):
        return None
    return source, heads


def _dtype(value: Value) -> object:
    return value.type.dtype if isinstance(value.type, TensorType) else None
