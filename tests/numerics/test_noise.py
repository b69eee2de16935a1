"""Measured noise of a model."""

from collections.abc import Callable

import numpy as np
import pytest

from optc.numerics.evaluate import Session
from optc.numerics.noise import measure_noise, nudge
from optc.numerics.tolerance import Noise
from optc.numerics.values import Array, Value

Load = Callable[..., Session]


def one(value: Value) -> Array:
    assert isinstance(value, np.ndarray)
    return value


def measured(load: Load, text: str, **feeds: Array) -> dict[str, Noise]:
    return measure_noise(load(text), [load(text, optimize="all")], feeds)


def test_an_identity_shows_the_nudge_of_its_input(load: Load) -> None:
    noise = measured(
        load, "g (float[8] x) => (float[8] y) { y = Identity(x) }", x=np.ones(8, np.float32)
    )["y"]
    # The neighbours of 1 are 2^-24 below and 2^-23 above.
    assert 2**-24 <= noise.relative <= 2**-23
    assert noise.peak == 2**-23
    assert (noise.flips, noise.stable) == (0, True)


def test_a_steep_function_amplifies(load: Load) -> None:
    text = "g (float[8] x) => (float[8] y) <float k = {10000}> { t = Mul(x, k) y = Sin(t) }"
    noise = measured(load, text, x=np.ones(8, np.float32))["y"]
    # An input of 1 moves by 2^-24 or 2^-23, so 10000 x moves by 0.0006 or 0.0012, and the sine of
    # it, which is -0.31, by 0.95 of that.
    assert 1e-3 < noise.relative < 5e-3


def test_near_ties_of_an_argmax_are_counted(load: Load) -> None:
    text = "g (float[64,4] x) => (int64[64] y) { y = ArgMax<axis = 1, keepdims = 0>(x) }"
    ties = measured(load, text, x=np.ones((64, 4), np.float32))["y"]
    clear = measured(load, text, x=np.tile(np.arange(4, dtype=np.float32), (64, 1)))["y"]
    # Of four equal scores one goes up alone with probability 4/16, so the first stays the best in
    # about half of the rows.
    assert 0.2 < ties.flips < 0.8
    assert clear == Noise()


def test_an_output_whose_shape_changes_is_unstable(load: Load) -> None:
    text = "g (float[64] x, float one) => (int64[1,N] y) { t = Greater(x, one) y = NonZero(t) }"
    noise = measured(load, text, x=np.ones(64, np.float32), one=np.float32(1) * np.ones((), "f4"))
    assert not noise["y"].stable


def test_sequences_count_as_one_output(load: Load) -> None:
    text = "g (float[4] x) => (seq(float[4]) s) { s = SequenceConstruct(x, x) }"
    assert measured(load, text, x=np.ones(4, np.float32))["s"].peak > 0


def test_nudging_moves_every_float_by_one_place() -> None:
    values = np.array([1.5, -2.25, 1e-3] * 50, np.float32)
    moved = one(nudge({"x": values})["x"])
    assert moved.dtype == np.float32
    steps = moved.view(np.int32) - values.view(np.int32)
    assert set(steps.tolist()) == {-1, 1}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_with_a_meaning_stay(dtype: type) -> None:
    values: Array = np.array([0, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).max], dtype)
    assert np.array_equal(one(nudge({"x": values})["x"]), values, equal_nan=True)


def test_only_floats_move() -> None:
    feeds: dict[str, Value] = {
        "i": np.arange(3),
        "s": np.array(["a"], object),
        "n": None,
        "q": [np.ones(4, np.float32), np.arange(2)],
    }
    moved = nudge(feeds)
    assert moved["i"] is feeds["i"]
    assert moved["s"] is feeds["s"]
    assert moved["n"] is None
    sequence = moved["q"]
    assert isinstance(sequence, list)
    assert (one(sequence[0]) != 1).all()
    assert one(sequence[1]).tolist() == [0, 1]


def test_the_direction_depends_on_the_seed_alone() -> None:
    x = np.ones(64, np.float32)
    assert np.array_equal(one(nudge({"x": x})["x"]), one(nudge({"x": x})["x"]))
    assert not np.array_equal(one(nudge({"x": x})["x"]), one(nudge({"x": x}, seed=1)["x"]))
