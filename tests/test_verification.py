"""Verification finds a wrong pass and names it, judges goals, and says when it cannot tell."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx
import onnx.parser
import pytest

import optc
from optc.errors import DataError, GoalMissed
from optc.ir import Tensor
from optc.passes import RemoveDead, RemoveDuplicates, RemoveIdentity
from optc.passes.base import PassContext, PassResult

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4] x) => (float[N,4] y)
<float[4] w = {1, 2, 3, 4}>
{
  a = Mul (x, w)
  b = Tanh (a)
  y = Identity (b)
}
"""


class Wrong(RemoveIdentity):
    """Adds a thousandth to a weight and calls itself remove-identity."""

    name: ClassVar[str] = "remove-identity"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        (old,) = graph.constants()
        assert old.constant is not None
        tensor = Tensor.from_numpy(old.constant.numpy() * np.float32(1.001))
        new = graph.add_constant(tensor, graph.fresh_name("w"))
        graph.replace_uses(old, new)
        graph.remove(old.node)
        return PassResult(changed=True, counts={"damage": 1})


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, object]:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    return {
        "schema_version": 1,
        "model": str(tmp_path / "model.onnx"),
        "targets": ["clx"],
        "pipeline": ["infer-shapes", "remove-dead", "remove-identity", "remove-duplicates"],
        "output": str(tmp_path / "out"),
    }


def test_a_wrong_pass_is_found_by_bisecting(
    recipe: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RemoveIdentity, "apply", Wrong.apply)
    with pytest.raises(GoalMissed) as caught:
        optc.compile(recipe)
    assert caught.value.code == "verification-failed"
    assert "output y" in caught.value.message
    assert "begins with pass remove-identity (step 3 of " in caught.value.message
    assert not (tmp_path / "out").exists()


RAISED = """
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,4] x) => (float[N,4] y)
<float a = {3}, float lo = {0}, float hi = {6}>
{
  p = Add (x, a)
  q = Clip (p, lo, hi)
  r = Mul (x, q)
  y = Div (r, hi)
}
"""


@pytest.mark.parametrize("where", ["remove-dead", "remove-duplicates"])
def test_between_steps_canonical_operations_are_lowered(
    where: str, recipe: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong pass is one before the raising one, or one that only runs after the lowering."""
    onnx.save(onnx.parser.parse_model(RAISED), tmp_path / "model.onnx")
    wrong = {"remove-dead": RemoveDead, "remove-duplicates": RemoveDuplicates}[where]

    def damage(self: object, graph: Graph, context: PassContext) -> PassResult:
        del self, context
        node = graph.operand(graph.outputs[0], 0)
        assert node is not None
        made = graph.add("Neg", [node], outputs=[graph.fresh_name("wrong")], types=[node.type])
        graph.set_operand(graph.outputs[0], 0, made.output)
        return PassResult(changed=True, counts={"damage": 1})

    monkeypatch.setattr(wrong, "apply", damage)
    steps = ["infer-shapes", "raise-activations", "remove-identity"]
    if where == "remove-dead":
        steps.append(where)
    with pytest.raises(GoalMissed) as caught:
        optc.compile({**recipe, "pipeline": steps})
    assert caught.value.code == "verification-failed"
    assert f"begins with pass {where} (step " in caught.value.message


def test_validation_data_is_looked_for_before_any_pass_runs(
    recipe: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: object, graph: Graph, context: PassContext) -> PassResult:
        raise AssertionError

    monkeypatch.setattr(RemoveIdentity, "apply", never)
    with pytest.raises(DataError) as caught:
        optc.compile({**recipe, "data": {"validation": {"path": str(tmp_path / "none.npz")}}})
    assert caught.value.code == "data-not-found"


def test_seeded_inputs_and_their_warning_about_goals(recipe: dict[str, object]) -> None:
    result = optc.compile({**recipe, "accuracy": {"metric": "cosine", "min": 0.999}})
    verification = result.artifacts["cascadelake"].verification
    assert verification is not None
    assert verification.data == "seeded inputs (seed 0)"
    assert verification.goals[0].met
    assert any("seeded inputs" in warning for warning in result.warnings)


@pytest.mark.parametrize(("on_miss", "kept"), [("fail", False), ("keep", True)])
def test_a_missed_goal_keeps_or_drops_the_result(
    recipe: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    on_miss: str,
    kept: bool,
) -> None:
    monkeypatch.setattr(RemoveIdentity, "apply", Wrong.apply)
    goal = {"metric": "max_abs_error", "max": 1e-9, "on_miss": on_miss}
    loose = {**recipe, "accuracy": goal, "verify": {"rtol": 0.1}}
    try:
        missed: GoalMissed | None = optc.compile(loose).missed
    except GoalMissed as error:
        missed = error
    assert missed is not None
    assert missed.code == "accuracy-goal-missed"
    assert (tmp_path / "out").exists() == kept


def test_labels_judge_source_and_result(recipe: dict[str, object], tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    np.savez(tmp_path / "val.npz", x=rows, label=np.array([0, 1, 2, 0]))
    data = {"validation": {"path": str(tmp_path / "val.npz"), "labels": "label"}}
    goal = {"metric": "top1", "min": 0.9}
    with pytest.raises(GoalMissed, match=r"missed: top1 0\.75 \(goal ≥ 0\.9, source 0\.75\)\n"):
        optc.compile({**recipe, "data": data, "accuracy": goal})
    result = optc.compile({**recipe, "data": data, "accuracy": {**goal, "min": 0.7}})
    verification = result.artifacts["cascadelake"].verification
    assert verification is not None
    assert (verification.goals[0].value, verification.goals[0].source) == (0.75, 0.75)
    assert verification.scored == 4


def test_without_verification_nothing_runs(
    recipe: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*words: object, **options: object) -> None:
        raise AssertionError("a session was opened")

    monkeypatch.setattr("optc.verification.open_session", never)
    result = optc.compile(recipe, verify=False)
    assert result.artifacts["cascadelake"].verification is None


def test_targets_with_equal_steps_share_their_graph(recipe: dict[str, object]) -> None:
    result = optc.compile(recipe, targets=["clx", "spr"])
    first, second = result.artifacts.values()
    assert [step.seconds for step in first.steps] == [step.seconds for step in second.steps]
    assert list(result.artifacts) == ["cascadelake", "sapphirerapids"]


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="no openvino")
def test_a_source_that_states_bf16_without_types_of_its_values(tmp_path: Path) -> None:
    """Only its Casts tell: onnxruntime has no kernel for the product, so the twin stands for it."""
    text = """<ir_version: 10, opset_import: ["" : 22]>
        g (float[16,16] x) => (float[16,16] y) {
          a = Cast <to = 16> (x)  p = MatMul (a, a)  y = Cast <to = 1> (p) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    recipe = {
        "schema_version": 1,
        "model": str(tmp_path / "m.onnx"),
        "targets": ["sapphirerapids"],
        "runtime": "openvino",
        "pipeline": ["infer-shapes", "remove-dead"],
    }
    (artifact,) = optc.compile(recipe, output=tmp_path / "out").artifacts.values()
    assert artifact.verification is not None
    assert artifact.verification.comparison.passed
