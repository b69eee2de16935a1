"""Measures what the descriptors do not know of the machine it runs on: clocks and rates.

The clock is counted in a chain of integer multiplications, whose latency is known, while the
vector units are kept busy beside it. The rate is the throughput of independent vector instructions
at that clock. Everything runs on one core; a clock with all cores busy can be lower.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from optc.errors import TargetError
from optc.files import write_text
from optc.targets.capabilities import capabilities_of
from optc.targets.host import detect_host
from optc.targets.loading import read_target
from optc.targets.machine_code import (
    BF16_512,
    FMA_256,
    FMA_512,
    IMUL_LATENCY,
    VNNI_512,
    Code,
    clock_body,
    loop,
    rate_body,
)
from optc.targets.paths import PATH_NEEDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optc.targets.host import Host
    from optc.targets.machine_code import Instruction
    from optc.targets.model import Target
    from optc.targets.paths import ComputePath

INSTRUCTIONS: Mapping[ComputePath, Instruction] = {
    "fp32_avx2": FMA_256,
    "fp32_avx512": FMA_512,
    "int8_vnni": VNNI_512,
    "bf16_avx512": BF16_512,
}
"""What is measured. AMX is not: its tiles need a permission and a set-up of their own."""

_SLICE_SECONDS = 0.004  # about a time slice of the scheduler: some slices run undisturbed
_CHAINS = 4
_ACCUMULATORS = 12
_WARM_UP = 1_000_000


@dataclass(frozen=True)
class Measured:
    """One compute path of the machine, on one core.

    Attributes:
        ghz: clock under the path's instructions.
        ops_per_cycle: operations per cycle; a multiply-add counts as two.
    """

    ghz: float
    ops_per_cycle: float

    def to_dict(self) -> dict[str, float]:
        """The numbers with the digits that are repeatable."""
        return {"ghz": round(self.ghz, 2), "ops_per_cycle": round(self.ops_per_cycle, 1)}


@dataclass(frozen=True)
class Probe:
    """What was measured on this machine.

    Attributes:
        host: the machine.
        scalar_ghz: clock of code without vectors.
        paths: by compute path, those that the CPU has and optc can measure.
    """

    host: Host
    scalar_ghz: float
    paths: Mapping[ComputePath, Measured]

    def to_dict(self) -> dict[str, object]:
        """The measurements as data for JSON."""
        return {
            "product": self.host.product,
            "target": self.host.target.id if self.host.target else None,
            "is_target": self.host.is_target,
            "scalar_ghz": round(self.scalar_ghz, 2),
            "paths": {path: measured.to_dict() for path, measured in self.paths.items()},
        }

    def describe(self) -> str:
        """The measurements as text for people."""
        lines = [
            f"{self.host.product or 'unnamed CPU'}: {self.host.verdict}",
            f"scalar code: {self.scalar_ghz:.2f} GHz",
            *(
                f"{path}: {measured.ghz:.2f} GHz, {measured.ops_per_cycle:.1f} operations per "
                f"cycle and core ({INSTRUCTIONS[path].name})"
                for path, measured in self.paths.items()
            ),
        ]
        if "amx" in capabilities_of(self.host.flags):
            lines.append("AMX is not measured")
        return "\n".join(lines)

    def descriptor(self) -> str:
        """A descriptor file of this machine: its target with what was measured put in.

        Raises:
            TargetError: the machine is not one of the targets; a descriptor made from the nearest
                one would claim that one's memory, caches and cores.
        """
        target = self.host.target
        if target is None or not self.host.is_target:
            raise TargetError(
                "probe-no-target",
                f"this CPU ({self.host.product or 'unnamed'}) is none of the targets by family, "
                "model and stepping: a descriptor of it would claim another CPU's memory and cores",
                hint="use the measured clock with `--ghz`",
            )
        data = {"extends": target.id, "id": f"{target.id}-measured", **self._changes(target)}
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

    def _changes(self, target: Target) -> dict[str, object]:
        """The measured facts that the target does not know, or that this SKU has otherwise."""
        source = f"measured with optc targets probe on {self.host.product}"
        changes: dict[str, object] = {}
        vectors = self.paths.get("fp32_avx512")
        if vectors is not None:
            clock = _fact(round(vectors.ghz, 2), source, "one core; lower when all cores are busy")
            changes["frequency"] = {"avx512_ghz": clock}
        rates = {
            path: _fact(round(measured.ops_per_cycle, 1), source, None)
            for path, measured in self.paths.items()
            if target.compute.ops_per_cycle[path].value is None
        }
        compute: dict[str, object] = {"ops_per_cycle": rates} if rates else {}
        stated = target.compute.ops_per_cycle["fp32_avx512"].value
        # One unit makes half the rate; anything between is a disturbed measurement of two.
        if vectors is not None and stated and vectors.ops_per_cycle < 0.6 * stated:
            compute["fma512_units"] = _fact(1, source, None)
        return {**changes, "compute": compute} if compute else changes


def write_descriptor(found: Probe, path: Path) -> None:
    """Write the descriptor of the measured machine, and check that it can be read.

    Raises:
        TargetError: the machine is none of the targets.
        OutputError: the file cannot be written.
    """
    write_text(path, found.descriptor())
    read_target(path)


def _fact(value: float, source: str, note: str | None) -> dict[str, object]:
    """A fact as the data of a file."""
    fact: dict[str, object] = {"value": value, "source": source, "confidence": "high"}
    return {**fact, "note": note} if note else fact


def probe(seconds: float = 3.0) -> Probe:
    """Measure clocks and rates of this machine; takes about `seconds`.

    Raises:
        TargetError: not an x86-64 Linux machine, or one that forbids executable memory.
    """
    host = detect_host()
    capabilities = capabilities_of(host.flags)
    if "avx2" not in capabilities:
        raise TargetError(
            "probe-unavailable",
            "the machine has no AVX2: there is nothing to measure",
            hint="give the clock with `--ghz`",
        )
    wanted = [path for path in INSTRUCTIONS if PATH_NEEDS[path] in capabilities]
    slices = max(2, int(seconds / _SLICE_SECONDS / (2 * len(wanted) + 1)))
    try:
        scalar = _clock(None, slices)
        return Probe(host, scalar, {path: _measure(INSTRUCTIONS[path], slices) for path in wanted})
    except OSError as error:
        raise TargetError(
            "probe-unavailable",
            f"the system forbids the measuring code: {error.strerror or error}",
            hint="give the clock with `--ghz`",
        ) from error


def _measure(instruction: Instruction, slices: int) -> Measured:
    """Clock and rate of one instruction."""
    ghz = _clock(instruction, slices)
    rounds = _per_second(loop(rate_body(instruction, _ACCUMULATORS)), slices)
    return Measured(ghz, rounds * _ACCUMULATORS * instruction.operations / (ghz * 1e9))


def _clock(instruction: Instruction | None, slices: int) -> float:
    """GHz of the core while it runs the instruction."""
    return (
        _per_second(loop(clock_body(instruction, _CHAINS)), slices) * _CHAINS * IMUL_LATENCY / 1e9
    )


def _per_second(code: bytes, slices: int) -> float:
    """Rounds of a loop per second: the best of some slices, as whatever disturbs only slows."""
    run = Code(code).run  # the method keeps the code alive
    run(_WARM_UP)  # wakes the vector units and settles the clock
    rounds, best = _WARM_UP, 0.0
    for _ in range(slices):
        start = time.perf_counter()
        run(rounds)
        speed = rounds / (time.perf_counter() - start)
        best = max(best, speed)
        rounds = max(1, int(speed * _SLICE_SECONDS))
    return best
