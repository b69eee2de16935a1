"""Metrics of a recipe's accuracy goal: how close the result is to the source, or to the truth.

Similarity metrics compare every floating-point output with the source model's, over all elements
of all samples, and report the worst output. Classification metrics look at one output, the first
floating-point one with a class axis: the last axis of a matrix or of (batch, position, class), the
second one of images (batch, class, height, width); with labels, the axis that the labels lack.

All accumulate sample by sample. NaN or infinity at another place than in the source makes an
error infinite, the SQNR minus infinity and the cosine NaN, which meets no goal.

Third parties add a metric by an entry point of the group ``optc.metrics`` that is a `Metric`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, Protocol

from optc.errors import CapabilityError, DataError, did_you_mean
from optc.numerics.scores import Hits
from optc.numerics.stats import ErrorStats
from optc.numerics.values import float_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.numerics.values import Array, Value

_GROUP: Final = "optc.metrics"


class Accumulator(Protocol):
    """Collects samples and gives the value of one metric."""

    def update(
        self, expected: Mapping[str, Value], actual: Mapping[str, Value], labels: Array | None
    ) -> None:
        """Add the outputs of one run.

        Args:
            expected: outputs of the source model.
            actual: outputs of the result, for the same inputs.
            labels: the labels of the samples, one per leading row; None when there are none.

        Raises:
            DataError: the metric does not apply to such outputs or labels.
        """

    def compute(self) -> float:
        """The value over everything added; may be infinite or NaN.

        Raises:
            DataError: nothing was added.
        """


@dataclass(frozen=True)
class Metric:
    """A way to judge a result.

    Attributes:
        name: what a recipe calls it.
        better: whether higher or lower values are better.
        needs_labels: whether it compares with labels; all others compare with the source model.
        unit: unit of the value; ``1`` for a ratio.
        description: the formula, for people.
        start: makes an empty accumulator.
    """

    name: str
    better: Literal["higher", "lower"]
    needs_labels: bool
    unit: str
    description: str
    start: Callable[[], Accumulator]

    def meets(self, value: float, goal: float) -> bool:
        """Whether `value` is as good as `goal` or better; NaN never is."""
        return value >= goal if self.better == "higher" else value <= goal


class Similarity:
    """Accumulates the errors of all floating-point outputs; the value is that of the worst one."""

    def __init__(
        self, read: Callable[[ErrorStats], float], better: Literal["higher", "lower"]
    ) -> None:
        self._read = read
        self._better = better
        self._stats: dict[str, ErrorStats] = {}

    def update(
        self, expected: Mapping[str, Value], actual: Mapping[str, Value], labels: Array | None
    ) -> None:
        """See `Accumulator.update`; an output of another shape counts as misplaced throughout."""
        found = dict(float_tensors(actual))
        for name, array in float_tensors(expected):
            stats = self._stats.setdefault(name, ErrorStats())
            other = found.get(name)
            if other is None or other.shape != array.shape:
                stats.misplaced += max(array.size, 1)
            else:
                stats.update(array, other)

    def compute(self) -> float:
        """See `Accumulator.compute`."""
        if not self._stats:
            raise DataError("metric-not-applicable", "the model has no floating-point output")
        values = [self._read(stats) for stats in self._stats.values()]
        if any(math.isnan(value) for value in values):
            return math.nan
        return min(values) if self._better == "higher" else max(values)


def _similarity(
    name: str,
    read: Callable[[ErrorStats], float],
    better: Literal["higher", "lower"],
    unit: str,
    description: str,
) -> Metric:
    return Metric(name, better, False, unit, description, partial(Similarity, read, better))


_ALL: Final = (
    _similarity(
        "cosine",
        lambda stats: stats.cosine,
        "higher",
        "1",
        "cosine of the angle between result and source: sum(s r) / sqrt(sum(s²) sum(r²)); "
        "1 when both are zero, 0 when one is",
    ),
    _similarity(
        "max_abs_error",
        lambda stats: stats.max_abs_error,
        "lower",
        "as the output",
        "largest difference from the source: max |s - r|",
    ),
    _similarity(
        "mean_abs_error",
        lambda stats: stats.mean_abs_error,
        "lower",
        "as the output",
        "mean difference from the source: mean |s - r|",
    ),
    _similarity(
        "sqnr",
        lambda stats: stats.sqnr,
        "higher",
        "dB",
        "signal-to-quantization-noise ratio: 10 log10(sum(s²) / sum((s - r)²)); infinite when "
        "equal, minus infinity when the source is zero and the result is not",
    ),
    Metric(
        "top1_agreement",
        "higher",
        False,
        "1",
        "share of positions where result and source have the same best class; of equal scores "
        "the first class is the best",
        partial(Hits, 1),
    ),
    Metric(
        "top5_agreement",
        "higher",
        False,
        "1",
        "share of positions where the best class of the source is among the five best of the "
        "result",
        partial(Hits, 5),
    ),
    Metric(
        "top1",
        "higher",
        True,
        "1",
        "share of positions where the best class of the result is the label; negative labels are "
        "left out",
        partial(Hits, 1, labelled=True),
    ),
    Metric(
        "top5",
        "higher",
        True,
        "1",
        "share of positions where the label is among the five best classes of the result; "
        "negative labels are left out",
        partial(Hits, 5, labelled=True),
    ),
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _ALL})
"""The metrics that optc brings, by name."""


@cache
def all_metrics() -> Mapping[str, Metric]:
    """The metrics of optc and those of installed packages, by name.

    Raises:
        CapabilityError: ``metric-defined-twice``: two packages give a metric of the same name, or
            one that optc has; ``metric-invalid``: an entry point is no `Metric` of that name.
    """
    found = dict(METRICS)
    owners = dict.fromkeys(METRICS, "optc")
    for point in sorted(entry_points(group=_GROUP), key=lambda p: (p.name, p.value)):
        owner = point.dist.name if point.dist else point.value
        if point.name in found:
            raise CapabilityError(
                "metric-defined-twice",
                f"the metric {point.name!r} of {owner} is already defined by {owners[point.name]}",
                hint=f"uninstall {owner}, or ask its authors for another name",
            )
        metric = point.load()
        if not isinstance(metric, Metric) or metric.name != point.name:
            raise CapabilityError(
                "metric-invalid",
                f"the entry point {point.name} = {point.value} of {owner} is not a Metric "
                f"named {point.name!r}",
            )
        found[point.name] = metric
        owners[point.name] = owner
    return MappingProxyType(found)


def find_metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        CapabilityError: ``unknown-metric``.
    """
    known = all_metrics()
    if name not in known:
        raise CapabilityError(
            "unknown-metric",
            f"there is no metric {name!r}; there are {', '.join(known)}",
            hint=did_you_mean(name, known),
        )
    return known[name]
