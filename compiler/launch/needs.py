"""Which CPU flags an artefact needs to give right results, and which make it fast.

The rule is data in runtime.json; launch.sh and `optc.runtime` apply it before they start anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.targets.capabilities import TABLE
from optc.targets.runtimes import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from optc.targets import Precision, Runtime, Target

_SATURATES = (
    "the int8 weights use the full range, and without VNNI sums of their products saturate in "
    "16 bits: the results would be wrong"
)
_TILES: tuple[tuple[Precision, str], ...] = (("int8", "amx_int8"), ("bf16", "amx_bf16"))


@dataclass(frozen=True)
class Need:
    """One condition on the CPU.

    Attributes:
        any_of: flags of /proc/cpuinfo; one of them must be there.
        why: what would happen without, or who needs it.
    """

    any_of: tuple[str, ...]
    why: str

    def to_dict(self) -> dict[str, object]:
        """As data for runtime.json."""
        return {"any_of": list(self.any_of), "why": self.why}


def used_precisions(counts: Mapping[str, Mapping[str, int]]) -> frozenset[Precision]:
    """The precisions that a model computes in.

    Args:
        counts: operations by operator and precision, as in report.json. An operator between
            QuantizeLinear and DequantizeLinear computes in int8, whatever its element type.
    """
    found = {name for by_precision in counts.values() for name in by_precision}
    quantized = any(op.rpartition(".")[2] == "QuantizeLinear" for op in counts)
    return frozenset(p for p in PRECISIONS if p in found or (p == "int8" and quantized))


def needs_of(
    target: Target, runtime: Runtime, precisions: Collection[Precision], *, saturates: bool = True
) -> tuple[Need, ...]:
    """What a CPU must have to run an artefact.

    Args:
        target: the CPU that it was compiled for.
        runtime: what executes it.
        precisions: precisions that it computes in.
        saturates: whether sums of its int8 products may saturate in 16 bits. It needs VNNI then
            (oneDNN, "Nuances of int8 computations"), unless the target itself has none.
    """
    needs: dict[tuple[str, ...], str] = {}
    for precision in ("fp32", *sorted(precisions)):
        for flag in runtime.precisions[precision].baseline_flags:
            needs.setdefault((flag,), f"the {precision} kernels of {runtime.title} use it")
    if saturates and "int8" in precisions and "vnni" in target.capabilities:
        needs[tuple(flag for choice in TABLE["vnni"].flags for flag in choice)] = _SATURATES
    return tuple(Need(flags, why) for flags, why in needs.items())


def tile_flags(
    target: Target, runtime: Runtime, precisions: Collection[Precision]
) -> tuple[str, ...]:
    """Flags of the AMX tiles that the artefact was compiled to use; it runs slower without."""
    found: dict[str, None] = {}
    for precision, capability in _TILES:
        there = capability in target.capabilities and runtime.uses(capability)
        if there and precision in precisions:
            found.update(dict.fromkeys(TABLE[capability].flags[0]))
    return tuple(found)
