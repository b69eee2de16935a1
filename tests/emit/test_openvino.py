"""OpenVINO IR: what is kept, how weights lie in the file, what is refused, equal bytes."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import optc
from helpers import graph_from_text
from optc.emit.openvino import save_ir, unique_labels
from optc.errors import CapabilityError, OutputError
from optc.ir import Tensor
from optc.targets import host_capabilities, load_runtime
from optc.versions import library_version

if TYPE_CHECKING:
    from optc.ir import Graph

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)

ROOT = Path(__file__).resolve().parents[2]
MOBILENET = ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx"

LAYERS = """
<ir_version: 8, opset_import: ["" : 17]>
g (int64[K] i, float[N,8] x) => (float[N,8] z, float[N,8] y)
<float[8,8] w = {{{weights}}}, float[8] b = {{1, 2, 3, 4, 5, 6, 7, 8}}>
{{
  [prod] p = MatMul (x, w)
  [bias] a = Add (p, b)
  [soft] y = Softmax (a)
  [pick] z = Gather (y, i)
}}
"""


def graph() -> Graph:
    weights = np.random.default_rng(0).standard_normal(64)
    return graph_from_text(LAYERS.format(weights=", ".join(f"{value:.9f}" for value in weights)))


def read(path: Path) -> Any:
    import openvino

    return openvino.Core().read_model(path)


def layers(model: Any) -> dict[str, str]:
    return {op.get_friendly_name(): op.get_type_name() for op in model.get_ordered_ops()}


def test_names_and_order_of_inputs_and_outputs_stay(tmp_path: Path) -> None:
    files = save_ir(graph(), tmp_path / "m.xml")
    assert files == [tmp_path / "m.xml", tmp_path / "m.bin"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["m.bin", "m.xml"]
    model = read(files[0])
    assert [port.get_any_name() for port in model.inputs] == ["i", "x"]
    assert [port.get_any_name() for port in model.outputs] == ["z", "y"]
    assert [str(port.get_partial_shape()) for port in model.inputs] == ["[?]", "[?,8]"]


def test_layers_bear_the_labels_of_operations(tmp_path: Path) -> None:
    found = layers(read(save_ir(graph(), tmp_path / "m.xml")[0]))
    assert found["prod"] == "MatMul"
    assert found["bias"] == "Add"
    assert found["soft"] == "Softmax"
    owners = {"prod", "bias", "soft", "pick", "i", "x", "w", "b", "y", "z"}
    assert {name.partition("/")[0] for name in found} <= owners


def test_bounds_of_dimensions_reach_the_file(tmp_path: Path) -> None:
    (path, _) = save_ir(graph(), tmp_path / "m.xml", shapes={"x": "[1..4,8]"})
    shapes = {port.get_any_name(): str(port.get_partial_shape()) for port in read(path).inputs}
    assert shapes == {"i": "[?]", "x": "[1..4,8]"}


def test_bf16_weights_are_rounded_to_nearest_even(tmp_path: Path) -> None:
    source = graph()
    (path, _) = save_ir(source, tmp_path / "m.xml", weights="bf16")
    stored = [op for op in read(path).get_ordered_ops() if op.get_type_name() == "Constant"]
    kinds = {op.get_friendly_name(): op.get_element_type().get_type_name() for op in stored}
    wide = [name for name, kind in kinds.items() if kind == "bf16"]
    assert len(wide) == 1  # the matrix; the bias keeps its digits
    assert "f32" in kinds.values()
    (matrix,) = (v.constant for v in source.constants() if v.name == "w")
    assert matrix is not None
    bits = matrix.numpy().astype(ml_dtypes.bfloat16).view(np.uint16)
    (constant,) = (op for op in stored if op.get_friendly_name() in wide)
    found = np.asarray(constant.get_tensor_view().data).view(np.uint16)
    assert sorted(found.ravel()) == sorted(bits.ravel())


def test_bf16_keeps_constants_that_would_become_infinite(tmp_path: Path) -> None:
    made = graph()
    mask = np.full((8, 8), np.finfo(np.float32).min, np.float32)
    (old,) = (v for v in made.constants() if v.name == "w")
    fresh = made.add_constant(Tensor.from_numpy(mask), "mask")
    made.replace_uses(old, fresh)
    (path, _) = save_ir(made, tmp_path / "m.xml", weights="bf16")
    kinds = {
        op.get_element_type().get_type_name()
        for op in read(path).get_ordered_ops()
        if op.get_type_name() == "Constant"
    }
    assert "bf16" not in kinds


def test_f16_halves_the_weights(tmp_path: Path) -> None:
    source = optc.load_model(MOBILENET)
    (_, wide) = save_ir(source, tmp_path / "wide.xml")
    (_, half) = save_ir(source, tmp_path / "half.xml", weights="f16")
    assert half.stat().st_size < 0.55 * wide.stat().st_size


def test_marks_are_read_back(tmp_path: Path) -> None:
    made = graph()
    (soft,) = (node for node in made.nodes() if node.name == "soft")
    (path, _) = save_ir(made, tmp_path / "m.xml", keep_f32=[soft])
    assert path.read_text().count('<attribute name="precise" version="0" />') == 1
    marked = [
        op.get_friendly_name()
        for op in read(path).get_ordered_ops()
        if {"DisablePrecisionConversion_0", "precise_0"} & set(op.get_rt_info().keys())
    ]
    assert marked == ["soft"]


CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[4,64] x, float[64,64] v, float[64,64] w) => (float[4,64] y)
{ [first] a = MatMul (x, v)  [exp] b = Exp (a)  [last] y = MatMul (b, w) }
"""


