"""Which nodes an option of a pass speaks of: `{op: Softmax}`, or a regex such as `/head/.*`.

Names are matched whole (`re.fullmatch`), so a name copied from a report selects that one node:
`conv_1` does not select `conv_10`. The price, a selector that selects nothing, can be seen and is
reported (`unmatched`); a selector that selects too much could not be.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from optc.errors import did_you_mean
from optc.ir import Kind
from optc.ir.ops import OPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

    from optc.ir import Graph, Node

_OPERATOR = re.compile(r"[A-Z][A-Za-z0-9]*")
_ONNX_DOMAIN = "ai.onnx"  # the spelled-out form of the empty domain (ONNX IR, operator sets)


class Selector(BaseModel):
    """A set of nodes. All the keys that are given must match; at least one must be given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    op: str | None = Field(
        default=None, min_length=1, description="operator type, exactly, e.g. Softmax"
    )
    name: str | None = Field(
        default=None,
        max_length=1000,
        description="Python regular expression that must match the whole node name, "
        "e.g. `/head/.*`",
        json_schema_extra={"format": "regex"},
    )
    domain: str | None = Field(
        default=None, description="operator domain, exactly; ai.onnx (or empty) is ONNX's own"
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_regex(cls, value: object) -> object:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _valid_regex(cls, name: str | None) -> str | None:
        try:
            re.compile(name or "")
        except re.error as error:
            raise _bad_regex(name, f"{error.msg} at position {error.pos}") from error
        except (OverflowError, RecursionError) as error:
            raise _bad_regex(name, "it is too large") from error
        return name

    @field_validator("domain")
    @classmethod
    def _one_spelling(cls, domain: str | None) -> str | None:
        return "" if domain == _ONNX_DOMAIN else domain

    @model_validator(mode="after")
    def _selects_something(self) -> Selector:
        if self.op is None and self.name is None and self.domain is None:
            raise PydanticCustomError(
                "empty-selector",
                "a selector needs at least one of op, name and domain",
                {"hint": "to select every node write '.*'"},
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A mapping, or a string that is a regular expression on node names."""
        regex = {"type": "string", "format": "regex", "description": "regex on whole node names"}
        return {"anyOf": [regex, handler(core)]}

    def matches(self, node: Node) -> bool:
        """True for operations that fit all the given keys; never for inputs and constants."""
        if node.kind is not Kind.OP:
            return False
        if self.op is not None and node.op_type != self.op:
            return False
        if self.domain is not None and node.domain not in _spellings(self.domain):
            return False
        return self.name is None or re.fullmatch(self.name, node.name) is not None

    def __str__(self) -> str:
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        return ", ".join(f"{key} {value!r}" for key, value in given.items())


Keep = Annotated[
    tuple[Selector, ...],
    Field(
        description="nodes that this pass leaves as they are: regular expressions on node names, "
        "or mappings with op, name, domain"
    ),
]
"""Type of the option `keep`: declare it as ``keep: Keep = ()``, ask it with `selected`."""


def _operator_or_regex(value: object) -> object:
    """A word that looks like an operator is one; names of nodes hardly ever do."""
    is_operator = isinstance(value, str) and _OPERATOR.fullmatch(value) is not None
    return {"op": value} if is_operator else value


def _known_operator(selector: Selector) -> Selector:
    known = {name for domain, name in OPS if not domain}
    if selector.op is None or selector.domain or selector.op in known:
        return selector
    if selector.domain is None and any(name == selector.op for _, name in OPS):
        return selector
    raise PydanticCustomError(
        "unknown-operator",
        "there is no operator {found}",
        {
            "found": repr(selector.op),
            "hint": did_you_mean(selector.op, known)
            or "give its `domain` when it is not one of ONNX's own",
        },
    )


OpSelector = Annotated[
    Selector, BeforeValidator(_operator_or_regex), AfterValidator(_known_operator)
]
"""A selector in a list of operators: the bare word ``Softmax`` is an operator, which must exist;
any other string is a regular expression on node names."""


def selected(selectors: Iterable[Selector], node: Node) -> Selector | None:
    """The first selector that `node` fits, for the reason of a refusal; None when none does."""
    return next((selector for selector in selectors if selector.matches(node)), None)


def unmatched(selectors: Iterable[Selector], graph: Graph) -> tuple[Selector, ...]:
    """The selectors that fit no node of `graph` or of its subgraphs: most likely typing errors."""
    nodes = [node for inner in graph.walk() for node in inner.nodes(Kind.OP)]
    return tuple(s for s in selectors if not any(s.matches(node) for node in nodes))


def _bad_regex(name: str | None, reason: str) -> PydanticCustomError:
    message = "{found} is not a regular expression: {reason}"
    return PydanticCustomError("bad-regex", message, {"found": repr(name), "reason": reason})


def _spellings(domain: str) -> tuple[str, ...]:
    return ("", _ONNX_DOMAIN) if not domain else (domain,)
