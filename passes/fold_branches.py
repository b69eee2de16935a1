"""Replace an If by the branch that it always takes.

    If(true)  {then: A, else: B} = A
    If(false) {then: A, else: B} = B
    If(c)     {then: A, else: A} = A

The operations of the branch move into the graph that the If stands in: a value that it captures is
the one of that graph, its initializers become initializers there, and a result that is only such a
value is that value. The condition is known where it is a constant, also a captured one, and inside
the branches of another If on the same condition (PyTorch writes an If per use of a flag).
Conditions that are computed from constants or from static shapes become constants in
`fold-constants` and `fold-shapes`: of the exporters' ``squeeze``, which asks for the size of the
axis at run time, only the Squeeze is left then.

Source: ONNX operator If-1 to If-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import Kind, ops
from optc.ir.inline import Inliner
from optc.passes.base import Pass, PassResult
from optc.passes.control import Scope, put_in, sweep
from optc.passes.remove_duplicates import content
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_CONSTANT: Final = "constant-condition"
_EQUAL: Final = "equal-branches"


class FoldBranches(Pass):
    """Replace an If whose condition is known, or whose branches are equal.

    Refuses: a condition that is computed at run time, with branches that differ; an If inside a
    model-local function is not looked at. Equal branches stay where they draw random numbers or
    hold graphs themselves.
    """

    name = "fold-branches"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Fold in the graph and, with what their conditions say, in all its subgraphs."""
        del context
        trace = Trace(self.name)
        sweep(Scope(graph), _Folder(trace).visit)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Folder:
    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def visit(self, scope: Scope, node: Node) -> bool:
        """Replace an If, or look into the subgraphs of what stays."""
        if not node.is_op("If"):
            for _, body in node.subgraphs():
                sweep(scope.inside(node, body), self.visit)
            return False
        graph = scope.graph
        condition = graph.operand(node, 0)
        then, other = node.get("then_branch"), node.get("else_branch")
        assert condition is not None
        taken = scope.flag(condition)
        if taken is not None:
            self._fold(graph, node, then if taken else other, _CONSTANT)
            return True
        if _are_equal(graph, node, then, other):
            self._fold(graph, node, then, _EQUAL)
            return True
        reason = f"the condition is {_described(condition)}, known only at run time"
        self.trace.refused(_CONSTANT, node, reason)
        for body, holds in ((then, True), (other, False)):
            sweep(scope.inside(node, body, _given(graph, condition, holds)), self.visit)
        return False

    def _fold(self, graph: Graph, node: Node, branch: Graph, rule: str) -> None:
        inliner = Inliner(graph, node, branch, self.trace.pass_name)
        put_in(graph, node, inliner.copy(), inliner, self.trace, rule)


def _given(graph: Graph, condition: Value, holds: bool) -> dict[Value, bool]:
    """What is known where a condition holds or does not, of it and what it is the opposite of."""
    given = {condition: holds}
    while condition.node.is_op("Not", "Identity"):
        holds ^= condition.node.is_op("Not")
        operand = graph.operand(condition.node, 0)
        assert operand is not None
        condition = operand
        given[condition] = holds
    return given


def _described(condition: Value) -> str:
    node = condition.node
    if node.kind is Kind.CAPTURE:
        return f"the captured value {node.name}"
    if node.kind is not Kind.OP:
        return f"the {node.kind.value} {node.name}"
    return f"{condition.name}, a result of {node.qualified_op}"


# ---- equal branches ----------------------------------------------------------------------------


def _are_equal(graph: Graph, owner: Node, one: Graph, other: Graph) -> bool:
    """Whether two branches compute the same from the same values."""
    if len(one) != len(other):
        return False
    numbers: dict[Hashable, int] = {}
    left = _numbered(graph.captures(owner), one, numbers)
    return left is not None and left == _numbered(graph.captures(owner), other, numbers)


def _numbered(
    captures: Mapping[str, Value], body: Graph, numbers: dict[Hashable, int]
) -> list[int | None] | None:
    """A number per output, equal for what is computed equally; None for what is not compared.

    Constants are read only where the branches are equal so far: operations come first.
    """
    found: dict[Value, int] = {}

    def number(value: Value | None) -> int | None:
        if value is None:
            return None
        if value not in found:
            found[value] = numbers.setdefault(_source(captures, value), len(numbers))
        return found[value]

    for node in body.ordered():
        if next(node.subgraphs(), None) is not None or not ops.is_deterministic(body, node):
            return None
        key = (
            node.operator,
            node.overload,
            tuple(number(value) for value in body.operands(node)),
            tuple((name, content(item)) for name, item in sorted(node.attributes.items())),
        )
        for value in node.outputs:
            if value is not None:
                found[value] = numbers.setdefault((key, value.index), len(numbers))
    return [number(body.operand(node, 0)) for node in body.outputs]


def _source(captures: Mapping[str, Value], value: Value) -> Hashable:
    node = value.node
    if node.kind is Kind.CAPTURE:
        return captures[node.name]
    if node.tensor is not None:
        return node.tensor.digest
    assert node.sparse is not None
    return node.sparse.shape, node.sparse.values.digest, node.sparse.indices.digest
