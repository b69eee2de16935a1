"""What a precision hint leaves in fp32: the tail of a graph, behind its last products.

    Conv -> ConvTranspose -> Sigmoid -> output (float32)

Told to compute in bf16, a runtime lowers the Conv, and neither of the two behind it. Where the
model states no types that is what becomes of a plan, so a plan has to know.

Source: `hint_tail` in the descriptor of the runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir import DType, Kind
from optc.passes.precision_sites import dtype_of

if TYPE_CHECKING:
    from optc.ir import Graph, Node
    from optc.targets import Runtime


def hint_tail(graph: Graph, runtime: Runtime) -> frozenset[Node]:
    """The operations of a model that stay fp32 whatever the hint says.

    Empty for a runtime without such a hint. An output that is not float32 has no tail. Bodies of
    control flow are not looked into: what a runtime unrolls has none of its own.
    """
    rule = runtime.hint_tail
    if rule is None:
        return frozenset()
    found: dict[Node, None] = {}
    stack: list[Node] = []
    for output in graph.outputs:
        value = graph.operand(output, 0)
        if value is not None and dtype_of(value) is DType.F32:
            stack.append(value.node)
    while stack:
        node = stack.pop()
        if node in found or node.kind is not Kind.OP or node.is_op(*rule.after):
            continue
        found[node] = None
        values = (*graph.operands(node), *graph.captures(node).values())
        stack.extend(value.node for value in values if value is not None)
    return frozenset(found)
