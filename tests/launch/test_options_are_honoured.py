"""A real model under launch.sh with the installed runtimes: where its threads are, and how many.

The instances load the model with `optc.runtime`; their threads are looked at from outside, in
/proc/<pid>/task/*/status.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import optc
from optc.launch.topology import parse_cpus
from optc.targets import load_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODEL = Path(__file__).resolve().parents[2] / "recipes/quickstart/mnist_mobilenet.onnx"
RUNTIMES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
        ),
    )
    for name in ("onnxruntime", "openvino")
]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="launch.sh is for Linux")

# Loads the model, runs it, says what it found, and serves until it is told to end.
SERVE = """
import importlib, json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
import numpy as np, optc.runtime
importlib.import_module(json.load(open(sys.argv[1] + "/launch/runtime.json"))["runtime"])
before = set(os.listdir("/proc/self/task"))
if "default" in sys.argv:  # as a program does that knows nothing of the options
    import onnxruntime
    session = onnxruntime.InferenceSession(os.environ["OPTC_MODEL"])
    session.run(None, {"image": np.zeros((64, 1, 32, 32), np.float32)})
    facts = {}
else:
    loaded = optc.runtime.open_artifact(sys.argv[1])
    loaded.engine.run({"image": np.zeros((64, 1, 32, 32), np.float32)})
    facts = {"threads": loaded.options.threads, "options": loaded.options.model_dump()}
    if loaded.options.runtime == "openvino":
        names = loaded.options.properties
        facts["found"] = {name: str(loaded.engine.native.get_property(name)) for name in names}
