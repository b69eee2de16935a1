"""What is made of one model for the panel: by optc, and by each peer in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

PEERS = {
    "onnxruntime": ("onnxslim", "onnxsim", "ort-saved", "ort-transformers"),
    "openvino": ("onnxslim", "onnxsim", "openvino"),
}
"""The peers whose results a runtime reads."""

# What onnxruntime's transformer optimizer calls the architecture that a model's name tells.
_TYPES = {
    "bert|distilbert|minilm": "bert",
    "gpt2|llama": "gpt2",  # as onnxruntime's own scripts for Llama do
    "segformer|vit": "vit",
    "swin": "swin",
    "t5": "t5",
    "whisper": "bart",
}
_RECIPE = """\
schema_version: 1
extends: fp32
model: {model}
targets: [{target}]
runtime: {runtime}
emit:
  format: {format}
output: {output}
"""
_SCRIPT = Path(__file__).with_name("peers.py")
_ERROR = re.compile(r"error", re.IGNORECASE)
_LONGEST = 300  # characters of a message


@dataclass(frozen=True)
class Run:
    """A finished process.

    Attributes:
        seconds: wall time.
        peak: resident memory at most, in megabytes; at least that of the process that started it.
        error: why it failed; empty when it did not.
    """

    seconds: float
    peak: float
    error: str


@dataclass(frozen=True)
class Made:
    """A variant of a model.

    Attributes:
        tool: what made it.
        place: the model file, or ``OUT/<target>`` of optc.
        run: the process that made it.
    """

    tool: str
    place: Path
    run: Run

    def to_dict(self) -> dict[str, object]:
        """What making it took, as data."""
        return {
            "seconds": round(self.run.seconds, 2),
            "peak_mb": round(self.run.peak),
            "error": self.run.error,
        }


def model_type(name: str) -> str | None:
    """What onnxruntime's transformer optimizer calls the architecture of a model, by its name."""
    found = (kind for words, kind in _TYPES.items() if re.search(rf"(?<![a-z])(?:{words})", name))
    return next(found, None)


def make_optc(model: Path, folder: Path, runtime: str, target: str, limit: float) -> Made:
    """Compile with preset fp32, verified as by default."""
    form = "openvino" if runtime == "openvino" else "onnx"
    output = folder / f"optc-{runtime}"
    recipe = folder / f"{runtime}.yaml"
    text = _RECIPE.format(
        model=model.resolve(), target=target, runtime=runtime, format=form, output=output
    )
    recipe.write_text(text, encoding="utf-8")
    command = [str(Path(sys.executable).with_name("optc")), "compile", str(recipe)]
    return Made("optc", output / target, run(command, folder / f"optc-{runtime}.log", limit))


def make_peer(tool: str, model: Path, folder: Path, python: Path, limit: float) -> Made | None:
    """Call a peer, or take what it made in this folder before; None when it does not know such.

    Args:
        tool: the peer.
        model: the source model.
        folder: where its result, its log and a record of the run are kept.
        python: of the environment that has the peers.
        limit: most seconds.
    """
    kind = model_type(model.stem)
    if tool == "ort-transformers" and kind is None:
        return None
    place = folder / tool / ("model.xml" if tool == "openvino" else "model.onnx")
    record = folder / tool / "run.json"
    if record.exists():
        return Made(tool, place, Run(**json.loads(record.read_text(encoding="utf-8"))))
    place.parent.mkdir(parents=True, exist_ok=True)
    command = [str(python.absolute()), str(_SCRIPT), tool, str(model.resolve())]
    command.append(str(place.absolute()))
    if tool == "ort-transformers" and kind is not None:
        command.append(kind)
    done = run(command, folder / f"{tool}.log", limit, within=place.parent)
    if not done.error and not place.exists():
        done = replace(done, error="it wrote nothing")
    record.write_text(json.dumps(asdict(done)), encoding="utf-8")
    return Made(tool, place, done)


def run(command: list[str], log: Path, limit: float, *, within: Path | None = None) -> Run:
    """Run a process to its end, or to the time limit in seconds.

    Args:
        command: what to run.
        log: where it prints to.
        limit: most seconds.
        within: the folder that it runs in; peers leave files of their own there.
    """
    start = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True, cwd=within
        )
    end = partial(os.killpg, process.pid, signal.SIGKILL)
    timer = threading.Timer(limit, end)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:  # Ctrl-C: nothing goes on behind the user's back
        end()
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    error = ""
    if process.returncode:
        error = f"not done after {limit:g} s" if seconds >= limit else _reason(process, log)
    return Run(seconds, usage.ru_maxrss / 1024, error)


def _reason(process: subprocess.Popen[bytes], log: Path) -> str:
    """The message of a failed process: what it said last, without folders of this machine."""
    if process.returncode < 0:
        return f"ended by {signal.Signals(-process.returncode).name}"
    said = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    lines = [line for line in said if line]
    telling = [line for line in lines if _ERROR.search(line)]
    message = (telling or lines or [f"exit code {process.returncode}"])[-1]
    return without_folders(message)[:_LONGEST]


def without_folders(text: str) -> str:
    """A message with file names in place of absolute paths."""
    return re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", "", text)
