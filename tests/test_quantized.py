"""Quantized results: kernels against the graph as written, noise against derived floors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import optc
from optc.errors import CapabilityError, GoalMissed
from optc.numerics.quantization_noise import floor, kernel_bounds, roundings
from optc.numerics.roundings import QUANTIZE_ERROR
from optc.numerics.tolerance import Tolerance
from optc.passes import ALL_PASSES, RemoveIdentity
from optc.prepare import prepare
from optc.targets import Target, host_capabilities

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph
    from optc.passes.base import Pass, PassContext, PassResult

MODEL = """
<ir_version: 8, opset_import: ["" : 13]>
g (float[N,32] x) => (float[N,16] y)
{
  [first] a = MatMul (x, v)
  b = Relu (a)
  [second] c = MatMul (b, w)
  y = Identity (c)
}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    model = onnx.parser.parse_model(MODEL)
    draw = np.random.default_rng(5)
    for name, shape in {"v": (32, 64), "w": (64, 16)}.items():
        weights = draw.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
    onnx.save(model, tmp_path / "model.onnx")
    data: dict[str, Any] = {
        "calib:x": draw.standard_normal((64, 32)).astype(np.float32),
        "test:x": draw.standard_normal((16, 32)).astype(np.float32),
    }
    np.savez(tmp_path / "data.npz", **data)
    path = str(tmp_path / "data.npz")
    return {
        "schema_version": 1,
        "model": str(tmp_path / "model.onnx"),
        "targets": ["cascadelake"],
        "data": {
            "calibration": {"path": path, "split": "calib"},
            "validation": {"path": path, "split": "test"},
        },
        "pipeline": [
            "infer-shapes",
            "remove-identity",
            {"quantize-int8": {"placement": "kernels"}},
            "remove-dead",
        ],
        "output": str(tmp_path / "out"),
    }


