"""Promises about the output folder: same bytes every time, whole at every moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart" / "recipe.yaml"
OPTC = [sys.executable, "-c", "import sys; from optc.cli import main; sys.exit(main())"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def compile_to(out: Path, *words: str, seed: str = "0", cpus: set[int] | None = None) -> None:
    subprocess.run(
        [*OPTC, "compile", str(QUICKSTART), "--output", str(out), *words],
        env={**os.environ, "PYTHONHASHSEED": seed},
        preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
        check=True,
        capture_output=True,
    )


def test_bytes_do_not_depend_on_hash_seed_threads_or_place(tmp_path: Path) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    compile_to(tmp_path / "one", seed="1", cpus={cpus[0]})
    compile_to(tmp_path / "deeper" / "two", seed="2", cpus=set(cpus))
    first = contents(tmp_path / "one")
    assert first == contents(tmp_path / "deeper" / "two")
    assert len(first) >= 9
    for name, data in first.items():
        assert str(tmp_path).encode() not in data, name
        assert str(ROOT).encode() not in data, name


def test_the_manifest_lists_every_file_with_its_digest(tmp_path: Path) -> None:
    import hashlib

    compile_to(tmp_path / "out")
    files = contents(tmp_path / "out")
    manifest = json.loads(files.pop("manifest.json"))
    listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_killed_at_any_moment_the_output_is_the_old_or_the_new(tmp_path: Path) -> None:
    """Twenty kills, spread over the time that a compile takes."""
    out = tmp_path / "out"
    start = time.perf_counter()
    compile_to(out, "--target", "clx", "--no-verify")
    took = time.perf_counter() - start
    old = contents(out)
    compile_to(tmp_path / "new", "--target", "spr", "--no-verify")
    new = contents(tmp_path / "new")
    assert old != new
    words = ["compile", str(QUICKSTART), "--target", "spr", "--no-verify", "--output", str(out)]
    seen = set()
    for attempt in range(20):
        shutil.rmtree(out)
        shutil.copytree(tmp_path / "new", tmp_path / "kept", dirs_exist_ok=True)
        for name, data in old.items():
            path = out / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        process = subprocess.Popen([*OPTC, *words], stdout=subprocess.DEVNULL)
        time.sleep(took * (0.3 + 0.7 * attempt / 19))
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = contents(out)
        assert state in (old, new)
        seen.add("old" if state == old else "new")
    assert "old" in seen


@pytest.mark.parametrize("verb", ["check", "plan", "passes", "targets", "inspect"])
def test_json_is_one_object_on_stdout(verb: str) -> None:
    arguments = {
        "check": [str(QUICKSTART)],
        "plan": [str(QUICKSTART)],
        "inspect": [str(QUICKSTART.with_name("mnist_mobilenet.onnx"))],
    }
    command = [*OPTC, verb, *arguments.get(verb, []), "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert isinstance(json.loads(done.stdout), dict)
    assert done.stderr == ""


def test_an_error_as_json_is_one_object_too(tmp_path: Path) -> None:
    command = [*OPTC, "compile", str(tmp_path / "none.yaml"), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    problems = json.loads(done.stdout)["error"]["problems"]
    assert [problem["code"] for problem in problems] == ["file-missing"]


def test_interrupted_it_says_so_and_exits_130(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*OPTC, "compile", str(QUICKSTART), "--output", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob(".out.optc-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in message
    assert list(tmp_path.iterdir()) == []


def test_the_depfile_names_every_file_that_was_read(tmp_path: Path) -> None:
    compile_to(tmp_path / "out", "--depfile", str(tmp_path / "out.d"))
    text = (tmp_path / "out.d").read_text()
    assert text.startswith(f"{tmp_path / 'out' / 'manifest.json'}:")
    for name in ("recipe.yaml", "mnist_mobilenet.onnx", "mnist.npz"):
        assert name in text
