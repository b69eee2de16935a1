"""Models that state bf16, compiled: one IR for CPUs with and without it, exact plans, refusals."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest

import optc
from optc.errors import CapabilityError, GoalMissed, RecipeError
from optc.targets import host_capabilities

if TYPE_CHECKING:
    from pathlib import Path

    from optc.numerics.values import Feeds

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

# Attention between two products: Softmax and the last product stay fp32.
MODEL = """
<ir_version: 10, opset_import: ["" : 22]>
g (float[4,16] x, bfloat16[16,16] v, float[16,16] w, float[16] b) => (float[4,16] y) {
  [in] xb = Cast <to = 16> (x)
  [prod] p = MatMul (xb, v)
  [act] r = Relu (p)
  [out] f = Cast <to = 1> (r)
  [soft] s = Softmax (f)
  [second] m = MatMul (s, w)
  [bias] a = Add (m, b)
  [last_in] ab = Cast <to = 16> (a)
  [last] q = MatMul (ab, v)
  y = Cast <to = 1> (q)
}
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    proto = onnx.parser.parse_model(MODEL)
    drawn = np.random.default_rng(0)
    kinds: dict[str, tuple[Any, Any]] = {
        "v": ((16, 16), ml_dtypes.bfloat16),
        "w": ((16, 16), np.float32),
        "b": ((16,), np.float32),
    }
    for name, (shape, dtype) in kinds.items():
        array = drawn.standard_normal(shape).astype(dtype)
        number = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        proto.graph.initializer.append(
            onnx.helper.make_tensor(name, number, shape, array.tobytes(), raw=True)
        )
        del proto.graph.input[1]
    onnx.save(proto, tmp_path / "m.onnx")
    return str(tmp_path / "m.onnx")


def recipe(model: str, targets: list[str], **emit: str) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "model": model,
        "targets": targets,
        "runtime": "openvino",
        "pipeline": ["infer-shapes"],
        "emit": {"format": "openvino", **emit},
    }


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def hint(folder: Path) -> str:
    options = json.loads((folder / "launch" / "runtime.json").read_text())
    return str(options["properties"]["INFERENCE_PRECISION_HINT"])


@needs_openvino
def test_implicit_is_an_fp32_graph_with_marks_and_a_hint(model: str, tmp_path: Path) -> None:
    result = optc.compile(recipe(model, ["spr"]), output=tmp_path / "out")
    folder = tmp_path / "out" / "sapphirerapids"
    rows = {row["name"]: row for row in report(folder)["nodes"]}
    planned = {name: row["precision"] for name, row in rows.items()}
    assert planned == {
        **dict.fromkeys(("prod", "act", "last"), "bf16"),
        **dict.fromkeys(("soft", "second", "bias"), "fp32"),
    }
    assert rows["prod"]["isa"] in ("amx_bf16", "avx512_bf16")
    assert "Cast" not in (folder / "graph.txt").read_text()
    assert hint(folder) == "bf16"
    text = (folder / "model.xml").read_text()
    assert 'name="second/Clamp" type="Clamp"' in text
    assert text.count('<attribute name="precise" version="0" />') == 4  # and the Clamp
    assert text.count('element_type="bf16"') == 2  # v, for each product; w is used in fp32
    verification = result.artifacts["sapphirerapids"].verification
    assert verification is not None
    assert verification.comparison.passed
    if "avx512" not in host_capabilities():
        assert any("has no AVX-512" in note for note in verification.notes)
        assert "AVX-512" not in json.dumps(report(folder))


@needs_openvino
def test_the_table_of_precisions_adds_up(model: str, tmp_path: Path) -> None:
    optc.compile(recipe(model, ["spr"]), output=tmp_path / "out")
    found = report(tmp_path / "out" / "sapphirerapids")
    counts = [number for row in found["precision"].values() for number in row.values()]
    assert sum(counts) == found["operations"]["result"] == 6
    assert found["precision"]["MatMul"] == {"bf16": 2, "fp32": 1}


