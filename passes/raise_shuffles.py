"""Raise rearrangements of channels and pixels to DepthToSpace and SpaceToDepth.

    Reshape(Transpose(Reshape(x)))               = DepthToSpace(x), modes DCR and CRD
    Reshape(Transpose(Reshape(x)))               = SpaceToDepth(x)
    Concat(x[..., ::2, ::2], x[..., ::2, 1::2], …) = SpaceToDepth(x)
    Conv(the same in another order of channels, W) = Conv(SpaceToDepth(x), W of that order)

(see `optc.passes.blocks` for the forms). PyTorch writes ``PixelUnshuffle`` and hand-made pixel
shuffles as three operations, and the focus layer of YOLOv5 as slices; the orders of its channels
and of PixelUnshuffle's are not that of SpaceToDepth, so the weight of the convolution that follows
is permuted. `merge-slices` brings rows and columns together first.

Source: ONNX operators DepthToSpace-11, -13, SpaceToDepth-13, Conv-11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import TensorType
from optc.passes.base import Pass, PassResult
from optc.passes.blocks import ToChannels, ToPixels, rearranged
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Tensor
    from optc.passes.base import PassContext

_MODES_SINCE: Final = 11  # DepthToSpace: only DCR before


class RaiseShuffles(Pass):
    """Raise pixel shuffles and their inverse to DepthToSpace and SpaceToDepth.

    Refuses: shuffled channels (ONNX has no operator); blocks that are not square; unknown sizes;
    intermediate results that are used elsewhere; an order of channels that is not ONNX's, unless
    the one user is a convolution without groups whose constant weight is its own; integers; mode
    CRD below opset 11.
    """

    name = "raise-shuffles"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Every Reshape and Concat of every graph."""
        del context
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and (reason := _raise(nested, node, trace)):
                    trace.refused("shuffle", node, reason)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _raise(graph: Graph, node: Node, trace: Trace) -> str | None:
    found = rearranged(graph, node)
    if found is None or isinstance(found, str):
        return found
    type_ = node.output.type
    if not isinstance(type_, TensorType) or not type_.dtype.is_float:
        return f"{node.output.name} is not known to be of floats"
    build = Builder(graph, trace.pass_name, (node,))
    if isinstance(found, ToPixels):
        return _to_pixels(graph, node, found, build, trace)
    return _to_channels(graph, node, found, build, trace)


def _to_pixels(
    graph: Graph, node: Node, found: ToPixels, build: Builder, trace: Trace
) -> str | None:
    if found.mode == "CRD" and graph.opset < _MODES_SINCE:
        return f"opset {graph.opset} < {_MODES_SINCE}: DepthToSpace has no mode"
    mode = found.mode if graph.opset >= _MODES_SINCE else None
    made = build.DepthToSpace(found.source, blocksize=found.size, mode=mode)
    trace.applied("depth-to-space", node)
    replace_node(graph, node, [made], build.made)
    return None


def _to_channels(
    graph: Graph, node: Node, found: ToChannels, build: Builder, trace: Trace
) -> str | None:
    if found.order is not None:
        conv = _convolution(graph, node)
        if isinstance(conv, str):
            return conv
        weight = graph.operand(conv, 1)
        assert weight is not None
        assert weight.constant is not None
        permuted = _permuted(weight.constant, found.order)
        changed = build.constant(permuted, dtype=weight.constant.dtype, name=weight.name)
        graph.set_operand(conv, 1, changed)
        graph.remove(weight.node)
    made = build.SpaceToDepth(found.source, blocksize=found.size)
    trace.applied("space-to-depth", node)
    replace_node(graph, node, [made], build.made)
    return None


def _convolution(graph: Graph, node: Node) -> Node | str:
    """The convolution whose weight can take another order of channels, or why there is none."""
    use = graph.only_use(node.output)
    if use is None or not use.node.is_op("Conv") or use.key != 0:
        return "the order of the channels is not that of SpaceToDepth, and no Conv alone takes it"
    conv = use.node
    weight = graph.operand(conv, 1)
    if conv.get("group", 1) != 1:
        return f"{conv.label} has groups"
    if weight is None or weight.constant is None:
        return f"the weight of {conv.label} is not constant"
    if graph.only_use(weight) is None:
        return f"the weight of {conv.label} is shared"
    return conv


def _permuted(weight: Tensor, order: tuple[int, ...]) -> np.ndarray:
    array = weight.numpy()
    result = np.empty_like(array)
    result[:, list(order)] = array
    return result
