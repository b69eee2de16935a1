"""Write out loops of a few trips.

    Loop(M, true, v) {v -> f(i, v), s(i, v)} = f(M-1, … f(1, f(0, v))), Concat(s(0, v), s(1, …), …)

Every trip gets a copy of the body with its number as a constant, carried values go from copy to
copy, and scan outputs become Unsqueeze and one Concat. A Loop of no trips gives what is carried.
A Scan is the same, with Gather for the part of a scan input that a trip reads; its axes and
directions are honoured. Symbols in the types of a body stand for another size in each trip: only
sizes that are numbers are kept, `infer-shapes` finds the rest.

After this, folding and fusing see through the loop, and a runtime has no subgraph to call. PyTorch
writes a Loop where a scripted ``for`` runs over a size (``range(x.size(0))``), which is constant
once `fold-shapes` knows the size.

Source: ONNX operators Loop-1 to Loop-25, Scan-9 to Scan-25. The condition is looked at before each
trip, and once more with what the body gives for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import Field

from optc.ir import DType, Tensor, TensorType, ops
from optc.ir.inline import Inliner
from optc.ir.shape_site import normal_axis
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.control import Scope, put_in, sweep
from optc.rewrite.driver import Builder
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_LOOP, _SCAN = "loop", "scan"
_AXES_OPERAND: Final = 13  # since this opset the axes of Unsqueeze are an operand
_NEGATIVE_AXES: Final = 11


class UnrollLoopsOptions(PassOptions):
    """Options of `unroll-loops`."""

    max_trips: int = Field(default=8, ge=0, description="trips up to which a loop is written out")
    max_nodes: int = Field(
        default=256, ge=0, description="operations that a written-out loop may have, all trips"
    )


class UnrollLoops(Pass):
    """Write out Loop and Scan with a constant number of trips.

    Refuses: a number of trips that is not constant, or above `max_trips`; more than `max_nodes`
    operations; a condition that the body computes; random operations in the body, whose copies
    would draw the same numbers; no trips where a scan output has no static shape; Scan before
    opset 9, or over an axis without a static size.
    """

    name = "unroll-loops"
    Options = UnrollLoopsOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Write out the loops of the graph and of all its subgraphs, inner ones first."""
        del context
        assert isinstance(self.options, UnrollLoopsOptions)
        trace = Trace(self.name)
        sweep(Scope(graph), _Unroller(trace, self.options).visit)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Unroller:
    def __init__(self, trace: Trace, options: UnrollLoopsOptions) -> None:
        self.trace = trace
        self.options = options

    def visit(self, scope: Scope, node: Node) -> bool:
        """Write out what is inside of an operation, then the operation itself."""
        for _, body in node.subgraphs():
            sweep(scope.inside(node, body), self.visit)
        if node.is_op("Loop"):
            return self._write_out(scope, node, _loop_trips(scope, node), _LOOP)
        if node.is_op("Scan"):
            return self._write_out(scope, node, _scan_trips(scope.graph, node), _SCAN)
        return False

    def _write_out(self, scope: Scope, node: Node, trips: int | str, rule: str) -> bool:
        reason = trips if isinstance(trips, str) else self._refusal(scope.graph, node, trips)
        if isinstance(trips, str) or reason is not None:
            self.trace.refused(rule, node, reason or "")
            return False
        body: Graph = node.get("body")
        inliner = Inliner(scope.graph, node, body, self.trace.pass_name)
        build = Builder(scope.graph, self.trace.pass_name, (node,))
        write = _loop_results if rule == _LOOP else _scan_results
        values = write(node, body, inliner, build, trips)
        inliner.made += build.made
        put_in(scope.graph, node, values, inliner, self.trace, rule)
        return True

    def _refusal(self, graph: Graph, node: Node, trips: int) -> str | None:
        """Why a loop of so many trips is not written out, or None."""
        body: Graph = node.get("body")
        size = trips * sum(len(inner) for inner in body.walk())
        if trips > self.options.max_trips:
            return f"{trips} trips; max_trips allows {self.options.max_trips}"
        if size > self.options.max_nodes:
            return f"{size} operations in {trips} trips; max_nodes allows {self.options.max_nodes}"
        for inner in body.nodes():
            if trips > 1 and not ops.is_deterministic(body, inner):
                return f"{inner.label} in the body may give another result on each run"
        if trips == 0:
            for value in node.outputs[_carried(graph, node) :]:
                if value is not None and _empty(value) is None:
                    return f"no trips, and the shape of the scan output {value.name} is not known"
        return None


