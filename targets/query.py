"""Answers about targets and runtimes together: what is available, what is missing, who has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from optc.errors import TargetError, did_you_mean
from optc.targets.capabilities import TABLE
from optc.targets.loading import RUNTIME_NAMES, shipped_runtime, shipped_targets

if TYPE_CHECKING:
    from optc.targets.model import Target
    from optc.targets.runtimes import Runtime


@dataclass(frozen=True)
class MissingCapability:
    """Why a capability is not available, in words for the user.

    Attributes:
        capability: what was asked for, e.g. ``bf16``.
        lacks_it: whether the target or the runtime is the cause.
        message: what is missing, and the evidence.
        owners: the targets that have it and the runtimes that use it.
        instead: what a pipeline can do without it.
    """

    capability: str
    lacks_it: Literal["target", "runtime"]
    message: str
    owners: str
    instead: str

    @property
    def hint(self) -> str:
        """Who has it and what to write instead."""
        return f"{self.owners}. {self.instead}"


def available_capabilities(target: Target, runtime: Runtime) -> frozenset[str]:
    """What artefacts for `target` can use under `runtime`: this is what `when:` asks."""
    return frozenset(name for name in target.capabilities if runtime.uses(name))


def targets_with(capability: str) -> tuple[str, ...]:
    """Names of the shipped targets that have a capability."""
    return tuple(target.id for target in shipped_targets() if capability in target.capabilities)


def runtimes_with(capability: str) -> tuple[str, ...]:
    """Names of the shipped runtimes that can use a capability."""
    return tuple(name for name in RUNTIME_NAMES if shipped_runtime(name).uses(capability))


def missing_capability(
    capability: str, target: Target, runtime: Runtime
) -> MissingCapability | None:
    """None when `target` with `runtime` has the capability, else why not and what to do.

    Raises:
        TargetError: there is no such capability.
    """
    if capability not in TABLE:
        raise TargetError(
            "capability-unknown",
            f"there is no capability '{capability}'; known: {', '.join(TABLE)}",
            hint=did_you_mean(capability, TABLE),
        )
    if capability not in target.capabilities:
        return target_lacks(capability, target)
    if not runtime.uses(capability):
        return _runtime_lacks(capability, runtime)
    return None


def target_lacks(capability: str, target: Target) -> MissingCapability:
    """Why the CPU does not have a capability, and which targets do."""
    entry = TABLE[capability]
    return MissingCapability(
        capability,
        "target",
        f"{target.id} lacks {capability}: {entry.description} (CPU flags {entry.wanted()})",
        _owners(capability),
        f"To skip the step on the others, write `when: {capability}`",
    )


def _runtime_lacks(capability: str, runtime: Runtime) -> MissingCapability:
    """The answer when the CPU has it and the runtime has no kernels for it."""
    lines = []
    evidence = []
    for precision in TABLE[capability].serves:
        support = runtime.precisions[precision]
        evidence.append(f"{precision}: {support.computes.note or support.computes.source}")
        lines.append(str(support.instead))
    return MissingCapability(
        capability,
        "runtime",
        f"{runtime.id} does not use {capability} ({'; '.join(evidence)})",
        _owners(capability),
        f"Or: {'; '.join(lines)}",
    )


def _owners(capability: str) -> str:
    """Who has a capability: it takes a target and a runtime."""
    targets = ", ".join(targets_with(capability)) or "none"
    runtimes = ", ".join(runtimes_with(capability)) or "none"
    return f"targets with {capability}: {targets}; runtimes that use it: {runtimes}"
