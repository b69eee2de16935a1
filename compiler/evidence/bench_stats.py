"""What can be said about a speed-up on a machine that others use as well.

Times on a shared machine are skewed, correlated in time, and drift. So nothing is assumed about
their distribution:

- All models take turns within a *round*; only ratios of the same round are compared. A drift that
  is slow against a round moves both sides alike and cancels.
- Rounds are gathered into *blocks*, each in a process of its own. Where the memory of a model
  happens to lie makes it faster or slower for as long as it is open (two sessions of one model:
  by 1 to 3 %, standard deviation); in a fresh process that is drawn anew, and nothing of the
  caller runs beside it. A block gives one figure: the median over its rounds of the logarithm of
  the ratio.
- The speed-up is the median of the blocks, its interval one between order statistics of them. For
  n independent blocks the k-th smallest and the k-th largest enclose the true median with
  probability 1 - 2 P(B < k), B binomial(n, 1/2), whatever the distribution: 99.2 % for the smallest
  and the largest of 8. Source: David and Nagaraja, Order Statistics, section 7.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL: Final = 0.99
"""Confidence that an interval should have. Above the usual 95 %: who compares a handful of models
would otherwise see a difference that is none every other day."""
BLOCKS: Final = 8
"""Blocks of a run: the fewest that reach `LEVEL`."""
_LEAST: Final = 0.95


@dataclass(frozen=True)
class Spread:
    """The middle of some times.

    Attributes:
        median: in seconds.
        low: first quartile.
        high: third quartile.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        """Median and quartiles of at least one time."""
        low, median, high = np.percentile(np.asarray(times), (25, 50, 75))
        return cls(float(median), float(low), float(high))

    def to_dict(self) -> dict[str, float]:
        """As data, in seconds."""
        return {"median": self.median, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Ratio:
    """How many times as fast something is as the first model.

    Attributes:
        value: above 1: faster than the first model.
        low: lower end of the interval; None when there are too few blocks for one.
        high: upper end.
        level: probability with which the interval holds the true ratio; 0 without an interval.
    """

    value: float
    low: float | None
    high: float | None
    level: float

    @property
    def conclusive(self) -> bool:
        """Whether the interval leaves out 1: one of both is faster."""
        return self.low is not None and self.high is not None and not self.low <= 1.0 <= self.high

    def to_dict(self) -> dict[str, Any]:
        """As data."""
        return {"value": self.value, "low": self.low, "high": self.high, "level": self.level}


def speedup(first: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Ratio:
    """The speed of `other` in units of the speed of `first`.

    Args:
        first: its times, by block and round; none is zero.
        other: the times of the same rounds.
    """
    blocks = [
        float(np.median(np.log(np.asarray(a) / np.asarray(b))))
        for a, b in zip(first, other, strict=True)
    ]
    return ratio_of_blocks(blocks)


def ratio_of_blocks(logs: Sequence[float]) -> Ratio:
    """The ratio that the logarithms of independent blocks are about; see the module docstring."""
    ordered = sorted(logs)
    value = math.exp(float(np.median(ordered)))
    rank, level = _rank(len(ordered))
    if level < _LEAST:
        return Ratio(value, None, None, 0.0)
    return Ratio(value, math.exp(ordered[rank - 1]), math.exp(ordered[-rank]), level)


def _rank(count: int) -> tuple[int, float]:
    """The largest k whose interval still has `LEVEL`, and its level; 1 when there is none."""
    rank = 1
    while rank + 1 <= count // 2 and _level(count, rank + 1) >= LEVEL:
        rank += 1
    return rank, _level(count, rank)


def _level(count: int, rank: int) -> float:
    """Probability that the k-th smallest and k-th largest of `count` enclose the median."""
    return 1.0 - 2.0 * sum(math.comb(count, i) for i in range(rank)) / 2.0**count


def turns(models: int, round_number: int) -> tuple[int, ...]:
    """The order of the models in a round: every model follows every other one equally often.

    That is a Williams square: over `models` rounds (twice as many when odd) each model stands in
    each place, and follows each other one, the same number of times.
    Source: E. J. Williams, Experimental designs balanced for the estimation of residual effects of
    treatments, Australian Journal of Scientific Research A 2 (1949).
    """
    first = [0]
    for step in range(1, models):
        first.append((first[-1] + (step if step % 2 else -step)) % models)
    row, reverse = round_number % models, (round_number // models) % 2
    order = tuple((place + row) % models for place in first)
    return order[::-1] if reverse else order
