"""What a runtime's converter cannot take, as read from ``conversions/*.yaml``.

A runtime with a format of its own converts the ONNX graph. An entry names operators and, where it
depends, conditions on the operation; all conditions of an entry must hold. An operator that no
entry names may be convertible or not: the table refuses what is known, the converter the rest.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from optc.ir import Kind, ops
from optc.ir.ops import attribute
from optc.ir.types import DType, OptionalType, SequenceType, TensorType
from optc.targets.fact import Confidence, Descriptor, Name, Some, Text, Versioned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value

QualifiedOp = Annotated[
    str, StringConstraints(pattern=r"^([a-z][a-z0-9.]*::)?(\*|[A-Z][A-Za-z0-9]*)$")
]
"""``Conv``, ``com.microsoft::QGemm``, ``com.microsoft.nchwc::*``; ``*``: any of any domain."""

Literals = tuple[int | float | str, ...]
"""Values of an attribute, or of a constant with one element; a bool is 0 or 1."""

SEQUENCE, OPTIONAL = "seq", "optional"
TYPES = frozenset(dtype.value for dtype in DType) | {SEQUENCE, OPTIONAL}
"""Element types as the canonical text prints them, and the types that are no tensors."""


class TensorCondition(Descriptor):
    """What must hold for an operand or a result; a fact that is not known holds never."""

    index: int | None = Field(default=None, description="which one; null: any of them")
    present: bool | None = Field(default=None, description="whether it is there")
    constant: bool | None = Field(
        default=None, description="whether its data are known without the inputs of the graph"
    )
    boundary: bool | None = Field(
        default=None, description="whether it is an input or an output of the graph"
    )
    types: tuple[str, ...] = Field(default=(), description="its type is one of these")
    min_rank: int | None = Field(default=None, description="it has at least so many dimensions")
    max_rank: int | None = Field(default=None, description="it has at most so many dimensions")
    min_channels: int | None = Field(default=None, description="its dimension 1 is at least that")
    min_elements: int | None = Field(default=None, description="it has at least so many elements")
    equals: Literals = Field(default=(), description="a constant that is one of these")
    differs: Literals = Field(default=(), description="a constant that is none of these")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        _known_types(self.types)
        if self.model_fields_set <= {"index"}:
            raise ValueError("a condition needs something to hold")
        if self.present is False and len(self.model_fields_set - {"index"}) > 1:
            raise ValueError("present: what is not there has no other properties")
        return self

    def holds(self, graph: Graph, value: Value | None) -> bool:
        """Whether a value meets it; None is one that is left out."""
        if value is None or self.present is False:
            return self.present is False and value is None
        return (
            (not self.types or _type_name(value) in self.types)
            and (self.constant is None or _depends_on_inputs(graph, value) is not self.constant)
            and (self.boundary is None or _is_boundary(graph, value) is self.boundary)
            and self._fits_shape(value)
            and self._fits_value(value)
        )

    def _fits_shape(self, value: Value) -> bool:
        limits = (self.min_rank, self.max_rank, self.min_channels, self.min_elements)
        if limits == (None,) * 4:
            return True
        type = value.type
        if not isinstance(type, TensorType) or type.shape is None:
            return False
        rank = len(type.shape)
        channels = type.shape[1] if rank > 1 and isinstance(type.shape[1], int) else 0
        return (
            (self.min_rank is None or rank >= self.min_rank)
            and (self.max_rank is None or rank <= self.max_rank)
            and (self.min_channels is None or channels >= self.min_channels)
            and (self.min_elements is None or (type.elements or 0) >= self.min_elements)
        )

    def _fits_value(self, value: Value) -> bool:
        if not self.equals and not self.differs:
            return True
        tensor = value.constant
        if tensor is None or tensor.elements != 1:
            return False
        return _is_one_of(tensor.numpy().item(), self.equals, self.differs)


class AttributeCondition(Descriptor):
    """What must hold for an attribute: as written, else the default of the operator's schema."""

    name: Text = Field(description="the attribute")
    given: bool | None = Field(default=None, description="whether it is written")
    equals: Literals = Field(default=(), description="it is one of these")
    differs: Literals = Field(default=(), description="it is none of these")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.given is None and not self.equals and not self.differs:
            raise ValueError("a condition needs something to hold")
        return self

    def holds(self, graph: Graph, node: Node) -> bool:
        """Whether an operation meets it."""
        if self.given is not None and (self.name in node.attributes) is not self.given:
            return False
        if not self.equals and not self.differs:
            return True
        value = attribute(graph, node, self.name)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        return value is not None and _is_one_of(value, self.equals, self.differs)


