"""Compute operations in bf16: element types, and as few Casts as can be proven.

What is computed in bf16 is what an earlier `assign-precision` decided; without one this pass
decides by the same rules. Casts go where the cut of the placement runs: that is the cheapest place
on each path, so in front of a Concat or Expand, and behind a Slice or a reduction, where those are
free to be in either precision. Graph inputs and outputs, and the values that subgraphs capture,
keep their types.

ONNX has bf16 forms of operators since different opsets (Conv since 22). The model is raised to the
lowest one that what is to be bf16 needs, as `upgrade-opset` does it; where that cannot be, those
operations stay fp32.

Source: ONNX operator Cast-25; placement as in `optc.numerics.placement`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from optc.errors import CapabilityError
from optc.ir.ops import Trait, info
from optc.numerics.traffic import precision
from optc.passes.assign_precision import AssignPrecisionOptions, assign
from optc.passes.base import Pass, PassResult
from optc.passes.precision_casts import write_casts
from optc.passes.precision_sites import is_constant, low_ports, needed_opset
from optc.passes.upgrade_opset import UpgradeOpset, UpgradeOpsetOptions
from optc.rewrite.trace import StepRecord, Trace
from optc.targets import missing_capability

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph, Node
    from optc.passes.base import PassContext
    from optc.rewrite.trace import Refusal

_RAISE = "raise-opset"


class CastBf16Options(AssignPrecisionOptions):
    """Options of `cast-bf16`; those that decide count only where no `assign-precision` ran."""

    raise_opset: bool = Field(
        default=True,
        description="raise the model to the lowest opset that what is to be bf16 needs; otherwise "
        "a model whose opset is too low is an error",
    )


class CastBf16(Pass):
    """Give operations bf16 types and put Casts where precisions meet.

    Refuses: to raise a model that `upgrade-opset` cannot raise; operations that need it then stay
    fp32.
    """

    name = "cast-bf16"
    Options = CastBf16Options
    requires = ("bf16",)
    asks_target = True
    observes = True
    retypes = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Decide where nobody did, raise the opset where needed, and write types and Casts.

        Raises:
            CapabilityError: the opset is too low, and the options say not to raise it.
        """
        assert isinstance(self.options, CastBf16Options)
        if missing_capability("bf16", context.described, context.executes):
            return PassResult(False)
        job = _Job(graph, context, self.options)
        job.decide()
        job.raise_opset()
        job.write(self.name)
        return PassResult(
            bool(job.counts),
            job.counts,
            tuple(job.refusals),
            job.trace.decisions,
            warnings=tuple(job.warnings),
            figures=job.figures,
        )


class _Job:
    def __init__(self, graph: Graph, context: PassContext, options: CastBf16Options) -> None:
        self.graph, self.context, self.options = graph, context, options
        self.runtime = context.executes
        self.trace = Trace(CastBf16.name)
        self.decisions = context.decisions
        self.counts: dict[str, int] = {}
        self.warnings: list[str] = []
        self.refusals: list[Refusal] = []
        self.figures: Mapping[str, float] = {}
        self.overflowing: frozenset[str] = frozenset()

    def decide(self) -> None:
        """Take what was decided before, or decide."""
        if self.decisions.has("bf16"):
            return
        self._assign(self.options)

    def low(self, graph: Graph) -> list[Node]:
        """The operations of a graph that are to be bf16, and can be in some opset."""
        return [
            node
            for node in graph.ordered()
            if (found := self.decisions.of(node)) is not None
            and found.precision == "bf16"
            and not is_constant(node)
            # Made behind an operation that is bf16, quantization is found under its decision.
            and not info(node).has(Trait.QUANTIZE)
            and precision(graph, node) != "int8"
            and low_ports(graph, node)
            and needed_opset(graph, node, self.runtime) is not None
        ]

    def raise_opset(self) -> None:
        """Raise the model to what its bf16 operations need."""
        needs = self._needs()
        lowest = max(needs, default=0)
        if lowest <= self.graph.opset:
            return
        node = needs[lowest]
        problem = (
            f"{node.op_type} in bf16 needs opset {lowest}, and the model has {self.graph.opset}"
        )
        if not self.options.raise_opset:
            raise CapabilityError(
                "opset-too-low",
                f"cast-bf16: {problem}",
                location=node.label,
                hint=f"put `upgrade-opset: {{to: {lowest}}}` before it, set `raise_opset: true`, "
                f"or deny {node.op_type}",
            )
        before = self.graph.opset
        result = UpgradeOpset(UpgradeOpsetOptions(to=lowest)).apply(self.graph, self.context)
        if result.changed:
            self.counts[_RAISE] = 1
            self.figures = {**self.figures, "raised_from": before, "raised_to": lowest}
            return
        self.refusals.extend(result.refusals)
        reasons = "; ".join(sorted({refusal.reason for refusal in result.refusals}))
        limit = max(self.graph.opset, 13)
        self._assign(self.options.model_copy(update={"max_opset": limit}))
        self.warnings.append(f"{problem}; it cannot be raised: {reasons}")

    def _needs(self) -> dict[int, Node]:
        """The opsets that bf16 operations need, with the first operation that does."""
        found: dict[int, Node] = {}
        for nested in self.graph.walk():
            for node in self.low(nested):
                lowest = needed_opset(nested, node, self.runtime)
                if lowest is not None:
                    found.setdefault(lowest, node)
        return found

    def _assign(self, options: CastBf16Options) -> None:
        found = assign(self.graph, self.context, options, saturate=True)
        self.trace = Trace(CastBf16.name)
        found.explain(self.trace)
        self.warnings, self.figures = found.warnings, found.figures()
        self.overflowing = found.overflowing
        record = StepRecord(CastBf16.name, decisions=self.trace.decisions)
        self.decisions = self.context.decisions.with_step(record)

    def write(self, name: str) -> None:
        """Write the types and Casts of all graphs."""
        for nested in tuple(self.graph.walk()):
            low = [
                node
                for node in self.low(nested)
                if needed_opset(nested, node, self.runtime) == nested.opset
            ]
            for rule, count in write_casts(nested, low, name, self.overflowing).items():
                self.counts[rule] = self.counts.get(rule, 0) + count
