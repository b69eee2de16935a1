"""One graph as a placement problem: what conversions cost, and what bf16 saves, in one unit.

Both are predicted times on the target, by the roofline of one core: a conversion reads a value in
one precision and writes it in the other; an operation saves what less arithmetic and fewer bytes
take less. The unit is the femtosecond, as an integer, and a conversion costs its bytes times the
whole femtoseconds of one byte: conversions compare exactly as bytes do.

Only *allow* operations have savings. What follows them is not worth a conversion by itself: the
runtime fuses it into a product, so most of the traffic that a roofline gives it is not there. Its
saving decides only where conversions are equal.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from optc.ir import DType, Kind, TensorType, dims
from optc.ir.shape_site import shape_of
from optc.numerics.painting import paint
from optc.numerics.placement import Crossing, Problem, place
from optc.numerics.roofline import bandwidth_gbps
from optc.numerics.timing import timer
from optc.passes.precision_sites import dtype_of, is_constant

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from optc.ir import Graph, Node, Type, Value
    from optc.passes.base import PassContext
    from optc.passes.precision_sites import Site

_PER_ELEMENT: Final = 6
"""Bytes of a conversion: four on the side of fp32, two on the side of bf16."""
_FEMTO: Final = 1e15
_UNKNOWN: Final = 128
"""What a size is taken for that nothing is known about."""


class Prices:
    """Predicted times on a target, in femtoseconds.

    Args:
        context: names the target and the runtime.
        sizes: what symbols in shapes stand for.
    """

    def __init__(self, context: PassContext, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        target, runtime = context.described, context.executes
        self._seconds = timer(target, runtime=runtime, sizes=sizes)
        bandwidth = bandwidth_gbps(target)
        self.per_byte = 1 if bandwidth is None else max(1, round(_FEMTO / (bandwidth * 1e9)))

    def bytes_of(self, graph: Graph, value: Value) -> int:
        """Bytes that a conversion of a value reads and writes."""
        shape = shape_of(graph, value)
        if shape is None:
            return _PER_ELEMENT * _UNKNOWN * _UNKNOWN
        elements = 1
        for dim in shape:
            size = dims.substitute(dim, self._sizes)
            elements *= size if isinstance(size, int) else _UNKNOWN
        return _PER_ELEMENT * elements

    def saving(self, graph: Graph, site: Site) -> int | None:
        """What bf16 saves at an operation; None when a size is not known."""
        exact = self._seconds(graph, site.node)
        with _in_bf16(graph, site):
            low = self._seconds(graph, site.node)
        if exact is None or low is None:
            return None
        return max(0, round((exact - low) * _FEMTO))


@contextmanager
def _in_bf16(graph: Graph, site: Site) -> Iterator[None]:
    """Let the ports of an operation be bf16 while the block runs."""
    operands = (graph.operand(site.node, index) for index in site.ports.operands)
    results = (site.node.outputs[index] for index in site.ports.results)
    changed: list[tuple[Value, Type | None]] = []
    for value in dict.fromkeys((*operands, *results)):
        if value is not None and isinstance(value.type, TensorType):
            changed.append((value, value.type))
            graph.set_type(value, replace(value.type, dtype=DType.BF16))
    try:
        yield
    finally:
        for value, old in changed:
            graph.set_type(value, old)


@dataclass(frozen=True)
class Conversion:
    """A value that is converted where precisions meet.

    Attributes:
        value: the value, as the graph has it.
        crossing: its part of the placement problem.
        size: bytes that the conversion reads and writes.
    """

    value: Value
    crossing: Crossing[Node]
    size: int


@dataclass(frozen=True)
class GraphPlan:
    """A graph in two precisions.

    Attributes:
        graph: the graph.
        sites: what is known of its operations, in order of execution.
        low: operations that are computed in bf16.
        painted: the same by painting, to compare with.
        savings: what each operation would save in bf16, as far as it is known.
    """

    graph: Graph
    sites: Mapping[Node, Site]
    low: frozenset[Node]
    painted: frozenset[Node]
    savings: Mapping[Node, int]
    _problem: Problem[Node]
    _values: Sequence[Conversion]

    def conversions(self, low: Collection[Node] | None = None) -> list[Conversion]:
        """The values that are converted, for the plan or another assignment."""
        chosen = set(map(id, self._problem.converted(self.low if low is None else low)))
        return [item for item in self._values if id(item.crossing) in chosen]

    def flip_costs(self) -> dict[Node, int]:
        """What it would cost to decide otherwise about each free operation, in femtoseconds."""
        around: dict[Node, list[Crossing[Node]]] = {}
        for item in self._problem.crossings:
            for node in {item.maker, *item.users} - {None}:
                around.setdefault(node, []).append(item)  # type: ignore[arg-type] # None is out
        found = {}
        for node in self._problem.free:
            local: Problem[Node] = Problem(
                frozenset(),
                frozenset(),
                (node,),
                tuple(around.get(node, ())),
                {n: s for n, s in self._problem.savings.items() if n is node},
            )
            found[node] = local.cost(self.low ^ {node}) - local.cost(self.low)
        return found


def plan_graph(
    graph: Graph, sites: Mapping[Node, Site], prices: Prices, placement: str
) -> GraphPlan:
    """Place the free operations of one graph; nested graphs are planned by themselves.

    Args:
        graph: the graph.
        sites: its operations that do floating-point work, in order of execution.
        prices: what conversions cost and operations save.
        placement: ``min-cut`` or ``paint``.
    """
    savings = {node: prices.saving(graph, site) for node, site in sites.items() if _may(site)}
    known = {node: saving for node, saving in savings.items() if saving is not None}
    values = [_conversion(graph, value, sites, prices) for value in _values(graph)]
    allowed = {node for node, site in sites.items() if site.op_class == "allow"}
    # An allowed operation of unknown size is taken to be worth it.
    unknown = allowed - known.keys()
    low = {n for n, s in sites.items() if s.side == "low" or (_may(s) and n in unknown)}
    free = tuple(node for node, site in sites.items() if site.side == "free" and node not in low)
    problem = Problem(
        frozenset(node for node, site in sites.items() if site.side == "high"),
        frozenset(low),
        free,
        tuple(item.crossing for item in values),
        {node: known[node] for node in free if node in allowed},
        {node: known[node] for node in free if node not in allowed and node in known},
    )
    painted = paint(problem, list(sites), {node: site.op_class for node, site in sites.items()})
    chosen = painted if placement == "paint" else place(problem)
    seeds = problem.low | allowed
    return GraphPlan(
        graph, sites, _connected(chosen, seeds, problem), painted, known, problem, values
    )


def _may(site: Site) -> bool:
    """Whether an operation can be low, and can be high."""
    return site.side == "free"


def _values(graph: Graph) -> Iterator[Value]:
    """The fp32 values that would have to be converted: constants are, at compile time."""
    for node in (*graph.nodes(Kind.INPUT, Kind.CAPTURE), *graph.ordered()):
        for value in node.outputs:
            if value is not None and dtype_of(value) is DType.F32 and not is_constant(node):
                yield value


def _conversion(
    graph: Graph, value: Value, sites: Mapping[Node, Site], prices: Prices
) -> Conversion:
    made = sites.get(value.node)
    is_port = made is not None and value.index in made.ports.results
    users: dict[Node, None] = {}
    outside = False
    for node, key in graph.uses(value):
        site = sites.get(node)
        if site is not None and key in site.ports.operands:
            users[node] = None
        else:
            outside = True
    size = prices.bytes_of(graph, value)
    crossing = Crossing(
        value.node if is_port else None, tuple(users), size * prices.per_byte, outside
    )
    return Conversion(value, crossing, size)


def _connected(
    low: frozenset[Node], seeds: Collection[Node], problem: Problem[Node]
) -> frozenset[Node]:
    """The low operations that are connected with one that bf16 is wanted for.

    What is low because nothing speaks against it has no neighbour to follow. To let it be fp32
    costs nothing: its region has no conversions that it does not share with fp32.
    """
    around: dict[Node, list[Node]] = {}
    for item in problem.crossings:
        members = [node for node in (item.maker, *item.users) if node is not None and node in low]
        for one, other in pairwise(members):
            around.setdefault(one, []).append(other)
            around.setdefault(other, []).append(one)
    found = {node for node in low if node in seeds}
    stack = list(found)
    while stack:
        for node in around.get(stack.pop(), ()):
            if node not in found:
                found.add(node)
                stack.append(node)
    return frozenset(found)
