"""Remove operations that change nothing, and look through those that a consumer makes pointless.

No-ops: `optc.passes.identities.NO_OPS` lists them, from Identity and inference Dropout to Slice of
everything and Mul by 1. Their consumers read the operand instead.

Shortcuts, where the consumer stays and reads from further up:

    Cast(Cast(x, B), C)       = Cast(x, C)       B holds every value of x exactly
    Reshape(view(x), shape)   = Reshape(x, shape)      view: Reshape, Flatten, Squeeze, Unsqueeze

Source: ONNX operators Cast-25, Reshape-25, and those named in `optc.passes.identities`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from optc.ir import DType, Kind, TensorType, dims
from optc.passes.base import Pass, PassResult
from optc.passes.identities import NO_OPS, VIEWS, Facts, cast_type
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.identities import Verdict


class RemoveIdentity(Pass):
    """Remove no-ops and shortcuts around conversions that lose nothing.

    Refuses: an Identity between a graph input, a constant or a captured value and a graph output,
    or between two outputs (ONNX cannot express these without an Identity); an optional second
    result that is used (mask, indices); a constant that may broadcast the other operand; bounds,
    modes and casts that are not exact. Anything that depends on an unknown shape is no match.
    """

    name = "remove-identity"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """One sweep per graph in order of execution: operands are simplified before their users."""
        trace = Trace(self.name)
        changed = False
        for nested in tuple(graph.walk()):
            changed |= _Sweep(nested, trace).run()
        return PassResult(changed, trace.counts, trace.refusals)


class _Sweep:
    def __init__(self, graph: Graph, trace: Trace) -> None:
        self.graph = graph
        self.trace = trace
        self.facts = Facts(graph)
        self.feeds = Counter(graph.operand(node, 0) for node in graph.outputs)

    def run(self) -> bool:
        changed = False
        for node in self.graph.ordered():
            if node not in self.graph or node.domain or node.overload:
                continue
            while node.op_type in _SHORTCUTS and self._shorten(node):
                changed = True
            if node.op_type in NO_OPS:
                changed |= self._visit(node)
        return changed

    def _visit(self, node: Node) -> bool:
        rule, predicate = NO_OPS[node.op_type]
        found = predicate(self.facts, node)
        if found is None:
            return False
        if not isinstance(found, str):
            found = self._used_extra(node) or found
        if isinstance(found, str):
            self.trace.refused(rule, node, found)
            return False
        if node.op_type == "Identity" and (reason := self._is_needed(node, found)):
            self.trace.refused(rule, node, reason)
            return self._bypass(node, found)
        self._replace(node, found)
        self.trace.applied(rule, node)
        return True

    def _used_extra(self, node: Node) -> str | None:
        """The complaint about a second result (mask, indices) that something uses."""
        for value in node.outputs[1:]:
            if value is not None and self.graph.is_used(value):
                return f"its result {value.name} is used"
        return None

    def _is_needed(self, node: Node, source: Value) -> str | None:
        """Why the emitter would have to put this Identity back, or None."""
        if not self.feeds[node.output]:
            return None
        if source.node.kind is not Kind.OP:
            kind = {Kind.INPUT: "graph input", Kind.CAPTURE: "captured value"}
            return f"it makes the {kind.get(source.node.kind, 'constant')} {source.name} an output"
        if self.feeds[source]:
            return f"it makes a second output of {source.name}"
        return None

    def _bypass(self, node: Node, source: Value) -> bool:
        """Let everything but the outputs read the operand of an Identity that stays."""
        uses = [use for use in self.graph.uses(node.output) if use.node.kind is not Kind.OUTPUT]
        for use in uses:
            self.graph.set_operand(use.node, use.key, source)
        if uses:
            self.trace.counts["bypass-identity"] = self.trace.counts.get("bypass-identity", 0) + 1
        return bool(uses)

    def _replace(self, node: Node, source: Value) -> None:
        result = node.output
        self.graph.replace_uses(result, source)
        self.feeds[source] += self.feeds.pop(result, 0)
        if source.type is None:
            self.graph.set_type(source, result.type)
        self._remove(node)

    def _remove(self, node: Node) -> None:
        for gone in remove_unused(self.graph, [node]):
            self.trace.forget(gone)

    def _shorten(self, node: Node) -> bool:
        rule, inner_ops, predicate = _SHORTCUTS[node.op_type]
        inner = self.facts.operand(node).node
        if not inner.is_op(*inner_ops):
            return False
        found = predicate(self.facts, node, inner)
        if found is None or isinstance(found, str):
            if found is not None:
                self.trace.refused(rule, node, found)
            return False
        self.graph.set_operand(node, 0, found)
        self._remove(inner)
        self.trace.applied(rule, node)
        return True


# ---- shortcuts ---------------------------------------------------------------------------------


def _cast_shortcut(facts: Facts, node: Node, inner: Node) -> Verdict:
    value = facts.operand(inner)
    if not isinstance(value.type, TensorType):
        return None
    source = value.type.dtype
    middle, target = (cast_type(facts, item) for item in (inner, node))
    if not _holds(middle, source):
        return f"{middle.value} does not hold every value of {source.value}"
    return value if _converts_alike(source, middle, target) else None


def _converts_alike(source: DType, middle: DType, target: DType) -> bool:
    """Whether a value converts to `target` from either of two types that hold it exactly."""
    if target is source or target is DType.BOOL or target.is_float:
        return True
    # A float that becomes an integer may be out of range, where the source type decides.
    if not target.is_integer or source.is_float:
        return False
    return source is DType.BOOL or middle.is_integer or _holds(target, source)


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether every value of `narrow` is one of `wide`."""
    if wide is narrow:
        return wide is not DType.UNDEFINED
    if narrow is DType.BOOL:
        return wide in _DIGITS or (wide.is_integer and wide.bits >= 8)
    if narrow.is_integer and wide in _DIGITS:
        digits = narrow.bits if narrow.value[0] == "u" else narrow.bits - 1
        return digits <= _DIGITS[wide]
    if narrow.is_integer and wide.is_integer:
        unsigned = narrow.value[0] == "u"
        if unsigned == (wide.value[0] == "u"):
            return wide.bits > narrow.bits
        return unsigned and wide.bits > narrow.bits
    return (narrow, wide) in _WIDER


