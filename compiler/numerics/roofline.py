"""Roofline of a model on a target: the least time that arithmetic and memory allow.

    time of a node = max(operations / peak, bytes / bandwidth)

Operations are twice the multiply-accumulates; the peak is that of the path which computes the
node's precision. Bytes are those of operands and results, each touched once, over the bandwidth
that STREAM reaches: what stays in a cache is faster, what is read again is slower. It is a bound,
not a prediction. Bodies of control flow count once.

Without a clock the time of the arithmetic is a number of cycles; which of the two bounds a node
is then told by the clock above which memory is the slower one.

Source: Williams, Waterman, Patterson: Roofline, an insightful visual performance model (2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from optc.errors import TargetError
from optc.ir.cost import macs
from optc.ir.ops import OPS, Trait, info
from optc.numerics.traffic import precision, traffic
from optc.targets.peak import best_path, peak

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node
    from optc.targets import Runtime, Target
    from optc.targets.capabilities import Precision
    from optc.targets.paths import ComputePath
    from optc.targets.peak import Peak

Bound = Literal["memory", "compute"]


@dataclass(frozen=True)
class NodeCost:
    """One operation on the roofline.

    Attributes:
        name: label of the node.
        op: qualified operator name.
        precision: what it computes in; None for other than floating-point and int8 arithmetic.
        macs: multiply-accumulates; None when a shape is not known.
        bytes: bytes read and written; None when a size is not known.
        path: compute path whose peak applies; None when there is none or no arithmetic to bound.
        cycles: least cycles of the arithmetic on all cores; None without a peak.
        compute_seconds: the same in seconds; None without a clock.
        memory_seconds: least time of the traffic; None without bytes or bandwidth.
    """

    name: str
    op: str
    precision: Precision | None
    macs: int | None
    bytes: int | None
    path: ComputePath | None
    cycles: float | None
    compute_seconds: float | None
    memory_seconds: float | None

    @property
    def intensity(self) -> float | None:
        """Operations per byte; None when either is not known or nothing is moved."""
        if self.macs is None or not self.bytes:
            return None
        return 2 * self.macs / self.bytes

    @property
    def seconds(self) -> float | None:
        """Least time; None when a part that counts is not known."""
        if self.compute_seconds is None or self.memory_seconds is None:
            return None
        return max(self.compute_seconds, self.memory_seconds)

    @property
    def bound(self) -> Bound | None:
        """What the time is bound by; None when it is not known or there is none."""
        if not self.seconds:
            return None
        return "memory" if self.memory_seconds == self.seconds else "compute"

    @property
    def memory_bound_above_ghz(self) -> float | None:
        """The clock above which memory is slower than arithmetic; None when not known."""
        if self.cycles is None or not self.memory_seconds:
            return None
        return self.cycles / self.memory_seconds / 1e9

    def to_dict(self) -> dict[str, object]:
        """The node as data for JSON."""
        return {
            "name": self.name,
            "op": self.op,
            "precision": self.precision,
            "macs": self.macs,
            "bytes": self.bytes,
            "intensity": self.intensity,
            "path": self.path,
            "cycles": self.cycles,
            "compute_seconds": self.compute_seconds,
            "memory_seconds": self.memory_seconds,
            "seconds": self.seconds,
            "bound": self.bound,
            "memory_bound_above_ghz": self.memory_bound_above_ghz,
        }


@dataclass(frozen=True)
class Roofline:
    """A model on the roofline of a target.

    Attributes:
        target: name of the target.
        runtime: name of the runtime whose kernels were looked up; None: the best of the CPU.
        cores: cores that work.
        bandwidth_gbps: memory bandwidth of their sockets; None when not known.
        peaks: the peak of each path that a node uses.
        nodes: every operation in execution order.
        remarks: what the numbers do not say.
    """

    target: str
    runtime: str | None
    cores: int
    bandwidth_gbps: float | None
    peaks: tuple[Peak, ...]
    nodes: tuple[NodeCost, ...]
    remarks: tuple[str, ...]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all nodes that are known."""
        return sum(node.macs or 0 for node in self.nodes)

    @property
    def bytes(self) -> int:
        """Bytes of all nodes that are known."""
        return sum(node.bytes or 0 for node in self.nodes)

    @property
    def cycles(self) -> float:
        """Cycles of the arithmetic of all nodes that are known."""
        return sum(node.cycles or 0 for node in self.nodes)

    @property
    def memory_seconds(self) -> float | None:
        """Time of the traffic of all nodes that are known; None without a bandwidth."""
        if self.bandwidth_gbps is None:
            return None
        return sum(node.memory_seconds or 0 for node in self.nodes)

    @property
    def has_clock(self) -> bool:
        """Whether every path that is used has a clock."""
        return all(known.ghz.value is not None for known in self.peaks)

    @property
    def seconds(self) -> float | None:
        """Least time of the nodes that are known, one after the other; None without a clock."""
        if not self.has_clock or self.bandwidth_gbps is None:
            return None
        return sum(node.seconds or 0 for node in self.nodes)

    def to_dict(self) -> dict[str, object]:
        """Everything as data for JSON."""
        return {
            "target": self.target,
            "runtime": self.runtime,
            "cores": self.cores,
            "bandwidth_gbps": self.bandwidth_gbps,
            "peaks": [known.to_dict() for known in self.peaks],
            "macs": self.macs,
            "bytes": self.bytes,
            "cycles": self.cycles,
            "memory_seconds": self.memory_seconds,
            "seconds": self.seconds,
            "nodes": [node.to_dict() for node in self.nodes],
            "remarks": list(self.remarks),
        }


