"""Quantization without data: of activations as they come, or of weights alone.

    DynamicQuantizeLinear(x) = x', sx, zx
    MatMul(x, w)  =  Cast(MatMulInteger(x', w', zx)) * (sx * sw)

ONNX Runtime makes DynamicQuantizeMatMul of it, or MatMulIntegerToFloat where several products share
x. A Gemm is the same with its bias added. With 8-bit weights alone, a DequantizeLinear stands
between the weight and its product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import DType
from optc.ir.ops import Trait, info
from optc.numerics.prices import Prices
from optc.numerics.timing import assumed_sizes
from optc.passes.int8_plan import unwanted
from optc.passes.int8_sites import PRODUCTS, is_float32, product_obstacle, weight_of
from optc.passes.int8_write import Writer
from optc.rewrite.driver import Builder, remove_unused, replace_node

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.int8_plan import Wishes
    from optc.passes.int8_sites import Kernels
    from optc.passes.int8_write import WeightStyle
    from optc.rewrite.trace import Trace
    from optc.targets import Runtime, Target
    from optc.targets.kernels import Choice

_RULE: Final = "quantize-dynamic"
_WEIGHTS: Final = "quantize-weights"


def quantize_weights(
    graph: Graph, trace: Trace, kernels: Kernels, wishes: Wishes, style: WeightStyle
) -> None:
    """Store the weights of products in 8 bits, where the runtime computes with such weights."""
    for nested in tuple(graph.walk()):
        writer = Writer(nested, trace.pass_name)
        reasons = _reasons(nested, wishes)
        for node in nested.ordered():
            reason = reasons.get(node) or _weight_obstacle(nested, node)
            found = kernels.weight_only(node) if reason is None else reason
            if isinstance(found, str):
                _stays(nested, trace, _WEIGHTS, node, found)
                continue
            weight = nested.operand(node, 1)
            assert weight is not None
            writer.weight(node, style, None)
            remove_unused(nested, [weight.node])
            trace.applied(_WEIGHTS, node)
            trace.decided(_WEIGHTS, node, "fp32", f"on weights of 8 bits: {found.kernel}")


def quantize_dynamically(
    graph: Graph,
    trace: Trace,
    kernels: Kernels,
    wishes: Wishes,
    style: WeightStyle,
    runtime: Runtime | None,
    target: Target,
) -> None:
    """Quantize the operands of matrix products as they come.

    Args:
        graph: the graph.
        trace: is told what was done.
        kernels: what the runtime has.
        wishes: what the recipe says about single operations.
        style: how weights are quantized.
        runtime: to predict gains for; None: whatever has a kernel pays.
        target: the CPU.
    """
    prices = None if runtime is None else Prices(target, runtime, assumed_sizes(graph))
    for nested in tuple(graph.walk()):
        _Dynamic(nested, trace, style, prices).run(kernels, wishes)


class _Dynamic:
    def __init__(
        self, graph: Graph, trace: Trace, style: WeightStyle, prices: Prices | None
    ) -> None:
        self.graph = graph
        self.trace = trace
        self.style = style
        self.prices = prices

    def run(self, kernels: Kernels, wishes: Wishes) -> None:
        """Quantize all products with the same first operand, or none."""
        reasons = _reasons(self.graph, wishes)
        found: dict[Value, dict[Node, Choice]] = {}
        for node in self.graph.ordered():
            reason = reasons.get(node) or _weight_obstacle(self.graph, node)
            choice = kernels.dynamic(node) if reason is None else reason
            if isinstance(choice, str):
                _stays(self.graph, self.trace, _RULE, node, choice)
                continue
            value = self.graph.operand(node, 0)
            assert value is not None
            found.setdefault(value, {})[node] = choice
        for value, nodes in found.items():
            loss = self._loss(value, nodes)
            if loss is None:
                self._write(value, nodes)
            else:
                for node in nodes:
                    _stays(self.graph, self.trace, _RULE, node, loss)

    def _loss(self, value: Value, nodes: dict[Node, Choice]) -> str | None:
        """Why it does not pay; None when it does."""
        if self.prices is None:
            return None
        converted = self.prices.conversion(self.graph, value)
        floats = [self.prices.of(self.graph, node, "fp32") for node in nodes]
        integers = [self.prices.of(self.graph, n, "int8", c) for n, c in nodes.items()]
        if converted is None or None in floats or None in integers:
            return "its size is not known, so nothing can be predicted"
        # The range is looked for before the numbers are converted: two passes over them.
        taken = 2 * converted[0] + sum(x for x in integers if x is not None)
        saved = sum(x for x in floats if x is not None)
        if taken < saved:
            return None
        return f"int8 is predicted to take {taken * 1e6:.3g} us, and fp32 {saved * 1e6:.3g} us"

    def _write(self, value: Value, nodes: dict[Node, Choice]) -> None:
        build = Builder(self.graph, self.trace.pass_name, tuple(nodes))
        made = build.node("DynamicQuantizeLinear", [value], outputs=3)
        for node, choice in nodes.items():
            new = self._product(node, made)
            self.trace.applied(_RULE, node)
            self.trace.decided(_RULE, new, "int8", choice.kernel or "integer kernel")

    def _product(self, node: Node, quantized: Node) -> Node:
        build = Builder(self.graph, self.trace.pass_name, (node,))
        weight, bias = self.graph.operand(node, 1), self.graph.operand(node, 2)
        tensor = weight_of(self.graph, node)
        assert weight is not None
        assert tensor is not None
        array = tensor.numpy().T if node.get("transB", 0) else tensor.numpy()
        params = self.style.matrix_params(array)
        integers = build.constant(params.quantize(array), name=f"{weight.name}_quantized")
        scale = build.constant(params.scale_array, dtype=DType.F32, name=f"{weight.name}_scale")
        zero = build.constant(np.zeros((), params.dtype.numpy), name=f"{weight.name}_zero_point")
        x, x_scale, x_zero = quantized.outputs
        product = build.node("MatMulInteger", [x, integers, x_zero, zero])
        total = build.Cast(product.output, to=DType.F32.onnx)
        result = build.Mul(total, build.Mul(x_scale, scale))
        if bias is not None:
            result = build.Add(result, bias)
        self.graph.set_type(result, node.output.type)
        replace_node(self.graph, node, [result], build.made)
        return product


def _reasons(graph: Graph, wishes: Wishes) -> dict[Node, str]:
    found = unwanted(graph, wishes)
    return {node: reason for node, (_, reason) in found.items()}


def _weight_obstacle(graph: Graph, node: Node) -> str | None:
    if not node.is_op(*PRODUCTS):
        return f"{node.op_type} is no product of an activation with a weight"
    if weight_of(graph, node) is None:
        return "it has no constant weight"
    return product_obstacle(graph, node)


def _stays(graph: Graph, trace: Trace, rule: str, node: Node, reason: str) -> None:
    values = (*node.outputs, *graph.operands(node))
    if info(node).has(Trait.QUANTIZE) or not any(is_float32(value) for value in values):
        return
    trace.decided(rule, node, "fp32", reason)
    if node.is_op(*PRODUCTS):
        trace.refused(rule, node, reason)
