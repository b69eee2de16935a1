"""Which decision about precision speaks of an operation, after passes that came later."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optc.ir import Node, Origin
    from optc.rewrite.trace import Decision, StepRecord


class Decisions:
    """All decisions of a pipeline; the last one about an operation counts."""

    def __init__(self, steps: Iterable[StepRecord]) -> None:
        self._by_label: dict[str, Decision] = {}
        self._by_origin: dict[int, Decision] = {}
        for step in steps:
            for decision in step.decisions:
                self._by_label[decision.node] = decision
                if decision.origin is not None:
                    self._by_origin[id(decision.origin)] = decision

    def __bool__(self) -> bool:
        return bool(self._by_label)

    def of(self, node: Node) -> Decision | None:
        """The decision about an operation, or about the nearest one that it was made from."""
        found = self._by_label.get(node.label)
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
