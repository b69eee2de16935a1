"""What rewriting did and did not do: counts, refusals with reasons, the nearest miss per rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Node


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a rule did not apply somewhere.

    Attributes:
        rule: kebab-case name of the rule.
        node: label of the node at which the rule's pattern ends.
        reason: the failed condition, naming the culprit, e.g. ``weight is shared by conv_12``.
        miss: False when the whole pattern was there and the check refused; True when the graph
            only comes close to the pattern (the nearest miss of the rule).
    """

    rule: str
    node: str
    reason: str
    miss: bool = False


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
        self._nearest: dict[str, tuple[int, Node, str]] = {}

    def applied(self, rule: str, node: Node) -> None:
        """Record that `rule` rewrote at `node`; what was refused there before is void."""
        self.counts[rule] = self.counts.get(rule, 0) + 1
        self._refused.get(node, {}).pop(rule, None)

    def refused(self, rule: str, node: Node, reason: str) -> None:
        """Record that the pattern was there but the check failed; the last reason counts."""
        self._refused.setdefault(node, {})[rule] = reason

    def missed(self, rule: str, node: Node, depth: int, reason: str) -> None:
        """Record a partial match; only the one with most matched operations (`depth`) is kept."""
        best = self._nearest.get(rule)
        if best is None or depth > best[0]:
            self._nearest[rule] = (depth, node, reason)

    def forget(self, node: Node) -> None:
        """A node is gone: drop what was refused there."""
        self._refused.pop(node, None)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """All refusals, then the nearest miss of each rule that never matched at all."""
        refused = [
            Refusal(rule, node.label, reason)
            for node, reasons in self._refused.items()
            for rule, reason in reasons.items()
        ]
        seen = {refusal.rule for refusal in refused} | set(self.counts)
        misses = [
            Refusal(rule, node.label, reason, miss=True)
            for rule, (_, node, reason) in self._nearest.items()
            if rule not in seen
        ]
        return (*sorted(refused, key=_order), *sorted(misses, key=_order))


def _order(refusal: Refusal) -> tuple[str, str, str]:
    return (refusal.rule, refusal.node, refusal.reason)


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
    """

    name: str
    changed: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    nodes_before: int = 0
    nodes_after: int = 0
    seconds: float = 0.0
    skipped: str = ""

    def to_dict(self) -> dict[str, object]:
        """The record as data, without the time: equal runs give equal data."""
        if self.skipped:
            return {"pass": self.name, "skipped": self.skipped}
        return {
            "pass": self.name,
            "changed": self.changed,
            "nodes": [self.nodes_before, self.nodes_after],
            "counts": dict(sorted(self.counts.items())),
            "refusals": [
                {"rule": r.rule, "node": r.node, "reason": r.reason, "near_miss": r.miss}
                for r in self.refusals
            ],
        }
