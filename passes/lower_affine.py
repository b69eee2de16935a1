"""Write an affine map per channel between convolutions as a convolution of one tap.

    x * s + t  =  Conv(x, W [C, 1, 1, 1] = s, B = t, group = C)

ONNX Runtime keeps images in blocks of channels from one convolution to the next and has kernels for
that layout for convolutions, pools, activations, and sums and products of images of one size. An
addition or a product with a constant is none of these: it makes the runtime bring the image into
the plain layout and back. Worth it where the map is between operations of the blocked layout and
channels fill whole blocks.
Source: ONNX operators Conv-22, Mul-14, Add-14; ONNX Runtime, NCHWc transformer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from optc.ir import DType, Kind, TensorType, ops
from optc.ir.shape_site import shape_of
from optc.passes.affine import AFFINE, Affine, affine_of
from optc.passes.base import Pass, PassResult
from optc.passes.weights import not_per_channel, range_error, vector
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "affine-convolution"
_BLOCK: Final = 16  # channels: the block of AVX-512 kernels, two of AVX2
_STEPS: Final = 8
_BLOCKED: Final = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")


class LowerAffine(Pass):
    """Write constant affine maps per channel as depthwise convolutions of one tap.

    Refuses: an operand that is not an image of f32 with a known number of channels, a multiple of
    16; a constant that is not one value per channel; no convolution or pool before or behind,
    where only elementwise operations are between.
    """

    name: ClassVar[str] = "lower-affine"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Rewrite in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                affine = affine_of(nested, node) if node.is_op(*AFFINE) else None
                if node in nested and affine is not None and _is_image(nested, affine.data):
                    self._lower(nested, affine, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)

    def _lower(self, graph: Graph, affine: Affine, trace: Trace) -> None:
        node = affine.node
        shape = shape_of(graph, affine.data)
        assert shape is not None
        channels = shape[1]
        reason = _obstacle(graph, affine, channels)
        if reason or not isinstance(channels, int):
            trace.refused(_RULE, node, reason or "channels are not known")
            return
        terms = affine.terms()
        scale, shift = vector(terms.scale, channels), vector(terms.shift, channels)
        build = Builder(graph, self.name, (node,))
        weight = np.ones(channels) if scale is None else scale
        operands = [affine.data, build.like(weight.reshape(-1, 1, 1, 1), affine.constant)]
        if shift is not None:
            operands.append(build.like(shift, affine.constant))
        attributes = {"group": channels, "kernel_shape": [1, 1]}
        made = build.node("Conv", operands, attributes=attributes)
        made.name = node.name
        trace.applied(_RULE, node)
        replace_node(graph, node, [made.output], build.made)


def _is_image(graph: Graph, value: Value) -> bool:
    shape = shape_of(graph, value)
    kind = value.type
    f32 = isinstance(kind, TensorType) and kind.dtype is DType.F32
    return f32 and shape is not None and len(shape) == 4


def _obstacle(graph: Graph, affine: Affine, channels: object) -> str | None:
    if affine.is_quotient:
        return "a constant divided by the data is not affine"
    if not isinstance(channels, int) or channels % _BLOCK:
        return f"{channels} channels are not a multiple of {_BLOCK}"
    if reason := not_per_channel(affine.tensor, -3, channels, 4):
        return reason
    terms = affine.terms()
    for values, what in ((terms.scale, "the scale"), (terms.shift, "the shift")):
        if values is not None and (why := range_error(values, DType.F32, what)):
            return why
    if not _reaches(graph, affine.node, up=True):
        return "it is not applied to what a convolution or pool computes"
    if not _reaches(graph, affine.node, up=False):
        return "no convolution or pool takes its result"
    return None


def _reaches(graph: Graph, node: Node, *, up: bool) -> bool:
    """Whether a blocked operation is above or below, with elementwise ones between."""
    stack, seen = [(node, 0)], {node}
    while stack:
        current, steps = stack.pop()
        if current is not node and current.is_op(*_BLOCKED):
            return True
        inside = current is node or ops.info(current).has(ops.Trait.ELEMENTWISE)
        if not inside or steps == _STEPS:
            continue
        for other in _above(graph, current) if up else _below(graph, current):
            if other not in seen and other.kind is Kind.OP:
                seen.add(other)
                stack.append((other, steps + 1))
    return False


def _above(graph: Graph, node: Node) -> Iterator[Node]:
    return (value.node for value in graph.operands(node) if value is not None)


def _below(graph: Graph, node: Node) -> Iterator[Node]:
    return (use.node for value in node.outputs if value for use in graph.uses(value))
