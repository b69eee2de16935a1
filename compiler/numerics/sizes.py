"""Sizes for dynamic dimensions: what a recipe fixes, and sensible choices for the rest.

A symbol has one size in all inputs, and an expression of symbols (``past + 1``, ``2*s0``), as
exporters write them for attention masks and key-value caches, is computed from theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from optc.errors import DataError, did_you_mean
from optc.ir.dims import clean, substitute, symbols
from optc.ir.types import OptionalType, SequenceType, TensorType, format_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from optc.ir.types import Dim, Shape, Type


@dataclass(frozen=True)
class Sizes:
    """Sizes by the role of a dimension.

    Attributes:
        batch: the first dimension, or a name like ``batch`` or ``N``.
        length: names like ``sequence``; other dimensions of tensors with up to three.
        spatial: names like ``height``; the third and further dimensions of larger tensors.
        channels: the second dimension of tensors with four or more.
    """

    batch: int = 2
    length: int = 16
    spatial: int = 64
    channels: int = 3


LADDER: Final = (
    Sizes(),
    Sizes(batch=1),
    Sizes(batch=1, length=32, spatial=224),
    Sizes(batch=1, length=128, spatial=320),
    Sizes(batch=1, length=8, spatial=48),
    Sizes(batch=1, length=64, spatial=32),
    Sizes(batch=1, length=512, spatial=640),
    Sizes(batch=1, length=1, spatial=512, channels=1),
)
"""Sizes to try in turn until a model runs: first cheap ones, then those that models insist on."""

SECOND: Final = Sizes(batch=1, length=24, spatial=96, channels=1)
"""Other sizes, for a second run: a rewrite that freezes a dynamic dimension shows only then."""

_ROLES: Final = (
    ("batch", ("batch",), ("n", "b", "bs")),
    ("length", ("seq", "len", "time", "token", "frame", "past"), ("t", "s", "l")),
    ("spatial", ("height", "width", "depth"), ("h", "w", "d")),
    ("channels", ("chan",), ("c",)),
)


def fix_shapes(inputs: Mapping[str, Type], shapes: Mapping[str, Sequence[Dim]]) -> dict[str, Type]:
    """The input types with the dimensions that a recipe fixes.

    A number in `shapes` fixes that dimension, and every other one of the same symbol; a name or
    None leaves it as it is.

    Raises:
        DataError: ``unknown-input``, or ``shape-conflict`` with what the model itself says.
    """
    bound: dict[str, int] = {}
    result = dict(inputs)
    for name, shape in shapes.items():
        if name not in inputs:
            raise DataError(
                "unknown-input",
                f"the model has no input {name!r}; its inputs are {', '.join(inputs)}",
                hint=did_you_mean(name, inputs),
            )
        result[name] = _merge(name, inputs[name], tuple(shape), bound)

    def bound_shape(shape: Shape | None) -> Shape | None:
        return None if shape is None else tuple(substitute(dim, bound) for dim in shape)

    return {name: _map_shapes(type_, bound_shape) for name, type_ in result.items()}


def name_dims(inputs: Mapping[str, Type]) -> dict[str, Type]:
    """The types with a symbol for every dimension that has none: ``input.axis``.

    A tensor of unknown rank gets two dimensions. Ask `choose_sizes` for their sizes.
    """
    return {name: _map_shapes(type_, partial(_named_shape, name)) for name, type_ in inputs.items()}


def _named_shape(name: str, shape: Shape | None) -> Shape:
    # Only word characters: a hyphen in the input's name would make it a difference of symbols.
    base = re.sub(r"\W", "_", name)
    dims = (None, None) if shape is None else shape
    return tuple(f"{base}.{axis}" if clean(dim) is None else dim for axis, dim in enumerate(dims))


def choose_sizes(types: Mapping[str, Type], sizes: Sizes) -> dict[str, int]:
    """A size for every symbol in types from `name_dims`; expressions are over symbols."""
    found: dict[str, int] = {}
    for type_ in types.values():
        for shape in tensor_shapes(type_):
            for index, dim in enumerate(shape):
                for symbol in sorted(symbols(dim)):
                    found.setdefault(symbol, _by_role(symbol, index, len(shape), sizes))
    return found


def concrete_shape(shape: Shape, chosen: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with the chosen size for every symbol; no dimension is below zero."""
    dims = (substitute(dim, chosen) for dim in shape)
    return tuple(max(dim, 0) if isinstance(dim, int) else 0 for dim in dims)


def tensor_shapes(type_: Type | None) -> Iterator[Shape]:
    """The shapes of the tensors in a type, as far as they are known."""
    if isinstance(type_, SequenceType | OptionalType):
        yield from tensor_shapes(type_.element)
    elif isinstance(type_, TensorType) and type_.shape is not None:
        yield type_.shape


def _map_shapes(type_: Type, change: Callable[[Shape | None], Shape | None]) -> Type:
    if isinstance(type_, SequenceType | OptionalType):
        inner = type_.element
        return type_ if inner is None else replace(type_, element=_map_shapes(inner, change))
    return replace(type_, shape=change(type_.shape)) if isinstance(type_, TensorType) else type_


def _merge(name: str, type_: Type, shape: Shape, bound: dict[str, int]) -> Type:
    if not isinstance(type_, TensorType):
        raise DataError("shape-conflict", f"{name} is a {type_}, which has no shape to fix")
    if type_.shape is None:
        return replace(type_, shape=shape)
    if len(shape) != len(type_.shape):
        raise DataError(
            "shape-conflict",
            f"{name} has {len(type_.shape)} dimensions, {format_shape(type_.shape)}; "
            f"the shape {format_shape(shape)} has {len(shape)}",
        )
    dims: list[Dim] = []
    for own, fixed in zip(type_.shape, shape, strict=True):
        known = substitute(own, bound)
        if isinstance(fixed, int) and isinstance(known, int) and fixed != known:
            raise DataError(
                "shape-conflict",
                f"{name} has shape {format_shape(type_.shape)} with {known} for {own}; "
                f"it cannot be {format_shape(shape)}",
            )
        if isinstance(fixed, int) and isinstance(own, str):
            bound[own] = fixed
        dims.append(fixed if isinstance(fixed, int) else own)
    return replace(type_, shape=tuple(dims))


def _by_role(name: str, index: int, rank: int, sizes: Sizes) -> int:
    # From the name when that tells, else from the place. Names with the axis at the end are those
    # of `name_dims`, whose other part is an input, and of exporters that number dimensions.
    word = "" if name.endswith(f".{index}") else name.lower()
    for role, parts, letters in _ROLES:
        if word in letters or any(part in word for part in parts):
            return int(getattr(sizes, role))
    if index == 0:
        return sizes.batch
    if rank <= 3:
        return sizes.length
    return sizes.channels if index == 1 else sizes.spatial
