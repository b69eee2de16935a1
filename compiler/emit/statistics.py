"""Figures about precision: operations by type, ranges of quantized tensors, bytes of weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from optc.ir.cost import macs
from optc.ir.nodes import Kind
from optc.ir.ops import Trait, info
from optc.numerics.planned import plan_node
from optc.numerics.timing import sized

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from optc.ir import Graph, Node
    from optc.targets import Precision


def product_shares(
    graph: Graph, sizes: Mapping[str, int], lowered: Collection[Node] = ()
) -> dict[str, float]:
    """The share of the multiply-accumulates by precision, four digits of it.

    Args:
        graph: a root graph.
        sizes: what symbols in shapes stand for.
        lowered: operations in fp32 that the runtime is to compute in bf16.
    """
    found: Counter[str] = Counter()
    for nested in graph.walk():
        for node in nested.ordered():
            if not info(node).has(Trait.MAC):
                continue
            with sized(nested, node, sizes):
                count = macs(nested, node)
            hint: Precision = "bf16" if node in lowered else "fp32"
            found[plan_node(nested, node, hint=hint).precision] += count or 0
    total = found.total()
    return {name: round(found[name] / total, 4) for name in sorted(found)} if total else {}


def quantized_ranges(graph: Graph) -> list[dict[str, object]]:
    """The range that each activation is quantized to, in execution order.

    Args:
        graph: a root graph.

    Returns:
        Rows of the tensor's name, its integer type, the real numbers that the least and the
        greatest integer stand for, scale and zero point. Tensors with several scales are weights,
        which have no range that was chosen.
    """
    found: dict[tuple[object, ...], dict[str, object]] = {}
    for nested in graph.walk():
        for node in nested.ordered():
            row = _range(nested, node) if node.is_op("QuantizeLinear") else None
            if row is not None:
                found.setdefault((row["tensor"], row["low"], row["high"]), row)
    return list(found.values())


def _range(graph: Graph, node: Node) -> dict[str, object] | None:
    value, scale, zero = (graph.operand(node, index) for index in range(3))
    if value is None or value.constant is not None or scale is None or scale.constant is None:
        return None
    steps = scale.constant.numpy().reshape(-1)
    zeros = (
        np.zeros(1, np.uint8) if zero is None or zero.constant is None else zero.constant.numpy()
    )
    if steps.size != 1 or zeros.size != 1 or zeros.dtype.kind not in "iu":
        return None
    limits, step, middle = np.iinfo(zeros.dtype), np.float32(steps[0]), int(zeros.reshape(-1)[0])
    return {
        "tensor": value.name,
        "dtype": zeros.dtype.name,
        "low": float(np.float32(limits.min - middle) * step),
        "high": float(np.float32(limits.max - middle) * step),
        "scale": float(step),
        "zero_point": middle,
    }


def constant_bytes(graph: Graph) -> int:
    """Bytes of all constants."""
    nodes = (node for nested in graph.walk() for node in nested.nodes(Kind.CONSTANT))
    return sum(node.tensor.nbytes for node in nodes if node.tensor is not None)
