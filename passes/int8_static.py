"""Static quantization: ranges from calibration data, the same for every run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from optc.ir.joined import joined
from optc.ir.ops import Trait, info
from optc.ir.shape_site import input_symbol, shape_of
from optc.numerics.calibrate import Range, calibrate
from optc.numerics.prices import Prices
from optc.numerics.quantize import QuantParams, activation_params, with_its_ends
from optc.passes.int8_plan import Gain, make_plan
from optc.passes.int8_sites import PRODUCTS, Kernels, Scheme, elements_of, is_float32
from optc.passes.int8_write import WeightStyle, Writer
from optc.passes.told_apart import told_apart
from optc.rewrite.driver import remove_unused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optc.ir import Graph, Node, Value
    from optc.numerics.calibrate import RangeSettings
    from optc.numerics.observe import Observer
    from optc.passes.int8_plan import Plan, Wishes
    from optc.passes.int8_sites import Site
    from optc.rewrite.trace import Trace
    from optc.targets import Runtime, Target

_RULE: Final = "quantize"
_DIGITS: Final = 6  # of figures in decisions; float32 has seven


@dataclass(frozen=True)
class Static:
    """What static quantization is told.

    Attributes:
        observer: runs the graph on data.
        settings: how ranges follow from data.
        kernels: what the runtime can compute on integers.
        wishes: what the recipe says about single operations.
        style: how weights are quantized.
        unify: operators with several operands whose scales are to be equal.
        priced: CPU and runtime to predict gains for; None: whatever has a kernel pays.
        coverage: share of the multiply-adds that is to be on integers, where `forgo` allows it.
        forgo: share of the predicted saving that this may cost.
    """

    observer: Observer
    settings: RangeSettings
    kernels: Kernels
    wishes: Wishes
    style: WeightStyle
    unify: frozenset[str]
    priced: tuple[Target, Runtime] | None
    coverage: float
    forgo: float


def quantize_statically(graph: Graph, trace: Trace, job: Static) -> None:
    """Quantize what pays, and decide about every operation."""
    gain = None
    if job.priced is not None:
        prices = Prices(*job.priced, observed_sizes(graph, job.observer))
        gain = Gain(prices, job.coverage, job.forgo)
    plan = make_plan(graph, job.kernels, job.wishes, gain)
    bound = _bound(plan)
    moved = {site.result for site in plan.chosen() if site.keeps_scale and plan.gives(site.node)}
    # What only moves data gives no number that its operand, of the same group, does not have.
    values = [value for part in bound for value in part if value not in moved]
    ranges = calibrate(job.observer, graph, values, job.settings) if values else {}
    params = _params(plan, _unified(plan, bound, job.unify, ranges), ranges, job.kernels)
    _decide(plan, trace, params)
    _write(plan, trace, job.style, params)


def observed_sizes(graph: Graph, observer: Observer) -> dict[str, int]:
    """What symbols in shapes of the inputs stand for in the first sample."""
    found: dict[str, int] = {}
    arrays = next(iter(observer.observe(graph, graph.inputs, dict)), {})
    for value in graph.inputs:
        shape = shape_of(graph, value) if value.name in arrays else None
        for axis, dim in enumerate(shape or ()):
            if isinstance(dim, str):
                found.setdefault(dim, arrays[value.name].shape[axis])
            elif dim is None:
                found.setdefault(input_symbol(value.name, axis), arrays[value.name].shape[axis])
    return found


def _bound(plan: Plan) -> list[list[Value]]:
    """The values to quantize, in the groups that operations which move data make."""
    quantized: dict[Value, None] = {}
    pairs: list[tuple[Value, Value]] = []
    for site in plan.chosen():
        quantized |= dict.fromkeys(plan.operands(site))
        if plan.gives(site.node):
            quantized[site.result] = None
            if site.keeps_scale:
                pairs += [(value, site.result) for value in plan.operands(site)]
    return joined(quantized, pairs)


def _unified(
    plan: Plan, bound: list[list[Value]], unify: Iterable[str], ranges: Mapping[str, Range]
) -> list[list[Value]]:
    """The groups, joined where an operator is to have operands of equal scales.

    A group stays by itself where a kernel needs its zero point to be the least integer, and the
    others have negative elements: the operator can do with several scales, the kernel not.
    """
    place = {value: number for number, part in enumerate(bound) for value in part}
    pairs = [
        (place[value], place[site.result])
        for site in plan.chosen()
        if plan.gives(site.node) and site.node.is_op(*unify)
        for value in plan.operands(site)
    ]
    needed = {value for site in plan.chosen() for value in site.from_zero}
    found: list[list[Value]] = []
    for numbers in joined(range(len(bound)), pairs):
        parts = [bound[number] for number in numbers]
        seen = [ranges[v.name] for part in parts for v in part if v.name in ranges]
        apart = [part for part in parts if not needed.isdisjoint(part)]
        if min(one.low for one in seen) >= 0:
            apart = []
        rest = [value for part in parts if part not in apart for value in part]
        found += [*apart, rest] if rest else apart
    return found


def _params(
    plan: Plan, groups: Iterable[list[Value]], ranges: Mapping[str, Range], kernels: Kernels
) -> dict[Value, QuantParams]:
    """The parameters of each value to quantize."""
    found: dict[Value, QuantParams] = {}
    for values in groups:
        known = [ranges[value.name] for value in values if value.name in ranges]
        low, high = min(one.low for one in known), max(one.high for one in known)
        dtype, _, symmetric = elements_of(_scheme(plan, values, kernels, negative=low < 0))
        if not symmetric and len(values) == 1:
            low, high = _kept(plan.graph, values[0], low, high)
        params = activation_params(low, high, dtype, symmetric=symmetric)
        found |= dict.fromkeys(values, params)
    return found


def _kept(graph: Graph, value: Value, low: float, high: float) -> tuple[float, float]:
    """The part of a range that makes a difference behind, so that steps are finer in it."""
    least, most = told_apart(graph, value, low, high)
    if (least, most) == (low, high):
        return low, high
    return with_its_ends(min(least, 0.0), max(most, 0.0))


def _scheme(plan: Plan, values: Iterable[Value], kernels: Kernels, *, negative: bool) -> Scheme:
    """The scheme of values that share their scale: that of products of two activations first."""
    users = [plan.sites[node] for value in values for node, _ in plan.integer_uses(value)]
    products = [site for site in users if site.is_product]
    if any(site.is_pair for site in products):
        return kernels.product_activations
    padded = any(_is_padded(site.node) for site in products)
    return (padded and negative and kernels.padded_activations) or kernels.activations


def _is_padded(node: Node) -> bool:
    """Whether a convolution reads of a border."""
    automatic = node.get("auto_pad", b"NOTSET")
    return node.is_op("Conv") and (automatic.startswith(b"SAME") or any(node.get("pads", ())))


def _decide(plan: Plan, trace: Trace, params: Mapping[Value, QuantParams]) -> None:
    """Record what every operation on floats is computed in, and why."""
    clamps = {site.clamp: site for site in plan.chosen() if site.clamp is not None}
    for node in plan.graph.ordered():
        values = (*node.outputs, *plan.graph.operands(node))
        if info(node).has(Trait.QUANTIZE) or not any(is_float32(value) for value in values):
            continue
        if node in plan.sites and plan.takes(node):
            site = plan.sites[node]
            reason = site.choice.kernel or "integer kernel"
            if node in plan.covering:
                reason = f"{reason}; {plan.covering[node]}"
            trace.decided(_RULE, node, "int8", reason, _figures(plan, site, params))
        elif node in clamps and plan.gives(clamps[node].node):
            behind = clamps[node].node.label
            trace.decided(_RULE, node, "int8", f"saturation behind {behind} does the same")
        else:
            rule, reason = plan.reasons[node]
            trace.decided(rule, node, "fp32", reason)
            if node.is_op(*PRODUCTS):
                trace.refused(_RULE, node, reason)


def _figures(plan: Plan, site: Site, params: Mapping[Value, QuantParams]) -> dict[str, float]:
    """Scale and zero point of the first operand, and of the result where it is quantized."""
    first = params[plan.operands(site)[0]]
    found = {"scale": _rounded(first.scales[0]), "zero_point": float(first.zero_points[0])}
    if plan.gives(site.node):
        result = params[site.result]
        found["result_scale"] = _rounded(result.scales[0])
        found["result_zero_point"] = float(result.zero_points[0])
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _write(
    plan: Plan, trace: Trace, style: WeightStyle, params: Mapping[Value, QuantParams]
) -> None:
    graph = plan.graph
    writer = Writer(graph, trace.pass_name)
    chosen = list(plan.chosen())
    makers = {site.result: site.node for site in chosen if plan.gives(site.node)}
    weights: list[Node] = []
    for site in chosen:
        trace.applied(_RULE, site.node)
        weight = graph.operand(site.node, 1) if site.is_product and not site.is_pair else None
        if weight is not None:
            bias = graph.operand(site.node, 2)
            weights.extend(value.node for value in (weight, bias) if value is not None)
            scale = params[plan.operands(site)[0]].scales[0]
            writer.weight(site.node, replace(style, off_middle=site.off_middle), scale)
    for value, found in params.items():
        uses = list(graph.uses(value)) if value in makers else plan.integer_uses(value)
        back = writer.pair(value, found)
        for node, key in uses:
            graph.set_operand(node, key, back)
    remove_unused(graph, list(dict.fromkeys(weights)))
