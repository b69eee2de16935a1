"""Give the worst quantized operations their precision back, until an accuracy goal holds.

Operations are ranked by the signal-to-noise ratio of what they compute from rounded data and
weights. As many of the worst as it takes go back to fp32: the least number with which the result
reaches the goal on calibration data is found by bisection. Without a goal in options or recipe,
nothing is done. What reaches the goal best is kept where nothing reaches it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import numpy as np
from pydantic import Field

from optc.ir import clone
from optc.numerics.calibrate import round_significant
from optc.numerics.metrics import find_metric
from optc.passes.base import AccuracyGoal, Pass, PassOptions, PassResult
from optc.passes.layers import observe_layers, outputs_of
from optc.passes.quantized_layers import added_constant, quantized_layers, unquantized
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir import Graph, Node, Value
    from optc.numerics.observe import Observer
    from optc.numerics.values import Array
    from optc.passes.base import PassContext
    from optc.passes.layers import LayerData
    from optc.passes.quantized_layers import QuantizedLayer

_RULE: Final = "fall-back"


class FallBackOptions(PassOptions):
    """Options of `fall-back`."""

    sqnr: float | None = Field(
        default=None,
        description="signal-to-noise ratio in dB that every output has to reach on calibration "
        "data; when left out, the accuracy goals of the recipe that need no labels",
    )
    samples: Annotated[int, Field(ge=1)] = Field(
        default=16, description="samples of the calibration data to judge on, from the first on"
    )


class FallBack(Pass):
    """Bring quantized operations back to fp32 where the result is too far from the source."""

    name: ClassVar[str] = "fall-back"
    Options = FallBackOptions
    observes: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Bring back as few as the goals allow, the worst first."""
        options = self.options
        assert isinstance(options, FallBackOptions)
        goals = context.goals
        if options.sqnr is not None:
            goals = (AccuracyGoal("sqnr", options.sqnr),)
        observer, reference = context.observer, context.reference
        if observer is None or reference is None or not goals:
            return PassResult(False)
        ranked = _ranked(quantized_layers(graph, reference), observer, reference)
        if not ranked:
            return PassResult(False)
        judge = _Judge(graph, reference, observer, goals, options.samples)
        found = judge.fewest([layer.node.key for layer, _ in ranked])
        trace = Trace(self.name)
        for place, (layer, sqnr) in enumerate(ranked[: found.count]):
            restore(graph, layer.node, reference)
            trace.applied(_RULE, layer.node)
            reason = f"brought back to fp32: number {place + 1} of the least exact; {found.text}"
            figures = {"sqnr_db": sqnr, **found.figures}
            trace.decided(_RULE, layer.node, "fp32", reason, figures)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals, trace.decisions)


# ---- ranking -----------------------------------------------------------------------------------


def _ranked(
    layers: Sequence[QuantizedLayer], observer: Observer, reference: Graph
) -> list[tuple[QuantizedLayer, float]]:
    """Quantized layers with their own signal-to-noise ratio in dB, the worst first."""
    if not layers:
        return []
    before = [layer.before for layer in layers]
    data = observe_layers(observer, reference, before, FallBack.name)
    found = [
        (layer, _own_sqnr(layer, data[layer.before.node]))
        for layer in layers
        if layer.before.node in data
    ]
    return sorted(found, key=lambda item: (item[1], item[0].node.key))


def _own_sqnr(layer: QuantizedLayer, seen: LayerData) -> float:
    """Of the products of rounded rows with rounded weights."""
    rows = seen.rows
    if layer.data is not None and layer.data.axis is None:
        rows = layer.data.dequantize(layer.data.quantize(rows))
    real = outputs_of(seen.rows, layer.before.matrix).astype(np.float64)
    noise = float(np.square(outputs_of(rows, layer.matrix) - real).sum())
    signal = float(np.square(real).sum())
    return round_significant(10 * float(np.log10(signal / noise))) if signal and noise else 999.0


# ---- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verdict:
    """How many operations go back, and what that brings."""

    count: int
    text: str
    figures: Mapping[str, float]


