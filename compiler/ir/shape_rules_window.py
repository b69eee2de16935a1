"""Shape rules of operators with windows over spatial axes: convolution, pooling, resize.

Source: the ONNX operator pages Conv, ConvTranspose, MaxPool, AveragePool and Resize, all versions
since opset 7. Where runtimes and versions of the specification disagree, nothing is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir import dims
from optc.ir.shape_site import normal_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir.shape_site import Rule, Site
    from optc.ir.types import Dim, Shape

    Shapes = Sequence[Shape | None] | None

_MAX_DENOMINATOR: Final = 64


@dataclass(frozen=True, slots=True)
class Windows:
    """The window attributes of a node, by spatial axis.

    Attributes:
        kernel: window sizes; None where not known.
        strides: steps.
        dilations: distances between the elements of a window.
        begin: paddings before.
        end: paddings after.
        auto_pad: NOTSET, VALID, SAME_UPPER or SAME_LOWER.
    """

    kernel: tuple[Dim, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    auto_pad: str

    def extent(self, axis: int) -> Dim:
        """The size of a dilated window."""
        return dims.add(dims.mul(dims.sub(self.kernel[axis], 1), self.dilations[axis]), 1)


def windows(site: Site, kernel: Sequence[Dim]) -> Windows | None:
    """The window attributes of a node; None when they do not fit the number of axes."""
    rank = len(kernel)
    pads = site.int_list("pads", 2 * rank, 0)
    auto_pad = site.text("auto_pad", "NOTSET")
    if auto_pad != "NOTSET":
        pads = (0,) * (2 * rank)
    found = Windows(
        tuple(kernel),
        site.int_list("strides", rank, 1),
        site.int_list("dilations", rank, 1),
        pads[:rank],
        pads[rank:],
        auto_pad,
    )
    lengths = {len(found.strides), len(found.dilations), len(found.begin), len(found.end)}
    fits = lengths == {rank} and min((*found.strides, *found.dilations), default=1) > 0
    return found if fits else None


def _slid(size: Dim, window: Windows, axis: int, *, ceil: bool) -> Dim:
    """How many windows fit along an axis, which is at least as long as the window.

    For a shorter one the specification says 0 and onnxruntime, which rounds toward zero, says 1.
    """
    stride, extent = window.strides[axis], window.extent(axis)
    if window.auto_pad.startswith("SAME"):
        return dims.ceildiv(size, stride)
    begin, end = window.begin[axis], window.end[axis]
    room = dims.sub(dims.add(size, begin + end), extent)
    if isinstance(room, int) and room < 0:
        return None
    down = dims.add(dims.floordiv(room, stride), 1)
    if not ceil:
        return down
    up = dims.add(dims.ceildiv(room, stride), 1)
    # A last window that would start in the padding behind is dropped by onnxruntime and by
    # newer versions of the specification, and kept by others. See where it cannot come to that.
    inside = isinstance(extent, int) and end + stride <= extent
    return up if inside or up == down else None


def _kernel(site: Site, weight: Shape | None, rank: int) -> Sequence[Dim] | None:
    if "kernel_shape" in site.node.attributes:
        kernel: Sequence[Dim] = site.int_list("kernel_shape")
    elif weight is not None:
        kernel = weight[2:]
    else:
        kernel = (None,) * rank
    return kernel if len(kernel) == rank else None


def _convolved(site: Site, data: Shape | None, weight: Shape | None) -> Shapes:
    if data is None and weight is None:
        return None
    rank = len(data or weight or ()) - 2
    kernel = _kernel(site, weight, rank) if rank > 0 else None
    if kernel is None or (data is not None and weight is not None and len(data) != len(weight)):
        return None
    window = windows(site, kernel)
    if window is None:
        return None
    batch = data[0] if data is not None else None
    channels = weight[0] if weight is not None else None
    sizes = data[2:] if data is not None else (None,) * rank
    slid = (_slid(size, window, axis, ceil=False) for axis, size in enumerate(sizes))
    return [(batch, channels, *slid)]


def conv(site: Site) -> Shapes:
    """Conv, ConvInteger, DeformConv: [N, M, floor((size + pads - extent)/stride) + 1 …]."""
    return _convolved(site, site.shape(0), site.shape(1))


def qlinear_conv(site: Site) -> Shapes:
    """QLinearConv: as Conv, the weight is operand 3."""
    return _convolved(site, site.shape(0), site.shape(3))


def conv_transpose(site: Site) -> Shapes:
    """ConvTranspose: stride·(size - 1) + output_padding + extent - pads, or `output_shape`."""
    data, weight = site.shape(0), site.shape(1)
    if data is None or len(data) < 3:
        return None
    rank = len(data) - 2
    kernel = _kernel(site, weight, rank)
    window = None if kernel is None else windows(site, kernel)
    channels = dims.mul(weight[1], site.integer("group", 1)) if weight and len(weight) > 1 else None
    if window is None:
        return None
    fixed = site.int_list("output_shape")
    if len(fixed) == rank:
        return [(data[0], channels, *fixed)]
    extra = site.int_list("output_padding", rank, 0)
    if fixed or len(extra) != rank or window.auto_pad.startswith("SAME"):
        return [(data[0], channels, *(None,) * rank)]
    sizes = []
    for axis, size in enumerate(data[2:]):
        moved = dims.mul(dims.sub(size, 1), window.strides[axis])
        padding = extra[axis] - window.begin[axis] - window.end[axis]
        sizes.append(dims.add(dims.add(moved, window.extent(axis)), padding))
    return [(data[0], channels, *sizes)]


def pool(site: Site) -> Shapes:
    """MaxPool, AveragePool, LpPool: channels stay; MaxPool's indices have the same shape."""
    shape = site.shape(0)
    if shape is None or len(shape) < 3:
        return None
    rank = len(shape) - 2
    kernel = _kernel(site, None, rank)
    window = None if kernel is None else windows(site, kernel)
    if window is None:
        return None
    if window.auto_pad.startswith("SAME") and set(window.dilations) != {1}:
        # onnxruntime leaves the dilation out of the padding, the specification does not.
        return [(*shape[:2], *(None,) * rank)] * len(site.node.outputs)
    ceil = bool(site.integer("ceil_mode"))
    slid = (_slid(size, window, axis, ceil=ceil) for axis, size in enumerate(shape[2:]))
    result = (*shape[:2], *slid)
    return [result] * len(site.node.outputs)


