"""The entities of a graph. Values and nodes compare by identity, attributes by value."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.ir.graph import Graph
    from optc.ir.tensor import SparseTensor, Tensor
    from optc.ir.types import Type


CANONICAL: Final = "optc"
"""Domain of canonical operations: an operator of ONNX's own domain, in its newest version, in a
model whose opset is too low for it. Passes see no difference; the lowering writes it in another
form, and no emitted model has it."""


class Kind(Enum):
    """What a node of the graph stands for."""

    OP = "op"  # an operation
    INPUT = "input"  # a graph input, perhaps with a default (an initializer of the same name)
    CONSTANT = "constant"  # an initializer, dense or sparse
    OUTPUT = "output"  # a graph output: one operand, no value of its own
    CAPTURE = "capture"  # inside a subgraph: a value of the enclosing graph

    __hash__ = object.__hash__


class AttrKind(Enum):
    """ONNX attribute types. The value is the number in ``AttributeProto.AttributeType``."""

    FLOAT = 1
    INT = 2
    STRING = 3
    TENSOR = 4
    GRAPH = 5
    FLOATS = 6
    INTS = 7
    STRINGS = 8
    TENSORS = 9
    GRAPHS = 10
    SPARSE_TENSOR = 11
    SPARSE_TENSORS = 12
    TYPE = 13
    TYPES = 14

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Attr:
    """An attribute value with its ONNX type.

    Attributes:
        kind: the ONNX attribute type.
        value: int, float (a float32 value), bytes, Tensor, Graph, SparseTensor or Type; a tuple of
            these for the list kinds.
        ref: inside a function body, the name of the function's attribute that supplies the value;
            `value` is then None.
        doc: doc string, carried.
    """

    kind: AttrKind
    value: Any
    ref: str = ""
    doc: str = field(default="", compare=False)

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The subgraphs that this attribute holds."""
        if self.kind is AttrKind.GRAPH and self.value is not None:
            return (self.value,)
        return self.value if self.kind is AttrKind.GRAPHS else ()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a node comes from: the pass that made it and what it made it from.

    Attributes:
        made_by: name of the pass; empty for a node of the source model.
        parents: names of source nodes, or origins of nodes that passes had made before.
    """

    made_by: str
    parents: tuple[str | Origin, ...]

    def sources(self) -> tuple[str, ...]:
        """Names of all source nodes behind this one, in order of first appearance."""
        found: dict[str, None] = {}
        stack: list[str | Origin] = list(reversed(self.parents))
        seen: set[int] = set()
        while stack:
            item = stack.pop()
            if isinstance(item, str):
                found.setdefault(item)
            elif id(item) not in seen:
                seen.add(id(item))
                stack.extend(reversed(item.parents))
        return tuple(found)

    def passes(self) -> tuple[str, ...]:
        """Names of the passes that touched it, last one first."""
        found: dict[str, None] = {}
        stack: list[Origin] = [self]
        seen: set[int] = set()
        while stack:
            item = stack.pop()
            if id(item) in seen:
                continue
            seen.add(id(item))
            if item.made_by:
                found.setdefault(item.made_by)
            stack.extend(p for p in reversed(item.parents) if isinstance(p, Origin))
        return tuple(found)


class Value:
    """One value: an output of an operation, a graph input, a constant or a captured value.

    Attributes:
        name: unique in its graph.
        type: what is known about its type, or None. Change it with `Graph.set_type`.
        node: the node that produces it.
        index: which output of that node it is.
        doc: doc string of its ValueInfo, carried.
        metadata: metadata of its ValueInfo, carried.
    """

    __slots__ = ("doc", "index", "metadata", "name", "node", "type")

    def __init__(self, name: str, type: Type | None, node: Node, index: int) -> None:
        self.name = name
        self.type = type
        self.node = node
        self.index = index
        self.doc = ""
        self.metadata: Mapping[str, str] = {}

    @property
    def constant(self) -> Tensor | None:
        """The tensor, when this is a dense constant."""
        return self.node.tensor if self.node.kind is Kind.CONSTANT else None

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type or '?'}"


class Node:
    """One node. Make it with `Graph.add` and its siblings; change it through its graph only.

    Attributes:
        kind: operation, input, constant, output or capture.
        op_type: operator name; empty unless `kind` is OP.
        domain: operator domain, empty for ONNX's own.
        overload: overload of a model-local function.
        name: the ONNX node name (may be empty or shared) for operations; the interface name for
            inputs, outputs, constants and captures.
        attributes: attributes by name, as written (defaults of the schema are not added).
        outputs: the values it produces; None where an optional output is left out.
        tensor: data of a constant, or the default of an input.
        sparse: data of a sparse constant.
        declared: declared type of a graph output.
        origin: provenance.
        doc: doc string, carried.
        metadata: metadata_props, carried.
        opaque: protobuf fields that optc carries without reading, as bytes.
    """

    __slots__ = (
        "_operands",
        "attributes",
        "declared",
        "doc",
        "domain",
        "kind",
        "metadata",
        "name",
        "op_type",
        "opaque",
        "origin",
        "outputs",
        "overload",
        "sparse",
        "tensor",
    )

    def __init__(self, kind: Kind, op_type: str = "", name: str = "", domain: str = "") -> None:
        self.kind = kind
        self.op_type = op_type
        self.name = name
        self.domain = domain
        self.overload = ""
        self.attributes: Mapping[str, Attr] = {}
        self.outputs: tuple[Value | None, ...] = ()
        self.tensor: Tensor | None = None
        self.sparse: SparseTensor | None = None
        self.declared: Type | None = None
        self.origin: Origin | None = None
        self.doc = ""
        self.metadata: Mapping[str, str] = {}
        self.opaque: bytes = b""
        self._operands: tuple[Value | None, ...] | None = None

    @property
    def label(self) -> str:
        """How messages name it: its name, else its first output, else its operator."""
        return self.name or self.key or self.op_type

    @property
    def key(self) -> str:
        """The name that orders it: its first output that exists, else its own name."""
        for value in self.outputs:
            if value is not None:
                return value.name
        return self.name

    @property
    def output(self) -> Value:
        """Its first output; ValueError when that one is left out."""
        value = self.outputs[0] if self.outputs else None
        if value is None:
            raise ValueError(f"{self.label} has no first output")
        return value

    @property
    def qualified_op(self) -> str:
        """``domain::Op``, or the plain operator name in ONNX's own domain."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def operator(self) -> tuple[str, str]:
        """Domain and name of the operator that it is; a canonical one is of ONNX's own domain."""
        return ("" if self.domain == CANONICAL else self.domain, self.op_type)

    @property
    def is_canonical(self) -> bool:
        """Whether its operator is newer than the opset of its model; see `CANONICAL`."""
        return self.domain == CANONICAL

    def is_op(self, *op_types: str, domain: str = "") -> bool:
        """True for an operation of this domain with one of these names, canonical ones included."""
        if self.kind is not Kind.OP or self.op_type not in op_types:
            return False
        return self.domain == domain or (not domain and self.domain == CANONICAL)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute as written, or `default`."""
        attribute = self.attributes.get(name)
        return default if attribute is None else attribute.value

    def subgraphs(self) -> Iterator[tuple[str, Graph]]:
        """Attribute name and graph of every subgraph, in order of attribute names."""
        for name in sorted(self.attributes):
            for graph in self.attributes[name].graphs:
                yield name, graph

    def source_origin(self) -> Origin | str:
        """What a node made from this one records as parent."""
        return self.origin or self.label

    def __repr__(self) -> str:
        return f"<{self.kind.value} {self.qualified_op} {self.label}>"


class Use(NamedTuple):
    """One use of a value.

    Attributes:
        node: the consumer.
        key: operand index; for a value captured by a subgraph of the consumer, its inner name.
    """

    node: Node
    key: int | str
