"""Preset int8-bf16: quantized regions are those of preset int8, and bf16 is what is left."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import optc
from optc.ir.ops import Trait, info
from optc.recipe import resolve_pipeline

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"


def recipe(preset: str, **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "model": str(QUICKSTART / "mnist_mobilenet.onnx"),
        "targets": ["sapphirerapids", "cascadelake"],
        "runtime": "openvino",
        "pipeline": {"preset": preset},
        "data": {
            "calibration": {"path": str(QUICKSTART / "mnist.npz"), "split": "calib", "samples": 16},
            "validation": {"path": str(QUICKSTART / "mnist.npz"), "split": "test", "samples": 64},
        },
        "emit": {"format": "openvino"},
        **changes,
    }


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def planned(found: dict[str, Any], precision: str) -> set[str]:
    return {row["name"] for row in found["nodes"] if row["precision"] == precision}


def test_it_is_fp32_then_int8_then_bf16() -> None:
    names = {p: [step.name for step in resolve_pipeline(p)] for p in ("fp32", "int8", "int8-bf16")}
    start = names["int8"].index("upgrade-opset")
    last = ["cast-bf16", "narrow-dequantize", "remove-duplicates"]
    assert names["int8-bf16"] == names["fp32"] + names["int8"][start:] + last


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8-bf16")
    for preset in ("int8", "int8-bf16"):
        optc.compile(recipe(preset), output=folder / preset, verify=False)
    return folder


def test_what_is_int8_stays_int8(place: Path) -> None:
    alone = report(place / "int8" / "sapphirerapids")
    both = report(place / "int8-bf16" / "sapphirerapids")
    assert planned(alone, "int8")
    assert planned(both, "int8") == planned(alone, "int8")
    assert planned(both, "bf16")
    # Alone, fuse-requantize takes some Clips into the quantization.
    there = {row["name"] for row in alone["nodes"]}
    assert planned(both, "bf16") & there <= planned(alone, "fp32")


def test_quantization_is_neither_lowered_nor_cast(place: Path) -> None:
    rows = report(place / "int8-bf16" / "sapphirerapids")["nodes"]
    quantized = [row for row in rows if row["op"] in ("QuantizeLinear", "DequantizeLinear")]
    assert quantized
    assert {row["precision"] for row in quantized} == {"fp32"}


def test_the_table_adds_up_for_every_target(place: Path) -> None:
    for target, expected in (("sapphirerapids", {"int8", "bf16"}), ("cascadelake", {"int8"})):
        found = report(place / "int8-bf16" / target)
        counts: dict[str, int] = {}
        for row in found["precision"].values():
            for precision, number in row.items():
                counts[precision] = counts.get(precision, 0) + number
        assert sum(counts.values()) == found["operations"]["result"] == len(found["nodes"])
        assert {"int8", "bf16"} & counts.keys() == expected


def test_one_file_serves_both_targets(place: Path) -> None:
    names = ("model.xml", "model.bin")
    one, two = (place / "int8-bf16" / t for t in ("sapphirerapids", "cascadelake"))
    assert [(one / n).read_bytes() for n in names] == [(two / n).read_bytes() for n in names]


def test_explicit_types_leave_quantized_regions_alone(tmp_path: Path) -> None:
    """Into and out of a quantized region everything is fp32, but for exact dequantization."""
    changed = recipe("int8-bf16", targets=["spr"], emit={"format": "onnx"})
    optc.compile(changed, output=tmp_path / "out", verify=False)
    graph = optc.load_model(tmp_path / "out" / "sapphirerapids" / "model.onnx")
    for node in graph.nodes():
        if not info(node).has(Trait.QUANTIZE):
            continue
        for value in (*graph.operands(node), *node.outputs):
            assert value is not None
            assert "bf16" not in str(value.type), node


@pytest.mark.parametrize("preset", ["int8", "int8-bf16"])
@pytest.mark.parametrize("emit", [{"format": "onnx"}, {"format": "openvino"}], ids=str)
def test_it_is_verified_with_the_noise_of_each_operation(
    preset: str, emit: dict[str, Any], tmp_path: Path
) -> None:
    changed = recipe(preset, targets=["spr"], emit=emit)
    (result,) = optc.compile(changed, output=tmp_path / "out").artifacts.values()
    assert result.verification is not None
    assert result.verification.quantized is not None
    noise = result.verification.quantized.layers
    computed = planned(report(tmp_path / "out" / "sapphirerapids"), "int8")
    assert noise
    assert noise.keys() <= computed
    assert all(10 < decibels < 80 for decibels in noise.values())
