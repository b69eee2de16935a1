"""cast-interface: float32 graph inputs and outputs become bf16, with no Cast more than needed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import optc
from helpers.bf16 import assert_lean, cast, casts, dtype, model
from helpers.promises import run_pass
from optc.errors import CapabilityError, GoalMissed, ModelError
from optc.ir import DType, Graph, clone
from optc.ir.verify import verify
from optc.launch.engines import open_engine
from optc.passes import CastInterface
from optc.recipe import load_recipe
from optc.runtime import artefact_options
from optc.twins import open_twin

if TYPE_CHECKING:
    from optc.passes import PassResult

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart"
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

PRODUCTS = """g (float[64,64] x, float[64,64] w) => (y, z) {
    a = MatMul(x, w)  y = MatMul(a, w)  z = Exp(a) }"""


def change(graph: Graph, *only: str) -> PassResult:
    result = run_pass(CastInterface(CastInterface.Options.model_validate({"only": only})), graph)
    assert verify(graph) == ()
    return result


def interface(graph: Graph) -> dict[str, str]:
    found = {value.name: dtype(value).value for value in graph.inputs}
    for node in graph.outputs:
        value = graph.operand(node, 0)
        assert value is not None
        found[node.name] = dtype(value).value
    return found


def test_users_of_the_old_type_share_one_cast() -> None:
    graph = model("g (float[4] x, int64[4] n) => (y, z) { y = Exp(x)  z = Sin(x)  }")
    result = change(graph)
    assert dict(result.counts) == {"cast-input": 1, "cast-output": 2}
    assert interface(graph) == {"x": "bf16", "n": "i64", "y": "bf16", "z": "bf16"}
    assert casts(graph) == {"x": "bf16->f32", "y": "f32->bf16", "z": "f32->bf16"}


def test_behind_cast_bf16_nothing_is_left_to_convert_where_bf16_meets_bf16() -> None:
    graph = model(PRODUCTS)
    cast(graph)
    assert casts(graph)["x"] == "f32->bf16"
    change(graph)
    assert interface(graph) == dict.fromkeys(("x", "w", "y", "z"), "bf16")
    assert list(casts(graph).values()) == ["bf16->f32", "f32->bf16"]  # around Exp
    assert_lean(graph)


def test_in_front_of_cast_bf16_it_is_the_same() -> None:
    behind, before = model(PRODUCTS), model(PRODUCTS)
    cast(behind)
    change(behind)
    change(before)
    cast(before)
    assert interface(before) == interface(behind)
    assert sorted(casts(before).values()) == sorted(casts(behind).values())


def test_the_numbers_are_those_of_rounded_inputs_and_outputs() -> None:
    graph = model("g (float[64,64] x, float[64,64] w) => (y) { y = MatMul(x, w) }")
    source = clone(graph)
    change(graph)
    rng = np.random.default_rng(0)
    feeds = {n: rng.standard_normal((64, 64)).astype(np.float32) for n in ("x", "w")}
    bf16 = DType.BF16.numpy
    rounded: Any = {name: a.astype(bf16).astype(np.float32) for name, a in feeds.items()}
    expected: Any = open_twin(source).run(rounded)["y"]
    given: Any = open_twin(graph).run({name: a.astype(bf16) for name, a in feeds.items()})["y"]
    assert given.dtype == bf16
    np.testing.assert_array_equal(given, expected.astype(bf16))
    # numpy has no bf16: whoever runs a model may give float32, which is rounded.
    np.testing.assert_array_equal(open_twin(graph).run({**feeds})["y"], given)


def test_only_what_is_named_changes() -> None:
    graph = model(PRODUCTS)
    change(graph, "x", "z")
    assert interface(graph) == {"x": "bf16", "w": "f32", "y": "f32", "z": "bf16"}


def test_an_input_that_is_an_output_and_one_that_a_branch_reads() -> None:
    graph = model(
        """g (float[4] x, bool c) => (x, y) {
           y = If (c) <then_branch = t () => (p) { p = Exp(x) },
                       else_branch = e () => (q) { q = Sin(x) }> }"""
    )
    change(graph)
    assert interface(graph) == {"x": "bf16", "c": "bool", "y": "bf16"}
    assert casts(graph) == {"x": "bf16->f32", "y": "f32->bf16"}


def test_an_input_with_a_default_keeps_its_type() -> None:
    graph = model("g (float[2] x, float[2] w) => (y) <float[2] w = {1.0, 2.0}> { y = Add(x, w) }")
    result = change(graph)
    assert interface(graph) == {"x": "bf16", "w": "f32", "y": "bf16"}
    assert [r.reason for r in result.refusals] == ["it has a default value, which is float32"]


@pytest.mark.parametrize(
    ("only", "code", "message"),
    [
        ("lable", "interface-unknown", "no input or output 'lable'; there are label, x, y"),
        ("label", "interface-type", "label is i64, and only float32 becomes bf16"),
    ],
)
def test_a_wrong_name_is_an_error(only: str, code: str, message: str) -> None:
    graph = model("g (int64[4] label, float[4] x) => (y) { y = Exp(x) }")
    with pytest.raises(ModelError, match=message) as caught:
        change(graph, only)
    assert caught.value.code == code
    assert caught.value.hint in ("did you mean 'label'?", "leave it out of `only`")


def test_an_opset_without_bf16_is_an_error_with_the_repair() -> None:
    graph = model("g (float[4] x) => (y) { y = Exp(x) }", opset=11)
    with pytest.raises(CapabilityError, match="needs opset 13, and the model has 11") as caught:
        change(graph)
    assert caught.value.hint == "put `upgrade-opset: {to: 13}` before it"
    assert interface(graph) == {"x": "f32", "y": "f32"}


def test_an_output_of_another_type_that_no_pass_owns_up_to_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CastInterface, "keeps_interface", True)
    recipe = {
        "schema_version": 1,
        "model": str(QUICKSTART / "mnist_mobilenet.onnx"),
        "targets": ["cascadelake"],
        "pipeline": ["infer-shapes", "cast-interface"],
        "output": str(tmp_path / "out"),
    }
    with pytest.raises(GoalMissed, match="float32 became bfloat16") as caught:
        optc.compile(recipe)
    assert "begins with pass cast-interface" in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("runtime", "emit"),
    [
        ("onnxruntime", {"format": "onnx"}),
        pytest.param("openvino", {"format": "openvino"}, marks=needs_openvino),
        pytest.param("openvino", {"format": "openvino", "bf16": "explicit"}, marks=needs_openvino),
        pytest.param("openvino", {"format": "onnx"}, marks=needs_openvino),
    ],
)
def test_a_recipe_verifies_it_and_the_data_may_be_float32(
    runtime: str, emit: dict[str, str], tmp_path: Path
) -> None:
    recipe = load_recipe(
        {
            "schema_version": 1,
            "name": "digits",
            "model": str(QUICKSTART / "mnist_mobilenet.onnx"),
            "targets": ["sapphirerapids"],
            "runtime": runtime,
            "pipeline": [{"preset": "bf16"}, {"cast-interface": {}}],
            "emit": emit,
            "data": {
                "validation": {
                    "path": str(QUICKSTART / "mnist.npz"),
                    "split": "test",
                    "labels": "label",
                    "samples": 64,
                }
            },
            "accuracy": {"metric": "top1", "min": 0.95},
            "output": str(tmp_path / "out"),
        }
    )
    (artifact,) = optc.compile(recipe).artifacts.values()
    assert artifact.verification is not None
    assert artifact.verification.comparison.passed
    assert all(goal.met for goal in artifact.verification.goals)
    folder = tmp_path / "out" / "sapphirerapids"
    (file,) = (
        found for found in folder.iterdir() if found.stem == "model" and found.suffix != ".bin"
    )
    # Not `open_artifact`, which refuses CPUs without bf16.
    engine = open_engine(file, artefact_options(folder))
    assert [str(type_)[:4] for type_ in engine.inputs.values()] == ["bf16"]
    image = np.load(QUICKSTART / "mnist.npz")["test:image"][:1]
    logits: Any = engine.run({"image": image})["logits"]
    assert logits.dtype == DType.BF16.numpy
