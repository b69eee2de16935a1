"""Models that come quantized: their scales stay, and what a runtime misses is added."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.numerics.observe import Observer
    from optc.passes.int8_sites import Kernels
    from optc.passes.int8_write import WeightStyle
    from optc.rewrite.trace import Trace


def is_quantized(graph: Graph) -> bool:
    """Whether a model has quantization of its own."""
    return any(node.is_op("QuantizeLinear", "DequantizeLinear") for node in graph.nodes())


def complete(
    graph: Graph, trace: Trace, kernels: Kernels, style: WeightStyle, observer: Observer | None
) -> None:
    """Add what a quantized model lacks."""
