"""What `optc bench` finds, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optc.numerics.comparison import json_number

if TYPE_CHECKING:
    from optc.evidence.bench_stats import Ratio, Spread


@dataclass(frozen=True)
class Latency:
    """How long one run takes.

    Attributes:
        cpu: CPU time of a run; `BenchResult.cpu_clock` says whose.
        wall: elapsed time of a run.
        cpu_speedup: speed by CPU time against the first model; None for the first.
        wall_speedup: speed by elapsed time against the first model; None for the first.
    """

    cpu: Spread
    wall: Spread
    cpu_speedup: Ratio | None
    wall_speedup: Ratio | None

    def to_dict(self) -> dict[str, Any]:
        """As data, times in seconds."""
        return {
            "cpu_seconds": self.cpu.to_dict(),
            "wall_seconds": self.wall.to_dict(),
            "cpu_speedup": self.cpu_speedup.to_dict() if self.cpu_speedup else None,
            "wall_speedup": self.wall_speedup.to_dict() if self.wall_speedup else None,
        }


@dataclass(frozen=True)
class Throughput:
    """How many samples the machine gets through when all instances of a model run at once.

    Attributes:
        samples: samples per second of all instances together, over the turns.
        speedup: against the first model; None for the first.
        instances: processes.
        threads: threads of each, one per core.
        cpus: CPUs of each, in the format of Linux.
    """

    samples: Spread
    speedup: Ratio | None
    instances: int
    threads: int
    cpus: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As data."""
        return {
            "samples_per_second": self.samples.to_dict(),
            "speedup": self.speedup.to_dict() if self.speedup else None,
            "instances": self.instances,
            "threads": self.threads,
            "cpus": list(self.cpus),
        }


@dataclass(frozen=True)
class Difference:
    """How far the outputs are from those of the first model; for information, it decides nothing.

    Attributes:
        relative: rms of the error against rms of the output, of the worst output; for integers
            and text the share of elements that differ. None when outputs cannot be compared.
        output: that output.
        reason: why they cannot be compared; empty when they can.
    """

    relative: float | None
    output: str
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As data; infinity and NaN are strings."""
        relative = None if self.relative is None else json_number(self.relative)
        return {"relative": relative, "output": self.output, "reason": self.reason}


@dataclass(frozen=True)
class ModelFigures:
    """What was measured of one model.

    Attributes:
        label: how it is called.
        model: its file.
        runtime: what executed it.
        target: the CPU that it was compiled for; empty for a model that no target belongs to.
        same: labels of further models with the same graph and options: these are their figures.
        latency: time of a run.
        throughput: None unless asked for.
        difference: None for the first model.
    """

    label: str
    model: str
    runtime: str
    target: str
    same: tuple[str, ...]
    latency: Latency
    throughput: Throughput | None
    difference: Difference | None

    def to_dict(self) -> dict[str, Any]:
        """As data."""
        return {
            "label": self.label,
            "model": self.model,
            "runtime": self.runtime,
            "target": self.target or None,
            "same": list(self.same),
            "latency": self.latency.to_dict(),
            "throughput": self.throughput.to_dict() if self.throughput else None,
            "difference": self.difference.to_dict() if self.difference else None,
        }


@dataclass(frozen=True)
class Skipped:
    """A model that was not measured.

    Attributes:
        label: how it is called.
        reason: why its figures would say nothing.
    """

    label: str
    reason: str


@dataclass(frozen=True)
class BenchResult:
    """Models that were measured in turns, on the same inputs.

    Attributes:
        models: figures in the order in which models were given; ratios are against the first.
        skipped: what was not measured.
        caveats: what the figures do not say.
        machine: the CPU's own name.
        versions: of the runtimes that were used.
        threads: threads of the runtime.
        inputs: what the models ran on.
        batch: samples per run.
        samples: different inputs that runs went through in turn.
        blocks: parts of the run that count as independent: processes of their own.
        rounds: rounds of all blocks together; each model had one turn in each.
        calls: runs of a turn; the times of runs are means over them.
        cpu_clock: whose CPU time was counted: ``thread`` or ``process``.
    """

    models: tuple[ModelFigures, ...]
    skipped: tuple[Skipped, ...]
    caveats: tuple[str, ...]
    machine: str
    versions: dict[str, str]
    threads: int
    inputs: str
    batch: int
    samples: int
    blocks: int
    rounds: int
    calls: int
    cpu_clock: str

    def to_dict(self) -> dict[str, Any]:
        """As data, times in seconds."""
        return {
            "machine": self.machine,
            "versions": dict(sorted(self.versions.items())),
            "threads": self.threads,
            "inputs": self.inputs,
            "batch": self.batch,
            "samples": self.samples,
            "blocks": self.blocks,
            "rounds": self.rounds,
            "calls": self.calls,
            "cpu_clock": self.cpu_clock,
            "models": [model.to_dict() for model in self.models],
            "skipped": [{"label": item.label, "reason": item.reason} for item in self.skipped],
            "caveats": list(self.caveats),
        }
