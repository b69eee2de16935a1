"""The part of a range that the activation behind a value tells apart.

    HardSwish    0 below -3                       HardSigmoid    0 and 1 beyond both ends
    Swish, Gelu, Mish    nearly 0 below some number

A quantized value that nothing else uses needs integers for that part only: QuantizeLinear saturates
at its ends, and what the activation makes of an end is what it makes of everything beyond. For the
functions that only come near to zero the end is where they are within an eighth of a step of the
integers: that is the most by which a result can be off, a quarter of what rounding does anyway.
Source: ONNX operators HardSigmoid-22, HardSwish-22, Swish-24, Gelu-20, Mish-22.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from optc.ir import ops

if TYPE_CHECKING:
    from collections.abc import Callable

    from optc.ir import Graph, Node, Value

_LEVELS: Final = 255
_NEAR: Final = 1 / 8
"""Of a step."""
_HALVINGS: Final = 40
_LARGE: Final = 700.0
"""Of what a float64 holds the exponential."""


def told_apart(graph: Graph, value: Value, low: float, high: float) -> tuple[float, float]:
    """The part of the range from `low` to `high` that the only user of a value tells apart."""
    use = graph.only_use(value)
    if use is None or use.key != 0:
        return low, high
    node = use.node
    if node.is_op("HardSwish"):
        return max(low, -3.0), high
    if node.is_op("HardSigmoid"):
        alpha, beta = (ops.attribute(graph, node, name) for name in ("alpha", "beta"))
        if alpha > 0 and 0 <= beta <= 1:
            return max(low, -beta / alpha), min(high, (1 - beta) / alpha)
    known = _function(graph, node)
    return (low, high) if known is None else (_near_zero(*known, low, high), high)


def _function(graph: Graph, node: Node) -> tuple[Callable[[float], float], float] | None:
    """A function that comes near to zero below, and where it turns round on the way there."""
    if node.is_op("Gelu"):  # that with tanh differs by less than a thousandth
        return lambda x: x * math.erfc(-x / math.sqrt(2)) / 2, -0.75
    if node.is_op("Mish"):
        return lambda x: x * math.tanh(math.log1p(math.exp(x))), -1.2
    alpha = float(ops.attribute(graph, node, "alpha")) if node.is_op("Swish") else 0.0
    if alpha <= 0:
        return None
    return lambda x: x / (1 + math.exp(min(-alpha * x, _LARGE))), -1.28 / alpha


def _near_zero(function: Callable[[float], float], turn: float, low: float, high: float) -> float:
    """The greatest end below which a function is near zero; `low` where there is none."""
    inside, outside = low, max(low, turn)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if abs(function(middle)) <= _NEAR * (high - middle) / _LEVELS:
            inside = middle
        else:
            outside = middle
    return inside
