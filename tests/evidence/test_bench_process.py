"""The processes that time models: what they answer, what they are handed, and how they end."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from helpers.processes import children, command, workers
from optc.errors import ModelError
from optc.evidence import bench_worker
from optc.evidence.bench_latency import Effort, measure_latency
from optc.evidence.bench_process import Process, open_pool
from optc.evidence.bench_worker import serve
from optc.evidence.feeds_file import read_feeds, write_feeds
from optc.evidence.subject import find_subject

if TYPE_CHECKING:
    from optc.numerics.values import Feeds

MODEL = Path(__file__).resolve().parents[1] / "models" / "mnist_resnet.onnx"
IMAGE = np.linspace(0, 1, 1024, dtype=np.float32).reshape(1, 1, 32, 32)
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
FEEDS: list[Feeds] = [{"image": IMAGE}]


def test_inputs_of_every_kind_come_back_as_they_were(tmp_path: Path) -> None:
    feeds: list[Feeds] = [
        {
            "f32": IMAGE,
            "strided": IMAGE[:, :, ::2],
            "scalar": np.float64(2.5),
            "bf16": np.array([1.5, -2.0], dtype=ml_dtypes.bfloat16),
            "i4": np.array([-8, 7, 3], dtype=ml_dtypes.int4),
            "flags": np.array([True, False]),
            "none": None,
            "empty": np.zeros((0, 3), dtype=np.int64),
            "words": np.array([["", "ä"]], dtype=object),
            "file": np.array([3.0]),  # a parameter of numpy.savez
            "list": [np.arange(3), np.arange(2)],
        },
        {"f32": IMAGE * 2},
    ]
    table = write_feeds(tmp_path / "feeds.npz", feeds)
    back = read_feeds(tmp_path / "feeds.npz", json.loads(json.dumps(table)))
    assert [list(run) for run in back] == [list(run) for run in feeds]
    for name, value in feeds[0].items():
        found: Any = back[0][name]
        pairs = zip(value, found, strict=True) if isinstance(value, list) else [(value, found)]
        for expected, actual in pairs:
            if expected is None:
                assert actual is None
                continue
            assert actual.dtype == np.asarray(expected).dtype, name
            np.testing.assert_array_equal(actual, expected)
            assert actual.shape == np.asarray(expected).shape, name


def test_a_map_cannot_be_handed_over(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        write_feeds(tmp_path / "feeds.npz", [{"x": {1: 2.0}}])
    assert caught.value.code == "map-input"


def test_requests_are_answered_line_by_line(tmp_path: Path) -> None:
    table = write_feeds(tmp_path / "feeds.npz", FEEDS)
    subject = find_subject(MODEL)
    model = {"path": str(MODEL), "options": subject.options.model_dump(mode="json")}
    feeds = {"feeds": str(tmp_path / "feeds.npz"), "table": table}
    plan = {"rounds": 3, "warm_up": 1}
    missing = {**model, "path": str(tmp_path / "none.onnx")}
    requests = [
        {"do": "import", "runtimes": ["onnxruntime"]},
        {"do": "block", "models": [model, model], "plan": plan, **feeds},
        {"do": "block", "models": [missing], "plan": plan, **feeds},
    ]
    answers: list[Any] = []
    serve([json.dumps(item) for item in requests], lambda line: answers.append(json.loads(line)))
    assert answers[0] == {}
    assert [len(own) for own in answers[1]["cpu"] + answers[1]["wall"]] == [3, 3, 3, 3]
    assert all(time > 0 for own in answers[1]["cpu"] for time in own)
    assert answers[1]["cpu_clock"] == "thread"
    assert answers[2]["error"]["code"] == "runtime-cannot-load"


def test_an_unknown_request_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no request 'dance'"):
        serve(['{"do": "dance"}'], lambda line: None)


def test_every_block_is_a_process_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    subject = find_subject(MODEL)
    blocks = measure_latency(
        [subject, subject],
        FEEDS,
        effort=Effort(runs=3, warm_up=1),
        progress=lambda *words: told.append(words),
    )
    assert [len(block.cpu[0]) for block in blocks] == [1, 1, 1]
    assert told == [("latency", number, 3) for number in range(4)]
    assert workers() == []


def test_what_a_process_reports_and_that_it_died_are_errors_of_the_model(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with open_pool(FEEDS) as pool:
        process = pool.start("the model")
        subject = find_subject(broken, label="the model")
        process.tell(pool.request("open", [subject], cpus=[0]))
        with pytest.raises(ModelError) as caught:
            process.hear()
        assert (caught.value.code, caught.value.location) == ("runtime-cannot-load", "the model")
        process.tell({"do": "dance"})
        with pytest.raises(ModelError) as caught:
            process.hear()
    assert caught.value.code == "bench-process"
    assert "exit code 1: ValueError: there is no request 'dance'" in caught.value.message
    assert workers() == []


def test_what_a_process_has_started_ends_with_it(tmp_path: Path) -> None:
    # OpenVINO forks when it is imported.
    script = """sleep 600 & printf '{"pid": %d}\\n' $!; wait"""
    started = subprocess.Popen(
        ["sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process = Process(started, "a", tmp_path / "log.txt")
    inner = process.hear()["pid"]
    assert command(inner)
    process.end()
    deadline = time.monotonic() + 30
    while any(command(inner)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(command(inner))


@needs_openvino
def test_nothing_is_forked_beside_the_models() -> None:
    with open_pool(FEEDS) as pool:
        process = pool.start("a")
        process.tell({"do": "import", "runtimes": ["openvino"]})
        process.hear()
        (worker,) = workers()
        assert children(worker) == []


def test_processes_end_and_files_go_when_the_block_is_left_early() -> None:
    folders: list[Path] = []

    def interrupted() -> None:
        with open_pool(FEEDS) as pool:
            folders.append(pool.folder)
            pool.start("a").tell({"do": "import", "runtimes": []})
            pool.start("b")
            assert len(workers()) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert workers() == []
    assert not folders[0].exists()


@pytest.mark.parametrize(("asked", "runs"), [(None, 3), (7, 7)])
def test_an_instance_warms_up_as_often_as_asked(
    asked: int | None, runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    class Counting:
        def bind(self, feeds: Feeds) -> Any:
            return lambda: calls.append(feeds)

    monkeypatch.setattr(bench_worker, "open_engine", lambda *_: Counting())
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)
    table = write_feeds(tmp_path / "feeds.npz", FEEDS)
    options = find_subject(MODEL).options.model_dump(mode="json")
    request = {
        "do": "open",
        "models": [{"path": str(MODEL), "options": options}],
        "feeds": str(tmp_path / "feeds.npz"),
        "table": table,
        "cpus": [0],
        "warm_up": asked,
    }
    answers: list[str] = []
    serve([json.dumps(request)], answers.append)
    assert answers == ["{}"]
    assert len(calls) == runs
