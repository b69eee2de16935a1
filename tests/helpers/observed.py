"""Graphs quantized with what is seen on the samples of a test, or on a seeded one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.observing import SampleObserver
from optc.ir.verify import verify
from optc.passes import InferShapes, PassContext
from optc.passes.quantize_int8 import QuantizeInt8
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph
    from optc.numerics.values import Feeds
    from optc.passes.base import PassResult


def quantize(
    graph: Graph,
    *,
    target: str = "cascadelake",
    runtime: str = "onnxruntime",
    samples: Sequence[Feeds] = (),
    **options: object,
) -> PassResult:
    """Run quantize-int8 with the defaults of a runtime; the graph is valid, a second run idle."""
    InferShapes().apply(graph, PassContext())
    cpu = load_target(target)
    known = load_runtime(runtime).options_for("quantize-int8", cpu.capabilities)
    step = QuantizeInt8(QuantizeInt8.Options.model_validate({**known, **options}))
    context = PassContext(target, runtime, observer=SampleObserver(samples), cpu=cpu)
    result = step.apply(graph, context)
    assert verify(graph) == ()
    assert result.changed == bool(result.counts)
    again = step.apply(graph, context)
    assert not again.changed
    return result


def decided(result: PassResult) -> dict[str, tuple[str, str]]:
    """Precision and reason by operation."""
    return {item.node: (item.precision, item.reason) for item in result.decisions}


def chain(graph: Graph) -> list[str]:
    """The operators of a graph, in order, without DequantizeLinear of constants."""
    found = []
    for node in graph.ordered():
        first = graph.operand(node, 0)
        if not (node.op_type == "DequantizeLinear" and first is not None and first.constant):
            found.append(node.op_type)
    return found
