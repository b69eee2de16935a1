"""Several recipes and targets at once, in processes."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optc
from helpers.processes import children
from helpers.processes import command as command_of
from optc import many, processes
from optc.cache import Cache
from optc.many import Outcome, Wish, compile_many, exit_code

if TYPE_CHECKING:
    import pytest

QUICKSTART = Path(__file__).resolve().parents[1] / "recipes" / "quickstart"
OPTC = [sys.executable, "-c", "from optc.cli import entry; entry()"]
STEPS = "[infer-shapes, fold-constants, fold-batchnorm, fold-affine]"


def recipe(folder: Path, name: str, *lines: str, model: str = "m.onnx") -> Path:
    if not (folder / "m.onnx").exists():
        shutil.copy(QUICKSTART / "mnist_mobilenet.onnx", folder / "m.onnx")
    head = f"schema_version: 1\nname: {name}\nmodel: {model}\nverify: {{samples: 1}}\n"
    text = "\n".join(lines) or f"targets: [cascadelake]\npipeline: {STEPS}"
    (folder / f"{name}.yaml").write_text(f"{head}{text}\n")
    return folder / f"{name}.yaml"


def wish(folder: Path, **options: Any) -> Wish:
    known: dict[str, Any] = {"targets": (), "overrides": (), "verify": True, "below": True}
    known |= {"output": folder / "out", "cache": Cache(folder / "cache")}
    return Wish(fetch=lambda recipe: None, **(known | options))


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def entries(folder: Path, kind: str) -> int:
    return Cache(folder / "cache").stats().kinds.get(kind, (0, 0))[0]


def test_one_failure_does_not_lose_the_others(tmp_path: Path) -> None:
    recipes = [
        recipe(tmp_path, "one"),
        recipe(tmp_path, "none", model="none.onnx"),
        recipe(tmp_path, "typo", "targets: [cascadelaek]"),
        recipe(tmp_path, "two", "targets: [icelake]\npipeline: []"),
    ]
    said: list[tuple[str, int, int]] = []
    outcomes = compile_many(recipes, wish(tmp_path), 2, lambda *words: said.append(words))
    assert [outcome.exit_code for outcome in outcomes] == [0, 1, 1, 0]
    assert exit_code(outcomes) == 1
    errors = [outcome.error["code"] for outcome in outcomes if outcome.error]
    assert errors == ["model-missing", "recipe-invalid"]
    for name in ("one", "two"):
        optc.compile(tmp_path / f"{name}.yaml", output=tmp_path / "alone" / name)
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")
    assert any("one: " in text for text, *_ in said)
    assert all(done <= total for _, done, total in said)


def test_what_targets_and_recipes_share_is_made_once(tmp_path: Path) -> None:
    guarded = "pipeline: [infer-shapes, fold-constants, {remove-dead: {}, when: amx_int8}]"
    recipes = [
        recipe(tmp_path, "both", f"targets: [cascadelake, sapphirerapids]\n{guarded}"),
        recipe(
            tmp_path,
            "same",
            f"targets: [cascadelake, sapphirerapids]\n{guarded}",
            "launch: {batch: 2}",
        ),
    ]
    outcomes = compile_many(recipes, wish(tmp_path), 2)
    assert exit_code(outcomes) == 0
    # Two graphs, one for each target, serve both recipes: they are verified once each.
    assert entries(tmp_path, "verification") == 2
    for path in recipes:
        optc.compile(path, output=tmp_path / "alone" / path.stem)
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")


def keys(*words: str) -> list[str]:
    return list(words)


def test_the_longest_common_beginnings_become_tasks() -> None:
    looks = {
        0: {"name": "a", "output": "a", "bytes": 10, "groups": [keys("1", "2", "3a")]},
        1: {"name": "b", "output": "b", "bytes": 10, "groups": [keys("1", "2", "3b")]},
        2: {"name": "c", "output": "c", "bytes": 10, "groups": [keys("1", "2c"), keys("1", "2d")]},
        3: {"name": "d", "output": "d", "bytes": 10, "groups": [keys("9")]},
    }
    place = Path("/nowhere")
    schedule = many._Schedule([place] * 4, wish(place, output=None), 2, None)
    schedule._looks = looks
    schedule._plan()
    stages = [task for task in schedule._tasks if task.do == "stages"]
    assert [(task.more, len(task.needs)) for task in stages] == [
        ({"group": 0, "count": 1}, 0),
        ({"group": 0, "count": 2}, 1),
    ]
    needs = [
        (
            task.do,
            task.recipe,
            [stages.index(need) if need in stages else -1 for need in task.needs],
        )
        for task in schedule._tasks
        if task.do != "stages"
    ]
    assert needs == [
        ("compile", 0, [1]),
        ("compile", 1, [1]),
        ("group", 2, [0]),
        ("group", 2, [0]),
        ("compile", 2, [-1, -1]),
        ("compile", 3, []),
    ]


def test_a_large_model_waits_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most: list[int] = []
    plain = many._Schedule._begin

    def counted(self: many._Schedule) -> bool:
        found = plain(self)
        most.append(len(self._busy))
        return found

    monkeypatch.setattr(many._Schedule, "_begin", counted)
    monkeypatch.setattr(many, "free_memory", lambda: 400 << 20)
    recipes = [recipe(tmp_path, name) for name in ("one", "two", "three")]
    assert exit_code(compile_many(recipes, wish(tmp_path), 3)) == 0
    assert max(most) == 1  # one process always may: else nothing would ever be done


def test_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(processes, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(processes, "_CGROUP", tmp_path)
    assert processes.free_memory() == 4000 << 10
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert processes.free_memory() == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert processes.free_memory() == 4000 << 10


def test_two_recipes_cannot_write_to_one_folder(tmp_path: Path) -> None:
    first = recipe(tmp_path, "one")
    second = tmp_path / "other.yaml"
    second.write_text(first.read_text())
    outcomes = compile_many([first, second], wish(tmp_path), 2)
    assert [outcome.exit_code for outcome in outcomes] == [0, 1]
    assert outcomes[1].error is not None
    assert outcomes[1].error["code"] == "output-twice"


def test_a_process_that_dies_fails_its_recipe_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = processes.WorkerProcess.send

    def send(self: processes.WorkerProcess, task: dict[str, Any]) -> None:
        plain(self, task)
        if task["do"] == "compile" and task["recipe"].endswith("one.yaml"):
            os.kill(self._process.pid, signal.SIGKILL)

    monkeypatch.setattr(processes.WorkerProcess, "send", send)
    recipes = [recipe(tmp_path, "one"), recipe(tmp_path, "two", "targets: [icelake]")]
    outcomes = compile_many(recipes, wish(tmp_path), 2)
    assert [outcome.exit_code for outcome in outcomes] == [3, 0]
    assert outcomes[0].error is not None
    assert "SIGKILL" in outcomes[0].error["text"]


def test_exit_codes_of_several() -> None:
    def outcome(code: int) -> Outcome:
        if code == 4:
            return Outcome(Path("r"), {"missed": {"code": "accuracy-goal-missed"}})
        return Outcome(Path("r"), {"missed": None}, {"exit": code} if code else None)

    assert exit_code([outcome(0), outcome(4)]) == 4
    assert exit_code([outcome(4), outcome(1)]) == 1
    assert exit_code([outcome(1), outcome(3), outcome(4)]) == 3
    assert exit_code([outcome(0)]) == 0


def optc_(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OPTC_CACHE_DIR": str(cwd / "cache")}
    return subprocess.run(
        [*OPTC, *words], cwd=cwd, env=env, check=False, capture_output=True, text=True
    )


def test_the_command_prints_a_table_and_machine_readable_lines(tmp_path: Path) -> None:
    recipe(tmp_path, "one")
    recipe(tmp_path, "bad", "targets: [nope]")
    for path in tmp_path.iterdir():
        os.utime(path, (1, 1))
    command = ("compile", "one.yaml", "bad.yaml", "-j", "2", "-o", "out")
    first = optc_(*command, "--depfile", "all.d", cwd=tmp_path)
    assert first.returncode == 1
    rows = [line.split() for line in first.stdout.splitlines()]
    assert rows[0] == ["recipe", "target", "outcome", "operations", "model", "seconds"]
    assert rows[1][:3] == ["one.yaml", "cascadelake", "verified"]
    assert rows[2][:3] == ["bad.yaml", "FAILED:", "recipe-invalid"]
    assert "bad.yaml:5:11: targets[0]: there is no target 'nope'" in first.stderr
    assert (tmp_path / "all.d").read_text().startswith("out/one/manifest.json: \\\n  one.yaml")
    second = optc_(*command, "--json-lines", cwd=tmp_path)
    lines = [json.loads(line) for line in second.stdout.splitlines()]
    assert [line["recipe"] for line in lines] == ["one.yaml", "bad.yaml"]
    assert lines[0]["model"] == "out/one/cascadelake/model.onnx"
    assert lines[0]["cached"] is True
    assert lines[1]["error"]["code"] == "recipe-invalid"
    third = json.loads(optc_(*command, "--json", cwd=tmp_path).stdout)
    assert [item["error"] is None for item in third["recipes"]] == [True, False]
    assert optc_(*command, "--dump-dir", "d", cwd=tmp_path).returncode == 2


def test_ctrl_c_ends_every_process_and_leaves_nothing(tmp_path: Path) -> None:
    for name in ("one", "two"):
        file = recipe(tmp_path, name, "targets: [cascadelake]")
        file.write_text(file.read_text().replace("samples: 1}", "samples: 20000}"))  # for long
    before = sorted(path.name for path in tmp_path.iterdir())
    env = {**os.environ, "OPTC_CACHE_DIR": "off", "TMPDIR": str(tmp_path)}
    command = [*OPTC, "compile", "one.yaml", "two.yaml", "-j", "2", "-o", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    while len(workers := children(process.pid)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in message
    assert not [pid for pid in workers if command_of(pid)]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_worker_ends_with_the_process_that_started_it() -> None:
    events: queue.SimpleQueue[tuple[processes.WorkerProcess, dict[str, Any]]] = queue.SimpleQueue()
    worker = processes.WorkerProcess([min(os.sched_getaffinity(0))], events)
    assert worker._process.stdin is not None
    worker._process.stdin.close()  # as when its parent is gone
    assert events.get(timeout=60)[1]["died"] in ("exit code 0", "exit code 143")