facts |= {"pid": os.getpid(), "number": os.environ.get("OPTC_INSTANCE")}
facts["made"] = sorted(set(os.listdir("/proc/self/task")) - before)
os.write(1, (json.dumps(facts) + "\\n").encode())  # in one piece, instances share the pipe
time.sleep(60)
"""


@dataclass(frozen=True)
class Instance:
    """A running instance: what it says of itself, and the CPU masks of its threads."""

    facts: dict[str, Any]

    @property
    def masks(self) -> set[str]:
        """CPU masks of all threads, as Linux lists them."""
        return set(self._masks().values())

    @property
    def pool(self) -> dict[str, str]:
        """Mask by thread, of the threads that were made when the model was loaded and run."""
        return {task: mask for task, mask in self._masks().items() if task in self.facts["made"]}

    def _masks(self) -> dict[str, str]:
        found = {}
        for status in Path(f"/proc/{self.facts['pid']}/task").glob("*/status"):
            text = status.read_text(encoding="utf-8")
            found[status.parent.name] = text.split("Cpus_allowed_list:")[1].split()[0]
        return found

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.facts['pid']}").exists()


@pytest.fixture(scope="module", params=RUNTIMES)
def artefact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a real model for each runtime."""
    return compiled(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def ort_artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for ONNX Runtime alone."""
    return compiled("onnxruntime", tmp_path_factory)


def compiled(runtime: str, folders: pytest.TempPathFactory) -> Path:
    recipe = {
        "schema_version": 1,
        "model": str(MODEL),
        "targets": ["cascadelake"],
        "runtime": runtime,
    }
    output = folders.mktemp(runtime) / "out"
    return optc.compile(recipe, output=output, verify=False).artifacts["cascadelake"].folder


@contextmanager
def started(
    folder: Path, *options: str, program: Sequence[str] = (), before: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[str], list[Instance]]]:
    """Start instances by launch.sh and wait until each of them has run the model."""
    script = str(folder / "launch/launch.sh")
    planned = subprocess.run(
        [*before, script, *options, "--dry-run"], capture_output=True, text=True, timeout=60
    )
    if planned.returncode or "bound by nothing" in planned.stdout:
        pytest.skip(f"cannot bind such instances here: {planned.stderr.strip()}")
    command = [*before, script, *options, "--", sys.executable, "-c", SERVE, str(folder), *program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launched:
        assert launched.stdout is not None
        try:
            lines = [launched.stdout.readline() for _ in planned.stdout.splitlines()]
            facts = sorted((json.loads(line) for line in lines), key=lambda fact: fact["number"])
            yield launched, [Instance(fact) for fact in facts]
        finally:
            launched.terminate()
            launched.wait(timeout=30)


def test_two_instances_keep_every_thread_on_their_slice_and_sigterm_ends_all(
    artefact: Path,
) -> None:
    with started(artefact, "--instances", "2", "--cores", "1") as (launched, instances):
        masks = [instance.masks for instance in instances]
        assert all(len(found) == 1 for found in masks), masks
        slices = [parse_cpus(*found) for found in masks]
        assert all(len(cpus) == 1 for cpus in slices)
        assert slices[0] != slices[1]
        assert [instance.facts["threads"] for instance in instances] == [1, 1]
        assert all(instance.alive for instance in instances)
        launched.send_signal(signal.SIGTERM)
        assert launched.wait(timeout=30) == 0
        assert not any(instance.alive for instance in instances)


def test_the_runtime_has_the_stated_number_of_threads_and_options(artefact: Path) -> None:
    with started(artefact, "--instances", "1", "--cores", "2") as (_, (instance,)):
        facts = instance.facts
        assert facts["threads"] == 2
        (mask,) = instance.masks
        assert len(parse_cpus(mask)) == 2
        if facts["options"]["runtime"] == "onnxruntime":
            # The calling thread is one of the pool; no affinity is set, the mask is inherited.
            assert list(instance.pool.values()) == [mask]
            return
        found = facts["found"]
        assert found.pop("INFERENCE_PRECISION_HINT") == "<Type: 'float32'>"
        assert found.pop("PERFORMANCE_HINT").endswith("LATENCY")
        assert found == {
            "ENABLE_CPU_PINNING": "False",
            "ENABLE_HYPER_THREADING": "False",
            "INFERENCE_NUM_THREADS": "2",
            "NUM_STREAMS": "1",
        }


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is not installed")
def test_openvino_takes_the_options_of_the_throughput_mode(tmp_path: Path) -> None:
    recipe = {
        "schema_version": 1,
        "model": str(MODEL),
        "targets": ["cascadelake"],
        "runtime": "openvino",
        "launch": {"mode": "throughput"},
    }
    folder = optc.compile(recipe, output=tmp_path / "out", verify=False).artifacts["cascadelake"]
    with started(folder.folder, "--cores", "2") as (_, (instance,)):
        found = instance.facts["found"]
        assert found["PERFORMANCE_HINT"].endswith("THROUGHPUT")
        assert (found["INFERENCE_NUM_THREADS"], found["NUM_STREAMS"]) == ("2", "2")


# ---- a mask or cpuset that is narrower than the machine ----------------------------------------


def one_cpu() -> int:
    return sorted(os.sched_getaffinity(0))[-1]


@contextmanager
def cpuset(folder: Path, cpu: int) -> Iterator[list[str]]:
    """A command that runs its arguments in a cpuset cgroup of one CPU, which is then removed."""
    root = Path("/sys/fs/cgroup")
    v1 = root / "cpuset/cpuset.cpus"
    place = root / ("cpuset" if v1.exists() else "") / f"optc-test-{os.getpid()}"
    try:
        place.mkdir()
        (place / "cpuset.cpus").write_text(str(cpu))
        (place / "cpuset.mems").write_text("0")
    except OSError as error:
        if place.exists():
            place.rmdir()
        pytest.skip(f"cannot make a cpuset cgroup: {error}")
    enter = folder / "enter"
    enter.write_text(f'#!/bin/sh\necho $$ >{place / "cgroup.procs"} && exec "$@"\n')
    enter.chmod(0o755)
    try:
        yield [str(enter)]
    finally:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                place.rmdir()
                break
            except OSError:
                time.sleep(0.05)


@pytest.mark.parametrize("kind", ["taskset", "cpuset"])
def test_inside_a_narrower_mask_every_thread_stays_in_it(
    artefact: Path, tmp_path: Path, kind: str
) -> None:
    cpu = one_cpu()
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs, to have one that is not in the mask")
    if kind == "taskset":
        if shutil.which("taskset") is None:
            pytest.skip("taskset is not installed")
        _stays(artefact, cpu, ["taskset", "-c", str(cpu)])
        return
    with cpuset(tmp_path, cpu) as enter:
        _stays(artefact, cpu, enter)


def _stays(artefact: Path, cpu: int, enter: Sequence[str]) -> None:
    with started(artefact, before=enter) as (_, (instance,)):
        assert instance.masks == {str(cpu)}
        assert instance.facts["threads"] == 1
    script = str(artefact / "launch/launch.sh")
    many = subprocess.run(
        [*enter, script, "--instances", "2", "true"], capture_output=True, text=True, timeout=60
    )
    assert many.returncode == 1
    assert "2 instance(s) of 1 core(s) do not fit: 1 core(s) on 1 NUMA node(s)" in many.stderr


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_default_threads_of_onnxruntime_escape_the_mask_and_the_options_prevent_it(
    ort_artefact: Path,
) -> None:
    cpu = sorted(os.sched_getaffinity(0))[0]
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs, to have one to escape to")
    program = [sys.executable, "-c", SERVE, str(ort_artefact)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "OPTC_"))}
    environment["OPTC_MODEL"] = str(ort_artefact / "model.onnx")
    found = {}
    for kind in ("default", "emitted"):
        with subprocess.Popen(
            ["taskset", "-c", str(cpu), *program, kind],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            assert process.stdout is not None
            instance = Instance(json.loads(process.stdout.readline()))
            found[kind] = {int(c) for mask in instance.masks for c in parse_cpus(mask)}
            process.terminate()
    assert found["default"] - {cpu}, "the default threads stay in the mask: update the descriptor"
    assert found["emitted"] == {cpu}


def test_the_environment_variable_covers_sessions_made_without_the_options(
    ort_artefact: Path,
) -> None:
    import onnxruntime

    knobs = {knob.name: knob for knob in load_runtime("onnxruntime").knobs}
    since = knobs["ORT_INTRA_OP_NUM_THREADS"].since
    assert since is not None
    installed = tuple(map(int, onnxruntime.__version__.split(".")[:2]))
    if installed < tuple(map(int, since.split("."))):
        pytest.skip(f"onnxruntime {onnxruntime.__version__} is older than {since}")
    options = ("--instances", "2", "--cores", "1")
    with started(ort_artefact, *options, program=["default"]) as (_, instances):
        masks = [instance.masks for instance in instances]
        assert [len(found) for found in masks] == [1, 1]
        assert masks[0] != masks[1]
        assert [instance.pool for instance in instances] == [{}, {}]
