"""What the machine is that this runs on: the highest target whose CPU flags it has.

Flags come first, CPUID family, model and stepping second: three generations share model 0x55,
virtual machines fake steppings, and hypervisors, old kernels and the BIOS can hide extensions.
CPUID decides only between targets with the same flags (Sapphire and Emerald Rapids).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optc.errors import TargetError
from optc.targets.capabilities import capabilities_of
from optc.targets.fact import version_key
from optc.targets.loading import shipped_targets
from optc.targets.view import GUEST_KERNEL, MACHINE_KERNEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.targets.model import SoftwareMinimum, Target

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Host:
    """A CPU as /proc/cpuinfo describes it, and the target that stands for it.

    Attributes:
        vendor: e.g. ``GenuineIntel``; empty when unknown, as are the numbers then -1.
        product: the CPU's own name.
        family: display family.
        model: display model.
        stepping: stepping.
        flags: everything on the first ``flags`` line.
        kernel: release of the Linux kernel, e.g. ``6.18.0``; empty when unknown.
        target: the highest target whose flags are all present; None when there is none.
        named: the target that vendor, family, model and stepping name; None when they name none.
    """

    vendor: str
    product: str
    family: int
    model: int
    stepping: int
    flags: frozenset[str]
    kernel: str
    target: Target | None
    named: Target | None

    @property
    def is_virtual(self) -> bool:
        """Whether a hypervisor says that it is there; one may stay silent."""
        return "hypervisor" in self.flags

    @property
    def is_target(self) -> bool:
        """Whether CPUID agrees with the flags: the machine is that CPU and not a look-alike."""
        return self.target is not None and self.target is self.named

    def missing(self, target: Target) -> tuple[str, ...]:
        """Flags of `target` that the machine does not show, in the order of the descriptor."""
        return tuple(flag for flag in target.isa.flags if flag not in self.flags)

    def explain(self) -> tuple[str, ...]:
        """How the answer was reached, one line per step."""
        cpuid = f"{self.vendor}, family {self.family}, model {self.model}, stepping {self.stepping}"
        lines = [f"this CPU: {self.product or 'unnamed'} ({cpuid if self.vendor else 'not x86'})"]
        for target in shipped_targets():
            missing = ", ".join(self.missing(target))
            lines.append(
                f"{target.id}: missing {missing}"
                if missing
                else f"{target.id}: has all {len(target.isa.flags)} flags"
            )
        return (*lines, self.verdict, *self._caveats())

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        if self.target is None:
            return "no target: the CPU lacks flags of all of them"
        if self.is_target:
            return f"{self.target.id}, confirmed by family, model and stepping"
        known = f"it is {self.named.names.codename}" if self.named else self._stranger()
        return (
            f"{self.target.id} by flags only: the same instructions run here, but {known}; its "
            "speed, caches and clocks are not those of the descriptor"
        )

    def _stranger(self) -> str:
        """How a CPU is called that no target describes."""
        assert self.target is not None
        vendor = f" of {self.vendor}" if self.vendor != self.target.identification.vendor else ""
        return f"this CPU{vendor} is not {self.target.names.codename} by family, model and stepping"

    def _caveats(self) -> Iterator[str]:
        """What may make the answer differ from the hardware."""
        if self.named is not None and not self.flags.issuperset(self.named.isa.flags):
            yield self._why_hidden(self.named)
        if self.is_virtual:
            yield (
                "a virtual machine: the hypervisor chooses which flags, family, model and stepping "
                "it shows, and cores may be hyper-threads"
            )

    def to_dict(self) -> dict[str, object]:
        """What was found as data for JSON."""
        return {
            "target": self.target.id if self.target else None,
            "is_target": self.is_target,
            "named": self.named.id if self.named else None,
            "vendor": self.vendor,
            "product": self.product,
            "family": self.family,
            "model": self.model,
            "stepping": self.stepping,
            "kernel": self.kernel,
            "virtual": self.is_virtual,
            "capabilities": sorted(capabilities_of(self.flags)),
            "missing": {target.id: list(self.missing(target)) for target in shipped_targets()},
            "explanation": list(self.explain()),
        }

    def _why_hidden(self, named: Target) -> str:
        """Why a CPU of a known model may lack flags of its generation."""
        missing = self.missing(named)
        lost = named.capabilities - capabilities_of(self.flags)
        software = {GUEST_KERNEL if self.is_virtual else MACHINE_KERNEL}
        if not self.kernel:
            software = {GUEST_KERNEL, MACHINE_KERNEL}
        needs = [
            f"{requirement.capability} needs {requirement.software} {requirement.minimum.value}"
            f"{self._verdict(requirement)}"
            for requirement in named.software
            if requirement.capability in lost and requirement.software in software
        ]
        causes = [*needs, "a hypervisor that does not pass them on", "the BIOS"]
        return (
            f"family, model and stepping are those of {named.id}, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} hidden; usual reasons: {'; '.join(causes)}"
        )

    def _verdict(self, requirement: SoftwareMinimum) -> str:
        """Whether this kernel meets a requirement, in words; nothing when it is not known."""
        minimum = requirement.minimum.value
        if not self.kernel or minimum is None:
            return ""
        older = version_key(self.kernel) < version_key(minimum)
        return f" ({self.kernel} is {'too old' if older else 'new enough'})"


def detect_host(cpuinfo: Path = CPUINFO, *, kernel: str | None = None) -> Host:
    """Read what this machine is.

    Args:
        cpuinfo: the file to read, in the format of /proc/cpuinfo.
        kernel: release of the kernel that wrote it; None: that of this machine when `cpuinfo` is
            its own, unknown otherwise.

    Raises:
        TargetError: the file cannot be read.
    """
    fields = _first_processor(cpuinfo)
    flags = frozenset(fields.get("flags", "").split())
    vendor = fields.get("vendor_id", "")
    family = _number(fields.get("cpu family"))
    model = _number(fields.get("model"))
    stepping = _number(fields.get("stepping"))
    known = shipped_targets()
    fitting = [target for target in known if flags.issuperset(target.isa.flags)]
    named = [t for t in known if t.identification.matches(vendor, family, model, stepping)]
    if kernel is None:
        kernel = platform.release() if cpuinfo == CPUINFO else ""
    return Host(
        vendor=vendor,
        product=fields.get("model name", ""),
        family=family,
        model=model,
        stepping=stepping,
        flags=flags,
        kernel=kernel,
        target=max(fitting, key=lambda target: (target.rank, target in named), default=None),
        named=named[0] if named else None,
    )


def host_capabilities() -> frozenset[str]:
    """Capabilities of this machine's CPU; none where it cannot be read."""
    try:
        return capabilities_of(detect_host().flags)
    except TargetError:
        return frozenset()


