"""What passes on control flow share: constants as nested graphs see them, and replacing owners."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir import DType, Kind, Tensor
from optc.ir.inline import Inliner, refine_types
from optc.ir.shape_site import constant_tensor
from optc.rewrite.driver import remove_unused, replace_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.trace import Trace


class Scope:
    """The constants that one graph sees, captured ones included.

    Attributes:
        graph: the graph.
    """

    def __init__(self, graph: Graph, known: Mapping[Value, Tensor] | None = None) -> None:
        self.graph = graph
        self._known = dict(known or {})

    def tensor(self, value: Value | None) -> Tensor | None:
        """The tensor that a value always is, or None."""
        if value is None:
            return None
        return constant_tensor(value) or self._known.get(value)

    def number(self, value: Value | None) -> int | None:
        """The value of a constant that is one integer, or None."""
        tensor = self.tensor(value)
        if tensor is None or tensor.elements != 1 or not tensor.dtype.is_integer:
            return None
        return int(tensor.numpy().reshape(-1)[0])

    def flag(self, value: Value | None) -> bool | None:
        """What a condition always is, or None; `Not` and `Identity` are looked through."""
        negate = False
        while value is not None and value.node.is_op("Not", "Identity"):
            negate ^= value.node.is_op("Not")
            value = self.graph.operand(value.node, 0)
        tensor = self.tensor(value)
        if tensor is None or tensor.elements != 1 or tensor.dtype is not DType.BOOL:
            return None
        return bool(tensor.numpy().reshape(-1)[0]) != negate

    def inside(self, owner: Node, body: Graph, given: Mapping[Value, bool] | None = None) -> Scope:
        """The scope of a subgraph of `owner`.

        Args:
            owner: an operation of this graph.
            body: one of its subgraphs.
            given: conditions of this graph that hold, or do not, whenever the subgraph runs.
        """
        captures = self.graph.captures(owner)
        known: dict[Value, Tensor] = {}
        for node in body.nodes(Kind.CAPTURE):
            outer = captures[node.name]
            held = (given or {}).get(outer)
            tensor = self.tensor(outer) if held is None else Tensor.from_numpy(held, DType.BOOL)
            if tensor is not None:
                known[node.output] = tensor
        return Scope(body, known)


def sweep(scope: Scope, visit: Callable[[Scope, Node], bool]) -> None:
    """Visit every operation of a graph that owns subgraphs, until none is replaced any more.

    `visit` says whether it replaced the operation. It descends into subgraphs by itself.
    """
    graph = scope.graph
    changed = True
    while changed:
        changed = False
        for node in graph.ordered():
            if node in graph and next(node.subgraphs(), None) is not None:
                changed |= visit(scope, node)


def put_in(
    graph: Graph,
    owner: Node,
    values: Sequence[Value | None],
    inliner: Inliner,
    trace: Trace,
    rule: str,
) -> None:
    """Let the values that an inlined subgraph gives take the place of its owner's results."""
    pairs = [
        (old, new)
        for old, new in zip(owner.outputs, values, strict=True)
        if old is not None and new is not None
    ]
    made = set(inliner.made)
    for old, new in pairs:
        if new.node in made and new.node.kind is Kind.OP:
            refine_types(graph, new, old.type)
    nested = [node for _, body in owner.subgraphs() for g in body.walk() for node in g.nodes()]
    trace.applied(rule, owner)
    ends = {new.node for _, new in pairs} & made
    for node in (*nested, *replace_node(graph, owner, [new for _, new in pairs], ends)):
        trace.forget(node)
    remove_unused(graph, inliner.made)
    inliner.settle()
