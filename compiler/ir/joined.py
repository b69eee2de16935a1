"""Things in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from networkx.utils import UnionFind

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    Item = TypeVar("Item", bound=Hashable)


def joined(items: Iterable[Item], pairs: Iterable[tuple[Item, Item]]) -> list[list[Item]]:
    """Items in the groups that pairs join, directly or through others; in the order of the items.

    Args:
        items: each once.
        pairs: of items.
    """
    order = list(items)
    sets = UnionFind(order)
    for one, other in pairs:
        sets.union(one, other)
    found: dict[Item, list[Item]] = {}
    for item in order:
        found.setdefault(sets[item], []).append(item)
    return list(found.values())
