"""Shape rules of operators that compute: elementwise, matrix products, reductions, recurrences.

Source: the ONNX operator pages, all versions since opset 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import dims
from optc.ir.shape_site import constant_tensor, normal_axes, normal_axis, shape_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir.graph import Graph
    from optc.ir.shape_site import Rule, Site
    from optc.ir.types import Dim, Shape

    Shapes = Sequence[Shape | None] | None


def same(site: Site) -> Shapes:
    """The first result has the shape of the first operand."""
    return [site.shape(0)]


def same_all(site: Site) -> Shapes:
    """Every result has the shape of the first operand."""
    return [site.shape(0)] * len(site.node.outputs)


def broadcast(site: Site) -> Shapes:
    """Multidirectional broadcasting of all operands."""
    return [dims.broadcast_shapes(*site.shapes())]


def like_second(site: Site) -> Shapes:
    """GatherElements: the shape of the indices."""
    return [site.shape(1)]


# ---- matrix products ---------------------------------------------------------------------------


def matmul(site: Site) -> Shapes:
    """MatMul and MatMulInteger, as numpy.matmul."""
    return multiplied(site.shape(0), site.shape(1))


def qlinear_matmul(site: Site) -> Shapes:
    """QLinearMatMul: as MatMul, the second matrix is operand 3."""
    return multiplied(site.shape(0), site.shape(3))


def multiplied(a: Shape | None, b: Shape | None) -> Shapes:
    """The shape of a matrix product; vectors lose the axis that numpy.matmul adds."""
    if not a or not b:
        return None
    left = a if len(a) > 1 else (1, *a)
    right = b if len(b) > 1 else (*b, 1)
    batch = dims.broadcast_shapes(left[:-2], right[:-2])
    if batch is None:
        return None
    rows = (left[-2],) if len(a) > 1 else ()
    columns = (right[-1],) if len(b) > 1 else ()
    return [(*batch, *rows, *columns)]


def gemm(site: Site) -> Shapes:
    """Gemm: two matrices, each perhaps transposed."""
    a, b = site.shape(0), site.shape(1)
    rows = a[1 if site.integer("transA") else 0] if a and len(a) == 2 else None
    columns = b[0 if site.integer("transB") else 1] if b and len(b) == 2 else None
    return [(rows, columns)]


def einsum(site: Site) -> Shapes:
    """Einsum: letters name dimensions, an ellipsis stands for broadcast ones."""
    equation = site.text("equation").replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not left or len(terms) != len(site.operands):
        return None
    sizes: dict[str, Dim] = {}
    batch: Shape | None = ()
    for term, shape in zip(terms, site.shapes(), strict=True):
        inner = _einsum_term(term, shape, sizes)
        batch = dims.broadcast_shapes(batch, inner)
    if not arrow:
        letters = [letter for letter in left if letter.isalpha()]
        once = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    head, dots, tail = right.partition("...")
    if (dots and batch is None) or not set(head + tail) <= sizes.keys():
        return None
    middle = batch if dots and batch else ()
    return [(*(sizes[x] for x in head), *middle, *(sizes[x] for x in tail))]


def _einsum_term(term: str, shape: Shape | None, sizes: dict[str, Dim]) -> Shape | None:
    """Note the sizes of the letters of one operand; return the dimensions of its ellipsis."""
    head, dots, tail = term.partition("...")
    fits = shape is not None and (
        len(shape) >= len(head + tail) if dots else len(shape) == len(head)
    )
    if not fits or shape is None:
        sizes.update({letter: sizes.get(letter) for letter in head + tail})
        return None if dots else ()
    end = len(shape) - len(tail)
    for letter, dim in zip(head + tail, shape[: len(head)] + shape[end:], strict=True):
        sizes[letter] = dims.broadcast(sizes.get(letter, 1), dim)
    return shape[len(head) : end]


# ---- reductions --------------------------------------------------------------------------------


def reduce(site: Site) -> Shapes:
    """Reductions: axes in an attribute before opset 13 or 18, then in an operand."""
    shape = site.shape(0)
    if shape is None:
        return None
    keep = bool(site.integer("keepdims", 1))
    axes: Sequence[int] | None
    if "axes" in site.node.attributes or site.value(1) is not None:
        axes = site.parameter("axes", 1)
        if axes is None:
            return [(None,) * len(shape)] if keep else None
    else:
        axes = ()
    if not axes:
        if site.integer("noop_with_empty_axes"):
            return [shape]
        axes = range(len(shape))
    return _reduced(shape, axes, keep=keep)


def _reduced(shape: Shape, axes: Sequence[int], *, keep: bool) -> Shapes:
    gone = normal_axes(axes, len(shape))
    if gone is None:
        return None
    if keep:
        return [tuple(1 if axis in gone else dim for axis, dim in enumerate(shape))]
    return [tuple(dim for axis, dim in enumerate(shape) if axis not in gone)]


def arg_extreme(site: Site) -> Shapes:
    """ArgMax and ArgMin: one axis."""
    shape = site.shape(0)
    if shape is None:
        return None
    return _reduced(shape, (site.integer("axis"),), keep=bool(site.integer("keepdims", 1)))


def top_k(site: Site) -> Shapes:
    """TopK: k in an attribute before opset 10."""
    shape = site.shape(0)
    axis = None if shape is None else normal_axis(site.integer("axis", -1), len(shape))
    if shape is None or axis is None:
        return None
    if "k" in site.node.attributes:
        size: Dim = site.integer("k")
    else:
        sizes = site.sizes(1)
        size = sizes[0] if sizes else None
    size = size if dims.at_least(size, 0) else None
    return [(*shape[:axis], size, *shape[axis + 1 :])] * 2


def one_hot(site: Site) -> Shapes:
    """OneHot: a new axis of size `depth`."""
    shape, depth = site.shape(0), site.sizes(1)
    if shape is None:
        return None
    axis = normal_axis(site.integer("axis", -1), len(shape) + 1)
    size = depth[0] if depth and dims.at_least(depth[0], 0) else None
    return None if axis is None else [(*shape[:axis], size, *shape[axis:])]


def layer_norm(site: Site) -> Shapes:
    """LayerNormalization: mean and inverse deviation keep the axes before `axis`."""
    shape = site.shape(0)
    if shape is None:
        return None
    axis = normal_axis(site.integer("axis", -1), len(shape))
    if axis is None:
        return [shape]
    statistics = (*shape[:axis], *(1,) * (len(shape) - axis))
    return [shape, statistics, statistics]


def batch_norm(site: Site) -> Shapes:
    """BatchNormalization: running statistics have one element per channel."""
    shape = site.shape(0)
    channels = None if shape is None or len(shape) < 2 else (shape[1],)
    return [shape, *[channels] * (len(site.node.outputs) - 1)]


# ---- generators --------------------------------------------------------------------------------


def shape(site: Site) -> Shapes:
    """Shape: as many elements as `start` and `end` (opset 15) leave of the rank."""
    found = site.shape(0)
    if found is None:
        return [(None,)]
    return [(len(found[shape_range(site)]),)]


def shape_range(site: Site) -> slice:
    """The part of the dimensions that a Shape node takes; clamped like a Python slice."""
    return slice(site.integer("start"), site.node.get("end"))


def scalar(site: Site) -> Shapes:
    """Every result is a scalar."""
    return [()] * len(site.node.outputs)


def constant(site: Site) -> Shapes:
    """Constant: the shape of its value."""
    value = site.node.outputs[0] if site.node.outputs else None
    tensor = None if value is None else constant_tensor(value)
    return None if tensor is None else [tensor.shape]


def filled(site: Site) -> Shapes:
    """ConstantOfShape: the operand is the shape."""
    sizes = site.sizes(0)
    if sizes is None:
        length = site.length(0)
        return None if length is None else [(None,) * length]
    return [tuple(size if dims.at_least(size, 0) else None for size in sizes)]


def random(site: Site) -> Shapes:
    """RandomNormal and RandomUniform: an attribute is the shape."""
    found = site.int_list("shape")
    return [found] if found else None


def range_(site: Site) -> Shapes:
    """Range: max(0, ceil((limit - start)/delta)) elements."""
    start, limit, delta = (site.partial(index) for index in range(3))
    if start is None or limit is None or delta is None or not start.dtype.is_integer:
        return [(None,)]
    first, last, step = (dims.clean(part.items[0]) for part in (start, limit, delta))  # type: ignore[arg-type] # integers
    if not isinstance(step, int) or step == 0:
        return [(None,)]
    way = dims.sub(last, first) if step > 0 else dims.sub(first, last)
    return [(dims.maximum(dims.ceildiv(way, abs(step)), 0),)]


def non_zero(site: Site) -> Shapes:
    """NonZero: one row per axis; for a scalar the specification and runtimes disagree."""
    found = site.shape(0)
    return [(None, None)] if found is None else [(len(found) or None, None)]


def non_max_suppression(site: Site) -> Shapes:
    """NonMaxSuppression: rows of batch, class and box index."""
    del site
    return [(None, 3)]


# ---- recurrences, attention, control flow ------------------------------------------------------


def recurrent(site: Site) -> Shapes:
    """LSTM, GRU, RNN: [seq, dirs, batch, hidden] and [dirs, batch, hidden], or by `layout` 1."""
    data, weight = site.shape(0), site.shape(2)
    directions = 2 if site.text("direction") == "bidirectional" else 1
    hidden: Dim = weight[2] if weight and len(weight) == 3 else None
    hidden = site.integer("hidden_size") or hidden
    first, second = data[:2] if data and len(data) == 3 else (None, None)
    state: Shape
    if site.integer("layout"):
        state = (first, directions, hidden)
        return [(first, second, directions, hidden), state, state]
    state = (directions, second, hidden)
    return [(first, directions, second, hidden), state, state]


def attention(site: Site) -> Shapes:
    """Attention: the queries' shape with the values' head size. Caches are left open."""
    query, value = site.shape(0), site.shape(2)
    if query is None or value is None or len(query) != len(value):
        return None
    if len(query) == 4:
        return [(*query[:3], value[3])]
    heads, kv_heads = site.integer("q_num_heads"), site.integer("kv_num_heads")
    if len(query) != 3 or heads <= 0 or kv_heads <= 0:
        return None
    return [(*query[:2], dims.mul(dims.floordiv(value[2], kv_heads), heads))]


def if_(site: Site) -> Shapes:
    """If: what both branches agree on."""
    branches = [graph for _, graph in site.node.subgraphs()]
    if len(branches) != 2 or any(
        len(graph.outputs) != len(site.node.outputs) for graph in branches
    ):
        return None
    results = (_results(graph) for graph in branches)
    return [_common(a, b) for a, b in zip(*results, strict=True)]


def _results(graph: Graph) -> list[Shape | None]:
    values = (graph.operand(node, 0) for node in graph.outputs)
    return [None if value is None else shape_of(graph, value) for value in values]


def _common(a: Shape | None, b: Shape | None) -> Shape | None:
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if dims.equal(x, y) else None for x, y in zip(a, b, strict=True))


def center_crop_pad(site: Site) -> Shapes:
    """CenterCropPad: the sizes of `axes` are given."""
    found, sizes = site.shape(0), site.sizes(1)
    if found is None:
        return None
    axes = normal_axes(site.int_list("axes"), len(found)) or list(range(len(found)))
    if sizes is None or len(sizes) != len(axes):
        return [(None,) * len(found)]
    given = dict(zip(axes, sizes, strict=True))
    return [tuple(given.get(axis, dim) for axis, dim in enumerate(found))]


_SAME: Final = (
    "PRelu Softmax LogSoftmax Hardmax RMSNormalization InstanceNormalization GroupNormalization "
    "LRN LpNormalization MeanVarianceNormalization CumSum CumProd Trilu ReverseSequence EyeLike "
    "RandomNormalLike RandomUniformLike QuantizeLinear DequantizeLinear Scatter ScatterElements "
    "ScatterND TensorScatter RotaryEmbedding SwiGLU"
)
_REDUCE: Final = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)

RULES: Final[Mapping[str, Rule]] = {
    **dict.fromkeys(_SAME.split(), same),
    **dict.fromkeys(_REDUCE.split(), reduce),
    "Dropout": same_all,
    "GatherElements": like_second,
    "MatMul": matmul,
    "MatMulInteger": matmul,
    "QLinearMatMul": qlinear_matmul,
    "Gemm": gemm,
    "Einsum": einsum,
    "ArgMax": arg_extreme,
    "ArgMin": arg_extreme,
    "TopK": top_k,
    "OneHot": one_hot,
    "LayerNormalization": layer_norm,
    "BatchNormalization": batch_norm,
    "DynamicQuantizeLinear": lambda site: [site.shape(0), (), ()],
    "Shape": shape,
    "Size": scalar,
    "Constant": constant,
    "ConstantOfShape": filled,
    "RandomNormal": random,
    "RandomUniform": random,
    "Range": range_,
    "NonZero": non_zero,
    "NonMaxSuppression": non_max_suppression,
    "LSTM": recurrent,
    "GRU": recurrent,
    "RNN": recurrent,
    "Attention": attention,
    "If": if_,
    "CenterCropPad": center_crop_pad,
    "Det": lambda site: [None if (found := site.shape(0)) is None else found[:-2]],
}
