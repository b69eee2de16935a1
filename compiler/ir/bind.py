"""Fixes dynamic dimensions of graph inputs before anything is inferred from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from optc.errors import ModelError, did_you_mean
from optc.ir import dims
from optc.ir.nodes import Kind
from optc.ir.shape_site import input_symbol
from optc.ir.types import (
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    format_shape,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir.graph import Graph
    from optc.ir.nodes import Value
    from optc.ir.types import Dim, Shape, Type


def bind_inputs(graph: Graph, shapes: Mapping[str, Sequence[int | str | None]]) -> None:
    """Give inputs of a root graph the shapes that a recipe asks for.

    A number fixes a dimension and, with it, its symbol: in other inputs, in what is recorded for
    inner values, and in the declared outputs. A name is given to a dimension that has none; a name
    or None leaves any other dimension as it is. Nothing is changed when an error is raised.

    Args:
        graph: the graph; its types are changed in place.
        shapes: shape by input name.

    Raises:
        ModelError: ``input-unknown``; ``input-shape-mismatch`` when a shape does not fit what the
            model says, or gives one symbol two sizes.
    """
    values = {value.name: value for value in graph.inputs}
    sizes: dict[str, Dim] = {}
    bound: dict[Value, Type] = {}
    for name, shape in shapes.items():
        if name not in values:
            raise ModelError(
                "input-unknown",
                f"the model has no input {name!r}; its inputs are {', '.join(values)}",
                hint=did_you_mean(name, values),
            )
        bound[values[name]] = _bound(values[name], tuple(shape), sizes)
    for value, type_ in bound.items():
        graph.set_type(value, type_)
    if sizes:
        _substitute(graph, sizes)


def _bound(value: Value, shape: Shape, sizes: dict[str, Dim]) -> Type:
    """The type of an input with a shape; notes the sizes of symbols."""
    type_ = value.type
    if type_ is None:
        raise _mismatch(value, shape, "the model gives it no type")
    if not isinstance(type_, TensorType):
        raise _mismatch(value, shape, f"it is {type_}, not a tensor")
    if type_.shape is None:
        return replace(type_, shape=shape)
    if len(shape) != len(type_.shape):
        raise _mismatch(value, shape, f"the model has {format_shape(type_.shape)}")
    pairs = enumerate(zip(type_.shape, shape, strict=True))
    return replace(
        type_, shape=tuple(_bind(value, axis, own, new, sizes) for axis, (own, new) in pairs)
    )


def _bind(value: Value, axis: int, own: Dim, new: Dim, sizes: dict[str, Dim]) -> Dim:
    known = dims.clean(own)
    if not isinstance(new, int):
        return new if known is None else own
    if new < 0:
        raise _mismatch(value, (new,), f"dimension {axis} cannot be negative")
    if known is None:
        sizes[input_symbol(value.name, axis)] = new
        return new
    known = dims.substitute(known, sizes)
    if dims.differ(known, new):
        size = f" = {known}" if known != own else ""
        raise _mismatch(value, (new,), f"dimension {axis} is {own}{size} in the model")
    if isinstance(known, str) and dims.symbols(known) == {known}:
        sizes[known] = new
    return new


def _mismatch(value: Value, shape: Shape, reason: str) -> ModelError:
    found = format_shape(shape) if len(shape) != 1 else str(shape[0])
    return ModelError(
        "input-shape-mismatch",
        f"input {value.name} cannot be {found}: {reason}",
        hint="fix only dimensions that are dynamic; one symbol has one size in all inputs",
    )


def _substitute(graph: Graph, sizes: Mapping[str, Dim]) -> None:
    for inner in graph.walk():
        for node in inner.nodes(Kind.OP, Kind.INPUT, Kind.CAPTURE):
            for value in node.outputs:
                if value is not None:
                    inner.set_type(value, _substituted(value.type, sizes))
        for node in inner.outputs:
            inner.set_declared(node, _substituted(node.declared, sizes))


def _substituted(type_: Type | None, sizes: Mapping[str, Dim]) -> Type | None:
    if isinstance(type_, SequenceType | OptionalType):
        element = _substituted(type_.element, sizes)
        return type_ if element == type_.element else replace(type_, element=element)
    if not isinstance(type_, TensorType | SparseTensorType) or type_.shape is None:
        return type_
    if not any(isinstance(dim, str) for dim in type_.shape):
        return type_
    shape = tuple(
        dims.substitute(dim, sizes) if dims.symbols(dim) & sizes.keys() else dim
        for dim in type_.shape
    )
    return type_ if shape == type_.shape else replace(type_, shape=shape)
