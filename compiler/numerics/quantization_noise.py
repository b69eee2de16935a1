"""How much noise roundings to 8 bits add, and the signal-to-noise ratio that they should leave.

A tensor whose largest element is 8 times its root mean square, a normal one of any size, is cut
into 256 steps of rms / 16. A rounding error is uniform in a step (Bennett, 1948):

    noise / signal  =  step² / 12 rms²  =  1 / 3072        34.9 dB for one rounding

Errors of n roundings are independent and add like a random walk, as those of floating point do
(`optc.numerics.tolerance`), and the same factor of 4 in amplitude allows for layers that amplify
what comes in:

    floor  =  34.9 dB - 12.0 dB - 10 log10(n)              at least 6 dB

A quantized activation is a rounding, and a quantized weight is one. At 6 dB the error is half as
large as the signal: less is another result, whatever n is.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

from optc.ir.ops import Trait, info
from optc.numerics.roundings import QUANTIZE_ERROR
from optc.numerics.stats import ErrorStats
from optc.numerics.tolerance import Tolerance
from optc.numerics.values import float_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.numerics.values import Feeds

_SINGLE: Final = 10 * math.log10(12 * 16**2)
_AMPLIFIED: Final = 20 * math.log10(4)
_LEAST: Final = 20 * math.log10(2)
_PEAK: Final = 8.0
_ANEW: Final = math.sqrt(2)
_MOST_FLIPS: Final = 2.0**-5


def roundings(graph: Graph) -> dict[str, int]:
    """Roundings to 8 bits on the worst path to each output, by name."""
    found: dict[Node, int] = {}
    for node in graph.ordered():
        operands = [value for value in graph.operands(node) if value is not None]
        captured = graph.captures(node).values()
        worst = max((found.get(value.node, 0) for value in (*operands, *captured)), default=0)
        found[node] = worst + _own(graph, node, operands)
    ends = {output.name: graph.operand(output, 0) for output in graph.outputs}
    return {name: found.get(value.node, 0) for name, value in ends.items() if value is not None}


def quantizers(graph: Graph) -> Counter[tuple[str, ...]]:
    """What rounds to integers in a graph and in those nested in it, with its steps.

    Graphs in which it is equal differ by rounding in floating point only. Constants in integers
    count once, however often they stand there.
    """
    found: Counter[tuple[str, ...]] = Counter()
    for nested in graph.walk():
        for node in nested.nodes():
            if not info(node).has(Trait.QUANTIZE):
                continue
            operands = (value for value in nested.operands(node) if value is not None)
            constants = [v.constant.digest for v in operands if v.constant is not None]
            key = (node.qualified_op, *constants)
            found[key] = 1 if node.is_op("DequantizeLinear") else found[key] + 1
    return found


def _own(graph: Graph, node: Node, operands: list[Value]) -> int:
    traits = info(node)
    if node.is_op("QuantizeLinear", "DynamicQuantizeLinear"):
        return 0 if operands[0].constant is not None else 1
    if not traits.has(Trait.MAC):
        return 1 if traits.has(Trait.QUANTIZE) and not node.is_op("DequantizeLinear") else 0
    if traits.has(Trait.QUANTIZE):
        return 2  # weights, and the result
    return int(any(_is_stored(graph, value) for value in operands))


def _is_stored(graph: Graph, value: Value) -> bool:
    """Whether a value is a constant that is stored in integers."""
    if not value.node.is_op("DequantizeLinear"):
        return False
    inner = graph.operand(value.node, 0)
    return inner is not None and inner.constant is not None


def floor(count: int) -> float:
    """The signal-to-noise ratio in dB that so many roundings leave at least."""
    return max(_SINGLE - _AMPLIFIED - 10 * math.log10(max(count, 1)), _LEAST)


def kernel_bounds(
    bounds: Mapping[str, Tolerance],
    expected: Feeds,
    written: Feeds,
    counts: Mapping[str, int],
    *,
    given: bool = False,
) -> dict[str, Tolerance]:
    """How far integer kernels may be from a quantized graph as it is written.

    Kernels round elements on the edge to the neighbouring step: one of 64 elements per rounding
    (`optc.numerics.roundings.QUANTIZE_ERROR`), which adds up like a random walk. They leave out
    roundings between operations that they fuse. That moves a result by no more than taking all the
    roundings anew would: sqrt(2) times the difference between the graph and its source, twice the
    largest one. Where the source came quantized, that difference is not known, and is taken for
    what so many roundings add.

    Args:
        bounds: what floating-point rounding explains, by output.
        expected: outputs of the source model.
        written: outputs of the quantized graph as it is written.
        counts: roundings by output.
        given: whether the source is quantized itself.
    """
    found = dict(bounds)
    known = dict(float_tensors(written))
    for name, array in float_tensors(expected):
        if name not in known or known[name].shape != array.shape:
            continue
        stats = ErrorStats()
        stats.update(array, known[name])
        own = found.get(name, Tolerance())
        edge = QUANTIZE_ERROR * math.sqrt(counts.get(name, 0))
        known_error = stats.rms_error / stats.rms_signal if stats.rms_signal else 0.0
        if given:
            known_error = math.sqrt(counts.get(name, 0) * 10 ** (-_SINGLE / 10))
        relative = max(edge, _ANEW * known_error)
        peak = 2 * stats.max_abs_error / stats.peak_signal if stats.peak_signal else 0.0
        noise = Tolerance(
            relative=relative,
            peak=max(peak, _PEAK * relative),
            absolute=own.absolute,
            flips=_MOST_FLIPS,
            reason="the error of quantization itself",
        )
        found[name] = own.loosest(noise)
    return found
