"""The structural difference of two models.

Nodes are paired first (see `optc.ir.pairing`); the difference is what has no partner, and what
differs between partners: operator, attributes, operands, recorded types, contents of constants,
the interface and the opset imports. Names inside the graph, doc strings, metadata and provenance
are not part of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from optc.ir.literals import (
    format_attribute,
    format_name,
    format_sparse,
    format_tensor,
    format_type,
)
from optc.ir.nodes import Kind
from optc.ir.pairing import Pairing, content, fingerprint
from optc.ir.textdiff import diff_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir.graph import Graph
    from optc.ir.model import Function
    from optc.ir.nodes import Attr, Node, Value
    from optc.ir.types import Type

__all__ = ["Change", "GraphDiff", "diff_graphs", "diff_text"]

_SIGNS: Final = {"added": "+", "removed": "-", "changed": "~"}


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: ``added`` (only in the second), ``removed`` (only in the first) or ``changed``.
        what: ``opset``, ``function``, ``input``, ``output``, ``constant`` or ``node``.
        where: what it is called, e.g. ``Conv /stem/conv``; inside a subgraph with the path to it.
        details: for a node that changed, what; for one that came or went, what it looks like.
        made_by: the pass that made it; empty where it is of the source model, or nobody knows.
    """

    kind: str
    what: str
    where: str
    details: tuple[str, ...] = ()
    made_by: str = ""

    def __str__(self) -> str:
        made_by = f" (made by {self.made_by})" if self.made_by else ""
        head = f"{_SIGNS[self.kind]} {self.what} {self.where}{made_by}"
        return "\n    ".join([head, *self.details])

    def to_dict(self) -> dict[str, Any]:
        """The change as data, for ``--json``."""
        return {
            "kind": self.kind,
            "what": self.what,
            "where": self.where,
            "details": list(self.details),
            "made_by": self.made_by or None,
        }


