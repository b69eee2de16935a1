"""Which operations should run on permuted operands so that the fewest bytes are transposed.

Around one permutation p, every operation that can run in either layout is given one: the present
one, or the one that Transpose(·, p) makes. Where a value is made in one layout and used in the
other, it has to be transposed once. A Transpose by the inverse of p that is there already makes
the new layout for nothing, and so does one by p that follows. The cheapest choice for a whole
region at once is a minimum cut, with the bytes of each value as capacity: source side "permuted",
sink side "as it is". A value with several uses is one hyperedge, written with two helper nodes:

    maker ──bytes──▶ a ──∞──▶ each user          cut when the maker moves and one user does not
    each user ──∞──▶ b ──bytes──▶ maker          cut when one user moves and the maker does not

Source: networkx.minimum_cut; the graph of a hyperedge follows Lawler, "Cutsets and partitions of
hypergraphs" (Networks 3, 1973).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import networkx as nx

from optc.ir import Kind, TensorType, dims
from optc.ir.shape_site import shape_of
from optc.passes.layouts import Moved, Perm, inverse, is_single, moved, perm_of

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable

    from optc.ir import Dim, Graph, Node, Value

MOVES, STAYS = "moves", "stays"
_SIZES: Final = (16, 1, 1024)
"""What a symbolic size is taken for: a plan must gain with each of them."""

_PER_NODE: Final = 256
"""What one more operation costs, in bytes."""


@dataclass(eq=False)
class Region:
    """Operations connected by values that a permutation could change.

    Attributes:
        graph: the graph.
        perm: the permutation.
        nodes: operations that run in either layout, with what they need in the other.
        values: the values between and around them, in order of discovery.
    """

    graph: Graph
    perm: Perm
    nodes: dict[Node, Moved] = field(default_factory=dict)
    values: dict[Value, None] = field(default_factory=dict)
    _blocked: dict[Node, str] = field(default_factory=dict)

    def grow(self, seeds: Iterable[Value]) -> None:
        """Add what is connected to these values."""
        stack = list(seeds)
        while stack:
            value = stack.pop()
            if value in self.values or not self._is_data(value):
                continue
            self.values[value] = None
            around = [value.node, *(use.node for use in self.graph.uses(value))]
            for node in around:
                if node not in self.nodes and (found := self._moved(node)) is not None:
                    self.nodes[node] = found
                    stack.extend(self._values_of(node, found))

    def _moved(self, node: Node) -> Moved | None:
        if node in self._blocked:
            return None
        found = moved(self.graph, node, self.perm)
        if isinstance(found, str):
            self._blocked[node] = found
            return None
        return found

    def _values_of(self, node: Node, how: Moved) -> list[Value]:
        operands = [self.graph.operand(node, index) for index in how.data]
        results = [] if how.absorbs else node.outputs
        return [value for value in (*operands, *results) if value is not None]

    def _is_data(self, value: Value) -> bool:
        shape = shape_of(self.graph, value)
        is_constant = value.node.kind is Kind.CONSTANT
        return (
            shape is not None
            and len(shape) == len(self.perm)
            and not (is_constant or is_single(shape))
        )

    # ---- who makes and uses a value ------------------------------------------------------------

    def is_opener(self, node: Node) -> bool:
        """Whether a Transpose makes a value whose permuted form is its operand."""
        return perm_of(self.graph, node) == inverse(self.perm) and not self.is_inside(node)

    def is_closer(self, node: Node) -> bool:
        """Whether a Transpose makes the permuted form of its operand."""
        return perm_of(self.graph, node) == self.perm and not self.is_inside(node)

    def is_neutral(self, node: Node) -> bool:
        """Whether a Transpose takes, or makes, either layout at the same cost."""
        perm = perm_of(self.graph, node)
        if perm is None or self.is_inside(node):
            return False
        return perm not in (self.perm, inverse(self.perm))

    def is_inside(self, node: Node) -> bool:
        """Whether both sides of a Transpose belong to the region: it is then left alone."""
        return self.graph.operand(node, 0) in self.values and node.output in self.values

    def maker(self, value: Value) -> Hashable:
        """The place in the cut of what makes a value."""
        node = value.node
        how = self.nodes.get(node)
        if how is not None and not how.absorbs:
            return node
        if self.is_opener(node):
            return MOVES
        return ("either", value) if self.is_neutral(node) else STAYS

    def users(self, value: Value) -> set[Hashable]:
        """The places in the cut of what uses a value."""
        found: set[Hashable] = set()
        for node, key in self.graph.uses(value):
            how = self.nodes.get(node)
            if how is not None and key in how.data:
                found.add(node)
            elif self.is_closer(node):
                found.add(MOVES)
            elif not self.is_neutral(node):
                found.add(STAYS)
        return found

    # ---- the decision --------------------------------------------------------------------------

    def plan(self) -> dict[Node, Moved]:
        """The operations to move; empty when no fewer bytes would be transposed."""
        cut: nx.DiGraph[Hashable] = nx.DiGraph()
        cut.add_nodes_from((MOVES, STAYS))
        for value in self.values:
            self._add_value(cut, value)
        for node, how in self.nodes.items():
            if how.slower:
                _add(cut, node, STAYS, self._penalty(node, _SIZES[0]))
        _, (moving, _) = nx.minimum_cut(cut, MOVES, STAYS)
        chosen = {node: how for node, how in self.nodes.items() if node in moving}
        gains = all(self.cost(chosen, size) < self.cost((), size) for size in _SIZES)
        return chosen if gains else {}

    def _add_value(self, cut: nx.DiGraph[Hashable], value: Value) -> None:
        maker, users = self.maker(value), self.users(value)
        cost = self._bytes(value, _SIZES[0])
        _add(cut, maker, ("a", value), cost)
        _add(cut, ("b", value), maker, cost)
        for user in users:
            cut.add_edge(("a", value), user)
            cut.add_edge(user, ("b", value))

    def cost(self, moving: Collection[Node], size: int) -> int:
        """How many bytes are transposed when these operations move; symbols count as `size`."""

        def moves(place: Hashable, default: bool) -> bool:
            if place in (MOVES, STAYS):
                return place == MOVES
            return default if isinstance(place, tuple) else place in moving

        total = sum(self._penalty(node, size) for node in moving if self.nodes[node].slower)
        for value in self.values:
            users = {moves(user, False) for user in self.users(value)}
            maker = moves(self.maker(value), next(iter(users), False))
            if users - {maker}:
                total += self._bytes(value, size)
        return total

    def _penalty(self, node: Node, size: int) -> int:
        """Runtimes transpose there and back by themselves."""
        return 2 * self._bytes(node.output, size)

    def _bytes(self, value: Value, size: int) -> int:
        shape = shape_of(self.graph, value)
        assert shape is not None
        dtype = value.type.dtype if isinstance(value.type, TensorType) else None
        elements = 1
        for dim in shape:
            elements *= _estimate(dim, size)
        return elements * max(1, (dtype.bits if dtype is not None else 32) // 8) + _PER_NODE

    def transposes(self) -> list[Node]:
        """The transposes around the region that it could make needless."""
        found: dict[Node, None] = {}
        for value in self.values:
            if self.is_opener(value.node):
                found[value.node] = None
            found.update(
                {use.node: None for use in self.graph.uses(value) if self.is_closer(use.node)}
            )
        return list(found)

    def culprit(self) -> str:
        """The first operation that binds the region to its layout."""
        for value in self.values:
            for node in (value.node, *(use.node for use in self.graph.uses(value))):
                if node in self.nodes or perm_of(self.graph, node) is not None:
                    continue
                return self._blocked.get(node) or f"{node.kind.value} {node.label} is bound"
        return "its transposes do not cancel"


def _add(cut: nx.DiGraph[Hashable], tail: Hashable, head: Hashable, cost: int) -> None:
    if tail == head:
        return
    old = cut.get_edge_data(tail, head, {}).get("capacity", 0)
    cut.add_edge(tail, head, capacity=old + cost)


def _estimate(dim: Dim, size: int) -> int:
    found = dims.substitute(dim, dict.fromkeys(dims.symbols(dim), size))
    return max(found, 1) if isinstance(found, int) else size