@needs_openvino
def test_a_cpu_without_bf16_gets_the_same_file_and_the_hint_f32(model: str, tmp_path: Path) -> None:
    optc.compile(recipe(model, ["spr", "clx"]), output=tmp_path / "out")
    able, other = (tmp_path / "out" / name for name in ("sapphirerapids", "cascadelake"))
    assert (hint(able), hint(other)) == ("bf16", "f32")
    assert {row["precision"] for row in report(other)["nodes"]} == {"fp32"}
    assert (able / "model.bin").read_bytes() == (other / "model.bin").read_bytes()
    needs = [
        {
            flag
            for need in json.loads((folder / "launch" / "runtime.json").read_text())["needs"]
            for flag in need["any_of"]
        }
        for folder in (able, other)
    ]
    assert "avx512_bf16" in needs[0]
    assert "avx512_bf16" not in needs[1]


@needs_openvino
def test_the_ir_computes_what_the_fp32_graph_does_under_the_hint_f32(
    model: str, tmp_path: Path
) -> None:
    """On weights that bf16 holds, the IR is the fp32 model: nothing else is rounded."""
    from optc.numerics.twin import widen

    optc.compile(recipe(model, ["clx"]), output=tmp_path / "out")
    wide = tmp_path / "wide.onnx"
    optc.save_model(widen(optc.load_model(model)).graph, wide)
    found = optc.compare(wide, tmp_path / "out" / "cascadelake")
    assert found.min_sqnr > 120


@needs_openvino
def test_explicit_states_the_types(model: str, tmp_path: Path) -> None:
    optc.compile(recipe(model, ["spr"], bf16="explicit"), output=tmp_path / "out")
    folder = tmp_path / "out" / "sapphirerapids"
    assert hint(folder) == "f32"  # what is stated in fp32 stays fp32
    assert "bf16[4,16]" in (folder / "graph.txt").read_text()
    text = (folder / "model.xml").read_text()
    assert text.count('destination_type="bf16"') == 2
    assert "precise" not in text


@needs_openvino
def test_explicit_is_refused_for_a_cpu_without_bf16(model: str, tmp_path: Path) -> None:
    for targets in (["clx"], ["spr", "clx"]):
        with pytest.raises(CapabilityError, match=r"prod \(MatMul\) first; cascadelake") as caught:
            optc.compile(recipe(model, targets, bf16="explicit"), output=tmp_path / "out")
        assert caught.value.code == "bf16-not-computed"
        assert "bf16: implicit" in str(caught.value.hint)
    assert not (tmp_path / "out").exists()


def test_onnxruntime_is_refused_with_the_alternatives(model: str, tmp_path: Path) -> None:
    asked = {**recipe(model, ["spr"]), "runtime": "onnxruntime", "emit": {}}
    with pytest.raises(CapabilityError, match="3 operations state bf16") as caught:
        optc.compile(asked, output=tmp_path / "out")
    assert caught.value.code == "bf16-not-computed"
    hint = str(caught.value.hint)
    assert "runtime: openvino" in hint
    assert "int8" in hint
    assert "weights: bf16" in hint


@needs_openvino
def test_an_onnx_model_for_openvino_says_so(model: str, tmp_path: Path) -> None:
    asked = {**recipe(model, ["spr"]), "emit": {}}
    result = optc.compile(asked, output=tmp_path / "out")
    proto = onnx.load(tmp_path / "out" / "sapphirerapids" / "model.onnx")
    entries = {entry.key: entry.value for entry in proto.metadata_props}
    assert entries["optc.runtime"] == "openvino"
    verification = result.artifacts["sapphirerapids"].verification
    assert verification is not None
    assert verification.comparison.passed


def test_the_form_of_bf16_belongs_to_openvino_ir(model: str) -> None:
    asked = {**recipe(model, ["spr"]), "emit": {"bf16": "explicit"}}
    with pytest.raises(RecipeError, match="'bf16' says nothing about format 'onnx'"):
        optc.load_recipe(asked)


@needs_openvino
def test_operators_that_lose_their_mark_are_named(tmp_path: Path) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 22]>
    g (float[1,4,8,8] x, bfloat16[4,4,1,1] w) => (float[1,4,16,8] y)
    <int64[4] n = {1, 1, 2, 1}> {
      xb = Cast <to = 16> (x) c = Conv (xb, w) f = Cast <to = 1> (c)
      [twice] m = Tile (f, n)
      mb = Cast <to = 16> (m) d = Conv (mb, w) y = Cast <to = 1> (d)
    }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    result = optc.compile(recipe(str(tmp_path / "m.onnx"), ["spr"]), output=tmp_path / "out")
    (found,) = [text for text in result.warnings if "may run in bf16" in text]
    assert "twice (Tile)" in found


