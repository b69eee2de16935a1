"""Fuse linear operations of one value into one, and split its result.

    x @ A + a,  x @ B + b   →   Split(x @ [A B] + [a b])
    conv(x, A, a),  conv(x, B, b)   →   Split(conv(x, [A; B], [a; b]))

Query, key and value projections; gate and up of a gated network; the 1x1 branches of Inception.
One product of more columns reads x once and fills vector units better; the Split copies its
result. Which is more depends on the runtime and on the number of rows, so both are options. Every
column is computed from the same numbers as before.
Source: ONNX operators MatMul-13, Gemm-13, Conv-22, Split-18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from pydantic import Field

from optc.ir import DType, TensorType, dims, ops
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.linear import bias_adder, linear_of, other_use, use_text
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.linear import Linear

_SIZES_OPERAND_SINCE: Final = 13


class FuseSiblingsOptions(PassOptions):
    """Options of `fuse-siblings`. The defaults are what gains on ONNX Runtime and on OpenVINO."""

    max_rows: int | None = Field(
        default=16,
        ge=1,
        description="largest product of all dimensions but the last of what MatMul and Gemm are "
        "given; null: any number, known or not",
    )
    max_outputs: int = Field(default=8, ge=2, description="most operations that are fused into one")
    convolutions: bool = Field(default=False, description="fuse convolutions, too")


@dataclass(frozen=True)
class _Member:
    """One of the operations.

    Attributes:
        linear: the operation.
        weight: its weight.
        bias: one value per output channel; None for none.
    """

    linear: Linear
    weight: Value
    bias: Value | None


class FuseSiblings(Pass):
    """Fuse MatMul, Gemm and Conv that have the same data and weights of the same form.

    Refuses: a number of rows that is not known or too large (see the options); a weight or bias
    that is not constant; a weight that something else uses, is of several matrices, or on the
    left; a bias of a Gemm or Conv that is not one value per output; groups.
    """

    name: ClassVar[str] = "fuse-siblings"
    Options = FuseSiblingsOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Fuse in the graph and all its subgraphs."""
        assert isinstance(self.options, FuseSiblingsOptions)
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            _Fuser(nested, self.options, trace).run()
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Fuser:
    def __init__(self, graph: Graph, options: FuseSiblingsOptions, trace: Trace) -> None:
        self.graph = graph
        self.options = options
        self.trace = trace

    def run(self) -> None:
        types = ("MatMul", "Gemm", *(("Conv",) if self.options.convolutions else ()))
        groups: dict[tuple[object, ...], list[Node]] = {}
        for node in self.graph.ordered():
            if node.is_op(*types) and (data := self.graph.operand(node, 0)) is not None:
                groups.setdefault((data, *_form(node)), []).append(node)
        for nodes in groups.values():
            if len(nodes) > 1:
                self._group(nodes)

    def _group(self, nodes: Sequence[Node]) -> None:
        """Fuse those of operations with one data operand that can be."""
        if nodes[0].op_type != "Conv" and (reason := self._rows_error(nodes[0])):
            for node in nodes:
                self.trace.refused("siblings", node, reason)
            return
        forms: dict[tuple[object, ...], list[_Member]] = {}
        for node in nodes:
            member = self._member(node)
            if isinstance(member, str):
                self.trace.refused("siblings", node, member)
                continue
            shape = _tensor_shape(member.weight)
            kept = shape[1:] if node.op_type == "Conv" else (shape[1 - _axis(member)],)
            forms.setdefault((_dtype(member.weight), kept), []).append(member)
        for members in forms.values():
            for start in range(0, len(members), self.options.max_outputs):
                part = members[start : start + self.options.max_outputs]
                if len(part) > 1:
                    self._fuse(part)

    def _rows_error(self, node: Node) -> str:
        if self.options.max_rows is None:
            return ""
        data = self.graph.operand(node, 0)
        assert data is not None
        shape = shape_of(self.graph, data)
        turned = node.is_op("Gemm") and ops.attribute(self.graph, node, "transA")
        rows = None if shape is None else dims.product(shape[1:] if turned else shape[:-1])
        if not isinstance(rows, int):
            return "the number of rows is not known"
        if rows > self.options.max_rows:
            return f"{rows} rows > {self.options.max_rows}"
        return ""

    def _member(self, node: Node) -> _Member | str:
        graph = self.graph
        adder = bias_adder(graph, node) if node.op_type == "MatMul" else None
        linear = linear_of(graph, node, adder)
        if isinstance(linear, str):
            return linear
        weight, bias = linear.weight, linear.bias
        if weight.constant is None:
            return f"weight {weight.name} is not constant"
        if node.op_type == "Conv" and ops.attribute(graph, node, "group") != 1:
            return "Conv has groups"
        if other := other_use(graph, weight, (node,)):
            return f"weight {use_text(other, 'is shared by')}"
        matrices = node.op_type == "MatMul" and len(weight.constant.shape) > 2
        if matrices or graph.operand(node, 0) is weight:
            return "weight of MatMul is on the left or holds several matrices"
        if bias is not None and bias.constant is None:
            return f"bias {bias.name} is not constant"
        if bias is not None and _tensor_shape(bias) != (linear.outputs,):
            if adder is None:
                return f"bias {bias.name} is not one value per output"
            linear = linear_of(graph, node)
            assert not isinstance(linear, str)
            bias = None
        return _Member(linear, weight, bias)

    def _fuse(self, members: Sequence[_Member]) -> None:
        graph, first = self.graph, members[0].linear
        node = first.node
        rule = f"{node.op_type.lower()}-siblings"
        nodes = [part for member in members for part in (member.linear.last, member.linear.node)]
        build = Builder(graph, self.trace.pass_name, tuple(dict.fromkeys(nodes)))
        new = self._product(build, members)
        is_conv = node.op_type == "Conv"
        split = _split(
            build, new, 1 if is_conv else -1, [member.linear.outputs for member in members]
        )
        self.trace.applied(rule, first.last)
        for member, part in zip(members, split.outputs, strict=True):
            assert part is not None
            replace_node(graph, member.linear.last, [part], build.made)

    def _product(self, build: Builder, members: Sequence[_Member]) -> Value:
        first = members[0].linear
        node = first.node
        weight = build.constant(
            np.concatenate([_array(m.weight) for m in members], axis=_axis(members[0])),
            name=members[0].weight.name,
        )
        operands = [first.data, weight]
        dtype = _dtype(weight)
        biases = [m.bias for m in members]
        bias = None
        if any(biases):
            parts = [
                np.zeros(m.linear.outputs, dtype.numpy) if m.bias is None else _array(m.bias)
                for m in members
            ]
            named = next(value for value in biases if value is not None)
            bias = build.constant(np.concatenate(parts), dtype=dtype, name=named.name)
        if bias is not None and node.op_type != "MatMul":
            operands.append(bias)
        new = build.node(node.op_type, operands, attributes=dict(node.attributes)).output
        type_ = first.last.output.type
        if isinstance(type_, TensorType) and type_.shape is not None:
            axis = len(type_.shape) + first.axis
            total = sum(member.linear.outputs for member in members)
            shape = (*type_.shape[:axis], total, *type_.shape[axis + 1 :])
            type_ = TensorType(type_.dtype, shape)
        else:
            type_ = None
        graph = build.graph
        graph.set_type(new, type_)
        if bias is not None and node.op_type == "MatMul":
            new = build.Add(new, bias)
            graph.set_type(new, type_)
        return new


def _form(node: Node) -> tuple[object, ...]:
    """What siblings must have in common, beside the data."""
    return (node.op_type, *sorted((name, attr.value) for name, attr in node.attributes.items()))


def _axis(member: _Member) -> int:
    """The axis of the weight that counts output channels."""
    node = member.linear.node
    if node.op_type == "Conv":
        return 0
    return 0 if node.get("transB") else 1


def _split(build: Builder, value: Value, axis: int, sizes: Sequence[int]) -> Node:
    if build.graph.opset < _SIZES_OPERAND_SINCE:
        attributes = {"axis": axis, "split": list(sizes)}
        return build.node("Split", [value], attributes=attributes, outputs=len(sizes))
    operand = build.constant(list(sizes), dtype=DType.I64, name="split")
    return build.node("Split", [value, operand], attributes={"axis": axis}, outputs=len(sizes))


def _array(value: Value) -> npt.NDArray[np.generic]:
    assert value.constant is not None
    return value.constant.numpy()


def _tensor_shape(value: Value) -> tuple[int, ...]:
    assert value.constant is not None
    return value.constant.shape


def _dtype(value: Value) -> DType:
    assert value.constant is not None
    return value.constant.dtype
