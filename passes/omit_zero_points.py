"""Leave out the zero points of integer weights where all of them are zero.

    DequantizeLinear(w, scale, 0)  =  DequantizeLinear(w, scale)

A runtime may see weights with a zero point in a constant that several operations share, even one of
zeros, and compute them in fp32.
Source: ONNX operator DequantizeLinear-10; descriptors of runtimes (`lowering`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from optc.passes.base import Pass, PassResult
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node
    from optc.passes.base import PassContext

_RULE: Final = "omit-zero-point"
_ZERO_POINT: Final = 2


class OmitZeroPoints(Pass):
    """Write DequantizeLinear of constants without a zero point of zeros."""

    name: ClassVar[str] = "omit-zero-points"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Rewrite in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node.is_op("DequantizeLinear") and _is_idle(nested, node):
                    zero = nested.operand(node, _ZERO_POINT)
                    assert zero is not None
                    nested.set_operand(node, _ZERO_POINT, None)
                    remove_unused(nested, [zero.node])
                    trace.applied(_RULE, node)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _is_idle(graph: Graph, node: Node) -> bool:
    stored, zero = graph.operand(node, 0), graph.operand(node, _ZERO_POINT)
    if stored is None or stored.constant is None or zero is None or zero.constant is None:
        return False
    return not zero.constant.numpy().any()
