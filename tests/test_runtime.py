"""Loading compiled models: the emitted options in force, and what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx.parser
import pytest

import optc
import optc.runtime
from optc.cli import main
from optc.errors import CapabilityError, DataError, ModelError, OutputError, TargetError
from optc.ir.types import DType, TensorType
from optc.launch.engines import open_engine
from optc.launch.options import LaunchOptions, read_options
from optc.launch.outputs import Outputs
from optc.launch.topology import Topology, sockets
from optc.numerics.evaluate import open_session
from optc.runtime import load, open_artifact
from optc.targets import Host, detect_host

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICKSTART = Path(__file__).resolve().parents[1] / "recipes/quickstart"
IMAGES = np.load(QUICKSTART / "mnist.npz")["test:image"][:5]
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
RUNTIMES = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]
QUANTIZED = """
<ir_version: 10, opset_import: ["" : 21]>
quantized (float[4, 8] x) => (float[4, 8] y)
<float scale = {0.1}, uint8 zero = {128}, int8 wzero = {0}, int8[8, 8] w>
{
    q = QuantizeLinear(x, scale, zero)
    d = DequantizeLinear(q, scale, zero)
    v = DequantizeLinear(w, scale, wzero)
    y = MatMul(d, v)
}
"""


def compiled(folder: Path, model: Path, **recipe: object) -> Path:
    """The output of a model for Cascade Lake and Sapphire Rapids."""
    base = {"schema_version": 1, "name": "m", "model": str(model), "targets": ["clx", "spr"]}
    optc.compile({**base, **recipe}, output=folder / "out", verify=False)
    return folder / "out"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The output folder for each runtime."""
    model = QUICKSTART / "mnist_mobilenet.onnx"
    return {
        runtime: compiled(tmp_path_factory.mktemp(runtime), model, runtime=runtime)
        for runtime in ("onnxruntime", "openvino")
    }


