"""The figures of benchmarks/panel.py, from records as it writes them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


panel = load("panel_table")
variants = load("panel_variants")


def ratio(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "level": 0.99 if low else 0.0}


def measured(speed: float, optc: float, *, correct: bool = True) -> dict[str, Any]:
    return {
        "correct": correct,
        "reason": "" if correct else "y: off",
        "speedup": ratio(speed, speed - 0.01, speed + 0.01),
        "optc_speedup": ratio(optc / speed),
        "cpu_seconds": {"median": 0.002 / speed, "low": 0.0, "high": 0.0},
    }


def made(**errors: str) -> dict[str, Any]:
    tools = {"optc": "", "onnxslim": "", "onnxsim": "", **errors}
    return {t: {"seconds": 1.0, "peak_mb": 100, "error": e} for t, e in tools.items()}


FAST = {
    "made": made(),
    "variants": {
        "source": measured(1.0, 1.5),
        "optc": measured(1.5, 1.5),
        "onnxslim": measured(1.2, 1.5),
        "onnxsim": measured(2.0, 1.5, correct=False),
    },
}
SLOW = {
    "made": made(onnxsim="not done after 600 s"),
    "variants": {
        "source": measured(1.0, 0.9),
        "optc": measured(0.9, 0.9),
        "onnxslim": measured(1.1, 0.9),
    },
}


def row(record: dict[str, Any]) -> Any:
    return panel.Row("m", record)


class TestRow:
    def test_a_wrong_peer_is_not_the_best(self) -> None:
        assert row(FAST).best_peer() == "onnxslim"

    def test_neither_source_nor_optc_is_a_peer(self) -> None:
        record = {"variants": {"source": measured(1.0, 2.0), "optc": measured(2.0, 2.0)}}

        assert row(record).best_peer() is None

    @pytest.mark.parametrize(("record", "short"), [(FAST, False), (SLOW, True), ({}, False)])
    def test_short_is_slower_than_the_source(self, record: dict[str, Any], short: bool) -> None:
        assert row(record).short is short

    def test_errors_of_making_loading_and_comparing(self) -> None:
        rejected = {"made": made(), "variants": {"onnxsim": {"error": "cannot load"}}}

        assert row(SLOW).error("onnxsim") == "not done after 600 s"
        assert row(rejected).error("onnxsim") == "cannot load"
        assert row(FAST).error("onnxsim") == "wrong: y: off"
        assert row(FAST).error("onnxslim") == ""


class TestMeans:
    def test_geometric(self) -> None:
        assert panel.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
        assert panel.geometric_mean([]) is None

    def test_both_means_are_over_the_same_models(self) -> None:
        rows = [row(FAST), row(SLOW)]

        own, optc, count = panel.mean_of(rows, "onnxslim")

        assert own == pytest.approx((1.2 * 1.1) ** 0.5)
        assert optc == pytest.approx((1.5 * 0.9) ** 0.5)
        assert count == 2
        assert panel.mean_of(rows, "onnxsim") == (None, None, 0)


class TestPage:
    def test_rows_means_and_what_falls_short(self) -> None:
        models = {"fast": {"onnxruntime": FAST}, "slow": {"onnxruntime": SLOW}}

        text = panel.page({"context": {"CPU": "a CPU"}, "models": models})

        assert "- CPU: a CPU" in text
        assert (
            "| fast | 2 | 1.50 [1.49, 1.51] | 1.20 [1.19, 1.21] | ✗ 2.00 [1.99, 2.01] "
            "| onnxslim | 1.25 |" in text
        )
        assert (
            "| slow | 2 | 0.90 [0.89, 0.91] ▼ | 1.10 [1.09, 1.11] | *failed* | onnxslim | 0.82 |"
            in text
        )
        assert "optc below 0.98 of the source: slow 0.90." in text
        assert "| onnxslim | 1.149 | 1.162 | 2 |" in text
        assert "- slow, onnxsim: not done after 600 s" in text

    def test_a_model_that_could_not_be_measured_keeps_its_row(self) -> None:
        models = {"lost": {"openvino": {"made": made(), "error": "ended by SIGKILL"}}}

        text = panel.page({"context": {}, "models": models})

        assert "| lost | *failed* | — | — | — |  |  |" in text
        assert "- lost: ended by SIGKILL" in text

    def test_interval_only_where_there_is_one(self) -> None:
        assert panel.interval(ratio(1.234)) == "1.23"
        assert panel.interval(ratio(1.234, 1.2, 1.3)) == "1.23 [1.20, 1.30]"


class TestVariants:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("bert-small-dyn18", "bert"),
            ("distilbert-ts14", "bert"),
            ("minilm", "bert"),
            ("char_llama", "gpt2"),
            ("whisper-encoder-ts14", "bart"),
            ("resnet50-ts14", None),
        ],
    )
    def test_model_type_by_name(self, name: str, kind: str | None) -> None:
        assert variants.model_type(name) == kind

    def test_messages_lose_folders(self) -> None:
        assert variants.without_folders("no /tmp/a-b/model.onnx; y/z") == "no model.onnx; y/z"

    def test_run_reports_exit_and_time_limit(self, tmp_path: Path) -> None:
        code = "raise ValueError('/x/y is wrong')"
        failed = variants.run([sys.executable, "-c", code], tmp_path / "log", 60.0)
        endless = [sys.executable, "-c", "import time; time.sleep(60)"]
        late = variants.run(endless, tmp_path / "log", 0.2)

        assert failed.error == "ValueError: y is wrong"
        assert late.error == "not done after 0.2 s"
