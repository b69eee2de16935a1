"""What is known of the elements of small tensors: the arithmetic that exporters do on shapes.

One rule per operator gives the elements of its results from those of its operands; an element may
be a symbol or an expression. Integer results outside the element type's range are unknown.
Source: the ONNX operator pages, all versions since opset 7.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from optc.ir import dims
from optc.ir.shape_elements import ELEMENTWISE, UNARY_FLOAT, cast_item, fits
from optc.ir.shape_rules import shape_range
from optc.ir.shape_rules_move import slice_bounds
from optc.ir.shape_site import MAX_ITEMS, Partial, identified_shape, normal_axis, partial
from optc.ir.tensor import Tensor
from optc.ir.types import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir.shape_site import Item, Site
    from optc.ir.types import Shape

Result: TypeAlias = "Partial | Sequence[Partial] | None"
"""The first result, or all of them; None when nothing is known."""


def values_of(site: Site, shapes: Sequence[Shape | None]) -> Sequence[Partial]:
    """What is known of the results of a node whose result shapes are `shapes`; empty if nothing."""
    rule = RULES.get(site.node.op_type)
    if rule is None or site.node.domain:
        return ()
    found = rule(site, shapes)
    results = () if found is None else (found,) if isinstance(found, Partial) else tuple(found)
    return results if all(part.array.size <= MAX_ITEMS for part in results) else ()


# ---- elementwise -------------------------------------------------------------------------------


def _elementwise(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    parts = _operands(site)
    if not parts:
        return None
    dtype = parts[-1].dtype
    try:
        arrays = np.broadcast_arrays(*(part.array for part in parts))
    except ValueError:
        return None
    if arrays[0].size > MAX_ITEMS:
        return None
    rule = ELEMENTWISE[site.node.op_type]
    columns = zip(*(array.reshape(-1).tolist() for array in arrays), strict=True)
    items = [rule(site, dtype, *column) for column in columns]
    result = DType.BOOL if site.node.op_type in _PREDICATES else dtype
    return partial(
        result, [item if fits(item, result) else None for item in items], arrays[0].shape
    )


def _operands(site: Site) -> list[Partial]:
    """What is known of all operands, or nothing when one is not known at all."""
    if not all(value is not None and site.may_know(value) for value in site.operands):
        return []
    found = [site.partial(index) for index in range(len(site.operands))]
    known = [part for part in found if part is not None]
    return known if len(known) == len(found) else []


def _unary_float(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    part = site.partial(0)
    if part is None or not part.dtype.is_float:
        return None
    function, scalar = UNARY_FLOAT[site.node.op_type], part.dtype.numpy.type
    with np.errstate(all="ignore"):
        items = [None if item is None else float(function(scalar(item))) for item in part.items]
    return partial(part.dtype, items, part.shape)


def _cast(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    part = site.partial(0)
    number = site.integer("to")
    if part is None or number not in _CASTS:
        return None
    dtype = _CASTS[number]
    return partial(dtype, [cast_item(item, dtype) for item in part.items], part.shape)


_CASTS: Final = {
    dtype.onnx: dtype for dtype in (DType.I64, DType.I32, DType.BOOL, DType.F32, DType.F64)
}

# ---- moving ------------------------------------------------------------------------------------


def _reshaped(site: Site, shapes: Sequence[Shape | None]) -> Result:
    part, target = site.partial(0), shapes[0] if shapes else None
    if part is None or target is None:
        return None
    if part.array.size == 1 and all(dim in (1, None) for dim in target):
        return Partial(part.dtype, part.array.reshape((1,) * len(target)))
    if len(target) == 1 and target[0] is None:
        return Partial(part.dtype, part.array.reshape(-1))
    sizes = [dim for dim in target if isinstance(dim, int)]
    if len(sizes) != len(target) or math.prod(sizes) != part.array.size:
        return None
    return Partial(part.dtype, part.array.reshape(sizes))


def _transpose(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    part = site.partial(0)
    if part is None:
        return None
    perm = site.int_list("perm") or tuple(reversed(range(part.array.ndim)))
    if sorted(perm) != list(range(part.array.ndim)):
        return None
    return Partial(part.dtype, part.array.transpose(perm))


def _gather(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    part, indices = site.partial(0), site.partial(1)
    if part is None or indices is None or not indices.is_known:
        return None
    axis = normal_axis(site.integer("axis"), part.array.ndim)
    if axis is None:
        return None
    size = part.array.shape[axis]
    places = indices.array.astype(np.int64)
    if places.size and (places.min() < -size or places.max() >= size):
        return None
    return Partial(part.dtype, np.asarray(np.take(part.array, places, axis=axis), dtype=object))


def _slice(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    part = site.partial(0)
    bounds = None if part is None else slice_bounds(site, part.array.ndim)
    if part is None or bounds is None:
        return None
    cut = [slice(None)] * part.array.ndim
    for axis, (start, end, step) in bounds.items():
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(step, int)):
            return None
        if step == 0:
            return None
        cut[axis] = slice(start, end, step)
    return Partial(part.dtype, part.array[tuple(cut)])


def _concat(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    parts: list[Partial | int] = []
    for index in range(len(site.operands)):
        part = site.partial(index)
        length = site.length(index)
        if part is not None:
            parts.append(part)
        elif length is not None and length <= MAX_ITEMS:
            parts.append(length)  # a vector of which only the length is known
        else:
            return None
    known = [part for part in parts if isinstance(part, Partial)]
    if not known or any(part.array.ndim == 0 for part in known):
        return None
    arrays = [p.array if isinstance(p, Partial) else np.full(p, None, dtype=object) for p in parts]
    axis = normal_axis(site.integer("axis"), known[0].array.ndim)
    if axis is None or len({array.ndim for array in arrays}) != 1:
        return None
    if len({(*array.shape[:axis], *array.shape[axis + 1 :]) for array in arrays}) != 1:
        return None
    return Partial(known[0].dtype, np.concatenate(arrays, axis=axis))


def _split(site: Site, shapes: Sequence[Shape | None]) -> Result:
    part = site.partial(0)
    axis = None if part is None else normal_axis(site.integer("axis"), part.array.ndim)
    if part is None or axis is None or any(shape is None for shape in shapes):
        return None
    sizes = [shape[axis] for shape in shapes if shape is not None]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) != len(sizes) or sum(known) != part.array.shape[axis]:
        return None
    cuts = np.cumsum(known)[:-1].tolist()
    return [Partial(part.dtype, array) for array in np.split(part.array, cuts, axis=axis)]


def _expand(site: Site, shapes: Sequence[Shape | None]) -> Result:
    part, target = site.partial(0), shapes[0] if shapes else None
    sizes = [dim for dim in target or () if isinstance(dim, int)]
    if part is None or target is None or len(sizes) != len(target) or not _is_small(sizes):
        return None
    try:
        array = np.broadcast_to(part.array, sizes)
    except ValueError:
        return None
    return Partial(part.dtype, array)


def _tile(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    part, repeats = site.partial(0), site.integers(1)
    if part is None or repeats is None or len(repeats) != part.array.ndim:
        return None
    if min(repeats, default=1) < 0 or not _is_small((part.array.size, *repeats)):
        return None
    return Partial(part.dtype, np.tile(part.array, repeats))


def _is_small(sizes: Sequence[int]) -> bool:
    return math.prod(sizes) <= MAX_ITEMS


# ---- generating and reducing -------------------------------------------------------------------


def _shape(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    value = site.value(0)
    shape = None if value is None else identified_shape(site.graph, value)
    if shape is None:
        return None
    chosen = shape[shape_range(site)]
    return partial(DType.I64, list(chosen), (len(chosen),))


def _size(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    shape = site.shape(0)
    return None if shape is None else partial(DType.I64, dims.product(shape))


def _constant(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    value = site.node.outputs[0] if site.node.outputs else None
    return None if value is None else site.of(value)


def _filled(site: Site, shapes: Sequence[Shape | None]) -> Result:
    sizes = [dim for dim in shapes[0] or () if isinstance(dim, int)] if shapes else []
    if not shapes or shapes[0] is None or len(sizes) != len(shapes[0]) or not _is_small(sizes):
        return None
    fill = site.node.get("value")
    if not isinstance(fill, Tensor):
        return partial(DType.F32, [0.0] * math.prod(sizes), sizes)
    if fill.elements != 1 or fill.dtype not in _CASTS.values():
        return None
    return partial(fill.dtype, [fill.numpy().reshape(-1).tolist()[0]] * math.prod(sizes), sizes)


def _range(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    bounds = [site.integers(index) for index in range(3)]
    first = site.partial(0)
    if first is None or any(bound is None or len(bound) != 1 for bound in bounds):
        return None
    start, limit, step = (bound[0] for bound in bounds if bound is not None)
    if step == 0 or len(range(start, limit, step)) > MAX_ITEMS:
        return None
    items = list(range(start, limit, step))
    return partial(first.dtype, items, (len(items),))


def _reduce(site: Site, shapes: Sequence[Shape | None]) -> Result:
    """Reductions of a whole vector or scalar of integers."""
    part, shape = site.partial(0), shapes[0] if shapes else None
    if part is None or shape is None or not part.dtype.is_integer or part.array.ndim > 1:
        return None
    if any(dim != 1 for dim in shape):
        return None
    if not part.array.size and site.node.op_type in ("ReduceMax", "ReduceMin"):
        return None
    item = _REDUCTIONS[site.node.op_type]([dims.clean(_as_dim(item)) for item in part.items])
    return partial(part.dtype, item if fits(item, part.dtype) else None, (1,) * len(shape))


def _as_dim(item: Item) -> int | str | None:
    return None if isinstance(item, float) else item


def _total(items: list[Any]) -> Item:
    total: Any = 0
    for item in items:
        total = dims.add(total, item)
    return total  # type: ignore[no-any-return] # a dimension


def _folded(combine: Callable[[Any, Any], Any]) -> Callable[[list[Any]], Item]:
    def fold(items: list[Any]) -> Item:
        result = items[0]
        for item in items[1:]:
            result = combine(result, item)
        return result  # type: ignore[no-any-return] # a dimension

    return fold


_REDUCTIONS: Final[Mapping[str, Callable[[list[Any]], Item]]] = {
    "ReduceProd": dims.product,
    "ReduceSum": _total,
    "ReduceMax": _folded(dims.maximum),
    "ReduceMin": _folded(dims.minimum),
}


def _non_zero(site: Site, shapes: Sequence[Shape | None]) -> Result:
    del shapes
    part = site.partial(0)
    if part is None or not part.is_known or part.array.ndim == 0:
        return None
    places = np.stack(np.nonzero(part.array.astype(part.dtype.numpy)))
    return Partial(DType.I64, places.astype(object))


_PREDICATES: Final = frozenset(
    {"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not"}
)

RULES: Final[Mapping[str, Callable[[Site, Sequence[Shape | None]], Result]]] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(UNARY_FLOAT, _unary_float),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"), _reshaped),
    "Cast": _cast,
    "Transpose": _transpose,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "Shape": _shape,
    "Size": _size,
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Range": _range,
    "NonZero": _non_zero,
}

SOURCES: Final = frozenset({"Shape", "Size", "Constant", "ConstantOfShape"})
"""Operators that know something without knowing elements of their operands."""

FROM_FIRST: Final = frozenset(
    {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Cast", "Transpose", "Gather"}
    | {"Slice", "Split", "Expand", "Tile", "NonZero"}
    | UNARY_FLOAT.keys()
    | _REDUCTIONS.keys()
)
"""Operators that know nothing without knowing elements of operand 0."""
