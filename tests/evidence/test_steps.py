"""Steps of a plan, measured: which ones, on graphs that a runtime takes, and what contradicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.parser
import pytest

from optc.driver import plan, prepare
from optc.evidence.bench_stats import Ratio
from optc.evidence.steps import MeasuredStep, measure_steps

if TYPE_CHECKING:
    from pathlib import Path

# HardSwish in four operations, below the opset that has it: between steps it is canonical.
MODEL = """
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,8] x) => (float[N,8] y)
<float a = {3}, float lo = {0}, float hi = {6}, float[8,8] w, float[8] s = {1,2,3,4,5,6,7,8}>
{
  m = MatMul (x, w)
  n = Mul (m, s)
  p = Add (n, a)
  q = Clip (p, lo, hi)
  r = Div (q, hi)
  y = Mul (n, r)
}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, object]:
    weights = ", ".join(str(number % 7) for number in range(64))
    model = onnx.parser.parse_model(MODEL.replace("[8,8] w", f"[8,8] w = {{{weights}}}"))
    onnx.save(model, tmp_path / "model.onnx")
    return {"schema_version": 1, "model": str(tmp_path / "model.onnx"), "targets": ["clx"]}


def test_steps_that_change_what_is_emitted_are_measured(recipe: dict[str, object]) -> None:
    prepared = prepare(recipe)
    made = plan(prepared)
    assert "raise-activations" in {s.name for s in made.targets["cascadelake"] if s.changed}
    found = measure_steps(prepared, made, runs=1)["cascadelake"]
    (folding,) = {step.step for step in found} & {"fold-affine", "move-affine"}
    for step in found:
        record = made.targets["cascadelake"][step.number]
        assert record.name == step.step
        assert step.measured.value > 0
        assert not step.contradicted  # one turn gives no interval
    predicted = {step.step: step.predicted for step in found}
    assert predicted[folding] > 1


@pytest.mark.parametrize(
    ("predicted", "low", "high", "contradicted"),
    [
        (1.1, 0.8, 0.9, True),
        (1.1, 0.9, 1.05, False),
        (0.9, 0.8, 0.9, False),
        (1.0, 0.8, 0.9, False),
    ],
)
def test_a_contradiction_is_a_loss_beyond_the_interval(
    predicted: float, low: float, high: float, contradicted: bool
) -> None:
    step = MeasuredStep("p", 1, predicted, Ratio((low + high) / 2, low, high, 0.95))
    assert step.contradicted is contradicted
    assert step.to_dict()["contradicted"] is contradicted
