"""What rewriting did and did not do: counts, refusals with reasons, the nearest miss per rule."""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from optc.ir import Node, Origin
    from optc.targets.capabilities import Precision


@dataclass(frozen=True, slots=True)
class Sources:
    """What is left of provenance in a result that was read back: the names at its end."""

    names: tuple[str, ...]

    def sources(self) -> tuple[str, ...]:
        """Names of operations of the source model."""
        return self.names


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule did not apply somewhere.

    Attributes:
        rule: kebab-case name of the rule.
        node: label of the node at which the rule's pattern ends.
        reason: the failed condition, naming the culprit, e.g. ``weight is shared by conv_12``.
        miss: False when the whole pattern was there and the check refused; True when the graph
            only comes close to the pattern (the nearest miss of the rule).
        family: the idea that the rule is a form of; its name where it is the only one.
        depth: operations of the pattern that were there, for a nearest miss; one less where the
            next one is another operation, which is further from the idea than a failed condition.
        origin: provenance of the node; None for a node of the source model.
    """

    rule: str
    node: str
    reason: str
    miss: bool = False
    family: str = field(default="", compare=False)
    depth: int = field(default=0, compare=False)
    origin: Origin | Sources | None = field(default=None, compare=False, repr=False)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the operations of the source model that the node comes from."""
        return (self.node,) if self.origin is None else self.origin.sources()


@dataclass(frozen=True, slots=True)
class Decision:
    """The precision that a pass chose for an operation.

    Attributes:
        node: label of the operation, as it is after the pass.
        precision: ``fp32``, ``bf16`` or ``int8``.
        rule: kebab-case name of what decided.
        reason: why, in words for a report; for what stays fp32 the condition that failed.
        figures: what the decision rests on, by name, e.g. ``sqnr_db``; rounded, the same on every
            machine.
        origin: provenance of the operation; None for one of the source model.
        value: its first result, which tells apart operations of one name.
    """

    node: str
    precision: Precision
    rule: str
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)
    origin: Origin | None = field(default=None, compare=False, repr=False)
    value: str = field(default="", compare=False, repr=False)

    def to_dict(self) -> dict[str, object]:
        """As data."""
        found: dict[str, object] = {
            "node": self.node,
            "precision": self.precision,
            "rule": self.rule,
            "reason": self.reason,
        }
        return found | ({"figures": dict(sorted(self.figures.items()))} if self.figures else {})


class Recorder(Protocol):
    """Is told which rules apply while a pass runs."""

    def applied(self, rule: str, node: Node) -> None:
        """A rule rewrote at a node."""


_RECORDER: Final[ContextVar[Recorder | None]] = ContextVar("recorder", default=None)


@contextmanager
def recorded_by(recorder: Recorder | None) -> Iterator[None]:
    """Tell `recorder`, or nobody, about the rules that apply in any trace while the block runs."""
    token = _RECORDER.set(recorder)
    try:
        yield
    finally:
        _RECORDER.reset(token)


