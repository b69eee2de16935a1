"""What the figures of this machine do not say, and which of them would say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.errors import CapabilityError
from optc.evidence.bench_models import hinted_bf16
from optc.evidence.bench_result import Skipped
from optc.targets.capabilities import capabilities_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.evidence.bench_inputs import Facts
    from optc.evidence.bench_models import Entry
    from optc.targets import Host, Target

_SHOWN = 3


def measurable(
    entries: Sequence[Entry], facts: Mapping[str, Facts], host: Host
) -> tuple[list[Entry], list[Skipped]]:
    """The models whose speed here says something, and the others.

    A CPU without bf16 computes it in float32 with a rounding after each operation, or does not
    round at all: that time is neither the one of bf16 nor that of fp32, so it is not measured.

    Args:
        entries: the models.
        facts: what their files say, by label.
        host: this machine.

    Raises:
        CapabilityError: ``bf16-emulated``: nothing is left, or not the model ratios are against.
    """
    native = "bf16" in capabilities_of(host.flags)
    skipped = [
        Skipped(entry.label, "it computes in bf16, which this CPU only emulates")
        for entry in entries
        if not native and (hinted_bf16(entry.subject.options) or facts[entry.label].computes_bf16)
    ]
    labels = {item.label for item in skipped}
    if entries[0].subject.label in labels:
        raise CapabilityError(
            "bf16-emulated",
            f"{skipped[0].reason}: its time would say nothing about bf16",
            location=skipped[0].label,
            hint="measure on a CPU with avx512_bf16 or AMX; name an fp32 model first otherwise",
        )
    return [entry for entry in entries if entry.label not in labels], skipped


def caveats(entries: Sequence[Entry], host: Host) -> Iterator[str]:
    """What must be known about figures of these models from this machine, a line each."""
    for entry in entries:
        if entry.same:
            names = ", ".join(subject.label for subject in entry.same)
            yield f"{names}: the same graph and options as {entry.label}, measured once"
    targets = _targets(entries)
    cpu = f"this CPU ({host.product or 'unnamed'})"
    lacking = {target.id: host.missing(target) for target in targets}
    if lacks := [f"{name} ({_few(flags)})" for name, flags in lacking.items() if flags]:
        yield (
            f"{cpu} lacks instructions of {', '.join(lacks)}: the figures are those of this "
            "machine, not of the target"
        )
    others = [t.id for t in targets if not lacking[t.id] and host.named is not t]
    if others:
        yield (
            f"{cpu} has the instructions of {', '.join(others)} but is another one: the figures "
            "are those of this machine, not of the target"
        )
    for entry in entries:
        for need in entry.subject.options.needs:
            if not host.flags.intersection(need.any_of):
                yield f"{entry.label}: no {' and no '.join(need.any_of)} here: {need.why}"
    if host.is_virtual:
        yield "a virtual machine: other guests may share its cores and caches"


def _few(flags: Sequence[str]) -> str:
    return ", ".join((*flags[:_SHOWN], "…") if len(flags) > _SHOWN else flags)


def _targets(entries: Sequence[Entry]) -> list[Target]:
    """The targets of all artefacts, each once."""
    subjects = (subject for entry in entries for subject in (entry.subject, *entry.same))
    found = {t.id: t for subject in subjects if (t := subject.target) is not None}
    return list(found.values())
