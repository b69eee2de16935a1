"""Merge Resizes that follow each other, and write each in its plainest coordinates.

    nearest, n times, half_pixel, rounded    =  nearest, n times, asymmetric, floor
    Resize(Resize(x, n), m)                  =  Resize(x, n m)       nearest, whole n and m
    linear, pytorch_half_pixel               =  linear, half_pixel   where nothing shrinks

Element i of n repetitions is element floor(i / n). In half pixels it is (i + 1/2) / n - 1/2, which
lies less than one half from that, so that rounding gives the same element and never meets a tie;
floor and ceil do not. pytorch_half_pixel differs for results of one element only, and there both
take the first element of one.

ONNX Runtime takes twice the time for half_pixel where it is nearest, and for pytorch_half_pixel
where it is linear (benchmarks/forms/image.py); OpenVINO makes no difference.
Source: ONNX operators Resize-11, -13, -18, -19.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from optc.ir import DType, ops
from optc.ir.shape_site import constant_tensor
from optc.passes.base import Pass, PassResult
from optc.passes.linear import use_text
from optc.rewrite.driver import Builder, replace_node, to_attr
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node
    from optc.passes.base import PassContext

_SCALES_SINCE: Final = 11
_SCALES: Final = 2
_PLAIN: Final = {
    "coordinate_transformation_mode": b"asymmetric",
    "mode": b"nearest",
    "nearest_mode": b"floor",
}
_HALVES: Final = (b"half_pixel", b"pytorch_half_pixel")
_ROUNDED: Final = (b"round_prefer_floor", b"round_prefer_ceil")


class MergeResizes(Pass):
    """Resize once what is resized twice, in the coordinates that cost least.

    Refuses: scales that are not whole or not known; other interpolation than nearest; a first
    Resize that something else uses.
    """

    name: ClassVar[str] = "merge-resizes"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Merge and simplify in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and node.is_op("Resize") and nested.opset >= _SCALES_SINCE:
                    _merge(nested, node, trace)
            for node in nested.ordered():
                if node.is_op("Resize") and nested.opset >= _SCALES_SINCE:
                    _simplify(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _merge(graph: Graph, node: Node, trace: Trace) -> None:
    value = graph.operand(node, 0)
    if value is None or not value.node.is_op("Resize") or value.node not in graph:
        return
    first = value.node
    scales = []
    for resize in (first, node):
        found = _repetitions(graph, resize)
        if isinstance(found, str):
            trace.refused("resize-resize", node, f"{resize.label}: {found}")
            return
        scales.append(found)
    others = [use for use in graph.uses(value) if use.node is not node]
    if others:
        reason = f"the result of {first.label} {use_text(others[0], 'also feeds')}"
        trace.refused("resize-resize", node, reason)
        return
    build = Builder(graph, trace.pass_name, (node, first))
    product = [float(a * b) for a, b in zip(*scales, strict=True)]
    constant = build.constant(product, dtype=DType.F32, name=f"{node.key}_scales")
    operands = [graph.operand(first, 0), graph.operand(node, 1), constant]
    made = build.node("Resize", operands, attributes=_PLAIN)
    made.name = node.name
    trace.applied("resize-resize", node)
    for gone in replace_node(graph, node, [made.output], build.made):
        trace.forget(gone)


def _simplify(graph: Graph, node: Node, trace: Trace) -> None:
    """Write a Resize in the coordinates that cost least."""
    if ops.attribute(graph, node, "coordinate_transformation_mode") not in _HALVES:
        return
    mode = ops.attribute(graph, node, "mode")
    if mode == b"nearest":
        if isinstance(_repetitions(graph, node), str):
            return
        changes = {name: to_attr(value) for name, value in _PLAIN.items()}
        trace.applied("nearest-coordinates", node)
    elif mode == b"linear" and node.get("coordinate_transformation_mode") == _HALVES[1]:
        scales = _scales(graph, node)
        if scales is None or min(scales, default=0) < 1:
            return
        changes = {"coordinate_transformation_mode": to_attr(_HALVES[0])}
        trace.applied("linear-coordinates", node)
    else:
        return
    graph.set_attributes(node, {**node.attributes, **changes})


def _scales(graph: Graph, node: Node) -> list[float] | None:
    """The scale of each axis, when it is constant and nothing else decides the result."""
    if node.get("axes") is not None or graph.operand(node, _SCALES + 1) is not None:
        return None
    operand = graph.operand(node, _SCALES)
    tensor = None if operand is None else constant_tensor(operand)
    return None if tensor is None else [float(item) for item in tensor.numpy().reshape(-1)]


def _repetitions(graph: Graph, node: Node) -> list[int] | str:
    """How often a Resize repeats each element, by axis; or why it does something else."""
    if ops.attribute(graph, node, "mode") != b"nearest":
        return "it interpolates"
    scales = _scales(graph, node)
    if scales is None:
        return "its scales are not known"
    if any(scale < 1 or scale != int(scale) for scale in scales):
        return "its scales are not whole"
    way = ops.attribute(graph, node, "coordinate_transformation_mode")
    rounding = ops.attribute(graph, node, "nearest_mode")
    if (way, rounding) != (b"asymmetric", b"floor") and not (
        way in _HALVES and rounding in _ROUNDED
    ):
        return f"it takes other elements ({way.decode()}, {rounding.decode()})"
    return [int(scale) for scale in scales]
