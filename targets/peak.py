"""Peak arithmetic: rate of a path per cycle and core, and what it makes with cores and a clock.

    peak [GOPS] = operations per cycle and core x cores x clock [GHz]

The clock is the one that the core sustains under these instructions, not the base clock: 512-bit
multiply-adds ran 23 % below scalar code on a Cascade Lake. It belongs to the SKU and the cooling;
where the descriptor does not know it, it is asked for or measured, never assumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.errors import TargetError
from optc.targets.fact import Fact
from optc.targets.paths import PATH_NEEDS, PATHS_BY_PRECISION, VECTOR_PATHS

if TYPE_CHECKING:
    from collections.abc import Collection

    from optc.targets.capabilities import Precision
    from optc.targets.model import Target
    from optc.targets.paths import ComputePath


@dataclass(frozen=True)
class Peak:
    """What one path of a CPU can do at most.

    Attributes:
        path: the compute path.
        ops_per_cycle: operations per cycle and core; a multiply-add counts as two.
        ghz: sustained clock under the path's instructions; value None when it is not known.
        cores: cores that work.
    """

    path: ComputePath
    ops_per_cycle: Fact[float]
    ghz: Fact[float]
    cores: int = 1

    @property
    def gops(self) -> float | None:
        """Giga-operations per second of all cores; None without a rate or a clock."""
        if self.ops_per_cycle.value is None or self.ghz.value is None:
            return None
        return self.ops_per_cycle.value * self.ghz.value * self.cores

    def describe(self) -> str:
        """One line: the rate with its source, and the total where a clock is known."""
        rate = self.ops_per_cycle
        if rate.value is None:
            return f"unknown: {rate.note}"
        text = f"{rate.value:g} operations per cycle and core [{rate.source}; {rate.confidence}]"
        if self.gops is None:
            return text
        cores = "core" if self.cores == 1 else "cores"
        return f"{text}; {self.gops:.4g} GOPS on {self.cores} {cores} at {self.ghz.value:g} GHz"

    def to_dict(self) -> dict[str, object]:
        """The peak as data for JSON."""
        return {
            "path": self.path,
            "ops_per_cycle": self.ops_per_cycle.model_dump(mode="json"),
            "ghz": self.ghz.model_dump(mode="json"),
            "cores": self.cores,
            "gops": self.gops,
        }


def best_path(precision: Precision, capabilities: Collection[str]) -> ComputePath | None:
    """The fastest path of a precision that a CPU with these capabilities has, or None."""
    fitting = (path for path in PATHS_BY_PRECISION[precision] if PATH_NEEDS[path] in capabilities)
    return next(fitting, None)


def peak(target: Target, path: ComputePath, *, cores: int = 1, ghz: float | None = None) -> Peak:
    """What a path of the target can do at most.

    Args:
        target: the CPU; it must have the path.
        path: the compute path.
        cores: cores that work, of one socket or several.
        ghz: sustained clock under the path's instructions; None: the descriptor's, if it has one.

    Raises:
        TargetError: cores or clock are not positive.
    """
    if cores < 1 or (ghz is not None and ghz <= 0):
        raise TargetError("peak-invalid", "cores and clock must be positive")
    if ghz is not None:
        clock = Fact[float](value=ghz, source="given by the caller", confidence="high")
    else:
        clock = sustained_clock(target, path)
    return Peak(path, rate(target, path), clock, cores)


def rate(target: Target, path: ComputePath) -> Fact[float]:
    """Operations per cycle and core, corrected for CPUs with one 512-bit unit.

    Only the vector paths of 512 bits lose: AVX2 has two units without AVX-512's second one, and
    AMX is a unit of its own.
    """
    stated = target.compute.ops_per_cycle[path]
    units = target.compute.fma512_units
    if path not in VECTOR_PATHS or stated.value is None or units.value == 2:
        return Fact[float].model_validate(stated.model_dump())
    if units.value is None:
        return Fact[float](value=None, confidence="low", note=f"512-bit units: {units.note}")
    share = units.value / 2
    return Fact[float](
        value=stated.value * share,
        source=f"derived: {stated.value:g} x {units.value} of 2 units ({stated.source})",
        confidence=min(stated.confidence, units.confidence, key=_CONFIDENCE.index),
    )


_CONFIDENCE = ("low", "medium", "high")


def sustained_clock(target: Target, path: ComputePath) -> Fact[float]:
    """The clock under the instructions of a path, as far as the descriptor knows it."""
    frequency = target.frequency
    if path.endswith("_amx"):
        known = frequency.amx_ghz
    elif path in VECTOR_PATHS:
        known = frequency.avx512_ghz
    else:
        known = None
    if known is None:
        note = "no clock under 256-bit multiply-adds is kept"
        return Fact[float](value=None, confidence="low", note=note)
    return Fact[float].model_validate(known.model_dump())
