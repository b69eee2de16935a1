"""The emitted options, handed to the installed runtimes under launch.sh on this machine."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from optc.launch import render_launch
from optc.targets import load_runtime, load_target

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="launch.sh is for Linux")

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
product (float[8, 64] x, float[64, 64] w) => (float[8, 64] y) { y = MatMul(x, w) }
"""
MASKS = """
def masks():
    found = {}
    for task in os.listdir("/proc/self/task"):
        text = open(f"/proc/self/task/{task}/status").read()
        found[task] = text.split("Cpus_allowed_list:")[1].split()[0]
    return found
"""
ONNXRUNTIME = f"""
import json, os, sys
import onnxruntime as ort
{MASKS}
stated = json.load(open(os.environ["OPTC_RUNTIME_JSON"]))
options = ort.SessionOptions()
for name, value in stated["session_options"].items():
    assert hasattr(options, name), name
    for kind in (ort.ExecutionMode, ort.GraphOptimizationLevel):
        value = getattr(kind, str(value), value)
    setattr(options, name, value)
for name, value in stated["session_config"].items():
    options.add_session_config_entry(name, value)
if "default" in sys.argv:
    options = ort.SessionOptions()
before = masks()
session = ort.InferenceSession(os.environ["OPTC_MODEL"], options, providers=stated["providers"])
pool = {{task: mask for task, mask in masks().items() if task not in before}}
print(json.dumps([os.environ["OPTC_INSTANCE"], len(pool) + 1, sorted(set(masks().values()))]))
"""
OPENVINO = f"""
import json, os
import openvino
{MASKS}
stated = json.load(open(os.environ["OPTC_RUNTIME_JSON"]))
path = os.environ["OPTC_MODEL"]
model = openvino.Core().compile_model(path, stated["device"], stated["properties"])
found = {{name: model.get_property(name) for name in stated["properties"]}}
model([__import__("numpy").zeros(shape, "float32") for shape in ((8, 64), (64, 64))])
print(json.dumps([os.environ["OPTC_INSTANCE"], found, sorted(set(masks().values()))], default=str))
"""


def start(
    folder: Path, runtime: str, instances: int, cores: int, *program: str, mode: str = "latency"
) -> tuple[list[str], list[list[object]]]:
    """Run a program under launch.sh: the CPUs of each instance, and its JSON answer."""
    import onnx

    files = render_launch(
        load_target("clx"), load_runtime(runtime), model_file="model.onnx", mode=mode
    )
    (folder / "launch").mkdir()
    for name, content in files.items():
        (folder / "launch" / name).write_bytes(content)
    (folder / "model.onnx").write_bytes(onnx.parser.parse_model(MODEL).SerializeToString())
    command = ["sh", str(folder / "launch" / "launch.sh")]
    command += ["--instances", str(instances), "--cores", str(cores)]
    planned = subprocess.run(
        [*command, "--dry-run"], capture_output=True, text=True, timeout=60, check=False
    )
    if planned.returncode or "bound by nothing" in planned.stdout:
        pytest.skip(f"cannot bind {instances} x {cores} cores here: {planned.stderr.strip()}")
    done = subprocess.run(
        [*command, sys.executable, "-c", *program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    cpus = [line.split("CPUs ")[1].split(", bound")[0] for line in planned.stdout.splitlines()]
    return cpus, sorted(json.loads(line) for line in done.stdout.splitlines())


def test_onnxruntime_keeps_every_thread_on_the_slice_of_its_instance(tmp_path: Path) -> None:
    cpus, answers = start(tmp_path, "onnxruntime", 2, 1, ONNXRUNTIME)
    assert cpus[0] != cpus[1]
    assert answers == [["0", 1, [cpus[0]]], ["1", 1, [cpus[1]]]]


def test_onnxruntime_has_the_emitted_number_of_threads(tmp_path: Path) -> None:
    _, ((_, threads, _),) = start(tmp_path, "onnxruntime", 1, 2, ONNXRUNTIME)
    assert threads == 2


def test_the_environment_variable_covers_sessions_made_without_the_options(tmp_path: Path) -> None:
    import onnxruntime

    since = next(
        knob.since
        for knob in load_runtime("onnxruntime").knobs
        if knob.name == "ORT_INTRA_OP_NUM_THREADS"
    )
    assert since is not None
    installed = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    if installed < tuple(map(int, since.split("."))):
        pytest.skip(f"onnxruntime {onnxruntime.__version__} is older than {since}")
    cpus, answers = start(tmp_path, "onnxruntime", 2, 1, ONNXRUNTIME, "default")
    assert answers == [["0", 1, [cpus[0]]], ["1", 1, [cpus[1]]]]


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize(
    ("mode", "streams", "hint"), [("latency", 1, "LATENCY"), ("throughput", 2, "THROUGHPUT")]
)
def test_openvino_accepts_every_property_and_reports_what_was_stated(
    tmp_path: Path, mode: str, streams: int, hint: str
) -> None:
    _, ((_, found, _),) = start(tmp_path, "openvino", 1, 2, OPENVINO, mode=mode)
    assert isinstance(found, dict)
    assert found.pop("INFERENCE_PRECISION_HINT") == "<Type: 'float32'>"
    assert str(found.pop("NUM_STREAMS")) == str(streams)
    assert str(found.pop("PERFORMANCE_HINT")).endswith(hint)
    assert found == {
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": False,
        "INFERENCE_NUM_THREADS": 2,
    }
