"""Shape rules of operators that move data: reshape, slice, gather, pad and their kin.

Source: the ONNX operator pages, all versions since opset 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import dims
from optc.ir.shape_site import normal_axes, normal_axis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir.shape_site import Rule, Site
    from optc.ir.types import Dim, Shape

    Shapes = Sequence[Shape | None] | None

END: Final = 10**9
"""From here on, an index of Slice means the end: exporters write INT_MAX or a round number."""


def reshape(site: Site) -> Shapes:
    """Reshape: zeros copy, one -1 takes what is left (ONNX Reshape-5, -14 for `allowzero`)."""
    target = site.sizes(1)
    if target is None:
        length = site.length(1)
        return None if length is None else [(None,) * length]
    return [reshaped(site.shape(0), target, bool(site.integer("allowzero")))]


def reshaped(data: Shape | None, target: Sequence[Dim], allow_zero: bool) -> Shape:
    """The shape that Reshape gives.

    An entry that is a symbol or an expression counts as a size of at least one: at run time, zero
    would mean "copy" where `allow_zero` is not set. A size that is deduced from the element count
    holds wherever the other sizes are not zero; elsewhere Reshape fails.
    """
    result: list[Dim] = []
    copied: list[int] = []
    for axis, entry in enumerate(target):
        if entry == 0 and not allow_zero:
            result.append(data[axis] if data is not None and axis < len(data) else None)
            copied.append(axis)
        elif entry == -1 or not dims.at_least(entry, 0):
            result.append(None)
        else:
            result.append(entry)
    wildcards = [axis for axis, entry in enumerate(target) if entry == -1]
    if data is not None and len(wildcards) == 1:
        others = [axis for axis in range(len(target)) if axis != wildcards[0]]
        rest = [dim for axis, dim in enumerate(data) if axis not in copied]
        given = [result[axis] for axis in others if axis not in copied]
        result[wildcards[0]] = _left_over(rest, given)
    return tuple(result)


def _left_over(data: Sequence[Dim], given: Sequence[Dim]) -> Dim:
    """The size that makes the products of both sides equal; None when that cannot be said."""
    left, right = list(data), list(given)
    for dim in given:
        match = next((other for other in left if dims.equal(other, dim)), None)
        if match is not None:
            left.remove(match)
            right.remove(dim)
    return None if 0 in right else dims.floordiv(dims.product(left), dims.product(right))


def flatten(site: Site) -> Shapes:
    """Flatten: two dimensions, split at `axis`."""
    shape = site.shape(0)
    if shape is None:
        return [(None, None)]
    axis = site.integer("axis")
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis <= len(shape):
        return None
    return [(dims.product(shape[:axis]), dims.product(shape[axis:]))]


def transpose(site: Site) -> Shapes:
    """Transpose: by `perm`, reversed without."""
    shape = site.shape(0)
    perm = site.int_list("perm")
    if shape is None:
        return [(None,) * len(perm)] if perm else None
    if not perm:
        return [shape[::-1]]
    if sorted(perm) != list(range(len(shape))):
        return None
    return [tuple(shape[axis] for axis in perm)]


def squeeze(site: Site) -> Shapes:
    """Squeeze: axes in an attribute before opset 13; without axes, all that are 1."""
    shape = site.shape(0)
    if shape is None:
        return None
    if "axes" not in site.node.attributes and site.value(1) is None:
        if not all(isinstance(dim, int) for dim in shape):
            return None
        return [tuple(dim for dim in shape if dim != 1)]
    given = site.parameter("axes", 1)
    axes = None if given is None else normal_axes(given, len(shape))
    if axes is not None:
        return [tuple(dim for axis, dim in enumerate(shape) if axis not in axes)]
    length = site.length(1)
    return [(None,) * (len(shape) - length)] if length and length <= len(shape) else None


def unsqueeze(site: Site) -> Shapes:
    """Unsqueeze: axes count in the result; in an attribute before opset 13."""
    shape, given = site.shape(0), site.parameter("axes", 1)
    if shape is None or given is None:
        return None
    axes = normal_axes(given, len(shape) + len(given))
    if axes is None:
        return None
    rest = iter(shape)
    return [tuple(1 if i in axes else next(rest) for i in range(len(shape) + len(axes)))]


def concat(site: Site) -> Shapes:
    """Concat: sizes add up on the axis and agree elsewhere."""
    return concatenated(site.shapes(), site.integer("axis"))


def concatenated(shapes: Sequence[Shape | None], axis: int) -> Shapes:
    """The shape of a concatenation; the most precise operand decides the other dimensions."""
    known = [shape for shape in shapes if shape is not None]
    if not known or any(len(shape) != len(known[0]) for shape in known):
        return None
    at = normal_axis(axis, len(known[0]))
    if at is None:
        return None
    result = known[0]
    total: Dim = 0 if len(known) == len(shapes) else None
    for shape in known:
        result = dims.refine_shape(result, shape) or ()
        total = dims.add(total, shape[at])
    return [(*result[:at], total, *result[at + 1 :])]


def split(site: Site) -> Shapes:
    """Split: sizes given (attribute before opset 13, then an operand), else equal parts.

    With `num_outputs` (opset 18) the last part may be smaller.
    """
    shape = site.shape(0)
    count = len(site.node.outputs)
    if shape is None:
        return None
    axis = normal_axis(site.integer("axis"), len(shape))
    if axis is None:
        return None
    parts: Sequence[Dim] | None
    if "split" in site.node.attributes or site.value(1) is not None:
        parts = site.int_list("split") or site.sizes(1)
    else:
        parts = _equal_parts(shape[axis], count, uneven=site.opset >= 18)
    if parts is None or len(parts) != count:
        parts = [None] * count
    return [(*shape[:axis], part, *shape[axis + 1 :]) for part in parts]


def _equal_parts(size: Dim, count: int, *, uneven: bool) -> list[Dim]:
    if not uneven or (isinstance(size, int) and size % count == 0):
        return [dims.floordiv(size, count)] * count
    part = dims.ceildiv(size, count)
    return [*[part] * (count - 1), dims.sub(size, dims.mul(part, count - 1))]


def slice_(site: Site) -> Shapes:
    """Slice: bounds in attributes before opset 10, then in operands."""
    shape = site.shape(0)
    if shape is None:
        return None
    bounds = slice_bounds(site, len(shape))
    if bounds is None:
        return [(None,) * len(shape)]
    result = list(shape)
    for axis, (start, end, step) in bounds.items():
        result[axis] = sliced(shape[axis], start, end, step)
    return [tuple(result)]


def slice_bounds(site: Site, rank: int) -> dict[int, tuple[Dim, Dim, Dim]] | None:
    """Start, end and step by axis; None unless the axes are known."""
    starts, ends = _bounds(site, "starts", 1), _bounds(site, "ends", 2)
    count = next((len(part) for part in (starts, ends) if part is not None), None)
    if count is None:
        return None
    axes: Sequence[int] | None = range(count)
    if "axes" in site.node.attributes or site.value(3) is not None:
        axes = site.parameter("axes", 3)
    steps = site.sizes(4) if site.value(4) is not None else (1,) * count
    found = None if axes is None else normal_axes(axes, rank)
    if found is None or len(found) != count:
        return None
    columns = [(None,) * count if part is None else part for part in (starts, ends, steps)]
    if any(len(column) != count for column in columns):
        return None
    return dict(zip(found, zip(*columns, strict=True), strict=True))


def _bounds(site: Site, name: str, index: int) -> Sequence[Dim] | None:
    return site.int_list(name) if name in site.node.attributes else site.sizes(index)


def sliced(size: Dim, start: Dim, end: Dim, step: Dim) -> Dim:
    """The number of elements that a slice of a dimension has."""
    if not isinstance(step, int) or step == 0 or start is None or end is None:
        return None
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int):
        return len(range(size)[start:end:step])
    if step < 0:
        from_last = isinstance(start, int) and (start == -1 or start >= END)
        whole = from_last and isinstance(end, int) and end <= -END
        return dims.ceildiv(size, -step) if whole else None
    return dims.ceildiv(dims.maximum(_span(size, start, _clamped(end, size)), 0), step)


def _span(size: Dim, start: int | str, end: Dim) -> Dim:
    """The distance from the start to a clamped end; not above zero for an empty slice."""
    if isinstance(start, str):
        return dims.sub(end, start) if dims.at_least(start, 0) else None
    if start >= 0:
        return 0 if start >= END else dims.sub(end, start)
    if start <= -END:
        return end
    # end - max(first, 0), in the form that does not name the size twice
    return dims.minimum(dims.sub(end, dims.add(size, start)), end)


def _clamped(index: int | str, size: Dim) -> Dim:
    if isinstance(index, str):
        if dims.equal(index, size):
            return size
        return dims.minimum(index, size) if dims.at_least(index, 0) else None
    if index >= END:
        return size
    if index >= 0:
        return 0 if index == 0 else dims.minimum(index, size)
    return 0 if index <= -END else dims.maximum(dims.add(size, index), 0)


def gather(site: Site) -> Shapes:
    """Gather: the axis is replaced by the shape of the indices."""
    data, indices = site.shape(0), site.shape(1)
    if data is None or indices is None:
        return None
    axis = normal_axis(site.integer("axis"), len(data))
    return None if axis is None else [(*data[:axis], *indices, *data[axis + 1 :])]


def gather_nd(site: Site) -> Shapes:
    """GatherND: the last dimension of the indices says how many axes are indexed."""
    data, indices = site.shape(0), site.shape(1)
    if data is None or not indices or not isinstance(indices[-1], int):
        return None
    start = site.integer("batch_dims") + indices[-1]
    return [(*indices[:-1], *data[start:])] if start <= len(data) else None


def expand(site: Site) -> Shapes:
    """Expand: the shape broadcast with the given one."""
    data, target = site.shape(0), site.sizes(1)
    if target is None:
        length = site.length(1)
        if data is None or length is None:
            return None
        target = (None,) * length
    sizes = tuple(size if dims.at_least(size, 0) else None for size in target)
    return [dims.broadcast_shapes(data, sizes)]


def tile(site: Site) -> Shapes:
    """Tile: sizes times repeats."""
    shape, repeats = site.shape(0), site.sizes(1)
    if shape is None:
        length = site.length(1)
        return None if length is None else [(None,) * length]
    if repeats is None or len(repeats) != len(shape):
        return [(None,) * len(shape)]
    return [tuple(map(dims.mul, shape, repeats))]


def pad(site: Site) -> Shapes:
    """Pad: sizes plus both paddings; an attribute before opset 11, axes since opset 18."""
    shape = site.shape(0)
    if shape is None:
        return None
    amounts = _bounds(site, "pads", 1)
    axes: Sequence[int] | None = range(len(shape))
    if site.value(3) is not None:
        given = site.integers(3)
        axes = None if given is None else normal_axes(given, len(shape))
    if amounts is None or axes is None or len(amounts) != 2 * len(axes):
        return [(None,) * len(shape)]
    result = list(shape)
    for index, axis in enumerate(axes):
        both = dims.add(amounts[index], amounts[index + len(axes)])
        result[axis] = dims.add(shape[axis], both)
    return [tuple(result)]


def depth_to_space(site: Site) -> Shapes:
    """DepthToSpace: [N, C, H, W] to [N, C/b², H·b, W·b]."""
    return _blocks(site, grow=True)


def space_to_depth(site: Site) -> Shapes:
    """SpaceToDepth: [N, C, H, W] to [N, C·b², H/b, W/b]."""
    return _blocks(site, grow=False)


def _blocks(site: Site, *, grow: bool) -> Shapes:
    shape, block = site.shape(0), site.integer("blocksize")
    if shape is None or len(shape) != 4 or block <= 0:
        return None
    batch, channels, height, width = shape
    if grow:
        return [
            (
                batch,
                dims.floordiv(channels, block * block),
                dims.mul(height, block),
                dims.mul(width, block),
            )
        ]
    return [
        (
            batch,
            dims.mul(channels, block * block),
            dims.floordiv(height, block),
            dims.floordiv(width, block),
        )
    ]


def compress(site: Site) -> Shapes:
    """Compress: how many are kept depends on the condition."""
    shape = site.shape(0)
    if "axis" not in site.node.attributes:
        return [(None,)]
    at = None if shape is None else normal_axis(site.integer("axis"), len(shape))
    return None if shape is None or at is None else [(*shape[:at], None, *shape[at + 1 :])]


RULES: Final[Mapping[str, Rule]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "GatherND": gather_nd,
    "Expand": expand,
    "Tile": tile,
    "Pad": pad,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Compress": compress,
}
