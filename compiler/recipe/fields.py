"""Field types of the recipe that plain pydantic does not have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError, core_schema

from optc.errors import TargetError, did_you_mean
from optc.numerics.metrics import all_metrics
from optc.recipe.tree import spelled
from optc.targets import load_target, target_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


class Section(BaseModel):
    """Base of the parts of a recipe: frozen, unknown keys are errors, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, values: Any) -> Any:
        """A key without a value counts as left out, so an extending recipe can take one back."""
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if v is not None or k not in cls.model_fields}


def flaw(
    code: str, message: str, *, at: Sequence[int | str] = (), hint: str | None = None
) -> PydanticCustomError:
    """A validation error in our own words.

    Args:
        code: identifier of the kind of problem.
        message: what was found and what is allowed.
        at: where below the validated value the problem is.
        hint: the repair.
    """
    context = {"text": message, "at": tuple(at), "hint": hint}
    return PydanticCustomError(code, "{text}", context)


def unknown(what: str, name: str, allowed: Iterable[str]) -> tuple[str, str | None]:
    """Message and hint for a name that is not one of `allowed`."""
    names = tuple(allowed)
    return f"unknown {what} {spelled(name)}; allowed: {', '.join(names)}", did_you_mean(name, names)


@dataclass(frozen=True)
class OneOf:
    """Restricts a string to the names of a registry, which is imported when it is needed.

    Attributes:
        what: what the names are names of.
        names: gives them.
    """

    what: str
    names: Callable[[], Iterable[str]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The string, then the check."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The names as an enum."""
        return {**handler(core), "enum": list(self.names())}

    def _check(self, name: str) -> str:
        allowed = tuple(self.names())
        if name in allowed:
            return name
        message, hint = unknown(self.what, name, allowed)
        raise flaw(f"unknown-{self.what}", message, hint=hint)


@dataclass(frozen=True)
class Short:
    """Lets another form stand for a value: ``model: x`` for ``model: {path: x}``.

    Attributes:
        long: makes the full form; what is not a short form it returns as it is.
        form: JSON schema of the short form; None: a list of one item may be just the item.
    """

    long: Callable[[Any], Any]
    form: JsonSchemaValue | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The expansion, then the full form."""
        return core_schema.no_info_before_validator_function(self.long, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Either form."""
        full = handler(core)
        return {"anyOf": [self.form if self.form is not None else full["items"], full]}


def metric_names() -> tuple[str, ...]:
    """Names of all metrics, those of other installed packages included."""
    return tuple(all_metrics())


def is_file_name(text: str) -> bool:
    """Where a name or a file is allowed: whether `text` is a file (`x.yaml`, or with a slash)."""
    return "/" in text or text.lower().endswith((".yaml", ".yml"))


def slug(model: str) -> str:
    """A name for the recipe of a model: its file name without suffix, safe for folders."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(model).stem).strip("-._")
    return stem[:100] or "model"


FilePath = Annotated[
    str,
    Field(
        min_length=1,
        pattern=r"^[^\x00]*$",
        json_schema_extra={"format": "path"},
    ),
]
"""A path as written, relative to the recipe's folder; `Recipe.locate` resolves it."""


class _KnownTarget:
    """Restricts a string to `host`, descriptor files, and the targets that ship with optc."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The string, then the check."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The names to complete, or a path. Aliases are accepted, but not suggested."""
        names = {"enum": [*target_names(), "host"], **handler(core)}
        return {"anyOf": [names, {"type": "string", "format": "path"}]}

    def _check(self, name: str) -> str:
        if is_file_name(name):
            return name
        if name.lower() in (*target_names(), "host"):
            return name.lower()
        try:
            return load_target(name).id  # an alias, or unknown
        except TargetError as error:
            raise flaw("unknown-target", error.message, hint=error.hint) from error


TargetRef = Annotated[str, _KnownTarget()]
"""A target: a name (aliases become the name), `host`, or a descriptor file."""
