"""Ranges of the values of a graph, from one streaming pass over calibration data.

    x in [low, high]        what a quantizer maps to its integers

One inference per sample. Memory is bounded by one sample and the statistics, whatever the number of
samples; with a store, statistics are taken once, and a run that was stopped is taken up again.
"""

from __future__ import annotations

import hashlib
import json
import math
from functools import partial, reduce
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from optc.errors import DataError
from optc.ir.text import print_graph
from optc.numerics.ranges import Range, entropy_range, mse_range, percentile_range
from optc.numerics.statistics import merged, statistics_of
from optc.numerics.statistics_file import Entry, read_entries, write_entries
from optc.versions import tool_versions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from optc.ir import Graph, Value
    from optc.numerics.observe import Observer
    from optc.numerics.statistics import Store, ValueStatistics

__all__ = ["SIGNIFICANT_BITS", "Range", "RangeSettings", "calibrate", "round_significant"]

SIGNIFICANT_BITS: Final = 8
"""Bits that are kept of the ends of a range: kernels of different CPUs differ around bit 20, and
2^-9 of a range is half a step of eight bits."""
CHECKPOINT: Final = 128
"""Samples after which unfinished statistics are stored."""
_COUNTING: Final = ("percentile", "entropy", "mse")


class RangeSettings(BaseModel):
    """How ranges follow from data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["minmax", "moving-average", "percentile", "entropy", "mse"] = Field(
        default="minmax",
        description="minmax: all that was seen; moving-average: the extremes of the samples, "
        "averaged; percentile: all but the rarest elements; entropy: the threshold of least "
        "Kullback-Leibler divergence; mse: the clipping of least squared error",
    )
    percentile: float = Field(
        default=99.99,
        gt=50,
        le=100,
        description="for percentile: share of the elements inside the range, in percent; as many "
        "are cut at each end",
    )
    bits: int = Field(
        default=8, ge=2, le=16, description="for entropy and mse: bits of the integers"
    )

    @property
    def counts(self) -> bool:
        """Whether the method needs histograms."""
        return self.method in _COUNTING


def calibrate(
    observer: Observer,
    graph: Graph,
    values: Sequence[Value],
    settings: RangeSettings,
    *,
    store: Store | None = None,
    symmetric: Collection[str] = (),
) -> Mapping[str, Range]:
    """The range of each value, by name; rounded, so that it is the same on every CPU.

    Args:
        observer: the data.
        graph: a top-level graph; it stays as it is.
        values: values of it, not constants, of numbers.
        settings: the method.
        store: keeps statistics between runs; left out: the `store` of the observer, if any.
        symmetric: names of values that are quantized symmetrically around zero; mse then looks for
            the clipping that is best for that.

    Returns:
        Range(0, 0) for a value that never had a finite element.

    Raises:
        DataError: the data does not fit the model; ``statistics-unreadable``: what the store holds
            is damaged.
        ModelError: the graph does not run.
    """
    names = sorted({value.name for value in values})
    if store is None:
        store = getattr(observer, "store", None)
    statistics = _statistics(observer, graph, names, settings.counts, store)
    found = {name: _range(statistics[name], settings, name in symmetric) for name in names}
    return {
        value.name: Range(
            round_significant(found[value.name].low), round_significant(found[value.name].high)
        )
        for value in values
    }


def statistics_key(observer: Observer, graph: Graph, names: Sequence[str], counts: bool) -> str:
    """SHA-256 of everything that statistics depend on."""
    content = {
        "graph": hashlib.sha256(print_graph(graph, named=True).encode()).hexdigest(),
        "data": observer.digest,
        "values": list(names),
        "counts": counts,
        "versions": dict(tool_versions()),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _statistics(
    observer: Observer, graph: Graph, names: Sequence[str], counts: bool, store: Store | None
) -> Mapping[str, ValueStatistics]:
    """Statistics from the store, or from the data."""
    if not names:
        return {}
    if store is None:
        return reduce(merged, _observed(observer, graph, names, counts, 0))
    key = statistics_key(observer, graph, names, counts)
    if (known := _stored(store, key, names)) is not None and known.complete:
        return known.values
    entry = _gathered(observer, graph, names, counts, store, key)
    store.put(key, write_entries([entry]))
    store.put(_unfinished(key), write_entries([]))
    return entry.values


def _gathered(
    observer: Observer,
    graph: Graph,
    names: Sequence[str],
    counts: bool,
    store: Store,
    key: str,
) -> Entry:
    """Statistics over all samples, from where an earlier run was stopped."""
    resume = _unfinished(key)
    before = _stored(store, resume, names) or Entry(resume, observer.origin, 0, {})
    samples, values = before.samples, before.values
    for found in _observed(observer, graph, names, counts, before.samples):
        samples, values = samples + 1, merged(values, found)
        if not samples % CHECKPOINT:
            so_far = Entry(resume, observer.origin, samples, values, final=False)
            store.put(resume, write_entries([so_far]))
    return Entry(key, observer.origin, samples, values)


def _observed(
    observer: Observer, graph: Graph, names: Sequence[str], counts: bool, skip: int
) -> Iterator[Mapping[str, ValueStatistics]]:
    """The statistics of each sample."""
    look = partial(statistics_of, count=counts)
    return observer.observe(graph, [graph.value(name) for name in names], look, skip=skip)


def _stored(store: Store, key: str, names: Sequence[str]) -> Entry | None:
    """The entry of this key."""
    content = store.get(key)
    if content is None:
        return None
    entry = next((item for item in read_entries(content, "statistics") if item.key == key), None)
    if entry is not None and set(entry.values) != set(names):
        raise DataError("statistics-unreadable", "the statistics are of other values")
    return entry


def _unfinished(key: str) -> str:
    """The key of statistics that are not complete yet."""
    return hashlib.sha256(f"unfinished {key}".encode()).hexdigest()


# ---- ranges ------------------------------------------------------------------------------------


def _range(statistics: ValueStatistics, settings: RangeSettings, symmetric: bool) -> Range:
    """The range that the method takes from the statistics."""
    if not statistics.samples:
        return Range(0.0, 0.0)
    seen = Range(statistics.low, statistics.high)
    histogram = statistics.histogram
    match settings.method:
        case "moving-average":
            number = statistics.samples
            return Range(statistics.low_sum / number, statistics.high_sum / number)
        case "percentile" if histogram is not None:
            return percentile_range(histogram, settings.percentile).clip(seen)
        case "entropy" if histogram is not None:
            return entropy_range(histogram, seen, settings.bits)
        case "mse" if histogram is not None:
            return mse_range(histogram, seen, settings.bits, symmetric)
    return seen


def round_significant(value: float, bits: int = SIGNIFICANT_BITS) -> float:
    """`value` rounded to so many significant bits, ties to even; infinities and NaN stay."""
    if not math.isfinite(value):
        return value
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)
