"""The fp32 twin of a graph that states bfloat16: the same roundings on any CPU, at fp32 speed.

    y = op(x, w)  in bf16    becomes    y = f32(bf16(op(x, w)))  in f32, with w as it is

Kernels for bfloat16 multiply exactly, accumulate in float32 and round each result once, to nearest
even; so the twin differs from them by the order of their sums alone, and where a runtime fuses
operations and keeps the value between them in float32. ONNX Runtime keeps the pair of Casts at
every optimization level. Moving data, and choosing from it, is exact and not followed by a pair.

Source: Intel SDM, VDPBF16PS, TDPBF16PS (float32 sums, denormals are zero) and VCVTNEPS2BF16
(nearest even, denormals are zero); ONNX operator Cast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir.clone import clone
from optc.ir.nodes import Attr, AttrKind, Kind
from optc.ir.ops import Trait, info
from optc.ir.result_types import result_dtype
from optc.ir.tensor import SparseTensor, Tensor
from optc.ir.types import (
    DType,
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Use, Value
    from optc.ir.types import Type

_TYPE_ATTRIBUTES: Final = (
    "dtype",
    "output_datatype",
    "output_dtype",
    "softmax_precision",
    "stash_type",
)
"""Attributes whose number is an element type; `to` is that of Cast."""

_UNCOMPUTED: Final = (Trait.DATA_MOVEMENT, Trait.CONTROL_FLOW, Trait.SHAPE_ONLY)
_TINY: Final = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Widened:
    """A graph with every bfloat16 value made float32, and nothing rounded.

    Attributes:
        graph: the graph; its inputs and outputs keep their types.
        lowered: its operations that had a bfloat16 operand or result.
    """

    graph: Graph
    lowered: frozenset[Node]


def twin(graph: Graph, *, flush_denormals: bool = False) -> Graph:
    """A graph that computes in float32 what `graph` computes in bfloat16, with its roundings.

    Results keep the names of the values that they stand for. What is inside of a model-local
    function is computed in float32; what it returns is rounded.

    Args:
        graph: a root graph with the types of its values; it stays as it is.
        flush_denormals: let numbers below 2^-126 be zero before they are rounded, and in constants,
            as AVX512_BF16 and AMX do.
    """
    return _Widening(clone(graph), rounds=True, flushes=flush_denormals).run().graph


def widen(graph: Graph) -> Widened:
    """A copy of a root graph in float32: what a runtime lowers to bfloat16 by itself.

    Constants keep their numbers; Casts between both types go.
    """
    return _Widening(clone(graph), rounds=False, flushes=False).run()


def computing(graph: Graph) -> Iterator[Node]:
    """The operations that do arithmetic in bfloat16, those of nested graphs too, in order."""
    for nested in graph.walk():
        for node in nested.ordered():
            if _is_computed(node) and not node.is_op("Cast") and _touches(nested, node):
                yield node


def _touches(graph: Graph, node: Node) -> bool:
    values = (*graph.operands(node), *node.outputs)
    return any(_is_narrow(value.type) for value in values if value is not None)


def _is_computed(node: Node) -> bool:
    return not any(info(node).has(trait) for trait in _UNCOMPUTED)


def _rounds(node: Node) -> bool:
    """Whether results may be other numbers than those that went in."""
    return _is_computed(node) and not info(node).has(Trait.SELECTS)


def _is_narrow(type_: Type | None) -> bool:
    if isinstance(type_, TensorType | SparseTensorType):
        return type_.dtype is DType.BF16
    if isinstance(type_, SequenceType | OptionalType):
        return _is_narrow(type_.element)
    return isinstance(type_, MapType) and _is_narrow(type_.value)


def _wide(type_: Type | None) -> Type | None:
    """The type with float32 in place of bfloat16."""
    if isinstance(type_, TensorType | SparseTensorType):
        return replace(type_, dtype=DType.F32) if type_.dtype is DType.BF16 else type_
    if isinstance(type_, SequenceType | OptionalType):
        return replace(type_, element=_wide(type_.element))
    if isinstance(type_, MapType):
        return replace(type_, value=_wide(type_.value))
    return type_


class _Widening:
    """Rewrites a graph that is its own."""

    def __init__(self, graph: Graph, *, rounds: bool, flushes: bool) -> None:
        self._graph = graph
        self._rounds = rounds
        self._flushes = flushes
        self._narrow: set[Value] = set()
        self._from_narrow: set[Node] = set()
        self._narrow_outputs: set[Node] = set()

    def run(self) -> Widened:
        bodies = [function.body for function in self._graph.model.functions.values()]
        graphs = [nested for root in (self._graph, *bodies) for nested in root.walk()]
        for nested in graphs:
            self._note(nested)
        lowered = frozenset(
            node
            for nested in graphs
            for node in nested.nodes()
            if not node.is_op("Cast") and self._is_lowered(nested, node)
        )
        for nested in graphs:
            self._widen_sources(nested)
            for node in nested.ordered():
                self._widen_node(nested, node)
            self._widen_outputs(nested)
        return Widened(self._graph, lowered)

    def _note(self, graph: Graph) -> None:
        """Find the values that are bfloat16, before any is changed."""
        for node in (*graph.nodes(Kind.INPUT, Kind.CONSTANT, Kind.CAPTURE), *graph.ordered()):
            for index, value in enumerate(node.outputs):
                if value is None:
                    continue
                if value.type is None and node.kind is Kind.OP:
                    found = result_dtype(graph, node, index)
                    graph.set_type(value, None if found is None else TensorType(found))
                if _is_narrow(value.type):
                    self._narrow.add(value)
            if node.is_op("Cast") and graph.operand(node, 0) in self._narrow:
                self._from_narrow.add(node)
        self._narrow_outputs.update(n for n in graph.outputs if graph.operand(n, 0) in self._narrow)

    def _is_lowered(self, graph: Graph, node: Node) -> bool:
        return any(value in self._narrow for value in (*graph.operands(node), *node.outputs))

    # ---- where values begin and end ------------------------------------------------------------

    def _widen_sources(self, graph: Graph) -> None:
        for value in [*graph.constants()]:
            if value in self._narrow:
                self._widen_constant(graph, value)
        for value in graph.inputs:
            if value not in self._narrow:
                continue
            if graph is self._graph:
                uses = [*graph.uses(value)]
                wide = self._cast(graph, value, DType.F32, f"{value.name}/f32")
                for user, key in uses:
                    graph.set_operand(user, key, wide)
            else:
                graph.set_type(value, _wide(value.type))
        for node in graph.nodes(Kind.CAPTURE):
            graph.set_type(node.output, _wide(node.output.type))

    def _widen_constant(self, graph: Graph, value: Value) -> None:
        node = value.node
        data = node.sparse or node.tensor
        assert data is not None
        made = graph.add_constant(self._data(data), graph.fresh_name(value.name), node.origin)
        made.doc, made.metadata = value.doc, value.metadata
        graph.replace_uses(value, made)
        graph.remove(node)
        graph.rename(made, value.name)

    def _data(self, data: Tensor | SparseTensor) -> Tensor | SparseTensor:
        if isinstance(data, SparseTensor):
            return replace(data, values=self._tensor(data.values))
        return self._tensor(data)

    def _tensor(self, tensor: Tensor) -> Tensor:
        numbers = tensor.numpy().astype(np.float32)
        if self._flushes:
            numbers[np.abs(numbers) < _TINY] = 0
        return Tensor.from_numpy(numbers, DType.F32)

    def _widen_outputs(self, graph: Graph) -> None:
        for node in graph.outputs:
            if graph is not self._graph:
                graph.set_declared(node, _wide(node.declared))
                continue
            value = graph.operand(node, 0)
            if node in self._narrow_outputs and value is not None:
                narrow = self._cast(graph, value, DType.BF16, f"{value.name}/bf16")
                graph.set_operand(node, 0, narrow)

    # ---- operations ----------------------------------------------------------------------------

    def _widen_node(self, graph: Graph, node: Node) -> None:
        if node.is_op("Cast") and self._widen_cast(graph, node):
            return
        graph.set_attributes(node, {n: self._attribute(n, a) for n, a in node.attributes.items()})
        for value in node.outputs:
            if value is None or value not in self._narrow:
                continue
            graph.set_type(value, _wide(value.type))
            if self._rounds and isinstance(value.type, TensorType) and _rounds(node):
                self._round(graph, value)

    def _widen_cast(self, graph: Graph, node: Node) -> bool:
        """Rewrite a Cast from or to bfloat16; False for one that stays as any other operation."""
        value, source = node.output, graph.operand(node, 0)
        assert source is not None
        if value not in self._narrow:
            if node not in self._from_narrow or not _is_f32(value):
                return False
            _drop(graph, node, source)
        elif node in self._from_narrow or (_is_f32(source) and not self._rounds):
            _drop(graph, node, source)
        elif self._rounds:
            if self._flushes and _is_f32(source):
                graph.set_operand(node, 0, self._flushed(graph, source))
            self._restore(graph, value, value)
        else:
            graph.set_attributes(node, {**node.attributes, "to": _number(DType.F32)})
            graph.set_type(value, _wide(value.type))
        return True

    def _attribute(self, name: str, attr: Attr) -> Attr:
        if attr.kind is AttrKind.TENSOR and attr.value.dtype is DType.BF16:
            return replace(attr, value=self._tensor(attr.value))
        if name in _TYPE_ATTRIBUTES and attr == _number(DType.BF16):
            return _number(DType.F32)
        return attr

    # ---- rounding ------------------------------------------------------------------------------

    def _round(self, graph: Graph, value: Value) -> None:
        """Let all uses of a float32 value use what is left of it in bfloat16."""
        exact = value
        uses = [*graph.uses(value)]
        if self._flushes:
            exact = self._flushed(graph, value)
        narrow = self._cast(graph, exact, DType.BF16, f"{value.name}/bf16")
        self._restore(graph, value, narrow, uses)

    def _restore(
        self, graph: Graph, value: Value, narrow: Value, uses: list[Use] | None = None
    ) -> None:
        """Let the float32 form of `narrow` take the place and the name of a value."""
        uses = [*graph.uses(value)] if uses is None else uses
        name = value.name
        graph.rename(value, graph.fresh_name(f"{name}/exact"))
        wide = self._cast(graph, narrow, DType.F32, name)
        for node, key in uses:
            graph.set_operand(node, key, wide)

    def _flushed(self, graph: Graph, value: Value) -> Value:
        """The value with zero in place of denormal numbers; NaN is none."""
        tiny, zero = self._scalar(graph, _TINY), self._scalar(graph, 0.0)
        size = _apply(graph, "Abs", [value], f"{value.name}/size", value.type)
        known = value.type
        flags = replace(known, dtype=DType.BOOL) if isinstance(known, TensorType) else None
        small = _apply(graph, "Less", [size, tiny], f"{value.name}/denormal", flags)
        return _apply(graph, "Where", [small, zero, value], f"{value.name}/normal", value.type)

    def _scalar(self, graph: Graph, number: float) -> Value:
        tensor = Tensor.from_numpy(np.float32(number), DType.F32)
        return graph.add_constant(tensor, graph.fresh_name("denormal"))

    def _cast(self, graph: Graph, value: Value, dtype: DType, name: str) -> Value:
        type_ = replace(value.type, dtype=dtype) if isinstance(value.type, TensorType) else None
        return _apply(graph, "Cast", [value], name, type_, {"to": _number(dtype)})


def _apply(
    graph: Graph,
    op_type: str,
    operands: list[Value],
    name: str,
    type_: Type | None,
    attributes: Mapping[str, Attr] | None = None,
) -> Value:
    """The result of a new operation, which stands for what its last operand stands for."""
    source = operands[-1].node
    node = graph.add(
        op_type,
        operands,
        outputs=[graph.fresh_name(name)],
        attributes=attributes,
        types=[type_],
        origin=source.origin,
    )
    node.metadata = source.metadata
    return node.output


def _drop(graph: Graph, node: Node, source: Value) -> None:
    """Remove an operation that hands on what it is given."""
    graph.replace_uses(node.output, source)
    graph.remove(node)


def _number(dtype: DType) -> Attr:
    return Attr(AttrKind.INT, dtype.onnx)


def _is_f32(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype is DType.F32
