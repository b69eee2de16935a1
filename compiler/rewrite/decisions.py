"""Which decision about precision speaks of an operation, after passes that came later.

Decisions are no part of the graph: the pipeline collects them and hands them to the passes that
follow (`PassContext.decisions`), and whoever has the records of a pipeline can ask the same.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optc.ir import Node, Origin
    from optc.rewrite.trace import Decision, StepRecord
    from optc.targets.capabilities import Precision


class Decisions:
    """All decisions of a pipeline; the last one about an operation counts."""

    def __init__(self, steps: Iterable[StepRecord] = ()) -> None:
        self._by_place: dict[tuple[str, str], Decision] = {}  # names of nodes may be shared
        self._by_label: dict[str, Decision] = {}
        self._by_origin: dict[int, Decision] = {}
        for step in steps:
            self._add(step.decisions)

    def _add(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self._by_place[decision.node, decision.value] = decision
            self._by_label[decision.node] = decision
            if decision.origin is not None:
                self._by_origin[id(decision.origin)] = decision

    def with_step(self, step: StepRecord) -> Decisions:
        """These and those of a later step."""
        if not step.decisions:
            return self
        both = Decisions()
        both._by_place = dict(self._by_place)
        both._by_label = dict(self._by_label)
        both._by_origin = dict(self._by_origin)
        both._add(step.decisions)
        return both

    def __bool__(self) -> bool:
        return bool(self._by_label)

    def has(self, precision: Precision) -> bool:
        """Whether any operation was decided to have a precision."""
        return any(found.precision == precision for found in self._by_place.values())

    def of(self, node: Node) -> Decision | None:
        """The decision about an operation, or about the nearest one that it was made from."""
        found = self._by_place.get((node.label, node.key)) or self._by_label.get(node.label)
        if found is not None or node.origin is None:
            return found
        queue: deque[Origin | str] = deque([node.origin])
        seen: set[int] = set()
        while queue:
            item = queue.popleft()
            if isinstance(item, str):
                found = self._by_label.get(item)
            elif id(item) not in seen:
                seen.add(id(item))
                found = self._by_origin.get(id(item))
                queue.extend(item.parents)
            if found is not None:
                return found
        return None
