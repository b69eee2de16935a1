"""Ranges of the values of a graph, from one streaming pass over calibration data.

    x in [low, high]        what a quantizer maps to its integers

Memory is bounded by one sample and the statistics, whatever the number of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Graph, Value
    from optc.numerics.observe import Observer
    from optc.numerics.values import Array

SIGNIFICANT_BITS: Final = 8
"""Bits that are kept of the ends of a range: kernels of different CPUs differ around bit 20, and
2^-9 of a range is below half a step of eight bits."""


class RangeSettings(BaseModel):
    """How ranges follow from data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["minmax", "moving-average", "percentile", "entropy", "mse"] = Field(
        default="minmax",
        description="minmax: all that was seen; moving-average: of the extremes of the samples; "
        "percentile: all but the rarest; entropy: the least Kullback-Leibler divergence; mse: the "
        "least squared error of rounding and clipping",
    )


@dataclass(frozen=True)
class Range:
    """The finite values that a tensor takes.

    Attributes:
        low: least value; at most `high`.
        high: greatest value.
    """

    low: float
    high: float


def calibrate(
    observer: Observer, graph: Graph, values: Sequence[Value], settings: RangeSettings
) -> Mapping[str, Range]:
    """The range of each value, by name.

    Args:
        observer: the data.
        graph: a top-level graph; it stays as it is.
        values: values of it, not constants, of numbers.
        settings: the method.

    Raises:
        DataError: the data does not fit the model.
        ModelError: the graph does not run.
    """
    found: dict[str, Range] = {}
    for arrays in observer.observe(graph, values):
        for name, array in arrays.items():
            extremes = _extremes(array)
            if extremes is not None:
                seen = found.get(name, extremes)
                low, high = min(seen.low, extremes.low), max(seen.high, extremes.high)
                found[name] = Range(low, high)
    empty = Range(0.0, 0.0)
    return {value.name: _rounded(found.get(value.name, empty)) for value in values}


def _extremes(array: Array) -> Range | None:
    """The least and greatest finite element; None when there is none."""
    if not array.size:
        return None
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = array[np.isfinite(array)]
        return _extremes(finite)
    return Range(low, high)


def _rounded(found: Range) -> Range:
    return Range(round_significant(found.low), round_significant(found.high))


def round_significant(value: float, bits: int = SIGNIFICANT_BITS) -> float:
    """`value` rounded to so many significant bits, ties to even."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)
