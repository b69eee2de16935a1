"""Forms of activations.

    Gelu        x · ½ (1 + erf(x / √2));  tanh form  x · ½ (1 + tanh(√(2/π) (x + 0.044715 x³)))
    HardSwish   x · HardSigmoid(x; 1/6, 1/2)
    Mish        x · tanh(Softplus(x))
    Swish       x · Sigmoid(alpha x)

Source: ONNX operators Gelu-20, HardSwish-22, Mish-22, Swish-24; contrib operators Gelu, FastGelu
and QuickGelu of ONNX Runtime.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from optc.ir import DType, TensorType, ops
from optc.passes.forms import MICROSOFT, PRIMITIVES, Form, scalar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Value
    from optc.rewrite.driver import Builder


def _operand(build: Builder, node: Node) -> Value:
    value = build.graph.operand(node, 0)
    assert value is not None
    return value


def _is_tanh(graph: Graph, node: Node) -> bool:
    return bool(ops.attribute(graph, node, "approximate") == b"tanh")


def _f32_obstacle(graph: Graph, node: Node) -> str | None:
    """ONNX Runtime's own activations are for f32 only on a CPU."""
    operand = graph.operand(node, 0)
    kind = None if operand is None else operand.type
    if isinstance(kind, TensorType) and kind.dtype is DType.F32:
        return None
    found = kind.dtype.value if isinstance(kind, TensorType) else "of unknown type"
    return f"the operator is for f32, the operand is {found}"


def _gelu(build: Builder, node: Node) -> Sequence[Value]:
    x = _operand(build, node)
    if _is_tanh(build.graph, node):
        return _gelu_tanh(build, x)
    error = build.Erf(build.Div(x, scalar(build, x, math.sqrt(2))))
    shifted = build.Add(error, scalar(build, x, 1))
    return (build.Mul(build.Mul(x, shifted), scalar(build, x, 0.5)),)


def _gelu_tanh(build: Builder, x: Value) -> Sequence[Value]:
    cube = build.Mul(build.Mul(x, x), x)
    inner = build.Add(x, build.Mul(cube, scalar(build, x, 0.044715)))
    tanh = build.Tanh(build.Mul(inner, scalar(build, x, math.sqrt(2 / math.pi))))
    shifted = build.Add(tanh, scalar(build, x, 1))
    return (build.Mul(build.Mul(x, shifted), scalar(build, x, 0.5)),)


def _microsoft_gelu(build: Builder, node: Node) -> Sequence[Value | None]:
    name = "FastGelu" if _is_tanh(build.graph, node) else "Gelu"
    operands = (_operand(build, node),)
    attributes = {"approximate": None}
    return build.node(
        name, operands, like=node, attributes=attributes, domain=ops.MICROSOFT
    ).outputs


def _hardswish(build: Builder, node: Node) -> Sequence[Value]:
    x = _operand(build, node)
    return (build.Mul(x, build.HardSigmoid(x, alpha=1 / 6, beta=0.5)),)


def _mish(build: Builder, node: Node) -> Sequence[Value]:
    x = _operand(build, node)
    return (build.Mul(x, build.Tanh(build.Softplus(x))),)


def _swish(build: Builder, node: Node) -> Sequence[Value]:
    x = _operand(build, node)
    alpha = ops.attribute(build.graph, node, "alpha")
    inner = x if alpha == 1 else build.Mul(x, scalar(build, x, alpha))
    return (build.Mul(x, build.Sigmoid(inner)),)


def _quick_gelu(build: Builder, node: Node) -> Sequence[Value | None]:
    alpha = ops.attribute(build.graph, node, "alpha")
    operands = (_operand(build, node),)
    return build.node(
        "QuickGelu", operands, like=node, attributes={"alpha": alpha}, domain=ops.MICROSOFT
    ).outputs


FORMS: Final = (
    Form("Gelu", PRIMITIVES, _gelu),
    Form("Gelu", MICROSOFT, _microsoft_gelu, _f32_obstacle),
    Form("HardSwish", PRIMITIVES, _hardswish),
    Form("Mish", PRIMITIVES, _mish),
    Form("Swish", PRIMITIVES, _swish),
    Form("Swish", MICROSOFT, _quick_gelu, _f32_obstacle),
)
"""Forms by operator, besides the operator itself."""
