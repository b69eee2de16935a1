"""The collector is slowed down within, and as it was before behind that."""

from __future__ import annotations

import gc
from pathlib import Path
from threading import Barrier, Thread
from typing import TYPE_CHECKING

import pytest

import optc
from optc.collecting import rare_collections
from optc.ir.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = Path(__file__).parent / "models" / "mnist_resnet.onnx"


@pytest.fixture(autouse=True)
def _thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_thresholds_are_restored_by_the_last_one_out() -> None:
    gc.set_threshold(701, 11, 12)
    with rare_collections():
        rare = gc.get_threshold()
        assert rare[0] > 701
        with pytest.raises(ValueError, match="inner"), rare_collections():
            raise ValueError("inner")
        assert gc.get_threshold() == rare
    assert gc.get_threshold() == (701, 11, 12)


def test_threads_overlap() -> None:
    gc.set_threshold(701, 11, 12)
    both = Barrier(2)

    @rare_collections()
    def work(*, first: bool) -> None:
        both.wait()  # both are inside
        if not first:
            left.join()
            seen.append(gc.get_threshold()[0] > 701)

    seen: list[bool] = []
    left = Thread(target=work, kwargs={"first": True})
    right = Thread(target=work, kwargs={"first": False})
    left.start()
    right.start()
    right.join()
    assert seen == [True]
    assert gc.get_threshold() == (701, 11, 12)


@pytest.mark.parametrize("own", [(0, 10, 10), (1_000_000, 5, 5)])
def test_a_collector_that_is_off_or_rarer_is_left_alone(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    with rare_collections():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_passes_run_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.set_threshold(701, 11, 12)
    seen = []

    def noted(*words: object) -> object:
        seen.append(gc.get_threshold()[0])
        return verify(*words)  # type: ignore[arg-type]

    monkeypatch.setattr("optc.pipeline.verify", noted)
    optc.run_passes(optc.load_model(MODEL), ["fold-constants"])
    assert min(seen) > 701
    assert gc.get_threshold() == (701, 11, 12)
