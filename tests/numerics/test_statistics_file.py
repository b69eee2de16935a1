"""The file format of statistics."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from optc.errors import DataError
from optc.numerics.statistics import ValueStatistics, merged
from optc.numerics.statistics_file import Entry, merge_files, read_entries, write_entries

KEY = "ab" * 32


def values(seed: int, *, count: bool = True) -> dict[str, ValueStatistics]:
    rng = np.random.default_rng(seed)
    data = {name: rng.normal(size=500).astype(np.float32) for name in ("a", "b")}
    return {name: ValueStatistics.of(array, count=count) for name, array in data.items()}


def entry(seed: int = 0, *, count: bool = True, shard: int = 0, of: int = 1) -> Entry:
    return Entry(KEY, "split calib of x.npz", 1, values(seed, count=count), (shard,), of)


def same(one: ValueStatistics, other: ValueStatistics) -> bool:
    plain = replace(one, histogram=None) == replace(other, histogram=None)
    if one.histogram is None or other.histogram is None:
        return plain and one.histogram is other.histogram
    equal = np.array_equal(one.histogram.counts, other.histogram.counts)
    return plain and equal and one.histogram.exponent == other.histogram.exponent


@pytest.mark.parametrize("count", [False, True])
def test_a_file_holds_what_was_written(count: bool) -> None:
    one = entry(count=count)
    content = write_entries([one])
    (found,) = read_entries(content, "x.json")
    assert (found.key, found.samples, found.shards, found.of) == (KEY, 1, (0,), 1)
    assert found.complete
    assert all(same(found.values[name], one.values[name]) for name in ("a", "b"))
    assert write_entries([found]) == content
    assert read_entries(write_entries([]), "x.json") == ()


def test_values_that_never_were_finite() -> None:
    nothing = Entry(KEY, "x", 3, {"a": ValueStatistics.of(np.zeros(0, np.float32), count=True)})
    (found,) = read_entries(write_entries([nothing]), "x.json")
    assert found.values["a"].samples == 0
    assert found.values["a"].low == np.inf


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "its format"),
        (b'{"format": "other"}', "its format"),
        (b'{"format": "optc-statistics", "version": 2}', "version 2 is not 1"),
        (b'{"format": "optc-statistics", "version": 1, "sha256": "0"}', "checksum"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_file_of_statistics(change: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_entries(change, "x.json")
    assert caught.value.code == "statistics-unreadable"
    assert caught.value.location == "x.json"


@pytest.mark.parametrize("key", ["key", "values", "shards"])
def test_entries_are_validated(key: str) -> None:
    import hashlib

    whole = json.loads(write_entries([entry()]))
    del whole["entries"][0][key]
    text = json.dumps(whole["entries"], sort_keys=True, separators=(",", ":"))
    whole["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(DataError, match="validation error"):
        read_entries(json.dumps(whole).encode(), "x.json")


def test_shards_add_up() -> None:
    parts = [entry(i, shard=i, of=3) for i in range(3)]
    files = {f"{i}.json": write_entries([part]) for i, part in enumerate(parts)}
    (two,) = merge_files([(name, files[name]) for name in ("2.json", "0.json")])
    assert not two.complete
    (whole,) = merge_files([("two.json", write_entries([two])), ("1.json", files["1.json"])])
    assert whole.complete
    assert whole.samples == 3
    expected = merged(merged(values(0), values(1)), values(2))
    for name in ("a", "b"):
        mine, theirs = whole.values[name].histogram, expected[name].histogram
        assert mine is not None
        assert theirs is not None
        assert np.array_equal(mine.counts, theirs.counts)
        assert whole.values[name].low == expected[name].low


def test_a_shard_is_not_added_twice() -> None:
    one = write_entries([entry(0, shard=0, of=2)])
    with pytest.raises(DataError, match=r"shard 1/2 does not go with shard 1/2") as caught:
        merge_files([("a", one), ("a", one)])
    assert caught.value.code == "statistics-overlap"
    other = write_entries([entry(0, shard=1, of=3)])
    with pytest.raises(DataError, match=r"shard 2/3 does not go with shard 1/2"):
        merge_files([("a", one), ("b", other)])
