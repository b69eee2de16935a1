"""Reads YAML into a tree with positions, and bounds what a hostile file can cost.

The tree is composed straight from parser events: no constructor runs, so no tag can make an
object, and size, depth and the expansion of aliases are bounded while the text is read. Scalars
follow the YAML 1.2 core schema, so `on`, `yes`, `012` and `1:30` are not what YAML 1.1 makes of
them; merge keys (`<<`) are not part of it either. Source: YAML 1.2.2, sections 7 and 10.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import yaml

from optc.recipe.tree import (
    Entry,
    ListNode,
    MapNode,
    Mark,
    Plain,
    ScalarNode,
    child_path,
    children,
    moved,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.recipe.tree import Problems, Source, Tree

MAX_BYTES = 128 * 1024  # of one file; a recipe is a few kilobytes
MAX_NODES = 10_000  # of one file, after aliases are expanded
MAX_DEPTH = 64
_MAX_INT = 2**63
_MAX_DIGITS = 32  # in the text of an integer; 64 bits need 20

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, Plain] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **{f"{sign}{inf}": float(f"{sign}inf") for sign in ("", "+", "-") for inf in (".inf", ".Inf")},
}
_SHORTEST = "the shortest recipe has three lines: schema_version: 1, model: FILE, targets: [NAME]"


def read_file(path: Path, source: Source, problems: Problems) -> MapNode | None:
    """The recipe in a file; None, and a problem, when it cannot be read at all."""
    whole = Mark(source)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        problems.add("file-unreadable", whole, "", f"cannot be read: {_reason(error)}")
        return None
    if len(raw) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES // 1024} KiB, which no recipe needs"
        problems.add("too-large", whole, "", message, "give the recipe, not a model or a data file")
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"is not UTF-8 text: byte 0x{raw[error.start]:02x}"
        problems.add("not-utf8", Mark(source, line, column), "", message, "save it as UTF-8")
        return None
    tree = read_text(text, source, problems)
    if tree is None or isinstance(tree, MapNode):
        return tree
    if isinstance(tree, ScalarNode) and tree.value is None:
        problems.add("empty-recipe", whole, "", "the recipe is empty", _SHORTEST)
    else:
        message = "a recipe is a mapping (key: value lines); found " + _shape(tree)
        problems.add("not-a-mapping", tree.mark, "", message, _SHORTEST)
    return None


def read_text(text: str, source: Source, problems: Problems, path: str = "") -> Tree | None:
    """The value that YAML text holds; None, and a problem, when it has no such value.

    Args:
        text: one YAML document.
        source: where the text comes from.
        problems: gets syntax errors, duplicate keys, tags, and limits that are exceeded.
        path: path of the value in the recipe.
    """
    composer = _Composer(source, problems)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        mark = Mark(source, before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
        problems.add("yaml-syntax", mark, "", message)
        return None
    try:
        return composer.document(iter(loader.get_event, None), path)
    except _Fatal:
        return None
    except yaml.MarkedYAMLError as error:
        problems.add("yaml-syntax", composer.mark(error.problem_mark), "", *_syntax(error))
    except (ValueError, OverflowError):  # PyYAML converts numbers unchecked, e.g. "\\U99999999"
        message = "is not valid YAML: an escape or a version is out of range"
        problems.add("yaml-syntax", composer.mark(loader.get_mark()), "", message)
    return None


def from_python(value: object, source: Source, problems: Problems, path: str = "") -> Tree | None:
    """The tree of plain Python values: str, int, float, bool, None, Path, sequence, mapping."""
    try:
        return _PythonReader(source, problems).node(value, path, 0)
    except _Fatal:
        return None


class _YamlMark(Protocol):
    """A place as PyYAML gives it, counted from 0."""

    line: int
    column: int


class _Fatal(Exception):  # noqa: N818 - control flow: the rest of the text cannot be read
    pass


class _Reader:
    """What both readers share: limits, and scalars that every later step can handle."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self.nodes = 0

    def count(self, mark: Mark, depth: int, nodes: int = 1) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            self.fail(mark, f"more than {MAX_NODES} values (aliases are counted as often as used)")
        if depth > MAX_DEPTH:
            self.fail(mark, f"more than {MAX_DEPTH} levels of nesting")

    def fail(self, mark: Mark, message: str) -> NoReturn:
        self.problems.add("too-large", mark, "", message, "no recipe needs that")
        raise _Fatal

    def scalar(self, mark: Mark, path: str, value: Plain, quoted: bool = False) -> ScalarNode:
        if isinstance(value, str) and not _encodable(value):
            self.problems.add("yaml-syntax", mark, path, "holds a lone surrogate, not a character")
            value = None
        if isinstance(value, int) and abs(value) >= _MAX_INT:
            self.problems.add("wrong-value", mark, path, "is an integer beyond 64 bits")
            value = None
        return ScalarNode(mark, path, value, quoted)


