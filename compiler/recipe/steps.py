"""Pipeline steps: the union of all passes, told apart by name, each with its own options.

Other distributions add passes by the entry-point group ``optc.passes``: each entry point is a
subclass of `optc.passes.base.Pass`, and recipes call it by the `name` of the class.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from optc.errors import Problem, RecipeError, did_you_mean
from optc.passes.base import Pass, PassOptions
from optc.recipe.fields import unknown
from optc.recipe.tree import MapNode, Mark, ScalarNode, Source, child_path, found, spelled
from optc.recipe.validate import validated

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.metadata import EntryPoint

    from optc.recipe.tree import Entry, ListNode, Problems, Tree

ENTRY_POINTS = "optc.passes"
_WHEN = "when"
_FORMS = "a step is a pass name, or `name: {option: value}`"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pipeline.

    Attributes:
        name: name of the pass.
        options: validated options of the pass.
        when: capability that guards the step; None when it always runs.
        pass_type: the class of the pass.
        location: where the recipe asks for it, e.g. ``recipe.yaml:9:5``; None for Python values.
    """

    name: str
    options: PassOptions
    when: str | None = None
    pass_type: type[Pass] = field(default=Pass, repr=False, compare=False)
    location: str | None = field(default=None, repr=False, compare=False)

    def create(self) -> Pass:
        """The pass, ready to run."""
        return self.pass_type(self.options)

    def with_defaults(self, options: Mapping[str, object]) -> Step:
        """The step with these options where it was given none.

        Raises:
            ValidationError: the pass does not have an option, or not this value.
        """
        missing = {key: options[key] for key in options.keys() - self.options.model_fields_set}
        if not missing:
            return self
        given = {key: getattr(self.options, key) for key in self.options.model_fields_set}
        return replace(self, options=type(self.options).model_validate({**missing, **given}))

    def content(self) -> dict[str, object]:
        """The step as canonical data, with every option."""
        options = canonical(self.options.model_dump())
        return {"name": self.name, "options": options, "when": self.when}

    def asked(self) -> str | dict[str, object]:
        """The step as a recipe would write it: its name, or its name with what is no default."""
        options = canonical(self.options.model_dump(exclude_defaults=True))
        if self.when is not None:
            options["when"] = self.when
        return {self.name: options} if options else self.name


def canonical(value: Any) -> Any:
    """JSON data that does not depend on the order that sets happen to have."""
    if isinstance(value, dict):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((canonical(item) for item in value), key=json.dumps)
    return to_jsonable_python(value)


def known_passes() -> dict[str, type[Pass]]:
    """Every pass by name: `ALL_PASSES`, then those of installed distributions, sorted by name.

    Raises:
        RecipeError: two distributions define the same name, or an entry point does not load.
    """
    from optc.passes import ALL_PASSES

    known = {kind.name: kind for kind in ALL_PASSES}
    owner = dict.fromkeys(known, "optc")
    points = sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, _dist(point)))
    for point in points:
        kind = _loaded(point)
        if kind.name in known:
            message = f"pass '{kind.name}' is defined by {owner[kind.name]} and by {_dist(point)}"
            raise _plugin_error("pass-defined-twice", message, "uninstall one of them")
        known[kind.name], owner[kind.name] = kind, _dist(point)
    return known


def _loaded(point: EntryPoint) -> type[Pass]:
    place = f"entry point '{point.name} = {point.value}' of {_dist(point)}"
    try:
        kind = point.load()
    except (ImportError, AttributeError) as error:
        message = f"{place} does not load: {error}"
        raise _plugin_error("pass-not-loadable", message, "repair or uninstall it") from error
    if not (isinstance(kind, type) and issubclass(kind, Pass)):
        message = f"{place} is not a subclass of optc.passes.base.Pass"
        raise _plugin_error("pass-not-loadable", message, "repair or uninstall it")
    return kind