@pytest.fixture
def artefact(outputs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of an artefact that a test may damage."""
    shutil.copytree(outputs["onnxruntime"], tmp_path / "copy")
    return tmp_path / "copy/cascadelake"


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of an int8 model whose weights use the full range."""
    folder = tmp_path_factory.mktemp("quantized")
    model = onnx.parser.parse_model(QUANTIZED)
    weights = onnx.numpy_helper.from_array(
        np.arange(-128, 128, 4).astype(np.int8).reshape(8, 8), "w"
    )
    model.graph.initializer.append(weights)
    onnx.save(model, folder / "q.onnx")
    return compiled(folder, folder / "q.onnx")


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with as many cores as any mode wants."""
    monkeypatch.setattr("optc.runtime.detect_topology", lambda: sockets(1, 28, 1))
    monkeypatch.delenv("OPTC_THREADS", raising=False)


def pretend_flags(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    host: Host = replace(detect_host(), flags=frozenset(flags))
    monkeypatch.setattr("optc.runtime.detect_host", lambda: host)


# ---- what is loaded ----------------------------------------------------------------------------


@pytest.mark.usefixtures("roomy")
def test_an_onnxruntime_session_has_exactly_the_emitted_options(outputs: dict[str, Path]) -> None:
    import onnxruntime

    session = load(outputs["onnxruntime"] / "cascadelake")
    assert isinstance(session, onnxruntime.InferenceSession)
    found, default = session.get_session_options(), onnxruntime.SessionOptions()
    assert found.intra_op_num_threads == 4
    assert found.inter_op_num_threads == 1
    assert found.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert found.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert session.get_providers() == ["CPUExecutionProvider"]
    for name in ("enable_cpu_mem_arena", "enable_mem_pattern", "log_severity_level"):
        assert getattr(found, name) == getattr(default, name)


@needs_openvino
@pytest.mark.usefixtures("roomy")
def test_an_openvino_model_has_exactly_the_emitted_properties(outputs: dict[str, Path]) -> None:
    import openvino

    model = load(outputs["openvino"] / "cascadelake", threads=1)
    assert isinstance(model, openvino.CompiledModel)
    assert model.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert model.get_property("INFERENCE_NUM_THREADS") == 1
    assert model.get_property("NUM_STREAMS") == 1
    assert model.get_property("ENABLE_CPU_PINNING") is False


@needs_openvino
@pytest.mark.usefixtures("roomy")
def test_bf16_is_in_force_where_the_cpu_has_it_and_refused_elsewhere(tmp_path: Path) -> None:
    import openvino

    wanted = {"targets": ["cooperlake"], "runtime": "openvino", "launch": {"precision": "bf16"}}
    folder = compiled(tmp_path, QUICKSTART / "mnist_mobilenet.onnx", **wanted) / "cooperlake"
    if "avx512_bf16" in detect_host().flags:
        model = load(folder, threads=1)
        assert model.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16
    else:
        with pytest.raises(CapabilityError, match="the bf16 kernels of OpenVINO"):
            load(folder, threads=1)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_loaded_model_computes_what_the_source_model_does(
    outputs: dict[str, Path], runtime: str
) -> None:
    loaded = open_artifact(outputs[runtime] / "cascadelake", threads=1)
    (image,) = loaded.engine.inputs.values()
    assert isinstance(image, TensorType)
    assert image.shape is not None
    assert (image.dtype, image.shape[1:]) == (DType.F32, (1, 32, 32))
    found = loaded.engine.run({"image": IMAGES})
    again = loaded.engine.run({"image": IMAGES[::-1]})
    source = open_session(QUICKSTART / "mnist_mobilenet.onnx").run({"image": IMAGES})
    # About 50 layers of fp32: some 50 roundings of 2^-24, a few times the largest logit of 7.
    np.testing.assert_allclose(np.asarray(found["logits"]), np.asarray(source["logits"]), atol=1e-4)
    np.testing.assert_allclose(
        np.asarray(again["logits"])[::-1], np.asarray(found["logits"]), atol=1e-4
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    "feeds", [{}, {"picture": IMAGES}, {"image": IMAGES[:, :, :16]}, {"image": IMAGES.astype("u1")}]
)
def test_inputs_that_do_not_fit_are_a_model_error(
    outputs: dict[str, Path], runtime: str, feeds: dict[str, Any]
) -> None:
    loaded = open_artifact(outputs[runtime] / "cascadelake", threads=1)
    with pytest.raises(ModelError) as caught:
        loaded.engine.run(feeds)
    assert caught.value.code == "runtime-failed"
    assert caught.value.message.startswith(f"{runtime}: ")


@needs_openvino
def test_bfloat16_values_reach_openvino_bit_by_bit(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (bfloat16[N] x) => (bfloat16[N] y) '
    onnx.save(onnx.parser.parse_model(text + "{ y = Identity(x) }"), tmp_path / "model.onnx")
    stated = json.loads(OPENVINO_OPTIONS)
    engine = open_engine(tmp_path / "model.onnx", LaunchOptions.model_validate(stated))
    x = np.array([1.0, -0.3, 3e38, 1e-40, np.inf], ml_dtypes.bfloat16)
    y = engine.run({"x": x})["y"]
    assert isinstance(y, np.ndarray)
    assert y.dtype == x.dtype
    assert y.tobytes() == x.tobytes()


OPENVINO_OPTIONS = """{
  "schema_version": 1, "target": "cascadelake", "runtime": "openvino", "minimum_version": "2025.4",
  "mode": "latency", "batch": 1, "model": "model.onnx", "needs": [], "tile_flags": [],
  "device": "CPU",
  "properties": {"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"}
}"""


# ---- threads -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "environment", "asked", "expected"),
    [
        (sockets(1, 28, 2), None, None, 4),
        (sockets(2, 3, 1), None, None, 3),
        (Topology(sockets(1, 8, 1).nodes, quota=2), None, None, 2),
        (sockets(1, 2, 1), "3", None, 3),
        (sockets(1, 2, 1), "3", 5, 5),
    ],
)
def test_threads_are_the_emitted_ones_fewer_on_less_or_as_told(
    outputs: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    machine: Topology,
    environment: str | None,
    asked: int | None,
    expected: int,
) -> None:
    monkeypatch.setattr("optc.runtime.detect_topology", lambda: machine)
    monkeypatch.delenv("OPTC_THREADS", raising=False)
    if environment:
        monkeypatch.setenv("OPTC_THREADS", environment)
    loaded = open_artifact(outputs["onnxruntime"] / "cascadelake", threads=asked)
    assert loaded.options.threads == expected
    assert loaded.engine.native.get_session_options().intra_op_num_threads == expected


@pytest.mark.parametrize(("environment", "asked"), [("many", None), ("0", None), ("", 0)])
def test_a_thread_count_that_is_none_is_refused(
    outputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, environment: str, asked: int | None
) -> None:
    monkeypatch.setenv("OPTC_THREADS", environment)
    with pytest.raises(TargetError) as caught:
        load(outputs["onnxruntime"] / "cascadelake", threads=asked)
    assert caught.value.code == "threads-invalid"
    assert caught.value.message.endswith(f"at least 1, not {environment or asked}")


# ---- files -------------------------------------------------------------------------------------


def refused(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load(folder)
    return caught.value


def test_the_folder_of_all_targets_names_those_to_choose_from(artefact: Path) -> None:
    error = refused(artefact.parent)
    assert (error.code, error.location) == ("artifact-missing", str(artefact.parent))
    assert error.hint == (
        "this is the output of all targets; load one of "
        f"{artefact.parent / 'cascadelake'}, {artefact.parent / 'sapphirerapids'}"
    )


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "nothing")
    assert error.code == "artifact-missing"
    assert error.hint == "give the folder of one target in the output of `optc compile`"


def _truncate(folder: Path) -> None:
    with (folder / "model.onnx").open("r+b") as file:
        file.truncate(1000)


def _flip(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[1000] ^= 1
    (folder / "model.onnx").write_bytes(content)


def _edit(folder: Path) -> None:
    path = folder / "launch/runtime.json"
    path.write_text(path.read_text().replace('threads": 4', 'threads": 64'))


@pytest.mark.parametrize(
    ("damage", "file", "reason"),
    [
        (_truncate, "model.onnx", "the file differs from the one that was compiled"),
        (_flip, "model.onnx", "the file differs from the one that was compiled"),
        (_edit, "launch/runtime.json", "the file differs from the one that was compiled"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx", "the file is missing"),
        (lambda folder: (folder / "graph.txt").unlink(), "graph.txt", "the file is missing"),
    ],
)
def test_files_that_are_not_those_of_the_compile_are_refused(
    artefact: Path, damage: Any, file: str, reason: str
) -> None:
    damage(artefact)
    error = refused(artefact)
    assert (error.code, error.message) == ("artifact-damaged", reason)
    assert error.location == str(artefact / file)


def test_the_check_can_be_left_out(artefact: Path) -> None:
    (artefact.parent / "manifest.json").unlink()
    error = refused(artefact)
    assert error.code == "artifact-damaged"
    assert "there is no manifest.json beside the folder" in error.message
    assert load(artefact, check_hashes=False) is not None


def test_scripts_and_services_may_be_adapted(artefact: Path) -> None:
    (artefact / "launch/launch.sh").write_text("#!/bin/sh\n")
    (artefact / "launch/env").unlink()
    assert load(artefact) is not None


def test_a_relative_path_and_a_renamed_output_will_do(
    artefact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact.parent.rename(artefact.parent.with_name("elsewhere"))
    monkeypatch.chdir(artefact.parent.with_name("elsewhere") / "cascadelake")
    assert load(".") is not None


@pytest.mark.parametrize("content", ["", "[]", '{"files": []}', '{"files": {}}'])
def test_a_manifest_that_is_none_is_refused(artefact: Path, content: str) -> None:
    (artefact.parent / "manifest.json").write_text(content)
    assert refused(artefact).code == "artifact-damaged"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema_version: input should be 1"),
        ({"runtime": "tensorrt"}, "runtime: input should be 'onnxruntime' or 'openvino'"),
        ({"model": "../../etc/passwd"}, "model: string should match pattern"),
        ({"extra": 1}, "extra: extra inputs are not permitted"),
        ({"session_options": {}}, "it is not what optc writes"),
        ({"session_options": {"intra_op_num_threads": 0}}, "it is not what optc writes"),
    ],
)
def test_options_that_optc_did_not_write_are_refused(
    artefact: Path, change: dict[str, object], reason: str
) -> None:
    path = artefact / "launch/runtime.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError) as caught:
        load(artefact, check_hashes=False)
    assert caught.value.code == "artifact-damaged"
    assert f"the launch options cannot be used: {reason}" in caught.value.message


def test_options_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_options(tmp_path / "runtime.json")
    (tmp_path / "runtime.json").write_text("{")
    with pytest.raises(ModelError, match="it is not what optc writes"):
        read_options(tmp_path / "runtime.json")


def test_a_model_that_the_runtime_rejects_is_a_model_error(artefact: Path) -> None:
    (artefact / "model.onnx").write_bytes(b"\x08\x09")
    with pytest.raises(ModelError) as caught:
        load(artefact, check_hashes=False)
    assert caught.value.code == "runtime-cannot-load"
    assert caught.value.location == str(artefact / "model.onnx")


@needs_openvino
def test_a_property_that_openvino_does_not_know_is_a_model_error(tmp_path: Path) -> None:
    shutil.copy(QUICKSTART / "mnist_mobilenet.onnx", tmp_path / "model.onnx")
    stated = json.loads(OPENVINO_OPTIONS)
    stated["properties"]["AFFINITY"] = "CORE"
    with pytest.raises(ModelError) as caught:
        open_engine(tmp_path / "model.onnx", LaunchOptions.model_validate(stated))
    assert caught.value.code == "runtime-cannot-load"
    assert "AFFINITY" in caught.value.message


# ---- CPU and runtime ---------------------------------------------------------------------------


def test_int8_weights_are_refused_on_a_cpu_that_computes_them_wrongly(
    quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_flags(monkeypatch, "sse2", "avx2", "avx512f")
    with pytest.raises(CapabilityError) as caught:
        load(quantized / "cascadelake")
    assert caught.value.code == "cpu-unsuitable"
    assert caught.value.message == (
        "this CPU has no avx512_vnni and no avx_vnni: the int8 weights use the full range, and "
        "without VNNI sums of their products saturate in 16 bits: the results would be wrong"
    )
    pretend_flags(monkeypatch, "sse2", "avx2", "avx_vnni")
    assert load(quantized / "cascadelake") is not None


def test_the_script_of_an_int8_model_asks_for_vnni(quantized: Path) -> None:
    script = (quantized / "cascadelake/launch/launch.sh").read_text()
    assert "\nneed 'avx512_vnni avx_vnni' " in script


@pytest.mark.parametrize(
    ("flags", "permission", "note"),
    [
        (("amx_tile", "amx_int8"), "", None),
        (
            ("amx_tile",),
            "",
            "this CPU shows no amx_int8: the model runs, but slower than on AMX; usual reasons: "
            "another CPU, Linux before 5.16",
        ),
        (
            ("amx_tile", "amx_int8"),
            "the kernel refuses",
            "the model runs, but slower than on AMX: the kernel refuses",
        ),
    ],
)
def test_hidden_amx_is_a_warning(
    quantized: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: Sequence[str],
    permission: str,
    note: str | None,
) -> None:
    pretend_flags(monkeypatch, "sse2", "avx2", "avx512_vnni", *flags)
    monkeypatch.setattr("optc.runtime.tile_permission", lambda: permission)
    if note is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(quantized / "sapphirerapids")
        return
    with pytest.warns(RuntimeWarning) as caught:
        load(quantized / "sapphirerapids")
    assert [str(entry.message).startswith(note) for entry in caught] == [True]
    assert caught[0].filename == __file__


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_that_is_not_installed_is_named(
    outputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(CapabilityError) as caught:
        load(outputs[runtime] / "cascadelake")
    assert caught.value.code == "runtime-missing"
    assert str(caught.value.hint).startswith(f"pip install '{runtime}>=")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_that_is_too_old_is_refused(
    outputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    monkeypatch.setattr(f"{runtime}.__version__", "1.9.2-custom")
    with pytest.raises(CapabilityError) as caught:
        load(outputs[runtime] / "cascadelake")
    assert caught.value.code == "runtime-too-old"
    assert f"{runtime} 1.9.2-custom is installed; artefacts need " in caught.value.message


# ---- outputs and `optc run` --------------------------------------------------------------------


def test_results_of_batches_are_joined_and_others_stacked(tmp_path: Path) -> None:
    found = Outputs(keep=True)
    found.add({"file": np.zeros((2, 3)), "s": np.ones(())}, 2)
    found.add({"file": np.ones((1, 3)), "s": np.full((), np.nan)}, 1)
    found.save(tmp_path / "o.npz")
    stored = np.load(tmp_path / "o.npz")
    assert {name: stored[name].shape for name in stored} == {"file": (3, 3), "s": (2,)}
    assert found.figures["s"].to_dict() == {
        "dtype": "float64",
        "shape": [],
        "elements": 2,
        "not_finite": 1,
        "min": 1.0,
        "max": 1.0,
        "mean": 1.0,
    }
    assert str(found.figures["s"]) == "float64[] min 1, max 1, mean 1, 1 not finite"
    first = hashlib.sha256((tmp_path / "o.npz").read_bytes())
    found.save(tmp_path / "o.npz")
    assert hashlib.sha256((tmp_path / "o.npz").read_bytes()).digest() == first.digest()


def test_results_that_cannot_be_one_array_are_refused(tmp_path: Path) -> None:
    ragged = Outputs(keep=True)
    ragged.add({"y": np.zeros((1, 3))}, 1)
    ragged.add({"y": np.zeros((1, 4))}, 1)
    with pytest.raises(DataError) as caught:
        ragged.save(tmp_path / "o.npz")
    assert caught.value.code == "output-ragged"
    with pytest.raises(DataError, match="is no tensor"):
        ragged.add({"list": [np.zeros(1)]}, 1)
    with pytest.raises(OutputError, match="cannot write: No such file"):
        Outputs().save(tmp_path / "nowhere/o.npz")
    text = Outputs()
    text.add({"s": np.array(["a"], object), "list": [np.zeros(1)]}, 1)
    assert text.figures["s"].to_dict()["mean"] is None
    assert list(text.figures) == ["s"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_run_writes_the_outputs_of_all_samples(
    outputs: dict[str, Path], runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(outputs[runtime] / "cascadelake"), "--data", str(QUICKSTART / "mnist.npz")]
    words += ["--split", "test", "--samples", "5", "--output", str(tmp_path / "o.npz"), "--json"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["target"], facts["runtime"], facts["samples"]) == ("cascadelake", runtime, 5)
    assert facts["outputs"]["logits"]["elements"] == 50
    source = open_session(QUICKSTART / "mnist_mobilenet.onnx").run({"image": IMAGES})
    stored = np.load(tmp_path / "o.npz")["logits"]
    np.testing.assert_allclose(stored, np.asarray(source["logits"]), atol=1e-4)


def test_run_summarizes_the_outputs_and_warns_of_hidden_amx(
    quantized: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend_flags(monkeypatch, "sse2", "avx2", "avx512_vnni")
    np.save(tmp_path / "x.npy", np.zeros((3, 4, 8), np.float32))
    words = ["run", str(quantized / "sapphirerapids"), "-d", str(tmp_path / "x.npy")]
    assert main([*words, "--threads", "1"]) == 0
    text = capsys.readouterr()
    assert text.out.splitlines() == [
        f"{quantized / 'sapphirerapids'}: 3 sample(s) on onnxruntime, 1 thread(s)",
        "  y: float32[4, 8] min 0, max 0, mean 0",
    ]
    assert text.err.startswith("warning: this CPU shows no amx_tile")


def test_run_needs_data_that_is_there(
    outputs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(outputs["onnxruntime"] / "cascadelake")
    assert main(["run", folder]) == 2
    assert main(["run", folder, "--data", "nothing.npz"]) == 1
    assert "there is no such file or folder" in capsys.readouterr().err
    assert main(["run", str(outputs["onnxruntime"]), "--data", "nothing.npz"]) == 1
    assert "load one of" in capsys.readouterr().err


def test_importing_the_loader_imports_no_runtime() -> None:
    code = (
        "import sys, optc.runtime; "
        "print(sorted({'onnxruntime', 'openvino', 'jinja2', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_run_fills_inputs_that_the_data_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = '<ir_version: 10, opset_import: ["" : 21]> g (float[N, 2] x, float[1, 2] h) '
    model = onnx.parser.parse_model(text + "=> (float[N, 2] y) { y = Add(x, h) }")
    onnx.save(model, tmp_path / "a.onnx")
    folder = compiled(tmp_path, tmp_path / "a.onnx") / "cascadelake"
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2), np.float32))
    words = ["run", str(folder), "--data", str(tmp_path / "x.npz")]
    assert main(words) == 1
    assert "there is no data for input 'h'" in capsys.readouterr().err
    assert main([*words, "--fill", "h=2.5"]) == 0
    assert "y: float32[1, 2] min 3.5, max 3.5" in capsys.readouterr().out
    assert main([*words, "--fill", "h"]) == 2
    assert "'h' is not INPUT=NUMBER" in capsys.readouterr().err
