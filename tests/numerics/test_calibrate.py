"""Ranges from data: methods, stores, and runs that were stopped."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest

from helpers import graph_from_text
from optc.errors import DataError
from optc.numerics.calibrate import (
    CHECKPOINT,
    Range,
    RangeSettings,
    calibrate,
    round_significant,
)
from optc.numerics.statistics import SUBSET, thin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optc.ir import Graph, Value
    from optc.numerics.values import Array

    T = TypeVar("T")

METHODS = ["minmax", "moving-average", "percentile", "entropy", "mse"]
MODEL = "agraph (float[4] x) => (float[4] y) { a = Relu(x) y = Neg(a) }"


class Samples:
    """An observer that computes nothing: all values are the samples."""

    origin = "samples"
    real = True

    def __init__(self, samples: Sequence[Array], *, stop_at: int | None = None) -> None:
        self.samples = samples
        self.stop_at = stop_at
        self.seen = 0

    @property
    def digest(self) -> str:
        return hashlib.sha256(b"".join(item.tobytes() for item in self.samples)).hexdigest()

    def observe(
        self,
        graph: Graph,
        values: Sequence[Value],
        look: Callable[[Mapping[str, Array]], T],
        *,
        activity: str = "calibrate",
        skip: int = 0,
    ) -> Iterator[T]:
        for number, sample in enumerate(self.samples[skip:], skip):
            if number == self.stop_at:
                raise KeyboardInterrupt
            self.seen += 1
            yield look({value.name: sample for value in values})


class Memory(dict[str, bytes]):
    """A store."""

    def put(self, key: str, content: bytes) -> None:
        self[key] = content


def normals(samples: int = 6, size: int = 3000, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(np.float32) * (i + 1) for i in range(samples)]


def ranges(
    data: Sequence[Array] | Samples, method: str = "minmax", store: Memory | None = None
) -> Range:
    graph = graph_from_text(MODEL)
    settings = RangeSettings.model_validate({"method": method})
    observer = data if isinstance(data, Samples) else Samples(data)
    return calibrate(observer, graph, [graph.value("a")], settings, store=store)["a"]


def test_minmax_is_all_that_was_seen() -> None:
    data = [np.array([1.0, 2.0], np.float32), np.array([-3.0, 0.5], np.float32)]
    assert ranges(data) == Range(-3.0, 2.0)


def test_moving_average_is_the_mean_of_the_extremes() -> None:
    data = [np.array([0.0, 2.0], np.float32), np.array([-3.0, 1.0], np.float32)]
    assert ranges(data, "moving-average") == Range(-1.5, 1.5)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_samples_does_not_matter(method: str) -> None:
    data = normals()
    assert ranges(data, method) == ranges(data[::-1], method)


@pytest.mark.parametrize("method", METHODS)
def test_elements_that_are_not_finite_are_left_out(method: str) -> None:
    data = normals()
    strange = np.array([np.inf, -np.inf, np.nan], np.float32)
    assert ranges([*data[:-1], np.append(data[-1], strange)], method) == ranges(data, method)
    assert ranges([strange], method) == Range(0.0, 0.0)
    assert ranges([np.zeros(0, np.float32)], method) == Range(0.0, 0.0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float16", "float64", "uint8", "int64", "bool"])
def test_other_types_of_numbers(method: str, dtype: str) -> None:
    numbers = np.arange(200).astype(dtype)
    found = ranges([numbers], method)
    top = float(numbers.max())
    assert 0.0 <= found.low <= 2
    assert 0.5 * top <= found.high <= top * (1 + 2**-8)


@pytest.mark.parametrize("method", METHODS)
def test_ranges_lie_within_what_was_seen(method: str) -> None:
    data = normals()
    low, high = min(map(np.min, data)), max(map(np.max, data))
    found = ranges(data, method)
    slack = 1 + 2.0**-8
    assert low * slack <= found.low < 0 < found.high <= high * slack


def test_without_values_nothing_runs() -> None:
    graph = graph_from_text(MODEL)
    observer = Samples(normals())
    assert calibrate(observer, graph, [], RangeSettings()) == {}
    assert observer.seen == 0


def test_a_large_value_is_thinned_evenly() -> None:
    flat = np.arange(40 * SUBSET, dtype=np.float32)
    some = thin(flat)
    assert 0.9 * SUBSET < some.size <= SUBSET
    assert np.all(np.diff(some) > 0)
    assert some[0] == 0
    assert some[-1] > 0.99 * flat.size
    # The even places of a row of 64 are not preferred.
    assert np.unique(some[::64] % 64).size > 32


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 0.0), (1.0, 1.0), (-257.0, -256.0), (1 / 3, 171 / 512)]
)
def test_rounding_keeps_eight_bits(value: float, expected: float) -> None:
    assert round_significant(value) == expected


# ---- stores ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_store_saves_the_second_run(method: str) -> None:
    store = Memory()
    first, second = Samples(normals()), Samples(normals())
    assert (
        ranges(first, method, store) == ranges(second, method, store) == ranges(normals(), method)
    )
    assert (first.seen, second.seen) == (6, 0)


def test_other_data_methods_and_graphs_have_other_keys() -> None:
    store = Memory()
    ranges(normals(), "minmax", store)
    for method, data in (("mse", normals()), ("minmax", normals(seed=1))):
        observer = Samples(data)
        ranges(observer, method, store)
        assert observer.seen == 6
    # The methods that count share their statistics.
    observer = Samples(normals())
    ranges(observer, "entropy", store)
    assert observer.seen == 0
    graph = graph_from_text(MODEL.replace("Neg", "Abs"))
    calibrate(observer, graph, [graph.value("a")], RangeSettings(), store=store)
    assert observer.seen == 6


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_stopped_is_taken_up_again(method: str) -> None:
    data = normals(samples=CHECKPOINT + 20, size=50)
    store = Memory()
    with pytest.raises(KeyboardInterrupt):
        ranges(Samples(data, stop_at=CHECKPOINT + 10), method, store)
    rest = Samples(data)
    assert ranges(rest, method, store) == ranges(data, method)
    assert rest.seen == 20


def test_a_damaged_store_is_an_error() -> None:
    store = Memory()
    ranges(normals(), "minmax", store)
    for key, content in list(store.items()):
        store[key] = content.replace(b'"high":', b'"high":1')
    with pytest.raises(DataError, match="checksum") as caught:
        ranges(normals(), "minmax", store)
    assert caught.value.code == "statistics-unreadable"
