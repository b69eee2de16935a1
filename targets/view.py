"""A target as the software on it sees it: an old kernel hides what the CPU has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from optc.targets.capabilities import TABLE, capabilities_of
from optc.targets.fact import version_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optc.targets.model import SoftwareMinimum, Target
    from optc.targets.runtimes import Runtime

MACHINE_KERNEL = "Linux on the machine itself"
GUEST_KERNEL = "Linux as a KVM guest"
"""How descriptors call the kernel of the machine, and the one of a virtual machine on it."""


@dataclass(frozen=True)
class View:
    """A target with the runtime and the kernel that are asked about.

    Attributes:
        target: the CPU.
        runtime: the runtime; None when none was named.
        kernel: the oldest Linux kernel of the machines; None: a kernel that hides nothing.
    """

    target: Target
    runtime: Runtime | None = None
    kernel: str | None = None

    @property
    def place(self) -> str:
        """All three in words: ``sapphirerapids with openvino on Linux 5.15``."""
        runtime = f" with {self.runtime.id}" if self.runtime else ""
        return f"{self.target.id}{runtime}{f' on Linux {self.kernel}' if self.kernel else ''}"

    @cached_property
    def blocked(self) -> tuple[SoftwareMinimum, ...]:
        """Requirements on the kernel of the machine that `kernel` does not meet."""
        if self.kernel is None:
            return ()
        return tuple(
            requirement
            for requirement in self.target.software
            if requirement.software == MACHINE_KERNEL
            and requirement.minimum.value is not None
            and version_key(self.kernel) < version_key(requirement.minimum.value)
        )

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """Capabilities of the target that the kernel does not hide."""
        shown = {flag for flag in self.target.isa.flags if self._blocker(flag) is None}
        return capabilities_of(shown)

    def hides(self, capability: str) -> str | None:
        """Why the kernel hides a capability that the CPU has; None when it does not."""
        if capability not in self.target.capabilities or capability in self.capabilities:
            return None
        flags = (flag for choice in TABLE[capability].flags for flag in choice)
        return next(reason for flag in flags if (reason := self.hides_flag(flag)))

    def hides_flag(self, flag: str) -> str | None:
        """Why the kernel hides a flag that the CPU has; None when it does not."""
        cause = self._blocker(flag)
        if cause is None:
            return None
        return (
            f"{cause.capability} needs {cause.software} {cause.minimum.value} "
            f"[{cause.minimum.source}]; {self.kernel} is older"
        )

    def _blocker(self, flag: str) -> SoftwareMinimum | None:
        """The unmet requirement of a capability that is read from the flag."""
        for requirement in self.blocked:
            if any(flag in choice for choice in TABLE[requirement.capability].flags):
                return requirement
        return None

    def conditions(self, needs: Iterable[str]) -> tuple[str, ...]:
        """Minimum versions of kernel and runtime for these capabilities, as instructions."""
        lines = (
            _line(requirement)
            for need in needs
            for requirement in self.target.software
            if _part_of(requirement.capability, need) and self._concerns(requirement)
        )
        return tuple(dict.fromkeys(line for line in lines))

    def _concerns(self, requirement: SoftwareMinimum) -> bool:
        """Whether a requirement is about the kernel, or about the runtime that is asked about."""
        if requirement.software.startswith("Linux"):
            return True
        if self.runtime is None:
            return False
        return requirement.software.replace(" ", "").lower() == self.runtime.id


def _part_of(capability: str, whole: str) -> bool:
    """Whether a capability is in another one: amx is in amx_int8, by their flags."""
    return any(
        set(part) <= set(flags) for part in TABLE[capability].flags for flags in TABLE[whole].flags
    )


def _line(requirement: SoftwareMinimum) -> str:
    """A requirement as an instruction."""
    minimum = requirement.minimum
    if minimum.value is None:
        return f"{requirement.software}: the oldest version that works is unknown ({minimum.note})"
    note = f"; {minimum.note}" if minimum.note else ""
    return f"{requirement.software} {minimum.value} or newer [{minimum.source}]{note}"
