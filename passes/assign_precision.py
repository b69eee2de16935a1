"""Decide for each operation whether it is computed in bf16.

Operators have classes (``targets/precision/bf16.yaml``): *allow* operations are worth it, *deny*
operations stay fp32, *infer* and *clear* operations go with their neighbours. What is not fixed by
class, by the recipe, by ONNX, by the runtime or by the values that it works on is placed so that
least time goes into conversions: by a minimum cut, which is provably the best choice
(`optc.numerics.placement`). An allowed operation stays fp32 where its conversions would take longer
than bf16 saves.

The pass changes nothing: it returns decisions, which later steps act on (docs/decisions/0009).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from optc.errors import CapabilityError, DataError, ModelError
from optc.ir.ops import Trait, info
from optc.numerics.metrics import find_metric
from optc.numerics.timing import assumed_sizes
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.precision_plan import Prices, plan_graph
from optc.passes.precision_roots import rooted_differences
from optc.passes.precision_search import Judge, meet
from optc.passes.precision_sites import Classifier
from optc.passes.precision_tail import hint_tail
from optc.passes.precision_values import MASKING, Values, constant_hazard
from optc.passes.selector import Keep, OpSelector, unmatched
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.precision_plan import GraphPlan
    from optc.passes.precision_sites import Site

PLACEMENT: Final = "placement"
"""The rule of what is fp32 for the sake of its neighbours alone."""

_MICRO: Final = 1e9  # femtoseconds
_LISTS: Final = ("allow", "infer", "deny", "keep_fp32")


class AssignPrecisionOptions(PassOptions):
    """Options of `assign-precision`."""

    allow: tuple[OpSelector, ...] = Field(
        default=(),
        description="operations to compute in bf16 whatever the lists say: operators, regular "
        "expressions on node names, or mappings with op, name, domain",
    )
    infer: tuple[OpSelector, ...] = Field(
        default=(), description="operations that go with their neighbours"
    )
    deny: tuple[OpSelector, ...] = Field(
        default=(), description="operations to leave in fp32 whatever the lists say"
    )
    keep_fp32: Keep = ()
    placement: Literal["min-cut", "paint"] = Field(
        default="min-cut",
        description="how free operations are placed: so that conversions cost least, or by the "
        "painting of TensorFlow's auto_mixed_precision, to compare with",
    )
    ranges: bool = Field(
        default=True,
        description="look at the values on the calibration data, or on seeded inputs, and leave in "
        "fp32 what bf16 would harm",
    )
    search: bool = Field(
        default=True,
        description="move operations back to fp32, worst first, until the recipe's accuracy goals "
        "hold on the calibration data, or on seeded inputs",
    )
    max_opset: int = Field(
        default=24,
        ge=13,
        description="highest opset that bf16 forms of operators may need",
    )


class AssignPrecision(Pass):
    """Decide which operations are computed in bf16, and why the others are not.

    Leaves in fp32, with the reason: what is quantized or typed by the model; what ONNX or the
    runtime has no bf16 form of; what the recipe or a list denies; what works on values that bf16
    does not keep; control flow and calls of functions. Bodies of control flow are placed by
    themselves, and their inputs and results keep their types.
    """

    name = "assign-precision"
    Options = AssignPrecisionOptions
    requires = ("bf16",)
    asks_target = True
    observes = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Decide; the graph stays as it is."""
        assert isinstance(self.options, AssignPrecisionOptions)
        found = assign(graph, context, self.options)
        trace = Trace(self.name)
        found.explain(trace)
        return PassResult(
            False,
            {},
            trace.refusals,
            trace.decisions,
            warnings=tuple(found.warnings),
            figures=found.figures(),
        )


