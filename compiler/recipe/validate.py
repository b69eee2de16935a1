"""Validates a part of a recipe against a pydantic model; every problem in the words of YAML."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from optc.errors import did_you_mean, nearest
from optc.recipe import words
from optc.recipe.tree import ListNode, MapNode, child_path, data, found, spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic_core import ErrorDetails

    from optc.recipe.tree import Mark, Plain, Problems, Tree
    from optc.recipe.words import Schema

M = TypeVar("M", bound=BaseModel)

_BUILT_IN = frozenset(get_args(ErrorType)) - {"value_error", "assertion_error"}


def validated(
    model: type[M],
    node: MapNode,
    problems: Problems,
    *,
    schema: Callable[[], Schema] | None = None,
    whole: bool = True,
) -> M | None:
    """The data of `node` as a `model`; None, and problems, when it does not fit.

    Args:
        model: the pydantic model.
        node: a mapping of the recipe.
        problems: gets one problem per place.
        schema: gives the JSON schema of the model, when it is not the model's own.
        whole: False when a part of the recipe could not be read: what is missing may stand there.
    """
    checker = _Checker(schema or model.model_json_schema, problems)
    # pydantic is lax here: it takes lists for tuples and sets, as YAML must write them, but would
    # take '5' for a number as well. Strict mode refuses both, so scalars are checked beforehand.
    if node.entries:  # most steps of a pipeline have no options, and a schema takes its time
        checker.check_scalars(node, checker.schema)
    try:
        return model.model_validate(data(node))
    except ValidationError as error:
        checker.explain(error, node, whole)
    return None


class _Checker:
    def __init__(self, schema: Callable[[], Schema], problems: Problems) -> None:
        self._make_schema = schema
        self.problems = problems
        self.misspelled: set[str] = set()  # paths of keys that are there under another name

    @cached_property
    def schema(self) -> Schema:
        """The JSON schema of the model."""
        return self._make_schema()

    def check_scalars(self, node: Tree, fragment: Schema) -> None:
        """Note scalars of another type than the schema has."""
        if isinstance(node, ListNode):
            for index, item in enumerate(node.items):
                self.check_element(item, fragment, index)
        elif isinstance(node, MapNode):
            for key, entry in node.entries.items():
                self.check_element(entry.value, fragment, key)
        else:
            kinds = words.alternatives(self.schema, fragment)
            types = {kind.get("type") for kind in kinds}
            wrong = words.is_scalar(kinds) and not types & _types_of(node.value)
            if wrong and not self.problems.full:
                self.mismatch("wrong-type", node, fragment)

    def check_element(self, node: Tree, fragment: Schema, step: int | str) -> None:
        element = words.part(self.schema, fragment, step)
        if element is not None:
            self.check_scalars(node, element)

    def explain(self, error: ValidationError, root: MapNode, whole: bool) -> None:
        """Note the root causes behind `error`."""
        details = error.errors(include_url=False)
        for detail in sorted(details, key=_telling):
            if self.problems.full:
                return
            kind, place = detail["type"], detail["loc"]
            if kind == "extra_forbidden":
                self.unknown_key(root, place)
            elif kind not in _BUILT_IN:
                self.refused(root, detail)
            elif kind != "missing":
                code = "wrong-type" if kind.endswith("_type") else "wrong-value"
                self.misfit(code, root, place)
            elif isinstance(place[-1], int):  # a list that is too short for a tuple
                self.misfit("wrong-value", root, place[:-1])
            elif whole:
                self.missing_key(root, place)

    def misfit(self, code: str, root: MapNode, location: Sequence[int | str]) -> None:
        node = _node_at(root, location)
        if not self.problems.below(node.path):  # a part that is wrong explains the whole
            self.mismatch(code, node, words.part_at(self.schema, location))

    def mismatch(self, code: str, node: Tree, fragment: Schema) -> None:
        size = f" of {len(node.items)}" if isinstance(node, ListNode) else ""
        message = f"found {found(node)}{size}; expected {words.expected(self.schema, fragment)}"
        hint = words.repair(self.schema, fragment, node)
        self.problems.add(code, node.mark, node.path, message, hint)

    def unknown_key(self, root: MapNode, location: Sequence[int | str]) -> None:
        parent = _node_at(root, location[:-1])
        key = str(location[-1])
        allowed = words.keys_of(self.schema, words.part_at(self.schema, location[:-1]))
        near = nearest(key, allowed)
        if near and isinstance(parent, MapNode) and near not in parent.entries:
            self.misspelled.add(child_path(parent.path, near))
        rule = f"allowed: {', '.join(allowed)}" if allowed else "no key is allowed here"
        hint = did_you_mean(key, allowed)
        if key == "<<":
            hint = "merge keys are not part of YAML 1.2; use extends"
        mark, path = _key_mark(parent, key), child_path(parent.path, key)
        self.problems.add("unknown-key", mark, path, f"unknown key {spelled(key)}; {rule}", hint)

    def missing_key(self, root: MapNode, location: Sequence[int | str]) -> None:
        parent = _node_at(root, location[:-1])
        key = str(location[-1])
        path = child_path(parent.path, key)
        if path not in self.misspelled:
            fragment = words.part_at(self.schema, location)
            about = fragment.get("description", "")
            message = f"missing key '{key}': {about}" if about else f"missing key '{key}'"
            wanted = words.expected(self.schema, fragment)
            hint = f"write {key}: {wanted}" if "const" in fragment else f"expected {wanted}"
            self.problems.add("missing-key", _key_mark(parent, key), path, message, hint)

    def refused(self, root: MapNode, detail: ErrorDetails) -> None:
        """A validator's own error; its context may say where below the value (`at`) and a hint."""
        context = detail.get("ctx", {})
        node = _node_at(root, (*detail["loc"], *context.get("at", ())))
        cause = context.get("error")
        message = detail["msg"] if cause is None else str(cause)
        own = detail["type"] not in ("value_error", "assertion_error")
        code = detail["type"] if own else "wrong-value"
        self.problems.add(code, node.mark, node.path, message, context.get("hint"))


def _telling(detail: ErrorDetails) -> tuple[int, int]:
    """Order in which errors are noted: the first at a place is kept, and parts before the whole.

    Unknown keys explain missing ones, and a validator says more than the other members of a union,
    which only say that the value is not of their type.
    """
    if detail["type"] == "extra_forbidden":
        return 0, 0
    return (2 if detail["type"] in _BUILT_IN else 1), -len(detail["loc"])


def _types_of(value: Plain) -> set[str]:
    """The JSON types that a scalar is accepted for. Null is left to the model."""
    if value is None:
        return {"null", "string", "integer", "number", "boolean"}
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int):
        return {"integer", "number"}
    return {"number"} if isinstance(value, float) else {"string"}


def _node_at(node: Tree, location: Sequence[int | str]) -> Tree:
    """The deepest node on the way; steps that only pydantic knows are passed over."""
    for step in location:
        if isinstance(node, MapNode) and (child := node.get(str(step))) is not None:
            node = child
        elif isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
    return node


def _key_mark(parent: Tree, key: str) -> Mark:
    entry = parent.entries.get(key) if isinstance(parent, MapNode) else None
    return entry.key_mark if entry else parent.mark
