"""Symbolic shapes: what the result shapes of a node are, given those of its operands.

`infer` knows the operators that real models use; for others it says nothing. It also says nothing
where versions of the specification or runtimes disagree: what it says may be relied on, and a
recorded type that contradicts it is wrong. `values` follows the elements of small tensors, so that
a shape that a model computes (Shape, Gather, Concat, …) is known as far as it can be.

A rule gets operand shapes from the recorded types. Shapes hold for every run that does not fail.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from optc.ir import (
    ops,
    shape_rules,
    shape_rules_contrib,
    shape_rules_move,
    shape_rules_window,
    shape_values,
)
from optc.ir.nodes import Kind
from optc.ir.shape_site import Partial, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.ir.shape_site import Known, Rule
    from optc.ir.types import Shape

_RULES: Final[Mapping[tuple[str, str], Rule]] = {
    **{("", name): rule for name, rule in shape_rules.RULES.items()},
    **{("", name): rule for name, rule in shape_rules_move.RULES.items()},
    **{("", name): rule for name, rule in shape_rules_window.RULES.items()},
    **{(ops.MICROSOFT, name): rule for name, rule in shape_rules_contrib.RULES.items()},
}
_OLDEST: Final = 7  # before, broadcasting was an attribute
_NOTHING: Final[Known] = MappingProxyType({})


def rule_of(graph: Graph, node: Node) -> Rule | None:
    """The rule for a node, or None when optc has none."""
    if node.kind is not Kind.OP or node.overload or (not node.domain and graph.opset < _OLDEST):
        return None
    functions = graph.model.functions
    if functions and (node.domain, node.op_type, node.overload) in functions:
        return None
    rule = _RULES.get(node.operator)
    if rule is not None:
        return rule
    row = ops.info(node)
    if row.has(ops.Trait.UNARY):
        return shape_rules.same
    return shape_rules.broadcast if row.has(ops.Trait.ELEMENTWISE) else None


def infer(graph: Graph, node: Node, known: Known | None = None) -> tuple[Shape | None, ...] | None:
    """The shapes of all results of a node.

    Args:
        graph: the graph of the node.
        node: an operation.
        known: elements of small tensors, from `values`; constants need not be in it.

    Returns:
        One entry per result, None where the rank is not known; None when there is no rule.
    """
    rule = rule_of(graph, node)
    if rule is None:
        return None
    found = rule(Site(graph, node, _NOTHING if known is None else known)) or ()
    shapes = [_checked(shape) for shape in found[: len(node.outputs)]]
    return (*shapes, *(None,) * (len(node.outputs) - len(shapes)))


def _checked(shape: Shape | None) -> Shape | None:
    """The shape without negative sizes, which only a node that fails can have."""
    if shape is None or not any(isinstance(dim, int) and dim < 0 for dim in shape):
        return shape
    return tuple(None if isinstance(dim, int) and dim < 0 else dim for dim in shape)


def evaluate(
    graph: Graph,
    node: Node,
    known: Known,
    shapes: tuple[Shape | None, ...] | None = None,
) -> dict[Value, Partial]:
    """What is known of the elements of the results of a node.

    Args:
        graph: the graph of the node.
        node: an operation.
        known: elements of small tensors.
        shapes: the result shapes when the caller has inferred them already.
    """
    if node.domain or node.op_type not in shape_values.RULES or not _may_know(graph, node, known):
        return {}
    if rule_of(graph, node) is None:
        return {}
    if shapes is None:
        shapes = infer(graph, node, known)
    found = shape_values.values_of(Site(graph, node, known), shapes or ())
    pairs = zip(node.outputs, found, strict=False)
    return {value: part for value, part in pairs if value is not None}


def _may_know(graph: Graph, node: Node, known: Known) -> bool:
    """Whether anything can come of `evaluate`: cheap, for the many nodes of which nothing can."""
    if node.op_type in shape_values.SOURCES:
        return True
    operands = graph.operands(node)
    if node.op_type in shape_values.FROM_FIRST:
        operands = operands[:1]
    given = [value for value in operands if value is not None]
    return any(value in known for value in given) or all(
        value.node.kind is Kind.CONSTANT for value in given
    )


def values(graph: Graph) -> dict[Value, Partial]:
    """What is known of the elements of small tensors, in a graph and all graphs nested in it.

    Follows results of operations and captured values; constants are not in it.
    """
    known: dict[Value, Partial] = {}
    _follow(graph, known)
    return known


def _follow(graph: Graph, known: dict[Value, Partial]) -> None:
    for node in graph.ordered():
        for _, inner in node.subgraphs() if node.attributes else ():
            capture_values(graph, node, inner, known)
            _follow(inner, known)
        known.update(evaluate(graph, node, known))


def capture_values(graph: Graph, node: Node, inner: Graph, known: dict[Value, Partial]) -> None:
    """Carry what is known of captured values into a subgraph of a node."""
    site = Site(graph, node, known)
    outside = graph.captures(node)
    for capture in inner.nodes(Kind.CAPTURE):
        value = outside.get(capture.name)
        part = None if value is None else site.of(value)
        if part is not None:
            known[capture.output] = part
