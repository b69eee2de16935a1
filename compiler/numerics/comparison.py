"""How far two sets of outputs are apart, as data: light to import, made by `compare_outputs`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from optc.numerics.tolerance import EXACT, Tolerance

if TYPE_CHECKING:
    from collections.abc import Iterable


def json_number(value: float) -> float | str:
    """`value` as JSON can hold it: infinities and NaN become ``"inf"``, ``"-inf"``, ``"nan"``."""
    return value if math.isfinite(value) else str(float(value))


@dataclass(frozen=True)
class OutputComparison:
    """The comparison of one tensor.

    Attributes:
        name: the output; with ``[i]`` for an element of a sequence or map.
        passed: whether it is within the tolerance.
        reason: why not; empty when it is.
        compared: False when elements could not be compared: missing, of another type or shape.
        conclusive: False when the bound is so wide against the output that passing says little: a
            saturated output, close to zero everywhere. Other inputs would tell more.
        dtype: element type that was expected.
        shape: shape that was expected.
        elements: number of elements.
        mismatched: floating point: elements beyond the peak bound or misplaced; else: unequal ones.
        max_abs_error: largest absolute difference.
        max_rel_error: largest difference relative to its own element: large for elements near
            zero, so it decides nothing.
        relative: rms(error) / rms(expected).
        peak: max |error| / max |expected|.
        sqnr: signal-to-noise ratio in dB.
        cosine: cosine similarity.
        used: share of the tolerance that the error takes up; above 1 it fails.
        worst: index of the largest error; None without any.
        tolerance: what it was held against.
    """

    name: str
    passed: bool
    reason: str = ""
    compared: bool = True
    conclusive: bool = True
    dtype: str = ""
    shape: tuple[int, ...] = ()
    elements: int = 0
    mismatched: int = 0
    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    relative: float = 0.0
    peak: float = 0.0
    sqnr: float = math.inf
    cosine: float = 1.0
    used: float = 0.0
    worst: tuple[int, ...] | None = None
    tolerance: Tolerance = EXACT

    def to_dict(self) -> dict[str, Any]:
        """As JSON data; infinities and NaN are strings."""
        numbers = ("max_abs_error", "max_rel_error", "relative", "peak", "sqnr", "cosine", "used")
        return {
            "name": self.name,
            "passed": self.passed,
            "reason": self.reason,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "compared": self.compared,
            "conclusive": self.conclusive,
            "elements": self.elements,
            "mismatched": self.mismatched,
            **{key: json_number(getattr(self, key)) for key in numbers},
            "worst": None if self.worst is None else list(self.worst),
            "tolerance": {
                "relative": self.tolerance.relative,
                "peak": self.tolerance.peak,
                "absolute": self.tolerance.absolute,
                "flips": self.tolerance.flips,
                "reason": self.tolerance.reason,
            },
        }


@dataclass(frozen=True)
class Comparison:
    """The comparison of all outputs; `outputs` has one entry per tensor, in order."""

    outputs: tuple[OutputComparison, ...]

    @property
    def passed(self) -> bool:
        """Whether every tensor is within its tolerance."""
        return all(output.passed for output in self.outputs)

    @property
    def worst(self) -> OutputComparison | None:
        """A tensor that failed, else the one closest to its tolerance; None without outputs."""
        return max(self.outputs, key=_badness, default=None)

    @classmethod
    def merge(cls, comparisons: Iterable[Comparison]) -> Comparison:
        """One comparison over several samples: for each tensor, the worst sample.

        It is conclusive when one sample is.
        """
        found: dict[str, OutputComparison] = {}
        for comparison in comparisons:
            for output in comparison.outputs:
                known = found.get(output.name, output)
                worse = output if _badness(output) > _badness(known) else known
                conclusive = output.conclusive or known.conclusive
                found[output.name] = replace(worse, conclusive=conclusive)
        return cls(tuple(found.values()))


def _badness(output: OutputComparison) -> tuple[bool, float]:
    return (not output.passed, output.used)
