"""Raise slices and gathers that share out a whole dimension to Split.

    x[0:2], x[2:3], x[3:9]  on one axis of 9    = Split(x, [2, 1, 6])
    Gather(x, 0), …, Gather(x, n-1)             = Squeeze of the results of Split(x, [1] * n)

Exporters write q, k, v of an attention like this: PyTorch ``qkv[0]``, ``qkv.unbind(0)`` and
``chunk``, Paddle ``qkv[0]`` (a Slice and a Squeeze), TensorFlow ``x[..., :n]``; also the two halves
that ``torch.roll`` puts together again. Equal slices share one result.
Source: ONNX operators Split-11, -13, -18, Slice-1, -10, Gather-13, Squeeze-11, -13.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import DType, Kind, TensorType
from optc.ir.shape_rules_move import slice_bounds
from optc.ir.shape_site import Site, normal_axis, shape_of
from optc.passes.base import Pass, PassResult
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Dim, Graph, Node, Shape, Value
    from optc.passes.base import PassContext

_OPERAND_SINCE: Final = 13  # sizes of Split and axes of Squeeze: attributes before


@dataclass(frozen=True)
class Part:
    """A piece of one axis of a value.

    Attributes:
        node: the Slice or Gather that takes it.
        axis: the axis, from the front.
        start: its first element.
        end: the element behind its last.
        drops: whether the axis is dropped (a Gather of a scalar index).
    """

    node: Node
    axis: int
    start: int
    end: int
    drops: bool = False


class RaiseSplit(Pass):
    """Raise the slices of a value that share out one axis to one Split.

    Refuses: an axis whose size is not known; bounds or indices that are not constant; steps; parts
    that overlap, or that leave elements out. Slices of several axes at once, and a value with one
    part only, are no match.
    """

    name = "raise-split"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Every value of every graph."""
        del context
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            sources = sorted(nested.nodes(Kind.INPUT, Kind.CAPTURE), key=lambda node: node.key)
            for node in (*sources, *nested.ordered()):
                if node not in nested:
                    continue
                for value in node.outputs:
                    if value is not None:
                        _raise(nested, value, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _raise(graph: Graph, value: Value, trace: Trace) -> None:
    by_axis: dict[int, list[Part | str]] = {}
    takers: dict[int, list[Node]] = {}
    uses = [use.node for use in graph.uses(value) if use.key == 0]
    shape = shape_of(graph, value) if len(uses) > 1 else None
    for node in sorted(uses, key=lambda node: node.key) if shape is not None else ():
        assert shape is not None
        for axis in _axes(graph, node, len(shape)):
            by_axis.setdefault(axis, []).append(_part(graph, node, axis, shape))
            takers.setdefault(axis, []).append(node)
    for axis, found in sorted(by_axis.items()):
        if len(found) < 2:
            continue
        assert shape is not None
        reason = next((item for item in found if isinstance(item, str)), None)
        parts = [item for item in found if isinstance(item, Part)]
        reason = reason or _not_shared_out(parts, shape[axis])
        anchor = takers[axis][0]
        if reason:
            trace.refused("split", anchor, reason)
            continue
        _rewrite(graph, value, shape, parts, trace)


def _axes(graph: Graph, node: Node, rank: int) -> list[int]:
    """The one axis that a node takes a part of; none for anything else."""
    site = Site(graph, node, {})
    if node.is_op("Gather"):
        indices = site.shape(1)
        axis = normal_axis(site.integer("axis"), rank)
        return [axis] if indices in ((), (1,)) and axis is not None else []
    if not node.is_op("Slice"):
        return []
    bounds = slice_bounds(site, rank)
    return list(bounds) if bounds is not None and len(bounds) == 1 else []


def _part(graph: Graph, node: Node, axis: int, shape: Shape) -> Part | str:
    size, rank = shape[axis], len(shape)
    if not isinstance(size, int):
        return f"the size {size} of axis {axis} is not a number"
    site = Site(graph, node, {})
    if node.is_op("Gather"):
        indices = site.integers(1)
        if indices is None:
            return f"the index of {node.label} is not constant"
        index = indices[0] + size if indices[0] < 0 else indices[0]
        return Part(node, axis, index, index + 1, drops=site.shape(1) == ())
    bounds = slice_bounds(site, rank)
    assert bounds is not None
    start, end, step = bounds[axis]
    if not isinstance(start, int) or not isinstance(end, int):
        return f"the bounds of {node.label} are not constant"
    if step != 1:
        return f"{node.label} takes every {step}. element"
    taken = range(size)[start:end]
    return Part(node, axis, taken.start, max(taken.stop, taken.start))


def _not_shared_out(parts: Sequence[Part], size: Dim) -> str | None:
    """Why parts are not the whole axis, each element once, or None."""
    spans = sorted({(part.start, part.end) for part in parts})
    if len(spans) < 2:
        return "all take the same part"
    at = 0
    for start, end in spans:
        if start > at:
            return f"no part has the elements from {at} to {start - 1}"
        if start < at or end <= start:
            return "the parts overlap, or one is empty"
        at = end
    return None if at == size else f"no part has the elements from {at} on"


def _rewrite(graph: Graph, value: Value, shape: Shape, parts: Sequence[Part], trace: Trace) -> None:
    axis, first = parts[0].axis, min(parts, key=lambda part: part.start)
    spans = sorted({(part.start, part.end) for part in parts})
    sizes = [end - start for start, end in spans]
    nodes = sorted(parts, key=lambda part: (part.start, part.node.key))
    build = Builder(graph, trace.pass_name, tuple(part.node for part in nodes))
    operands: list[Value | None] = [value]
    attributes: dict[str, int | list[int]] = {"axis": axis}
    if graph.opset < _OPERAND_SINCE:
        attributes["split"] = sizes
    else:
        name = f"{first.node.key}_sizes"
        operands.append(build.constant(np.asarray(sizes), dtype=DType.I64, name=name))
    split = build.node("Split", operands, attributes=attributes, outputs=len(spans))
    results: dict[tuple[int, int], Value] = {}
    for span, size, result in zip(spans, sizes, split.outputs, strict=True):
        assert result is not None
        results[span] = result
        if isinstance(value.type, TensorType):
            part_shape = (*shape[:axis], size, *shape[axis + 1 :])
            graph.set_type(result, TensorType(value.type.dtype, part_shape))
    trace.applied("split", first.node)
    for part in nodes:
        new = results[part.start, part.end]
        if part.drops:
            new = _squeezed(graph, build, new, part)
        replace_node(graph, part.node, [new], build.made)


def _squeezed(graph: Graph, build: Builder, value: Value, part: Part) -> Value:
    if graph.opset < _OPERAND_SINCE:
        return build.Squeeze(value, axes=[part.axis])
    axes = build.constant(np.asarray([part.axis]), dtype=DType.I64, name=f"{part.node.key}_axes")
    return build.Squeeze(value, axes)
