"""Where to compute on integers: the cheapest choice for a whole graph at once.

Every operation is computed on floats or on integers, each at its price, and where a value is made
in one and used in the other it is converted once. The choice with the least total is a minimum
cut: source side "floats", sink side "integers". An operation is one vertex, or two where it can
take integers and give floats: one for what it takes, one for what it gives.

    operation ──price on floats──▶ sink            source ──price on integers──▶ operation
    maker ──quantize──▶ a ──∞──▶ each user         cut when the maker gives floats and one user
                                                   takes integers
    each user ──∞──▶ b ──dequantize──▶ maker       cut the other way round

Among equally cheap choices the one with the fewest operations on integers is taken.

**With a share of the work on integers.** Where every unit of work on floats is charged a fine, the
minimum cut is the cheapest choice for the work that it has on integers, and that work grows with
the fine (Everett, "Generalized Lagrange multiplier method", Operations Research 11, 1963). The
least fine that is enough lies between two known choices, one with too little and one with enough:
the fine at which both cost the same either gives one in between, or shows that there is none.

Source: networkx.minimum_cut; the graph of a value with several users follows Lawler, "Cutsets and
partitions of hypergraphs" (Networks 3, 1973).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import networkx as nx
from networkx.algorithms.flow import boykov_kolmogorov

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

_UNITS: Final = 1e12
"""Capacities are whole picoseconds: sums of floats would depend on the order."""
_FLOATS: Final = ("floats",)
_INTEGERS: Final = ("integers",)


@dataclass(frozen=True)
class Side:
    """What an operation takes or gives; the vertex of the cut.

    Attributes:
        operation: the operation.
        gives: whether it stands for the results.
    """

    operation: Hashable
    gives: bool


@dataclass(frozen=True)
class _Choice:
    """One choice for the whole graph: its sides on integers, picoseconds, work on integers."""

    sides: frozenset[Side]
    cost: int
    work: int


@dataclass
class Placement:
    """Operations and the values between them; `solve` says which are computed on integers."""

    _work: dict[Hashable, int] = field(default_factory=dict)
    _graph: nx.DiGraph[Hashable] = field(default_factory=nx.DiGraph)
    _splits: set[Hashable] = field(default_factory=set)
    _known: set[Hashable] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._graph.add_nodes_from([_FLOATS, _INTEGERS])

    def operation(
        self,
        name: Hashable,
        floats: float,
        integers: float,
        *,
        work: int = 0,
        may_give_floats: bool = False,
    ) -> None:
        """Add an operation that can be computed either way.

        Args:
            name: the operation; what is not added is computed on floats.
            floats: seconds on floats.
            integers: seconds on integers.
            work: what it counts for in `cover`, e.g. multiply-adds.
            may_give_floats: whether on integers it can give floats without a conversion.
        """
        takes = Side(name, gives=False)
        self._known.add(name)
        if work:
            self._work[takes] = work
        self._edge(takes, _INTEGERS, floats)
        self._edge(_FLOATS, takes, integers)
        if may_give_floats:
            self._splits.add(name)
            self._graph.add_edge(takes, Side(name, gives=True))

    def value(
        self,
        name: Hashable,
        maker: Hashable,
        users: Iterable[Hashable],
        quantize: float,
        dequantize: float,
    ) -> None:
        """Add a value.

        Args:
            name: the value.
            maker: the operation that gives it; None for what always gives floats.
            users: the operations that take it; None for what always takes floats.
            quantize: seconds of the conversion to integers.
            dequantize: seconds of the conversion to floats.
        """
        gives = self._gives(maker)
        takes = list(dict.fromkeys(self._takes(user) for user in users))
        up, down = ("up", name), ("down", name)
        self._edge(gives, up, quantize)
        self._edge(down, gives, dequantize)
        for user in takes:
            self._graph.add_edge(up, user)
            self._graph.add_edge(user, down)

    def solve(self) -> frozenset[Side]:
        """The sides that are on integers where the total is least."""
        return self._best(0, 1).sides

    def cover(self, work: float, forgo: float) -> tuple[frozenset[Side], frozenset[Side]]:
        """The sides on integers where so much work is and the total is least, if that is worth it.

        Args:
            work: what is to be on integers at least.
            forgo: share of what the cheapest choice saves that this may cost, at most 1.

        Returns:
            The sides on integers, and those of them that are not so in the cheapest choice of all.
            Where no choice has so much work on integers, or it costs more, that is the cheapest.
        """
        cheapest = self._best(0, 1)
        enough = cheapest if cheapest.work >= work else self._enough(work, cheapest)
        saved = self._total() - cheapest.cost
        if enough is None or enough.cost - cheapest.cost > forgo * saved:
            enough = cheapest
        return enough.sides, enough.sides - cheapest.sides

    def _enough(self, work: float, low: _Choice) -> _Choice | None:
        """What is cheapest with a fine that is just enough; None where that costs too much.

        Args:
            work: what is to be on integers at least.
            low: a choice with less.
        """
        # Work that no such fine brings on integers costs more than all that there is to save.
        high = self._best(self._total(), 1)
        if high.work < work:
            return None
        while True:
            middle = self._best(high.cost - low.cost, high.work - low.work)
            if middle.work in (low.work, high.work):
                return high
            low, high = (low, middle) if middle.work >= work else (middle, high)

    def _total(self) -> int:
        """Picoseconds where all is on floats."""
        edges = self._graph.in_edges(_INTEGERS, data=True)
        return sum(int(data["capacity"]) for _, _, data in edges)

    def _best(self, fine: int, unit: int) -> _Choice:
        """The cheapest choice where work on floats costs `fine` / `unit` picoseconds more each."""
        fined = self._graph.copy()
        for _, _, data in fined.edges(data=True):
            if "capacity" in data:
                data["capacity"] *= unit
        for side, work in self._work.items():
            fined.edges[side, _INTEGERS]["capacity"] += fine * work
        value, (_, integers) = nx.minimum_cut(
            fined, _FLOATS, _INTEGERS, flow_func=boykov_kolmogorov
        )
        found = {side for side in integers if isinstance(side, Side)}
        both = {Side(side.operation, gives=True) for side in found}
        sides = frozenset(found | {side for side in both if side.operation not in self._splits})
        work = sum(count for side, count in self._work.items() if side in found)
        fines = fine * (sum(self._work.values()) - work)
        return _Choice(sides, (int(value) - fines) // unit, work)

    def _gives(self, operation: Hashable) -> Hashable:
        if operation not in self._known:
            return _FLOATS
        return Side(operation, gives=operation in self._splits)

    def _takes(self, operation: Hashable) -> Hashable:
        return Side(operation, gives=False) if operation in self._known else _FLOATS

    def _edge(self, start: Hashable, end: Hashable, seconds: float) -> None:
        """Add a capacity; those of parallel edges add up."""
        if start == end:
            return
        units = round(seconds * _UNITS)
        old = self._graph.get_edge_data(start, end, {"capacity": 0})
        self._graph.add_edge(start, end, capacity=old["capacity"] + units)