# ---- writing -----------------------------------------------------------------------------------


def _loop_results(
    node: Node, body: Graph, inliner: Inliner, build: Builder, trips: int
) -> list[Value | None]:
    """What a Loop gives after so many copies of its body."""
    carried = [value for value in build.graph.operands(node)[2:] if value is not None]
    count = len(carried)
    rows: list[list[Value]] = []
    for trip in range(trips):
        first = [_trip_number(build, body, trip), _condition(build, body)]
        results = inliner.copy(
            [*first, *carried], skip=1, suffix=_suffix(trip, trips), repeated=True
        )
        carried, row = results[:count], results[count:]
        rows.append(row)
    stacked = (
        _stack(build, [row[index] for row in rows], value, 0)
        for index, value in enumerate(node.outputs[count:])
    )
    return [*carried, *stacked]


def _scan_results(
    node: Node, body: Graph, inliner: Inliner, build: Builder, trips: int
) -> list[Value | None]:
    """What a Scan gives after so many copies of its body."""
    operands = [value for value in build.graph.operands(node) if value is not None]
    count = _carried(build.graph, node)
    carried, sources = operands[:count], operands[count:]
    axes = _ints(node, "scan_input_axes", len(sources))
    backward = _ints(node, "scan_input_directions", len(sources))
    rows: list[list[Value]] = []
    for trip in range(trips):
        parts = []
        for source, axis, back in zip(sources, axes, backward, strict=True):
            place = build.constant(np.int64(trips - 1 - trip if back else trip), name="index")
            parts.append(build.Gather(source, place, axis=axis))
        results = inliner.copy([*carried, *parts], suffix=_suffix(trip, trips), repeated=True)
        carried, row = results[:count], results[count:]
        rows.append(row)
    outputs = node.outputs[count:]
    out_axes = _ints(node, "scan_output_axes", len(outputs))
    reverse = _ints(node, "scan_output_directions", len(outputs))
    stacked = (
        _stack(build, [row[i] for row in (rows[::-1] if reverse[i] else rows)], value, axis)
        for i, (value, axis) in enumerate(zip(outputs, out_axes, strict=True))
    )
    return [*carried, *stacked]


def _suffix(trip: int, trips: int) -> str:
    return f"_{trip}" if trips > 1 else ""


def _carried(graph: Graph, node: Node) -> int:
    """How many of the results of a loop are carried values."""
    others = 2 if node.is_op("Loop") else int(node.get("num_scan_inputs"))
    return max(0, len(graph.operands(node)) - others)


# ---- how many trips ----------------------------------------------------------------------------


def _loop_trips(scope: Scope, node: Node) -> int | str:
    """The number of trips of a Loop, or why it is not known."""
    graph, body = scope.graph, node.get("body")
    most, start = graph.operand(node, 0), graph.operand(node, 1)
    limit = scope.number(most)
    begins = True if start is None else scope.flag(start)
    if (limit is not None and limit <= 0) or begins is False:
        return 0
    if most is not None and limit is None:
        return f"the number of trips is {most.name}, which is not constant"
    if begins is None:
        return f"the condition to begin is {start and start.name}, which is not constant"
    after = body.operand(body.outputs[0], 0)
    assert after is not None
    goes_on = True if _passes_through(body, after) else scope.inside(node, body).flag(after)
    if goes_on is False:
        return 1
    if goes_on is None:
        return f"the body computes the condition to go on, {after.name}"
    return "nothing ends it" if limit is None else limit


