"""Forms of attention.

    Attention    Softmax(scale · Q Kᵀ + mask) V, with rows of keys that are all hidden giving zero

In primitives, heads of keys and values that serve a group of queries are not repeated: the queries
of a group become rows of one product, or a dimension that the product broadcasts along. A condition
becomes numbers to add, the least finite one where it hides: next to it every logit is lost in
rounding, so the result is that of minus infinity, but for rows without any key, which are made zero
behind the product where they can be.
Source: ONNX operator Attention-24; contrib operator MultiHeadAttention of ONNX Runtime.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import ml_dtypes

from optc.ir import DType, TensorType, ops
from optc.ir.shape_site import shape_of
from optc.passes.attention_masks import may_hide_row
from optc.passes.forms import MICROSOFT, PRIMITIVES, Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Dim, Graph, Node, Value
    from optc.rewrite.driver import Builder

_OPERANDS: Final = ("query", "key", "value", "mask", "past_key", "past_value", "lengths")
_AXES_OPERAND_SINCE: Final = 18
_UNSQUEEZE_SINCE: Final = 13
_RANK: Final = 4


def _operands(graph: Graph, node: Node) -> dict[str, Value | None]:
    found = [*graph.operands(node), *(None,) * len(_OPERANDS)]
    return dict(zip(_OPERANDS, found, strict=False))


def _required(value: Value | None) -> Value:
    assert value is not None
    return value


def _dtype(value: Value) -> DType:
    assert isinstance(value.type, TensorType)
    return value.type.dtype


@dataclass(frozen=True)
class _Sizes:
    """Sizes of an attention.

    Attributes:
        heads: of queries.
        groups: heads of keys and values.
        rows: queries.
        size: of a head of queries and keys.
        joined: whether heads are part of the last dimension of the operands.
    """

    heads: int
    groups: int
    rows: Dim
    size: int
    joined: bool


def _sizes(graph: Graph, node: Node) -> _Sizes | None:
    given = _operands(graph, node)
    query = shape_of(graph, _required(given["query"]))
    key = shape_of(graph, _required(given["key"]))
    if query is None or key is None:
        return None
    if len(query) == _RANK - 1:
        heads, groups = node.get("q_num_heads"), node.get("kv_num_heads")
        rows, width = query[1], query[2]
        if not heads or not groups or not isinstance(width, int):
            return None
        return _Sizes(heads, groups, rows, width // heads, joined=True)
    heads, groups, rows, size = query[1], key[1], query[2], query[3]
    if isinstance(heads, int) and isinstance(groups, int) and isinstance(size, int):
        return _Sizes(heads, groups, rows, size, joined=False)
    return None


def _obstacle(graph: Graph, node: Node) -> str | None:
    given = _operands(graph, node)
    if _sizes(graph, node) is None:
        return "the heads and their size are not known"
    if ops.attribute(graph, node, "is_causal") or given["lengths"] is not None:
        return "it hides keys by itself"
    if len(node.outputs) > 3 and node.outputs[3] is not None:
        return "its logits are used"
    return _mask_obstacle(graph, node, given["mask"])


def _mask_obstacle(graph: Graph, node: Node, mask: Value | None) -> str | None:
    sizes = _sizes(graph, node)
    if mask is None or sizes is None:
        return None
    shape = shape_of(graph, mask)
    if shape is None:
        return f"rank of {mask.name} is not known"
    grouped = sizes.heads != sizes.groups and len(shape) >= _RANK - 1 and shape[-3] != 1
    if grouped and not any(isinstance(dim, int) for dim in shape[-2:]):
        return f"sizes of {mask.name} are not known"
    return None


def _ints(build: Builder, near: Value, numbers: Sequence[int]) -> Value:
    return build.constant(list(numbers), dtype=DType.I64, name=f"{near.node.key}_shape")


def _number(build: Builder, number: float, dtype: DType, name: str) -> Value:
    return build.constant(number, dtype=dtype, name=name)


def _primitives(build: Builder, node: Node) -> Sequence[Value | None]:
    graph = build.graph
    given = _operands(graph, node)
    sizes = _sizes(graph, node)
    assert sizes is not None
    query, key, value = (_required(given[name]) for name in ("query", "key", "value"))
    dtype = _dtype(query)
    if sizes.joined:
        query = _split(build, query, sizes.heads)
        key, value = (_split(build, part, sizes.groups) for part in (key, value))
    if given["past_key"] is not None:
        key = build.Concat(given["past_key"], key, axis=2)
        value = build.Concat(given["past_value"], value, axis=2)
    scale = ops.attribute(graph, node, "scale")
    scale = 1 / math.sqrt(sizes.size) if scale is None else scale
    if scale != 1:
        query = build.Mul(query, _number(build, scale, dtype, f"{node.key}_scale"))
    result = _attend(build, node, sizes, (query, key, value), dtype)
    if sizes.joined:
        result = build.Reshape(
            build.Transpose(result, perm=[0, 2, 1, 3]), _ints(build, result, [0, 0, -1])
        )
    return (result, *((key, value) if len(node.outputs) > 1 else ()))


def _split(build: Builder, value: Value, heads: int) -> Value:
    parted = build.Reshape(value, _ints(build, value, [0, 0, heads, -1]))
    return build.Transpose(parted, perm=[0, 2, 1, 3])


def _attend(
    build: Builder,
    node: Node,
    sizes: _Sizes,
    rows: tuple[Value, Value, Value],
    dtype: DType,
) -> Value:
    """The two products, on (batch, heads, rows, size)."""
    query, key, value = rows
    mask = _operands(build.graph, node)["mask"]
    group = sizes.heads // sizes.groups
    rank = _RANK
    if group > 1 and sizes.rows == 1:
        query = build.Reshape(query, _ints(build, query, [0, sizes.groups, group, -1]))
    elif group > 1:
        rank = _RANK + 1
        query = build.Reshape(query, _ints(build, query, [0, sizes.groups, group, -1, sizes.size]))
        key, value = (
            build.Reshape(part, _ints(build, part, [0, 0, 1, -1, _last(build, part, sizes)]))
            for part in (key, value)
        )
    swap = [*range(rank - 2), rank - 1, rank - 2]
    logits = build.MatMul(query, build.Transpose(key, perm=swap))
    cap = ops.attribute(build.graph, node, "softcap")
    if cap:
        inner = build.Div(logits, _number(build, cap, dtype, f"{node.key}_cap"))
        logits = build.Mul(build.Tanh(inner), _number(build, cap, dtype, f"{node.key}_cap"))
    seen = None
    if mask is not None:
        bias, seen = _bias(build, mask, dtype)
        logits = build.Add(logits, _grouped(build, bias, sizes, group))
        seen = None if seen is None else _grouped(build, seen, sizes, group)
    result = build.MatMul(_softmax(build, node, logits, rank, dtype), value)
    if seen is not None:
        result = build.Mul(result, seen)
    if group > 1:
        shape = [0, sizes.heads, 1, -1] if rank == _RANK else [0, sizes.heads, -1, 0]
        if rank > _RANK:
            shape[3] = _last(build, value, sizes)
        result = build.Reshape(result, _ints(build, result, shape))
    return result


def _last(build: Builder, value: Value, sizes: _Sizes) -> int:
    shape = shape_of(build.graph, value)
    last = shape[-1] if shape else None
    return last if isinstance(last, int) else sizes.size


def _softmax(build: Builder, node: Node, logits: Value, rank: int, dtype: DType) -> Value:
    wide = node.get("softmax_precision")
    if wide is None or wide == dtype.onnx:
        return build.node("Softmax", [logits], attributes={"axis": rank - 1}).output
    cast = build.Cast(logits, to=wide)
    made = build.node("Softmax", [cast], attributes={"axis": rank - 1}).output
    return build.Cast(made, to=dtype.onnx)


def _bias(build: Builder, mask: Value, dtype: DType) -> tuple[Value, Value | None]:
    """What is added to the logits; and one for rows that see a key, where there may be others."""
    graph = build.graph
    hidden = may_hide_row(graph, mask)
    shape = shape_of(graph, mask)
    least = _number(build, float(ml_dtypes.finfo(dtype.numpy).min), dtype, f"{mask.name}_least")
    seen: Value | None = None
    if _dtype(mask) is DType.BOOL:
        bias = build.Where(mask, _number(build, 0.0, dtype, f"{mask.name}_zero"), least)
        seen = _largest(build, build.Cast(mask, to=dtype.onnx)) if hidden else None
    elif hidden:
        bias = build.Max(mask, least)
        some = build.Not(build.Less(_largest(build, mask), least))
        seen = build.Cast(some, to=dtype.onnx)
    else:
        return mask, None
    if shape is not None:
        graph.set_type(bias, TensorType(dtype, shape))
        if seen is not None:
            graph.set_type(seen, TensorType(dtype, (*shape[:-1], 1)))
    return bias, seen


def _largest(build: Builder, value: Value) -> Value:
    if build.graph.opset < _AXES_OPERAND_SINCE:
        return build.ReduceMax(value, axes=[-1], keepdims=1)
    axes = build.constant([-1], dtype=DType.I64, name=f"{value.name}_axis")
    return build.ReduceMax(value, axes, keepdims=1)


def _grouped(build: Builder, value: Value, sizes: _Sizes, group: int) -> Value:
    """A mask with its heads parted into groups."""
    shape = shape_of(build.graph, value)
    if shape is None or group == 1 or len(shape) < _RANK - 1:
        return value
    parts = [sizes.groups, group]
    lead = [0] if len(shape) == _RANK else []
    if shape[-3] != 1:
        rows = [-1] if sizes.rows == 1 else [_known(shape[-2]), _known(shape[-1])]
        return build.Reshape(value, _ints(build, value, [*lead, *parts, *rows]))
    if sizes.rows == 1 or not lead:
        return value
    if build.graph.opset < _UNSQUEEZE_SINCE:
        return build.node("Unsqueeze", [value], attributes={"axes": [1]}).output
    return build.Unsqueeze(value, _ints(build, value, [1]))


def _known(dim: Dim) -> int:
    return dim if isinstance(dim, int) else -1


# ---- ONNX Runtime ------------------------------------------------------------------------------


def _multi_head_obstacle(graph: Graph, node: Node) -> str | None:
    given = _operands(graph, node)
    heads, mask = node.get("q_num_heads"), given["mask"]
    if not heads or heads != node.get("kv_num_heads"):
        return "the kernel takes queries, keys and values of the same heads, not split"
    for name in ("softcap", "is_causal", "softmax_precision"):
        if node.get(name):
            return f"the kernel has no {name}"
    if given["lengths"] is not None or (len(node.outputs) > 3 and node.outputs[3] is not None):
        return "the kernel has no lengths of keys and gives no logits"
    if _dtype(_required(given["query"])) is not DType.F32:
        return "the kernel is for f32"
    if mask is None:
        return None
    if _dtype(mask) is DType.BOOL or len(shape_of(graph, mask) or ()) != _RANK:
        return f"the mask {mask.name} is not of numbers with four dimensions"
    return f"{mask.name} may hide a whole row" if may_hide_row(graph, mask) else None


def _multi_head(build: Builder, node: Node) -> Sequence[Value | None]:
    given = _operands(build.graph, node)
    names = ("mask", "past_key", "past_value")
    made = build.node(
        "MultiHeadAttention",
        [given["query"], given["key"], given["value"], None, None, *(given[n] for n in names)],
        attributes={"num_heads": node.get("q_num_heads"), "scale": node.get("scale")},
        outputs=len(node.outputs),
        domain=ops.MICROSOFT,
    )
    return made.outputs


FORMS: Final = (
    Form("Attention", PRIMITIVES, _primitives, _obstacle),
    Form("Attention", MICROSOFT, _multi_head, _multi_head_obstacle),
)
"""Forms by operator, besides the operator itself."""
