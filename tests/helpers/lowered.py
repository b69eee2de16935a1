"""Graphs before and after quantization, for passes that follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers.filled import filled_graph
from helpers.observing import SampleObserver
from optc.ir import Tensor, clone
from optc.passes import InferShapes, QuantizeInt8
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from optc.ir import Graph

TEXT = """agraph (float[1,3,8,8] x) => (float[1,5,8,8] y)
   <float[6,3,3,3] w, float[6] c, float[5,6,3,3] v, float[5] d> {
   a = Conv <pads=[1,1,1,1]> (x, w, c)
   r = Relu(a)
   y = Conv <pads=[1,1,1,1]> (r, v, d)
}"""


def quantized(
    text: str = TEXT, seed: int = 0, options: dict[str, str] | None = None
) -> tuple[Graph, Graph, SampleObserver]:
    """A graph with random weights, it with all its products on integers, and data."""
    graph = filled_graph(text)
    rng = np.random.default_rng(seed)
    for value in list(graph.constants()):
        assert value.constant is not None
        array = rng.normal(size=value.constant.shape).astype(np.float32)
        new = graph.add_constant(Tensor.from_numpy(array), graph.fresh_name(value.name))
        graph.replace_uses(value, new)
        graph.remove(value.node)
    (source,) = graph.inputs
    shape = [int(dim) for dim in getattr(source.type, "shape", ())]
    data = [np.abs(rng.normal(size=shape)).astype(np.float32) for _ in range(8)]
    observer = SampleObserver([{source.name: item} for item in data])
    lowered = clone(graph)
    wanted = QuantizeInt8.Options.model_validate({"placement": "kernels", **(options or {})})
    QuantizeInt8(wanted).apply(lowered, PassContext(observer=observer))
    InferShapes().apply(lowered, PassContext())
    return graph, lowered, observer


def sqnr(reference: Graph, graph: Graph, observer: SampleObserver) -> float:
    """Signal-to-noise ratio of the first output in dB."""
    pairs = zip(observer.outputs(reference), observer.outputs(graph), strict=True)
    errors = [(one.astype(np.float64), other - one) for one, other in pairs]
    signal = sum(float(np.square(one).sum()) for one, _ in errors)
    noise = sum(float(np.square(other).sum()) for _, other in errors)
    return float(10 * np.log10(signal / noise)) if noise else float("inf")