class Conversion(Versioned):
    """Operations that the converter rejects, or converts to something that computes otherwise."""

    ops: Some[QualifiedOp] = Field(description="operators, with their domain")
    function: bool = Field(
        default=False, description="whether it is about calls of functions that the model defines"
    )
    types: tuple[str, ...] = Field(
        default=(), description="an operand or a result has one of these types"
    )
    operands: tuple[TensorCondition, ...] = Field(default=(), description="conditions on operands")
    results: tuple[TensorCondition, ...] = Field(default=(), description="conditions on results")
    attributes: tuple[AttributeCondition, ...] = Field(
        default=(), description="conditions on attributes"
    )
    captures: bool = Field(default=False, description="its subgraphs use values from outside")
    opset_since: int | None = Field(default=None, description="first version of the operator set")
    opset_until: int | None = Field(default=None, description="last version of the operator set")
    outcome: Literal["rejected", "wrong"] = Field(
        description="rejected: the file cannot be made or loaded; wrong: it computes otherwise"
    )
    reason: Text = Field(description="why, in words for people")
    instead: Text = Field(description="what to write instead")
    evidence: Text = Field(description="measurement or document")
    confidence: Confidence = Field(description="how sure that is")

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        _known_types(self.types)
        conditions = (self.function, self.types, self.operands, self.results, self.attributes)
        if "*" in self.ops and not any(conditions):
            raise ValueError("ops: * without a condition would refuse every graph")
        return self

    def fits(self, graph: Graph, node: Node) -> bool:
        """Whether it is about this operation; the caller has compared the operator's name."""
        called = (node.domain, node.op_type, node.overload) in graph.model.functions
        if called is not self.function or not self._fits_opset(graph, node):
            return False
        operands, results = graph.operands(node), node.outputs
        return (
            (not self.captures or any(graph.captures(node)))
            and (not self.types or any(_type_name(v) in self.types for v in (*operands, *results)))
            and all(condition.holds(graph, node) for condition in self.attributes)
            and all(_any_holds(condition, graph, results) for condition in self.results)
            and all(_any_holds(condition, graph, operands) for condition in self.operands)
        )

    def _fits_opset(self, graph: Graph, node: Node) -> bool:
        opset = ops.version(graph, node)
        return (self.opset_since is None or opset >= self.opset_since) and (
            self.opset_until is None or opset <= self.opset_until
        )


class ConversionTable(Descriptor):
    """All that one runtime's converter is known not to take; the first entry that fits counts."""

    schema_version: Literal[1] = Field(description="version of this file format")
    runtime: Name = Field(description="the runtime")
    conversions: Some[Conversion] = Field(description="entries")

    @model_validator(mode="after")
    def _states_unconditional_refusals_once(self) -> Self:
        seen: set[tuple[object, ...]] = set()
        for entry in self.conversions:
            rest = entry.model_dump(exclude={"ops", "reason", "instead", "evidence", "confidence"})
            for op in entry.ops:
                key = (op, repr(rest))
                if key in seen:
                    raise ValueError(f"{op}: stated twice")
                seen.add(key)
        return self

    def find(self, graph: Graph, node: Node, version: str | None = None) -> Conversion | None:
        """The first entry about an operation, by version of the runtime; None when there is none.

        Args:
            graph: the graph or subgraph that holds the operation.
            node: the operation.
            version: version of the runtime; None: the newest.
        """
        domain, op = node.operator  # a canonical operation is converted as one of ONNX's own
        names = (f"{domain}::{op}" if domain else op, f"{domain}::*", "*")
        numbers = sorted({number for name in names for number in self._by_op.get(name, ())})
        entries = (self.conversions[number] for number in numbers)
        return next((e for e in entries if e.holds_for(version) and e.fits(graph, node)), None)

    @cached_property
    def _by_op(self) -> dict[str, list[int]]:
        """Positions of the entries by operator: graphs are large and the table is long."""
        found: dict[str, list[int]] = {}
        for number, entry in enumerate(self.conversions):
            for op in entry.ops:
                found.setdefault(op, []).append(number)
        return found


# ---- facts about a value -----------------------------------------------------------------------


def _any_holds(condition: TensorCondition, graph: Graph, values: Sequence[Value | None]) -> bool:
    """Whether the value that a condition names meets it, or any when it names none."""
    if condition.index is None:
        return any(condition.holds(graph, value) for value in values if value is not None)
    value = values[condition.index] if condition.index < len(values) else None
    return condition.holds(graph, value)


def _known_types(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in TYPES]:
        raise ValueError(f"types: there is no type {', '.join(unknown)}")


def _type_name(value: Value | None) -> str | None:
    type = None if value is None else value.type
    if isinstance(type, SequenceType):
        return SEQUENCE
    if isinstance(type, OptionalType):
        return OPTIONAL
    return type.dtype.value if isinstance(type, TensorType) else None


def _is_one_of(value: Any, equals: Literals, differs: Literals) -> bool:
    return (not equals or value in equals) and value not in differs


def _is_boundary(graph: Graph, value: Value) -> bool:
    return value.node.kind is Kind.INPUT or graph.is_output(value)


def _depends_on_inputs(graph: Graph, value: Value) -> bool:
    """Whether its data are certain to come from the inputs, and not from their shapes alone.

    An initializer that is also an input counts as constant, as OpenVINO takes it; a value of an
    enclosing graph is not followed.
    """
    stack, seen = [value], {value}
    while stack:
        node = stack.pop().node
        if node.kind is Kind.INPUT and node.tensor is None:
            return True
        if node.kind is not Kind.OP or node.is_op("Shape", "Size"):
            continue
        fresh = [v for v in graph.operands(node) if v is not None and v not in seen]
        seen.update(fresh)
        stack += fresh
    return False
