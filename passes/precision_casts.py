"""Write a graph in two precisions: bf16 element types, and Casts where the precisions meet.

Each value has one precision, that of its maker, so a Cast never meets its opposite. Each is
converted at most once, in a Cast that all users of the other precision share. Constants are
converted here and now, rounding to nearest even: runtimes that fold the Cast of a constant round
otherwise. The fp32 form of a value keeps the name of the value, so that outputs and comparisons
find it.

Finite numbers that would round to infinity, which masks are made of, become the largest bf16: in
constants always, and in values that are known to hold such, by a Clip in front of the Cast.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.ir import Attr, AttrKind, DType, Kind, Origin, Tensor, TensorType
from optc.ir.shape_site import constant_tensor
from optc.passes.precision_sites import cast_types, dtype_of, low_ports
from optc.rewrite.driver import remove_unused

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from optc.ir import Graph, Node, Use, Value
    from optc.ir.type_ports import Ports

LARGEST: Final = float(2.0**128 - 2.0**120)
"""The largest finite bf16."""
_NARROW: Final = (DType.F32, DType.BF16)
_WIDEN: Final = (DType.BF16, DType.F32)


def write_casts(
    graph: Graph, low: Collection[Node], made_by: str, overflowing: Collection[str] = ()
) -> dict[str, int]:
    """Let operations of one graph compute in bf16.

    Args:
        graph: the graph; nested graphs are written by themselves.
        low: operations of it that are to be computed in bf16.
        made_by: the pass that does it.
        overflowing: names of values whose conversion must keep them finite.

    Returns:
        How often what was done, by rule.
    """
    writer = _Writer(graph, low, made_by, overflowing)
    writer.run()
    return {rule: count for rule, count in writer.counts.items() if count}


class _Writer:
    def __init__(
        self, graph: Graph, low: Collection[Node], made_by: str, overflowing: Collection[str]
    ) -> None:
        self._graph, self._made_by, self._overflowing = graph, made_by, overflowing
        self._bounds: list[Value] = []
        self._ports: dict[Node, Ports] = {
            node: ports
            for node in graph.ordered()
            if node in low and (ports := low_ports(graph, node))
        }
        self._narrow: dict[Value, Value] = {}
        self.counts = dict.fromkeys(
            ("compute-bf16", "insert-cast", "insert-clip", "convert-constant", "remove-cast"), 0
        )

    def run(self) -> None:
        self._share()
        for node in self._ports:
            self._results(node)
        for node in self._ports:
            self._operands(node)
        for node in self._ports:
            self._absorb(node)

    # ---- Casts that are there already ----------------------------------------------------------

    def _share(self) -> None:
        """Let users share the Casts between both precisions that the model has."""
        seen: dict[tuple[Value, DType | None], Node] = {}
        for node in self._graph.ordered():
            types = cast_types(self._graph, node) if node.is_op("Cast") else None
            source = self._graph.operand(node, 0) if types in (_NARROW, _WIDEN) else None
            if source is None or types is None:
                continue
            first = seen.setdefault((source, types[1]), node)
            if first is not node:
                self._graph.replace_uses(node.output, first.output)
                self._remove(node)
            elif types == _NARROW:
                self._narrow[source] = node.output

    def _absorb(self, node: Node) -> None:
        """Remove a Cast that converts nothing any more, or that nothing uses."""
        if node not in self._graph or not node.is_op("Cast"):
            return
        source = self._graph.operand(node, 0)
        if source is not None and cast_types(self._graph, node) == (DType.BF16, DType.BF16):
            self._graph.replace_uses(node.output, source)
        if not self._graph.is_used(node.output):
            self._remove(node)

    def _remove(self, node: Node) -> None:
        self._graph.remove(node)
        self.counts["remove-cast"] += 1

    # ---- results -------------------------------------------------------------------------------

    def _results(self, node: Node) -> None:
        if node not in self._graph:
            return
        if node.is_op("Cast") and cast_types(self._graph, node) == _WIDEN:
            self._bypass(node)
            return
        if node.is_op("Cast") and self._ports[node].results:
            number = Attr(AttrKind.INT, DType.BF16.onnx)
            self._graph.set_attributes(node, {**node.attributes, "to": number})
        elif not node.is_op("Cast"):
            self.counts["compute-bf16"] += 1
        for index in self._ports[node].results:
            value = node.outputs[index]
            if value is not None:
                self._lower(value)

    def _bypass(self, node: Node) -> None:
        """Let low users of a Cast from bf16 use what it converts."""
        source = self._graph.operand(node, 0)
        assert source is not None
        for use in self._uses(node.output, low=True):
            self._graph.set_operand(use.node, use.key, source)

    def _lower(self, value: Value) -> None:
        """Make a result bf16, and give its other users a Cast."""
        graph, others = self._graph, self._uses(value, low=False)
        graph.set_type(value, typed(value, DType.BF16))
        if not others:
            return
        name = value.name
        graph.rename(value, graph.fresh_name(f"{name}_bf16"))
        wide = self._cast(value, DType.F32, name)
        for use in others:
            graph.set_operand(use.node, use.key, wide)

    def _uses(self, value: Value, *, low: bool) -> list[Use]:
        """The uses of a value as port of an operation that is low, or all others."""
        return [
            use
            for use in self._graph.uses(value)
            if (use.node in self._ports and use.key in self._ports[use.node].operands) is low
        ]

    # ---- operands ------------------------------------------------------------------------------

    def _operands(self, node: Node) -> None:
        is_narrowing = node.is_op("Cast") and cast_types(self._graph, node) == _NARROW
        if node not in self._graph or is_narrowing:
            return
        for index in self._ports[node].operands:
            value = self._graph.operand(node, index)
            if value is not None and dtype_of(value) is DType.F32:
                self._graph.set_operand(node, index, self._narrowed(value, node))
                if constant_tensor(value) is not None:
                    remove_unused(self._graph, [value.node])

    def _narrowed(self, value: Value, user: Node) -> Value:
        found = self._narrow.get(value)
        if found is None or found.node not in self._graph:
            tensor = constant_tensor(value)
            name = f"{value.name}_bf16"
            made = self._cast(self._finite(value), DType.BF16, name) if tensor is None else None
            found = made or self._constant(value, name)
            self._narrow[value] = found
        return found

    def _finite(self, value: Value) -> Value:
        """The value within the range of bf16, where it is known to leave it."""
        if value.name not in self._overflowing:
            return value
        if not self._bounds:
            for name, number in (("lowest_bf16", -LARGEST), ("largest_bf16", LARGEST)):
                bound = Tensor.from_numpy(np.float32(number), DType.F32)
                self._bounds.append(self._graph.add_constant(bound, self._graph.fresh_name(name)))
        self.counts["insert-clip"] += 1
        node = self._graph.add(
            "Clip",
            [value, *self._bounds],
            outputs=[self._graph.fresh_name(f"{value.name}_finite")],
            types=[value.type],
            origin=Origin(self._made_by, (_maker(value),)),
        )
        return node.output

    def _constant(self, value: Value, name: str) -> Value:
        tensor = constant_tensor(value)
        assert tensor is not None
        converted = Tensor.from_numpy(finite(tensor.numpy()), DType.BF16)
        converted.doc, converted.metadata = tensor.doc, tensor.metadata
        self.counts["convert-constant"] += 1
        origin = Origin(self._made_by, (value.node.source_origin(),))
        return self._graph.add_constant(converted, self._graph.fresh_name(name), origin)

    def _cast(self, value: Value, dtype: DType, name: str) -> Value:
        self.counts["insert-cast"] += 1
        return add_cast(self._graph, value, dtype, name, self._made_by)


def add_cast(graph: Graph, value: Value, dtype: DType, name: str, made_by: str) -> Value:
    """A value in another element type, as the result of a new Cast.

    Args:
        graph: the graph.
        value: a tensor of known type.
        dtype: the element type.
        name: what the result is called, where that is free.
        made_by: the pass that does it.
    """
    node = graph.add(
        "Cast",
        [value],
        outputs=[graph.fresh_name(name)],
        attributes={"to": Attr(AttrKind.INT, dtype.onnx)},
        types=[typed(value, dtype)],
        origin=Origin(made_by, (_maker(value),)),
    )
    return node.output


def typed(value: Value, dtype: DType) -> TensorType:
    """The type of a tensor with another element type."""
    assert isinstance(value.type, TensorType)
    return replace(value.type, dtype=dtype)


def finite(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The numbers, the largest bf16 in the place of finite ones that would round to infinity."""
    clipped = np.clip(numbers, -LARGEST, LARGEST)
    return np.where(np.isfinite(numbers), clipped, numbers).astype(numbers.dtype)


def _maker(value: Value) -> Origin | str:
    return value.node.source_origin() if value.node.kind is Kind.OP else value.name