_DIGITS: Final = {DType.F16: 11, DType.BF16: 8, DType.F32: 24, DType.F64: 53}
"""Bits of the significand: integers up to two to that power are exact."""

_WIDER: Final = frozenset(
    {
        (DType.F16, DType.F32),
        (DType.F16, DType.F64),
        (DType.BF16, DType.F32),
        (DType.BF16, DType.F64),
        (DType.F32, DType.F64),
    }
)


def _reshape_shortcut(facts: Facts, node: Node, inner: Node) -> Verdict:
    target = facts.integers(node, 1)
    if target is None:
        return f"the new shape {facts.operand(node, 1).name} is not constant"
    value = facts.operand(inner)
    if 0 not in target or facts.attribute(node, "allowzero"):
        return value
    before, after = facts.shape(value) or (), facts.shape(inner.output) or ()
    for i, dim in enumerate(target):
        if dim == 0 and not (i < min(len(before), len(after)) and dims.equal(before[i], after[i])):
            return f"the new shape copies dimension {i}, which {inner.label} may have changed"
    return value


_SHORTCUTS: Final[
    Mapping[str, tuple[str, tuple[str, ...], Callable[[Facts, Node, Node], Verdict]]]
] = {
    "Cast": ("cast-of-cast", ("Cast",), _cast_shortcut),
    "Reshape": ("reshape-of-view", VIEWS, _reshape_shortcut),
}
"""Rule name, operators that may be looked through, and predicate, by operator."""