class _Composer(_Reader):
    def __init__(self, source: Source, problems: Problems) -> None:
        super().__init__(source, problems)
        self.anchors: dict[str, Tree] = {}
        self.open: list[str] = []

    def mark(self, mark: _YamlMark | None) -> Mark:
        return Mark(self.source, mark.line + 1, mark.column + 1) if mark else Mark(self.source)

    def document(self, events: Iterator[yaml.Event], path: str) -> Tree:
        next(events)  # stream start
        if isinstance(next(events), yaml.StreamEndEvent):
            return ScalarNode(Mark(self.source), path, None)
        tree = self.node(events, next(events), path, 0)
        next(events)  # document end
        event = next(events)
        if not isinstance(event, yaml.StreamEndEvent):
            message = "a second YAML document starts here; a file holds one recipe"
            self.problems.add("yaml-syntax", self.mark(event.start_mark), "", message)
            raise _Fatal
        return tree

    def node(self, events: Iterator[yaml.Event], event: Any, path: str, depth: int) -> Tree:
        mark = self.mark(event.start_mark)
        self.count(mark, depth)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(str(event.anchor), mark, path, depth)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            message = f"tag '{tag}': tags are not allowed"
            self.problems.add("yaml-tag", mark, path, message, "remove the tag")
        if event.anchor:
            self.open.append(event.anchor)
        tree: Tree
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style is None
            value = _resolve(event.value) if plain else event.value
            tree = self.scalar(mark, path, value, not plain)
        elif isinstance(event, yaml.SequenceStartEvent):
            tree = self.list(events, mark, path, depth)
        else:
            tree = self.mapping(events, mark, path, depth)
        if event.anchor:
            self.anchors[self.open.pop()] = tree
        return tree

    def list(self, events: Iterator[yaml.Event], mark: Mark, path: str, depth: int) -> ListNode:
        items: list[Tree] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self.node(events, event, child_path(path, len(items)), depth + 1))
        return ListNode(mark, path, tuple(items))

    def mapping(self, events: Iterator[yaml.Event], mark: Mark, path: str, depth: int) -> MapNode:
        entries: dict[str, Entry] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key_mark = self.mark(event.start_mark)
            key = self.key(events, event, path, depth)
            below = path if key is None else child_path(path, key)
            value = self.node(events, next(events), below, depth + 1)
            if key is None:
                continue
            if first := entries.get(key):
                line = first.key_mark.line
                message = f"key '{key}' stands twice in this mapping, first in line {line}"
                self.problems.add("duplicate-key", key_mark, below, message, "remove one of them")
                continue
            entries[key] = Entry(key_mark, value)
        return MapNode(mark, path, entries)

    def key(self, events: Iterator[yaml.Event], event: Any, path: str, depth: int) -> str | None:
        """The key as written (input names such as `1` stay text); None, and a problem, if none."""
        mark = self.mark(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent) or not _encodable(event.value):
            self.node(events, event, path, depth + 1)
            self.problems.add("bad-key", mark, path, "a key must be plain text")
            return None
        if event.tag is not None or event.anchor:
            self.problems.add("bad-key", mark, path, "a key cannot have a tag or an anchor")
        return event.value

    def alias(self, name: str, mark: Mark, path: str, depth: int) -> Tree:
        if name in self.open:
            self.fail(mark, f"alias '*{name}' stands inside the value that it repeats")
        if name not in self.anchors:
            message = f"alias '*{name}' has no anchor '&{name}' above it"
            self.problems.add("yaml-alias", mark, path, message)
            return ScalarNode(mark, path, None)
        tree = self.anchors[name]
        size, height = _measure(tree)
        self.count(mark, depth + height, size - 1)
        return moved(tree, path)


class _PythonReader(_Reader):
    def node(self, value: object, path: str, depth: int) -> Tree:
        mark = Mark(self.source)
        self.count(mark, depth)
        if isinstance(value, Path):
            value = str(value)
        if value is None or isinstance(value, str | int | float):
            return self.scalar(mark, path, value, quoted=isinstance(value, str))
        if isinstance(value, list | tuple):
            items = (self.node(v, child_path(path, i), depth + 1) for i, v in enumerate(value))
            return ListNode(mark, path, tuple(items))
        if isinstance(value, Mapping):
            entries = {
                str(key): Entry(mark, self.node(item, child_path(path, str(key)), depth + 1))
                for key, item in value.items()
            }
            return MapNode(mark, path, entries)
        message = f"found a Python {type(value).__name__}; expected plain values, lists and dicts"
        self.problems.add("wrong-type", mark, path, message)
        return ScalarNode(mark, path, None)


def _resolve(text: str) -> Plain:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > _MAX_DIGITS:
            return text
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)
    return float(text) if _FLOAT.fullmatch(text) else text


def _encodable(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _measure(tree: Tree) -> tuple[int, int]:
    """Number of nodes, and levels below the root."""
    sizes = [_measure(child) for child in children(tree)]
    return 1 + sum(size for size, _ in sizes), max((height + 1 for _, height in sizes), default=0)


def _shape(tree: Tree) -> str:
    return "a list" if isinstance(tree, ListNode) else "one value"


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _syntax(error: yaml.MarkedYAMLError) -> tuple[str, str | None]:
    """Message and hint for an error of the YAML parser."""
    what = error.problem or "syntax error"
    if "'\\t'" in what:
        return "a tab stands where YAML allows only spaces", "indent with spaces"
    if "mapping values are not allowed" in what:
        return (
            "a ':' stands where no key can be",
            "check the indentation, and quote text that contains ': '",
        )
    context = f" ({error.context})" if error.context else ""
    return f"is not valid YAML: {what}{context}", "check indentation, brackets and quotes here"