def roofline(
    graph: Graph,
    target: Target,
    *,
    runtime: Runtime | None = None,
    cores: int = 1,
    ghz: float | None = None,
) -> Roofline:
    """Put a model on the roofline of a target.

    Args:
        graph: the model; shapes that are not static make unknowns.
        target: the CPU.
        runtime: take the path of this runtime's kernels; None: the fastest path of the CPU.
        cores: physical cores that work; more than a socket has are spread over several.
        ghz: clock that the cores sustain; None: as far as the descriptor knows it.

    Raises:
        TargetError: cores or clock are not positive.
    """
    if cores < 1 or (ghz is not None and ghz <= 0):
        raise TargetError("peak-invalid", "cores and clock must be positive")
    place = _Place(target, runtime, cores, ghz)
    nodes = tuple(place.cost(inner, node) for inner in graph.walk() for node in inner.ordered())
    return Roofline(
        target=target.id,
        runtime=runtime.id if runtime else None,
        cores=cores,
        bandwidth_gbps=place.bandwidth,
        peaks=tuple(place.peaks.values()),
        nodes=nodes,
        remarks=(*place.remarks, *_remarks(graph, target, nodes, cores)),
    )


def node_costs(
    target: Target, runtime: Runtime | None, ghz: float | None = None
) -> Callable[[Graph, Node], NodeCost]:
    """A function that puts single operations on the roofline of one core; see `roofline`."""
    return _Place(target, runtime, 1, ghz).cost


