"""`--set path=value`: puts a value into a recipe from outside of its file.

The path is written as messages print it: ``verify.samples``, ``pipeline[0].fold-constants.keep``
(``pipeline.0.…`` is the same), ``inputs."input.1".shape``. The value is YAML.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from optc.recipe.positions import read_text
from optc.recipe.tree import (
    Entry,
    ListNode,
    MapNode,
    Mark,
    ScalarNode,
    Source,
    child_path,
    found,
    moved,
)

if TYPE_CHECKING:
    from pathlib import Path

    from optc.recipe.tree import Problems, Tree

_SEGMENT = re.compile(r'"(?P<quoted>[^"]*)"|\[(?P<index>[0-9]+)\]|(?P<plain>[^.\[\]"=]+)')


class Override:
    """One `--set`. A part that does not parse is noted in `problems`, and `path` is then empty.

    Attributes:
        path: keys and list indices, as text.
        value: what to put there.
    """

    def __init__(self, text: str, folder: Path, problems: Problems) -> None:
        self._problems = problems
        self._mark = Mark(Source(f"--set {text}", folder, inline=True))
        self.path: tuple[str, ...] = ()
        self.value: Tree = ScalarNode(self._mark, "", None)
        segments, end = _segments(text)
        if not segments or end == len(text) or text[end] != "=":
            hint = "for example: --set verify.samples=4"
            problems.add("bad-override", self._mark, "", "expected PATH=VALUE", hint)
        elif segments[0] == "extends":
            message = "extends cannot be set from outside"
            problems.add("bad-override", self._mark, "", message, "write it in the recipe")
        else:
            value = read_text(text[end + 1 :], self._mark.source, problems)
            if value is not None:
                self.path, self.value = tuple(segments), value

    def indexes_pipeline(self) -> bool:
        """True when the path goes into a step, so that a preset has to be spelled out first."""
        return len(self.path) > 1 and self.path[0] == "pipeline" and self.path[1].isdecimal()

    def applied(self, recipe: MapNode) -> MapNode:
        """The recipe with the value in its place; unchanged, and a problem, if there is none."""
        if not self.path:
            return recipe
        result = self._set(recipe, self.path, "")
        return result if isinstance(result, MapNode) else recipe

    def _set(self, node: Tree | None, keys: tuple[str, ...], path: str) -> Tree:
        if not keys:
            return moved(self.value, path)
        if node is None or (isinstance(node, ScalarNode) and node.value is None):
            node = MapNode(self._mark, path)
        if isinstance(node, ScalarNode) and node.value == keys[0] and _is_step(path):
            below = child_path(path, keys[0])
            entry = Entry(node.mark, MapNode(self._mark, below))
            node = MapNode(node.mark, path, {keys[0]: entry})
        if isinstance(node, MapNode):
            key = keys[0]
            return node.holding(key, self._set(node.get(key), keys[1:], child_path(path, key)))
        if isinstance(node, ListNode) and keys[0].isdecimal() and int(keys[0]) < len(node.items):
            items = list(node.items)
            index = int(keys[0])
            items[index] = self._set(items[index], keys[1:], child_path(path, index))
            return replace(node, items=tuple(items))
        in_list = isinstance(node, ListNode) and keys[0].isdecimal()
        below = child_path(path, int(keys[0]) if in_list else keys[0])
        size = f" of {len(node.items)}, counted from 0" if isinstance(node, ListNode) else ""
        message = f"cannot be set: {path} is {found(node)}{size}"
        hint = f"to replace it: --set '{path}=…'"
        self._problems.add("bad-override", self._mark, below, message, hint)
        return node


def _segments(text: str) -> tuple[list[str], int]:
    """The segments of the path at the start of `text`, and where it ends."""
    segments: list[str] = []
    end = 0
    while match := _SEGMENT.match(text, end):
        quoted = match["quoted"]
        segments.append(quoted if quoted is not None else (match["index"] or match["plain"]))
        end = match.end()
        if text[end : end + 1] == ".":
            end += 1
        elif text[end : end + 1] != "[":
            break
    return segments, end


def _is_step(path: str) -> bool:
    return re.fullmatch(r"pipeline\[[0-9]+\]", path) is not None
