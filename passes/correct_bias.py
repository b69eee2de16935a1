"""Take out of biases what rounding adds on average.

    E[x' @ W'] - E[x @ W]        per output channel; subtracted from the bias

x' and W' are data and weight as they come back from integers, on calibration data. Rounding moves
single weights up or down; where inputs are mostly positive, as behind a Relu, these add up to a
shift of the output, and so does data most of which lies on one side of its rounding boundary.
`quantize-int8` is to run before.
Source: Nagel et al.: Data-Free Quantization through Weight Equalization and Bias Correction (2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from optc.ir import DType, Tensor, clone
from optc.numerics.calibrate import SIGNIFICANT_BITS, round_significant
from optc.passes.base import Pass, PassResult
from optc.passes.judging import JudgedOptions, why_no_gain
from optc.passes.layers import observe_layers
from optc.passes.quantized import params_of
from optc.passes.quantized_layers import added_constant, quantized_layers
from optc.rewrite.driver import Builder, remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.numerics.observe import Observer
    from optc.passes.base import PassContext
    from optc.passes.layers import LayerData
    from optc.passes.quantized_layers import QuantizedLayer

Array = npt.NDArray[np.float64]

_RULE: Final = "bias"
_TAKES_BACK: Final = ("correct-bias", "round-weights")
"""Passes that put the mean error of an operation into its bias."""


class CorrectBiasOptions(JudgedOptions):
    """Options of `correct-bias`."""

    min_gain: float = Field(
        default=0.1,
        ge=0,
        description="signal-to-noise ratio in dB that the operation has to gain, with its rounded "
        "weights",
    )


class CorrectBias(Pass):
    """Correct the biases of quantized operations.

    Refuses: an operation without a constant bias; a shift that matters less than `min_gain`;
    data that was not finite or had no element; all of it, where the outputs do not gain.
    """

    name: ClassVar[str] = "correct-bias"
    Options = CorrectBiasOptions
    observes: ClassVar[bool] = True
    needs_reference: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Correct in the top-level graph; nothing to do where nothing was quantized before."""
        options, observer, reference = self.options, context.observer, context.reference
        assert isinstance(options, CorrectBiasOptions)
        if observer is None or reference is None:
            return PassResult(False)
        layers = [
            layer
            for layer in quantized_layers(graph, reference)
            if not _corrected(graph, layer.node)
        ]
        if not layers:
            return PassResult(False)
        trace = Trace(self.name)
        shifts = self._shifts(graph, layers, observer, trace)
        if shifts:
            trial = clone(graph)
            for key, shift in shifts.items():
                correct(trial, trial.value(key).node, shift, self.name)
            reason = why_no_gain(graph, trial, reference, observer, options.samples, self.name)
            if reason is not None:
                trace.refused(_RULE, graph.value(next(iter(shifts))).node, reason)
                shifts = {}
        for key, shift in shifts.items():
            node = graph.value(key).node
            if obstacle := correct(graph, node, shift, self.name):
                trace.refused(_RULE, node, obstacle)
            else:
                trace.applied(_RULE, node)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)

    def _shifts(
        self, graph: Graph, layers: Sequence[QuantizedLayer], observer: Observer, trace: Trace
    ) -> dict[str, Array]:
        """Shifts that matter, by key of the operation."""
        assert isinstance(self.options, CorrectBiasOptions)
        observed = [layer.layer(graph) for layer in layers]
        data = observe_layers(observer, graph, observed, self.name)
        found: dict[str, Array] = {}
        for layer in layers:
            if layer.node not in data:
                trace.refused(_RULE, layer.node, "its data is not finite, or empty")
                continue
            shift, gain = _shift(layer, data[layer.node])
            if gain >= self.options.min_gain:
                found[layer.node.key] = shift
                continue
            reason = f"the shift costs {gain:.2g} dB, less than {self.options.min_gain:g}"
            trace.refused(_RULE, layer.node, reason)
        return found


def _shift(layer: QuantizedLayer, seen: LayerData) -> tuple[Array, float]:
    """The mean error per output channel, and what the operation gains without it, in dB."""
    error = layer.error(seen.rows).astype(np.float64)
    shift = error.mean(axis=0)
    noise, rest = np.square(error).sum(), np.square(error - shift).sum()
    gain = 10 * float(np.log10(noise / rest)) if rest else (np.inf if noise else 0.0)
    rounded = [round_significant(value, SIGNIFICANT_BITS) for value in shift.reshape(-1)]
    return np.array(rounded), gain


def correct(graph: Graph, node: Node, shift: Array, made_by: str) -> str | None:
    """Subtract a shift from the bias of an operation; why there is none to subtract from."""
    place = bias_of(graph, node)
    if place is None:
        return "it has no constant bias"
    user, index, value = place
    build = Builder(graph, made_by, [node])
    params = params_of(graph, value.node)
    if params is None:
        assert value.constant is not None
        real = value.constant.numpy().astype(np.float64)
        new = build.like(real - _aligned(shift, real), value)
    else:
        integers = graph.operand(value.node, 0)
        assert integers is not None
        assert integers.constant is not None
        steps = np.rint(shift / np.array(params.scales, np.float64))
        whole = integers.constant.numpy().astype(np.float64) - steps
        limits = np.iinfo(np.int32)
        clipped = np.clip(whole, limits.min, limits.max).astype(np.int32)
        constant = build.constant(Tensor.from_numpy(clipped, DType.I32), name=integers.name)
        operands = (constant, *graph.operands(value.node)[1:])
        new = build.node("DequantizeLinear", operands, like=value.node).output
        graph.set_type(new, value.type)
    graph.set_operand(user, index, new)
    remove_unused(graph, [value.node])
    return None


def bias_of(graph: Graph, node: Node) -> tuple[Node, int, Value] | None:
    """The node that adds a constant bias, which operand that is, and the bias."""
    user, index = added_constant(graph, node) or (node, 2)
    value = graph.operand(user, index)
    if value is None:
        return None
    if value.constant is None:
        integers = graph.operand(value.node, 0) if params_of(graph, value.node) else None
        if integers is None or integers.constant is None or integers.constant.dtype != DType.I32:
            return None
    return user, index, value


def _corrected(graph: Graph, node: Node) -> bool:
    """Whether the mean error was taken back before: errors are measured without the bias."""
    place = bias_of(graph, node)
    origin = None if place is None else place[2].node.origin
    return origin is not None and origin.made_by in _TAKES_BACK


def _aligned(shift: Array, bias: npt.NDArray[Any]) -> Array:
    """The shift in the shape of a bias, whose last axis holds the channels."""
    return shift if bias.size == 1 else shift.reshape(bias.shape)
