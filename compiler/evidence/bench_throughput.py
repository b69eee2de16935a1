"""How many samples a machine gets through when all instances of a model run at once.

Each instance is a process with CPUs and threads of its own, as launch.sh would start them. The
models take turns: in a turn all instances of one model begin at the same moment and run for a fixed
time, while those of the others wait without using the CPU.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.evidence.bench_process import open_pool
from optc.evidence.bench_stats import BLOCKS, turns
from optc.launch.plan import Demand, plan_slices

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.evidence.bench_latency import Effort
    from optc.evidence.bench_models import Entry
    from optc.evidence.bench_process import Process
    from optc.launch.plan import Slice
    from optc.launch.topology import Topology
    from optc.numerics.values import Feeds
    from optc.pipeline import Progress

_START: Final = 0.05  # seconds for all instances to hear that a turn begins
_LEAST_TURN: Final = 0.2


@dataclass(frozen=True)
class Rates:
    """What was measured of one model.

    Attributes:
        slices: CPUs of each instance.
        runs: runs per second of all instances together, by turn.
    """

    slices: tuple[Slice, ...]
    runs: tuple[float, ...]


def plan_instances(
    entries: Sequence[Entry], topology: Topology, threads: int | None
) -> list[tuple[Slice, ...]]:
    """The CPUs of every instance of each model on this machine.

    A plain model gets what the first artefact asks for; without any, instances have one core.

    Args:
        entries: the models.
        topology: the machine.
        threads: cores of each instance, instead of what launch configs ask for.

    Raises:
        TargetError: ``launch-does-not-fit``.
    """
    if threads is not None:
        demands = [Demand(threads, threads, threads)] * len(entries)
    else:
        first = next((e.demand for e in entries if e.demand is not None), Demand(1, 1))
        demands = [entry.demand or first for entry in entries]
    return [plan_slices(topology, demand) for demand in demands]


def measure_throughput(
    entries: Sequence[Entry],
    plans: Sequence[Sequence[Slice]],
    feeds: Sequence[Feeds],
    effort: Effort,
    progress: Progress | None = None,
) -> list[Rates]:
    """Run all instances of each model, in turns.

    Args:
        entries: the models.
        plans: CPUs of the instances of each.
        feeds: the inputs; each instance goes through them in turn.
        effort: measuring time of all models together, and runs before the first turn.
        progress: told about each round.

    Raises:
        ModelError: ``map-input`` or ``bench-process``; or what opening a model raises.
    """
    length = max(effort.seconds / (BLOCKS * len(entries)), _LEAST_TURN)
    rates: list[list[float]] = [[] for _ in entries]
    with open_pool(feeds) as pool:
        groups: list[list[Process]] = []
        for entry, slices in zip(entries, plans, strict=True):
            groups.append([pool.start(entry.label) for _ in slices])
            for process, place in zip(groups[-1], slices, strict=True):
                subject = entry.subject.with_threads(len(place.cpus))
                request = pool.request("open", [subject], cpus=place.cpus, warm_up=effort.warm_up)
                process.tell(request)
        for process in (process for group in groups for process in group):
            process.hear()
        for number in range(BLOCKS):
            if progress is not None:
                progress("throughput", number, BLOCKS)
            for index in turns(len(groups), number):
                rates[index].append(_turn(groups[index], length))
    if progress is not None:
        progress("throughput", BLOCKS, BLOCKS)
    return [Rates(tuple(p), tuple(r)) for p, r in zip(plans, rates, strict=True)]


def _turn(group: Sequence[Process], seconds: float) -> float:
    """Let all instances of a model run at once; returns their runs per second together."""
    start = time.monotonic() + _START
    for process in group:
        process.tell({"do": "turn", "start": start, "seconds": seconds})
    return sum(float(process.hear()["rate"]) for process in group)
