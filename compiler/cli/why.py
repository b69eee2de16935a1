"""The end of `optc plan`: ideas that were missed and why, and what became of one operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.cli.console import say
from optc.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.results import Fate, Outlook, Plan
    from optc.rewrite.near_misses import NearMiss

_REASONS: Final = 4  # of an idea
_NODES: Final = 3  # of a reason


def check_node(made: Plan, name: str) -> None:
    """See that the source model has an operation of this name.

    Raises:
        ModelError: ``node-unknown``.
    """
    for outlook in made.outlooks.values():
        if name not in outlook.fates:
            raise ModelError(
                "node-unknown",
                f"the source model has no operation named {name!r}",
                hint=did_you_mean(name, list(outlook.fates))
                or "`optc inspect MODEL --text` shows the operations",
            )


def show_fates(name: str, outlook: Outlook) -> None:
    """Print what becomes of an operation of the source model."""
    fates = outlook.fates[name]
    if not fates:
        say(f"  {name} is gone: it is folded into constants, or nothing needs it")
    for fate in fates[:_REASONS]:
        say(f"  {_fate(name, fate)}")
    if len(fates) > _REASONS:
        say(f"  … and {len(fates) - _REASONS} more operations")


def _fate(name: str, fate: Fate) -> str:
    if not fate.passes:
        return f"{name} stays as it is: {fate.op}"
    return f"{name} is part of {fate.node}: {fate.op}, by {', '.join(fate.passes)}"


def show_near_misses(
    found: Sequence[NearMiss], *, why: str | None, node: str | None, complete: bool
) -> None:
    """Print near misses by idea.

    Args:
        found: the near misses of a target.
        why: only those of this idea, in full.
        node: only those at this operation of the source model, in full.
        complete: print all reasons and operations.
    """
    if why is not None:
        names = sorted({item.family for item in found})
        found = [item for item in found if item.family == why]
        if not found:
            known = f"; near misses are of: {', '.join(names)}" if names else ""
            say(f"  no near miss of {why}{known}")
    if node is not None:
        found = [part for item in found if (part := item.at(node)) is not None]
        if not found:
            say("  no pass came near to anything else there")
    if not found:
        return
    say()
    say("why not more:")
    complete = complete or why is not None or node is not None
    for family in dict.fromkeys(item.family for item in found):
        items = [item for item in found if item.family == family]
        _show_family(family, items, complete=complete)


def _show_family(family: str, items: Sequence[NearMiss], *, complete: bool) -> None:
    items = sorted(items, key=lambda item: -len(item.places))
    say(f"  {family} ({', '.join(dict.fromkeys(name for i in items for name in i.passes))})")
    shown = items if complete else items[:_REASONS]
    for item in shown:
        if complete and not item.is_uniform:
            for place in item.places:
                say(f"    {place.reason}: {place.node}")
        else:
            _show_reason(item, complete=complete)
    if len(shown) < len(items):
        say(f"    … and {len(items) - len(shown)} more reasons; --why {family} shows them")


def _show_reason(item: NearMiss, *, complete: bool) -> None:
    count = len(item.places)
    times = f"{count} x " if count > 1 else ""
    alike = "" if item.is_uniform else " (and alike)"
    say(f"    {times}{item.reason}{alike}: {_nodes(item, complete=complete)}")


def _nodes(item: NearMiss, *, complete: bool) -> str:
    names = [place.node for place in item.places]
    shown = names if complete else names[:_NODES]
    more = f" and {len(names) - len(shown)} more" if len(shown) < len(names) else ""
    return ", ".join(shown) + more
