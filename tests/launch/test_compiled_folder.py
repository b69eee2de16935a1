"""The launch folder as a compile writes it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import optc
from optc.errors import TargetError

MODEL = Path(__file__).resolve().parents[2] / "recipes/quickstart/mnist_mobilenet.onnx"
NODES = [
    {"node": 0, "cores": "0-9", "siblings": "20-29"},
    {"node": 1, "cores": "10-19", "siblings": "30-39"},
]


def compiled(output: Path, **launch: object) -> Path:
    recipe: dict[str, Any] = {
        "schema_version": 1,
        "name": "Digits.v1",
        "model": str(MODEL),
        "targets": ["icelake"],
        "launch": launch,
    }
    return optc.compile(recipe, output=output, verify=False).artifacts["icelake"].launch


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_file_is_listed_in_the_manifest_and_scripts_can_be_started(tmp_path: Path) -> None:
    launch = compiled(tmp_path / "out", mode="online", topology={"nodes": NODES})
    names = [f"icelake/launch/{name}" for name in contents(launch)]
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [name for name in manifest["files"] if "/launch/" in name] == sorted(names)
    assert "icelake/launch/systemd/optc-digits-v1-1.service" in names
    runnable = [name for name in contents(launch) if os.access(launch / name, os.X_OK)]
    assert runnable == ["host-tuning.sh", "launch.sh"]


def test_the_machine_that_compiles_leaves_no_trace(tmp_path: Path) -> None:
    folders = [
        compiled(tmp_path / name, topology={"nodes": NODES}, service={"folder": "/srv/digits"})
        for name in ("one", "two")
    ]
    first, second = map(contents, folders)
    assert first == second
    text = b"".join(first.values())
    for trace in (str(tmp_path), os.uname().nodename, os.uname().release):
        assert trace.encode() not in text


def test_the_script_finds_the_model_of_its_folder(tmp_path: Path) -> None:
    launch = compiled(tmp_path / "out")
    done = subprocess.run(
        [str(launch / "launch.sh"), "sh", "-c", 'echo "$OPTC_MODEL"'],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert {Path(line) for line in done.stdout.splitlines()} == {
        (launch.parent / "model.onnx").resolve()
    }


def test_a_machine_that_cannot_hold_the_instances_leaves_the_old_output(tmp_path: Path) -> None:
    launch = compiled(tmp_path / "out")
    before = contents(launch)
    with pytest.raises(TargetError) as caught:
        compiled(tmp_path / "out", topology={"nodes": NODES}, instances=3, cores=10)
    assert caught.value.message == (
        "3 instance(s) of 10 core(s) do not fit: 20 core(s) on 2 NUMA node(s), and no instance "
        "crosses a node"
    )
    assert contents(launch) == before


def test_the_advice_tells_the_cores_of_the_recipe(tmp_path: Path) -> None:
    advice = (compiled(tmp_path / "out", cores=3) / "ADVICE.md").read_text()
    assert "in latency mode:\n3 core(s) per instance, as the recipe says.\n" in advice
