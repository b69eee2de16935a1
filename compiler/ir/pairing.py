"""Which node of one graph is which node of another.

Strong evidence first: what computes the same thing from the same inputs (forward), what feeds the
same consumers in the same way (backward), what uses the same large weights. Names come after, since
exporters number values and one inserted node shifts all numbers. Rounds repeat until nothing new is
found, so one changed node in the middle of a renamed graph is still found to be that one node: at
last, what stands in the same place is taken to be the same node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir.literals import PRINTED_ELEMENTS, format_attribute
from optc.ir.nodes import AttrKind, Kind
from optc.ir.text import print_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from optc.ir.graph import Graph
    from optc.ir.nodes import Attr, Node, Value
    from optc.ir.types import Type

    Signatures: TypeAlias = Iterable[tuple[Node, Hashable]]

_ROUNDS: Final = 20


def fingerprint(attribute: Attr) -> Hashable:
    """Equal for attributes with equal values; subgraphs are equal when their texts are."""
    if attribute.kind is AttrKind.TENSOR and attribute.value is not None:
        return attribute.kind, attribute.value.digest
    if attribute.graphs:
        return attribute.kind, tuple(print_graph(graph) for graph in attribute.graphs)
    return attribute.kind, format_attribute(attribute)


def content(node: Node) -> Hashable:
    """Equal for constants with equal types and elements."""
    if node.sparse is not None:
        sparse = node.sparse
        return sparse.shape, sparse.values.digest, sparse.indices.digest
    return None if node.tensor is None else node.tensor.digest


class Pairing:
    """Pairs of nodes of two graphs; a node is in at most one pair.

    Attributes:
        forth: node of the first graph to node of the second.
        back: the inverse.
    """

    def __init__(self, a: Graph, b: Graph, seeds: Mapping[Node, Node], *, positional: bool) -> None:
        """Pair the nodes of `a` and `b`.

        Args:
            a: the first graph.
            b: the second.
            seeds: pairs that are known already, such as captured values.
            positional: pair inputs and outputs by position (subgraphs) instead of by name.
        """
        self.forth: dict[Node, Node] = {}
        self.back: dict[Node, Node] = {}
        self._sides = (_Side(a, self.forth, 0), _Side(b, self.back, 1))
        for left, right in seeds.items():
            self._pair(left, right)
        self._pair_interface([v.node for v in a.inputs], [v.node for v in b.inputs], positional)
        self._pair_interface(a.outputs, b.outputs, positional)
        for rule in (_captures, _exact_constants, _large_constants, _constant_names, _constants):
            self._pair_by(rule)
        self._propagate()
        for rule in (_weights, _names_with_op, _node_names, _names, _places):
            if self._pair_by(rule):
                self._propagate()

    def same(self, left: Value | None, right: Value | None) -> bool:
        """Whether two operands count as the same.

        They do when one node of a pair gives the one and the other node the other; when both are
        constants of equal contents; and when they have one name and the node behind either has no
        partner: then that node is the difference, not everybody who uses its result.
        """
        if left is None or right is None:
            return left is right
        partner, inverse = self.forth.get(left.node), self.back.get(right.node)
        if partner is right.node:
            return left.index == right.index
        if left.node.kind is Kind.CONSTANT and right.node.kind is Kind.CONSTANT:
            return content(left.node) == content(right.node)
        return left.name == right.name and (partner is None or inverse is None)

    def _pair(self, left: Node, right: Node) -> None:
        self.forth[left] = right
        self.back[right] = left
        for side, node in zip(self._sides, (left, right), strict=True):
            side.pair_ids[node] = len(self.forth)

    def _pair_interface(
        self, left: Sequence[Node], right: Sequence[Node], positional: bool
    ) -> None:
        if not positional:
            names = {node.name: node for node in right}
            for node in left:
                if node.name in names:
                    self._pair(node, names[node.name])
            left = [node for node in left if node not in self.forth]
            right = [node for node in right if node not in self.back]
        for one, other in zip(left, right, strict=False):
            if positional or _interface_type(one) == _interface_type(other):
                self._pair(one, other)

    def _propagate(self) -> None:
        for _ in range(_ROUNDS):
            found = False
            for sweep in (_Side.forward, _Side.backward):
                found |= self._pair_by(partial(sweep, numbers={}))
            if not found:
                return

    def _pair_by(self, signature: Callable[[_Side], Signatures]) -> bool:
        """Pair unpaired nodes of equal signatures, those of equal names first; True when any."""
        groups: defaultdict[Hashable, tuple[list[Node], list[Node]]] = defaultdict(lambda: ([], []))
        for side in self._sides:
            for node, sign in signature(side):
                groups[sign][side.index].append(node)
        before = len(self.forth)
        for left, right in groups.values():
            by_key = {node.key: node for node in right}
            for node in left:
                if node.key in by_key:
                    self._pair(node, by_key[node.key])
            ones = [node for node in left if node not in self.forth]
            others = [node for node in right if node not in self.back]
            for one, other in zip(ones, others, strict=False):
                self._pair(one, other)
        return len(self.forth) > before


class _Side:
    """One of the two graphs, with what is paired already."""

    def __init__(self, graph: Graph, paired: Mapping[Node, Node], index: int) -> None:
        self.graph = graph
        self.index = index
        self.pair_ids: dict[Node, int] = {}
        self._paired = paired
        self._attributes: dict[Node, Hashable] = {}

    def unpaired(self, *kinds: Kind) -> Iterator[Node]:
        """Nodes of these kinds (default: operations) that are in no pair."""
        return (node for node in self.graph.nodes(*kinds) if node not in self._paired)

    def operation(self, node: Node) -> Hashable:
        """Operator, attributes and which results there are: what does not depend on neighbours."""
        found = self._attributes.get(node)
        if found is None:
            attributes = tuple(
                (n, fingerprint(node.attributes[n])) for n in sorted(node.attributes)
            )
            present = tuple(value is not None for value in node.outputs)
            found = (node.qualified_op, node.overload, attributes, present)
            self._attributes[node] = found
        return found

    def forward(self, numbers: dict[Hashable, int]) -> Signatures:
        """Unpaired operations with a number for what they compute from paired values."""
        own: dict[Node, int] = {}
        for node in self.graph.ordered():
            if node in self._paired:
                continue
            operands = tuple(self._source(value, own) for value in self.graph.operands(node))
            captured = self.graph.captures(node) if node.attributes else {}
            captures = tuple((name, self._source(value, own)) for name, value in captured.items())
            sign = (self.operation(node), operands, captures)
            own[node] = numbers.setdefault(sign, len(numbers))
            yield node, own[node]

    def _source(self, value: Value | None, own: Mapping[Node, int]) -> Hashable:
        if value is None:
            return None
        return self._token(value.node, own), value.index

    def backward(self, numbers: dict[Hashable, int]) -> Signatures:
        """Unpaired operations with a number for how paired nodes use their results."""
        own: dict[Node, int] = {}
        for node in reversed(self.graph.ordered()):
            if node in self._paired:
                continue
            uses = Counter(
                (value.index, str(use.key), self._token(use.node, own))
                for value in node.outputs
                if value is not None
                for use in self.graph.uses(value)
            )
            sign = (self.operation(node), frozenset(uses.items()))
            own[node] = numbers.setdefault(sign, len(numbers))
            yield node, own[node]

    def _token(self, node: Node, own: Mapping[Node, int]) -> Hashable:
        pair = self.pair_ids.get(node)
        if pair is not None:
            return "pair", pair
        # A node without a number stands for itself: nothing on the other side equals it.
        return own.get(node, node)


# ---- rules: nodes that are not paired yet, with what must be equal to pair them -----------------


def _captures(side: _Side) -> Signatures:
    return ((node, node.name) for node in side.unpaired(Kind.CAPTURE))


def _exact_constants(side: _Side) -> Signatures:
    return ((node, (node.key, content(node))) for node in side.unpaired(Kind.CONSTANT))


def _large_constants(side: _Side) -> Signatures:
    return (
        (node, content(node)) for node in side.unpaired(Kind.CONSTANT) if _is_large(node.output)
    )


def _constant_names(side: _Side) -> Signatures:
    return ((node, node.key) for node in side.unpaired(Kind.CONSTANT))


def _constants(side: _Side) -> Signatures:
    return ((node, content(node)) for node in side.unpaired(Kind.CONSTANT))


def _weights(side: _Side) -> Signatures:
    for node in side.unpaired():
        used = tuple(
            (index, side.pair_ids.get(value.node))
            for index, value in enumerate(side.graph.operands(node))
            if value is not None and _is_large(value)
        )
        if used and all(pair is not None for _, pair in used):
            yield node, (node.qualified_op, used)


def _names_with_op(side: _Side) -> Signatures:
    return ((node, (node.qualified_op, node.key)) for node in side.unpaired())


def _node_names(side: _Side) -> Signatures:
    often = Counter(node.name for node in side.graph.nodes())
    return (
        (node, (node.qualified_op, node.name))
        for node in side.unpaired()
        if node.name and often[node.name] == 1
    )


def _names(side: _Side) -> Signatures:
    return ((node, node.key) for node in side.unpaired())


def _places(side: _Side) -> Signatures:
    """Whatever the operator: what lies between the same operands and the same uses."""
    for node in side.unpaired():
        operands = [
            None if value is None else (side.pair_ids.get(value.node, 0), value.index)
            for value in side.graph.operands(node)
        ]
        uses = {
            (value.index, str(use.key), side.pair_ids.get(use.node, 0))
            for value in node.outputs
            if value is not None
            for use in side.graph.uses(value)
        }
        links = [link[0] for link in operands if link is not None] + [link[2] for link in uses]
        if uses and all(links):
            yield node, (tuple(operands), frozenset(uses))


def _is_large(value: Value) -> bool:
    if value.node.sparse is not None:
        return True
    tensor = value.node.tensor
    return value.node.kind is Kind.CONSTANT and (
        tensor is not None and tensor.elements > PRINTED_ELEMENTS
    )


def _interface_type(node: Node) -> Type | None:
    return node.declared if node.kind is Kind.OUTPUT else node.output.type