@needs_openvino
@pytest.mark.parametrize(("deny", "named"), [(["Exp"], False), (["Exp", "Tile"], True)], ids=str)
def test_what_is_fp32_to_save_conversions_alone_may_lose_its_mark(
    deny: list[str], named: bool, tmp_path: Path
) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 22]>
    g (float[64,256] x, float[256,256] w) => (float[128,256] y) <int64[2] n = {2, 1}> {
      p = MatMul (x, w) e = Exp (p) [twice] t = Tile (e, n) f = Exp (t) y = MatMul (f, w)
    }
    """
    proto = onnx.parser.parse_model(text)
    drawn = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32) / 256
    proto.graph.initializer.append(onnx.numpy_helper.from_array(drawn, "w"))
    del proto.graph.input[1]
    onnx.save(proto, tmp_path / "m.onnx")
    steps = ["infer-shapes", {"assign-precision": {"deny": deny}}]
    asked = {**recipe(str(tmp_path / "m.onnx"), ["spr"]), "pipeline": steps}
    result = optc.compile(asked, output=tmp_path / "out")
    warned = any("twice" in text or "Tile" in text for text in result.warnings)
    assert warned == named
    report = json.loads((tmp_path / "out" / "sapphirerapids" / "report.json").read_text())
    assert {row["op"]: row["precision"] for row in report["nodes"]}["Tile"] == "fp32"


@needs_openvino
def test_a_goal_is_measured_on_the_twin(model: str, tmp_path: Path) -> None:
    """The source model states bf16 itself, so its twin and that of the result are the same."""
    goal = {"accuracy": {"metric": "sqnr", "min": 200}}
    result = optc.compile({**recipe(model, ["spr"]), **goal}, output=tmp_path / "out")
    verification = result.artifacts["sapphirerapids"].verification
    assert verification is not None
    assert verification.goals[0].met


@needs_openvino
def test_a_wrong_file_beside_a_right_twin_is_the_emitters(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optc.twins import Emulation, open_emulation

    class Off:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def run(self, feeds: Any) -> Feeds:
            return {name: value * np.float32(1.5) for name, value in self.inner.run(feeds).items()}

    def wrong(*asked: Any) -> Emulation:
        return Emulation(Off(open_emulation(*asked).runner))

    monkeypatch.setattr("optc.verification.open_emulation", wrong)
    with pytest.raises(GoalMissed, match="the fp32 twin is right"):
        optc.compile(recipe(model, ["spr"]), output=tmp_path / "out")


@needs_openvino
@pytest.mark.parametrize("steps", [["assign-precision"], ["cast-bf16"]])
def test_decisions_are_followed_whether_a_pass_wrote_them_or_not(
    steps: list[str], tmp_path: Path
) -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 22]>
    g (float[64,256] x, float[256,256] w) => (float[64,256] y) {
      [prod] p = MatMul (x, w) [exp] e = Exp (p) [last] y = MatMul (e, w)
    }
    """
    proto = onnx.parser.parse_model(text)
    weights = np.random.default_rng(0).normal(0, 0.02, (256, 256)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    del proto.graph.input[1]
    onnx.save(proto, tmp_path / "m.onnx")
    asked = recipe(str(tmp_path / "m.onnx"), ["spr", "clx"])
    asked["pipeline"] = ["infer-shapes", *steps]
    optc.compile(asked, output=tmp_path / "out")
    found = report(tmp_path / "out" / "sapphirerapids")
    assert found["precision"]["MatMul"] == {"bf16": 2}
    assert found["precision"]["Exp"] == {"fp32": 1}
    files = [
        (tmp_path / "out" / t / "model.xml").read_bytes() for t in ("sapphirerapids", "cascadelake")
    ]
    assert files[0] == files[1]
    assert hint(tmp_path / "out" / "cascadelake") == "f32"


@needs_openvino
def test_a_fleet_without_bf16_is_told_what_is_missing(tmp_path: Path, model: str) -> None:
    asked = {**recipe(model, ["clx"]), "pipeline": ["cast-bf16"]}
    with pytest.raises(CapabilityError, match="cascadelake lacks bf16"):
        optc.compile(asked, output=tmp_path / "out")
