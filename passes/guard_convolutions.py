"""Put a Clip that changes nothing behind int8 convolutions whose result is used twice.

    Conv(x, W)  =  Clip(Conv(x, W), lowest float, highest float)

A runtime that computes a convolution of integers has to multiply its sums by the scales, and may
move that multiplication into or past what follows: a QuantizeLinear, a pool, a Relu, a Resize, a
multiplication by a constant. Where something else uses the result as well, and sizes are known at
run time only, it multiplies twice. An addition or activation directly behind the convolution keeps
the two apart; where the model has none, a Clip does, which is computed within the convolution.
Source: ONNX operators Clip-6 (attributes), Clip-11 (operands);
tests/passes/test_guard_convolutions.py shows what goes wrong without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from optc.ir import Kind
from optc.ir.ops import Trait, info
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassResult
from optc.passes.quantized import dequantize_before
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "guard-convolution"
_OPERANDS_SINCE: Final = 11
_SINCE: Final = 6
_LIMIT: Final = float(np.finfo(np.float32).max)


class GuardConvolutions(Pass):
    """Keep the scale of an int8 convolution out of one use of its result where there are others.

    Refuses: models below opset 6, which has no Clip as it is needed.
    """

    name: ClassVar[str] = "guard-convolutions"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Rewrite in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node.is_op("Conv", "ConvTranspose") and _is_open(nested, node):
                    _guard(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _is_open(graph: Graph, node: Node) -> bool:
    """Whether the runtime could take the scale into one use of the result, and not into another."""
    if dequantize_before(graph, graph.operand(node, 0)) is None:
        return False
    shape = shape_of(graph, node.output)
    if shape is not None and all(isinstance(dim, int) for dim in shape):
        return False
    if not _is_zero(graph.operand(node, 2)):
        return False
    users = [use.node for use in graph.uses(node.output)]
    while len(users) == 1 and _hands_on(graph, users[0]):
        users = [use.node for use in graph.uses(users[0].output)]
    return len(users) > 1 and not all(user.is_op("QuantizeLinear") for user in users)


def _hands_on(graph: Graph, node: Node) -> bool:
    """Whether an operation leaves a scale of its operand a scale of its result."""
    if node.kind is not Kind.OP or len(node.outputs) != 1:
        return False
    if node.is_op("Mul", "Div"):
        return any(v is not None and v.constant is not None for v in graph.operands(node))
    return node.is_op("Neg") or info(node).has(Trait.DATA_MOVEMENT)


def _is_zero(bias: Value | None) -> bool:
    """Whether there is no addition behind the products: runtimes drop a bias of zeros."""
    return bias is None or (bias.constant is not None and not bias.constant.numpy().any())


def _guard(graph: Graph, node: Node, trace: Trace) -> None:
    if graph.opset < _SINCE:
        trace.refused(_RULE, node, f"Clip is not of opset {graph.opset}")
        return
    build = Builder(graph, trace.pass_name, (node,))
    attributes = {name: item.value for name, item in node.attributes.items()}
    made = build.node(node.op_type, graph.operands(node), attributes=attributes)
    made.name = node.name
    graph.set_type(made.output, node.output.type)
    if graph.opset < _OPERANDS_SINCE:
        limits = {"min": -_LIMIT, "max": _LIMIT}
        clip = build.node("Clip", [made.output], attributes=limits)
    else:
        low, high = (
            build.constant(np.float32(limit), name=f"{node.key}_{word}")
            for word, limit in (("lowest", -_LIMIT), ("highest", _LIMIT))
        )
        clip = build.node("Clip", [made.output, low, high])
    trace.applied(_RULE, node)
    replace_node(graph, node, [clip.output], build.made)