def _passes_through(body: Graph, value: Value) -> bool:
    while value.node.is_op("Identity"):
        operand = body.operand(value.node, 0)
        assert operand is not None
        value = operand
    return value is body.inputs[1]


def _scan_trips(graph: Graph, node: Node) -> int | str:
    """The number of trips of a Scan, or why it is not known."""
    if graph.opset < 9:
        return f"Scan of opset {graph.opset} works on batches"
    scanned = int(node.get("num_scan_inputs"))
    operands = [v for v in graph.operands(node) if v is not None]
    found: set[int] = set()
    for value, axis in zip(
        operands[-scanned:], _ints(node, "scan_input_axes", scanned), strict=True
    ):
        shape = value.type.shape if isinstance(value.type, TensorType) else None
        place = None if shape is None else normal_axis(axis, len(shape))
        size = None if shape is None or place is None else shape[place]
        if not isinstance(size, int):
            return f"the size of {value.name} along axis {axis} is not static"
        found.add(size)
    if len(found) != 1:
        return "the scan inputs have different lengths"
    if 0 in found:
        return "the scan inputs are empty"
    outputs = len(node.outputs) - (len(operands) - scanned)
    axes = [*_ints(node, "scan_input_axes", scanned), *_ints(node, "scan_output_axes", outputs)]
    if min(axes) < 0 and graph.opset < _NEGATIVE_AXES:
        return f"a negative axis, which Unsqueeze of opset {graph.opset} does not have"
    return found.pop()


def _ints(node: Node, name: str, count: int) -> list[int]:
    return [int(item) for item in node.get(name) or [0] * count]


# ---- values ------------------------------------------------------------------------------------


def _trip_number(build: Builder, body: Graph, trip: int) -> Value | None:
    """The number of a trip as the body declares it: a scalar, or one element."""
    formal = body.inputs[0]
    if not body.is_used(formal):
        return None
    return build.constant(np.full(_ones(formal), trip, dtype=np.int64), name=formal.name)


def _condition(build: Builder, body: Graph) -> Value | None:
    """The condition as the body declares it; it is true in every trip."""
    formal = body.inputs[1]
    if all(use.node is body.outputs[0] for use in body.uses(formal)):
        return None
    return build.constant(np.full(_ones(formal), True), name=formal.name)


def _ones(formal: Value) -> list[int]:
    """The shape of one element with the declared number of axes."""
    shape = formal.type.shape if isinstance(formal.type, TensorType) else None
    return [1] * len(shape or ())


def _stack(build: Builder, rows: Sequence[Value], result: Value | None, axis: int) -> Value | None:
    """What a loop gives for a scan output, from that of each trip."""
    if result is None:
        return None
    if not rows:
        empty = _empty(result)
        assert empty is not None
        return build.constant(empty, name=result.name)
    parts = [_unsqueeze(build, row, axis) for row in rows]
    return parts[0] if len(parts) == 1 else build.Concat(*parts, axis=axis)


def _unsqueeze(build: Builder, value: Value, axis: int) -> Value:
    if build.graph.opset < _AXES_OPERAND:
        return build.Unsqueeze(value, axes=[axis])
    return build.Unsqueeze(value, build.constant([axis], dtype=DType.I64, name="axes"))


def _empty(value: Value) -> Tensor | None:
    """What a scan output is after no trips; None when its shape is not known."""
    type_ = value.type
    if not isinstance(type_, TensorType) or not type_.shape or type_.dtype is DType.STRING:
        return None
    sizes = [dim for dim in type_.shape[1:] if isinstance(dim, int)]
    if len(sizes) < len(type_.shape) - 1 or type_.dtype.bits < 8:
        return None
    return Tensor.from_numpy(np.zeros([0, *sizes], dtype=type_.dtype.numpy), type_.dtype)
