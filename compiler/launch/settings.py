"""What a launch folder is rendered from: the emitted model, and the `launch` of the recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from optc.errors import CapabilityError, InternalError, TargetError, did_you_mean
from optc.launch.plan import MODES, demand_of, plan_slices
from optc.launch.service import Service
from optc.targets.query import missing_capability

if TYPE_CHECKING:
    from optc.launch.plan import Demand, Slice
    from optc.launch.topology import Topology
    from optc.targets import Precision, Runtime, Target

Allocator = Literal["system", "jemalloc", "tcmalloc"]
LaunchPrecision = Literal["fp32", "bf16"]
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Emitted:
    """The model that is launched.

    Attributes:
        name: name of the recipe.
        model_file: file name of the model in the folder above the launch folder.
        model_bytes: size of the model and its external data.
        precisions: precisions that it states itself.
        ops: its operators, by qualified name.
        saturates: whether sums of its int8 products may saturate where there is no VNNI.
    """

    name: str
    model_file: str
    model_bytes: int = 0
    precisions: frozenset[Precision] = frozenset({"fp32"})
    ops: frozenset[str] = frozenset()
    saturates: bool = True


@dataclass(frozen=True)
class Settings:
    """How it is launched.

    Attributes:
        mode: one of `MODES`.
        batch: batch size, handed to the command that is started.
        instances: number of instances; None: as many as the cores of the machine allow.
        cores: physical cores of each instance, exactly; None: what the mode wants, fewer on a
            machine that has fewer.
        topology: the machine; None: any, launch.sh plans when it starts.
        runtime_version: version of the runtime on the machine; None: every supported one.
        allocator: what launch.sh loads into the instances.
        precision: what the runtime computes the fp32 operations of the model in.
        planned: whether the model marks what is to stay fp32 all the same.
        service: how the instances are run as services.
    """

    mode: str = "latency"
    batch: int = 1
    instances: int | None = None
    cores: int | None = None
    topology: Topology | None = None
    runtime_version: str | None = None
    allocator: Allocator = "system"
    precision: LaunchPrecision = "fp32"
    planned: bool = False
    service: Service = field(default_factory=Service)


def check_names(emitted: Emitted) -> None:
    """Refuse names that a script or unit would not read as they are; recipes cannot hold any."""
    for name in (emitted.name, emitted.model_file):
        if not _SAFE.fullmatch(name):
            raise InternalError("launch-name", f"not a name for scripts and units: {name!r}")


def check_precision(target: Target, runtime: Runtime, settings: Settings) -> None:
    """Refuse a precision that would be emulated, or that the runtime has no kernels for.

    Raises:
        CapabilityError: ``capability-missing``.
    """
    if settings.precision == "fp32":
        return
    missing = missing_capability(settings.precision, target, runtime)
    if missing is None:
        return
    instead = "Write `precision: fp32`"
    if missing.lacks_it == "target":
        instead += f", or leave {target.id} out of `targets`"
    else:
        instead += f". {missing.instead}"
    raise CapabilityError(
        "capability-missing",
        f"launch.precision: {settings.precision} cannot be had: {missing.message}",
        hint=f"{missing.owners}. {instead}",
    )


def slices_of(target: Target, settings: Settings) -> tuple[Demand, tuple[Slice, ...]]:
    """What an instance wants, and the slices of the declared machine: none without a topology.

    Raises:
        TargetError: ``launch-invalid``: no machine of this target can honour the settings; or
            ``launch-does-not-fit``: the declared one cannot.
    """
    if settings.mode not in MODES:
        raise TargetError(
            "launch-invalid",
            f"launch.mode: there is no mode '{settings.mode}'; known: {', '.join(MODES)}",
            hint=did_you_mean(settings.mode, MODES),
        )
    for name in ("batch", "instances", "cores"):
        number = getattr(settings, name)
        if number is not None and number < 1:
            raise TargetError("launch-invalid", f"launch.{name}: must be at least 1, not {number}")
    _check_cores(target, settings)
    demand = demand_of(target, settings.mode, settings.cores, settings.instances)
    return demand, plan_slices(settings.topology, demand) if settings.topology else ()


def _check_cores(target: Target, settings: Settings) -> None:
    """Refuse more cores than a socket of the target has."""
    most = target.topology.max_cores_per_socket.value
    cores = settings.cores
    if cores is not None and most is not None and cores > most:
        raise TargetError(
            "launch-invalid",
            f"launch.cores: {cores} cores per instance, but a socket of {target.id} has {most}",
            hint="an instance never crosses a NUMA node: use fewer cores and more instances",
        )
    for node in settings.topology.nodes if settings.topology else ():
        if most is not None and len(node.cores) > most:
            raise TargetError(
                "launch-invalid",
                f"launch.topology: node {node.number} has {len(node.cores)} cores, but a socket "
                f"of {target.id} has {most}",
                hint="`cores` lists one CPU per physical core; the other hardware threads of the "
                "cores are `siblings`",
            )
