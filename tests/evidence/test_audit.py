"""What really runs, held against what the runtime's own introspection says, case by case."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

import optc
from helpers.one_op import build
from optc.errors import GoalMissed, ModelError
from optc.evidence.audit import audit
from optc.targets import host_capabilities
from optc.targets.kernels import Route

if TYPE_CHECKING:
    from helpers.one_op import ZeroPoint
    from optc.evidence.audit_result import Audit, NodeFate

ROOT = Path(__file__).resolve().parents[2]
RESNET = ROOT / "tests" / "models" / "mnist_resnet.onnx"
DIGITS = ROOT / "recipes" / "quickstart" / "mnist.npz"
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
RUNTIMES = (
    "onnxruntime",
    pytest.param(
        "openvino", marks=pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
    ),
)
pytestmark = pytest.mark.skipif(
    "avx2" not in host_capabilities(), reason="kernels are described for CPUs with AVX2"
)


def one(op: str, form: str, types: str, zero: ZeroPoint = "asymmetric") -> onnx.ModelProto:
    """A model of one operator between quantization; types are activation, weight and result."""
    activation, weight, output = types.split()
    route = Route.model_validate(
        {
            "ops": [op],
            "form": form,
            "activation": activation,
            "weight": weight,
            "output": output,
            "choices": [{"outcome": "slow"}],
            "evidence": "a test",
            "confidence": "high",
        }
    )
    return build(route, op, zero)


def product(found: Audit, op: str) -> NodeFate:
    (node,) = (node for node in found.nodes if node.op == op)
    return node


# Checked by hand: onnxruntime by the operators of the model it saves, OpenVINO by primitiveType.
ORT_CASES = [
    ("Conv", "qdq", "u8 s8 u8", "asymmetric", "int8", "QLinearConv"),
    ("Conv", "qdq", "s8 s8 s8", "symmetric", "int8", "QLinearConv"),
    ("Conv", "qdq", "u8 u8 u8", "asymmetric", "int8", "QLinearConv"),
    ("Conv", "qdq", "u8 s8 f32", "asymmetric", "fp32", "Conv"),
    ("Conv", "qdq-relu", "u8 s8 u8", "asymmetric", "fp32", "Conv"),
    ("MatMul", "qdq", "u8 s8 u8", "asymmetric", "int8", "QLinearMatMul"),
    ("MatMul", "qdq", "u8 s8 f32", "asymmetric", "int8", "MatMulIntegerToFloat"),
    ("MatMul", "qdq-pair", "s8 s8 s8", "symmetric", "int8", "QLinearMatMul"),
    ("Gemm", "qdq", "u8 s8 u8", "asymmetric", "int8", "QGemm"),
    ("ConvTranspose", "qdq", "u8 s8 u8", "asymmetric", "fp32", "ConvTranspose"),
]
OV_CASES = [
    ("Conv", "qdq", "u8 s8 u8", "asymmetric", "int8", "Convolution"),
    ("Conv", "qdq", "s8 s8 s8", "symmetric", "int8", "Convolution"),
    ("Conv", "qdq", "u8 u8 u8", "asymmetric", "fp32", "Convolution"),
    ("MatMul", "qdq", "u8 s8 u8", "asymmetric", "int8", "FullyConnected"),
    ("MatMul", "qdq", "s8 s8 s8", "symmetric", "int8", "FullyConnected"),
    ("MatMul", "qdq", "u8 u8 u8", "asymmetric", "fp32", "FullyConnected"),
    ("MatMul", "qdq-pair", "s8 s8 s8", "asymmetric", "fp32", "MatMul"),
    ("Gemm", "qdq", "u8 s8 u8", "asymmetric", "int8", "FullyConnected"),
]


@pytest.mark.parametrize(("op", "form", "types", "zero", "ran", "becomes"), ORT_CASES)
def test_products_on_onnxruntime(
    op: str, form: str, types: str, zero: ZeroPoint, ran: str, becomes: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(one(op, form, types, zero), path)
    found = audit(path, runtime="onnxruntime", runs=2)
    node = product(found, op)
    assert (node.planned, node.ran) == ("int8", ran)
    assert node.kernel is not None
    assert becomes in node.kernel
    check_verdict(node)


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
@pytest.mark.parametrize(("op", "form", "types", "zero", "ran", "becomes"), OV_CASES)
def test_products_on_openvino(
    op: str, form: str, types: str, zero: ZeroPoint, ran: str, becomes: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(one(op, form, types, zero), path)
    found = audit(path, runtime="openvino", runs=2)
    node = product(found, op)
    assert (node.planned, node.ran) == ("int8", ran)
    kernels = [kernel for kernel in found.execution.kernels if node.label in kernel.nodes]
    assert [kernel.op for kernel in kernels if kernel.heavy] == [becomes]
    check_verdict(node)


def check_verdict(node: NodeFate) -> None:
    """What falls back is listed with a reason that the kernel table gave beforehand.

    oneDNN takes tiles from 32 rows on, or 256 columns or products: these few have fewer.
    """
    small = node.planned_isa == "amx_int8" and node.isa == "avx512_vnni"
    assert node.deviates == (node.ran != "int8" or small)
    assert bool(node.reason) == node.deviates
    assert "another kernel than the table names" not in node.reason


# ---- whole models ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The residual network in int8, by types of activations and weights."""
    folder = tmp_path_factory.mktemp("quantized")
    return {name: quantize(folder / f"{name}.onnx", name) for name in ("u8s8", "s8s8", "u8u8")}


