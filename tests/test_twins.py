"""Models that compute in bf16 on machines that do not: what is judged, loaded, and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from optc.numerics.twin import twin
from optc.passes import InferShapes, RaiseActivations
from optc.passes.base import PassContext
from optc.twins import lost_marks, open_twin, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph

HARD = """
<ir_version: 10, opset_import: ["" : 13]>
g (bfloat16[64] x) => (bfloat16[64] y)
<bfloat16 three = {16448}, bfloat16 six = {16576}, bfloat16 zero = {0}> {
  a = Add (x, three) b = Max (a, zero) c = Min (b, six) d = Mul (x, c) y = Div (d, six)
}
"""


def raised() -> Graph:
    graph = graph_from_text(HARD)
    for step in (InferShapes(), RaiseActivations()):
        step.apply(graph, PassContext())
    return graph


def test_a_canonical_operation_is_rounded_once() -> None:
    graph = raised()
    assert [node.qualified_op for node in graph.nodes()] == ["optc::HardSwish"]
    assert plain(twin(graph)) is not graph
    x = np.linspace(-4, 4, 64, dtype=np.float32).astype(graph.inputs[0].type.dtype.numpy)  # type: ignore[union-attr] # a tensor
    found = np.asarray(open_twin(graph).run({"x": x})["y"]).astype(np.float32)
    wide = x.astype(np.float64)
    exact = wide * np.clip(wide + 3, 0, 6) / 6
    # One rounding to nearest: half of a bf16 unit, 2^-8 of the number, and some of float32.
    assert np.all(np.abs(found - exact) <= np.abs(exact) * (2.0**-8 + 2.0**-20))


def test_a_graph_without_canonical_operations_is_taken_as_it_is() -> None:
    graph = graph_from_text(HARD)
    assert plain(graph) is graph


# What OpenVINO 2026.4.1 tells of executed layers: the names of fused operations in one text, a
# conversion as a layer of its own, constants as layers as well.
EXECUTED = [
    {"layerType": "Input", "runtimePrecision": "f32", "originalLayersNames": "x"},
    {"layerType": "FullyConnected", "runtimePrecision": "bf16", "originalLayersNames": "mm,bias"},
    {"layerType": "Reorder", "runtimePrecision": "bf16", "originalLayersNames": "soft"},
    {"layerType": "Softmax", "runtimePrecision": "f32", "originalLayersNames": "soft"},
    {"layerType": "Const", "runtimePrecision": "bf16", "originalLayersNames": "pool"},
    {"layerType": "Pooling", "runtimePrecision": "bf16", "originalLayersNames": "pool/MaxPool"},
    {"layerType": "Subgraph", "runtimePrecision": "f32", "originalLayersNames": "add,mul"},
]
KNOWN = {name: name for name in ("mm", "bias", "soft", "pool", "add", "mul")}


@pytest.mark.parametrize(
    ("kept", "lost"),
    [
        (("soft", "add"), ()),
        (("bias", "soft"), ("bias",)),
        (("pool", "mm", "mul"), ("mm", "pool")),
        ((), ()),
    ],
)
def test_lost_marks_are_found_by_the_names_of_layers(
    kept: tuple[str, ...], lost: tuple[str, ...]
) -> None:
    layers: list[Mapping[str, str]] = [*EXECUTED]
    assert lost_marks(layers, kept, KNOWN) == lost