class Trace:
    """Collects what the rules of one pass do during one run.

    Attributes:
        pass_name: the pass that runs; recorded as the maker of new nodes.
        counts: how often each rule applied.
    """

    def __init__(self, pass_name: str) -> None:
        self.pass_name = pass_name
        self.counts: dict[str, int] = {}
        self._refused: dict[Node, dict[str, str]] = {}
        self._nearest: dict[str, tuple[int, Node, str, bool]] = {}
        self._families: dict[str, str] = {}
        self._decisions: dict[Node, Decision] = {}

    def decided(
        self,
        rule: str,
        node: Node,
        precision: Precision,
        reason: str,
        figures: Mapping[str, float] | None = None,
    ) -> None:
        """Record the precision that an operation is to be computed in; the last word counts.

        Figures that are not finite are left out: what makes no error at all has no ratio to it.
        """
        told = {name: number for name, number in (figures or {}).items() if math.isfinite(number)}
        self._decisions[node] = Decision(
            node.label, precision, rule, reason, told, node.origin, node.key
        )

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """All decisions, by label of the operation."""
        return tuple(sorted(self._decisions.values(), key=lambda found: found.node))

    def applied(self, rule: str, node: Node) -> None:
        """Record that `rule` rewrote at `node`; what was refused there before is void."""
        self.counts[rule] = self.counts.get(rule, 0) + 1
        self._refused.get(node, {}).pop(rule, None)
        recorder = _RECORDER.get()
        if recorder is not None:
            recorder.applied(rule, node)

    def refused(self, rule: str, node: Node, reason: str, *, family: str = "") -> None:
        """Record that the pattern was there but the check failed; the last reason counts.

        Args:
            rule: the rule.
            node: where its pattern ends.
            reason: the failed condition.
            family: the idea that the rule is a form of; left out: the rule itself.
        """
        self._refused.setdefault(node, {})[rule] = reason
        self._families[rule] = family or rule

    def missed(
        self,
        rule: str,
        node: Node,
        depth: int,
        reason: str,
        *,
        family: str = "",
        other: bool = False,
    ) -> None:
        """Record a partial match; only the one with most matched operations (`depth`) is kept.

        `other` says that the next operation is another one than the pattern's.
        """
        self._families[rule] = family or rule
        best = self._nearest.get(rule)
        if best is None or depth > best[0]:
            self._nearest[rule] = (depth, node, reason, other)

    def forget(self, node: Node) -> None:
        """A node is gone: drop what was refused or decided there."""
        self._refused.pop(node, None)
        self._decisions.pop(node, None)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """All refusals, then the nearest miss of each rule that never matched at all."""
        refused = [
            Refusal(rule, node.label, reason, False, self._families[rule], 0, node.origin)
            for node, reasons in self._refused.items()
            for rule, reason in reasons.items()
        ]
        seen = {refusal.rule for refusal in refused} | set(self.counts)
        misses = [
            Refusal(
                rule, node.label, reason, True, self._families[rule], depth - other, node.origin
            )
            for rule, (depth, node, reason, other) in self._nearest.items()
            if rule not in seen
        ]
        return (*sorted(refused, key=_order), *sorted(misses, key=_order))


def _order(refusal: Refusal) -> tuple[str, str, str]:
    return (refusal.rule, refusal.node, refusal.reason)


@dataclass(frozen=True, slots=True)
class Gain:
    """How much time rewrites save, as costs of operations predict it.

    Attributes:
        seconds: time of the operations that went less that of those that came.
        counted: rewrites whose operations all have a known cost.
        uncounted: rewrites where a cost is not known; they count nothing.
    """

    seconds: float = 0.0
    counted: int = 0
    uncounted: int = 0

    @classmethod
    def total(cls, gains: Iterable[Gain]) -> Gain:
        """All of them together."""
        found = list(gains)
        return cls(
            sum(gain.seconds for gain in found),
            sum(gain.counted for gain in found),
            sum(gain.uncounted for gain in found),
        )

    def to_dict(self) -> dict[str, object]:
        """As data, the time in microseconds to the nanosecond."""
        return {
            "microseconds": round(self.seconds * 1e6, 3) + 0.0,
            "counted": self.counted,
            "uncounted": self.uncounted,
        }


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one step of a pipeline did.

    Attributes:
        name: name of the pass.
        changed: whether the graph is different after it.
        counts: how often each rule applied.
        refusals: what it refused, and its nearest misses.
        nodes_before: operations before, subgraphs included.
        nodes_after: operations after.
        seconds: wall time of the pass itself; never written into the output folder.
        skipped: why the step did not run (its `when` does not hold); empty when it ran.
        gains: predicted gain of the rewrites of each rule; empty where it was not asked for.
        decisions: the precisions that it chose, with reasons.
        warnings: what the user should look at; they reach the report's `warnings`, with its name.
        figures: what it comes to as a whole, by name; the same on every machine.
    """

    name: str
    changed: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    nodes_before: int = 0
    nodes_after: int = 0
    seconds: float = 0.0
    skipped: str = ""
    gains: Mapping[str, Gain] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def gain(self) -> Gain:
        """Predicted gain of all rules."""
        return Gain.total(self.gains.values())

    def to_dict(self) -> dict[str, object]:
        """The record as data, without the time: equal runs give equal data."""
        if self.skipped:
            return {"pass": self.name, "skipped": self.skipped}
        gains = {rule: self.gains[rule].to_dict() for rule in sorted(self.gains)}
        chosen = [decision.to_dict() for decision in self.decisions]
        figures = dict(sorted(self.figures.items()))
        return {
            "pass": self.name,
            "changed": self.changed,
            "nodes": [self.nodes_before, self.nodes_after],
            "counts": dict(sorted(self.counts.items())),
            "gain": {**self.gain.to_dict(), "rules": gains} if gains else None,
            "refusals": [
                {"rule": r.rule, "node": r.node, "reason": r.reason, "near_miss": r.miss}
                for r in self.refusals
            ],
            **({"figures": figures} if figures else {}),
            **({"decisions": chosen} if chosen else {}),
        }