@pytest.mark.skipif(
    "avx512" not in host_capabilities(), reason="bf16 needs AVX-512, if only to be emulated"
)
@pytest.mark.parametrize("keep", [False, True])
def test_a_marked_operation_stays_fp32_under_the_hint(keep: bool, tmp_path: Path) -> None:
    made = graph_from_text(CHAIN)
    marked = [node for node in made.nodes() if node.name == "exp"] if keep else []
    (path, _) = save_ir(made, tmp_path / "m.xml", keep_f32=marked)
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "bf16"}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    ran = {
        name: info["runtimePrecision"].value
        for info in (op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops())
        for name in str(info["originalLayersNames"].value).split(",")
    }
    assert ran["first"] == "bf16"
    is_lost = load_runtime("openvino").loses_mark("Exp", library_version("openvino"))
    assert ran["exp"] == ("f32" if keep and not is_lost else "bf16")


def test_where_operations_come_from_is_in_the_file(tmp_path: Path) -> None:
    run = optc.run_passes(optc.load_model(MOBILENET), "fp32", runtime="openvino")
    (path, _) = save_ir(run.graph, tmp_path / "m.xml", metadata={"optc.target": "cascadelake"})
    model = read(path)
    assert model.get_rt_info(["optc", "target"]).value == "cascadelake"
    sources = json.loads(model.get_rt_info(["optc", "sources"]).value)
    passes = json.loads(model.get_rt_info(["optc", "passes"]).value)
    made = {node.label for node in run.graph.nodes() if node.origin and node.origin.made_by}
    assert sources.keys() == passes.keys() == made
    assert "fold-batchnorm" in passes.values()
    assert made <= layers(model).keys()


SCRIPT = """
import sys, optc
from optc.emit.openvino import save_ir
for path in sys.argv[2:]:
    save_ir(optc.load_model(path), sys.argv[1])
"""


def test_equal_bytes_whatever_was_converted_before(tmp_path: Path) -> None:
    resnet = ROOT / "tests" / "models" / "mnist_resnet.onnx"
    digests = set()
    for seed, before in (("1", []), ("2", [str(resnet)]), ("3", [str(MOBILENET)])):
        path = tmp_path / f"m{seed}.xml"
        command = [sys.executable, "-c", SCRIPT, str(path), *before, str(MOBILENET)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        content = path.read_bytes() + path.with_suffix(".bin").read_bytes()
        digests.add(hashlib.sha256(content).hexdigest())
    assert len(digests) == 1


def test_it_is_what_the_converter_of_openvino_writes(tmp_path: Path) -> None:
    """`openvino.convert_model` is called in another process: it sends usage data outside of CI."""
    (path, weights) = save_ir(optc.load_model(MOBILENET), tmp_path / "ours.xml")
    script = (
        "import openvino, sys; "
        "openvino.save_model(openvino.convert_model(sys.argv[1]), sys.argv[2], False)"
    )
    theirs = tmp_path / "theirs.xml"
    command = [sys.executable, "-W", "ignore", "-c", script, str(MOBILENET), str(theirs)]
    subprocess.run(command, check=True, env={**os.environ, "CI": "true"}, capture_output=True)
    assert theirs.with_suffix(".bin").read_bytes() == weights.read_bytes()
    kinds = [op.get_type_name() for op in read(theirs).get_ordered_ops()]
    assert kinds == [op.get_type_name() for op in read(path).get_ordered_ops()]


def test_what_the_converter_rejects_is_an_error_of_ours(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17, "no.such.domain" : 1]>
    g (float[2] x) => (float[2] y) { y = no.such.domain.Op (x) }
    """
    with pytest.raises(CapabilityError) as caught:
        save_ir(graph_from_text(text), tmp_path / "m.xml")
    assert caught.value.code == "not-convertible"
    assert "Op" in caught.value.message
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        save_ir(graph(), tmp_path / "none" / "m.xml")


def test_labels_are_unique() -> None:
    text = """
    g (float[2] x) => (float[2] y)
    { [n] a = Relu (x)  [n_1] b = Relu (a)  [n] c = Relu (b)  y = Relu (c) }
    """
    assert list(unique_labels(graph_from_text(text)).values()) == ["n", "n_1", "n_2", "y"]
