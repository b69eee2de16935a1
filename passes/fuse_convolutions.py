"""Fuse two linear operations in a row into one where that takes fewer multiplications.

    conv1x1(conv(x, A) + a, B) + b  =  conv(x, B·A) + (B·a + b)
    conv(conv1x1(x, A) + a, B) + b  =  conv(x, B·A) + (b + sum(B)·a)      no border, or a = 0
    (x @ A + a) @ B + b             =  x @ (A B) + (a B + b)              MatMul and Gemm

A bottleneck (a -> few -> b) stays: the fused weight would be larger than both. Products and sums
of weights are taken in float64.
Source: ONNX operators Conv-22, MatMul-13, Gemm-13.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from optc.ir import TensorType, ops
from optc.passes.base import Pass, PassResult
from optc.passes.linear import (
    bias_adder,
    linear_ending_at,
    linear_of,
    other_use,
    shape_of,
    use_text,
)
from optc.passes.weights import FLOATS, pads_data, range_error
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import DType, Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.linear import Linear

Array: TypeAlias = npt.NDArray[np.float64]

_MATRIX: Final = 2
_SAME: Final = (b"SAME_UPPER", b"SAME_LOWER")


class FuseConvolutions(Pass):
    """Fuse Conv with Conv, and MatMul or Gemm with MatMul or Gemm.

    Refuses: more multiplications than before, or a number that is not known; an inner result that
    something else uses; weights or biases that are not constant, or a weight that is shared;
    groups; two convolutions neither of which is pointwise, or of which the first leaves places
    out; a border that the inner bias does not reach; padding that goes by strides; transposed
    data or several matrices; a weight that overflows.
    """

    name: ClassVar[str] = "fuse-convolutions"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Fuse in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node in nested and node.is_op("Conv", "MatMul", "Gemm"):
                    _visit(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _visit(graph: Graph, node: Node, trace: Trace) -> None:
    """Fuse a node with the one that computes its data, again and again."""
    data = graph.operand(node, 0)
    ends = None if data is None else linear_ending_at(graph, data.node)
    if ends is None or node.is_op("Conv") != ends[0].is_op("Conv"):
        return
    if ends[0].is_op("ConvTranspose"):
        return
    rule = "conv-conv" if node.is_op("Conv") else "matmul-matmul"
    inner = linear_of(graph, *ends)
    outer = linear_of(graph, node, bias_adder(graph, node) if node.is_op("MatMul") else None)
    if isinstance(inner, str) or isinstance(outer, str):
        return  # no constant weights: a product of activations
    if outer.data is not data:
        return
    pair = _Pair(graph, inner, outer)
    if reason := pair.obstacle():
        trace.refused(rule, node, reason)
        return
    build = Builder(
        graph,
        trace.pass_name,
        tuple(dict.fromkeys((outer.last, outer.node, inner.last, inner.node))),
    )
    new = pair.write(build)
    trace.applied(rule, outer.last)
    for gone in replace_node(graph, outer.last, [new], build.made):
        trace.forget(gone)
    _visit(graph, next(made for made in build.made if made.is_op(node.op_type)), trace)


class _Pair:
    """Two linear operations, the inner one computing the data of the outer."""

    def __init__(self, graph: Graph, inner: Linear, outer: Linear) -> None:
        self.graph = graph
        self.inner = inner
        self.outer = outer

    def obstacle(self) -> str:
        """Why they are not fused; empty when they are."""
        for linear in (self.inner, self.outer):
            if reason := self._linear_error(linear):
                return reason
        users = {self.inner.node: self.inner.last, self.inner.last: self.outer.node}
        for node, user in users.items():
            if node is not user and (other := other_use(self.graph, node.output, (user,))):
                return f"{node.op_type} output {use_text(other, 'also feeds')}"
        if self.outer.node.is_op("Conv") and (reason := self._border_error()):
            return reason
        before, after = self._multiplications()
        if before is None or after is None:
            return "the number of multiplications is not known"
        if after >= before:
            return f"{after} multiplications in place of {before}"
        weight, bias = self._fused()
        dtype = _dtype(self.outer)
        return (
            range_error(weight, dtype, "the fused weight")
            or (range_error(bias, dtype, "the fused bias") if bias is not None else None)
            or ""
        )

    def _linear_error(self, linear: Linear) -> str:
        node, weight, bias = linear.node, linear.weight, linear.bias
        if weight.constant is None:
            return f"weight {weight.name} is not constant"
        if _dtype(linear) not in FLOATS:
            return f"{_dtype(linear).value} arithmetic is not folded"
        if other := other_use(self.graph, weight, (node,)):
            return f"weight {use_text(other, 'is shared by')}"
        if node.is_op("Conv") and linear.view[0] != 1:
            return f"{node.label} has groups"
        if not node.is_op("Conv") and (reason := _form_error(linear)):
            return reason
        if bias is None:
            return ""
        if bias.constant is None:
            return f"bias {bias.name} is not constant"
        if bias.constant.shape not in ((linear.outputs,), (1, linear.outputs)):
            return f"bias {bias.name} is not one value per output"
        return ""

    def _border_error(self) -> str:
        inner, outer = self.inner, self.outer
        if _is_pointwise(outer) and not pads_data(self.graph, outer):
            if _steps(outer) and ops.attribute(self.graph, inner.node, "auto_pad") in _SAME:
                return f"the padding of {inner.node.label} depends on its strides"
            return ""
        if not _is_pointwise(inner) or pads_data(self.graph, inner):
            return "neither convolution is pointwise"
        if _steps(inner):
            return f"{inner.node.label} leaves places out"
        if inner.bias is not None and pads_data(self.graph, outer) and _bias(inner).any():
            return f"the bias of {inner.node.label} does not reach the border of {outer.node.label}"
        return ""

    def _multiplications(self) -> tuple[int | None, int | None]:
        """Multiplications before and after, per sample where all samples have the same."""
        inner, outer = self.inner, self.outer
        if not outer.node.is_op("Conv"):
            first, second = inner.inputs * inner.outputs, outer.inputs * outer.outputs
            return first + second, inner.inputs * outer.outputs
        places = [_places(self.graph, linear.last.output) for linear in (inner, outer)]
        if places[0] is None or places[1] is None:
            return None, None
        taps = inner.view[3] * outer.view[3]
        first = places[0] * inner.inputs * inner.outputs * inner.view[3]
        second = places[1] * outer.inputs * outer.outputs * outer.view[3]
        return first + second, places[1] * inner.inputs * outer.outputs * taps

    def _fused(self) -> tuple[Array, Array | None]:
        """The weight, in the form of the outer one, and the bias."""
        inner, outer = self.inner, self.outer
        a, b = _weight(inner), _weight(outer)
        if outer.node.is_op("Conv"):
            taps = [
                linear.weight.constant.shape[2:]
                for linear in (inner, outer)
                if linear.weight.constant is not None
            ]
            product = np.einsum("omk,mil->oikl", b, a)
            kernel = taps[0] if math.prod(taps[1]) == 1 else taps[1]
            weight = product.reshape(outer.outputs, inner.inputs, *kernel)
            through = b.sum(axis=2).T
        else:
            weight, through = a @ b, b
        bias = None
        if inner.bias is not None:
            bias = _bias(inner) @ through
        if outer.bias is not None:
            bias = _bias(outer) + (0.0 if bias is None else bias)
        return weight, bias

    def write(self, build: Builder) -> Value:
        """The fused operation."""
        inner, outer = self.inner, self.outer
        array, bias = self._fused()
        dtype = _dtype(outer)
        weight = build.constant(array, dtype=dtype, name=outer.weight.name)
        operands = [inner.data, weight]
        if bias is not None and not outer.node.is_op("MatMul"):
            operands.append(build.constant(bias, dtype=dtype, name=f"{outer.node.key}_bias"))
        if outer.node.is_op("Conv"):
            # The one that is not pointwise has the window; the steps of both multiply.
            window = inner.node if _is_pointwise(outer) else outer.node
            attributes = _window(inner.node, outer.node, window)
            return build.node("Conv", operands, like=outer.node, attributes=attributes).output
        if outer.node.is_op("Gemm"):
            attributes = dict.fromkeys(("alpha", "beta", "transB"))
            return build.node("Gemm", operands, like=outer.node, attributes=attributes).output
        new = build.MatMul(*operands, like=outer.node)
        if bias is None:
            return new
        build.graph.set_type(new, outer.last.output.type)
        added = build.constant(bias, dtype=dtype, name=f"{outer.node.key}_bias")
        return build.Add(new, added, like=outer.adder)


def _form_error(linear: Linear) -> str:
    """Why a MatMul or Gemm is not data times one matrix; empty when it is."""
    node = linear.node
    if linear.weight.constant is not None and len(linear.weight.constant.shape) > _MATRIX:
        return f"weight of {node.label} holds several matrices"
    if linear.data_axis != linear.axis:
        return f"{node.label} has its data transposed"
    return f"{node.label} has its weight on the left" if linear.axis != -1 else ""


def _window(inner: Node, outer: Node, window: Node) -> dict[str, object]:
    """Attributes of the fused convolution."""
    spatial = [node.get("strides") for node in (inner, outer)]
    found: dict[str, object] = {
        name: window.get(name) for name in ("auto_pad", "kernel_shape", "pads", "dilations")
    }
    steps = [stride for stride in spatial if stride]
    found["strides"] = [math.prod(pair) for pair in zip(*steps, strict=True)] if steps else None
    return found


def _is_pointwise(linear: Linear) -> bool:
    return linear.view[3] == 1


def _steps(linear: Linear) -> bool:
    """Whether a convolution leaves out places of its data."""
    return any(step != 1 for step in linear.node.get("strides", ()))


def _places(graph: Graph, value: Value) -> int | None:
    shape = shape_of(graph, value)
    sizes = [] if shape is None else [size for size in shape[2:] if isinstance(size, int)]
    return math.prod(sizes) if shape is not None and len(sizes) == len(shape) - 2 else None


def _dtype(linear: Linear) -> DType:
    assert isinstance(linear.weight.type, TensorType)
    return linear.weight.type.dtype


def _weight(linear: Linear) -> Array:
    """As [inputs, outputs]; of a Conv as [outputs, inputs, taps]. Factors are in it."""
    assert linear.weight.constant is not None
    array = linear.weight.constant.numpy().astype(np.float64).reshape(linear.view)[0] * linear.gain
    if linear.node.is_op("Conv"):
        return np.asarray(array)
    return np.asarray(array.T if linear.node.get("transB") else array)


def _bias(linear: Linear) -> Array:
    assert linear.bias is not None
    assert linear.bias.constant is not None
    bias = linear.bias.constant.numpy().astype(np.float64).reshape(-1) * linear.bias_gain
    return np.asarray(bias)
