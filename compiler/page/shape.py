"""What the page reads of report.json, as types: a report that fits can be rendered.

Keys that are not here may hold anything. What has a default may be left out, but is null only where
that is a type of its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

_Count = dict[str, int]
_Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
_Ratio = Annotated[float, Field(ge=-10_000, le=10_000)] | str | None


class _Part(BaseModel):
    """A mapping of the report; numbers are no texts, and texts no numbers."""

    model_config = ConfigDict(strict=True, frozen=True)


class _Operations(_Part):
    source: int
    result: int
    source_by_type: _Count
    result_by_type: _Count


class _Bytes(_Part):
    source: int
    result: int


class _Gain(_Part):
    microseconds: float
    uncounted: int


class _Predicted(_Part):
    microseconds: float
    sizes: _Count
    gain: _Gain


class _Refusal(_Part):
    rule: str
    node: str
    reason: str
    near_miss: bool


class _Skipped(_Part):
    name: str = Field(alias="pass")
    skipped: str


class _Ran(_Part):
    name: str = Field(alias="pass")
    changed: bool
    nodes: _Pair
    counts: _Count
    gain: _Gain | None
    refusals: list[_Refusal]


class _Place(_Part):
    node: str
    sources: list[str]
    reason: str


class _NearMiss(_Part):
    family: str
    reason: str
    passes: list[str]
    places: list[_Place]


class _Goal(_Part):
    metric: str
    limit: float
    met: bool


class _Verified(_Part):
    verified: Literal[True]
    data: str
    samples: int
    goals: list[_Goal]


class _NotVerified(_Part):
    verified: Literal[False] = False


class _Output(_Part):
    type: str | None
    source: int | str | None = Field(alias="from")


class Ends(_Part):
    """Inputs and outputs of a graph."""

    inputs: dict[str, str | None]
    outputs: dict[str, _Output]


class Row(_Part):
    """An operation."""

    name: str
    op: str
    precision: str
    type: str | None
    inputs: list[int | str]
    inside: Annotated[tuple[int, str], Field(strict=False)] = (0, "")


class _Result(Row):
    reason: str
    form: str | None = None
    kernel: str | None = None
    isa: str | None = None
    expected: str | None = None
    obstacle: str | None = None
    made_by: list[str] = []
    sources: list[str] = []
    sqnr: _Ratio = None
    sqnr_db: _Ratio = None
    sqnr_db_after: _Ratio = None


class _Source(Ends):
    nodes: list[Row]


def _step(value: Any) -> str:
    return "skipped" if isinstance(value, dict) and "skipped" in value else "ran"


def _verdict(value: Any) -> str:
    return "made" if isinstance(value, dict) and value.get("verified") else "not-made"


class Report(_Part):
    """The report of a target."""

    name: str
    target: str
    runtime: str
    opset: int
    recipe: dict[str, Any] = {}
    operations: _Operations
    precision: dict[str, _Count]
    constant_bytes: _Bytes | None = None
    passes: list[
        Annotated[
            Annotated[_Skipped, Tag("skipped")] | Annotated[_Ran, Tag("ran")], Discriminator(_step)
        ]
    ]
    predicted: _Predicted
    near_misses: list[_NearMiss]
    verification: Annotated[
        Annotated[_Verified, Tag("made")] | Annotated[_NotVerified, Tag("not-made")],
        Discriminator(_verdict),
    ]
    warnings: list[str]
    nodes: list[_Result]
    ends: Ends = Ends(inputs={}, outputs={})
    source: _Source = _Source(inputs={}, outputs={}, nodes=[])
