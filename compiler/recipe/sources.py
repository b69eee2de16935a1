"""From a recipe as it is given to one tree: reads files, follows `extends`, applies `--set`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optc.errors import did_you_mean, nearest
from optc.recipe.fields import is_file_name
from optc.recipe.overrides import Override
from optc.recipe.positions import from_python, read_file
from optc.recipe.tree import (
    ListNode,
    MapNode,
    Mark,
    ScalarNode,
    Source,
    child_path,
    data,
    found,
    merged,
    rebased,
    spelled,
)
from optc.recipes import PRESETS, preset_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.recipe.tree import Problems, Tree

SCHEMA_VERSION = 1
DEFAULT_PRESET = "fp32"
_SUFFIXES = (".yaml", ".yml")
_MODEL_SUFFIXES = (".onnx", ".xml", ".pb")


class Loader:
    """Loads one recipe; what goes wrong is noted in `problems`.

    Attributes:
        folder: what the paths of the loaded recipe are relative to.
        files: the files that were read.
        whole: False when a file that the recipe extends could not be read, so that a key that is
            missing may well stand there.
    """

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.folder = Path()
        self.whole = True
        self.files: list[Path] = []

    def load(
        self, source: str | Path | Mapping[str, object], overrides: Sequence[str]
    ) -> MapNode | None:
        """The recipe with everything it extends merged in, or None when it cannot be read."""
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            self.folder = path.parent
            tree = self._file(path, Source(str(source), path.parent), ())
        else:
            tree = self._mapping(source)
        if tree is None:
            return None
        for text in overrides:
            tree = self._overridden(tree, text)
        return _portable(tree, self.folder)

    def pipeline(self, node: Tree | None) -> ListNode | None:
        """The steps that the value of `pipeline:` stands for; None, and a problem, if none.

        Presets, also those among the steps of a list, are spelled out.
        """
        if node is None:
            return self._preset(DEFAULT_PRESET, Mark(Source()), "pipeline")
        if isinstance(node, ListNode):
            return replace(node, items=tuple(self._spelled_out(node)))
        return self._named(node)

    def _spelled_out(self, steps: ListNode) -> Iterator[Tree]:
        for item in steps.items:
            if isinstance(item, MapNode) and "preset" in item.entries:
                preset = self._named(item)
                yield from preset.items if preset is not None else ()
            else:
                yield item

    def _named(self, node: Tree) -> ListNode | None:
        """The steps of a preset that is given by its name, or as ``{preset: NAME}``."""
        name = self._preset_key(node) if isinstance(node, MapNode) else node
        if name is None and self.problems.below(node.path):
            return None
        if isinstance(name, ScalarNode) and isinstance(name.value, str):
            return self._preset(name.value, name.mark, name.path)
        wrong = name or node
        message = f"found {found(wrong)}; expected a list of steps, or {{preset: NAME}}"
        hint = "for no steps at all write []" if data(wrong) is None else None
        self.problems.add("wrong-type", wrong.mark, wrong.path, message, hint)
        return None

    def _preset_key(self, node: MapNode) -> Tree | None:
        for key, entry in node.entries.items():
            if key != "preset":
                path = child_path(node.path, key)
                message = f"unknown key {spelled(key)}; allowed: preset"
                hint = did_you_mean(key, ["preset"]) or "steps are a list: begin each with '-'"
                self.problems.add("unknown-key", entry.key_mark, path, message, hint)
        return node.get("preset")

    def _preset(self, name: str, mark: Mark, path: str) -> ListNode | None:
        if name not in PRESETS:
            self._unknown_preset(name, mark, path, f"for a single step write [{name}]")
            return None
        file = preset_path(name)
        tree = self._file(file, Source(file.name, file.parent), ())
        if tree is None:
            return None
        steps = tree.get("pipeline")
        assert isinstance(steps, ListNode), f"{file} has no pipeline"
        return self.pipeline(steps)

    def _overridden(self, tree: MapNode, text: str) -> MapNode:
        override = Override(text, self.folder, self.problems)
        if override.indexes_pipeline():
            steps = self.pipeline(tree.get("pipeline"))
            if steps is None:
                return tree
            tree = tree.holding("pipeline", steps)
        return override.applied(tree)

    def _unknown_preset(self, name: str, mark: Mark, path: str, otherwise: str) -> None:
        message = f"unknown preset {spelled(name)}; allowed: {', '.join(PRESETS)}"
        hint = did_you_mean(name, PRESETS) or otherwise
        self.problems.add("unknown-preset", mark, path, message, hint)

    def _mapping(self, source: object) -> MapNode | None:
        tree = from_python(source, Source(), self.problems)
        if tree is None or isinstance(tree, MapNode):
            return tree and self._complete(tree, ())
        message = f"found {found(tree)}; expected a mapping, or the path of a recipe"
        self.problems.add("not-a-mapping", tree.mark, "", message)
        return None

    def _file(self, path: Path, source: Source, chain: tuple[Path, ...]) -> MapNode | None:
        if not self._looks_like_a_recipe(path, source):
            return None
        if path not in self.files:
            self.files.append(path)
        tree = read_file(path, source, self.problems)
        return self._complete(tree, (*chain, path)) if tree else None

    def _looks_like_a_recipe(self, path: Path, source: Source) -> bool:
        mark = Mark(source)
        if path.suffix in _MODEL_SUFFIXES:
            hint = f"write a recipe for it with: optc init {path}"
            self.problems.add("file-is-model", mark, "", "is a model, not a recipe", hint)
        elif os.path.isdir(path):  # pathlib's would raise for names that are no names
            hint = "name the recipe in it" + _listing(path)
            self.problems.add("file-is-folder", mark, "", "is a folder, not a recipe", hint)
        elif not os.path.exists(path):
            self.problems.add("file-missing", mark, "", "no such file", _similar(path))
        else:
            return True
        return False

    def _complete(self, tree: MapNode, chain: tuple[Path, ...]) -> MapNode | None:
        """Check the version, then put the tree on top of what it extends."""
        if not self._right_version(tree):
            return None
        extends = tree.get("extends")
        tree = tree.without("extends")
        if extends is None:
            return tree
        base = self._base(extends, chain)
        self.whole = self.whole and base is not None
        return tree if base is None else merged(base, tree)

    def _right_version(self, tree: MapNode) -> bool:
        version = tree.get("schema_version")
        if version is None:
            return True
        value = data(version)
        if type(value) is int and value == SCHEMA_VERSION:  # not True, which equals 1
            return True
        newer = isinstance(value, int | float) and value > SCHEMA_VERSION
        hint = "this recipe is for a newer optc: upgrade it" if newer else "write schema_version: 1"
        message = f"found {found(version)}; this version reads schema_version {SCHEMA_VERSION}"
        self.problems.add("schema-version", version.mark, "schema_version", message, hint)
        return False

    def _base(self, extends: Tree, chain: tuple[Path, ...]) -> MapNode | None:
        name = extends.value if isinstance(extends, ScalarNode) else None
        if not isinstance(name, str) or not name:
            message = f"found {found(extends)}; expected a recipe file or the name of a preset"
            self.problems.add("wrong-type", extends.mark, extends.path, message)
            return None
        if not is_file_name(name):
            if name in PRESETS:
                path = preset_path(name)
                return self._file(path, Source(path.name, path.parent), chain)
            self._unknown_preset(name, extends.mark, extends.path, f"for a file write ./{name}")
            return None
        path = _tidy(extends.mark.source.folder / name)
        if not os.path.isfile(path):
            message = f"{spelled(name)} is not a file"
            self.problems.add("file-missing", extends.mark, extends.path, message, _similar(path))
            return None
        for index, earlier in enumerate(chain):
            if earlier.samefile(path):
                ring = " -> ".join(link.name for link in (*chain[index:], path))
                message = f"the recipes extend each other in a ring: {ring}"
                self.problems.add("extends-cycle", extends.mark, extends.path, message)
                return None
        return self._file(path, Source(str(path), path.parent), chain)


def _portable(tree: MapNode, folder: Path) -> MapNode:
    """The recipe with the paths of extended files made relative to `folder`."""
    for key in ("model", "output"):
        if (node := tree.get(key)) is not None:
            tree = tree.holding(key, _with_path(node, folder))
    targets = tree.get("targets")
    if isinstance(targets, ListNode):
        items = (rebased(item, folder) if _is_file(item) else item for item in targets.items)
        tree = tree.holding("targets", replace(targets, items=tuple(items)))
    sets = tree.get("data")
    if isinstance(sets, MapNode):
        for key, entry in sets.entries.items():
            sets = sets.holding(key, _with_path(entry.value, folder))
        tree = tree.holding("data", sets)
    return tree


def _with_path(node: Tree, folder: Path) -> Tree:
    if not isinstance(node, MapNode):
        return rebased(node, folder)
    path = node.get("path")
    return node if path is None else node.holding("path", rebased(path, folder))


def _is_file(node: Tree) -> bool:
    return isinstance(node, ScalarNode) and isinstance(node.value, str) and is_file_name(node.value)


def _tidy(path: Path) -> Path:
    """The path without `..`, unless a link in it makes that another file."""
    short = Path(os.path.normpath(path))
    same = os.path.exists(path) and os.path.exists(short) and short.samefile(path)
    return short if same else path


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.suffix in _SUFFIXES)[:5]
    return ": " + ", ".join(names) if names else ""


def _similar(path: Path) -> str | None:
    """A hint that names a file like `path` in the same folder."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    names = sorted(p.name for p in path.parent.iterdir() if p.suffix in _SUFFIXES)
    near = nearest(path.name, names)
    return f"did you mean '{path.with_name(near)}'?" if near else None
