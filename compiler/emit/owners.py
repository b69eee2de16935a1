"""Which operations a layer belongs to, by the names that runtimes give their layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Node


def owner_of(name: str, known: Mapping[str, str]) -> str | None:
    """The operation that a layer belongs to: that of its name, or of what stands before a ``/``.

    Args:
        name: of the layer.
        known: label of an operation by its own name and by those of the tensors it makes.
    """
    while name:
        if name in known:
            return known[name]
        name = name.rpartition("/")[0]
    return None


def owners_of(text: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """The operations behind a list of layer names that are joined by commas.

    Names may hold commas themselves: the longest run of pieces that is a known name is one name.
    """
    pieces = text.split(",") if text else []
    found: dict[str, None] = {}
    start = 0
    while start < len(pieces):
        ends = range(len(pieces), start + 1, -1)
        end = next((end for end in ends if ",".join(pieces[start:end]) in known), start + 1)
        owner = owner_of(",".join(pieces[start:end]), known)
        if owner is not None:
            found.setdefault(owner)
        start = end
    return tuple(found)


def names_of(labels: Mapping[Node, str]) -> dict[str, str]:
    """The label of an operation by every name that a runtime may call it: its own, its tensors'."""
    found = {v.name: label for n, label in labels.items() for v in n.outputs if v is not None}
    return found | {label: label for label in labels.values()}
