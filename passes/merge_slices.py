"""Merge slices and concatenations in a row.

    Slice(Slice(x))                   = Slice(x)              other axes, or bounds that compose
    Concat(a, Concat(b, c), d)        = Concat(a, b, c, d)    one axis
    Concat(all results of Split(x))   = x                     one axis, in their order
    Slice(Concat(a, b, c))            = Slice(b)              the part lies within one operand

Several slices of one slice (the focus layer of YOLOv5 and the patch merging of Swin take every
second row, and of these every second column) all read x afterwards.

Source: ONNX operators Slice-10, -11, -13, Concat-13, Split-13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir import DType, dims
from optc.ir.shape_rules_move import END, slice_bounds
from optc.ir.shape_site import Site, normal_axis, shape_of
from optc.passes.base import Pass, PassResult
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir import Dim, Graph, Node, Value
    from optc.passes.base import PassContext

_LAST: Final = 2**63 - 1
_OPERANDS_SINCE: Final = 10  # Slice: attributes before

_Bounds: TypeAlias = "tuple[int, int, int]"
"""Start, end and step of a slice of one axis, with end `_LAST` for the end of the axis."""


class MergeSlices(Pass):
    """Merge slices with slices, concatenations with concatenations, and undo a split.

    Refuses: bounds that are not constant, or cannot be composed without the size of the axis;
    steps backwards; a first result that something else uses, too; another axis; a slice that
    reaches over several operands; operands whose size is not known.
    """

    name = "merge-slices"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """In order of execution: operands are simplified before their users."""
        del context
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and not node.domain and node.op_type in _RULES:
                    _visit(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _visit(graph: Graph, node: Node, trace: Trace) -> None:
    for name, rule in _RULES[node.op_type]:
        build = Builder(graph, trace.pass_name, (node,))
        found = rule(graph, node, build)
        if isinstance(found, str):
            trace.refused(name, node, found)
        elif found is not None:
            trace.applied(name, node)
            for gone in replace_node(graph, node, [found], build.made):
                trace.forget(gone)
            remade = found.node
            if remade in build.made and remade.op_type in _RULES:
                _visit(graph, remade, trace)
            return


_Outcome: TypeAlias = "Value | str | None"
"""What takes the place of the node, why nothing does, or None for no match."""


# ---- slices --------------------------------------------------------------------------------------


def _slice_slice(graph: Graph, node: Node, build: Builder) -> _Outcome:
    data = graph.operand(node, 0)
    if data is None or not data.node.is_op("Slice") or graph.opset < _OPERANDS_SINCE:
        return None
    first = data.node
    for use in graph.uses(data):
        if not (use.node.is_op("Slice") and use.key == 0):
            return f"{first.label} also feeds {use.node.label}"
    source = graph.operand(first, 0)
    shape = None if source is None else shape_of(graph, source)
    if source is None or shape is None:
        return "the rank is not known"
    both = [_bounds(graph, item, len(shape)) for item in (first, node)]
    inner, outer = both
    if inner is None or outer is None:
        return "the bounds are not constant"
    merged = dict(inner)
    for axis, own in outer.items():
        found = own if axis not in inner else _composed(inner[axis], own, shape[axis])
        if found is None:
            return f"the bounds of axis {axis} cannot be composed"
        merged[axis] = found
    return _slice(build, node, source, merged)


def _bounds(graph: Graph, node: Node, rank: int) -> dict[int, _Bounds] | None:
    found = slice_bounds(Site(graph, node, {}), rank)
    result: dict[int, _Bounds] = {}
    for axis, (start, end, step) in (found or {}).items():
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(step, int)):
            return None
        result[axis] = (start, _LAST if end >= END else end, step)
    return None if found is None else result


def _composed(first: _Bounds, second: _Bounds, size: Dim) -> _Bounds | None:
    """The slice of a slice; None where that takes more than is known."""
    if first[2] < 1 or second[2] < 1:
        return None
    if isinstance(size, int):
        left = range(size)[first[0] : first[1] : first[2]][second[0] : second[1] : second[2]]
        return left.start, max(left.stop, left.start), left.step
    if min(first[:2]) < 0 or min(second[:2]) < 0:
        return None
    start, step = first[0] + second[0] * first[2], first[2] * second[2]
    ends = [first[1]]
    if second[1] != _LAST:
        ends.append(first[0] + second[1] * first[2])
    return start, min(ends), step


def _slice(build: Builder, like: Node, source: Value, bounds: Mapping[int, _Bounds]) -> Value:
    axes = sorted(bounds)
    columns: list[list[int]] = [[bounds[axis][i] for axis in axes] for i in range(3)]
    names = ("starts", "ends", "axes", "steps")
    lists = [columns[0], columns[1], axes, columns[2]]
    if all(step == 1 for step in columns[2]):
        lists.pop()
    operands = [
        build.constant(numbers, dtype=DType.I64, name=f"{like.key}_{name}")
        for name, numbers in zip(names, lists, strict=False)
    ]
    return build.Slice(source, *operands, like=like)


def _slice_concat(graph: Graph, node: Node, build: Builder) -> _Outcome:
    data = graph.operand(node, 0)
    if data is None or not data.node.is_op("Concat") or graph.opset < _OPERANDS_SINCE:
        return None
    shape = shape_of(graph, data)
    axis = None if shape is None else normal_axis(data.node.get("axis", 0), len(shape))
    bounds = None if shape is None else _bounds(graph, node, len(shape))
    if shape is None or axis is None or bounds is None:
        return "the bounds are not constant"
    if axis not in bounds:
        return None
    start, end, step = bounds[axis]
    size = shape[axis]
    if step < 1 or (min(start, end) < 0 and not isinstance(size, int)):
        return "it counts from the end"
    if isinstance(size, int):
        start, end, _ = range(size)[start:end].start, range(size)[start:end].stop, step
    at: Dim = 0
    for operand in graph.operands(data.node):
        own = shape_of(graph, operand) if operand is not None else None
        if operand is None or own is None or not isinstance(at, int) or at > start:
            break
        length = own[axis]
        if isinstance(length, int) and at <= start and end <= at + length:
            return _slice_of_part(
                build, node, operand, bounds, (axis, start - at, end - at, length)
            )
        at = dims.add(at, length)
    return "it reaches over several operands, or their sizes are not known"


def _slice_of_part(
    build: Builder,
    node: Node,
    operand: Value,
    bounds: Mapping[int, _Bounds],
    part: tuple[int, int, int, int],
) -> Value:
    axis, start, end, length = part
    step = bounds[axis][2]
    rest = {other: found for other, found in bounds.items() if other != axis}
    if start > 0 or end < length or step != 1:
        rest[axis] = (start, end, step)
    return _slice(build, node, operand, rest) if rest else operand


# ---- concatenations ------------------------------------------------------------------------------


def _axis(graph: Graph, node: Node) -> int | None:
    """The axis of a Concat or Split, from the front when the rank is known."""
    axis = Site(graph, node, {}).integer("axis")
    shapes = [shape_of(graph, value) for value in (*graph.operands(node), *node.outputs) if value]
    rank = next((len(shape) for shape in shapes if shape is not None), None)
    return axis if axis >= 0 or rank is None else axis + rank


def _concat_split(graph: Graph, node: Node, build: Builder) -> _Outcome:
    del build
    operands = graph.operands(node)
    split = operands[0].node if operands and operands[0] is not None else None
    if split is None or not split.is_op("Split"):
        return None
    if list(operands) != list(split.outputs):
        return None  # a permutation, or a part
    if _axis(graph, node) != _axis(graph, split):
        return f"{split.label} splits another axis"
    return graph.operand(split, 0)


def _concat_concat(graph: Graph, node: Node, build: Builder) -> _Outcome:
    operands = graph.operands(node)
    inner = [value.node for value in operands if value and value.node.is_op("Concat")]
    if not inner:
        return None
    axis, reason = _axis(graph, node), ""
    flat: list[Value | None] = []
    for value in operands:
        if value is None or value.node not in inner:
            flat.append(value)
            continue
        if _axis(graph, value.node) != axis:
            reason = f"{value.node.label} has another axis"
        elif graph.only_use(value) is None:
            reason = f"{value.node.label} is used elsewhere"
        else:
            flat.extend(graph.operands(value.node))
            continue
        flat.append(value)
    if len(flat) == len(operands) and flat == list(operands):
        return reason or None
    return build.node("Concat", flat, like=node).output


_RULES: Final[Mapping[str, Sequence[tuple[str, Callable[[Graph, Node, Builder], _Outcome]]]]] = {
    "Slice": (("slice-slice", _slice_slice), ("slice-concat", _slice_concat)),
    "Concat": (("concat-split", _concat_split), ("concat-concat", _concat_concat)),
}
