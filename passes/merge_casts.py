"""Merge Casts that follow each other.

    Cast(Cast(x, B), C)  =  Cast(x, C)       B holds every number of the type of x
    Cast(Cast(x, B), A)  =  x                A is the type of x

A Cast to a type that does not hold every number rounds or wraps, and stays: ``f32 -> bf16 -> f32``
is a rounding that somebody may want.
Source: ONNX operator Cast-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from optc.ir import DType, TensorType
from optc.passes.base import Pass, PassResult
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "cast-cast"
_FLOATS: Final = {  # bits of the significand, with the hidden one, and of the exponent
    DType.BF16: (8, 8),
    DType.F16: (11, 5),
    DType.F32: (24, 8),
    DType.F64: (53, 11),
}
_INTEGERS: Final = {  # bits of the magnitude, and whether there is a sign
    DType.BOOL: (1, False),
    DType.U8: (8, False),
    DType.U16: (16, False),
    DType.U32: (32, False),
    DType.U64: (64, False),
    DType.I8: (7, True),
    DType.I16: (15, True),
    DType.I32: (31, True),
    DType.I64: (63, True),
}


class MergeCasts(Pass):
    """Convert once what is converted twice.

    Refuses: a type between that does not hold every number of the first; the result of the first
    Cast stays where something else uses it.
    """

    name: ClassVar[str] = "merge-casts"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Merge in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and node.is_op("Cast"):
                    _merge(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _merge(graph: Graph, node: Node, trace: Trace) -> None:
    middle = graph.operand(node, 0)
    if middle is None or not middle.node.is_op("Cast") or middle.node not in graph:
        return
    source = graph.operand(middle.node, 0)
    types = [_dtype(value) for value in (source, middle, node.output)]
    first, between, last = types
    if source is None or first is None or between is None or last is None:
        return
    if not holds(between, first):
        reason = f"{between.value} does not hold every {first.value} that {middle.node.label} gets"
        trace.refused(_RULE, node, reason)
        return
    build = Builder(graph, trace.pass_name, (node, middle.node))
    if first is last:
        if graph.is_output(node.output) and source.node.kind.value == "input":
            trace.refused(_RULE, node, f"input {source.name} would be the output itself")
            return
        made = source
    else:
        made = build.node("Cast", [source], like=node).output
    trace.applied(_RULE, node)
    for gone in replace_node(graph, node, [made], build.made):
        trace.forget(gone)


def holds(wide: DType, narrow: DType) -> bool:
    """Whether a type has every number of another one, so that converting to it and on is exact."""
    if wide is narrow:
        return True
    if narrow in _INTEGERS:
        bits, signed = _INTEGERS[narrow]
        if wide in _FLOATS:
            return bits <= _FLOATS[wide][0] and bits < 2 ** (_FLOATS[wide][1] - 1)
        if wide in _INTEGERS and wide is not DType.BOOL:
            room, wide_signed = _INTEGERS[wide]
            return bits <= room and (wide_signed or not signed)
        return False
    if narrow in _FLOATS and wide in _FLOATS:
        return all(a >= b for a, b in zip(_FLOATS[wide], _FLOATS[narrow], strict=True))
    return False


def _dtype(value: Value | None) -> DType | None:
    return value.type.dtype if value is not None and isinstance(value.type, TensorType) else None