def quantize(path: Path, types: str) -> Path:
    """By onnxruntime's own quantizer, per channel, on 16 digits."""
    from onnxruntime import quantization as q

    digits = np.load(DIGITS)["calib:image"]
    kinds = {"u8": q.QuantType.QUInt8, "s8": q.QuantType.QInt8}

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(digits[:16, None])

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image.reshape(1, *digits.shape[1:])}

    folded = path.with_name("folded.onnx")
    optc.save_model(optc.run_passes(optc.load_model(RESNET), "fp32").graph, folded)
    q.quantize_static(
        str(folded),
        str(path),
        Reader(),
        quant_format=q.QuantFormat.QDQ,
        activation_type=kinds[types[:2]],
        weight_type=kinds[types[2:]],
        per_channel=types[2:] == "s8",
        extra_options={"ActivationSymmetric": types == "s8s8"},
    )
    return path


def convolutions_of_onnxruntime(path: Path) -> dict[str, str]:
    """What became of each convolution, from the model that onnxruntime saves."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    saved = path.with_suffix(".saved.onnx")
    options.optimized_model_filepath = str(saved)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(saved).graph.node
    kinds = {"Conv": "fp32", "QLinearConv": "int8"}
    return {n.name.partition("_token")[0]: kinds[n.op_type] for n in nodes if n.op_type in kinds}


def convolutions_of_openvino(path: Path) -> list[str]:
    """What became of the convolutions, from the runtime model; its names are not the graph's."""
    import openvino

    hint = {"INFERENCE_PRECISION_HINT": "f32"}  # else bf16 on CPUs that have it
    model = openvino.Core().compile_model(str(path), "CPU", hint).get_runtime_model()
    kinds = {"f32": "fp32", "i8": "int8"}
    return [
        kinds[op.get_rt_info()["primitiveType"].value.lower().rpartition("_")[2]]
        for op in model.get_ordered_ops()
        if op.get_rt_info()["layerType"].value == "Convolution"
    ]


