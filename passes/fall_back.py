"""Give the worst quantized operations their precision back, until an accuracy goal holds.

Operations are ranked by the signal-to-noise ratio of what they compute from rounded data and
weights. As many of the worst as it takes go back to fp32: the least number with which the result
reaches the goal on calibration data is found by bisection. What an operation rounds need not reach
the outputs, so those of them without which the goal holds as well stay on integers after all: they
are tried in halves, quarters and so on down to single ones, those with most multiply-adds first.
What reaches the goal best is kept where nothing reaches it. Without a goal in options or recipe,
every output has to keep what so many roundings leave at least (`optc.numerics.quantization_noise`),
which is what the result is verified against, and 3 dB more: other samples may have twice the noise.

A product on integers whose kernel gives integers alone keeps the pair behind it, also where all
that uses its result went back to fp32. Source of the order of trials: Zeller and Hildebrandt,
Simplifying and Isolating Failure-Inducing Input, 2002 (ddmin).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from optc.ir import clone
from optc.ir.cost import macs
from optc.numerics.metrics import find_metric
from optc.numerics.quantization_noise import floor, roundings
from optc.numerics.timing import sized
from optc.passes.base import AccuracyGoal, Pass, PassResult
from optc.passes.int8_static import observed_sizes
from optc.passes.judging import Judge, JudgedOptions
from optc.passes.layers import decibels, energy, observe_layers, outputs_of
from optc.passes.quantized_layers import quantized_layers
from optc.passes.restoring import Restorer
from optc.rewrite.trace import Trace
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir import Graph
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
    trials: int = Field(
        default=24,
        ge=0,
        description="how often the outputs may be measured to find operations that need not go "
        "back though others do; 0: as many of the least exact as it takes go back",
    )


class FallBack(Pass):
    """Bring quantized operations back to fp32 where the result is too far from the source."""

    name: ClassVar[str] = "fall-back"
    Options = FallBackOptions
    asks_target: ClassVar[bool] = True
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
        restorer = Restorer(
            reference, shipped_kernels(context.runtime), context.described.capabilities
        )
        search = _Search(graph, restorer, judge, goals)
        found = search.fewest(keys, options.trials, lambda: _work(graph, keys, observer))
        trace = Trace(self.name)
        restorer.bring_back(graph, found.keys)
        for place, (layer, sqnr) in enumerate(ranked):
            if layer.node.key not in found.keys:
                continue
            trace.applied(_RULE, layer.node)
            reason = f"brought back to fp32: number {place + 1} of the least exact; {found.text}"
            figures = {"sqnr_db": sqnr, **found.figures}
            trace.decided(_RULE, layer.node, "fp32", reason, figures)
        lost = 0 < len(found.keys) == len(keys)
        warning = f"all {len(keys)} quantized operations went back to fp32: {found.text}"
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


def _work(graph: Graph, keys: Sequence[str], observer: Observer) -> dict[str, int]:
    """Multiply-adds of operations on the first sample; 0 where they are not known."""
    sizes, nodes = observed_sizes(graph, observer), {node.key: node for node in graph.ordered()}
    found: dict[str, int] = {}
    for key in keys:
        with sized(graph, nodes[key], sizes):
            found[key] = macs(graph, nodes[key]) or 0
    return found


# ---- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Verdict:
    """Which operations go back, and what that brings."""

    keys: tuple[str, ...]
    text: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class _Measured:
    """The value of the first goal's metric, what it has to be, and whether all goals hold."""

    value: float
    limit: float
    holds: bool


class _Search:
    """Looks for the operations that have to go back."""

    def __init__(
        self, graph: Graph, restorer: Restorer, judge: Judge, goals: Sequence[AccuracyGoal]
    ) -> None:
        self._graph = graph
        self._restorer = restorer
        self._judge = judge
        self._goals = goals
        self._known: dict[tuple[str, ...], _Measured] = {}

    def fewest(
        self, keys: Sequence[str], trials: int, work: Callable[[], Mapping[str, int]]
    ) -> _Verdict:
        """Few operations with which the goals hold: the first ones of `keys`, but for some.

        Args:
            keys: operations, the least exact first.
            trials: how often may be measured to leave some out.
            work: gives the multiply-adds of each; those with most are to be left out first.
        """
        if self._measure(()).holds:
            return _Verdict((), "", {})
        low, high = 0, len(keys)
        if not self._measure(keys).holds:
            return self._verdict(self._best(), "the goal is not reached")
        while high - low > 1:
            middle = (low + high) // 2
            if self._measure(keys[:middle]).holds:
                high = middle
            else:
                low = middle
        needed = keys[:high]
        if trials and high > 1:
            sizes = work()
            needed = self._spared(sorted(needed, key=lambda key: (-sizes[key], key)), trials)
        return self._verdict(needed, "with these the goal holds on calibration data")

    def _spared(self, keys: Sequence[str], trials: int) -> Sequence[str]:
        """Without operations that the goals hold without as well."""
        size = len(keys) // 2
        while size:
            start = 0
            while start < len(keys):
                if not trials:
                    return keys
                trials -= 1
                fewer = [*keys[:start], *keys[start + size :]]
                if fewer and self._measure(fewer).holds:
                    keys = fewer
                else:
                    start += size
            size //= 2
        return keys

    @property
    def _metric(self) -> str:
        return self._goals[0].metric if self._goals else _NO_GOAL.metric

    def _verdict(self, keys: Sequence[str], text: str) -> _Verdict:
        before, after = self._measure(()), self._measure(keys)
        values = f"{before.value:.4g} → {after.value:.4g}, goal {after.limit:.4g}"
        figures = {f"{self._metric}_before": before.value, self._metric: after.value}
        return _Verdict(tuple(keys), f"{text}: {self._metric} {values}", figures)

    def _best(self) -> tuple[str, ...]:
        """Those with the best value of the first goal, the fewest of equals."""
        sign = -1 if find_metric(self._metric).better == "higher" else 1
        known = sorted(self._known, key=len)
        return min(known, key=lambda keys: sign * self._known[keys].value)

    def _measure(self, keys: Sequence[str]) -> _Measured:
        key = tuple(sorted(keys))
        if key not in self._known:
            trial = clone(self._graph)
            self._restorer.bring_back(trial, keys)
            values = self._judge.measure(trial)
            if self._goals:
                made = _Measured(values[0], self._goals[0].limit, self._judge.holds(values))
            else:
                # Fewer roundings leave more, so the limit belongs to the graph.
                limit = floor(max(roundings(trial).values(), default=0)) + _MARGIN
                made = _Measured(values[0], limit, values[0] >= limit)
            self._known[key] = made
        return self._known[key]
