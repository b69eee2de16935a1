"""Bounds that are as wide as the source model's own noise, in fp32 and in bf16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import pytest

import optc
from helpers import graph_from_text
from optc.errors import GoalMissed
from optc.numerics.noise import perturbed_weights
from optc.passes import CastBf16, PassContext, PassResult

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph
    from optc.results import CompileResult

# The slope of the sine makes roundings up to 20 times as large as they are in the product.
STEEP = """g (float[64,64] x, float[64,64] w) => (float[64,64] y) <float k = {20}> {
    p = MatMul(x, w)  q = MatMul(p, w)  s = Mul(q, k)  y = Sin(s) }"""
LABELS = """g (float[256,64] x, float[64,64] w) => (int64[256] y) {
    p = MatMul(x, w)  q = MatMul(p, w)  y = ArgMax<axis = 1, keepdims = 0>(q) }"""


def compiled(folder: Path, text: str) -> CompileResult:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}')
    weights = np.random.default_rng(0).normal(0, 0.125, (64, 64)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    del proto.graph.input[1]
    onnx.save(proto, folder / "m.onnx")
    recipe: dict[str, Any] = {
        "schema_version": 1,
        "model": str(folder / "m.onnx"),
        "targets": ["sapphirerapids"],
        "runtime": "openvino",
        "pipeline": ["infer-shapes", "cast-bf16"],
        "emit": {"format": "onnx"},
    }
    return optc.compile(recipe, output=folder / "out")


@pytest.mark.parametrize("text", [STEEP, LABELS], ids=["steep", "labels"])
def test_a_model_that_amplifies_roundings_may_differ_as_much_in_bf16(
    text: str, tmp_path: Path
) -> None:
    (artifact,) = compiled(tmp_path, text).artifacts.values()
    assert artifact.verification is not None
    (output,) = artifact.verification.comparison.outputs
    assert output.passed
    assert "widened to 4 times the source's own noise" in output.tolerance.reason
    assert output.mismatched or output.relative > 0.05  # what can be derived: 0.03


@pytest.mark.parametrize("text", [STEEP, LABELS], ids=["steep", "labels"])
def test_a_wrong_result_does_not_pass_for_noise(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = CastBf16.apply

    def wrong(self: CastBf16, graph: Graph, context: PassContext) -> PassResult:
        (second,) = (n for n in graph.ordered() if n.is_op("MatMul") and n.output.name == "q")
        graph.set_operand(second, 0, graph.operand(second, 1))
        return right(self, graph, context)

    monkeypatch.setattr(CastBf16, "apply", wrong)
    if text is LABELS:
        text = text.replace("256", "64")
    with pytest.raises(GoalMissed, match="begins with pass cast-bf16"):
        compiled(tmp_path, text)


def test_weights_are_off_by_a_rounding_at_most_and_by_the_same_each_time() -> None:
    text = """g (float[8,8] x) => (y) <float[8,8] w = {WEIGHTS}, float[8,8] c = {WEIGHTS}> {
        p = MatMul(x, w)  q = MatMul(p, w)  y = Add(q, c) }"""
    made = graph_from_text(text.replace("WEIGHTS", ", ".join(map(str, range(64)))))
    first, second, other = (weights(perturbed_weights(made, seed=seed)) for seed in (0, 0, 1))
    exact = np.arange(64, dtype=np.float32).reshape(8, 8)
    assert len(first) == 2  # what both products share stays one constant
    (moved,) = (array for array in first if not np.array_equal(array, exact))
    assert 2**-10 < np.abs(moved / exact.clip(1) - exact / exact.clip(1)).max() <= 2**-8 * 1.001
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


def weights(made: Graph) -> list[Any]:
    """The constants that operations read, in order."""
    values = (v for node in made.ordered() for v in made.operands(node) if v is not None)
    return [v.constant.numpy() for v in dict.fromkeys(values) if v.constant is not None]
