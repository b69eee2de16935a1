"""Models that come quantized: their scales stay, and what a runtime misses is added.

Training with quantization, and other tools, leave weights or biases in floats, or the result of a
convolution unquantized; the product then stays fp32. Here, where the first operand of a product
comes from a DequantizeLinear,

    its weight and its bias      get the integers that follow from themselves and from that scale;
    its result                   is quantized where the runtime has no kernel that gives floats: as
                                 the QuantizeLinear behind operations that move data says, for
                                 Q(move(x)) = move(Q(x)), else by calibration of this value alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir.ops import Trait, info
from optc.numerics.calibrate import RangeSettings, calibrate
from optc.numerics.planned import find_choice
from optc.numerics.quantize import LIMITS, QuantParams, activation_params, bias_params
from optc.numerics.written import written
from optc.passes.int8_plan import unwanted
from optc.passes.int8_sites import PRODUCTS, clamp_behind, is_float32
from optc.passes.int8_write import Writer
from optc.passes.quantized import dequantize_before, params_of, quantize_behind
from optc.rewrite.driver import remove_unused
from optc.targets.kernels import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph, Node, Value
    from optc.numerics.calibrate import Range
    from optc.numerics.observe import Observer
    from optc.numerics.written import Written
    from optc.passes.int8_plan import Wishes
    from optc.passes.int8_sites import Kernels
    from optc.passes.int8_write import WeightStyle
    from optc.rewrite.trace import Trace
    from optc.targets.kernels import Choice, Element

_RULE: Final = "complete"
_GIVEN: Final = "given"


def is_quantized(graph: Graph) -> bool:
    """Whether a model has quantization of its own."""
    return any(info(node).has(Trait.QUANTIZE) for node in graph.nodes())


def complete(
    graph: Graph,
    trace: Trace,
    kernels: Kernels,
    wishes: Wishes,
    style: WeightStyle,
    observer: Observer | None,
) -> None:
    """Add what a quantized model lacks, and decide about every operation.

    Args:
        graph: the graph.
        trace: is told what was done.
        kernels: what the runtime has.
        wishes: what the recipe says about single operations.
        style: how weights are quantized that are not yet.
        observer: for ranges that the model does not have; None: those are not added.
    """
    job = _Completion(graph, trace, kernels, style)
    job.open |= {node: reason for node, (_, reason) in unwanted(graph, wishes).items()}
    for node in graph.ordered():
        if node.is_op(*PRODUCTS) and node not in job.open:
            job.operands(node)
    job.results(observer)
    for node in graph.ordered():
        job.decide(node)


class _Completion:
    def __init__(self, graph: Graph, trace: Trace, kernels: Kernels, style: WeightStyle) -> None:
        self.graph = graph
        self.trace = trace
        self.kernels = kernels
        self.style = style
        self.writer = Writer(graph, trace.pass_name)
        self.open: dict[Node, str] = {}

    def operands(self, node: Node) -> None:
        """Quantize weight and bias of a product whose first operand is quantized."""
        first = self._params(node, 0)
        weight, bias = self.graph.operand(node, 1), self.graph.operand(node, 2)
        if first is None or first.axis is not None or weight is None:
            return
        if weight.constant is not None and is_float32(weight) and len(weight.constant.shape) > 1:
            known = bias is None or bias.constant is not None
            self.writer.weight(node, self.style, first.scales[0] if known else None)
            remove_unused(self.graph, [v.node for v in (weight, bias) if v is not None])
            self.trace.applied("quantize-weight", node)
        elif self.style.bias and bias is not None and bias.constant is not None:
            self._bias(node, bias, first)

    def _bias(self, node: Node, bias: Value, first: QuantParams) -> None:
        weight = self._params(node, 1)
        if weight is None or bias.constant is None or not is_float32(bias):
            return
        params = bias_params(weight, first.scales[0])
        numbers = np.abs(bias.constant.numpy().astype(np.float64))
        if (numbers / np.array(params.scales) > LIMITS[params.dtype][1]).any():
            self.open[node] = f"its bias {bias.name} does not fit into int32"
            return
        self.graph.set_operand(node, 2, self.writer.constant(bias, params))
        remove_unused(self.graph, [bias.node])
        self.trace.applied("quantize-bias", node)

    def _params(self, node: Node, index: int) -> QuantParams | None:
        before = dequantize_before(self.graph, self.graph.operand(node, index))
        return None if before is None else params_of(self.graph, before)

    def results(self, observer: Observer | None) -> None:
        """Quantize results where no kernel gives floats, and one gives integers."""
        wanted = {
            node: v for node in self.graph.ordered() if (v := self._missing(node)) is not None
        }
        given = {node: self._behind_moves(value) for node, value in wanted.items()}
        unknown = [value for node, value in wanted.items() if given[node] is None]
        ranges: Mapping[str, Range] = {}
        if observer is not None and unknown:
            ranges = calibrate(observer, self.graph, unknown, RangeSettings())
        for node, value in wanted.items():
            params = given[node] or self._calibrated(node, value, ranges)
            if params is None:
                self.open[node] = f"its result {value.name} has no scale, and there is no data"
                continue
            uses = list(self.graph.uses(value))
            back = self.writer.pair(value, params)
            for user, key in uses:
                self.graph.set_operand(user, key, back)
            self.trace.applied("quantize-result", node)

    def _calibrated(
        self, node: Node, value: Value, ranges: Mapping[str, Range]
    ) -> QuantParams | None:
        first = self._params(node, 0)
        found = ranges.get(value.name)
        if first is None or found is None:
            return None
        return activation_params(found.low, found.high, first.dtype)

    def _missing(self, node: Node) -> Value | None:
        """The result of a product that has to be quantized for an integer kernel."""
        spelled = written(self.graph, node) if node.is_op(*PRODUCTS) else None
        if node in self.open:
            return None
        if spelled is None or not spelled.form.startswith("qdq") or spelled.output != "f32":
            return None
        if self._choice(node) is not None:
            return None
        choice = self._found(spelled, spelled.activation)
        if choice is None or choice.outcome != "native":
            return None
        clamp = clamp_behind(self.graph, node.output)
        return node.output if clamp is None else clamp.output

    def _behind_moves(self, value: Value) -> QuantParams | None:
        """The parameters of the QuantizeLinear behind operations that only move data."""
        while (found := quantize_behind(self.graph, value)) is None:
            use = self.graph.only_use(value)
            if use is None or use.key != 0 or len(use.node.outputs) != 1:
                return None
            moves = info(use.node).has(Trait.DATA_MOVEMENT) or use.node.is_op("MaxPool")
            if not moves or use.node.is_op("Concat", "Where", "Pad"):
                return None
            value = use.node.output
        params = params_of(self.graph, found)
        return params if params is not None and params.axis is None else None

    def _found(self, spelled: Written | None, output: Element | None = None) -> Choice | None:
        """What the kernel table says of a spelling, perhaps with a result of another type."""
        if spelled is None:
            return None
        return find_choice(self.kernels.table, self.kernels.capabilities, spelled, output)

    def _choice(self, node: Node) -> Choice | None:
        """The kernel of a product as it stands, when it is an integer kernel."""
        spelled = written(self.graph, node)
        choice = None if spelled is None or spelled.form == "plain" else self._found(spelled)
        return choice if choice is not None and choice.outcome == "native" else None

    def decide(self, node: Node) -> None:
        """Record what an operation is computed in."""
        values = (*node.outputs, *self.graph.operands(node))
        if info(node).has(Trait.QUANTIZE) or not any(is_float32(value) for value in values):
            return
        if not node.is_op(*PRODUCTS):
            self.trace.decided(_GIVEN, node, "fp32", "the model comes quantized as it is to be")
            return
        choice = None if node in self.open else self._choice(node)
        if choice is not None:
            self.trace.decided(_GIVEN, node, "int8", choice.kernel or "integer kernel")
            return
        reason = self.open.get(node) or self._why(node)
        self.trace.decided(_GIVEN, node, "fp32", reason)
        self.trace.refused(_RULE, node, reason)

    def _why(self, node: Node) -> str:
        """Why a product has no integer kernel."""
        spelled = written(self.graph, node)
        if spelled is None or not spelled.form.startswith("qdq"):
            return "the model comes quantized, and leaves its operands in floats"
        choice = self._found(spelled)
        if choice is None:
            return f"no integer kernel is described for {node.op_type} as {spelled.spelling}"
        return f"{node.op_type} as {spelled.spelling} is {OUTCOMES[choice.outcome]}"
