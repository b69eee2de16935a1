"""Compute convolutions and matrix products on 8-bit integers, where the runtime gains by it.

    static    Conv(x, w)    =  DQ(Q(Conv(DQ(Q(x)), DQ(w'))))    scales from data
    dynamic   MatMul(x, w)  =  MatMulInteger(x', w') * scales   scale of x from x, each run
    weights   MatMul(x, w)  =  MatMul(x, DQ(w'))                arithmetic in fp32

QuantizeLinear stands only where an integer kernel consumes it; the operations in between that move
data, pool or add are computed on integers where the runtime can and where it is cheaper than going
back to floats. What the runtime can is its kernel table; what is cheaper is decided for the whole
graph at once from the costs in its descriptor (`optc.passes.int8_plan`). Values that share their
integers share their scale: both sides of operations that move data, all operands of a Concat.

A model that comes with QuantizeLinear and DequantizeLinear keeps them: see
`optc.passes.int8_given`.
Source: ONNX operators QuantizeLinear-13, DequantizeLinear-13, DynamicQuantizeLinear-11,
MatMulInteger-10; onnxruntime, "Quantize ONNX models"; the descriptors of runtimes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from optc.errors import DataError, ModelError
from optc.ir import Kind
from optc.ir.ops import Trait, info
from optc.passes.base import Pass, PassResult
from optc.passes.int8_dynamic import quantize_dynamically, quantize_weights
from optc.passes.int8_given import complete, is_quantized
from optc.passes.int8_options import QuantizeInt8Options
from optc.passes.int8_sites import PRODUCTS, Kernels, is_float32
from optc.passes.int8_static import Static, quantize_statically
from optc.passes.selector import unmatched
from optc.rewrite.trace import Trace
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from optc.ir import Graph, Node
    from optc.passes.base import PassContext

_GUESSED: Final = (
    "ranges come from seeded inputs, not from data: real values outside of them are clipped, and "
    "what accuracy that costs is not known; give data.calibration"
)
_PER_AXIS_SINCE: Final = 13
_SINCE: Final = 10
_DYNAMIC_SINCE: Final = 11


class QuantizeInt8(Pass):
    """Quantize convolutions and matrix products to int8, with what lies between them.

    Refuses: operations that the runtime has no integer kernel for on this CPU, or that gain less
    than the conversions around them cost; weights or biases that are not constant; operations of
    subgraphs; what the recipe keeps. Every operation that stays fp32 has its reason among the
    decisions.
    """

    name: ClassVar[str] = "quantize-int8"
    Options = QuantizeInt8Options
    asks_target: ClassVar[bool] = True
    observes: ClassVar[bool] = True
    quantizes: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Quantize what pays.

        Raises:
            ModelError: the opset of the model does not have what the options ask for.
            DataError: static quantization without data to run the model on, or with data that does
                not fit.
        """
        options = self.options
        assert isinstance(options, QuantizeInt8Options)
        if any(node.origin and self.name in node.origin.passes() for node in graph.nodes()):
            return PassResult(changed=False)  # what it could do is done
        trace = Trace(self.name)
        warnings = _unmatched(graph, options)
        kernels = Kernels(
            shipped_kernels(context.runtime),
            context.described.capabilities,
            options.activations,
            options.product_activations,
            options.weights,
            options.operators,
            options.padded_activations,
        )
        if is_quantized(graph):
            complete(graph, trace, kernels, options.wishes, options.style, context.observer)
        else:
            _check_opset(graph, options)
            self._quantize(graph, context, trace, kernels)
        _decide_rest(graph, trace)
        seeded = context.observer is not None and not context.observer.real
        if seeded and options.mode == "static" and trace.counts:
            warnings.append(_GUESSED)
        return PassResult(
            bool(trace.counts),
            trace.counts,
            trace.refusals,
            trace.decisions,
            warnings=tuple(warnings),
        )

    def _quantize(self, graph: Graph, context: PassContext, trace: Trace, kernels: Kernels) -> None:
        options = self.options
        assert isinstance(options, QuantizeInt8Options)
        if options.mode == "weights":
            quantize_weights(graph, trace, kernels, options.wishes, options.style)
            return
        runtime = context.executes if options.placement == "gain" else None
        if options.mode == "dynamic":
            quantize_dynamically(
                graph, trace, kernels, options.wishes, options.style, runtime, context.described
            )
            return
        if context.observer is None:
            raise DataError(
                "no-calibration",
                "quantize-int8: static quantization needs inputs to run the model on",
                hint="compile a recipe, which has data or seeded inputs, or set mode: dynamic",
            )
        job = Static(
            context.observer,
            options.calibration,
            kernels,
            options.wishes,
            options.style,
            frozenset(options.unify),
            None if runtime is None else (context.described, runtime),
            options.coverage,
            options.forgo,
        )
        quantize_statically(graph, trace, job)


def _unmatched(graph: Graph, options: QuantizeInt8Options) -> list[str]:
    lists = (("only", options.only), ("keep", options.keep))
    return [f"{n}: no node fits {s}" for n, known in lists for s in unmatched(known, graph)]


def _check_opset(graph: Graph, options: QuantizeInt8Options) -> None:
    needed = {
        "static": (_SINCE, "QuantizeLinear"),
        "dynamic": (_DYNAMIC_SINCE, "DynamicQuantizeLinear"),
        "weights": (_SINCE, "DequantizeLinear"),
    }[options.mode]
    if options.per_channel and options.mode != "dynamic":
        needed = (_PER_AXIS_SINCE, "DequantizeLinear with a scale per channel")
    if graph.opset < needed[0]:
        raise ModelError(
            "opset-too-low",
            f"quantize-int8: the model has opset {graph.opset}, and {needed[1]} is of opset "
            f"{needed[0]}",
            hint=f"put `upgrade-opset: {{to: {needed[0]}}}` before it",
        )


def _decide_rest(graph: Graph, trace: Trace) -> None:
    """A decision for every operation of subgraphs: its values cannot be observed."""
    for nested in graph.walk():
        if nested is graph:
            continue
        for node in nested.nodes(Kind.OP):
            values = (*node.outputs, *nested.operands(node))
            if any(is_float32(value) for value in values) and not info(node).has(Trait.QUANTIZE):
                reason = "it is part of a subgraph, whose values cannot be observed"
                trace.decided("subgraph", node, "fp32", reason)
                _refuse(trace, node, reason)


def _refuse(trace: Trace, node: Node, reason: str) -> None:
    if node.is_op(*PRODUCTS):
        trace.refused("quantize", node, reason)
