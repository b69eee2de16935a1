"""The part of a range that an activation tells apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run
from optc.passes.told_apart import told_apart

TEXT = """<ir_version: 10, opset_import: ["" : 24]>
g (float[N] x) => (float[N] y) { v = Neg(x)  y = ACTIVATION }"""
NEAR = ["Swish(v)", "Swish <alpha = 1.7> (v)", "Gelu(v)", 'Gelu <approximate = "tanh"> (v)',
        "Mish(v)"]  # fmt: skip


@pytest.mark.parametrize("activation", [*NEAR, "HardSwish(v)", "HardSigmoid(v)"])
@pytest.mark.parametrize(("low", "high"), [(-12.0, 13.0), (-900.0, 4.0), (-4.0, 0.5)])
def test_results_are_off_by_an_eighth_of_a_step_at_most(
    activation: str, low: float, high: float
) -> None:
    graph = graph_from_text(TEXT.replace("ACTIVATION", activation))
    least, most = told_apart(graph, graph.value("v"), low, high)
    assert low <= least < 0 < most <= high
    assert low < least or low > -5  # with few steps below the end there is nothing to gain
    values = np.linspace(low, high, 20001, dtype=np.float32)
    kept = np.clip(values, np.float32(least), np.float32(most))
    results = [run(graph, {"x": -array})["y"] for array in (values, kept)]
    step = (most - least) / 255
    # Of float32 the activations have about 1e-6; the form of Gelu with tanh is 5e-4 from the other.
    margin = 5e-4 if "tanh" in activation else 2e-6
    assert np.abs(results[0] - results[1]).max() <= step / 8 + margin


@pytest.mark.parametrize("activation", NEAR)
def test_a_range_that_ends_early_stays(activation: str) -> None:
    graph = graph_from_text(TEXT.replace("ACTIVATION", activation))
    assert told_apart(graph, graph.value("v"), -1.0, 9.0) == (-1.0, 9.0)
    assert told_apart(graph, graph.value("v"), 0.5, 9.0) == (0.5, 9.0)


@pytest.mark.parametrize(
    "activation",
    ["Sigmoid(v)", "Tanh(v)", "Mul(v, v)", "Swish <alpha = -1.0> (v)", "Relu(v)", "Add(x, v)"],
)
def test_others_tell_everything_apart(activation: str) -> None:
    graph = graph_from_text(TEXT.replace("ACTIVATION", activation))
    assert told_apart(graph, graph.value("v"), -math.pi, 9.0) == (-math.pi, 9.0)


def test_a_second_use_tells_everything_apart() -> None:
    text = TEXT.replace("ACTIVATION", "HardSwish(v)").replace("y)", "y, float[N] z)", 1)
    graph = graph_from_text(text.replace("v = Neg", "z = Abs(v)  v = Neg"))
    assert told_apart(graph, graph.value("v"), -9.0, 9.0) == (-9.0, 9.0)
