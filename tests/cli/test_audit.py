"""`optc audit`: what it prints, its JSON, its gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optc.cli import main
from optc.targets import host_capabilities

RESNET = Path(__file__).resolve().parents[1] / "models" / "mnist_resnet.onnx"
pytestmark = pytest.mark.skipif(
    "avx2" not in host_capabilities(), reason="kernels are described for CPUs with AVX2"
)


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(RESNET), "--runs", "2", "--top", "3"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert " on onnxruntime " in lines[0]
    columns = ["share", "operation", "runs", "as", "precision", "isa", "kernel", "with", "it"]
    assert lines[3].split() == columns
    assert lines[7] == "and 10 shorter steps; --top 0 lists all"
    assert lines[9].startswith("10 products: 10 fp32 planned, fp32 on avx")
    assert lines[10] == "every operation ran as planned"
    assert printed.err == ""


def test_json_is_one_object_also_when_a_gate_is_missed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    saved = tmp_path / "audit.json"
    words = ["audit", str(RESNET), "--runs", "2", "--expect", "int8", "--json", "-o", str(saved)]
    assert main(words) == 4
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["missed"]["code"] == "expectation-missed"
    assert "no operation is planned in int8" in printed.err
    assert len(found["nodes"]) == 33
    assert json.loads(saved.read_text()).keys() == found.keys() - {"missed"}


def test_a_gate_that_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(RESNET), "--runs", "1", "--expect", "fp32,avx2"]) == 0
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.onnx"], "there is no such model file"),
        ([str(RESNET), "--expect", "int9"], "did you mean 'int8'?"),
        ([str(RESNET), "--runtime", "openvin"], "did you mean 'openvino'?"),
        ([str(RESNET.parent)], "there is no launch/runtime.json here"),
        ([str(RESNET), "--data", "no.npz"], "no.npz"),
        ([str(RESNET), "--fill", "imag=0"], "did you mean 'image'?"),
        ([str(RESNET), "--runs", "1", "-o", "no/audit.json"], "the folder must exist"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", *words]) == 1
    assert message in capsys.readouterr().err
