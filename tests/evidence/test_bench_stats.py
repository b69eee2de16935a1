"""The interval of a speed-up holds what it says, under noise that shared machines really have."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest

from optc.evidence.bench_stats import BLOCKS, LEVEL, Spread, ratio_of_blocks, speedup, turns

Times = npt.NDArray[np.float64]
ROUNDS = 40


def correlated(rng: np.random.Generator, count: int, memory: float) -> Times:
    """Noise of variance 1 in which each value remembers the one before."""
    fresh = rng.normal(size=count) * math.sqrt(1 - memory**2)
    noise = np.empty(count)
    last = rng.normal()
    for index, value in enumerate(fresh):
        last = noise[index] = memory * last + value
    return noise


def shared_machine(rng: np.random.Generator, ratio: float) -> tuple[list[Times], list[Times]]:
    """Times of two models by block; the second is `ratio` times as fast.

    The machine drifts to 1.5 times the time, neighbours slow both for a while and each for itself,
    one turn in 20 is interrupted, and memory placement shifts a whole block.
    """
    drift = np.linspace(0, math.log(1.5), BLOCKS * ROUNDS)
    common = drift + 0.2 * correlated(rng, BLOCKS * ROUNDS, 0.95)
    logs = []
    for fixed in (0.0, -math.log(ratio)):
        own = 0.05 * correlated(rng, BLOCKS * ROUNDS, 0.9)
        hit = (rng.random(BLOCKS * ROUNDS) < 0.05) * rng.exponential(1.0, BLOCKS * ROUNDS)
        placed = np.repeat(rng.normal(scale=0.03, size=BLOCKS), ROUNDS)
        logs.append(fixed + common + own + hit + placed)
    first, other = (np.split(np.exp(values), BLOCKS) for values in logs)
    return first, other


@pytest.mark.parametrize("ratio", [1.0, 1.3])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(ratio: float) -> None:
    runs = 400
    found = [
        speedup(*shared_machine(np.random.default_rng(seed), ratio))  # type: ignore[arg-type]
        for seed in range(runs)
    ]
    missed = sum(not r.low <= ratio <= r.high for r in found if r.low and r.high)
    # Of 400 runs at 99.2 %, 3 miss on average; 10 or more with a probability below 0.2 %.
    assert missed < 10
    width = np.median([r.high - r.low for r in found if r.low and r.high]) / ratio
    assert width < 0.2
    assert abs(np.median([r.value for r in found]) / ratio - 1) < 0.005


def test_rounds_that_are_taken_as_independent_would_not_hold_it() -> None:
    # Why there are blocks: the same order statistics over all rounds, of the same noise.
    missed = 0
    for seed in range(100):
        first, other = shared_machine(np.random.default_rng(seed), 1.0)
        logs = np.log(np.concatenate(first) / np.concatenate(other))
        naive = ratio_of_blocks(list(logs))
        assert naive.low
        assert naive.high
        missed += not naive.low <= 1.0 <= naive.high
    assert missed > 20


def test_a_drift_that_hits_both_alike_cancels() -> None:
    drift = np.split(np.exp(np.linspace(0, 3, 80)), BLOCKS)
    ratio = speedup([2e-3 * d for d in drift], [1e-3 * d for d in drift])  # type: ignore[misc]
    assert ratio.value == pytest.approx(2.0)
    assert ratio.low == pytest.approx(2.0)
    assert ratio.high == pytest.approx(2.0)
    assert ratio.conclusive


def test_the_interval_is_between_order_statistics() -> None:
    logs = [math.log(1 + i / 100) for i in range(8)]
    ratio = ratio_of_blocks(logs[::-1])
    assert [ratio.low, ratio.high] == pytest.approx([1.0, 1.07])
    assert ratio.level == 1 - 2 / 2**8
    assert not ratio.conclusive
    # 16 blocks: the third from each end, 1 - 2 (1 + 16 + 120) / 2^16.
    wide = ratio_of_blocks([math.log(1 + i / 100) for i in range(16)])
    assert [wide.low, wide.high] == pytest.approx([1.02, 1.13])
    assert wide.level == 1 - 2 * 137 / 2**16 >= LEVEL


@pytest.mark.parametrize(("blocks", "level"), [(7, 0.984375), (6, 0.96875), (5, 0.0), (1, 0.0)])
def test_few_blocks_lower_the_level_until_there_is_no_interval(blocks: int, level: float) -> None:
    ratio = ratio_of_blocks([0.0] * blocks)
    assert ratio.level == level
    assert (ratio.low is None) == (level == 0.0)
    assert ratio.value == 1.0
    assert not ratio.conclusive


@pytest.mark.parametrize("models", [1, 2, 3, 4, 5, 8])
def test_every_model_stands_in_each_place_and_follows_each_other_equally_often(models: int) -> None:
    rounds = [turns(models, number) for number in range(2 * models)]
    assert all(sorted(order) == list(range(models)) for order in rounds)
    places = Counter(place for order in rounds for place in enumerate(order))
    follows = Counter(pair for order in rounds for pair in itertools.pairwise(order))
    assert set(places.values()) == {2}
    assert len(places) == models**2
    assert set(follows.values()) <= {2}
    assert len(follows) == models * (models - 1)


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([1.0]).to_dict() == {"median": 1.0, "low": 1.0, "high": 1.0}
