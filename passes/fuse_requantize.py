"""Less quantization around integer operations, and operators on integers where they are asked for.

    Q(Clip(x, a, b))  =  Q(x)               where Q(a) and Q(b) are the ends of the integer type
    Q(DQ(q))          =  q                  with equal parameters
    Q2(DQ1(Q1(x)))    =  Q2(x)              one rounding for two, where Q1 cuts off nothing that
                                            Q2 keeps
    Q2(move(DQ1(q)))  =  move(q)            scales that differ by a power of two or by rounding
    Q(op(DQ(q), …))   =  QLinearOp(q, …)    form qoperator: the operators of ONNX Runtime

The first and the second are exact; the third and the fourth leave out roundings, so the result
comes nearer to that of real numbers. A move only takes elements from its operand.
Source: ONNX operators QuantizeLinear-25, QLinearConv-10, QLinearMatMul-21; onnxruntime, contrib
operators (QGemm, QLinearAdd, QLinearConcat, MatMulIntegerToFloat, …).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from optc.ir.ops import Trait, info
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.int8_sites import clip_bounds
from optc.passes.quantized import (
    covers,
    dequantize_before,
    params_of,
    quantize_behind,
    same_but_for_rounding,
)
from optc.passes.requantize_operators import fuse_operator
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node
    from optc.numerics.quantize import QuantParams
    from optc.passes.base import PassContext

_SCALE, _ZERO = 1, 2
_POWERS: Final = 16  # a scale that differs by more than 2^16 is no rounding of the other


class FuseRequantizeOptions(PassOptions):
    """Options of `fuse-requantize`."""

    form: Literal["qdq", "qoperator"] = Field(
        default="qdq",
        description="qoperator: operations between DequantizeLinear and QuantizeLinear become "
        "operators on integers, which only ONNX Runtime has all of",
    )


class FuseRequantize(Pass):
    """Remove clamps and quantization that change nothing; write operators on integers.

    Refuses: parameters that are not constant; a value between that is used elsewhere; a clamp that
    the integers do not make; an operation that has no operator on integers.
    """

    name: ClassVar[str] = "fuse-requantize"
    quantizes: ClassVar[bool] = True
    Options = FuseRequantizeOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Simplify until nothing changes, then write operators."""
        assert isinstance(self.options, FuseRequantizeOptions)
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            while any([_simplify(nested, node, trace) for node in nested.ordered()]):
                continue
            if self.options.form == "qoperator":
                for node in nested.ordered():
                    if node in nested:
                        fuse_operator(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals, trace.decisions)


def _simplify(graph: Graph, node: Node, trace: Trace) -> bool:
    """Apply the first rule that fits at a QuantizeLinear."""
    if node not in graph or not node.is_op("QuantizeLinear"):
        return False
    params = params_of(graph, node)
    if params is None or params.axis is not None:
        return False
    rules = (_drop_clamp, _drop_pair, _merge_pairs, _unify_scales)
    return any(rule(graph, node, params, trace) for rule in rules)


def _drop_clamp(graph: Graph, node: Node, params: QuantParams, trace: Trace) -> bool:
    """Q(Clip(x, a, b)) = Q(x)."""
    value = graph.operand(node, 0)
    clamp = None if value is None else value.node
    if value is None or clamp is None or not clamp.is_op("Relu", "Clip"):
        return False
    bounds = (0.0, math.inf) if clamp.is_op("Relu") else clip_bounds(graph, clamp)
    source = graph.operand(clamp, 0)
    if bounds is None or source is None:
        trace.refused("drop-clamp", node, f"the bounds of {clamp.label} are not constant")
        return False
    ends = params.quantize(np.array(bounds, np.float32)).tolist()
    if tuple(ends) != params.limits:
        low, high = params.interval
        reason = f"{clamp.label} cuts off more than the integers from {low:g} to {high:g} do"
        trace.refused("drop-clamp", node, reason)
        return False
    if graph.only_use(value) is None:
        trace.refused("drop-clamp", node, f"the result of {clamp.label} is used elsewhere")
        return False
    graph.set_operand(node, 0, source)
    remove_unused(graph, [clamp])
    trace.applied("drop-clamp", node)
    return True


def _drop_pair(graph: Graph, node: Node, params: QuantParams, trace: Trace) -> bool:
    """Q(DQ(q)) = q."""
    before = dequantize_before(graph, graph.operand(node, 0))
    if before is None:
        return False
    integers, known = graph.operand(before, 0), params_of(graph, before)
    if integers is None or known is None or not same_but_for_rounding(params, known):
        return False
    graph.replace_uses(node.output, integers)
    remove_unused(graph, [node])
    trace.applied("drop-pair", node)
    return True


def _merge_pairs(graph: Graph, node: Node, params: QuantParams, trace: Trace) -> bool:
    """Q2(DQ1(Q1(x))) = Q2(x)."""
    before = dequantize_before(graph, graph.operand(node, 0))
    integers = None if before is None else graph.operand(before, 0)
    if before is None or integers is None or not integers.node.is_op("QuantizeLinear"):
        return False
    first, source = params_of(graph, integers.node), graph.operand(integers.node, 0)
    if first is None or first.axis is not None or params_of(graph, before) != first:
        return False
    if not covers(first, params):
        trace.refused("merge-pairs", node, f"{integers.node.label} cuts off more than it keeps")
        return False
    graph.set_operand(node, 0, source)
    remove_unused(graph, [before])
    trace.applied("merge-pairs", node)
    return True


def _unify_scales(graph: Graph, node: Node, params: QuantParams, trace: Trace) -> bool:
    """Q2(move(DQ1(q))): let Q2 and what dequantizes behind it have the parameters of DQ1."""
    value = graph.operand(node, 0)
    move = None if value is None else value.node
    if move is None or not (info(move).has(Trait.DATA_MOVEMENT) or move.is_op("MaxPool")):
        return False
    if move.is_op("Concat", "Where") or len(move.outputs) != 1:
        return False
    before = dequantize_before(graph, graph.operand(move, 0))
    known = None if before is None else params_of(graph, before)
    if before is None or known is None or known.axis is not None or known == params:
        return False
    if quantize_behind(graph, move.output) is not node:
        return False
    behind = [use.node for use in graph.uses(node.output)]
    if not behind or not all(
        user.is_op("DequantizeLinear") and params_of(graph, user) == params for user in behind
    ):
        trace.refused("unify-scales", node, "its integers are used without their scale")
        return False
    if not _powers_apart(params, known) or not covers(params, known):
        trace.refused("unify-scales", node, f"{before.label} has an unrelated scale")
        return False
    for user in (node, *behind):
        for index in (_SCALE, _ZERO):
            graph.set_operand(user, index, graph.operand(before, index))
    trace.applied("unify-scales", node)
    return True


def _powers_apart(one: QuantParams, other: QuantParams) -> bool:
    """Whether scales differ by a power of two or by rounding only, and types are equal."""
    if one.dtype is not other.dtype:
        return False
    power = math.log2(one.scales[0] / other.scales[0])
    nearest = round(power)
    return abs(nearest) <= _POWERS and abs(power - nearest) < 2.0**-19
