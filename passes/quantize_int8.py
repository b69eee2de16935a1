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

from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from pydantic import Field, field_validator

from optc.errors import DataError, ModelError
from optc.ir import DType, Graph, Kind
from optc.ir.ops import Trait, info
from optc.numerics.calibrate import RangeSettings
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.int8_dynamic import quantize_dynamically, quantize_weights
from optc.passes.int8_given import complete, is_quantized
from optc.passes.int8_plan import Wishes
from optc.passes.int8_sites import PRODUCTS, Kernels, Scheme, is_float32
from optc.passes.int8_static import Static, quantize_statically
from optc.passes.int8_write import WeightStyle
from optc.passes.selector import Keep, Selector
from optc.rewrite.trace import Trace
from optc.targets import load_runtime
from optc.targets.loading import shipped_kernels

if TYPE_CHECKING:
    from optc.ir import Node
    from optc.passes.base import PassContext

_PER_AXIS_SINCE: Final = 13
_SINCE: Final = 10
_DYNAMIC_SINCE: Final = 11


class QuantizeInt8Options(PassOptions):
    """Options of `quantize-int8`. What a recipe leaves out comes from the runtime's descriptor."""

    mode: Literal["static", "dynamic", "weights"] = Field(
        default="static",
        description="static: ranges from calibration data; dynamic: ranges from each input as it "
        "comes, for matrix products; weights: only constants are stored in 8 bits",
    )
    calibration: RangeSettings = Field(
        default=RangeSettings(), description="how ranges follow from data: a method, or a mapping"
    )
    activations: Scheme = Field(
        default="u8",
        description="type of activations; symmetric: the zero point is the middle of the type",
    )
    product_activations: Scheme = Field(
        default="u8", description="the same for operands of matrix products"
    )
    weights: Literal["s8", "u8"] = Field(default="s8", description="type of weights")
    symmetric_weights: bool = Field(
        default=True, description="whether the zero points of weights are the middle of the type"
    )
    per_channel: bool = Field(
        default=True, description="whether each output channel has a scale of its own"
    )
    bias: Literal["s32", "f32"] = Field(
        default="s32", description="s32: biases are quantized in the scale of the products"
    )
    saturation: Literal["avoid", "allow"] = Field(
        default="allow",
        description="avoid: weights whose products cannot saturate the sums of 16 bits that CPUs "
        "without VNNI form; allow: the full range",
    )
    operators: tuple[str, ...] = Field(
        default=(), description="operators beside products that may be computed on integers"
    )
    unify: tuple[str, ...] = Field(
        default=(), description="operators with several operands whose scales are to be equal"
    )
    placement: Literal["gain", "kernels"] = Field(
        default="gain",
        description="gain: only what is predicted to be faster; kernels: all that has a kernel",
    )
    only: tuple[Selector, ...] = Field(
        default=(),
        description="products to quantize, all when left out: regular expressions on node names, "
        "or mappings with op, name, domain",
    )
    keep: Keep = ()
    first: bool = Field(
        default=True, description="whether products right behind the inputs may be quantized"
    )
    last: bool = Field(
        default=True, description="whether products right before the outputs may be quantized"
    )

    @field_validator("calibration", mode="before")
    @classmethod
    def _method(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @property
    def style(self) -> WeightStyle:
        """How weights are quantized."""
        return WeightStyle(
            DType.I8 if self.weights == "s8" else DType.U8,
            self.per_channel,
            self.symmetric_weights,
            safe=self.saturation == "avoid",
            bias=self.bias == "s32",
        )

    @property
    def wishes(self) -> Wishes:
        """What is said about single operations."""
        return Wishes(self.only, self.keep, self.first, self.last)


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
        trace = Trace(self.name)
        kernels = Kernels(
            shipped_kernels(context.runtime),
            context.described.capabilities,
            options.activations,
            options.product_activations,
            options.weights,
            options.operators,
        )
        if is_quantized(graph):
            complete(graph, trace, kernels, options.style, context.observer)
        else:
            _check_opset(graph, options)
            self._quantize(graph, context, trace, kernels)
        _decide_rest(graph, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals, trace.decisions)

    def _quantize(self, graph: Graph, context: PassContext, trace: Trace, kernels: Kernels) -> None:
        options = self.options
        assert isinstance(options, QuantizeInt8Options)
        if options.mode == "weights":
            quantize_weights(graph, trace, kernels, options.wishes, options.style)
            return
        runtime = load_runtime(context.runtime) if options.placement == "gain" else None
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
        )
        quantize_statically(graph, trace, job)


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
