"""Finds the pattern of a rule in a graph, or how near the graph comes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from optc.ir import Kind, ops
from optc.rewrite.pattern import Either, Match, Number, Operation, OptionalOperand, Output

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.pattern import Pattern, Rule, Variable


@dataclass
class NearMiss:
    """The furthest that a failed match got: operations matched, and what was wrong there."""

    depth: int = 0
    reason: str = ""
    other: bool = False

    def note(self, depth: int, reason: str, *, other: bool = False) -> None:
        """Keep this if it got further than what is kept; `other`: another operation is there."""
        if depth > self.depth:
            self.depth, self.reason, self.other = depth, reason, other


_Bindings: TypeAlias = "tuple[dict[str, Node], dict[str, Value | None]]"


def match_rule(rule: Rule, graph: Graph, root: Node) -> Match | NearMiss:
    """The first match of a rule that ends at `root`, or how near it came."""
    miss = NearMiss()
    value = root.outputs[0] if root.outputs else None
    if value is None:
        return miss
    start: _Bindings = ({}, {})
    for nodes, values in _match(rule.root, graph, value, start, miss):
        bound = {name: values.get(name) for name in rule.variables}
        return Match(rule.name, graph, root, nodes, bound)
    return miss


def _match(
    pattern: Pattern, graph: Graph, value: Value | None, bound: _Bindings, miss: NearMiss
) -> Iterator[_Bindings]:
    if isinstance(pattern, Either):
        for one in pattern.patterns:
            yield from _match(one, graph, value, bound, miss)
        return
    if isinstance(pattern, Operation | Output):
        if value is not None:
            inner, index = _operation_of(pattern)
            yield from _match_operation(inner, index, graph, value, bound, miss)
        return
    if isinstance(pattern, Number):
        tensor = None if value is None else value.constant
        if tensor is not None and pattern.fits(tensor):
            yield bound
        else:
            found = "left out" if value is None else value.name
            miss.note(len(bound[0]), f"expected the number {pattern.value:g}, found {found}")
        return
    yield from _match_variable(pattern, value, bound, miss)


def _operation_of(pattern: Operation | Output) -> tuple[Operation, int]:
    if isinstance(pattern, Output):
        return pattern.operation, pattern.index
    return pattern, 0


def _match_variable(
    pattern: Variable | OptionalOperand, value: Value | None, bound: _Bindings, miss: NearMiss
) -> Iterator[_Bindings]:
    if isinstance(pattern, OptionalOperand):
        pattern, optional_ = pattern.variable, True
    else:
        optional_ = False
    nodes, values = bound
    if value is None and not optional_:
        return
    if pattern.constant and (value is None or value.constant is None):
        where = "left out" if value is None else f"{value.name}, which is not constant"
        miss.note(len(nodes), f"{pattern.name} is {where}")
        return
    if pattern.name in values and values[pattern.name] is not value:
        miss.note(len(nodes), f"{pattern.name} is not one value")
        return
    yield nodes, {**values, pattern.name: value}


def _match_operation(
    pattern: Operation,
    index: int,
    graph: Graph,
    value: Value,
    bound: _Bindings,
    miss: NearMiss,
) -> Iterator[_Bindings]:
    node = value.node
    if not node.is_op(*pattern.op_types, domain=pattern.domain):
        found = node.qualified_op if node.kind is Kind.OP else f"the {node.kind.value} {node.name}"
        miss.note(len(bound[0]), f"expected {pattern.wanted}, found {found}", other=True)
        return
    if value.index != index:
        return
    nodes, values = bound
    if pattern.name in nodes and nodes[pattern.name] is not node:
        return
    operands = graph.operands(node)
    extra = [operand for operand in operands[len(pattern.operands) :] if operand is not None]
    if extra:
        miss.note(len(nodes) + 1, f"{node.label} has more operands than the pattern")
        return
    padded = operands[: len(pattern.operands)]
    padded += (None,) * (len(pattern.operands) - len(padded))
    here: _Bindings = ({**nodes, pattern.name: node}, values)
    yield from _match_all(pattern.operands, graph, padded, here, miss)
    if (
        len(padded) == 2
        and ops.info(node).has(ops.Trait.COMMUTATIVE)
        and padded[0] is not padded[1]
    ):
        yield from _match_all(pattern.operands, graph, padded[::-1], here, miss)


def _match_all(
    patterns: Sequence[Pattern],
    graph: Graph,
    values: Sequence[Value | None],
    bound: _Bindings,
    miss: NearMiss,
) -> Iterator[_Bindings]:
    if not patterns:
        yield bound
        return
    for state in _match(patterns[0], graph, values[0], bound, miss):
        yield from _match_all(patterns[1:], graph, values[1:], state, miss)
