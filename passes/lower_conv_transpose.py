"""Write a transposed convolution as a pointwise one and a DepthToSpace.

    ConvTranspose(x, A) + a  =  DepthToSpace(Conv(x, A') + a')       strides as large as the kernel

(`optc.passes.pixel_blocks`). ONNX Runtime has no kernel for a ConvTranspose on bytes, and has fast
ones for both others; from so many channels on, that is worth the rearrangement.
Source: benchmarks/results/upsampling-2026-11.md; the descriptor of the runtime says from how many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.pixel_blocks import blocks_of, pointwise
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node
    from optc.passes.base import PassContext

_RULE: Final = "pixel-shuffle"


class LowerConvTransposeOptions(PassOptions):
    """Options of `lower-conv-transpose`."""

    channels: int | None = Field(
        default=None,
        ge=1,
        description="fewest channels of the operand; null: none is written so; when left out, what "
        "the descriptor of the runtime says",
    )


class LowerConvTranspose(Pass):
    """Let a transposed convolution be computed by a convolution, where int8 gains by it.

    Refuses: fewer channels than the option says; blocks that overlap or leave gaps, or are not
    square; padding; groups; anything but images of floats; weights or biases that are not constant.
    """

    name: ClassVar[str] = "lower-conv-transpose"
    Options = LowerConvTransposeOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Every transposed convolution of every graph."""
        assert isinstance(self.options, LowerConvTransposeOptions)
        trace = Trace(self.name)
        if self.options.channels is None:
            return PassResult(changed=False)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node.is_op("ConvTranspose"):
                    _visit(nested, node, self.options.channels, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _visit(graph: Graph, node: Node, channels: int, trace: Trace) -> None:
    blocks = blocks_of(graph, node)
    if isinstance(blocks, str):
        trace.refused(_RULE, node, blocks)
        return
    if blocks.rows != blocks.columns:
        trace.refused(_RULE, node, f"its blocks are {blocks.rows} by {blocks.columns}")
        return
    if blocks.inputs < channels:
        trace.refused(_RULE, node, f"{blocks.inputs} channels; it pays from {channels} on")
        return
    data = graph.operand(node, 0)
    assert data is not None
    build = Builder(graph, trace.pass_name, (node,))
    made = pointwise(build, blocks, data, blocks.spread())
    trace.applied(_RULE, node)
    replace_node(graph, node, [build.DepthToSpace(made, blocksize=blocks.rows)], build.made)