@dataclass
class Assignment:
    """The precisions of a model.

    Attributes:
        plans: one per graph, the outermost first.
        per_byte: femtoseconds that a byte of a conversion takes.
        warnings: what the user should look at.
        found: figures of the search.
        overflowing: names of values that conversions must keep finite; see `saturate` of `assign`.
    """

    plans: list[GraphPlan]
    per_byte: int = 1
    warnings: list[str] = field(default_factory=list)
    found: dict[str, float] = field(default_factory=dict)
    overflowing: frozenset[str] = frozenset()

    @property
    def low(self) -> frozenset[Node]:
        """All operations that are computed in bf16."""
        return frozenset(node for plan in self.plans for node in plan.low)

    def explain(self, trace: Trace) -> None:
        """Record a decision with its reason about each operation."""
        for plan in self.plans:
            flips = plan.flip_costs()
            for site in plan.sites.values():
                _explain(plan, site, flips, trace)

    def figures(self) -> dict[str, float]:
        """What the assignment comes to; times are predictions for one core."""
        sides = Counter(node in plan.low for plan in self.plans for node in plan.sites)
        converted = [item for plan in self.plans for item in plan.conversions()]
        painted = [item for plan in self.plans for item in plan.conversions(plan.painted)]
        saved = sum(plan.savings.get(node, 0) for plan in self.plans for node in plan.low)
        size = sum(item.size for item in converted)
        return {
            "bf16": sides[True],
            "fp32": sides[False],
            "conversions": len(converted),
            "converted_bytes": size,
            "converted_bytes_by_painting": sum(item.size for item in painted),
            "conversion_us": _rounded(size * self.per_byte / _MICRO),
            "saved_us": _rounded(saved / _MICRO),
            **self.found,
        }


def assign(
    graph: Graph,
    context: PassContext,
    options: AssignPrecisionOptions,
    *,
    saturate: bool = False,
) -> Assignment:
    """The best assignment under what lists, recipe, ONNX, target, values and goals say.

    `saturate` says that conversions let the largest bf16 take the place of what would round to
    infinity, so that operations which only mask with it may be bf16.
    """
    selectors = {name: getattr(options, name) for name in _LISTS}
    classifier = Classifier(context, selectors, options.max_opset)
    prices = Prices(context, assumed_sizes(graph))
    warnings = _unmatched(graph, options)
    sites: dict[Graph, dict[Node, Site]] = {}
    for nested in tuple(graph.walk()):
        known = ((node, classifier.site(nested, node)) for node in nested.ordered())
        own = {n: _with_constants(nested, s, saturate) for n, s in known if s is not None}
        if context.by_hint and nested is graph:
            _without_tail(graph, own, context)
        for node, reason in rooted_differences(nested).items():
            if node in own and own[node].side == "free":
                own[node] = own[node].denied("cancellation", reason)
        sites[nested] = own
    values = Values()
    if options.ranges:
        values = _observed(graph, sites[graph], context, prices, warnings)
        sites[graph] = _with_values(graph, sites[graph], context, values, saturate)

    def planned(denied: Mapping[Node, str]) -> Assignment:
        plans = []
        for nested, own in sites.items():
            left = {
                n: s.denied("accuracy", denied[n]) if n in denied else s for n, s in own.items()
            }
            plans.append(plan_graph(nested, left, prices, options.placement))
        return Assignment(plans, prices.per_byte, warnings, overflowing=values.overflowing)

    if options.search and context.goals and context.observer is not None:
        return _searched(graph, context, planned, warnings)
    return planned({})


def _searched(
    graph: Graph,
    context: PassContext,
    planned: Callable[[Mapping[Node, str]], Assignment],
    warnings: list[str],
) -> Assignment:
    """The assignment that reaches the accuracy goals with the fewest operations denied."""
    assert context.observer is not None
    goals = [(name, limit) for name, limit in context.goals if not find_metric(name).needs_labels]
    first = planned({})
    left = sorted({name for name, _ in context.goals} - {name for name, _ in goals})
    warnings.extend(f"{name} needs labels, which calibration has not: no search" for name in left)
    if not goals or not first.low:
        return first
    try:
        judge = Judge(graph, context.observer, goals, first.overflowing)
        outcome = meet(
            judge,
            [node for node in first.plans[0].sites if node in first.low and _rounds(node)],
            lambda denied: planned(dict.fromkeys(denied, "")).low,
        )
    except (CapabilityError, ModelError, DataError) as error:
        warnings.append(f"accuracy was not searched for: {error.message}")
        return first
    found = planned(outcome.denied) if outcome.denied else first
    if not outcome.score.met:
        warnings.append(f"the accuracy goals are not reached: {outcome.score} is the best found")
    for (name, _), value in zip(goals, outcome.score.values, strict=True):
        if math.isfinite(value):  # without bf16 nothing differs, and an SQNR is infinite
            found.found[f"expected_{name}"] = float(f"{value:.3g}")
    found.found["denied_for_accuracy"] = len(outcome.denied)
    return found


