"""Histograms that add up exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.numerics.histogram import BINS, MAGNITUDE_BITS, ZERO_BIN, Histogram

FLOATS = st.lists(
    st.floats(-(2.0**127), 2.0**127, width=32) | st.floats(-4, 4, width=32), min_size=1, max_size=50
)


def of(numbers: list[float]) -> Histogram:
    return Histogram.of(np.array(numbers, np.float32))


def same(one: Histogram, other: Histogram) -> bool:
    return one.exponent == other.exponent and np.array_equal(one.counts, other.counts)


@given(FLOATS, FLOATS, FLOATS)
def test_addition_is_exact(a: list[float], b: list[float], c: list[float]) -> None:
    """Neither order nor grouping matters, and parts give what the whole gives."""
    whole = of(a + b + c)
    assert same(whole, of(a) + of(b) + of(c))
    assert same(whole, of(a) + (of(b) + of(c)))
    assert same(whole, of(c) + of(a) + of(b))
    assert same(whole, whole + Histogram.empty())
    assert whole.total == len(a + b + c)


@given(FLOATS)
def test_bins_hold_what_their_edges_say(numbers: list[float]) -> None:
    histogram = of(numbers)
    edges = histogram.edges
    for number in numbers:
        # Bins are closed towards zero.
        above = np.searchsorted(edges, number, side="right")
        index = int(above if number >= 0 else np.searchsorted(edges, number, side="left")) - 1
        assert histogram.counts[index] >= 1
    assert len(edges) == BINS + 1
    greatest = max(map(abs, numbers))
    if greatest > 1e-20:
        # Half of the bins of a sign or more are in use.
        assert 2 ** (MAGNITUDE_BITS - 1) <= greatest / histogram.width <= 2**MAGNITUDE_BITS


def test_many_elements_are_all_counted() -> None:
    numbers = np.random.default_rng(0).normal(size=100_001).astype(np.float32)
    assert Histogram.of(numbers).total == 100_001


@pytest.mark.parametrize("numbers", [[0.0], [0.0, 1e-45], [-1e-45]])
def test_nothing_but_zero(numbers: list[float]) -> None:
    histogram = of(numbers)
    assert histogram.total == len(numbers)
    grown = histogram + of([1.0])
    assert grown.total == len(numbers) + 1
    assert grown.counts[ZERO_BIN] == len(numbers)


def test_magnitudes_fold_both_signs() -> None:
    histogram = of([1.0, -1.0, 0.25])
    magnitudes = histogram.magnitudes
    assert magnitudes.sum() == 3
    (used,) = np.nonzero(magnitudes)
    assert used.tolist() == [2 ** (MAGNITUDE_BITS - 3), 2 ** (MAGNITUDE_BITS - 1)]
    assert magnitudes[used].tolist() == [1, 2]