@dataclass(frozen=True)
class GraphDiff:
    """All differences of two models: opsets, functions, interface, nodes, constants."""

    changes: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """True when the models are the same."""
        return not self.changes

    def counts(self) -> dict[str, int]:
        """Number of changes by kind; all three kinds are present."""
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in _SIGNS}

    def render(self) -> str:
        """The difference for people: one change per line, its details below; empty when none."""
        if self.is_empty:
            return ""
        summary = ", ".join(f"{number} {kind}" for kind, number in self.counts().items())
        return "\n".join([*map(str, self.changes), summary]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The difference as data, for ``--json``."""
        return {
            "equal": self.is_empty,
            "counts": self.counts(),
            "changes": [change.to_dict() for change in self.changes],
        }


def diff_graphs(a: Graph, b: Graph) -> GraphDiff:
    """The structural difference of two root graphs, with the functions of their models.

    Close to linear in the size of the graphs.

    Raises:
        ValueError: a graph has a cycle.
    """
    changes = [*_opsets(a.opsets, b.opsets, "")]
    changes += _functions(a.model.functions, b.model.functions)
    changes += _GraphComparison(a, b, "", {}, positional=False).changes()
    return GraphDiff(tuple(changes))


def _opsets(a: Mapping[str, int], b: Mapping[str, int], path: str) -> Iterator[Change]:
    for domain in sorted(a.keys() | b.keys()):
        name = path + (domain or "ai.onnx")
        old, new = a.get(domain), b.get(domain)
        if old is None:
            yield Change("added", "opset", f"{name} {new}")
        elif new is None:
            yield Change("removed", "opset", f"{name} {old}")
        elif old != new:
            yield Change("changed", "opset", f"{name}: {old} -> {new}")


def _functions(
    a: Mapping[tuple[str, str, str], Function], b: Mapping[tuple[str, str, str], Function]
) -> Iterator[Change]:
    for key in sorted(a.keys() | b.keys()):
        domain, name, overload = key
        label = f"{domain}::{name}" + (f":{overload}" if overload else "")
        if key not in a:
            yield Change("added", "function", label)
        elif key not in b:
            yield Change("removed", "function", label)
        else:
            yield from _function(label, a[key], b[key])


def _function(label: str, a: Function, b: Function) -> Iterator[Change]:
    details = [*_attribute_details(_parameters(a), _parameters(b))]
    if details:
        yield Change("changed", "function", label, tuple(details))
    yield from _opsets(a.body.opsets, b.body.opsets, f"{label}/")
    yield from _GraphComparison(a.body, b.body, f"{label}/", {}, positional=True).changes()


def _parameters(function: Function) -> dict[str, Attr | None]:
    return {**dict.fromkeys(function.attributes), **function.defaults}


class _GraphComparison:
    """Two graphs of one level, their pairing and the path that leads to them."""

    def __init__(
        self, a: Graph, b: Graph, path: str, seeds: Mapping[Node, Node], *, positional: bool
    ) -> None:
        self.a = a
        self.b = b
        self.path = path
        self.positional = positional
        self.pairing = Pairing(a, b, seeds, positional=positional)

    def changes(self) -> Iterator[Change]:
        inputs = ([v.node for v in self.a.inputs], [v.node for v in self.b.inputs])
        yield from self._interface("input", *inputs)
        yield from self._interface("output", self.a.outputs, self.b.outputs)
        yield from self._members("node", self.a.ordered(), self.b.ordered())
        yield from self._members("constant", _constants(self.a), _constants(self.b))

    # ---- inputs and outputs --------------------------------------------------------------------

    def _interface(self, what: str, a: Sequence[Node], b: Sequence[Node]) -> Iterator[Change]:
        yield from self._members(what, a, b)
        order = [self.pairing.forth[node] for node in a if node in self.pairing.forth]
        if order != [node for node in b if node in self.pairing.back]:
            names = [", ".join(node.name for node in nodes) for nodes in (a, b)]
            yield Change("changed", what, f"{self.path}order", (f"{names[0]} -> {names[1]}",))

    def _members(self, what: str, a: Sequence[Node], b: Sequence[Node]) -> Iterator[Change]:
        for node in a:
            partner = self.pairing.forth.get(node)
            if partner is None:
                looks = self._looks(self.a, node)
                yield Change("removed", what, self._label(node), looks, _maker(node))
                continue
            details = tuple(self._details(node, partner))
            if details:
                details += tuple(_maker_details(node, partner))
                yield Change("changed", what, self._label(node), details, _maker(partner))
            if what == "node":
                yield from self._subgraphs(node, partner)
        for node in b:
            if node not in self.pairing.back:
                looks = self._looks(self.b, node)
                yield Change("added", what, self._label(node), looks, _maker(node))

    def _label(self, node: Node) -> str:
        operator = f"{node.qualified_op} " if node.kind is Kind.OP else ""
        return f"{self.path}{operator}{format_name(node.label)}"

    def _looks(self, graph: Graph, node: Node) -> tuple[str, ...]:
        if node.kind is not Kind.OP:
            return (_describe(graph, node),)
        operands = ", ".join(_name(value) for value in graph.operands(node))
        results = ", ".join(_name(value) for value in node.outputs)
        return (f"({operands}) -> {results}",)

    # ---- what differs between partners ---------------------------------------------------------

    def _details(self, a: Node, b: Node) -> Iterator[str]:
        if a.kind is Kind.OP:
            yield from self._operation_details(a, b)
        elif a.kind is Kind.CONSTANT:
            if content(a) != content(b):
                yield f"{_describe(self.a, a)} -> {_describe(self.b, b)}"
        else:
            if a.name != b.name and not self.positional:
                yield f"name: {a.name} -> {b.name}"
            if content(a) != content(b) or _type(a) != _type(b):
                yield f"{_describe(self.a, a)} -> {_describe(self.b, b)}"
            if a.kind is Kind.OUTPUT:
                yield from self._operands((self.a.operand(a, 0),), (self.b.operand(b, 0),))

    def _operation_details(self, a: Node, b: Node) -> Iterator[str]:
        if (a.qualified_op, a.overload) != (b.qualified_op, b.overload):
            yield f"operator: {_operator(a)} -> {_operator(b)}"
        yield from _attribute_details(a.attributes, b.attributes)
        yield from self._operands(self.a.operands(a), self.b.operands(b))
        yield from self._captures(self.a.captures(a), self.b.captures(b))
        yield from _result_details(a.outputs, b.outputs)

    def _operands(self, a: Sequence[Value | None], b: Sequence[Value | None]) -> Iterator[str]:
        for index in range(max(len(a), len(b))):
            old = a[index] if index < len(a) else None
            new = b[index] if index < len(b) else None
            if self.pairing.same(old, new):
                continue
            before, after = _name(old), _name(new)
            if before == after:  # the name has moved to another result
                before, after = f"{before} of {_producer(old)}", f"{after} of {_producer(new)}"
            yield f"operand {index}: {before} -> {after}"

    def _captures(self, a: Mapping[str, Value], b: Mapping[str, Value]) -> Iterator[str]:
        theirs = list(b.values())
        for value in dict.fromkeys(a.values()):
            if not any(self.pairing.same(value, other) for other in theirs):
                yield f"capture: {_name(value)} -> _"
        ours = list(a.values())
        for value in dict.fromkeys(theirs):
            if not any(self.pairing.same(other, value) for other in ours):
                yield f"capture: _ -> {_name(value)}"

    # ---- subgraphs -----------------------------------------------------------------------------

    def _subgraphs(self, a: Node, b: Node) -> Iterator[Change]:
        for name in sorted(a.attributes.keys() & b.attributes.keys()):
            pairs = zip(a.attributes[name].graphs, b.attributes[name].graphs, strict=False)
            for index, (old, new) in enumerate(pairs):
                suffix = f"[{index}]" if len(a.attributes[name].graphs) > 1 else ""
                path = f"{self._label(a)}/{name}{suffix}/"
                seeds = self._capture_seeds((a, old), (b, new))
                yield from _GraphComparison(old, new, path, seeds, positional=True).changes()

    def _capture_seeds(self, a: tuple[Node, Graph], b: tuple[Node, Graph]) -> dict[Node, Node]:
        """Captures of the two subgraphs that stand for the same outer value."""
        outer_a, outer_b = self.a.captures(a[0]), self.b.captures(b[0])
        ours = [(node, outer_a.get(node.name)) for node in a[1].nodes(Kind.CAPTURE)]
        theirs = [(node, outer_b.get(node.name)) for node in b[1].nodes(Kind.CAPTURE)]
        seeds: dict[Node, Node] = {}
        for node, value in ours:
            for other, outer in theirs:
                taken = other in seeds.values()
                if value is not None and not taken and self.pairing.same(value, outer):
                    seeds[node] = other
                    break
        return seeds


def _constants(graph: Graph) -> list[Node]:
    return sorted(graph.nodes(Kind.CONSTANT), key=lambda node: node.key)


# ---- what differs, one line each ---------------------------------------------------------------


def _attribute_details(a: Mapping[str, Attr | None], b: Mapping[str, Attr | None]) -> Iterator[str]:
    for name in sorted(a.keys() | b.keys()):
        old, new = a.get(name), b.get(name)
        if name in a and name in b:
            if old is new or (old and new and fingerprint(old) == fingerprint(new)):
                continue
            if old and new and old.graphs and len(old.graphs) == len(new.graphs):
                continue  # subgraphs are compared node by node
        before = _attribute(old, name) if name in a else "_"
        after = _attribute(new, name) if name in b else "_"
        yield f"attribute {name}: {before} -> {after}"


def _attribute(attribute: Attr | None, name: str) -> str:
    if attribute is None:
        return "required"
    return "subgraph" if attribute.graphs else format_attribute(attribute, name)


def _result_details(a: Sequence[Value | None], b: Sequence[Value | None]) -> Iterator[str]:
    for index in range(max(len(a), len(b))):
        old = a[index] if index < len(a) else None
        new = b[index] if index < len(b) else None
        if old is None or new is None:
            if old is not new:
                yield f"result {index}: {_name(old)} -> {_name(new)}"
        elif old.type != new.type:
            yield f"type of {_name(old)}: {format_type(old.type)} -> {format_type(new.type)}"


def _describe(graph: Graph, node: Node) -> str:
    data = ""
    if node.sparse is not None:
        data = format_sparse(node.sparse)
    elif node.tensor is not None:
        data = format_tensor(node.tensor)
    if node.kind is Kind.CONSTANT:
        return data
    default = f" = {data}" if data else ""
    source = f" = {_name(graph.operand(node, 0))}" if node.kind is Kind.OUTPUT else ""
    return f"{format_type(_type(node))}{default}{source}"


def _type(node: Node) -> Type | None:
    return node.declared if node.kind is Kind.OUTPUT else node.output.type


def _operator(node: Node) -> str:
    return f"{node.qualified_op}:{node.overload}" if node.overload else node.qualified_op


def _maker(node: Node) -> str:
    return node.origin.made_by if node.origin else ""


def _maker_details(a: Node, b: Node) -> Iterator[str]:
    old, new = _maker(a), _maker(b)
    if old != new:
        yield f"made by: {old or 'the source model'} -> {new or 'the source model'}"


def _producer(value: Value | None) -> str:
    return "" if value is None else value.node.qualified_op or value.node.kind.value


def _name(value: Value | None) -> str:
    return "_" if value is None else f"%{format_name(value.name)}"
