"""Values inside a graph, on the calibration data of a recipe."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

import optc
from optc.errors import DataError
from optc.ir import clone
from optc.ir.text import print_graph
from optc.observer import ABREAST, SEEDED_SAMPLES, CalibrationObserver
from optc.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.numerics.values import Array

MODEL = Path(__file__).resolve().parents[1] / "recipes" / "quickstart" / "mnist_mobilenet.onnx"


def observer(**more: object) -> CalibrationObserver:
    content: Mapping[str, object] = {
        "schema_version": 1,
        "model": str(MODEL),
        "targets": ["cascadelake"],
        **more,
    }
    return CalibrationObserver(load_recipe(content))


def images(path: Path, samples: int) -> Path:
    rng = np.random.default_rng(0)
    (only,) = optc.load_model(MODEL).inputs
    data = rng.random((samples, 1, 32, 32), np.float32)
    np.savez(path, allow_pickle=False, **{f"calib:{only.name}": data})
    return path


def test_values_are_those_of_the_source_model(tmp_path: Path) -> None:
    """Also of a graph in which operators are canonical."""
    graph = optc.load_model(MODEL)
    raised = optc.run_passes(graph, ["raise-activations"], lower=False).graph
    data = images(tmp_path / "data.npz", 3)
    own = observer(data={"calibration": {"path": str(data), "split": "calib", "samples": 2}})
    name = next(node.output.name for node in graph.ordered() if node.op_type == "Conv")
    before = print_graph(raised)
    found = [list(own.observe(g, [g.value(name)], dict)) for g in (graph, raised)]
    assert print_graph(raised) == before
    assert [len(samples) for samples in found] == [2, 2]
    for one, other in zip(*found, strict=True):
        assert set(one) == {name}
        # 1e-4: the runtime may fuse differently around an output, sums of float32 are reordered.
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5)
    assert not np.array_equal(found[0][0][name], found[0][1][name])
    assert own.real
    assert own.origin == "split calib of data.npz"


def test_a_graph_output_and_an_input_can_be_observed() -> None:
    graph = optc.load_model(MODEL)
    (result,) = [graph.operand(node, 0) for node in graph.outputs]
    assert result is not None
    (source,) = graph.inputs
    samples = list(observer().observe(graph, [result, source, result], dict))
    assert len(samples) == SEEDED_SAMPLES
    assert set(samples[0]) == {result.name, source.name}


def test_without_data_inputs_are_seeded() -> None:
    one, other = observer(), observer(verify={"seed": 1})
    assert not one.real
    assert one.origin == "seeded inputs (seed 0)"
    assert one.digest == observer().digest != other.digest
    graph = optc.load_model(MODEL)
    first = [next(iter(o.observe(graph, graph.inputs, dict))) for o in (one, observer(), other)]
    name = graph.inputs[0].name
    assert np.array_equal(first[0][name], first[1][name])
    assert not np.array_equal(first[0][name], first[2][name])


def test_samples_run_abreast_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sample is not done before the second one runs."""
    monkeypatch.setattr("optc.observer.available_cpus", lambda: 2)
    graph = optc.load_model(MODEL)
    name = graph.inputs[0].name
    plain = [arrays[name] for arrays in observer().observe(graph, graph.inputs, dict)]
    met, seen = threading.Barrier(2), itertools.count()

    def look(arrays: Mapping[str, Array]) -> Array:
        if next(seen) < 2:
            met.wait(10)
        return arrays[name]

    for one, other in zip(observer().observe(graph, graph.inputs, look), plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_single_cpu_runs_sample_after_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optc.observer.available_cpus", lambda: 1)
    graph = optc.load_model(MODEL)
    looking = threading.Lock()

    def look(arrays: Mapping[str, Array]) -> int:
        assert looking.acquire(blocking=False)
        time.sleep(0.001)  # long enough for another one to come
        looking.release()
        return len(arrays)

    assert list(observer().observe(graph, graph.inputs, look)) == [1] * SEEDED_SAMPLES


def test_what_fails_in_a_thread_is_not_lost() -> None:
    graph = optc.load_model(MODEL)

    def look(arrays: Mapping[str, Array]) -> None:
        raise ValueError(f"{len(arrays)} arrays")

    with pytest.raises(ValueError, match="1 arrays"):
        list(observer().observe(graph, graph.inputs, look))


def test_samples_that_nobody_wants_do_not_run() -> None:
    graph = optc.load_model(MODEL)
    looked: list[int] = []
    runs = observer().observe(graph, graph.inputs, lambda arrays: looked.append(len(arrays)))
    next(runs)
    runs.close()  # type: ignore[attr-defined]  # a generator
    assert len(looked) <= ABREAST + 1 < SEEDED_SAMPLES


def test_the_digest_follows_content_not_place(tmp_path: Path) -> None:
    def digest(path: Path, **more: object) -> str:
        return observer(data={"calibration": {"path": str(path), "split": "calib", **more}}).digest

    one, same = images(tmp_path / "a.npz", 3), images(tmp_path / "b.npz", 3)
    assert digest(one) == digest(same)
    assert digest(one) != digest(one, samples=2)
    assert digest(one) != digest(images(tmp_path / "c.npz", 4))


def test_data_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, other=np.zeros((2, 3), np.float32))
    own = observer(data={"calibration": {"path": str(data)}})
    graph = clone(optc.load_model(MODEL))
    with pytest.raises(DataError, match="there is no data for"):
        next(iter(own.observe(graph, graph.inputs, dict)))


def test_data_may_have_any_size_within_bounds(tmp_path: Path) -> None:
    model = tmp_path / "any.onnx"
    header = '<ir_version: 8, opset_import: ["": 17]>'
    text = f"{header} any (float[N, L] x) => (float[N, L] y) {{y = Exp(x)}}"
    onnx.save(onnx.parser.parse_model(text), model)
    data = tmp_path / "data.npz"
    x = np.linspace(0, 1, 15, dtype=np.float32).reshape(3, 5)
    np.savez(data, allow_pickle=False, **{"calib:x": x, "test:x": x})
    recipe = load_recipe(
        {
            "schema_version": 1,
            "model": str(model),
            "targets": ["cascadelake"],
            "inputs": {"x": {"shape": ["1..4", "2..8"]}},
            "data": {
                "calibration": {"path": str(data), "split": "calib"},
                "validation": {"path": str(data), "split": "test"},
            },
        }
    )
    graph = optc.load_model(model)
    seen = list(CalibrationObserver(recipe).observe(graph, [graph.value("x")], dict))
    np.testing.assert_array_equal(np.concatenate([found["x"] for found in seen]), x)
    (artifact,) = optc.compile(recipe, output=tmp_path / "out").artifacts.values()
    assert artifact.verification is not None
    assert artifact.verification.samples == 3
