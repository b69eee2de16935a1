"""The answer to a question about a target: yes or no, and everything that belongs to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optc.targets.fact import Confidence
    from optc.targets.kernels import Outcome
    from optc.targets.paths import ComputePath
    from optc.targets.peak import Peak


@dataclass(frozen=True)
class Answer:
    """What a target can do; true in a condition when the answer is yes.

    Attributes:
        yes: whether it is computed in what was asked for, by kernels that are made for it.
        question: what was asked, in words.
        reason: why, in one sentence; never empty.
        outcome: what the runtime does; None when no operator was asked for, or nothing is known.
        kernel: the kernel as the runtime names it; None when there is none or it is not known.
        isa: capabilities of the CPU that the kernel uses, e.g. ``amx_int8``.
        form: how the operator stands in the graph, e.g. ``qdq of u8 x s8 -> u8``.
        becomes: operator that the runtime puts in its place.
        conditions: what must hold for it; instructions, minimum versions.
        otherwise: what happens in other forms and on lower CPUs.
        path: the compute path whose peak applies; None when none is known to.
        peak: that peak; None without a path.
        evidence: measurement or document behind it.
        confidence: how sure that is.
        hint: what to do after a no.
    """

    yes: bool
    question: str
    reason: str
    outcome: Outcome | None = None
    kernel: str | None = None
    isa: str | None = None
    form: str | None = None
    becomes: str | None = None
    conditions: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    path: ComputePath | None = None
    peak: Peak | None = None
    evidence: str | None = None
    confidence: Confidence | None = None
    hint: str | None = None

    def __bool__(self) -> bool:
        return self.yes

    def to_dict(self) -> dict[str, object]:
        """The answer as data for JSON."""
        return {
            "yes": self.yes,
            "question": self.question,
            "reason": self.reason,
            "outcome": self.outcome,
            "kernel": self.kernel,
            "isa": self.isa,
            "form": self.form,
            "becomes": self.becomes,
            "conditions": list(self.conditions),
            "otherwise": list(self.otherwise),
            "path": self.path,
            "peak": self.peak.to_dict() if self.peak else None,
            "evidence": self.evidence,
            "confidence": self.confidence,
            "hint": self.hint,
        }

    def describe(self) -> str:
        """The answer as text for people."""
        lines = [f"{'yes' if self.yes else 'no'}: {self.question}", f"  {self.reason}"]
        known = {
            "kernel": self.kernel,
            "isa": self.isa,
            "form": self.form,
            "becomes": self.becomes,
            "peak": self.peak.describe() if self.peak else None,
            "evidence": f"{self.evidence}; {self.confidence}" if self.evidence else None,
        }
        lines += [f"{name:<10}{value}" for name, value in known.items() if value is not None]
        for title, items in (("conditions", self.conditions), ("otherwise", self.otherwise)):
            if items:
                lines += [title, *(f"  - {item}" for item in items)]
        if self.hint is not None:
            lines.append(f"hint      {self.hint}")
        return "\n".join(lines)
