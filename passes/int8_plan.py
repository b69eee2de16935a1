"""Which operations of a graph are computed on integers, and why the others are not.

Sites are found by the kernel table (`optc.passes.int8_sites`); which of them pay is one minimum cut
over the prices of operations and conversions (`optc.numerics.placement_int8`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from optc.ir import Kind
from optc.ir.ops import Trait, info
from optc.numerics.placement_int8 import Placement, Side
from optc.passes.int8_sites import PRODUCTS, Kernels, Site, find_site
from optc.passes.selector import selected

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from optc.ir import Graph, Node, Value
    from optc.numerics.prices import Prices
    from optc.passes.selector import Selector

KERNEL: Final = "kernel"
SELECTOR: Final = "selector"
ENDS: Final = "first-and-last"
GAIN: Final = "gain"
_NEVER: Final = 1e3
"""Seconds of a conversion of unknown size: more than anything saves."""


@dataclass(frozen=True)
class Wishes:
    """What the recipe says about single operations.

    Attributes:
        only: products that may be quantized; none: all.
        keep: operations that stay as they are.
        first: whether products that no other one comes before may be quantized.
        last: whether products that no other one comes behind may be.
    """

    only: Sequence[Selector] = ()
    keep: Sequence[Selector] = ()
    first: bool = True
    last: bool = True


@dataclass(frozen=True)
class Gain:
    """What decides by predicted times.

    Attributes:
        prices: what operations cost.
        coverage: share of the multiply-adds that is to be on integers, where `forgo` allows it.
        forgo: share of the predicted saving that this may cost.
    """

    prices: Prices
    coverage: float = 0.0
    forgo: float = 0.0


@dataclass
class Plan:
    """What is to be computed on integers.

    Attributes:
        graph: the graph.
        sites: by operation.
        sides: of sites that are on integers.
        reasons: of the operations that are not: what decided, and why.
        covering: why the sites are on integers that would not be for their own sake.
    """

    graph: Graph
    sites: dict[Node, Site] = field(default_factory=dict)
    sides: frozenset[Side] = frozenset()
    reasons: dict[Node, tuple[str, str]] = field(default_factory=dict)
    covering: dict[Node, str] = field(default_factory=dict)

    def takes(self, node: Node) -> bool:
        """Whether an operation takes integers."""
        return Side(node, gives=False) in self.sides

    def gives(self, node: Node) -> bool:
        """Whether an operation gives integers."""
        return Side(node, gives=True) in self.sides

    def chosen(self) -> Iterator[Site]:
        """The sites on integers, in order."""
        return (self.sites[n] for n in self.graph.ordered() if n in self.sites and self.takes(n))

    def operands(self, site: Site) -> list[Value]:
        """The operands of a site that are, or would be, quantized."""
        found = (self.graph.operand(site.node, index) for index in site.operands)
        return [value for value in found if value is not None]

    def integer_uses(self, value: Value) -> list[tuple[Node, int]]:
        """The operands that are to be integers."""
        return [
            (use.node, use.key)
            for use in self.graph.uses(value)
            if self.is_operand(use.node, use.key)
            and self.takes(use.node)
            and isinstance(use.key, int)
        ]

    def is_operand(self, node: Node, key: int | str) -> bool:
        """Whether a use is an operand of a site that is, or would be, quantized."""
        site = self.sites.get(node)
        return site is not None and key in site.operands


def make_plan(graph: Graph, kernels: Kernels, wishes: Wishes, gain: Gain | None) -> Plan:
    """Decide about every operation of a top-level graph.

    Args:
        graph: the graph.
        kernels: what the runtime has.
        wishes: what the recipe says.
        gain: how predicted times decide; None: everything that there is a kernel for is worth it.
    """
    plan = Plan(graph)
    refused = unwanted(graph, wishes)
    for node in graph.ordered():
        found = refused.get(node) or find_site(graph, node, kernels)
        if isinstance(found, Site):
            plan.sites[node] = found
        else:
            plan.reasons[node] = found if isinstance(found, tuple) else (KERNEL, found)
    why = _all_between(plan) if gain is None else _cut(plan, gain)
    plan.reasons |= {node: (GAIN, why[node]) for node in plan.sites if not plan.takes(node)}
    return plan


def unwanted(graph: Graph, wishes: Wishes) -> dict[Node, tuple[str, str]]:
    """The operations that the recipe does not want on integers: what decided, and the reason."""
    found: dict[Node, tuple[str, str]] = {}
    ends = _ends(graph, wishes)
    for node in graph.ordered():
        if (kept := selected(wishes.keep, node)) is not None:
            found[node] = (SELECTOR, f"the recipe keeps {kept}")
        elif node.is_op(*PRODUCTS) and wishes.only and selected(wishes.only, node) is None:
            found[node] = (SELECTOR, "the recipe selects others")
        elif node in ends:
            found[node] = (ENDS, ends[node])
    return found


def _ends(graph: Graph, wishes: Wishes) -> dict[Node, str]:
    """Products that no other product comes before or behind, as far as they are to be kept."""
    first = _outermost(graph, graph.ordered(), upwards=True) if not wishes.first else ()
    last = _outermost(graph, graph.ordered()[::-1], upwards=False) if not wishes.last else ()
    found = dict.fromkeys(first, "the recipe keeps the first products")
    return found | dict.fromkeys(last, "the recipe keeps the last products")


def _outermost(graph: Graph, order: Sequence[Node], *, upwards: bool) -> list[Node]:
    found: list[Node] = []
    inner: set[Node] = set()
    for node in order:
        if upwards:
            near = {value.node for value in graph.operands(node) if value is not None}
        else:
            values = [value for value in node.outputs if value is not None]
            near = {use.node for value in values for use in graph.uses(value)}
        if any(other in inner or other.is_op(*PRODUCTS) for other in near):
            inner.add(node)
        elif node.is_op(*PRODUCTS):
            found.append(node)
    return found


def _all_between(plan: Plan) -> dict[Node, str]:
    """Take all products, and of the other sites those with integers on both sides."""
    products = {node for node, site in plan.sites.items() if site.is_product}
    wanted = set(plan.sites)
    giving = {s.result: n for n, s in plan.sites.items() if not s.may_give_floats}

    def joins(site: Site) -> bool:
        above = all(giving.get(value) in wanted for value in plan.operands(site))
        uses = list(plan.graph.uses(site.result))
        return above and any(
            use.node in wanted and plan.is_operand(use.node, use.key) for use in uses
        )

    while left := [n for n in wanted - products if not joins(plan.sites[n])]:
        wanted.difference_update(left)
    takes = {Side(node, gives=False) for node in wanted}
    gives = {Side(node, gives=True) for node in wanted if not plan.sites[node].may_give_floats}
    plan.sides = frozenset(takes | gives)
    return dict.fromkeys(plan.sites, "it does not lie between operations on integers")


def _cut(plan: Plan, gain: Gain) -> dict[Node, str]:
    """Let the cheapest choice for the whole graph decide; why each site could lose."""
    placement, prices = Placement(), gain.prices
    work = {node: prices.work(plan.graph, node) for node in plan.graph.ordered()}
    why: dict[Node, str] = {}
    for node, known in list(plan.sites.items()):
        site = plan.sites[node] = _cheaper(plan.graph, known, prices)
        pair = _prices_of(plan.graph, site, prices)
        if pair is None:
            plan.reasons[node] = (GAIN, "its size is not known, so nothing can be predicted")
            del plan.sites[node]
            continue
        why[node] = _compared(*pair)
        placement.operation(node, *pair, work=work[node], may_give_floats=site.may_give_floats)
    makers = {site.result: node for node, site in plan.sites.items()}
    for value in _values(plan):
        quantize, dequantize = prices.conversion(plan.graph, value) or (_NEVER, _NEVER)
        if _is_fused(plan.graph, value, prices):
            quantize = 0.0
        users = [
            use.node if plan.is_operand(use.node, use.key) else None
            for use in plan.graph.uses(value)
        ]
        quantize += sum(prices.planar(plan.graph, user) for user in users if user is not None)
        placement.value(value, makers.get(value), users, quantize, dequantize)
    goal = gain.coverage * sum(work.values())
    plan.sides, others = placement.cover(goal, gain.forgo)
    plan.covering = {
        node: f"for {gain.coverage:.0%} of the multiply-adds on integers: {why[node]}"
        for node in why
        if Side(node, gives=False) in others
    }
    return why


def _values(plan: Plan) -> list[Value]:
    """The values that could be quantized, in order."""
    sites = [plan.sites[node] for node in plan.graph.ordered() if node in plan.sites]
    return list(dict.fromkeys(v for site in sites for v in (*plan.operands(site), site.result)))


def _compared(floats: float, integers: float) -> str:
    if integers >= floats:
        fp32, int8 = f"{floats * 1e6:.3g}", f"{integers * 1e6:.3g}"
        return f"int8 is predicted to take {int8} us, and fp32 {fp32} us"
    return (
        f"int8 is predicted to save {(floats - integers) * 1e6:.3g} us, which the conversions "
        "around it cost"
    )


def _cheaper(graph: Graph, site: Site, prices: Prices) -> Site:
    """A site with zero points of weights off the middle, where the kernel for these is faster."""
    if site.other is None:
        return site
    known = prices.of(graph, site.node, "int8", site.choice)
    other = prices.of(graph, site.node, "int8", site.other, gathers=True)
    if known is None or other is None or other >= known:
        return site
    return replace(site, choice=site.other, off_middle=True)


def _prices_of(graph: Graph, site: Site, prices: Prices) -> tuple[float, float] | None:
    """Seconds of a site in fp32 and in int8, with what is computed along with it."""
    node = site.node
    floats = prices.of(graph, node, "fp32")
    integers = prices.of(graph, node, "int8", site.choice, gathers=site.off_middle)
    if floats is None or integers is None:
        return None
    if not site.is_product and _joins_product(graph, node, prices):
        floats = 0.0
        integers = 0.0 if prices.costs.fuses(node.op_type, "int8") else integers
    behind = _activation_behind(graph, site, prices)
    extra = None if behind is None else prices.of(graph, behind, "fp32")
    return floats, integers + (extra or 0.0)


def _joins_product(graph: Graph, node: Node, prices: Prices) -> bool:
    """Whether an elementwise operation is computed with the product before it in fp32."""
    if not prices.costs.fuses(node.op_type, "fp32") or not info(node).has(Trait.ELEMENTWISE):
        return False
    return bool(_alone_above(graph, node, PRODUCTS))


def _alone_above(graph: Graph, node: Node, op_types: Collection[str] = ()) -> list[Node]:
    """Operations (of these operators) before a node whose result it alone uses."""
    above = [value for value in graph.operands(node) if value is not None]
    alone = [v.node for v in above if v.node.kind is Kind.OP and graph.only_use(v) is not None]
    return [found for found in alone if not op_types or found.is_op(*op_types)]


def _activation_behind(graph: Graph, site: Site, prices: Prices) -> Node | None:
    """The operation that is computed with a product in fp32, and by itself behind one in int8."""
    use = graph.only_use(site.result) if site.is_product and site.clamp is None else None
    if use is None or not info(use.node).has(Trait.UNARY):
        return None
    op_type = use.node.op_type
    fused = prices.costs.fuses(op_type, "fp32") and not prices.costs.fuses(op_type, "int8")
    return use.node if fused else None


def _is_fused(graph: Graph, value: Value, prices: Prices) -> bool:
    """Whether the runtime quantizes a value together with the product that it comes from."""
    if not prices.costs.fuses("QuantizeLinear", "fp32"):
        return False
    node = value.node
    while info(node).has(Trait.ELEMENTWISE):
        above = _alone_above(graph, node)
        if not above:
            return False
        node = above[0]
    return node.is_op(*PRODUCTS)