def _dist(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"


def _plugin_error(code: str, message: str, hint: str) -> RecipeError:
    return RecipeError([Problem(code, "pipeline", message, hint=hint)])


def read_steps(pipeline: ListNode, problems: Problems) -> tuple[Step, ...]:
    """The steps of a list; those that are wrong are noted in `problems` and left out."""
    reader = _StepReader(known_passes(), problems)
    return tuple(reader.steps(pipeline))


class _StepReader:
    def __init__(self, passes: Mapping[str, type[Pass]], problems: Problems) -> None:
        self.passes = passes
        self.problems = problems

    def steps(self, pipeline: ListNode) -> Iterator[Step]:
        for item in pipeline.items:
            step = None if self.problems.full else self.step(item)
            if step is not None:
                yield step

    def step(self, item: Tree) -> Step | None:
        if isinstance(item, ScalarNode) and isinstance(item.value, str):
            empty = MapNode(item.mark, child_path(item.path, item.value))
            return self.build(item.value, item.mark, item.path, empty, None)
        if not isinstance(item, MapNode):
            self.wrong(item, f"found {found(item)}; {_FORMS}")
            return None
        names = [key for key in item.entries if key in self.passes]
        if len(names) > 1:
            both = " and ".join(f"'{name}'" for name in names)
            self.wrong(item, f"one step names two passes: {both}", "start each with its own '-'")
            return None
        name = names[0] if names else self.likely_name(item)
        if name is None:
            self.wrong(item, f"the step names no pass; {_FORMS}")
            return None
        if names:
            self.strays(item, name)
        when = self.when(item.entries.get(_WHEN))
        entry = item.entries[name]
        return self.build(name, entry.key_mark, item.path, entry.value, when)

    def wrong(self, item: Tree, message: str, hint: str | None = None) -> None:
        self.problems.add("bad-step", item.mark, item.path, message, hint)

    def likely_name(self, item: MapNode) -> str | None:
        """The key that was meant to be the pass, when none is one."""
        keys = [key for key in item.entries if key != _WHEN]
        close = (key for key in keys if did_you_mean(key, self.passes))
        return next(close, keys[0] if keys else None)

    def strays(self, item: MapNode, name: str) -> None:
        """Report keys beside the name of the pass: options that were not indented, mostly."""
        for key, entry in item.entries.items():
            if key in (name, _WHEN):
                continue
            if key in self.passes[name].Options.model_fields:
                hint = f"it is an option: indent it below '{name}:'"
            else:
                hint = did_you_mean(key, [_WHEN]) or f"options are indented below '{name}:'"
            message = f"unknown key {spelled(key)} beside '{name}'; allowed: {_WHEN}"
            path = child_path(item.path, key)
            self.problems.add("unknown-key", entry.key_mark, path, message, hint)

    def when(self, entry: Entry | None) -> str | None:
        from optc.targets import CAPABILITIES

        if entry is None:
            return None
        node = entry.value
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            message = f"found {found(node)}; expected the name of a capability"
            self.problems.add("wrong-type", node.mark, node.path, message)
        elif node.value not in CAPABILITIES:
            words = unknown("capability", node.value, CAPABILITIES)
            self.problems.add("unknown-capability", node.mark, node.path, *words)
        else:
            return node.value
        return None

    def build(
        self, name: str, mark: Mark, path: str, options: Tree, when: str | None
    ) -> Step | None:
        kind = self.passes.get(name)
        if kind is None:
            self.problems.add("unknown-pass", mark, path, *self.unknown(name))
            return None
        if isinstance(options, ScalarNode) and options.value is None:
            options = MapNode(options.mark, options.path)
        if not isinstance(options, MapNode):
            self.problems.add("wrong-type", options.mark, options.path, *_no_options(name, options))
            return None
        if _WHEN in options.entries and _WHEN not in kind.Options.model_fields:
            stray = options.entries[_WHEN]
            message = f"'{_WHEN}' stands among the options of '{name}'"
            hint = f"write it beside '{name}:', with the same indentation"
            self.problems.add("bad-step", stray.key_mark, stray.value.path, message, hint)
            options = options.without(_WHEN)
        values = validated(kind.Options, options, self.problems)
        if values is None:
            return None
        location = str(mark) if mark.source != Source() else None
        return Step(name, values, when, kind, location)

    def unknown(self, name: str) -> tuple[str, str]:
        """Message and hint for a name that is no pass."""
        if name in ("name", "pass", "options"):
            return f"'{name}' is not a pass", _FORMS
        hint = did_you_mean(name, self.passes)
        return f"unknown pass {spelled(name)}", hint or "`optc passes` lists all passes"


def _no_options(name: str, node: Tree) -> tuple[str, str | None]:
    hint = None
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        hint = f"write '{name}: {{OPTION: VALUE}}'"
    return f"found {found(node)}; expected the options of '{name}' as a mapping", hint