@pytest.mark.parametrize("types", ["u8s8", "s8s8", "u8u8"])
def test_convolutions_of_a_network_on_onnxruntime(types: str, quantized: dict[str, Path]) -> None:
    found = audit(quantized[types], runtime="onnxruntime", runs=2)
    heavy = {node.label: node.ran for node in found.nodes if node.op == "Conv"}
    assert len(heavy) == 9  # two of them 1x1 with stride 2
    assert heavy == convolutions_of_onnxruntime(quantized[types])
    deviating = {node.label for node in found.deviations}
    assert deviating == {label for label, ran in heavy.items() if ran != "int8"}
    if types == "s8s8":  # what feeds two convolutions stays s8, for which there is no kernel
        assert "/f/f.4/d/d.0/Conv" in deviating


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
@pytest.mark.parametrize("types", ["u8s8", "s8s8", "u8u8"])
def test_convolutions_of_a_network_on_openvino(types: str, quantized: dict[str, Path]) -> None:
    found = audit(quantized[types], runtime="openvino", runs=2)
    heavy = [node.ran for node in found.nodes if node.op == "Conv"]
    assert heavy == ["fp32" if types == "u8u8" else "int8"] * 9
    assert heavy == convolutions_of_openvino(quantized[types])


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
def test_u8_weights_fall_back_on_openvino(quantized: dict[str, Path]) -> None:
    found = audit(quantized["u8u8"], runtime="openvino", runs=2)
    heavy = [node for node in found.nodes if node.heavy]
    assert {node.ran for node in heavy} == {"fp32"}
    assert list(found.deviations) == heavy
    assert all("u8 x asymmetric u8" in node.reason for node in heavy)
    with pytest.raises(GoalMissed, match="10 of 10 operations did not run as expected"):
        found.check(["int8"])


@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
def test_an_artefact_is_held_against_the_plan_of_its_target(
    quantized: dict[str, Path], tmp_path: Path
) -> None:
    recipe = {
        "schema_version": 1,
        "model": str(quantized["u8s8"]),
        "targets": ["cascadelake"],
        "runtime": "openvino",
        "emit": {"format": "openvino"},
    }
    result = optc.compile(recipe, output=tmp_path / "out", verify=False)
    before = {path: path.read_bytes() for path in result.output.rglob("*") if path.is_file()}
    found = audit(result.artifacts["cascadelake"].folder, runs=2)
    heavy = [node for node in found.nodes if node.heavy]
    assert {(node.planned, node.planned_isa) for node in heavy} == {("int8", "avx512_vnni")}
    assert {node.ran for node in heavy} == {"int8"}
    here = "avx512_vnni" in host_capabilities()
    deviating = {node.reason for node in found.deviations}
    assert deviating == (set() if here else {"this CPU has no avx512_vnni"})
    after = {path: path.read_bytes() for path in result.output.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_times_add_up_and_every_operation_has_a_fate(runtime: str) -> None:
    found = audit(RESNET, runtime=runtime, runs=3)
    assert sum(found.share(k.seconds) for k in found.execution.kernels) == pytest.approx(1.0)
    fates = {node.label: node for node in found.nodes}
    assert len(fates) == 33
    relu = fates["/f/f.3/Relu"]
    assert relu.fused_into == "/f/f.3/a/Conv"
    gone = [node for node in found.nodes if node.verdict == "not executed"]
    assert {node.op for node in gone} == {"Identity"}
    assert all(node.kernel is not None for node in found.nodes if node not in gone)
    heavy = [node for node in found.nodes if node.heavy]
    assert {node.ran for node in heavy} == {"fp32"}
    assert {node.isa for node in heavy} <= {"avx2", "avx512"}


def test_a_model_that_does_not_run_says_so(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 17, "no.such.domain" : 1]>
    g (float[2] x) => (float[2] y) { y = no.such.domain.Op (x) }
    """
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    with pytest.raises(ModelError, match="onnxruntime"):
        audit(path, runtime="onnxruntime")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_neither_names_of_inputs_nor_files_here_disturb(
    runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input named like a parameter of numpy.savez, and modules in the working folder."""
    x = onnx.helper.make_tensor_value_info("file", onnx.TensorProto.FLOAT, [1, 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])
    w = onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    node = onnx.helper.make_node("MatMul", ["file", "w"], ["y"], name="product")
    graph = onnx.helper.make_graph([node], "g", [x], [y], [w])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    onnx.save(model, tmp_path / "m.onnx")
    for module in ("json", "numpy", "optc"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    found = audit("m.onnx", runtime=runtime, fill={"file": 1.0}, runs=1)
    assert product(found, "MatMul").ran == "fp32"