def global_pool(site: Site) -> Shapes:
    """Global pooling: every spatial axis becomes 1."""
    shape = site.shape(0)
    return None if shape is None else [(*shape[:2], *(1,) * (len(shape) - 2))]


def roi_pool(site: Site) -> Shapes:
    """RoiAlign and MaxRoiPool: one result per region."""
    data, rois = site.shape(0), site.shape(1)
    if site.node.op_type == "MaxRoiPool":
        sizes = site.int_list("pooled_shape")
    else:
        sizes = (site.integer("output_height", 1), site.integer("output_width", 1))
    if len(sizes) != 2:
        return None
    return [(rois[0] if rois else None, data[1] if data and len(data) > 1 else None, *sizes)]


def grid_sample(site: Site) -> Shapes:
    """GridSample: batch and channels of the data, spatial axes of the grid."""
    data, grid = site.shape(0), site.shape(1)
    if data is None or grid is None or len(data) != len(grid) or len(data) < 3:
        return None
    return [(dims.refine(data[0], grid[0]), data[1], *grid[1:-1])]


def upsample(site: Site) -> Shapes:
    """Upsample: scales in an attribute before opset 9, then in an operand."""
    shape = site.shape(0)
    if shape is None:
        return None
    written = site.attr("scales")
    scales = tuple(written) if isinstance(written, tuple) else _floats(site, 1)
    if scales is None or len(scales) != len(shape):
        return [(None,) * len(shape)]
    return [tuple(map(resized, shape, scales))]


def resize(site: Site) -> Shapes:
    """Resize: by scales or sizes, for `axes` since opset 18."""
    shape = site.shape(0)
    if shape is None:
        return None
    if site.opset < 11:
        return upsample(site)
    axes = normal_axes(site.int_list("axes"), len(shape)) or list(range(len(shape)))
    result: list[Dim] = [None if axis in axes else dim for axis, dim in enumerate(shape)]
    unknown: Shapes = [tuple(result)]
    if site.text("coordinate_transformation_mode") == "tf_crop_and_resize":
        return unknown
    if has_sizes(site):
        sizes = site.sizes(3)
        policy = site.text("keep_aspect_ratio_policy", "stretch")
        if sizes is None or len(sizes) != len(axes) or policy != "stretch":
            return unknown
        for axis, size in zip(axes, sizes, strict=True):
            result[axis] = size
        return [tuple(result)]
    scales = _floats(site, 2)
    if scales is None or len(scales) != len(axes):
        return unknown
    for axis, scale in zip(axes, scales, strict=True):
        result[axis] = resized(shape[axis], scale)
    return [tuple(result)]


def has_sizes(site: Site) -> bool:
    """Whether Resize goes by sizes. Opset 11 and 12 give an empty tensor for what is left out."""
    sizes = site.value(3)
    return sizes is not None and site.length(3) != 0


def _floats(site: Site, index: int) -> tuple[float, ...] | None:
    found = site.partial(index)
    if found is None or not found.is_known:
        return None
    return tuple(float(item) for item in found.items)  # type: ignore[arg-type] # numbers


def resized(size: Dim, scale: float) -> Dim:
    """``floor(size · scale)`` where every way to compute it agrees.

    Runtimes multiply in float32 or float64. A fraction with a small power of two below the line is
    exact in both.
    """
    if not np.isfinite(scale) or scale <= 0:
        return None
    ratio = Fraction(scale)
    if ratio.denominator <= _MAX_DENOMINATOR:
        return dims.floordiv(dims.mul(size, ratio.numerator), ratio.denominator)
    if not isinstance(size, int):
        return None
    single = int(np.float32(size) * np.float32(scale))
    return single if single == int(size * scale) else None


RULES: Final[Mapping[str, Rule]] = {
    "Conv": conv,
    "ConvInteger": conv,
    "DeformConv": conv,
    "QLinearConv": qlinear_conv,
    "ConvTranspose": conv_transpose,
    "MaxPool": pool,
    "AveragePool": pool,
    "LpPool": pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "GlobalLpPool": global_pool,
    "MaxRoiPool": roi_pool,
    "RoiAlign": roi_pool,
    "GridSample": grid_sample,
    "Resize": resize,
    "Upsample": upsample,
}
