"""What two targets differ in: values side by side, without their sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.targets.describe import plain
from optc.targets.fact import Descriptor, Fact
from optc.targets.model import Advice, Isa, SoftwareMinimum, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNCOMPARED = frozenset({"schema_version", "id", "names", "source", "onednn_source", "confidence"})
ABSENT = "-"
"""What stands where a target has no such entry."""
UNKNOWN = "unknown"
"""What stands where a target does not know the value."""


@dataclass(frozen=True)
class Difference:
    """One entry in which two targets differ.

    Attributes:
        path: the key path in the descriptor, e.g. ``memory.channels``.
        first: what the first target says, in words; `ABSENT` when it has no such entry.
        second: the same of the second one.
    """

    path: str
    first: str
    second: str


def differences(first: Target, second: Target) -> tuple[Difference, ...]:
    """Everything in which two targets differ; names, sources and confidence are not compared."""
    left, right = dict(_entries(first, "")), dict(_entries(second, ""))
    return tuple(
        Difference(path, left.get(path, ABSENT), right.get(path, ABSENT))
        for path in dict.fromkeys((*left, *right))
        if left.get(path) != right.get(path)
    )


def _entries(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Key paths with their values in words."""
    if isinstance(value, Fact):
        yield path, UNKNOWN if value.value is None else plain(value.value)
    elif isinstance(value, Isa):
        yield from ((f"{path}.flags.{flag}", "yes") for flag in value.flags)
    elif isinstance(value, Descriptor):
        yield from _members({name: getattr(value, name) for name in type(value).model_fields}, path)
    elif isinstance(value, Mapping):
        yield from _members(value, path)
    elif isinstance(value, tuple) and value and isinstance(value[0], Descriptor):
        for index, item in enumerate(value):
            yield from _item(item, index, path)
    elif value is not None and value != ():
        yield path, plain(value)


def _members(pairs: Mapping[str, object], path: str) -> Iterator[tuple[str, str]]:
    for name, value in pairs.items():
        if name not in _UNCOMPARED:
            yield from _entries(value, f"{path}.{name}" if path else name)


def _item(item: Descriptor, index: int, path: str) -> Iterator[tuple[str, str]]:
    """An element of a list, under the key that tells it from the others."""
    if isinstance(item, SoftwareMinimum):
        yield from _entries(item.minimum, f"{path}[{item.capability}, {item.software}]")
    elif isinstance(item, Advice):
        yield f"{path}[{item.topic}]", f"{item.advice} ({item.generation})"
    else:
        yield from _entries(item, f"{path}[{index}]")