def _rounds(node: Node) -> bool:
    """Whether an operation computes: moving data rounds nothing."""
    return not (node.is_op("Cast") or info(node).has(Trait.DATA_MOVEMENT))


def _unmatched(graph: Graph, options: AssignPrecisionOptions) -> list[str]:
    return [
        f"{name}: no node fits {selector}"
        for name in _LISTS
        for selector in unmatched(getattr(options, name), graph)
    ]


def _without_tail(graph: Graph, sites: dict[Node, Site], context: PassContext) -> None:
    """Fix high what the hint does not lower, even where the recipe asks for bf16."""
    runtime = context.executes
    for node in hint_tail(graph, runtime):
        site = sites.get(node)
        if site is not None and (site.side == "free" or site.forced):
            reason = (
                f"{runtime.id}: behind its last products a model stays fp32 under the precision "
                "hint; `emit: {bf16: explicit}` states bf16 there"
            )
            sites[node] = site.denied("hint", reason)


def _with_constants(graph: Graph, site: Site, saturate: bool) -> Site:
    if site.side == "high" or site.forced or site.rule == "as-written":
        return site
    if saturate and site.node.is_op(*MASKING):
        return site
    hazard = constant_hazard(graph, site)
    return site if hazard is None else site.denied("range", hazard)


def _observed(
    graph: Graph,
    sites: Mapping[Node, Site],
    context: PassContext,
    prices: Prices,
    warnings: list[str],
) -> Values:
    """What the operations that are open work on; nothing where there is no data to run."""
    open_ = [site for site in sites.values() if site.side == "free"]
    if context.observer is None or not open_:
        return Values()
    ports = (v for site in open_ for v in (*graph.operands(site.node), *site.node.outputs))
    sizes: dict[Value, int] = {v: prices.bytes_of(graph, v) for v in ports if v is not None}
    try:
        return Values.observed(graph, open_, context.observer, sizes)
    except (ModelError, DataError) as error:
        warnings.append(f"values were not looked at: {error.message}")
        return Values()


def _with_values(
    graph: Graph,
    sites: Mapping[Node, Site],
    context: PassContext,
    values: Values,
    saturate: bool,
) -> dict[Node, Site]:
    """The sites, those denied that work on values which bf16 does not keep."""
    found = dict(sites)
    for node, site in sites.items():
        hazard = values.hazard(graph, site, saturate=saturate) if site.side == "free" else None
        if hazard is not None and context.observer is not None:
            kind, reason = hazard
            found[node] = site.denied(kind, f"{reason} (on {context.observer.origin})")
    return found


def _explain(plan: GraphPlan, site: Site, flips: Mapping[Node, int], trace: Trace) -> None:
    node = site.node
    low = node in plan.low
    saving = plan.savings.get(node)
    figures = {} if saving is None else {"saved_us": _rounded(saving / _MICRO)}
    flip = flips.get(node)
    if low:
        if site.needs_opset > plan.graph.opset:
            figures["needs_opset"] = float(site.needs_opset)
        reason = site.reason
        if site.side == "free" and site.op_class != "allow":
            reason = f"goes with its neighbours: {site.reason}"
        trace.decided(site.rule, node, "bf16", reason, figures)
        return
    if site.side == "high":
        if site.precision is not None:
            trace.decided(site.rule, node, site.precision, site.reason)
        return
    if site.op_class == "allow":
        cost = f"{_rounded(((flip or 0) + (saving or 0)) / _MICRO):g}"
        reason = (
            f"bf16 saves {figures.get('saved_us', 0):g} us here, and its conversions would cost "
            f"{cost} us"
        )
    elif flip:
        reason = "stays with its neighbours in fp32: bf16 would need more conversions"
    else:
        reason = "no operation next to it gains from bf16"
    trace.decided(PLACEMENT, node, "fp32", reason, figures)


def _rounded(number: float) -> float:
    """Four significant digits: figures are predictions."""
    return float(f"{number:.4g}")
