"""Forms of attention and rotary embeddings.

    Attention          Softmax(scale · Q Kᵀ + mask) V, and zero for a row that the mask hides wholly
    RotaryEmbedding    x · [cos, cos] + [-x₂, x₁] · [sin, sin]          x₁, x₂ the halves of x

In primitives, queries of a group are rows of one product, (batch, heads of keys, group · queries,
size), so that keys and values are not repeated. The scale is on the queries. Where the mask may
hide a whole row, NaN is replaced after the Softmax.
Source: ONNX operators Attention-24, RotaryEmbedding-23; contrib operators MultiHeadAttention and
RotaryEmbedding of ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.ir import DType, TensorType, dims, ops
from optc.ir.shape_site import shape_of
from optc.passes.attention_masks import may_hide_row
from optc.passes.attention_views import unsqueezed
from optc.passes.forms import MICROSOFT, PRIMITIVES, Form, scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Shape, Value
    from optc.rewrite.driver import Builder

_MASK, _PAST, _LENGTHS = 3, 4, 6
_IS_NAN_SINCE: Final = 9
_FLATTENS_BEFORE: Final = 13


@dataclass(frozen=True)
class _Sizes:
    """What the operands of Attention say.

    Attributes:
        heads: heads of queries.
        kept: heads of keys and values.
        size: size of a head of queries and keys.
        width: size of a head of values.
        split: whether heads are to be split.
    """

    heads: int
    kept: int
    size: int
    width: int
    split: bool


def _dtype(value: Value | None) -> DType:
    type_ = None if value is None else value.type
    return type_.dtype if isinstance(type_, TensorType) else DType.UNDEFINED


def _shapes(graph: Graph, node: Node) -> list[Shape] | None:
    found = [shape_of(graph, value) for value in graph.operands(node)[:3] if value is not None]
    shapes = [shape for shape in found if shape is not None]
    return shapes if len(shapes) == 3 else None


def _sizes(graph: Graph, node: Node) -> _Sizes | str:
    shapes = _shapes(graph, node)
    if shapes is None:
        return "rank of an operand is not known"
    query, key, value = shapes
    if len(query) == 4:
        numbers = (query[1], key[1], query[3], value[3])
    else:
        heads, kept = node.get("q_num_heads"), node.get("kv_num_heads")
        size, width = dims.floordiv(query[2], heads), dims.floordiv(value[2], kept)
        numbers = (heads, kept, size, width)
    if not all(isinstance(item, int) for item in numbers):
        return _any_size(numbers, split=len(query) == 3)
    heads, kept, size, width = (int(str(item)) for item in numbers)
    return _Sizes(heads, kept, size, width, len(query) == 3)


def _any_size(numbers: Sequence[object], *, split: bool) -> _Sizes | str:
    """Sizes that nothing is computed from may be unknown."""
    heads, kept, size, width = numbers
    if split or not (heads == kept or isinstance(kept, int)):
        return f"heads or their sizes are not known: {heads}, {kept}, {size}, {width}"
    if heads != kept and not isinstance(heads, int):
        return f"heads are not known: {heads}"
    known = [item if isinstance(item, int) else -1 for item in numbers]
    return _Sizes(known[0], known[1], known[2], known[3], split)


def _present_used(graph: Graph, node: Node, index: int) -> bool:
    value = node.outputs[index] if len(node.outputs) > index else None
    return value is not None and graph.is_used(value)


def _attention_obstacle(graph: Graph, node: Node) -> str | None:
    if _present_used(graph, node, 3):
        return "the products of queries and keys are used"
    if graph.operand(node, _LENGTHS) is not None:
        return "lengths of keys are given"
    if ops.attribute(graph, node, "is_causal"):
        return "causality is an attribute, not a mask"
    if graph.operand(node, _PAST) is None and _present_used(graph, node, 1):
        return "present keys without past ones"
    sizes = _sizes(graph, node)
    if isinstance(sizes, str):
        return sizes
    if "scale" not in node.attributes and sizes.size < 0:
        return "size of a head is not known"
    return None if _dtype(graph.operand(node, 0)).is_float else "element type is not known"


def _attention(build: Builder, node: Node) -> Sequence[Value | None]:
    graph = build.graph
    sizes = _sizes(graph, node)
    assert isinstance(sizes, _Sizes)
    operands = [*graph.operands(node), None, None, None]
    query, key, value = (operand for operand in operands[:3] if operand is not None)
    if sizes.split:
        query = _split(build, query, sizes.heads, sizes.size)
        value = _split(build, value, sizes.kept, sizes.width)
    presents: list[Value | None] = [None, None]
    past_key, past_value = operands[_PAST], operands[_PAST + 1]
    if past_key is not None:
        key = _split(build, key, sizes.kept, sizes.size) if sizes.split else key
        key = build.Concat(past_key, key, axis=2)
        value = build.Concat(past_value, value, axis=2)
        presents = [key, value]
        turned = build.Transpose(key, perm=[0, 1, 3, 2])
    elif sizes.split:
        turned = _split(build, key, sizes.kept, sizes.size, perm=(0, 2, 3, 1))
    else:
        turned = build.Transpose(key, perm=[0, 1, 3, 2])
    scale = node.get("scale")
    scale = sizes.size**-0.5 if scale is None else scale
    if scale != 1:
        query = build.Mul(query, scalar(build, _first(graph, node), scale))
    result = _products(build, node, sizes, (query, turned, value))
    if sizes.split:
        back = build.Transpose(result, perm=[0, 2, 1, 3])
        result = build.Reshape(back, _ints(build, node, [0, 0, sizes.heads * sizes.width]))
    return (result, *presents, None)[: len(node.outputs)]


def _products(build: Builder, node: Node, sizes: _Sizes, rows: tuple[Value, Value, Value]) -> Value:
    query, turned, value = rows
    grouped = sizes.heads != sizes.kept and sizes.kept != 1
    if not grouped:
        logits = build.MatMul(query, turned)
        return build.MatMul(_probabilities(build, node, logits), value)
    shape = _shapes(build.graph, node)
    single = shape is not None and shape[0][1 if sizes.split else 2] == 1
    size = [sizes.size if sizes.size > 0 else -1]
    packed = build.Reshape(query, _ints(build, node, [0, sizes.kept, -1, *size]))
    logits = build.MatMul(packed, turned)
    wide = build.Reshape(logits, _grouped(build, node, rows, sizes.heads))
    probabilities = _probabilities(build, node, wide)
    group = sizes.heads // sizes.kept
    target = [0, sizes.kept, group, -1] if single else None
    flat = _ints(build, node, target) if target is not None else build.Shape(logits)
    result = build.MatMul(build.Reshape(probabilities, flat), value)
    return build.Reshape(result, _like_query(build, node, query, sizes))


def _grouped(build: Builder, node: Node, rows: tuple[Value, Value, Value], heads: int) -> Value:
    """The shape (batch, heads, queries, keys) as an operand."""
    shape = _shapes(build.graph, node)
    assert shape is not None
    queries = shape[0][1] if len(shape[0]) == 3 else shape[0][2]
    if isinstance(queries, int):
        return _ints(build, node, [0, heads, queries, -1])
    size = build.Gather(build.Shape(rows[0]), _ints(build, node, [2]), axis=0)
    parts = [_ints(build, node, [0, heads]), size, _ints(build, node, [-1])]
    return build.Concat(*parts, axis=0)


def _like_query(build: Builder, node: Node, query: Value, sizes: _Sizes) -> Value:
    shape = _shapes(build.graph, node)
    assert shape is not None
    queries = shape[0][1] if len(shape[0]) == 3 else shape[0][2]
    if isinstance(queries, int):
        return _ints(build, node, [0, sizes.heads, queries, -1])
    size = build.Gather(build.Shape(query), _ints(build, node, [2]), axis=0)
    parts = [_ints(build, node, [0, sizes.heads]), size, _ints(build, node, [-1])]
    return build.Concat(*parts, axis=0)


def _probabilities(build: Builder, node: Node, logits: Value) -> Value:
    """Cap, mask and Softmax of the logits."""
    graph, like = build.graph, _first(build.graph, node)
    cap = ops.attribute(graph, node, "softcap")
    if cap:
        factor = scalar(build, like, cap)
        logits = build.Mul(build.Tanh(build.Div(logits, factor)), factor)
    mask = graph.operand(node, _MASK)
    if mask is not None:
        logits = build.Add(logits, _numbers(build, mask, like))
    wide = node.get("softmax_precision")
    narrow = _dtype(like)
    cast = wide is not None and wide != narrow.onnx
    if cast:
        logits = build.Cast(logits, to=wide)
    result = build.Softmax(logits, axis=3 if graph.opset < _FLATTENS_BEFORE else -1)
    if mask is not None and may_hide_row(graph, mask):
        zero = build.constant(0.0, dtype=DType.from_onnx(wide) if cast else narrow, name="zero")
        result = build.Where(build.IsNaN(result), zero, result)
    return build.Cast(result, to=narrow.onnx) if cast else result


def _numbers(build: Builder, mask: Value, like: Value) -> Value:
    """The mask as numbers to add; they broadcast, so what an Expand repeats is not repeated."""
    if mask.node.is_op("Expand") and len(shape_of(build.graph, mask) or ()) <= 4:
        above = build.graph.operand(mask.node, 0)
        assert above is not None
        mask = above
    if _dtype(mask) is not DType.BOOL:
        return mask
    zero, least = scalar(build, like, 0.0), scalar(build, like, float("-inf"))
    return build.Where(mask, zero, least)


def _first(graph: Graph, node: Node) -> Value:
    value = graph.operand(node, 0)
    assert value is not None
    return value


def _split(
    build: Builder, value: Value, heads: int, size: int, perm: Sequence[int] = (0, 2, 1, 3)
) -> Value:
    operand = build.constant([0, 0, heads, size], dtype=DType.I64, name=f"{value.name}_shape")
    return build.Transpose(build.Reshape(value, operand), perm=list(perm))


def _ints(build: Builder, node: Node, numbers: Sequence[int]) -> Value:
    return build.constant(list(numbers), dtype=DType.I64, name=f"{node.key}_shape")


# ---- ONNX Runtime ------------------------------------------------------------------------------


def _multi_head_obstacle(graph: Graph, node: Node) -> str | None:
    heads = node.get("q_num_heads")
    if not heads or heads != node.get("kv_num_heads"):
        return "the kernel takes queries, keys and values of the same heads, not split"
    for name in ("softcap", "is_causal", "softmax_precision"):
        if node.get(name):
            return f"the kernel has no {name}"
    if _present_used(graph, node, 3) or graph.operand(node, _LENGTHS) is not None:
        return "products or lengths of keys are not the kernel's"
    if _dtype(graph.operand(node, 0)) is not DType.F32:
        return "the kernel is for f32"
    mask = graph.operand(node, _MASK)
    if mask is None:
        return None
    if _dtype(mask) is DType.BOOL or len(shape_of(graph, mask) or ()) != 4:
        return f"the mask {mask.name} is not of numbers with four dimensions"
    return f"{mask.name} may hide a whole row" if may_hide_row(graph, mask) else None


def _multi_head(build: Builder, node: Node) -> Sequence[Value | None]:
    operands = [*build.graph.operands(node), None, None, None]
    made = build.node(
        "MultiHeadAttention",
        [*operands[:3], None, None, *operands[_MASK : _PAST + 2]],
        attributes={"num_heads": node.get("q_num_heads"), "scale": node.get("scale")},
        outputs=len(node.outputs),
        domain=ops.MICROSOFT,
    )
    return made.outputs


# ---- RotaryEmbedding ---------------------------------------------------------------------------


def _rotary_obstacle(graph: Graph, node: Node) -> str | None:
    x = _first(graph, node)
    shape, cos = shape_of(graph, x), graph.operand(node, 1)
    caches = None if cos is None else shape_of(graph, cos)
    if shape is None or caches is None or not isinstance(caches[-1], int):
        return "rank of the operand or size of the caches is not known"
    if len(shape) == 3 and not isinstance(dims.floordiv(shape[2], node.get("num_heads", 1)), int):
        return f"size of a head of {x.name} is not known"
    return None


def _rotary(build: Builder, node: Node) -> Sequence[Value | None]:
    graph = build.graph
    x, shape = _first(graph, node), shape_of(graph, _first(graph, node))
    cos, sin, places = graph.operand(node, 1), graph.operand(node, 2), graph.operand(node, 3)
    assert shape is not None
    assert cos is not None
    assert sin is not None
    half = (shape_of(graph, cos) or (0,))[-1]
    assert isinstance(half, int)
    rows, axis = x, 1
    if len(shape) == 3:
        heads = int(node.get("num_heads"))
        rows, axis = build.Reshape(x, _ints(build, node, [0, 0, heads, -1])), 2
        head = dims.floordiv(shape[2], heads)
    else:
        head = shape[3]
    tables = []
    for table in (cos, sin):
        picked = table if places is None else build.Gather(table, places, axis=0)
        tables.append(unsqueezed(build, picked, axis))
    part = rows if head == 2 * half else _slice(build, node, rows, (0, 2 * half))
    turned = _turned(build, node, part, (tables[0], tables[1]), half)
    if part is not rows:
        rest = _slice(build, node, rows, (2 * half, 2**62))
        turned = build.Concat(turned, rest, axis=-1)
    if len(shape) == 3:
        turned = build.Reshape(turned, _ints(build, node, [0, 0, -1]))
    return (turned,)


def _turned(build: Builder, node: Node, x: Value, tables: tuple[Value, Value], half: int) -> Value:
    if ops.attribute(build.graph, node, "interleaved"):
        return _interleaved(build, node, x, tables)
    cos, sin = (build.Concat(table, table, axis=-1) for table in tables)
    first = _slice(build, node, x, (0, half))
    second = _slice(build, node, x, (half, 2 * half))
    across = build.Concat(build.Neg(second), first, axis=-1)
    return build.Add(build.Mul(x, cos), build.Mul(across, sin))


def _interleaved(build: Builder, node: Node, x: Value, tables: tuple[Value, Value]) -> Value:
    cos, sin = tables
    first = _slice(build, node, x, (0, 2**62), step=2)
    second = _slice(build, node, x, (1, 2**62), step=2)
    real = build.Sub(build.Mul(first, cos), build.Mul(second, sin))
    imaginary = build.Add(build.Mul(first, sin), build.Mul(second, cos))
    pair = build.Concat(unsqueezed(build, real, 4), unsqueezed(build, imaginary, 4), axis=-1)
    return build.Reshape(pair, _ints(build, node, [0, 0, 0, -1]))


def _slice(build: Builder, node: Node, x: Value, span: tuple[int, int], step: int = 1) -> Value:
    numbers = ([span[0]], [span[1]], [3], [step])
    return build.Slice(x, *(_ints(build, node, item) for item in numbers))


def _microsoft_rotary_obstacle(graph: Graph, node: Node) -> str | None:
    if graph.operand(node, 3) is None:
        return "the kernel takes positions"
    return None if _dtype(_first(graph, node)) is DType.F32 else "the kernel is for f32"


def _microsoft_rotary(build: Builder, node: Node) -> Sequence[Value | None]:
    x, cos, sin, places = build.graph.operands(node)[:4]
    names = ("interleaved", "num_heads", "rotary_embedding_dim")
    made = build.node(
        "RotaryEmbedding",
        [x, places, cos, sin],
        attributes={name: int(node.get(name, 0)) for name in names},
        domain=ops.MICROSOFT,
    )
    return made.outputs


FORMS: Final = (
    Form("Attention", PRIMITIVES, _attention, _attention_obstacle),
    Form("Attention", MICROSOFT, _multi_head, _multi_head_obstacle),
    Form("RotaryEmbedding", PRIMITIVES, _rotary, _rotary_obstacle),
    Form("RotaryEmbedding", MICROSOFT, _microsoft_rotary, _microsoft_rotary_obstacle),
)
"""Forms by operator, besides the operator itself."""
