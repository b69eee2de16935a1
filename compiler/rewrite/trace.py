"""What rewriting did and did not do: counts, refusals with reasons, the nearest miss per rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
