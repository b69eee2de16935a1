"""Two models on the same inputs: figures of outputs, what is refused, and on what data."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import onnx.parser
import pytest

import optc
from optc.errors import DataError, ModelError

ROOT = Path(__file__).resolve().parents[2]
RESNET = ROOT / "tests" / "models" / "mnist_resnet.onnx"
MNIST = ROOT / "recipes" / "quickstart" / "mnist.npz"
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def write(folder: Path, name: str, text: str) -> Path:
    """An ONNX file from text."""
    path = folder / f"{name}.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}'), path)
    return path


def test_a_model_equals_itself() -> None:
    result = optc.compare(RESNET, RESNET, data=MNIST, split="test", samples=5)
    (output,) = result.outputs
    assert (result.data, result.samples, result.seeded) == ("split test of mnist.npz", 5, False)
    assert (output.name, output.dtype, output.shape, output.elements) == (
        "logits", "float32", (1, 10), 50,
    )  # fmt: skip
    assert (output.sqnr, output.cosine, output.max_abs_error) == (math.inf, 1.0, 0.0)
    assert (output.top1, output.top5) == (1.0, 1.0)
    assert result.layers is None
    assert result.missed(200.0) is None


def test_figures_over_all_samples_are_those_of_the_definitions(tmp_path: Path) -> None:
    a = write(tmp_path, "a", "g (float[n,3] x) => (float[n,3] y) { y = Identity(x) }")
    b = write(
        tmp_path, "b", "g (float[n,3] x) => (float[n,3] y) <float[3] w = {1.0, 1.0, 1.5}> "
        "{ y = Mul(x, w) }",
    )  # fmt: skip
    x = np.array([[1, 2, 3], [3, 2, 2.5], [0, 1, 0]], np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    (output,) = optc.compare(a, b, data=tmp_path / "d.npz").outputs
    y = x * np.array([1, 1, 1.5])
    assert output.sqnr == pytest.approx(10 * math.log10((x**2).sum() / ((x - y) ** 2).sum()))
    cosine = (x * y).sum() / math.sqrt((x**2).sum() * (y**2).sum())
    assert output.cosine == pytest.approx(cosine)
    assert output.max_abs_error == 1.5
    assert output.relative == pytest.approx(math.sqrt(((x - y) ** 2).sum() / (x**2).sum()))
    assert output.top1 == pytest.approx(2 / 3)  # [3, 2, 3.75] has another best class
    assert output.top5 is None  # of three classes


def test_integer_outputs_are_equal_or_not(tmp_path: Path) -> None:
    a = write(tmp_path, "a", "g (int64[n] x) => (int64[n] y) { y = Identity(x) }")
    b = write(tmp_path, "b", "g (int64[n] x) => (int64[n] y) <int64 m = {2}> { y = Min(x, m) }")
    np.savez(tmp_path / "d.npz", x=np.array([[1], [2], [3], [9]]))
    result = optc.compare(a, b, data=tmp_path / "d.npz")
    (output,) = result.outputs
    assert (output.is_exact, output.unequal) == (True, 0.5)
    assert output.to_dict()["sqnr"] is None
    assert result.missed(99.0) is None  # a goal in dB says nothing about integers


def test_differences_besides_the_numbers_are_told_in_words(tmp_path: Path) -> None:
    a = write(
        tmp_path, "a", "g (float[2] x) => (float[2] p, float[2] q, float[2] r, float[2] s) "
        "{ p = Relu(x) q = Relu(x) r = Relu(x) s = Neg(x) }",
    )  # fmt: skip
    b = write(
        tmp_path, "b", "g (float[2] x) => (float16[2] p, float[1,2] q, int64[2] r, float[2] t) "
        "<int64[1] axis = {0}> { u = Relu(x) p = Cast<to = 10>(u) q = Unsqueeze(u, axis) "
        "r = Cast<to = 7>(u) t = Neg(x) }",
    )  # fmt: skip
    result = optc.compare(a, b)
    told = {output.name: (output.problem, output.compared) for output in result.outputs}
    assert told == {
        "p": ("float32 became float16", True),
        "q": ("shape [2] became [1, 2]", False),
        "r": ("float32 became int64", False),
        "s": ("it is missing in B", False),
        "t": ("the reference has no such output", False),
    }
    missed = result.missed(0.0)
    assert missed is not None
    assert "output q: shape [2] became [1, 2]; at least 0 dB are asked for" in missed.message


def test_a_goal_in_db_judges_the_worst_output(tmp_path: Path) -> None:
    head = "g (float[4] x) => (float[4] p, float[4] q)"
    a = write(tmp_path, "a", f"{head} {{ p = Relu(x) q = Neg(x) }}")
    b = write(
        tmp_path, "b", f"{head} <float s = {{1.01}}> {{ p = Relu(x) n = Neg(x) q = Mul(n, s) }}"
    )
    result = optc.compare(a, b)
    assert result.min_sqnr == pytest.approx(40.0, abs=0.01)
    assert result.missed(39.9) is None
    missed = result.missed(40.1)
    assert missed is not None
    assert (missed.code, missed.exit_code) == ("sqnr-below", 4)
    assert missed.message == "output q: SQNR 40.0 dB; at least 40.1 dB are asked for"


def test_elements_of_sequences_are_outputs_of_their_own(tmp_path: Path) -> None:
    text = "g (float[2,2] x) => (seq(float[2]) y) { y = SplitToSequence<keepdims = 0>(x) }"
    model = write(tmp_path, "a", text)
    assert [output.name for output in optc.compare(model, model).outputs] == ["y[0]", "y[1]"]


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ("float[2] y", "x is missing; y is not expected"),
        ("int64[2] x", "x is i64[2] instead of f32[n]"),
        ("float[2,2] x", "x is f32[2,2] instead of f32[n]"),
        ("float[2] x, float[2] y", "y is not expected"),
    ],
)
def test_models_with_other_inputs_are_refused(tmp_path: Path, inputs: str, problem: str) -> None:
    a = write(tmp_path, "a", "g (float[n] x) => (float[n] z) { z = Identity(x) }")
    name = inputs.split()[-1] if "," not in inputs else "x"
    b = write(tmp_path, "b", f"g ({inputs}) => (float[2] z) {{ z = Cast<to = 1>({name}) }}")
    with pytest.raises(ModelError, match="the models take different inputs") as caught:
        optc.compare(a, b)
    assert caught.value.code == "inputs-differ"
    assert problem in caught.value.message
    assert caught.value.location == str(b)
    assert caught.value.hint


def test_sizes_that_one_model_fixes_hold_for_both(tmp_path: Path) -> None:
    a = write(tmp_path, "a", "g (float[n,h] x) => (float[n,h] y) { y = Relu(x) }")
    b = write(tmp_path, "b", "g (float[n,5] x) => (float[n,5] y) { y = Relu(x) }")
    assert optc.compare(a, b).outputs[0].shape == (2, 5)
    c = write(tmp_path, "c", "g (float[n,6] x) => (float[n,6] y) { y = Relu(x) }")
    with pytest.raises(ModelError, match=r"x is f32\[n,6\] instead of f32\[n,5\]"):
        optc.compare(b, c)


def test_indices_of_seeded_inputs_are_valid(tmp_path: Path) -> None:
    model = write(
        tmp_path, "a", "g (int64[n] x) => (float[n,2] y) "
        "<float[3,2] table = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> { y = Gather<axis = 0>(table, x) }",
    )  # fmt: skip
    result = optc.compare(model, model)
    assert (result.data, result.seeded, result.samples) == ("seeded inputs (seed 0)", True, 4)


def test_inputs_that_the_data_lacks_are_filled(tmp_path: Path) -> None:
    model = write(tmp_path, "a", "g (float[2] x, float[2] h) => (float[2] y) { y = Add(x, h) }")
    np.savez(tmp_path / "d.npz", x=np.ones((3, 2), np.float32))
    with pytest.raises(DataError, match="h"):
        optc.compare(model, model, data=tmp_path / "d.npz")
    assert optc.compare(model, model, data=tmp_path / "d.npz", fill={"h": 0.0}).samples == 3
    with pytest.raises(DataError) as caught:
        optc.compare(model, model, fill={"g": 0.0})
    assert caught.value.code == "unknown-input"


def test_onnx_test_data_sets_are_data(tmp_path: Path) -> None:
    model = write(tmp_path, "a", "g (float[2] x) => (float[2] y) { y = Relu(x) }")
    for number in range(2):
        folder = tmp_path / "sets" / f"test_data_set_{number}"
        folder.mkdir(parents=True)
        tensor = onnx.numpy_helper.from_array(np.ones(2, np.float32), "x")
        (folder / "input_0.pb").write_bytes(tensor.SerializeToString())
    assert optc.compare(model, model, data=tmp_path / "sets").samples == 2


def test_the_result_is_json(tmp_path: Path) -> None:
    recipe = {"schema_version": 1, "name": "m", "model": str(RESNET), "targets": ["clx"]}
    optc.compile(recipe, output=tmp_path / "out", verify=False)
    result = optc.compare(RESNET, tmp_path / "out" / "cascadelake", layers=True)
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    own = {"model": str(RESNET), "runtime": "onnxruntime", "target": None, "note": None}
    assert found["a"] == own
    assert found["b"]["target"] == "cascadelake"
    assert found["outputs"][0]["sqnr"] > 100
    assert found["layers"]["first_jump"] is None
    assert found["layers"]["matched"] == len(found["layers"]["layers"]) == 22


@needs_openvino
def test_one_file_on_two_runtimes() -> None:
    result = optc.compare(RESNET, RESNET, runtime_b="openvino", data=MNIST, split="test", samples=4)
    assert (result.a.runtime, result.b.runtime) == ("onnxruntime", "openvino")
    assert 100 < result.min_sqnr < math.inf


@needs_openvino
def test_an_output_of_an_ir_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    import openvino

    text = "g (float[2] x) => (float[2] a, float[2] b) { a = Relu(x) b = Identity(a) }"
    model = write(tmp_path, "a", text)
    openvino.save_model(openvino.Core().read_model(str(model)), tmp_path / "a.xml")
    result = optc.compare(model, tmp_path / "a.xml")
    assert [(output.name, output.problem) for output in result.outputs] == [("a", ""), ("b", "")]


@needs_openvino
def test_a_file_that_is_no_ir_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<net>")
    with pytest.raises(ModelError, match="not an IR") as caught:
        optc.compare(tmp_path / "a.xml", RESNET)
    assert caught.value.code == "runtime-cannot-load"
