"""A fact: one value with where it comes from. Every number in a descriptor is one."""

from __future__ import annotations

import re
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

T = TypeVar("T")


def _not_empty(items: tuple[T, ...]) -> tuple[T, ...]:
    if not items:
        raise ValueError("needs at least one entry")
    return items


# Not min_length: pydantic counts valid items only and would report one wrong item twice.
Some = Annotated[tuple[T, ...], AfterValidator(_not_empty)]
"""A list with at least one entry."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Prose for people: never empty."""

Flag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
"""A CPU flag as the Linux kernel spells it in /proc/cpuinfo, e.g. ``avx512_vnni``."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
"""An identifier that is safe in file names, recipes and shell comments."""

Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]
"""Dotted numbers, quoted in YAML: 5.10 without quotes is the number 5.1."""


def _compiles(pattern: str) -> str:
    """Refuse text that is not a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression, searched for in a name."""

Confidence = Literal["high", "medium", "low"]


def version_key(version: str) -> tuple[int, ...]:
    """``(5, 16)`` for ``5.16`` and for ``5.16.0-rc1``: dotted numbers to compare, rest cut off."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def within(version: str, last: str) -> bool:
    """Whether `version` is not newer than `last`, whose patches count: 2.7.3 is within 2.7."""
    limit = version_key(last)
    return version_key(version)[: len(limit)] <= limit


class Descriptor(BaseModel):
    """Base of everything read from a descriptor file: frozen, and an unknown key is an error."""

    # Built on first use: importing optc must stay cheap for those who only compile.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Versioned(Descriptor):
    """A statement that holds for some versions of a runtime only."""

    since: Version | None = Field(default=None, description="first version it holds for")
    until: Version | None = Field(default=None, description="last version it holds for")

    def holds_for(self, version: str | None) -> bool:
        """Whether it speaks about a version of the runtime; None stands for the newest."""
        if version is None:
            return self.until is None
        after = self.since is None or version_key(version) >= version_key(self.since)
        return after and (self.until is None or within(version, self.until))


class Fact(Descriptor, Generic[T]):
    """One value, the document or measurement behind it, and how sure it is.

    ``value: null`` means unknown: it carries the reason in `note` and is never a guess.
    """

    value: T | None = Field(description="the value; null when it is not known")
    source: Text | None = Field(
        default=None, description="title of the document, or what was measured on which CPU"
    )
    confidence: Confidence = Field(
        description="high: vendor document or measured; medium: one indirect source; low: carried "
        "over from a sibling generation, or unknown"
    )
    note: Text | None = Field(default=None, description="conditions; the reason when unknown")

    @model_validator(mode="after")
    def _known_or_explained(self) -> Self:
        if self.value is not None and self.source is None:
            raise ValueError("a known value needs its source")
        if self.value is None and self.note is None:
            raise ValueError("an unknown value (null) needs a note that says why it is unknown")
        if self.value is None and self.confidence != "low":
            raise ValueError("an unknown value (null) has confidence: low")
        return self
