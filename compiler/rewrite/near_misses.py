"""Why not: the near misses of a whole pipeline, by the idea that was missed.

Each step tells what it refused where. Here that is put together over all steps: the last word on a
node counts, what another step rewrote after all is left out, and equal reasons are one entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optc.ir import Graph, Origin
    from optc.rewrite.trace import Refusal, StepRecord

_DEEP: Final = 2  # operations of a pattern that are there before a graph comes near it
_NUMBER: Final = re.compile(r"\d+")


@dataclass(frozen=True)
class Place:
    """An operation at which something was missed.

    Attributes:
        node: its label.
        sources: names of the operations of the source model that it comes from.
        reason: what failed there.
    """

    node: str
    sources: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class NearMiss:
    """A condition of an idea that failed, at one or more operations.

    Attributes:
        family: the idea.
        reason: the failed condition, as of the first place; others may differ in numbers.
        places: where, in order of names.
        passes: the passes that say so.
    """

    family: str
    reason: str
    places: tuple[Place, ...]
    passes: tuple[str, ...]

    @property
    def is_uniform(self) -> bool:
        """Whether the reason is the same to the letter everywhere."""
        return all(place.reason == self.reason for place in self.places)

    def at(self, name: str) -> NearMiss | None:
        """Only what concerns one operation, by its name in the source model or now."""
        found = tuple(p for p in self.places if name == p.node or name in p.sources)
        return NearMiss(self.family, found[0].reason, found, self.passes) if found else None

    def to_dict(self) -> dict[str, object]:
        """As data."""
        return {
            "family": self.family,
            "reason": self.reason,
            "passes": list(self.passes),
            "places": [
                {"node": p.node, "sources": list(p.sources), "reason": p.reason}
                for p in self.places
            ],
        }


def near_misses(steps: Sequence[StepRecord], result: Graph) -> tuple[NearMiss, ...]:
    """What the steps missed and what is still so in the graph that they made.

    Nearest misses count where most of a pattern was there and nothing else is known of the idea.
    """
    alive = _alive(result)
    last: dict[tuple[str, str], tuple[str, Refusal]] = {}
    for step in steps:
        _forget(last, step.name)
        for refusal in step.refusals:
            last[refusal.rule, refusal.node] = (step.name, refusal)
    known = {refusal.family for _, refusal in last.values() if not refusal.miss}
    known |= {rule for step in steps for rule in step.counts}
    found: dict[tuple[str, str], list[tuple[str, Refusal]]] = {}
    for name, refusal in last.values():
        family = refusal.family or refusal.rule
        if refusal.miss and (refusal.depth < _DEEP or family in known or refusal.rule in known):
            continue
        if refusal.node in alive and alive[refusal.node] is not refusal.origin:
            continue
        if refusal.node not in alive and refusal.family:
            continue
        found.setdefault((family, _NUMBER.sub("#", refusal.reason)), []).append((name, refusal))
    return tuple(_near_miss(family, items) for (family, _), items in found.items())


def _alive(result: Graph) -> Mapping[str, Origin | None]:
    nodes = (node for graph in result.walk() for node in graph.nodes())
    return {node.label: node.origin for node in nodes}


def _forget(last: dict[tuple[str, str], tuple[str, Refusal]], step: str) -> None:
    """A pass that runs again says everything again."""
    for key in [key for key, (name, _) in last.items() if name == step]:
        del last[key]


def _near_miss(family: str, items: Iterable[tuple[str, Refusal]]) -> NearMiss:
    found = sorted(items, key=lambda item: _natural(item[1].node))
    places = tuple(Place(r.node, r.sources, r.reason) for _, r in found)
    passes = tuple(dict.fromkeys(name for name, _ in found))
    return NearMiss(family, places[0].reason, places, passes)


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Orders ``layer.2`` before ``layer.10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
