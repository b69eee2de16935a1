"""Which cores each instance gets: slices of equal size that never cross a NUMA node.

The same rule in the language of the shell is in launch.sh, for the machine it starts on; a test
holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.errors import TargetError
from optc.launch.topology import format_cpus

if TYPE_CHECKING:
    from optc.launch.topology import Topology
    from optc.targets.model import LaunchRules, Target

MODES = ("latency", "online", "throughput")
"""latency: small instances on all cores, one request each; online: a service of medium size;
throughput: one instance per NUMA node, for large batches."""


@dataclass(frozen=True)
class Demand:
    """How many cores an instance should get.

    Attributes:
        wanted: cores it wants; 0: all of a NUMA node.
        most: it grows up to this size where cores would stay idle otherwise.
        exact: cores it gets, whatever the mode wants; None: as the mode wants, and fewer on a
            machine that has fewer.
        instances: how many instances; None: as many as fit.
    """

    wanted: int
    most: int
    exact: int | None = None
    instances: int | None = None


@dataclass(frozen=True)
class Slice:
    """The cores of one instance.

    Attributes:
        node: its NUMA node.
        cpus: one CPU number per physical core; as many as the instance has threads.
    """

    node: int
    cpus: tuple[int, ...]

    @property
    def cpu_list(self) -> str:
        """The CPUs in the format of Linux."""
        return format_cpus(self.cpus)


def demand_of(target: Target, mode: str, cores: int | None, instances: int | None) -> Demand:
    """What a mode asks for on a target.

    Sources: `LaunchRules` of the target; they carry theirs.

    Raises:
        TargetError: ``launch-rule-unknown``: the target does not say, and neither does `cores`.
    """
    if cores:
        return Demand(cores, cores, cores, instances)
    rules: LaunchRules = target.launch
    if mode == "latency":
        size = _known(rules.latency_cores.value)
        return Demand(size, size, None, instances)
    if mode == "online":
        fewest, most = rules.online_cores.value or (None, None)
        return Demand(_known(fewest), _known(most), None, instances)
    return Demand(0, 0, None, instances)


def stated_threads(target: Target, mode: str, demand: Demand) -> int:
    """The thread count for options that are written without knowing the machine."""
    return demand.wanted or _known(target.launch.throughput_cores.value)


def plan_slices(topology: Topology, demand: Demand) -> tuple[Slice, ...]:
    """Cut the cores into slices, all of the same size, one per instance.

    Nodes take turns, so that few instances spread over the memory controllers.

    Raises:
        TargetError: ``launch-does-not-fit``, with what there is.
    """
    counts = [len(node.cores) for node in topology.nodes]
    size = _size(counts, demand)
    fitting = _fit(counts, size)
    if fitting < (demand.instances or 1):
        raise TargetError(
            "launch-does-not-fit",
            f"{demand.instances or 1} instance(s) of {demand.exact or 1} core(s) do not fit: "
            f"{sum(counts)} core(s) on {len(counts)} NUMA node(s), and no instance crosses a node",
            hint="set launch.cores or launch.instances to less",
        )
    slices = [
        Slice(node.number, tuple(core.cpu for core in node.cores[turn * size : (turn + 1) * size]))
        for turn in range(max(counts) // size)
        for node in topology.nodes
        if (turn + 1) * size <= len(node.cores)
    ]
    return tuple(slices[: demand.instances])


def _size(counts: list[int], demand: Demand) -> int:
    """Cores of every instance."""
    if demand.exact:
        return demand.exact
    size = demand.wanted
    if not 0 < size <= max(counts):
        # Not necessarily all of the largest node: 19 cores on each of two nodes are more than 20.
        size = max(
            range(1, max(counts) + 1), key=lambda s: (s * sum(count >= s for count in counts), s)
        )
    while size > 1 and _fit(counts, size) < (demand.instances or 1):
        size -= 1
    least = demand.instances or _fit(counts, size)
    while size < demand.most and _fit(counts, size + 1) >= least:
        size += 1
    return size


def _fit(counts: list[int], size: int) -> int:
    """How many slices of a size there are."""
    return sum(count // size for count in counts)


def _known(value: int | None) -> int:
    """A launch rule that every descriptor of the package gives."""
    if value is None:
        raise TargetError(
            "launch-rule-unknown",
            "the target does not say how many cores an instance gets in this mode",
            hint="set launch.cores in the recipe",
        )
    return value