def test_a_quantized_result_is_verified_and_reported(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    result = optc.compile(recipe)
    artifact = result.artifacts["cascadelake"]
    figures: Any = artifact.to_dict()
    found = artifact.verification
    assert found is not None
    assert found.quantized is not None
    assert found.comparison.passed
    (output,) = found.quantized.outputs
    assert output.sqnr > output.floor > 12
    assert set(found.quantized.layers) == {"first", "second"}
    assert found.quantized.layers["first"] > 30
    assert "quantization leaves y " in "\n".join(found.lines())
    assert found.to_dict()["quantized"]["outputs"]["y"]["sqnr"] == output.sqnr
    report = json.loads(artifact.report.read_text(encoding="utf-8"))
    rows = {row["name"]: row for row in report["nodes"]}
    assert rows["first"]["sqnr_db"] == round(found.quantized.layers["first"])
    assert "sqnr_db" not in rows[next(n for n in rows if rows[n]["op"] == "QuantizeLinear")]
    assert report["constant_bytes"]["result"] < report["constant_bytes"]["source"] / 3
    ranges = {row["tensor"]: row for row in report["ranges"]}
    data = np.load(tmp_path / "data.npz")["calib:x"]
    assert ranges["x"]["low"] == pytest.approx(data.min(), rel=0.02)
    assert ranges["x"]["high"] == pytest.approx(data.max(), rel=0.02)
    assert artifact.shares == report["multiply_adds"] == {"int8": 1.0}
    assert artifact.precision["MatMul"] == {"int8": 2}
    assert figures["precision"]["MatMul"] == {"int8": 2}
    if "vnni" not in host_capabilities():
        assert any("by a simulation that saturates" in text for text in result.warnings)


def test_passes_run_once_for_verification_too(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before quantizing is kept where a step asks for it, else made anew."""
    runs: list[str] = []
    apply = RemoveIdentity.apply

    def counted(self: RemoveIdentity, graph: Graph, context: PassContext) -> PassResult:
        runs.append(self.name)
        return apply(self, graph, context)

    monkeypatch.setattr(RemoveIdentity, "apply", counted)
    kept = full(recipe, pipeline=[*recipe["pipeline"][:3], {"fall-back": {"sqnr": -100}}])
    found = []
    for asked, times in ((full(recipe), 2), (kept, 1)):
        runs.clear()
        (artifact,) = optc.compile(asked).artifacts.values()
        assert len(runs) == times
        assert artifact.verification is not None
        found.append(artifact.verification.to_dict())
    assert found[0] == found[1]


def test_calibration_data_stands_in_for_validation(recipe: dict[str, Any]) -> None:
    del recipe["data"]["validation"]
    verification = optc.compile(recipe).artifacts["cascadelake"].verification
    assert verification is not None
    assert verification.data == "split calib of data.npz"


def test_noise_below_the_floor_names_the_operations(recipe: dict[str, Any], tmp_path: Path) -> None:
    tiny = np.load(tmp_path / "data.npz")["calib:x"] * np.float32(0.05)
    np.savez(
        tmp_path / "data.npz",
        **{"calib:x": tiny, "test:x": np.load(tmp_path / "data.npz")["test:x"]},
    )
    with pytest.raises(GoalMissed) as caught:
        optc.compile(recipe)
    assert caught.value.code == "quantization-too-noisy"
    assert caught.value.exit_code == 4
    assert "the noisiest operations: second " in caught.value.message
    assert "quantize-int8" not in caught.value.message  # lossy is not wrong
    assert not (tmp_path / "out").exists()
    goal = {"metric": "cosine", "min": 0.1}
    kept = optc.compile({**recipe, "accuracy": goal}).artifacts["cascadelake"].verification
    assert kept is not None
    assert kept.quantized is not None
    assert [output.name for output in kept.quantized.missed] == ["y"]


def test_a_wrong_pass_before_is_found(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = RemoveIdentity.apply

    def wrong(self: Pass, graph: Graph, context: PassContext) -> PassResult:
        weight = graph.value("w")
        assert weight.constant is not None
        changed = weight.constant.numpy() * np.float32(1.001)
        made = graph.add_constant(optc.ir.Tensor.from_numpy(changed), graph.fresh_name("w"))
        graph.replace_uses(weight, made)
        graph.remove(weight.node)
        return right(self, graph, context)  # type: ignore[arg-type]  # it is one

    monkeypatch.setattr(RemoveIdentity, "apply", wrong)
    with pytest.raises(GoalMissed) as caught:
        optc.compile(recipe)
    assert caught.value.code == "verification-failed"
    assert "begins with pass remove-identity (step 2 of" in caught.value.message


def test_other_kernels_than_the_graph_says(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from optc.emitter import Emitter

    opened = Emitter.open

    def damaged(self: Emitter, path: Path) -> Any:
        model = onnx.load(path)
        zero = next(
            item
            for item in model.graph.initializer
            if item.data_type == onnx.TensorProto.UINT8 and item.name.startswith("x")
        )
        # Nothing below zero is left.
        zero.CopyFrom(numpy_helper.from_array(np.array(0, np.uint8), zero.name))
        onnx.save(model, tmp_path / "damaged.onnx")
        return opened(self, tmp_path / "damaged.onnx")

    monkeypatch.setattr(Emitter, "open", damaged)
    with pytest.raises(GoalMissed) as caught:
        optc.compile(recipe)
    assert caught.value.code == "kernels-differ"
    assert "onnxruntime does not compute the quantized graph" in caught.value.message


def full(recipe: dict[str, Any], **changes: Any) -> dict[str, Any]:
    steps = list(recipe["pipeline"])
    steps[2] = {"quantize-int8": {"placement": "kernels", "saturation": "allow"}}
    return {**recipe, "pipeline": steps, **changes}


def test_saturation_on_a_target_is_simulated(recipe: dict[str, Any], tmp_path: Path) -> None:
    result = optc.compile(full(recipe, targets=["skylake"]))
    (text,) = [text for text in result.warnings if "may saturate on skylake" in text]
    assert "sums of 2 int8 products" in text
    assert "saturation: avoid" in text
    found = result.artifacts["skylake"].verification
    assert found is not None
    assert found.quantized is not None
    (plain,), (cut,) = found.quantized.outputs, found.quantized.simulated
    assert cut.sqnr < plain.sqnr - 3
    assert "where sums saturate it leaves y " in "\n".join(found.lines())
    avoided = optc.compile({**recipe, "targets": ["skylake"]})
    assert not any("saturate" in text for text in avoided.warnings)
    safe = avoided.artifacts["skylake"].verification
    assert safe is not None
    assert safe.quantized is not None
    assert safe.quantized.simulated == ()
    assert safe.quantized.outputs[0].sqnr > plain.sqnr - 3


def needs(folder: Path, target: str) -> list[str]:
    content = json.loads((folder / target / "launch" / "runtime.json").read_text(encoding="utf-8"))
    return [flag for need in content["needs"] for flag in need["any_of"]]


def test_a_result_that_cannot_saturate_needs_no_vnni(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    result = optc.compile(recipe)
    assert "avx512_vnni" in needs(result.output, "cascadelake")
    steps = list(recipe["pipeline"])
    steps[2] = {"quantize-int8": {"placement": "kernels", "saturation": "avoid"}}
    result = optc.compile({**recipe, "pipeline": steps})
    assert "avx512_vnni" not in needs(result.output, "cascadelake")


def test_one_model_for_the_weakest_target(recipe: dict[str, Any], tmp_path: Path) -> None:
    both = {**recipe, "targets": ["cascadelake", "skylake"]}
    each = optc.compile(both)
    files = [each.artifacts[name].model.read_bytes() for name in ("cascadelake", "skylake")]
    assert files[0] != files[1]
    one = optc.compile({**both, "fleet": "weakest"})
    files = [one.artifacts[name].model.read_bytes() for name in ("cascadelake", "skylake")]
    assert files[0] == files[1]
    assert "avx512_vnni" not in needs(one.output, "cascadelake")


def test_no_target_is_the_weakest(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"skylake": {"avx2", "other"}, "cascadelake": {"avx2", "vnni"}}
    monkeypatch.setattr(Target, "capabilities", property(lambda self: own[self.id]))
    with pytest.raises(CapabilityError) as caught:
        prepare({**recipe, "targets": list(own), "fleet": "weakest", "pipeline": []})
    assert caught.value.code == "no-weakest-target"
    assert "of skylake, cascadelake none has only" in caught.value.message


def test_floor_is_derived() -> None:
    assert floor(1) == pytest.approx(34.87 - 12.04, abs=0.01)
    assert floor(10) == pytest.approx(floor(1) - 10)
    assert floor(10**6) == pytest.approx(6.02, abs=0.01)


def test_bounds_of_kernels_follow_the_error_of_quantization() -> None:
    source, written = np.ones(100, np.float32), np.ones(100, np.float32)
    written[0] = 1.1
    bound = Tolerance(relative=1e-6, peak=1e-5)
    found = kernel_bounds({"y": bound}, {"y": source}, {"y": written}, {"y": 0})["y"]
    assert found.relative == pytest.approx(0.01 * 2**0.5, rel=1e-4)
    assert found.peak == pytest.approx(0.2, rel=1e-4)
    exact = kernel_bounds({"y": bound}, {"y": source}, {"y": source}, {"y": 0})
    assert exact["y"].relative == 1e-6
    given = kernel_bounds({"y": bound}, {"y": source}, {"y": source}, {"y": 4})
    assert given["y"].relative == 2 * QUANTIZE_ERROR


def test_roundings_are_counted_on_the_worst_path(recipe: dict[str, Any]) -> None:
    run = optc.run_passes(optc.load_model(recipe["model"]), ["infer-shapes"])
    assert roundings(run.graph) == {"y": 0}
    result = optc.compile(recipe)
    graph = optc.load_model(result.artifacts["cascadelake"].model)
    assert roundings(graph)["y"] in {4, 5}


def test_passes_say_whether_they_quantize() -> None:
    assert [step.name for step in ALL_PASSES if step.quantizes] == [
        "quantize-int8",
        "fuse-requantize",
    ]