def host_target(cpuinfo: Path = CPUINFO) -> Target:
    """The highest target whose flags this machine has.

    Raises:
        TargetError: it has the flags of none; the message says what the lowest would need.
    """
    host = detect_host(cpuinfo)
    if host.target is not None:
        return host.target
    lowest = min(shipped_targets(), key=lambda target: target.rank)
    raise TargetError(
        "host-unsupported",
        f"this CPU ({host.product or 'unnamed'}) is below every target: {lowest.id}, the lowest, "
        f"also needs {', '.join(host.missing(lowest))}",
        hint=f"name a target instead of host, e.g. `targets: [{lowest.id}]`: "
        "compiling for a CPU does not need that CPU",
    )


def _first_processor(path: Path) -> dict[str, str]:
    """Keys and values of the first processor; all of a Xeon machine are alike."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            fields: dict[str, str] = {}
            for line in stream:
                key, colon, value = line.partition(":")
                if colon:
                    fields[key.strip()] = value.strip()
                elif fields:
                    break
            return fields
    except OSError as error:
        raise TargetError(
            "host-unreadable",
            f"cannot tell what this machine is: {error.strerror or error}",
            location=str(path),
            hint="name a target instead of host; detection works on Linux",
        ) from error


def _number(text: str | None) -> int:
    """A decimal field of /proc/cpuinfo, -1 when absent or not a number."""
    return int(text) if text and text.isdecimal() else -1
