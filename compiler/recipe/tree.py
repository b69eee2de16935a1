"""Recipe text as a tree in which every value knows its file, line, column and path.

All forms of a recipe (YAML, a mapping of Python values, `--set`) become this tree first; merging
and validation work on it, so every message can point at the text that it speaks of.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from optc.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")
_SHOWN = 60

MAX_PROBLEMS = 100

Plain: TypeAlias = str | int | float | bool | None
"""The value of a scalar."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where recipe text comes from.

    Attributes:
        label: what messages call it: the file as the user gave it, or ``--set a.b=c``; None for
            values that a program passed.
        folder: what relative paths in it are relative to.
        inline: whether it is so short that lines and columns say nothing (an override).
    """

    label: str | None = None
    folder: Path = field(default_factory=Path)
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a source: 1-based line and column, 0 when there are none."""

    source: Source
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        label = self.source.label or "<recipe>"
        inline = self.source.inline or not self.line
        return label if inline else f"{label}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A string, number, boolean or null; `quoted` strings were meant to be strings."""

    mark: Mark
    path: str
    value: Plain
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list of values."""

    mark: Mark
    path: str
    items: tuple[Tree, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a mapping: where its key stands, and the value."""

    key_mark: Mark
    value: Tree


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping; keys are always strings, as written."""

    mark: Mark
    path: str
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def get(self, key: str) -> Tree | None:
        """The value under `key`, or None."""
        entry = self.entries.get(key)
        return entry.value if entry else None

    def without(self, *keys: str) -> MapNode:
        """This mapping less these keys."""
        return replace(self, entries={k: e for k, e in self.entries.items() if k not in keys})

    def holding(self, key: str, value: Tree, key_mark: Mark | None = None) -> MapNode:
        """This mapping with `key` set to `value`; the key's place is kept unless given."""
        old = self.entries.get(key)
        mark = key_mark or (old.key_mark if old else value.mark)
        return replace(self, entries={**self.entries, key: Entry(mark, value)})


Tree: TypeAlias = ScalarNode | ListNode | MapNode


def child_path(path: str, step: str | int) -> str:
    """The path of an element: ``pipeline[2]``, ``verify.samples``, ``inputs."input.1"``."""
    if isinstance(step, int):
        return f"{path}[{step}]"
    key = step if _PLAIN_KEY.fullmatch(step) else json.dumps(step, ensure_ascii=False)
    return f"{path}.{key}" if path else key


def children(node: Tree) -> tuple[Tree, ...]:
    """The direct children, in order."""
    if isinstance(node, ListNode):
        return node.items
    if isinstance(node, MapNode):
        return tuple(entry.value for entry in node.entries.values())
    return ()


def moved(node: Tree, path: str) -> Tree:
    """A copy of `node` for another place in the tree; the marks still point at the text."""
    if isinstance(node, ListNode):
        items = (moved(item, child_path(path, i)) for i, item in enumerate(node.items))
        return replace(node, path=path, items=tuple(items))
    if isinstance(node, MapNode):
        entries = {
            key: Entry(entry.key_mark, moved(entry.value, child_path(path, key)))
            for key, entry in node.entries.items()
        }
        return replace(node, path=path, entries=entries)
    return replace(node, path=path)


def data(node: Tree) -> Any:
    """The value as plain Python data: str, int, float, bool, None, list and dict."""
    if isinstance(node, ListNode):
        return [data(item) for item in node.items]
    if isinstance(node, MapNode):
        return {key: data(entry.value) for key, entry in node.entries.items()}
    return node.value


def merged(base: MapNode, over: MapNode) -> MapNode:
    """`over` on top of `base`: mappings merge key by key, everything else is replaced."""
    entries = dict(base.entries)
    for key, entry in over.entries.items():
        old, value = base.get(key), entry.value
        if isinstance(old, MapNode) and isinstance(value, MapNode):
            value = merged(old, value)
        entries[key] = Entry(entry.key_mark, value)
    return replace(over, entries=entries)


def rebased(node: Tree, folder: Path) -> Tree:
    """A path, or list of paths, of another file rewritten to be relative to `folder`."""
    if isinstance(node, ListNode):
        return replace(node, items=tuple(rebased(item, folder) for item in node.items))
    if not isinstance(node, ScalarNode) or not isinstance(node.value, str) or not node.value:
        return node
    home = node.mark.source.folder
    if home == folder or Path(node.value).is_absolute():
        return node
    return replace(node, value=Path(os.path.relpath(home / node.value, folder)).as_posix())


def found(node: Tree) -> str:
    """What was found, in the words of YAML: ``'abc' (a string)``, ``5 (an integer)``."""
    if isinstance(node, ListNode):
        return "a list"
    if isinstance(node, MapNode):
        return "a mapping"
    if node.value is None:
        return "nothing (null)"
    finite = not isinstance(node.value, float) or math.isfinite(node.value)
    kind = _KINDS[type(node.value)] if finite else "not a finite number"
    return f"{spelled(node.value)} ({kind})"


def spelled(value: Plain) -> str:
    """A scalar as YAML writes it, strings in single quotes, cut to a readable length."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = f"'{value}'" if isinstance(value, str) else repr(value)
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + "…" + text[-1]


_KINDS = {str: "a string", int: "an integer", float: "a number", bool: "a boolean"}


class Problems:
    """Collects the root causes of one run.

    A problem at or below the path of an earlier one is taken for its consequence and dropped.
    """

    def __init__(self) -> None:
        self._found: list[tuple[Mark, Problem]] = []
        self._paths: set[str] = set()  # of the problems
        self._above: set[str] = set()  # the same, and every path above them

    def add(self, code: str, mark: Mark, path: str, message: str, hint: str | None = None) -> None:
        """Note a problem at `mark`, about the value at `path` (empty: the whole source)."""
        if self.covers(path) or self.full:
            return
        line, column = (0, 0) if mark.source.inline else (mark.line, mark.column)
        problem = Problem(code, path, message, mark.source.label, line, column, hint)
        self._found.append((mark, problem))
        if path:
            self._paths.add(path)
            self._above.update(_lineage(path))

    def covers(self, path: str) -> bool:
        """True when there is a problem at `path` or above it."""
        return any(above in self._paths for above in _lineage(path))

    def below(self, path: str) -> bool:
        """True when there is a problem at `path` or below it."""
        return path in self._above

    @property
    def full(self) -> bool:
        """True when there are as many as anyone will read, so that looking for more is in vain."""
        return len(self._found) >= MAX_PROBLEMS

    def __len__(self) -> int:
        return len(self._found)

    def ordered(self) -> tuple[Problem, ...]:
        """All problems: source by source in the order they were met, from top to bottom."""
        sources: dict[str | None, int] = {}
        for mark, _ in self._found:
            sources.setdefault(mark.source.label, len(sources))

        def place(item: tuple[Mark, Problem]) -> tuple[int, int, int]:
            mark = item[0]
            return sources[mark.source.label], mark.line, mark.column

        problems = [problem for _, problem in sorted(self._found, key=place)]
        if self.full:
            message = f"only the first {MAX_PROBLEMS} problems are listed; there may be more"
            problems.append(Problem("too-many-problems", "", message, problems[0].file))
        return tuple(problems)


def _lineage(path: str) -> list[str]:
    """The path and all paths above it."""
    ends = [index for index, char in enumerate(path) if char in ".["]
    return [path, *(path[:end] for end in ends)]
