"""`optc bench` as a user types it: text, JSON, exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.processes import command, workers
from optc.cli import main

ROOT = Path(__file__).resolve().parents[2]
RESNET = ROOT / "tests" / "models" / "mnist_resnet.onnx"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The quickstart, with its output in a folder of the test."""
    shutil.copytree(ROOT / "recipes" / "quickstart", tmp_path / "q")
    path = tmp_path / "q" / "recipe.yaml"
    path.write_text(path.read_text().replace("output: ../../build/quickstart", "output: out"))
    return path


def test_a_recipe_from_compile_to_figures(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(recipe)]) == 1
    assert f"run `optc compile {recipe}` first" in capsys.readouterr().err
    assert main(["compile", str(recipe), "--no-verify"]) == 0
    capsys.readouterr()

    assert main(["bench", str(recipe), "--runs", "6"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0].endswith("1 thread")
    assert lines[1].startswith("batch 1, 16 input(s): split test of mnist.npz; 6 rounds of ")
    assert lines[1].endswith(" run(s) in 6 processes")
    head, source, result = lines[3:6]
    assert head.split() == [
        "latency", "runtime", "cpu", "ms", "wall", "ms", "speed", "by", "cpu", "by", "wall",
        "outputs",
    ]  # fmt: skip
    assert source.startswith("source ")
    assert result.startswith("cascadelake, sapphirerapids  onnxruntime  ")
    assert result.endswith(" at logits")
    assert "note: sapphirerapids: the same graph and options as cascadelake" in printed.out
    assert "speed is how many times as fast as source; the interval in brackets" in printed.out
    assert "with 96.9 %" in printed.out

    assert main(["bench", str(recipe), "--runs", "2", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [model["label"] for model in data["models"]] == ["source", "cascadelake"]
    assert data["models"][1]["same"] == ["sapphirerapids"]
    assert data["models"][1]["latency"]["cpu_speedup"]["low"] is None
    assert data["models"][0]["latency"]["cpu_seconds"]["median"] > 0
    assert data["inputs"] == "split test of mnist.npz"


def test_few_rounds_have_no_interval_and_one_model_no_ratio(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", f"a={RESNET}", "--runs", "1"]) == 0
    out = capsys.readouterr().out
    assert "speed" not in out
    assert main(["bench", f"a={RESNET}", f"b={RESNET}", "--runs", "1"]) == 0
    out = capsys.readouterr().out
    assert "(too few rounds)" in out
    assert "there are too few rounds for an interval: give more --runs" in out
    assert "equal" in out


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "Missing argument"),
        (["m.onnx"], 1, "there is no such model file"),
        ([str(RESNET), "--fill", "x"], 2, "is not INPUT=NUMBER"),
        ([str(RESNET), "--threads", "0"], 2, "--threads"),
        ([str(RESNET), "--runtime", "tensorrt"], 1, "there is no runtime 'tensorrt'"),
        ([str(RESNET), "--data", "none.npz"], 1, "there is no such file or folder"),
        ([str(RESNET), "--throughput", "--threads", "9999"], 1, "do not fit"),
    ],
)
def test_mistakes(
    words: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == code
    assert text in capsys.readouterr().err


def test_ctrl_c_ends_it_with_130_and_leaves_no_process_behind() -> None:
    optc = [sys.executable, "-c", "from optc.cli import entry; entry()"]
    words = ["bench", str(RESNET), "--seconds", "600"]
    started = subprocess.Popen(
        [*optc, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (found := workers(started.pid)):
            assert time.monotonic() < deadline, "no worker has started"
            assert started.poll() is None
            time.sleep(0.05)
        started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    finally:
        started.kill()
        started.wait()
    assert started.returncode == 130
    assert err.startswith("warning: interrupted")
    assert "Traceback" not in err
    assert [process for process in found if any(command(process))] == []
