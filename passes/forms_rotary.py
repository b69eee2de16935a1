"""Forms of rotary embeddings.

    RotaryEmbedding    x · [cos, cos] + [-x₂, x₁] · [sin, sin]          x₁, x₂ the halves of x

Interleaved, the halves are the even and the odd elements. ONNX Runtime has an operator of the same
name; it takes tables by position.
Source: ONNX operator RotaryEmbedding-23; contrib operator RotaryEmbedding of ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from optc.ir import DType, TensorType, dims, ops
from optc.ir.shape_site import shape_of
from optc.passes.attention_views import unsqueezed
from optc.passes.forms import MICROSOFT, PRIMITIVES, Form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.driver import Builder


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


def _first(graph: Graph, node: Node) -> Value:
    value = graph.operand(node, 0)
    assert value is not None
    return value


def _dtype(value: Value) -> DType:
    return value.type.dtype if isinstance(value.type, TensorType) else DType.UNDEFINED


def _ints(build: Builder, node: Node, numbers: Sequence[int]) -> Value:
    return build.constant(list(numbers), dtype=DType.I64, name=f"{node.key}_shape")


FORMS: Final = (
    Form("RotaryEmbedding", PRIMITIVES, _rotary, _rotary_obstacle),
    Form("RotaryEmbedding", MICROSOFT, _microsoft_rotary, _microsoft_rotary_obstacle),
)
"""Forms by operator, besides the operator itself."""
