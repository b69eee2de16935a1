"""Whole benches of small models: what comes out, on which inputs, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.parser
import pytest

import optc
from helpers.processes import workers
from optc.errors import DataError, ModelError
from optc.evidence.bench_inputs import Facts, Request, choose_inputs, read_facts
from optc.evidence.subject import find_subject

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
RESNET = ROOT / "tests" / "models" / "mnist_resnet.onnx"
DATA = ROOT / "recipes" / "quickstart" / "mnist.npz"
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
Make = "Callable[..., Path]"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes y = x · w, with x as declared."""

    def write(name: str, declared: str = "float[batch, 4] x", factor: float = 2.0) -> Path:
        text = f"""
            <ir_version: 8, opset_import: ["" : 13]>
            scale ({declared}) => (float[batch, 4] y) <float w = {{{factor}}}> {{ y = Mul(x, w) }}
        """
        path = tmp_path / name
        path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
        return path

    return write


def inputs(*models: Path, **request: Any) -> Any:
    subjects = [find_subject(model) for model in models]
    return choose_inputs(subjects, [read_facts(s) for s in subjects], Request(**request))


# ---- inputs ------------------------------------------------------------------------------------


def test_seeded_inputs_have_the_batch_that_is_asked_for(make: Callable[..., Path]) -> None:
    found = inputs(make("a.onnx"))
    assert found.origin == "seeded inputs (seed 0)"
    assert found.batch == 1
    assert {run["x"].shape for run in found.feeds} == {(1, 4)}
    assert len({run["x"].tobytes() for run in found.feeds}) == len(found.feeds) > 1
    assert {run["x"].shape for run in inputs(make("a.onnx"), batch=3).feeds} == {(3, 4)}


def test_data_is_fed_in_the_batch_that_is_asked_for() -> None:
    found = inputs(RESNET, data=DATA, split="test", batch=2)
    assert found.origin == "split test of mnist.npz"
    assert found.batch == 2
    assert len(found.feeds) == 16
    images = np.load(DATA)["test:image"]
    np.testing.assert_array_equal(found.feeds[3]["image"].ravel(), images[6:8].ravel())


def test_a_dimension_that_one_model_fixes_holds_for_all(make: Callable[..., Path]) -> None:
    found = inputs(make("a.onnx"), make("b.onnx", "float[5, 4] x"))
    assert {run["x"].shape for run in found.feeds} == {(5, 4)}
    assert found.batch == 5


def test_models_with_other_inputs_are_refused(make: Callable[..., Path]) -> None:
    for declared in ("double[batch, 4] x", "float[batch, 4, 1] x", "float[batch, 4] z"):
        other = make("b.onnx").with_name("other.onnx")
        text = declared.replace("double", "float")
        other.write_bytes(
            onnx.parser.parse_model(
                f'<ir_version: 8, opset_import: ["" : 13]> m ({declared}) => (float[n] y) '
                f"{{ y = {'Cast <to = 1>' if text != declared else 'Identity'}({declared[-1]}) }}"
            ).SerializeToString()
        )
        with pytest.raises(ModelError) as caught:
            inputs(make("a.onnx"), other)
        assert caught.value.code == "inputs-differ"
        assert caught.value.location == str(other)


def test_data_that_does_not_fit_is_refused(make: Callable[..., Path]) -> None:
    with pytest.raises(DataError):
        inputs(make("a.onnx"), data=DATA, split="test")
    with pytest.raises(DataError) as caught:
        inputs(make("a.onnx"), fill={"q": 1.0})
    assert caught.value.code == "unknown-input"


def test_inputs_are_filled_and_a_model_that_fails_on_them_is_named(
    make: Callable[..., Path],
) -> None:
    found = inputs(make("a.onnx"), fill={"x": 0.5})
    assert float(found.feeds[0]["x"].min()) == float(found.feeds[0]["x"].max()) == 0.5


def test_outputs_are_compared_with_those_of_the_first(make: Callable[..., Path]) -> None:
    found = inputs(make("a.onnx"), make("b.onnx"), make("c.onnx", factor=2.5))
    first, same, other = found.differences
    assert first is None
    assert (same.relative, same.reason) == (0.0, "")
    assert (other.relative, other.output) == (pytest.approx(0.25), "y")


def test_outputs_that_cannot_be_compared_are_no_error(make: Callable[..., Path]) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 13]>
        m (float[batch, 4] x) => (float[batch, 4] other) { other = Neg(x) }
    """
    renamed = make("a.onnx").with_name("renamed.onnx")
    renamed.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    _, difference = inputs(make("a.onnx"), renamed).differences
    assert difference.relative is None
    assert (difference.output, difference.reason) == ("y", "the output is missing")


def test_operations_in_bfloat16_are_found_in_the_file(make: Callable[..., Path]) -> None:
    text = """
        <ir_version: 8, opset_import: ["" : 13]>
        m (float[4] x) => (float[4] y) {
            a = Cast <to = 16> (x)
            b = Add(a, a)
            y = Cast <to = 1> (b)
        }
    """
    path = make("a.onnx").with_name("bf16.onnx")
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    facts: Facts = read_facts(find_subject(path))
    assert facts.computes_bf16
    assert not read_facts(find_subject(RESNET)).computes_bf16


# ---- benches -----------------------------------------------------------------------------------


def test_a_bench_tells_what_it_measured_and_on_what(make: Callable[..., Path]) -> None:
    told: list[str] = []
    result = optc.bench(
        [f"two={make('a.onnx')}", f"three={make('b.onnx', factor=3.0)}"],
        runs=2,
        progress=lambda activity, done, total: told.append(activity),
    )
    assert [model.label for model in result.models] == ["two", "three"]
    first, second = result.models
    assert first.latency.cpu_speedup is None
    assert first.difference is None
    assert second.latency.cpu_speedup is not None
    assert second.latency.cpu_speedup.level == 0.0  # two blocks tell no interval
    assert second.difference is not None
    assert second.difference.relative == pytest.approx(0.5)
    assert (result.threads, result.batch, result.blocks, result.rounds) == (1, 1, 2, 2)
    assert result.versions.keys() == {"onnxruntime"}
    assert second.latency.cpu.low <= second.latency.cpu.median <= second.latency.cpu.high
    assert set(told) == {"inputs", "latency"}
    data = result.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert list(data) == sorted(data, key=list(data).index)


@needs_openvino
def test_one_model_on_two_runtimes(make: Callable[..., Path]) -> None:
    result = optc.bench(make("a.onnx"), runtimes=["onnxruntime", "openvino"], runs=1)
    assert [model.runtime for model in result.models] == ["onnxruntime", "openvino"]
    assert result.versions.keys() == {"onnxruntime", "openvino"}
    assert result.models[1].difference is not None
    assert result.models[1].difference.relative == 0.0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_throughput_runs_all_instances_at_once(make: Callable[..., Path]) -> None:
    result = optc.bench(make("a.onnx"), runs=1, seconds=0.1, throughput=True, threads=1)
    found = result.models[0].throughput
    assert found is not None
    assert found.instances == len(found.cpus) >= 2
    assert found.threads == 1
    assert len(set(found.cpus)) == found.instances
    assert 0 < found.samples.low <= found.samples.median
    assert workers() == []


def test_a_recipe_is_measured_alone_and_something_must_be() -> None:
    recipe = ROOT / "recipes" / "quickstart" / "recipe.yaml"
    for models in ([recipe, RESNET], []):
        with pytest.raises(ModelError) as caught:
            optc.bench(models)
        assert caught.value.code == "bench-models"
