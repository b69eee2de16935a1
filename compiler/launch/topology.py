"""Which CPU cores there are: of the machine this runs on, or declared for another one.

CPUs are named by the numbers that Linux gives them (the ones of numactl, taskset and cpusets),
never by core ids, which repeat from socket to socket and differ from CPU numbers where the
hardware threads of a core are neighbours.

Source: Linux, Documentation/admin-guide/cputopology.rst and cgroup-v2.rst; proc_pid_status(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optc.errors import TargetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LIST = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")


@dataclass(frozen=True)
class Core:
    """A physical core.

    Attributes:
        cpu: the CPU number to run on: the first hardware thread that may be used.
        siblings: the other hardware threads of the core; they stay idle.
    """

    cpu: int
    siblings: tuple[int, ...] = ()


@dataclass(frozen=True)
class Node:
    """A NUMA node: a socket, or a part of one under sub-NUMA clustering.

    Attributes:
        number: number of the node.
        cores: its cores, by CPU number.
    """

    number: int
    cores: tuple[Core, ...]


@dataclass(frozen=True)
class Topology:
    """The cores that may be used.

    Attributes:
        nodes: NUMA nodes with at least one core, by number.
        quota: whole CPUs of time that cgroups leave, where that is less than the cores; else None.
    """

    nodes: tuple[Node, ...]
    quota: int | None = None

    @property
    def cores(self) -> int:
        """Number of physical cores."""
        return sum(len(node.cores) for node in self.nodes)

    @property
    def threads_per_core(self) -> int:
        """Hardware threads of a core; 2 with Hyper-Threading."""
        return max(1 + len(core.siblings) for node in self.nodes for core in node.cores)

    @property
    def largest(self) -> int:
        """Cores of the largest node, or the quota where that is less: the most an instance gets."""
        cores = max(len(node.cores) for node in self.nodes)
        return cores if self.quota is None else min(cores, self.quota)


def parse_cpus(text: str) -> tuple[int, ...]:
    """The CPU numbers of a list in the format of Linux, ``0-3,8``, in the order of the list.

    Raises:
        ValueError: not such a list; the message says what is wrong.
    """
    if not _LIST.fullmatch(text):
        raise ValueError(f"'{text}' is not a list of CPUs such as 0-3,8")
    found: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.partition("-")
        if last and int(last) < int(first):
            raise ValueError(f"the range {part} begins above its end")
        numbers = range(int(first), int(last or first) + 1)
        if twice := [number for number in numbers if number in found]:
            raise ValueError(f"CPU {twice[0]} stands twice")
        found.update(dict.fromkeys(numbers))
    return tuple(found)


def format_cpus(cpus: Iterable[int]) -> str:
    """CPU numbers as a list in the format of Linux: ``0-3,8``."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def sockets(count: int, cores: int, threads: int) -> Topology:
    """A machine that numbers its CPUs in order: all cores, socket by socket, then their siblings.

    That is Linux on most bare-metal Xeons without sub-NUMA clustering; some vendors deal the
    numbers out to the sockets in turn. launch.sh finds the difference when it starts.

    Args:
        count: sockets; each is one NUMA node.
        cores: physical cores of one socket.
        threads: hardware threads of one core.
    """
    total = count * cores
    nodes = []
    for socket in range(count):
        first = socket * cores
        used = range(first, first + cores)
        siblings = [tuple(cpu + total * k for k in range(1, threads)) for cpu in used]
        nodes.append(Node(socket, tuple(map(Core, used, siblings))))
    return Topology(tuple(nodes))


def detect_topology(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Topology:
    """What this process may use: its CPU mask, which cpusets narrow, and the quota of its cgroups.

    launch.sh reads the same files in the same way.

    Args:
        proc: where procfs is mounted.
        sys: where sysfs is mounted.

    Raises:
        TargetError: ``topology-unreadable``: not Linux, or procfs is not there.
    """
    by_node: dict[int, list[Core]] = {}
    seen: set[str] = set()
    for cpu in _allowed(proc):
        folder = sys / "devices/system/cpu" / f"cpu{cpu}"
        siblings = _read(folder / "topology/thread_siblings_list") or str(cpu)
        if siblings in seen:
            continue
        seen.add(siblings)
        others = tuple(other for other in parse_cpus(siblings) if other != cpu)
        by_node.setdefault(_node(folder), []).append(Core(cpu, others))
    nodes = tuple(Node(number, tuple(cores)) for number, cores in sorted(by_node.items()))
    quota = _quota(proc, sys)
    whole = Topology(nodes)
    return Topology(nodes, quota) if quota is not None and quota < whole.cores else whole


def _allowed(proc: Path) -> Sequence[int]:
    """The CPU mask of this process, ascending."""
    status = _read(proc / "self/status") or ""
    found = re.search(r"^Cpus_allowed_list:\s*(\S+)$", status, re.MULTILINE)
    if found is None:
        raise TargetError(
            "topology-unreadable",
            "cannot read which CPUs this process may use",
            location=str(proc / "self/status"),
            hint="the topology is found on Linux only; elsewhere, give the number of threads",
        )
    return parse_cpus(found[1])


def _node(cpu: Path) -> int:
    """The NUMA node of a CPU; 0 where the kernel knows no nodes."""
    names = [path.name.removeprefix("node") for path in cpu.glob("node[0-9]*")]
    return int(names[0]) if names else 0


def _quota(proc: Path, sys: Path) -> int | None:
    """Whole CPUs that cgroup v2 quotas leave, the narrowest on the way up; None without a quota."""
    lines = (_read(proc / "self/cgroup") or "").splitlines()
    group = next((line[3:] for line in lines if line.startswith("0::")), "")
    place = Path(group.strip("/"))
    found = []
    for folder in (place, *place.parents):
        limit = (_read(sys / "fs/cgroup" / folder / "cpu.max") or "max").split()
        if limit[0] != "max":
            found.append(max(1, int(limit[0]) // int(limit[1])))  # microseconds: quota, period
    return min(found, default=None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
