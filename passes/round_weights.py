"""Round quantized weights up or down so that their operations err least on calibration data.

    min |x' @ W' - x @ W|²        over W', every weight one of the two integers beside it

x' is data as it comes back from integers. See `optc.passes.weight_rounding` for one operation and
`optc.numerics.adaptive_rounding` for the search. The mean error goes into the bias, where there is
one, as `correct-bias` does it. `quantize-int8` is to run before.
Source: Nagel et al.: Up or Down? Adaptive Rounding for Post-Training Quantization (2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from optc.ir import Origin, Tensor, clone
from optc.passes.base import Pass, PassResult
from optc.passes.correct_bias import correct
from optc.passes.judging import JudgedOptions, why_no_gain
from optc.passes.quantized_layers import quantized_layers
from optc.passes.weight_rounding import Rounding, WeightRounding, batches, integers_of
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir import Graph, Node
    from optc.numerics.observe import Observer
    from optc.passes.base import PassContext
    from optc.passes.quantized_layers import QuantizedLayer

_RULE: Final = "round"


class RoundWeightsOptions(JudgedOptions):
    """Options of `round-weights`."""

    min_gain: float = Field(
        default=0.1,
        ge=0,
        description="signal-to-noise ratio in dB that the operation has to gain, on samples that "
        "the rounding was not chosen on",
    )


class RoundWeights(Pass):
    """Choose which way quantized weights are rounded.

    Refuses: a weight that several operations use; scales along another axis than the outputs;
    rounding that gains less than `min_gain`; data that was not finite or has too few samples; all
    of it, where the outputs do not gain. Weights whose sums cannot saturate in 16 bits stay so.
    """

    name: ClassVar[str] = "round-weights"
    Options = RoundWeightsOptions
    observes: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Round in the top-level graph; nothing to do where nothing was quantized before."""
        options, observer, reference = self.options, context.observer, context.reference
        assert isinstance(options, RoundWeightsOptions)
        if observer is None or reference is None:
            return PassResult(False)
        trace = Trace(self.name)
        layers = [
            layer for layer in quantized_layers(graph, reference) if self._is_new(graph, layer)
        ]
        found: dict[QuantizedLayer, Rounding] = {}
        for layer, made in self._roundings(graph, layers, observer):
            if isinstance(made, str):
                trace.refused(_RULE, layer.node, made)
            elif made.gain < options.min_gain:
                reason = f"other rounding gains {made.gain:.2g} dB, less than {options.min_gain:g}"
                trace.refused(_RULE, layer.node, reason)
            else:
                found[layer] = made
        if found:
            trial = clone(graph)
            _write(trial, found, self.name)
            why = why_no_gain(graph, trial, reference, observer, options.samples, self.name)
            if why is not None:
                trace.refused(_RULE, next(iter(found)).node, why)
                found = {}
        _write(graph, found, self.name)
        for layer, rounding in found.items():
            trace.applied(_RULE, layer.node)
            _tell(trace, layer.node, rounding, context)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals, trace.decisions)

    def _is_new(self, graph: Graph, layer: QuantizedLayer) -> bool:
        origin = integers_of(graph, layer.node).node.origin
        return origin is None or origin.made_by != self.name

    def _roundings(
        self, graph: Graph, layers: Sequence[QuantizedLayer], observer: Observer
    ) -> Iterator[tuple[QuantizedLayer, Rounding | str]]:
        """Better integers for each layer, or why there are none; batches bound the memory."""
        for batch in batches([WeightRounding(graph, layer) for layer in layers]):
            open_ = [item for item in batch if item.obstacle is None]
            values = list(dict.fromkeys(item.data for item in open_))
            runs = observer.observe(graph, values, dict, activity=self.name) if values else ()
            for number, arrays in enumerate(runs):
                for item in open_:
                    item.take(number, arrays[item.data.name])
            for item in batch:
                yield item.layer, item.result()


def _tell(trace: Trace, node: Node, rounding: Rounding, context: PassContext) -> None:
    """Add what was done to the reason that the operation is on integers for."""
    done = f"{rounding.count} of {rounding.integers.size} weights are rounded the other way"
    earlier = context.decisions.of(node)
    reason, known = (
        (done, {}) if earlier is None else (f"{earlier.reason}; {done}", earlier.figures)
    )
    figures = {**known, "sqnr_db_before": rounding.before, "sqnr_db_after": rounding.after}
    trace.decided(_RULE, node, "int8", reason, figures)


def _write(graph: Graph, found: Mapping[QuantizedLayer, Rounding], name: str) -> None:
    """Put integers and biases in place; graphs that are clones have the same keys."""
    for layer, rounding in found.items():
        node = graph.value(layer.node.key).node
        old, weight = integers_of(graph, node), graph.operand(node, 1)
        assert weight is not None
        tensor = Tensor.from_numpy(rounding.integers, layer.weights.dtype)
        origin = Origin(name, () if old.node.origin is None else (old.node.origin,))
        new = graph.add_constant(tensor, graph.fresh_name(old.name), origin)
        graph.set_operand(weight.node, 0, new)
        graph.remove(old.node)
        if rounding.shift is not None:
            correct(graph, node, rounding.shift, name)
