"""Write two transposed convolutions in a row as pointwise convolutions and one DepthToSpace.

    ConvTranspose(act(ConvTranspose(x, A) + a), B) + b
        =  DepthToSpace(Conv(act(Conv(x, A') + a'), B') + b')        strides as large as the kernels

Both are pointwise convolutions whose channels are the pixels of a block
(`optc.passes.pixel_blocks`). Up to the second one the pixels stay channels, so that the large
result in between is never rearranged. A' has a channel for each pixel (u, v) and output of A; B'
takes those of one pixel only and is zero else, which costs

    outputs of B · pixels of a block of B · (pixels of a block of A - 1)

multiplications by zero for each element in between. DBNet and its like end so: text detection of
PaddleOCR, with 1 · 4 · 3.
Limit: benchmarks/results/upsampling-2026-11.md. Source: ONNX operators ConvTranspose-22, Conv-22,
DepthToSpace-13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from pydantic import Field

from optc.ir.ops import Trait, info
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.pixel_blocks import blocks_of, pointwise
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.pixel_blocks import Blocks

_RULE: Final = "conv-transposes"


class MergeUpsamplingOptions(PassOptions):
    """Options of `merge-upsampling`."""

    zeros: int = Field(
        default=24,
        ge=0,
        description="most multiplications by zero for each element in between that are taken on",
    )


class MergeUpsampling(Pass):
    """Rearrange pixels once behind two transposed convolutions, not in each.

    Refuses: blocks that overlap or leave gaps, padding, groups, blocks that are not square in the
    end; anything but images; operations in between that are not unary and elementwise; an inner
    result that something else uses; weights or biases that are not constant; more
    multiplications by zero than the option allows.
    """

    name: ClassVar[str] = "merge-upsampling"
    Options = MergeUpsamplingOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Every pair of transposed convolutions of every graph."""
        assert isinstance(self.options, MergeUpsamplingOptions)
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and node.is_op("ConvTranspose"):
                    _visit(nested, node, self.options.zeros, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _visit(graph: Graph, outer: Node, limit: int, trace: Trace) -> None:
    data = graph.operand(outer, 0)
    between: list[Node] = []
    while data is not None and _is_activation(data.node):
        between.append(data.node)
        data = graph.operand(data.node, 0)
    if data is None or not data.node.is_op("ConvTranspose"):
        return
    inner = data.node
    pair = _pair(graph, inner, between, outer, limit)
    if isinstance(pair, str):
        trace.refused(_RULE, outer, pair)
        return
    build = Builder(graph, trace.pass_name, (outer, *between, inner))
    new = _write(build, *pair, between[::-1])
    trace.applied(_RULE, outer)
    replace_node(graph, outer, [new], build.made)


def _is_activation(node: Node) -> bool:
    """Whether each element of the result is a function of one element, in the same type."""
    traits = info(node)
    if traits.has(Trait.RANDOM) or node.is_op("Cast", "CastLike", "BitCast"):
        return False
    return traits.has(Trait.UNARY) and len(node.outputs) == 1


def _pair(
    graph: Graph, inner: Node, between: list[Node], outer: Node, limit: int
) -> tuple[Blocks, Blocks] | str:
    """Both convolutions, or why they stay."""
    for node in (inner, *between):
        if graph.only_use(node.output) is None:
            return f"{node.output.name} has other uses"
    found = [blocks_of(graph, node) for node in (inner, outer)]
    first, second = found
    if isinstance(first, str) or isinstance(second, str):
        return next(reason for reason in found if isinstance(reason, str))
    if first.rows * second.rows != first.columns * second.columns:
        return "the blocks of both together are not square"
    zeros = second.outputs * second.rows * second.columns * (first.rows * first.columns - 1)
    if zeros > limit:
        return f"{zeros} multiplications by zero for each element in between; at most {limit} pay"
    return first, second


def _write(build: Builder, inner: Blocks, outer: Blocks, between: list[Node]) -> Value:
    """Both as pointwise convolutions; channels are (row, column, output) of a block."""
    data = build.graph.operand(inner.node, 0)
    assert data is not None
    pixels = inner.rows * inner.columns
    value = pointwise(build, inner, data, inner.spread())
    for node in between:
        kind, operands = value.type, (value, *build.graph.operands(node)[1:])
        value = build.node(node.op_type, operands, like=node).output
        build.graph.set_type(value, kind)
    size = inner.rows * outer.rows
    rows, columns = np.eye(inner.rows), np.eye(inner.columns)
    # Rows are those of the inner block times those of the outer one; so are columns.
    spread = np.einsum("iu,jv,opkl->ikjlpuvo", rows, columns, outer.weight)
    second = spread.reshape(size * size * outer.outputs, pixels * inner.outputs, 1, 1)
    value = pointwise(build, outer, value, second)
    return build.DepthToSpace(value, blocksize=size)
