"""Give the worst quantized operations their precision back, until an accuracy goal holds.

Operations are ranked by the signal-to-noise ratio of what they compute from rounded data and
weights. As many of the worst as it takes go back to fp32: the least number with which the result
reaches the goal on calibration data is found by bisection. What reaches the goal best is kept where
nothing reaches it. Without a goal in options or recipe, every output has to keep what so many
roundings leave at least (`optc.numerics.quantization_noise`), which is what the result is verified
against, and 3 dB more: other samples may have twice the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from optc.ir import clone
from optc.numerics.metrics import find_metric
from optc.numerics.quantization_noise import floor, roundings
from optc.passes.base import AccuracyGoal, Pass, PassResult
from optc.passes.judging import Judge, JudgedOptions
from optc.passes.layers import decibels, energy, observe_layers, outputs_of
from optc.passes.quantized_layers import (
    added_constant,
    quantized_layers,
    remove_idle_pairs,
    unquantized,
)
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Graph, Node, Value
    from optc.numerics.observe import Observer
    from optc.passes.base import PassContext
    from optc.passes.layers import LayerData
    from optc.passes.quantized_layers import QuantizedLayer

_RULE: Final = "fall-back"
_NO_GOAL: Final = AccuracyGoal("sqnr", 0.0)  # the limit is that of the graph
_MARGIN: Final = 3.0  # dB


class FallBackOptions(JudgedOptions):
    """Options of `fall-back`."""

    sqnr: float | None = Field(
        default=None,
        description="signal-to-noise ratio in dB that every output has to reach on calibration "
        "data; when left out, the accuracy goals of the recipe that need no labels; without any, "
        "what so many roundings leave at least",
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
        goals = tuple(g for g in context.goals if not find_metric(g.metric).needs_labels)
        if options.sqnr is not None:
            goals = (AccuracyGoal("sqnr", options.sqnr),)
        observer, reference = context.observer, context.reference
        if observer is None or reference is None:
            return PassResult(False)
        ranked = _ranked(quantized_layers(graph, reference), observer, reference)
        if not ranked:
            return PassResult(False)
        judge = Judge(reference, observer, goals or (_NO_GOAL,), options.samples, self.name)
        keys = [layer.node.key for layer, _ in ranked]
        found = _Search(graph, reference, judge, goals).fewest(keys)
        trace = Trace(self.name)
        bring_back(graph, keys[: found.count], reference)
        for place, (layer, sqnr) in enumerate(ranked[: found.count]):
            trace.applied(_RULE, layer.node)
            reason = f"brought back to fp32: number {place + 1} of the least exact; {found.text}"
            figures = {"sqnr_db": sqnr, **found.figures}
            trace.decided(_RULE, layer.node, "fp32", reason, figures)
        lost = 0 < found.count == len(keys)
        warning = f"all {found.count} quantized operations went back to fp32: {found.text}"
        return PassResult(
            bool(trace.counts),
            trace.counts,
            trace.refusals,
            trace.decisions,
            warnings=(warning,) if lost else (),
        )


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
    real = outputs_of(seen.rows, layer.before.matrix)
    return decibels(energy(real), energy(layer.error(seen.rows)))


# ---- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verdict:
    """How many operations go back, and what that brings."""

    count: int
    text: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class _Measured:
    """The value of the first goal's metric, what it has to be, and whether all goals hold."""

    value: float
    limit: float
    holds: bool


class _Search:
    """Looks for the number of operations that have to go back."""

    def __init__(
        self, graph: Graph, reference: Graph, judge: Judge, goals: Sequence[AccuracyGoal]
    ) -> None:
        self._graph = graph
        self._reference = reference
        self._judge = judge
        self._goals = goals
        self._known: dict[int, _Measured] = {}

    def fewest(self, keys: Sequence[str]) -> _Verdict:
        """The least number of operations, the first ones of `keys`, with which the goals hold."""
        if self._measure(keys, 0).holds:
            return _Verdict(0, "", {})
        low, high = 0, len(keys)
        if not self._measure(keys, high).holds:
            return self._verdict(keys, self._best(), "the goal is not reached")
        while high - low > 1:
            middle = (low + high) // 2
            if self._measure(keys, middle).holds:
                high = middle
            else:
                low = middle
        return self._verdict(keys, high, "with these the goal holds on calibration data")

    @property
    def _metric(self) -> str:
        return self._goals[0].metric if self._goals else _NO_GOAL.metric

    def _verdict(self, keys: Sequence[str], count: int, text: str) -> _Verdict:
        before, after = self._measure(keys, 0), self._measure(keys, count)
        values = f"{before.value:.4g} → {after.value:.4g}, goal {after.limit:.4g}"
        figures = {f"{self._metric}_before": before.value, self._metric: after.value}
        return _Verdict(count, f"{text}: {self._metric} {values}", figures)

    def _best(self) -> int:
        """The number with the best value of the first goal, the least of equals."""
        sign = -1 if find_metric(self._metric).better == "higher" else 1
        return min(sorted(self._known), key=lambda count: sign * self._known[count].value)

    def _measure(self, keys: Sequence[str], count: int) -> _Measured:
        if count not in self._known:
            trial = clone(self._graph)
            bring_back(trial, keys[:count], self._reference)
            values = self._judge.measure(trial)
            if self._goals:
                made = _Measured(values[0], self._goals[0].limit, self._judge.holds(values))
            else:
                # Fewer roundings leave more, so the limit belongs to the graph.
                limit = floor(max(roundings(trial).values(), default=0)) + _MARGIN
                made = _Measured(values[0], limit, values[0] >= limit)
            self._known[count] = made
        return self._known[count]


# ---- restoring ---------------------------------------------------------------------------------


def bring_back(graph: Graph, keys: Sequence[str], reference: Graph) -> None:
    """Let operations, by their keys, compute in fp32; remove quantization that this leaves idle."""
    nodes = {node.key: node for node in graph.ordered()}
    for key in keys:
        _restore(graph, nodes[key], reference)
    if keys:
        remove_idle_pairs(graph)


def _restore(graph: Graph, node: Node, reference: Graph) -> None:
    """With the constants of the reference."""
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
