"""The result of an audit: what became of every operation, and gates over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.errors import CapabilityError, GoalMissed, did_you_mean
from optc.targets.capabilities import TABLE
from optc.targets.runtimes import PRECISIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.evidence.executed import Execution

# Each level has the instructions of those before it, so a kernel of a higher one is as good.
_LEVELS: Final = ("avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16")
_TILES: Final = ("amx_int8", "amx_bf16")
_SHOWN: Final = 5


@dataclass(frozen=True)
class NodeFate:
    """One operation: what was planned and what ran.

    Attributes:
        label: its name.
        op: its operator.
        planned: precision of the plan.
        planned_isa: capability that the kernel of the plan needs; None when the table names none.
        ran: precision that it ran in; None for layout and integer work, and when it did not run.
        isa: capability that it ran on; None when nothing tells.
        kernel: implementation that computed it; None when it did not run.
        step: the runtime's step that computed it.
        fused_into: the operation whose step computes it, when that is another one.
        evidence: how this is known.
        seconds: time of its step, when the step is its own.
        heavy: whether it is a multiply-accumulate operation.
        form: how it is written, for those.
        verdict: ``as planned``, ``other precision``, ``other isa``, ``not executed``,
            ``not known``.
        reason: why it is not as planned; empty when it is.
    """

    label: str
    op: str
    planned: str
    planned_isa: str | None
    ran: str | None
    isa: str | None
    kernel: str | None
    step: str | None
    fused_into: str | None
    evidence: str
    seconds: float
    heavy: bool
    form: str
    verdict: str
    reason: str

    @property
    def deviates(self) -> bool:
        """Whether it ran in another precision or on another instruction set than planned."""
        return self.verdict in {"other precision", "other isa"}


@dataclass(frozen=True)
class Audit:
    """What a model executes.

    Attributes:
        subject: the model.
        runtime: what executed it.
        target: the CPU it was compiled for; None for a model file.
        host: the CPU it ran on.
        missing: CPU flags of the target that the host lacks.
        execution: the steps.
        nodes: the operations, in order of the graph; empty when there is no plan.
    """

    subject: str
    runtime: str
    target: str | None
    host: str
    missing: tuple[str, ...]
    execution: Execution
    nodes: tuple[NodeFate, ...]

    @property
    def deviations(self) -> tuple[NodeFate, ...]:
        """Operations that did not run as planned."""
        return tuple(node for node in self.nodes if node.deviates)

    def share(self, seconds: float) -> float:
        """The share of a time in that of the whole execution."""
        total = self.execution.seconds
        return seconds / total if total else 0.0

    def check(self, expected: Sequence[str]) -> None:
        """Demand precisions and instruction sets of the multiply-accumulate operations.

        Every one that is planned in an expected precision (all, when none is expected) must have
        run in it, on an expected instruction set or a higher one; and there must be one.

        Args:
            expected: precisions and capabilities, e.g. ``int8`` and ``avx512_vnni``.

        Raises:
            CapabilityError: ``expectation-unknown``: neither a precision nor a capability.
            GoalMissed: ``expectation-missed``, with the first operations that miss it.
        """
        check_expectations(expected)
        precisions = [name for name in expected if name in PRECISIONS]
        sets = [name for name in expected if name in TABLE and name not in PRECISIONS]
        heavy = [node for node in self.nodes if node.heavy and node.verdict != "not executed"]
        judged = [n for n in heavy if not precisions or n.planned in precisions]
        if not judged:
            wanted = " or ".join(precisions) or "multiply-accumulate"
            raise GoalMissed("expectation-missed", f"no operation is planned in {wanted}")
        missed = [(node, why) for node in judged if (why := _misses(node, precisions, sets))]
        if missed:
            lines = [f"{node.label} ({node.op}): {why}" for node, why in missed[:_SHOWN]]
            if len(missed) > _SHOWN:
                lines.append(f"and {len(missed) - _SHOWN} more")
            raise GoalMissed(
                "expectation-missed",
                f"{len(missed)} of {len(judged)} operations did not run as expected\n  "
                + "\n  ".join(lines),
            )

    def to_dict(self) -> dict[str, object]:
        """The audit as data for JSON."""
        return {
            "subject": self.subject,
            "runtime": self.runtime,
            "version": self.execution.version,
            "library": self.execution.library,
            "target": self.target,
            "host": self.host,
            "missing": list(self.missing),
            "milliseconds": round(self.execution.seconds * 1e3, 4),
            "deviations": [node.label for node in self.deviations],
            "nodes": [
                {**vars(node), "seconds": round(node.seconds, 7), "share": self._share(node)}
                for node in self.nodes
            ],
            "kernels": [
                {
                    **vars(kernel),
                    "nodes": list(kernel.nodes),
                    "seconds": round(kernel.seconds, 7),
                    "share": round(self.share(kernel.seconds), 4),
                }
                for kernel in self.execution.kernels
            ],
        }

    def _share(self, node: NodeFate) -> float:
        return round(self.share(node.seconds), 4)


def check_expectations(expected: Sequence[str]) -> None:
    """Refuse words that name nothing that can be expected.

    Raises:
        CapabilityError: ``expectation-unknown``: neither a precision nor a capability.
    """
    known = (*PRECISIONS, *_LEVELS, *_TILES)
    for name in expected:
        if name not in known:
            raise CapabilityError(
                "expectation-unknown",
                f"there is no precision or instruction set '{name}' to expect; there are "
                f"{', '.join(known)}",
                hint=did_you_mean(name, known),
            )


def _misses(node: NodeFate, precisions: Sequence[str], sets: Sequence[str]) -> str:
    """Why an operation does not meet what is expected; empty when it does."""
    because = f": {node.reason}" if node.reason else ""
    if precisions and node.ran not in precisions:
        return f"ran in {node.ran or 'an unknown precision'}{because}"
    if sets and not any(at_least(node.isa, wanted) for wanted in sets):
        return f"ran on {node.isa or 'an unknown instruction set'}{because}"
    return ""


def at_least(isa: str | None, wanted: str) -> bool:
    """Whether an instruction set is the wanted one or has it."""
    if isa is None or isa == wanted:
        return isa == wanted
    if wanted not in _LEVELS:
        return False
    return isa in _TILES or (isa in _LEVELS and _LEVELS.index(isa) > _LEVELS.index(wanted))
