"""The file format of statistics: JSON, versioned, with a checksum; nothing in it is executed.

    {"format": "optc-statistics", "version": 1, "sha256": "...",
     "entries": [{"key": "...", "origin": "...", "samples": 64,
                  "shards": [0], "of": 2, "final": true,
                  "values": {"conv_1": {"samples": 32, "low": -1.0, "high": 2.5,
                                        "low_sum": -20.5, "high_sum": 60.25,
                                        "histogram": {"exponent": -10, "first": -7,
                                                      "counts": [3, 0, 12]}}}}]}

`key` is the digest of everything that decides the statistics: graph, values, data, settings and
versions. `shards` are the parts of the data that are in, of so many; a checkpoint is not `final`;
`sha256` is that of the entries as canonical JSON. `first` is the number of the first bin that is
listed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from optc.errors import DataError
from optc.numerics.histogram import BINS, ZERO_BIN, Histogram
from optc.numerics.statistics import ValueStatistics, merged

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FORMAT: Final = "optc-statistics"
VERSION: Final = 1


@dataclass(frozen=True)
class Entry:
    """Statistics of the values of one graph.

    Attributes:
        key: digest of what decides them.
        origin: what the data is, for people.
        samples: samples that are in.
        shards: parts of the data that are in, ascending.
        of: number of parts that make the whole.
        final: False while samples are still to come.
        values: statistics by name of the value.
    """

    key: str
    origin: str
    samples: int
    values: Mapping[str, ValueStatistics]
    shards: tuple[int, ...] = (0,)
    of: int = 1
    final: bool = True

    @property
    def complete(self) -> bool:
        """Whether all parts are in."""
        return self.final and len(self.shards) == self.of

    def __add__(self, other: Entry) -> Entry:
        assert self.key == other.key
        assert self.of == other.of
        return replace(
            self,
            samples=self.samples + other.samples,
            shards=tuple(sorted((*self.shards, *other.shards))),
            values=merged(self.values, other.values),
        )


def write_entries(entries: Iterable[Entry]) -> bytes:
    """The file of these entries; equal entries give equal bytes."""
    content = [_entry_json(entry) for entry in sorted(entries, key=lambda item: item.key)]
    whole = {
        "format": FORMAT,
        "version": VERSION,
        "sha256": _digest(content),
        "entries": content,
    }
    return (json.dumps(whole, sort_keys=True, separators=(",", ":")) + "\n").encode()


def read_entries(content: bytes, location: str) -> tuple[Entry, ...]:
    """The entries of a file.

    Raises:
        DataError: ``statistics-unreadable``: no file of statistics, damaged, or of a newer version.
    """
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unreadable(location, "it is not JSON") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise _unreadable(location, f"its format is not {FORMAT!r}")
    if whole.get("version") != VERSION:
        raise _unreadable(location, f"version {whole.get('version')!r} is not {VERSION}")
    if whole.get("sha256") != _digest(whole.get("entries")):
        raise _unreadable(location, "the checksum does not fit")
    try:
        found = [_EntryJson.model_validate(item) for item in whole["entries"]]
    except (ValidationError, TypeError) as error:
        raise _unreadable(location, str(error).splitlines()[0]) from error
    return tuple(item.entry() for item in found)


def merge_files(files: Iterable[tuple[str, bytes]]) -> tuple[Entry, ...]:
    """The entries of several files, by place and content; shards of the same key are added up.

    Raises:
        DataError: ``statistics-unreadable``; ``statistics-overlap``: a part is in two files, or
            parts of different splits meet.
    """
    found: dict[str, Entry] = {}
    for location, content in files:
        for entry in read_entries(content, location):
            known = found.get(entry.key)
            if known is None:
                found[entry.key] = entry
                continue
            if known.of != entry.of or set(known.shards) & set(entry.shards):
                mine = ", ".join(f"{shard + 1}/{entry.of}" for shard in entry.shards)
                have = ", ".join(f"{shard + 1}/{known.of}" for shard in known.shards)
                raise DataError(
                    "statistics-overlap",
                    f"shard {mine} does not go with shard {have} of the same data",
                    location=location,
                    hint="merge every shard of one split once",
                )
            found[entry.key] = known + entry
    whole = (replace(e, shards=(0,), of=1) if e.complete else e for e in found.values())
    return tuple(sorted(whole, key=lambda entry: entry.key))


def _unreadable(location: str, why: str) -> DataError:
    return DataError(
        "statistics-unreadable",
        f"the statistics cannot be read: {why}",
        location=location,
        hint="make them again with `optc calibrate`",
    )


def _digest(entries: object) -> str:
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# ---- the JSON side -----------------------------------------------------------------------------


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Count = Annotated[int, Field(ge=0, lt=1 << 62)]


class _HistogramJson(_Json):
    exponent: int = Field(ge=-200, le=1100)
    first: int = Field(ge=-ZERO_BIN, le=ZERO_BIN)
    counts: list[Count] = Field(max_length=BINS)

    def histogram(self) -> Histogram:
        counts = np.zeros(BINS, np.int64)
        start = self.first + ZERO_BIN
        counts[start : start + len(self.counts)] = self.counts[: BINS - start]
        return Histogram(self.exponent, counts)


class _ValueJson(_Json):
    samples: Count
    low: float | None = None
    high: float | None = None
    low_sum: float = 0.0
    high_sum: float = 0.0
    histogram: _HistogramJson | None = None

    def statistics(self) -> ValueStatistics:
        histogram = self.histogram.histogram() if self.histogram else None
        if self.low is None or self.high is None:
            return ValueStatistics(histogram=histogram)
        return ValueStatistics(
            self.samples, self.low, self.high, self.low_sum, self.high_sum, histogram
        )


class _EntryJson(_Json):
    key: str = Field(pattern="^[0-9a-f]{64}$")
    origin: str
    samples: Count
    shards: list[Count] = Field(min_length=1)
    of: Annotated[int, Field(ge=1)]
    values: dict[str, _ValueJson]
    final: bool = True

    def entry(self) -> Entry:
        values = {name: item.statistics() for name, item in self.values.items()}
        return Entry(
            self.key, self.origin, self.samples, values, tuple(self.shards), self.of, self.final
        )


def _entry_json(entry: Entry) -> dict[str, object]:
    return {
        "key": entry.key,
        "final": entry.final,
        "origin": entry.origin,
        "samples": entry.samples,
        "shards": list(entry.shards),
        "of": entry.of,
        "values": {name: _value_json(item) for name, item in entry.values.items()},
    }


def _value_json(item: ValueStatistics) -> dict[str, object]:
    content: dict[str, object] = {"samples": item.samples}
    if item.samples:
        names = ("low", "high", "low_sum", "high_sum")
        content.update({name: float(getattr(item, name)) for name in names})
    if item.histogram is not None:
        used = np.flatnonzero(item.histogram.counts)
        first, end = (int(used[0]), int(used[-1]) + 1) if used.size else (ZERO_BIN, ZERO_BIN)
        content["histogram"] = {
            "exponent": item.histogram.exponent,
            "first": first - ZERO_BIN,
            "counts": item.histogram.counts[first:end].tolist(),
        }
    return content
