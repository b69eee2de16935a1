"""Profiles of machines: what is measured, what a recipe makes of it, what is wrong with one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

import optc
from optc.cli import main
from optc.emit.onnx import save_model
from optc.errors import CapabilityError, TargetError
from optc.evidence import costs
from optc.evidence.costs import (
    DEPTHWISE,
    ELEMENTWISE,
    PRODUCTS,
    Case,
    describe_costs,
    measure_costs,
)
from optc.numerics.evaluate import open_session
from optc.numerics.prices import Prices
from optc.numerics.timing import ASSUMED_GHZ
from optc.targets import detect_host, host_capabilities, load_runtime, load_target, read_profile
from optc.targets.runtimes import Profile

if TYPE_CHECKING:
    from optc.targets import Precision

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"


def profile(**changes: Any) -> Profile:
    known = load_runtime("onnxruntime").costs_on(())
    assert known is not None
    return Profile.model_validate(
        {
            "schema_version": 1,
            "runtime": "onnxruntime",
            "version": "1.32.0",
            "cpu": "a machine of the test",
            "capabilities": tuple(sorted(load_target("cascadelake").capabilities)),
            "costs": {**known.model_dump(exclude={"where"}), **changes},
        }
    )


def recipe(folder: Path, found: Profile | None = None, **more: Any) -> dict[str, Any]:
    if found is not None:
        costs.write_profile(found, folder / "profile.yaml")
    data = str(QUICKSTART / "mnist.npz")
    return {
        "schema_version": 1,
        "model": str(QUICKSTART / "mnist_mobilenet.onnx"),
        "targets": ["cascadelake"],
        "profile": str(folder / "profile.yaml"),
        "data": {"calibration": {"path": data, "split": "calib", "samples": 2}},
        "pipeline": ["infer-shapes", {"upgrade-opset": {"to": 13}}, "quantize-int8"],
        "output": str(folder / "out"),
        **more,
    }


def int8_products(result: optc.CompileResult) -> int:
    (artifact,) = result.artifacts.values()
    rows = json.loads((artifact.folder / "report.json").read_text())["nodes"]
    return sum(row["precision"] == "int8" and row["op"] == "Conv" for row in rows)


# ---- measuring ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [PRODUCTS[0], PRODUCTS[-1], DEPTHWISE[0]], ids=str)
def test_a_chain_is_of_equal_operations_and_stays_in_range(case: Case, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    feeds = {"x": draw.standard_normal(case.shape).astype(np.float32)}
    for quantized in ("", "int8"):
        chain = Case(case.op, case.channels, case.size, case.kernel, case.depthwise, quantized)
        graph = chain.chain(4)
        save_model(graph, tmp_path / "chain.onnx")
        assert sum(node.is_op(case.op) for node in graph.nodes()) == 4
        found = np.asarray(open_session(tmp_path / "chain.onnx").run(feeds)["y"])
        assert found.shape == case.shape
        assert 0.1 < found.std() < 4  # neither vanishes nor is clipped


def test_a_fit_finds_what_the_numbers_were_made_from() -> None:
    rates = [64.0] * len(PRODUCTS)
    times = [2 * case.macs / (64 * 0.5) + 0.25 * case.elements + 2000 for case in PRODUCTS]
    assert costs._fit(PRODUCTS, rates, times) == (0.5, 0.25, 2000.0)
    without = [2 * case.macs / (64 * 0.5) for case in PRODUCTS]
    assert costs._fit(PRODUCTS, rates, without) == (0.5, 0.0, 0.0)


@pytest.mark.skipif(detect_host().target is None, reason="this CPU is none of the targets")
def test_this_machine_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(costs, "_RUNS", 5)
    file = tmp_path / "here.yaml"
    assert main(["targets", "costs", "onnxruntime", "--write", str(file)]) == 0
    assert "share of the peak that products reach" in capsys.readouterr().out
    found = read_profile(file)
    assert found.runtime == "onnxruntime"
    assert 0 < found.costs.efficiency["fp32"] <= 1
    assert all(rate >= 0 for rate in (*found.costs.result.values(), found.costs.quantize))


@pytest.mark.skipif(detect_host().target is None, reason="this CPU is none of the targets")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_elementwise_operations_are_measured_where_a_chain_is_not_one_operation(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(runtime)
    host = detect_host().target
    assert host is not None
    prices = Prices(load_target(host.id), load_runtime(runtime), {})

    def seconds(case: Case, *rest: Any) -> float:
        cycles = 500.0
        if case in ELEMENTWISE:
            cycles += 3 * case.elements
        elif replace(case, quantized="") in ELEMENTWISE:
            cycles += 7 * case.elements
        else:  # as fast as its kernel, which on AMX is another one for matrix products
            kind: Precision = "int8" if case.quantized == "int8" else "fp32"
            cycles += 2 * case.macs / costs._rate(prices, case, kind)
        return cycles / (ASSUMED_GHZ * 1e9)

    monkeypatch.setattr(costs, "_seconds", seconds)
    found = measure_costs(runtime).costs.elementwise
    known = load_runtime(runtime).costs_on(host_capabilities())
    assert known is not None
    if runtime == "onnxruntime":
        assert found == {"fp32": pytest.approx(3, abs=0.1), "int8": pytest.approx(7, abs=0.1)}
    else:
        assert found == known.elementwise


def test_a_machine_that_is_no_target_has_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = SimpleNamespace(target=None, verdict="none of the targets")
    monkeypatch.setattr(costs, "detect_host", lambda: nobody)
    with pytest.raises(TargetError, match="none"):
        measure_costs("onnxruntime")


# ---- recipes -----------------------------------------------------------------------------------


def test_int8_is_planned_with_the_profile(tmp_path: Path) -> None:
    cheap = profile(efficiency={"fp32": 0.001, "int8": 0.9})
    dear = profile(operation={"fp32": 1.0, "int8": 1e9})
    found = {}
    for name, known in (("cheap", cheap), ("dear", dear)):
        folder = tmp_path / name
        folder.mkdir()
        result = optc.compile(recipe(folder, known), verify=False)
        found[name] = int8_products(result)
        assert folder / "profile.yaml" in result.inputs
    assert found["dear"] == 0
    assert found["cheap"] > 10


def test_a_profile_of_another_kind_of_cpu_is_warned_of(tmp_path: Path) -> None:
    for target, words in {
        "sapphirerapids": ("lacks amx, ", "which sapphirerapids has"),
        "skylake": ("has avx512_vnni, vnni", "which skylake lacks"),
        "cascadelake": (),
    }.items():
        found = optc.compile(recipe(tmp_path, profile(), targets=[target]), verify=False)
        texts = [text for text in found.warnings if text.startswith("profile: ")]
        assert len(texts) == bool(words)
        assert all(word in text for text in texts for word in words)


def test_what_is_wrong_with_a_profile_is_told(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    with pytest.raises(TargetError, match="there is no such profile") as missing:
        optc.compile(recipe(tmp_path))
    assert missing.value.location == str(file)
    assert "optc targets costs onnxruntime --write profile.yaml" in str(missing.value.hint)
    costs.write_profile(profile(), file)
    with pytest.raises(CapabilityError, match="has the costs of onnxruntime") as caught:
        optc.compile(recipe(tmp_path, runtime="openvino"))
    assert "optc targets costs openvino --write profile.yaml" in str(caught.value.hint)
    data = yaml.safe_load(file.read_text())
    data["costs"]["quantise"] = data["costs"].pop("quantize")
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(TargetError, match="quantise"):
        optc.compile(recipe(tmp_path))


def test_text_for_people() -> None:
    lines = describe_costs(profile()).splitlines()
    assert lines[0] == "a machine of the test, onnxruntime 1.32.0; cycles of one core"
    assert lines[1].startswith("share of the peak that products reach: 0.9 in fp32, 0.8 in int8")
