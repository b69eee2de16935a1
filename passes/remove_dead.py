"""Remove what no graph output depends on.

Operations whose results nothing uses, constants without a use, values that a subgraph captures
without using them, optional outputs that nothing uses, and model-local functions that nothing
calls; inside If, Loop and Scan as well. Graph inputs and outputs stay: they are the interface.
ONNX operators have no side effects, so an unused random operation goes like any other.
Source: ONNX IR specification, "Graphs"; ONNX operator pages for which outputs are optional.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir import Kind, ops
from optc.passes.base import Pass, PassResult
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULES = {
    Kind.OP: "dead-operation",
    Kind.CONSTANT: "dead-constant",
    Kind.CAPTURE: "dead-capture",
}
_PAIR = (1, 2)  # results that come together: keys and values, mean and variance


class RemoveDead(Pass):
    """Remove dead code in the model, its subgraphs and its list of functions.

    Refuses an unused optional output where its presence selects what the operator does: the
    statistics of BatchNormalization in training mode, and the cache of Attention.
    """

    name = "remove-dead"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """One sweep against the order of execution per graph, then the functions."""
        trace = Trace(self.name)
        _sweep(graph, trace)
        changed = bool(trace.counts)
        counts = dict(trace.counts)
        if unreachable := _drop_functions(graph):
            changed, counts["dead-function"] = True, unreachable
        return PassResult(changed, counts, trace.refusals)


def _sweep(graph: Graph, trace: Trace) -> None:
    for node in reversed(graph.ordered()):
        # Consumers went first, so what has a use now is alive.
        if not any(value is not None and graph.is_used(value) for value in node.outputs):
            _remove(graph, node, trace)
            continue
        for _, inner in node.subgraphs():
            _sweep(inner, trace)
        _drop_captures(graph, node)
        _drop_outputs(graph, node, trace)
    for node in graph.nodes(Kind.CONSTANT, Kind.CAPTURE):
        if not graph.is_used(node.output):
            _remove(graph, node, trace)


def _remove(graph: Graph, node: Node, trace: Trace) -> None:
    graph.remove(node)
    trace.forget(node)
    trace.applied(_RULES[node.kind], node)


def _drop_captures(graph: Graph, owner: Node) -> None:
    """Give up the captures that none of the owner's subgraphs has any more."""
    inner = {
        node.name for _, subgraph in owner.subgraphs() for node in subgraph.nodes(Kind.CAPTURE)
    }
    for name in graph.captures(owner):
        if name not in inner:
            graph.set_operand(owner, name, None)


def _drop_outputs(graph: Graph, node: Node, trace: Trace) -> None:
    unused = [value for value in node.outputs if value is not None and not graph.is_used(value)]
    for value in unused:
        if not _is_optional(graph, node, value):
            continue
        if reason := _selects(graph, node, value):
            trace.refused("dead-output", node, reason)
            continue
        graph.drop_output(value)
        trace.applied("dead-output", node)


def _is_optional(graph: Graph, node: Node, value: Value) -> bool:
    schema = ops.schema(node.op_type, node.domain, graph.opsets.get(node.domain, 0))
    if schema is None or value.index >= len(schema.outputs):
        return False
    return bool(schema.outputs[value.index].option == schema.FormalParameterOption.Optional)


def _selects(graph: Graph, node: Node, value: Value) -> str | None:
    """Why the presence of an optional output matters though nothing uses it, or None."""
    if node.is_op("BatchNormalization"):
        if graph.opset < 14:
            return f"{value.name} makes this the training form (opset {graph.opset} < 14)"
        if ops.attribute(graph, node, "training_mode"):
            return f"training_mode is on, which needs {value.name}"
    if node.is_op("Attention") and value.index in _PAIR and graph.operand(node, 4) is not None:
        return f"{value.name} belongs to the operand past_key"
    if node.is_op("Attention", "BatchNormalization") and value.index in _PAIR:
        other = node.outputs[3 - value.index] if len(node.outputs) > 2 else None
        if other is not None and graph.is_used(other):
            return f"{value.name} belongs to {other.name}, which is used"
    return None


def _drop_functions(graph: Graph) -> int:
    """Drop the functions that no call reaches; how many."""
    functions = graph.model.functions
    called: set[tuple[str, str, str]] = set()
    waiting = [graph] if functions else []
    while waiting:
        for inner in waiting.pop().walk():
            for node in inner.nodes():
                key = (node.domain, node.op_type, node.overload)
                if key in functions and key not in called:
                    called.add(key)
                    waiting.append(functions[key].body)
    dead = [key for key in functions if key not in called]
    for key in dead:
        del functions[key]
    return len(dead)
