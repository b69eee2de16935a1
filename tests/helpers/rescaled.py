"""Graphs with uneven channels, and what passes that rescale channels make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.observing import SampleObserver
from optc.ir import Tensor, clone
from optc.ir.verify import verify
from optc.passes import EqualizeChannels, SmoothActivations
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.passes.base import Pass, PassResult


def outliers(shape: tuple[int, ...], axis: int, samples: int = 3) -> SampleObserver:
    """Data one channel of which is a hundred times larger than the others."""
    rng = np.random.default_rng(0)
    scale = np.ones(shape[axis])
    scale[1] = 100
    spread = scale.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
    data = [(rng.normal(size=shape) * spread).astype(np.float32) for _ in range(samples)]
    return SampleObserver([{"x": item} for item in data])


def uneven(graph: Graph, name: str, channel: int) -> Graph:
    """Makes one output of what a constant scales or convolves a hundred times larger."""
    value = graph.value(name)
    assert value.constant is not None
    array = value.constant.numpy().copy()
    array[channel] *= 100
    new = graph.add_constant(Tensor.from_numpy(array), graph.fresh_name(name))
    graph.replace_uses(value, new)
    graph.remove(value.node)
    return graph


def run(
    graph: Graph, observer: SampleObserver, kind: type[Pass] | None = None, **options: Any
) -> tuple[PassResult, list[Any], list[Any]]:
    """Applies a pass, the rescaling one that fits when none is given; outputs before and after."""
    products = any(n.is_op("MatMul", "Gemm") for n in graph.nodes())
    kind = kind or (SmoothActivations if products else EqualizeChannels)
    step = kind(kind.Options(**options))
    before = observer.outputs(clone(graph))
    result = step.apply(graph, PassContext(observer=observer))
    assert not verify(graph)
    after = observer.outputs(graph)
    again = step.apply(graph, PassContext(observer=observer))
    assert not again.changed
    return result, before, after
