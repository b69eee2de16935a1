"""`optc compare` as a user types it: text, JSON, the gate, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import optc
from optc.cli import main
from optc.ir import Tensor

ROOT = Path(__file__).resolve().parents[2]
RESNET = ROOT / "tests" / "models" / "mnist_resnet.onnx"
MNIST = ROOT / "recipes" / "quickstart" / "mnist.npz"
DATA = ("--data", str(MNIST), "--split", "test", "--samples", "3")


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """The folded model with one weight that is 1 % too large."""
    graph = optc.run_passes(optc.load_model(RESNET)).graph
    node = next(n for n in graph.nodes() if n.name == "/f/f.4/b/Conv")
    weight = graph.operands(node)[1]
    assert weight is not None
    assert weight.constant is not None
    changed = Tensor.from_numpy(weight.constant.numpy() * 1.01, weight.constant.dtype)
    graph.set_operand(node, 1, graph.add_constant(changed, graph.fresh_name("w")))
    optc.save_model(graph, tmp_path / "damaged.onnx")
    return tmp_path / "damaged.onnx"


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["compare", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_layer_that_makes_the_error_is_named(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, RESNET, damaged, *DATA, "--layers")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"A  {RESNET} on onnxruntime"
    assert lines[2] == "on 3 sample(s) of split test of mnist.npz"
    assert lines[4].split() == [
        "output", "type", "SQNR", "dB", "cosine", "max", "error", "relative", "top-1", "top-5",
    ]  # fmt: skip
    assert lines[5].startswith("logits  float32[1,10]")
    assert "22 tensors correspond; only in A: 11 layers, only in B: 0" in lines
    marked = [line.split()[1] for line in lines if line.startswith("!")]
    assert marked == ["/f/f.4/bb/BatchNormalization"]
    assert out.splitlines()[-4:][0] == (
        "the error begins at /f/f.4/bb/BatchNormalization (BatchNormalization), tensor "
        "/f/f.4/bb/BatchNormalization_output_0"
    )
    assert lines[-2] == "  B: /f/f.4/b/Conv (Conv), made by fold-batchnorm"
    assert lines[-1] == "  it stands for /f/f.4/bb/BatchNormalization, /f/f.4/b/Conv"


def test_a_part_of_the_layers_is_shown_or_all(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, some, _ = run(capsys, RESNET, damaged, *DATA, "--layers")
    assert "--all shows all 22" in some
    _, everything, _ = run(capsys, RESNET, damaged, *DATA, "--layers", "--all")
    assert "--all" not in everything
    assert "/f/f.1/BatchNormalization  " in everything
    _, equal, _ = run(capsys, RESNET, RESNET, *DATA, "--layers")
    assert "none of them differs; --all shows all 33" in equal
    assert equal.endswith("no layer makes an error beyond rounding\n")


def test_without_data_the_inputs_are_said_to_be_made_up(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, RESNET, RESNET)
    assert code == 0
    assert "on 4 sample(s) of seeded inputs (seed 0)\nnote: inputs are made up" in out


def test_the_gate_ends_with_4_and_one_json_object(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, RESNET, damaged, *DATA, "--min-sqnr", "30", "--json")
    assert code == 0
    assert json.loads(out)["missed"] is None
    code, out, err = run(capsys, RESNET, damaged, *DATA, "--min-sqnr", "90", "--json")
    assert code == 4
    found = json.loads(out)
    assert found["missed"]["code"] == "sqnr-below"
    assert found["outputs"][0]["sqnr"] < 90
    assert "at least 90 dB are asked for" in err
    code, out, err = run(capsys, RESNET, damaged, *DATA, "--min-sqnr", "90")
    assert code == 4
    assert out.splitlines()[5].startswith("logits")
    assert err.startswith(f"error: {damaged}: output logits: SQNR ")
    assert "--layers shows which layer makes the error" in err


def test_layers_are_json_too(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, RESNET, damaged, *DATA, "--layers", "--json")
    assert code == 0
    found = json.loads(out)["layers"]
    assert found["first_jump"]["layer_b"] == "/f/f.4/b/Conv"
    assert found["first_jump"]["passes"] == ["fold-batchnorm"]
    assert found["first_jump"]["excess"] > 100 > found["first_jump"]["incoming"]
    assert len(found["only_a"]) == 11


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--all",), 2, "goes with --layers"),
        (("--fill", "image"), 2, "is not INPUT=NUMBER"),
        (("--runtime-b", "onnxruntim"), 1, "did you mean 'onnxruntime'?"),
        (("--data", "none.npz"), 1, "there is no such file or folder"),
        (("--fill", "imag=0"), 1, "did you mean 'image'?"),
    ],
)
def test_mistakes_are_told(
    words: tuple[str, ...], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, RESNET, RESNET, *words)
    assert (found, out) == (code, "")
    assert message in err


def test_other_inputs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = optc.load_model(RESNET)
    graph.rename(graph.inputs[0], "picture")
    optc.save_model(graph, tmp_path / "b.onnx")
    code, _, err = run(capsys, RESNET, tmp_path / "b.onnx")
    assert code == 1
    assert "different inputs: image is missing; picture is not expected\n  give two forms" in err
    code, _, err = run(capsys, RESNET, tmp_path / "c.onnx")
    assert code == 1
    assert "there is no such model file" in err
