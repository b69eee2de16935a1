"""The `--target` part of `optc inspect`: a model on the roofline of a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.cli.console import say
from optc.cli.tables import table
from optc.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph
    from optc.numerics.roofline import NodeCost, Roofline

_EXAMPLE = "write --shape image=1,3,224,224"


def measure(
    graph: Graph,
    *,
    target: str,
    runtime: str | None,
    cores: int,
    ghz: float | None,
    shapes: Sequence[str],
) -> Roofline:
    """Fix input shapes, infer all others, and put the model on the roofline.

    Raises:
        OptcError: a target, runtime, input or shape that does not exist or does not fit.
    """
    from optc.ir.bind import bind_inputs
    from optc.numerics.roofline import roofline
    from optc.passes import InferShapes
    from optc.passes.base import PassContext
    from optc.targets import load_runtime, load_target

    cpu = load_target(target)
    engine = load_runtime(runtime) if runtime else None
    bind_inputs(graph, dict(map(parse_shape, shapes)))
    InferShapes().apply(graph, PassContext(cpu.id))
    return roofline(graph, cpu, runtime=engine, cores=cores, ghz=ghz)


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``x=1,3,320,320`` as a name and a shape.

    Raises:
        DataError: it is not of that form.
    """
    name, equals, sizes = text.rpartition("=")
    parts = [part.strip() for part in sizes.split(",")] if sizes.strip() else []
    if not equals or not name or not all(part.isdecimal() for part in parts):
        raise DataError("shape-invalid", f"--shape {text}: not NAME=SIZES", hint=_EXAMPLE)
    return name, tuple(int(part) for part in parts)


def show(result: Roofline, top: int) -> None:
    """Print the most costly nodes, the totals and the remarks."""
    _show_head(result)
    nodes = [node for node in result.nodes if node.macs or node.bytes]
    ranked = sorted(nodes, key=_cost, reverse=True)
    shown = ranked[:top] if top else ranked
    _show_nodes(shown, result)
    if len(shown) < len(ranked):
        say(f"… and {len(ranked) - len(shown)} more; --top 0 shows all")
    _show_totals(result)
    for remark in result.remarks:
        say(f"note: {remark}")
    if not result.has_clock:
        say(
            f"note: the clock of {result.target} under this load is unknown: cycles stand for "
            "seconds. Give it with --ghz, or measure it on the machine: optc targets probe"
        )


def _cost(node: NodeCost) -> tuple[float, float]:
    """Order of the list: by time, without a clock by cycles and then by traffic."""
    if node.seconds is not None:
        return node.seconds, 0.0
    return node.cycles or 0.0, node.memory_seconds or 0.0


def _show_head(result: Roofline) -> None:
    runtime = f" with {result.runtime}" if result.runtime else ""
    cores = "core" if result.cores == 1 else "cores"
    say(f"roofline on {result.cores} {cores} of {result.target}{runtime}")
    for known in result.peaks:
        say(f"  {known.path}: {known.describe()}")
    memory = result.bandwidth_gbps
    say(f"  memory: {'unknown' if memory is None else f'{memory:.1f} GB/s as STREAM reaches it'}")
    say()


def _show_nodes(nodes: Sequence[NodeCost], result: Roofline) -> None:
    time = "µs" if result.has_clock else "cycles"
    head = ("node", "op", "in", "MMAC", "KiB", "ops/byte", time, "memory µs", "bound by")
    rows = [head]
    for node in nodes:
        work = (
            _number(node.compute_seconds, 1e-6, 1)
            if result.has_clock
            else _number(node.cycles, 1, 0)
        )
        rows.append(
            (
                node.name,
                node.op,
                node.precision or "-",
                _number(node.macs, 1e6, 3),
                _number(node.bytes, 1024, 1),
                _number(node.intensity, 1, 1),
                work,
                _number(node.memory_seconds, 1e-6, 1),
                _bound(node),
            )
        )
    for line in table(rows, right=range(3, 8)):
        say(line)


def _bound(node: NodeCost) -> str:
    """The bound, or the clock that decides it."""
    if node.bound is not None:
        return node.bound
    if node.macs == 0 and node.bytes:
        return "memory"
    above = node.memory_bound_above_ghz
    return "unknown" if above is None else f"memory above {above:.3g} GHz"


def _show_totals(result: Roofline) -> None:
    bounds = [node.bound for node in result.nodes]
    say()
    say(f"total: {result.macs / 1e6:.1f} MMAC, {result.bytes / 2**20:.1f} MiB moved")
    if result.seconds is not None:
        say(
            f"  at least {result.seconds * 1e3:.3f} ms; {bounds.count('memory')} operations are "
            f"memory-bound, {bounds.count('compute')} compute-bound"
        )
        return
    memory = result.memory_seconds
    say(
        f"  {result.cycles:.0f} cycles of arithmetic, "
        f"{'unknown time' if memory is None else f'{memory * 1e3:.3f} ms'} of memory traffic"
    )


def _number(value: float | None, unit: float, digits: int) -> str:
    return "?" if value is None else f"{value / unit:.{digits}f}"
