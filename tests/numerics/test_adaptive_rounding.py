"""Rounding of weights by the error of their products."""

from __future__ import annotations

from itertools import product as combinations

import numpy as np
import pytest

from optc.ir import DType
from optc.numerics.adaptive_rounding import Products
from optc.numerics.quantize import QuantParams
from optc.numerics.saturation import Product, find_saturation, keep_safe

DATA = QuantParams(DType.U8, (0.05,), (0,))
LIMITS = (-127, 127)


def rows_of(rng: np.random.Generator, count: int, groups: int, terms: int) -> np.ndarray:
    """Data with correlated channels."""
    mix = rng.normal(size=(terms, terms))
    rows = np.abs(rng.normal(size=(count, groups, terms)) @ mix)
    return np.asarray(rows, np.float32)


def loss(rows: np.ndarray, weights: np.ndarray, integers: np.ndarray) -> float:
    """Squared error of the products, in steps."""
    whole = DATA.quantize(rows).astype(np.float64)
    real = rows.astype(np.float64) / DATA.scales[0]
    error = np.einsum("rgt,gto->rgo", whole, integers) - np.einsum("rgt,gto->rgo", real, weights)
    return float(np.square(error).sum())


@pytest.mark.parametrize("groups", [1, 3])
def test_products_err_less_than_with_the_nearest_integers(groups: int) -> None:
    rng = np.random.default_rng(groups)
    rows, weights = rows_of(rng, 700, groups, 40), rng.normal(0, 30, (groups, 40, 6))
    nearest = np.rint(weights)
    sums = Products(weights, DATA)
    sums.add(rows)
    found = sums.round(nearest, LIMITS, 0.01, centred=False)
    assert (np.abs(found - weights) < 1.01).all()
    # What rounding of the data adds is there in any case.
    floor = loss(rows, weights, weights)
    assert loss(rows, weights, found) - floor < 0.5 * (loss(rows, weights, nearest) - floor)


def test_a_bias_takes_the_mean_error_back() -> None:
    rng = np.random.default_rng(5)
    rows, weights = rows_of(rng, 800, 2, 60), rng.normal(0, 30, (2, 60, 6))
    sums = Products(weights, DATA)
    sums.add(rows)
    data = DATA.quantize(rows).astype(np.float64)
    real = np.einsum("rgt,gto->rgo", rows.astype(np.float64) / DATA.scales[0], weights)
    spread = []
    for integers in (np.rint(weights), sums.round(np.rint(weights), LIMITS, 0.01, centred=True)):
        error = np.einsum("rgt,gto->rgo", data, integers) - real
        mean = error.mean(axis=0)[:, None, :]
        # Differences of weights count in 256 parts of a step, of data of 128 on average.
        bound = 60 * np.abs(data).mean() / 512 + 1
        assert np.abs(sums.shift(integers) - mean).max() < bound
        spread.append(float(error.var(axis=0).sum()))
    ideal = (np.einsum("rgt,gto->rgo", data, weights) - real).var(axis=0).sum()
    assert spread[1] - ideal < 0.3 * (spread[0] - ideal)


def test_few_weights_are_rounded_as_by_trying_all() -> None:
    rng = np.random.default_rng(7)
    best = 0
    for _ in range(20):
        rows, weights = rows_of(rng, 50, 1, 5), rng.normal(0, 30, (1, 5, 1))
        sums = Products(weights, DATA)
        sums.add(rows)
        found = loss(rows, weights, sums.round(np.rint(weights), LIMITS, 0.0, centred=False))
        choices = [
            np.floor(weights) + np.reshape(c, (1, 5, 1)) for c in combinations((0, 1), repeat=5)
        ]
        least = min(loss(rows, weights, choice) for choice in choices)
        assert found >= least * (1 - 1e-9)
        best += found <= least * 1.05
    # Moves of single weights end in a local optimum, mostly in the best one.
    assert best >= 12


def test_the_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    rows, weights = rows_of(rng, 900, 1, 70), rng.normal(0, 30, (1, 70, 9))
    results = []
    for order in (rows, rows[::-1], rows[rng.permutation(len(rows))]):
        sums = Products(weights, DATA)
        sums.add(order)
        assert sums.rows == len(rows)
        results.append(sums.round(np.rint(weights), LIMITS, 0.1, centred=True))
    assert all((one == results[0]).all() for one in results)


def test_limits_and_clipped_weights_hold() -> None:
    weights = np.array([[[126.8], [130.0], [-127.4], [0.5]]])
    sums = Products(weights, DATA)
    sums.add(rows_of(np.random.default_rng(0), 30, 1, 4))
    found = sums.round(np.clip(np.rint(weights), *LIMITS), LIMITS, 0.01, centred=False)
    assert found[0, 1, 0] == 127
    assert found[0, 2, 0] in (-127, -126)
    assert np.abs(found).max() <= 127


def test_data_that_is_not_quantized() -> None:
    rng = np.random.default_rng(3)
    rows, weights = rows_of(rng, 300, 1, 30), rng.normal(0, 3, (1, 30, 4))
    nearest = np.rint(weights)
    sums = Products(weights, None)
    sums.add(rows)
    found = sums.round(nearest, (-7, 7), 0.01, centred=False)
    error, before = rows[:, 0] @ (found - weights)[0], rows[:, 0] @ (nearest - weights)[0]
    assert np.square(error).sum() < 0.6 * np.square(before).sum()


@pytest.mark.parametrize("shape", [(16, 12), (8, 6, 3, 3), (8, 1, 3, 3)])
def test_weights_that_cannot_saturate_stay_so(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    old = rng.choice([-64, 64, 20], shape).astype(np.int8)
    new = np.clip(old + rng.integers(-1, 2, shape), -127, 127).astype(np.int8)
    kind = Product("MatMul") if len(shape) == 2 else Product("Conv", 8 if shape[1] == 1 else 1)
    assert find_saturation(old, kind) is None
    kept = keep_safe(new, old, kind)
    assert find_saturation(kept, kind) is None
    assert ((kept == new) | (kept == old)).all()
    if kind.has_pairs(shape):
        assert find_saturation(new, kind) is not None
        assert (kept != old).any()
    else:
        assert (kept == new).all()
