"""A descriptor as text for people: every value with its source, the unknown with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from optc.targets.fact import Descriptor, Fact

if TYPE_CHECKING:
    from collections.abc import Iterator

_STEP = "  "


def describe(descriptor: Descriptor | Mapping[str, object]) -> str:
    """A descriptor or several by name, one line per value, nested by indentation."""
    pairs = _fields(descriptor) if isinstance(descriptor, Descriptor) else descriptor
    return "\n".join(_entries(pairs, "")) + "\n"


def _fields(descriptor: Descriptor) -> dict[str, object]:
    """Names and values, without those that do not apply to this descriptor."""
    pairs = {name: getattr(descriptor, name) for name in type(descriptor).model_fields}
    return {name: value for name, value in pairs.items() if value is not None and value != ()}


def _entries(pairs: Mapping[str, object], indent: str) -> Iterator[str]:
    """Lines of named values; names of one level line up."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        head = f"{indent}{name:<{width}}{_STEP}"
        if isinstance(value, Fact):
            yield from _fact(value, head)
        elif isinstance(value, Descriptor):
            yield f"{indent}{name}"
            yield from _entries(_fields(value), indent + _STEP)
        elif isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from _entries(value, indent + _STEP)
        elif isinstance(value, tuple) and isinstance(value[0], Descriptor):
            yield f"{indent}{name}"
            for item in value:
                yield from _item(item, indent + _STEP)
        else:
            yield f"{head}{plain(value)}"


def _item(item: Descriptor, indent: str) -> Iterator[str]:
    """One element of a list: its first line starts with a dash."""
    first, *rest = _entries(_fields(item), indent + _STEP)
    yield f"{indent}- {first.lstrip()}"
    yield from rest


def _fact(fact: Fact[object], head: str) -> Iterator[str]:
    """A fact: value, source and confidence on one line, a condition on the next."""
    if fact.value is None:
        yield f"{head}unknown: {fact.note}"
        return
    yield f"{head}{plain(fact.value)}{_STEP}[{fact.source}; {fact.confidence}]"
    if fact.note is not None:
        yield f"{' ' * len(head)}({fact.note})"


def plain(value: object) -> str:
    """A scalar, or a list of them, in words: without Python's punctuation."""
    if isinstance(value, tuple):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
