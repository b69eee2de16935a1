"""An observer for tests: runs a graph on seeded inputs, and quantizes with what it sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.pass_checks import seeded
from optc.emit.onnx import serialize
from optc.ir import Graph, clone
from optc.ir.verify import verify
from optc.numerics.evaluate import open_session
from optc.passes import InferShapes, LowerOperators, PassContext
from optc.passes.quantize_int8 import QuantizeInt8
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir import Value
    from optc.numerics.values import Array, Feeds
    from optc.passes.base import PassResult


class SeededObserver:
    """Runs graphs on inputs that are given, or on seeded ones of small integers."""

    origin = "inputs of a test"
    real = True
    digest = "0" * 64

    def __init__(self, samples: Sequence[Feeds] = ()) -> None:
        self.samples = samples
        self.observed: list[str] = []

    def observe(
        self,
        graph: Graph,
        values: Sequence[Value],
        *,
        activity: str = "calibrate",
        skip: int = 0,
    ) -> Iterator[Mapping[str, Array]]:
        copy = clone(graph)
        LowerOperators().apply(copy, PassContext())
        ports = {value.name: f"port/{value.name}" for value in values}
        for name, port in ports.items():
            copy.add_output(copy.value(name), port, copy.value(name).type)
        self.observed += list(ports)
        session = open_session(serialize(copy))
        for feeds in list(self.samples or [seeded(graph)])[skip:]:
            found = session.run(feeds, list(ports.values()))
            yield {name: found[port] for name, port in ports.items()}  # type: ignore[misc] # tensors


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
    context = PassContext(target, runtime, observer=SeededObserver(samples), cpu=cpu)
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
