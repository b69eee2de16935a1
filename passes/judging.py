"""How far a graph is from the one that it was made from, on calibration data."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from pydantic import Field

from optc.numerics.calibrate import round_significant
from optc.numerics.metrics import find_metric
from optc.passes.base import AccuracyGoal, PassOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optc.ir import Graph
    from optc.numerics.observe import Observer
    from optc.numerics.values import Array

_BITS: Final = 16
"""Significant bits of a measured value: a cosine of 0.9999 is not 1."""


class JudgedOptions(PassOptions):
    """Options of the passes that keep what they did only where the outputs gain."""

    samples: int = Field(
        default=16,
        ge=1,
        description="samples of the calibration data to judge the outputs on, from the first on",
    )


def why_no_gain(
    graph: Graph,
    trial: Graph,
    reference: Graph,
    observer: Observer,
    samples: int,
    activity: str,
) -> str | None:
    """Why the outputs of a variant of a graph are no better than its own; None when they are.

    What single operations gain may cancel out in those that follow.
    """
    judge = Judge(reference, observer, [AccuracyGoal("sqnr", 0.0)], samples, activity)
    before, after = judge.measure(graph)[0], judge.measure(trial)[0]
    if after > before:
        return None
    return f"the outputs would be at {after:.4g} dB, and are at {before:.4g} dB without"


class Judge:
    """Measures goals on variants of a graph; what the reference gives is computed once."""

    def __init__(
        self,
        reference: Graph,
        observer: Observer,
        goals: Sequence[AccuracyGoal],
        samples: int,
        activity: str,
    ) -> None:
        self._observer = observer
        self._goals = goals
        self._samples = samples
        self._activity = activity
        self._expected = list(self._outputs(reference))

    def measure(self, graph: Graph) -> list[float]:
        """The value of each goal's metric, rounded."""
        found = [find_metric(goal.metric).start() for goal in self._goals]
        for expected, actual in zip(self._expected, self._outputs(graph), strict=True):
            for item in found:
                item.update(expected, actual, None)
        return [round_significant(item.compute(), _BITS) for item in found]

    def holds(self, values: Sequence[float]) -> bool:
        """Whether values reach all goals."""
        pairs = zip(self._goals, values, strict=True)
        return all(find_metric(goal.metric).meets(value, goal.limit) for goal, value in pairs)

    def _outputs(self, graph: Graph) -> Iterator[dict[str, Array]]:
        """The outputs by their names, sample by sample."""
        values = ((node.name, graph.operand(node, 0)) for node in graph.outputs)
        computed = {n: v for n, v in values if v is not None and v.constant is None}
        runs = self._observer.observe(graph, list(computed.values()), dict, activity=self._activity)
        for arrays in islice(runs, self._samples):
            yield {name: arrays[value.name] for name, value in computed.items()}