class _Judge:
    """Measures goals on graphs in which some operations have their precision back."""

    def __init__(
        self,
        graph: Graph,
        reference: Graph,
        observer: Observer,
        goals: Sequence[AccuracyGoal],
        samples: int,
    ) -> None:
        self._graph = graph
        self._reference = reference
        self._observer = observer
        self._goals = goals
        self._samples = samples
        self._expected = list(self._outputs(reference))
        self._known: dict[int, list[float]] = {}

    def fewest(self, keys: Sequence[str]) -> _Verdict:
        """The least number of operations, the first ones of `keys`, with which the goals hold."""
        start = self._measure(keys, 0)
        if self._holds(start):
            return _Verdict(0, "", {})
        low, high = 0, len(keys)
        if not self._holds(self._measure(keys, high)):
            return self._verdict(keys, self._best(), "the goal is not reached")
        while high - low > 1:
            middle = (low + high) // 2
            if self._holds(self._measure(keys, middle)):
                high = middle
            else:
                low = middle
        return self._verdict(keys, high, "with these the goal holds on calibration data")

    def _verdict(self, keys: Sequence[str], count: int, text: str) -> _Verdict:
        goal = self._goals[0]
        before, after = self._measure(keys, 0)[0], self._measure(keys, count)[0]
        told = f"{text}: {goal.metric} {before:.4g} → {after:.4g}, goal {goal.limit:g}"
        return _Verdict(count, told, {f"{goal.metric}_before": before, f"{goal.metric}": after})

    def _best(self) -> int:
        """The number with the best value of the first goal, the least of equals."""
        sign = -1 if find_metric(self._goals[0].metric).better == "higher" else 1
        return min(sorted(self._known), key=lambda count: sign * self._known[count][0])

    def _holds(self, values: Sequence[float]) -> bool:
        pairs = zip(self._goals, values, strict=True)
        return all(find_metric(goal.metric).meets(value, goal.limit) for goal, value in pairs)

    def _measure(self, keys: Sequence[str], count: int) -> list[float]:
        if count not in self._known:
            self._known[count] = self._values(keys[:count])
        return self._known[count]

    def _values(self, keys: Sequence[str]) -> list[float]:
        trial = clone(self._graph)
        nodes = {node.key: node for node in trial.ordered()}
        for key in keys:
            restore(trial, nodes[key], self._reference)
        found = [find_metric(goal.metric).start() for goal in self._goals]
        for expected, actual in zip(self._expected, self._outputs(trial), strict=True):
            for item in found:
                item.update(expected, actual, None)
        return [round_significant(item.compute()) for item in found]

    def _outputs(self, graph: Graph) -> Iterator[dict[str, Array]]:
        """The outputs by their names, sample by sample."""
        values = {node.name: graph.operand(node, 0) for node in graph.outputs}
        tensors = {
            name: value
            for name, value in values.items()
            if value is not None and value.constant is None
        }
        samples = self._observer.observe(graph, list(tensors.values()), activity=FallBack.name)
        for number, arrays in enumerate(samples):
            if number >= self._samples:
                return
            yield {name: arrays[value.name] for name, value in tensors.items()}


# ---- restoring ---------------------------------------------------------------------------------


def restore(graph: Graph, node: Node, reference: Graph) -> None:
    """Let a quantized operation compute in fp32, with the constants of the reference."""
    known = reference.value(node.key).node
    for index, value in enumerate(graph.operands(node)):
        if value is None:
            continue
        before = reference.operand(known, index)
        if before is not None and before.constant is not None:
            _replace(graph, node, index, _copied(graph, before))
        else:
            _replace(graph, node, index, unquantized(graph, value))
    here, there = added_constant(graph, node), added_constant(reference, known)
    if here is not None and there is not None:
        old = reference.operand(*there)
        assert old is not None
        _replace(graph, *here, _copied(graph, old))


def _copied(graph: Graph, constant: Value) -> Value:
    assert constant.constant is not None
    if graph.has_value(constant.name) and graph.value(constant.name).constant is constant.constant:
        return graph.value(constant.name)
    name = graph.fresh_name(constant.name)
    return graph.add_constant(constant.constant, name, constant.node.origin)


def _replace(graph: Graph, node: Node, index: int, new: Value) -> None:
    old = graph.operand(node, index)
    graph.set_operand(node, index, new)
    if old is not None and old is not new:
        remove_unused(graph, [old.node])