class _Place:
    """A target with cores and clock; remembers what it was asked."""

    def __init__(
        self, target: Target, runtime: Runtime | None, cores: int, ghz: float | None
    ) -> None:
        self.target, self.runtime, self.cores, self.ghz = target, runtime, cores, ghz
        self.bandwidth = bandwidth_gbps(target, cores)
        self.peaks: dict[ComputePath, Peak] = {}
        self.remarks: list[str] = []
        self._paths: dict[tuple[str, Precision], ComputePath | None] = {}

    def cost(self, graph: Graph, node: Node) -> NodeCost:
        """One node on the roofline."""
        work, moved = macs(graph, node), traffic(graph, node)
        kind = precision(graph, node)
        path = self._path(node, kind) if work and kind else None
        cycles = self._cycles(work, path)
        clock = self.peaks[path].ghz.value if path else None
        seconds = None if cycles is None or clock is None else cycles / clock / 1e9
        return NodeCost(
            name=node.label,
            op=node.qualified_op,
            precision=kind,
            macs=work,
            bytes=moved,
            path=path,
            cycles=cycles,
            compute_seconds=0.0 if work == 0 else seconds,
            memory_seconds=None
            if moved is None or self.bandwidth is None
            else moved / self.bandwidth / 1e9,
        )

    def _cycles(self, work: int | None, path: ComputePath | None) -> float | None:
        if not work:
            return None if work is None else 0.0
        rate = self.peaks[path].ops_per_cycle.value if path else None
        return None if rate is None else 2 * work / (rate * self.cores)

    def _path(self, node: Node, kind: Precision) -> ComputePath | None:
        key = (node.op_type, kind)
        if key not in self._paths:
            self._paths[key] = path = self._find_path(node, kind)
            if path is not None and path not in self.peaks:
                self.peaks[path] = peak(self.target, path, cores=self.cores, ghz=self.ghz)
        return self._paths[key]

    def _find_path(self, node: Node, kind: Precision) -> ComputePath | None:
        """The path of the runtime's kernel, or the fastest one; remarks on what is not native."""
        best = best_path(kind, self.target.capabilities)
        if self.runtime is None or node.operator not in OPS:
            if best is None:
                self.remarks.append(
                    f"{node.op_type} in {kind}: {self.target.id} has no path for it"
                )
            return best
        answer = self.target.query(op=node.op_type, dtype=kind, runtime=self.runtime)
        if answer:
            return answer.path or best
        self.remarks.append(f"{answer.question}: {answer.reason}")
        return best_path("fp32", self.target.capabilities) if _is_fp32(answer.outcome) else None


def _is_fp32(outcome: str | None) -> bool:
    """Whether the runtime computes in fp32 instead."""
    return outcome == "converted"


def bandwidth_gbps(target: Target, cores: int = 1) -> float | None:
    """GB/s of the sockets that the cores are on, as STREAM reaches it; None when not known."""
    memory, most = target.memory, target.topology.max_cores_per_socket.value
    if memory.peak_gbps.value is None or memory.stream_efficiency.value is None:
        return None
    sockets = 1 if most is None else -(-cores // most)
    return memory.peak_gbps.value * memory.stream_efficiency.value * sockets


def _remarks(
    graph: Graph, target: Target, nodes: tuple[NodeCost, ...], cores: int
) -> Iterator[str]:
    """What the reader should know about the numbers."""
    unknown = sorted({node.op for node in nodes if node.macs is None or node.bytes is None})
    if unknown:
        count = sum(node.macs is None or node.bytes is None for node in nodes)
        yield f"{count} operations have unknown shapes and count nothing: {', '.join(unknown)}"
        dynamic = [value for value in graph.inputs if not getattr(value.type, "is_static", True)]
        if dynamic:
            inputs = ", ".join(f"{value.name} {value.type}" for value in dynamic)
            yield f"fix the dynamic dimensions of the inputs to count them: {inputs}"
    nested = (info(node).has(Trait.CONTROL_FLOW) for g in graph.walk() for node in g.nodes())
    if any(nested):
        yield "bodies of loops and branches count once"
    size = _weights(graph)
    cache = _cache(target, cores)
    if cache is not None and size <= cache:
        yield (
            f"the weights ({size / 2**20:.1f} MiB) fit into the caches of {cores} "
            f"{'core' if cores == 1 else 'cores'} ({cache / 2**20:.1f} MiB): repeated runs need "
            "less memory traffic than counted"
        )


def _weights(graph: Graph) -> int:
    return sum(
        value.constant.nbytes
        for inner in graph.walk()
        for value in inner.constants()
        if value.constant is not None
    )


def _cache(target: Target, cores: int) -> int | None:
    """Bytes of second- and last-level cache of the cores."""
    caches = target.caches
    if caches.l2_kib.value is None or caches.l3_kib_per_core.value is None:
        return None
    return (caches.l2_kib.value + caches.l3_kib_per_core.value) * 1024 * cores
