"""Which operators are worth computing in a lower precision, and which are unsafe there: as data.

The rows are in ``precision/<precision>.yaml``, with sources. What a recipe says comes on top; see
`optc.passes.assign_precision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from optc.targets.fact import Descriptor, Name, Some, Text
from optc.targets.loading import read_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OpClass = Literal["allow", "infer", "clear", "deny"]
"""What a list says of an operator: worth it, follows its neighbours, indifferent, stays fp32."""


class OpList(Descriptor):
    """Operators of one class that are there for one reason."""

    op_class: OpClass = Field(alias="class", description="allow, infer, clear or deny")
    reason: Text = Field(description="why they are in that class")
    ops: Some[Text] = Field(description="operators of ONNX's own domain")
    where: dict[Text, Text] = Field(
        default_factory=dict,
        description="text attributes and their values: it speaks of such operations only, and "
        "before a row that speaks of all",
    )
    sources: Some[Name] = Field(description="who says so, by name in `sources`")


class Limit(Descriptor):
    """A number that decides whether values are safe."""

    value: float = Field(gt=0, description="the number")
    source: Text = Field(description="where it is from")


class Safety(Descriptor):
    """When the values that an operation works on make it unsafe."""

    largest_integer: Limit = Field(description="up to which all whole numbers are kept")
    cancellation: Limit = Field(description="operands so many times as large as the result")
    exponent_argument: Limit = Field(description="largest argument of an exponential")


@dataclass(frozen=True)
class Entry:
    """What the lists say of one operator.

    Attributes:
        op_class: its class.
        reason: why.
        source: who says so.
    """

    op_class: OpClass
    reason: str
    source: str


class PrecisionLists(Descriptor):
    """The lists of one precision."""

    schema_version: Literal[1] = Field(description="version of this format")
    precision: Literal["bf16"] = Field(description="the precision")
    sources: dict[Name, Text] = Field(description="what the lists go back to")
    lists: Some[OpList] = Field(description="operators by class")
    safety: Safety = Field(description="when values are unsafe")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        seen: set[tuple[str, ...]] = set()
        for row in self.lists:
            if unknown := set(row.sources) - self.sources.keys():
                raise ValueError(f"unknown sources: {', '.join(sorted(unknown))}")
            where = tuple(f"{name}={value}" for name, value in sorted(row.where.items()))
            rows = {(op, *where) for op in row.ops}
            if twice := seen & rows:
                names = sorted(op for op, *_ in twice)
                raise ValueError(f"operators that stand twice: {', '.join(names)}")
            seen |= rows
        return self

    @cached_property
    def by_op(self) -> Mapping[str, Entry]:
        """What the lists say, by operator, whatever its attributes are."""
        return {op: self._entry(row) for row in self.lists if not row.where for op in row.ops}

    def find(self, op_type: str, attribute: Callable[[str], object]) -> Entry | None:
        """What the lists say of one operation; None: nothing.

        Args:
            op_type: the operator.
            attribute: gives its attributes by name, text as bytes.
        """
        for row in self._special.get(op_type, ()):
            if all(attribute(name) == value.encode() for name, value in row.where.items()):
                return self._entry(row)
        return self.by_op.get(op_type)

    @cached_property
    def _special(self) -> Mapping[str, list[OpList]]:
        found: dict[str, list[OpList]] = {}
        for row in self.lists:
            for op in row.ops if row.where else ():
                found.setdefault(op, []).append(row)
        return found

    def _entry(self, row: OpList) -> Entry:
        return Entry(row.op_class, row.reason, "; ".join(self.sources[s] for s in row.sources))


@cache
def shipped_precision_lists(precision: str) -> PrecisionLists:
    """The lists of the package for a precision, e.g. ``bf16``."""
    path = Path(__file__).parent / "precision" / f"{precision}.yaml"
    return read_descriptor(path, PrecisionLists)
