"""Which operations to compute in a lower precision so that least time is lost: a minimum cut.

Every operation is *low* (bf16) or *high* (fp32). Some are fixed, the others are free. A value that
is made on one side and used on the other is converted, once however many users it has there; that
costs the time that its bytes take. An operation that is high although it could be low costs the
time that it would save. The sum of both is least where a minimum s-t cut runs.

**The cut.** Source side is high, sink side is low. Fixed operations are the source or the sink.
A value v with maker m, users U and weight w is a hyperedge in each direction, with a vertex each:

    m ──w──▶ a ──∞──▶ each u        cut once when m is high and some u is low
    each u ──∞──▶ b ──w──▶ m        cut once when m is low and some u is high

and an operation n with a saving g is an edge n ──g──▶ sink.

**Why that is exact.** Only edges from the source side to the sink side count. Let m be high. If
some u is low, a has either the edge m→a cut (a low, cost w) or an infinite one (a high): a minimum
cut takes w. If no u is low, a high costs nothing. The vertex b then costs nothing either way: b→m
does not leave the source side for the sink side, and b high satisfies every u→b. With m low it is
the same with the roles of a and b exchanged. So each value costs w once where it is converted and 0
where it is not, whatever the other values do, and n costs g exactly when it is high. The capacity
of the best cut for a given assignment is therefore the cost of that assignment, and the minimum
over cuts is the minimum over assignments.

**Which of several.** Costs are integers; each is multiplied by one more than the sum of all
preferences, and the preference of an operation for low is added to its saving, so that preferences
only ever decide between assignments of equal cost. What is left equal goes high: the sink side that
networkx returns is the set of vertices from which the sink can be reached in the residual graph.
That set is the same for every maximum flow (Picard and Queyranne 1980), and contained in the sink
side of every other minimum cut. So the result does not depend on the order of anything.

Source: the hyperedge vertices follow Lawler, "Cutsets and partitions of hypergraphs" (Networks 3,
1973); networkx.minimum_cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import networkx as nx
from networkx.algorithms.flow import boykov_kolmogorov

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping

N = TypeVar("N")

_HIGH: Final = ("side", "high")
_LOW: Final = ("side", "low")


@dataclass(frozen=True)
class Crossing(Generic[N]):
    """A value that is converted when its maker and a user are on different sides.

    Attributes:
        maker: the operation that makes it; None for one outside, which is high.
        users: the operations that use it; those outside are high and given by `outside`.
        cost: what a conversion costs.
        outside: whether something that is always high uses it as well.
    """

    maker: N | None
    users: tuple[N, ...]
    cost: int
    outside: bool = False


@dataclass(frozen=True)
class Problem(Generic[N]):
    """What is to be placed.

    Attributes:
        high: operations that are fixed high.
        low: operations that are fixed low.
        free: all others.
        crossings: the values between them.
        savings: what a free operation saves when it is low, in the unit of the conversions.
        preferences: what decides between assignments of equal cost, per free operation that is low.
    """

    high: frozenset[N]
    low: frozenset[N]
    free: tuple[N, ...]
    crossings: tuple[Crossing[N], ...]
    savings: Mapping[N, int] = field(default_factory=dict)
    preferences: Mapping[N, int] = field(default_factory=dict)

    def cost(self, low: Collection[N]) -> int:
        """The cost of an assignment: conversions, and savings that are not made.

        Args:
            low: every operation that is low, the fixed ones included.
        """
        return self.conversions(low) + sum(
            saving for node, saving in self.savings.items() if node not in low
        )

    def conversions(self, low: Collection[N]) -> int:
        """The cost of the conversions alone."""
        return sum(item.cost for item in self.converted(low))

    def converted(self, low: Collection[N]) -> list[Crossing[N]]:
        """The values that are converted."""
        return [item for item in self.crossings if _is_converted(item, low)]


def _is_converted(item: Crossing[N], low: Collection[N]) -> bool:
    made_low = item.maker is not None and item.maker in low
    if made_low and item.outside:
        return True
    return any((user in low) is not made_low for user in item.users)


def place(problem: Problem[N]) -> frozenset[N]:
    """The operations that are low in the best assignment, the fixed ones included."""
    scale = 1 + sum(problem.preferences.values())
    cut: nx.DiGraph[Hashable] = nx.DiGraph()
    cut.add_nodes_from((_HIGH, _LOW))
    spots: dict[N | None, Hashable] = {None: _HIGH}
    spots.update(dict.fromkeys(problem.high, _HIGH))
    spots.update(dict.fromkeys(problem.low, _LOW))
    spots.update({node: ("free", index) for index, node in enumerate(problem.free)})
    for index, item in enumerate(problem.crossings):
        users = dict.fromkeys(spots[user] for user in item.users)
        if item.outside:
            users[_HIGH] = None
        _add_crossing(cut, index, spots[item.maker], users, item.cost * scale)
    for node in problem.free:
        worth = problem.savings.get(node, 0) * scale + problem.preferences.get(node, 0)
        _add(cut, spots[node], _LOW, worth)
    _, (_, sink_side) = nx.minimum_cut(cut, _HIGH, _LOW, flow_func=boykov_kolmogorov)
    chosen = (node for node in problem.free if spots[node] in sink_side)
    return problem.low | frozenset(chosen)


def _add_crossing(
    cut: nx.DiGraph[Hashable], index: int, maker: Hashable, users: Iterable[Hashable], cost: int
) -> None:
    others = [user for user in users if user != maker]
    if not others or not cost:
        return
    if len(others) == 1:  # no vertex is needed where an edge says it
        _add(cut, maker, others[0], cost)
        _add(cut, others[0], maker, cost)
        return
    to_low, to_high = ("to low", index), ("to high", index)
    _add(cut, maker, to_low, cost)
    _add(cut, to_high, maker, cost)
    for user in others:
        cut.add_edge(to_low, user)  # no capacity: infinite
        cut.add_edge(user, to_high)


def _add(cut: nx.DiGraph[Hashable], tail: Hashable, head: Hashable, cost: int) -> None:
    """Add to the capacity of an edge; nothing flows out of the sink or into the source."""
    if not cost or tail in (head, _LOW) or head == _HIGH:
        return
    old = cut.get_edge_data(tail, head, {}).get("capacity", 0)
    cut.add_edge(tail, head, capacity=old + cost)
