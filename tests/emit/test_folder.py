"""The output folder is replaced in one step, and never takes what optc did not write."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from optc.emit import folder
from optc.emit.folder import check_replaceable, replacing, write_manifest
from optc.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


def build(target: Path, text: str) -> None:
    with replacing(target) as fresh:
        (fresh / "cpu").mkdir()
        (fresh / "cpu" / "model.onnx").write_text(text)
        write_manifest(fresh, {"name": text})


def fail_halfway(target: Path) -> None:
    with replacing(target) as fresh:
        (fresh / "half").write_text("x")
        raise RuntimeError("broken")


def leftovers(target: Path) -> list[str]:
    return [p.name for p in target.parent.iterdir() if p.name.startswith(".")]


def test_new_then_replaced(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    build(target, "one")
    build(target, "two")
    assert (target / "cpu" / "model.onnx").read_text() == "two"
    assert leftovers(target) == []


def test_an_error_leaves_the_old_output(tmp_path: Path) -> None:
    target = tmp_path / "out"
    build(target, "one")
    with pytest.raises(RuntimeError, match="broken"):
        fail_halfway(target)
    assert (target / "cpu" / "model.onnx").read_text() == "one"
    assert leftovers(target) == []


def test_files_of_others_are_not_taken(tmp_path: Path) -> None:
    target = tmp_path / "out"
    build(target, "one")
    (target / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"did not write, e\.g\. notes\.txt") as caught:
        build(target, "two")
    assert caught.value.code == "output-not-ours"
    assert (target / "notes.txt").read_text() == "mine"


def test_a_folder_without_a_manifest_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="did not write"):
        build(tmp_path, "one")
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="a file where the output needs a folder"):
        build(tmp_path / "out", "one")


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    build(tmp_path / "out", "one")
    assert (tmp_path / "out" / "manifest.json").exists()


def test_what_a_killed_run_left_is_removed_but_not_what_a_live_run_writes(tmp_path: Path) -> None:
    target = tmp_path / "out"
    dead = tmp_path / ".out.optc-dead"
    dead.mkdir()
    (dead / "half").write_text("x")
    with replacing(target) as live:
        (live / "model.onnx").write_text("live")
        assert not dead.exists()
        build(target, "other")
        assert live.exists()
        write_manifest(live, {})
    assert (target / "model.onnx").read_text() == "live"


def test_without_atomic_exchange_a_run_killed_between_the_renames_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_exchange", lambda one, other: False)
    target = tmp_path / "out"
    build(target, "one")
    build(target, "two")
    assert (target / "cpu" / "model.onnx").read_text() == "two"
    target.rename(tmp_path / ".out.optc-x.old")
    with pytest.raises(RuntimeError, match="stop"), replacing(target):
        raise RuntimeError("stop")
    assert (target / "cpu" / "model.onnx").read_text() == "two"


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    build(target, "one")
    with pytest.raises(OutputError, match="No space left") as caught, replacing(target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.onnx")
    assert caught.value.location == "model.onnx"
    assert (target / "cpu" / "model.onnx").read_text() == "one"


SCRIPT = """
import sys
from pathlib import Path
from optc.emit.folder import replacing, write_manifest
for number in range(1000):
    with replacing(Path(sys.argv[1])) as fresh:
        for i in range(20):
            (fresh / f"{i}.bin").write_bytes(b"%d" % number * 1000)
        write_manifest(fresh, {"number": number})
    if number == 0:
        print("ready", flush=True)
"""


def test_killed_at_any_moment_the_output_is_one_whole_state(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for attempt in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(target)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.002 * attempt)
            process.send_signal(signal.SIGKILL)
            process.wait()
        contents = {(target / f"{i}.bin").read_bytes() for i in range(20)}
        assert len(contents) == 1, "files of two runs are mixed"
        assert sorted(p.name for p in target.iterdir()) == sorted(
            [*(f"{i}.bin" for i in range(20)), "manifest.json"]
        )


def test_a_file_above_the_output_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="a file where the output needs a folder") as info:
        check_replaceable(tmp_path / "file" / "out" / "model")
    assert info.value.location == str(tmp_path / "file")
