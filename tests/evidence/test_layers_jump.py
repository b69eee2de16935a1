"""The layer that makes an error is named first, and rounding is not taken for an error."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.parser
import pytest

import optc
from optc.evidence import expose, layers_report
from optc.ir import DType, Tensor
from optc.ir.ops import Trait, info

if TYPE_CHECKING:
    from optc.evidence.layers_report import LayerComparison
    from optc.ir import Graph, Node, Value

ROOT = Path(__file__).resolve().parents[2]
RESNET = ROOT / "tests" / "models" / "mnist_resnet.onnx"
MOBILENET = ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx"
MNIST = ROOT / "recipes" / "quickstart" / "mnist.npz"
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)


def layers(a: Path, b: Path, **options: Any) -> LayerComparison:
    options = {"data": MNIST, "split": "test", "samples": 2, **options}
    found = optc.compare(a, b, layers=True, **options).layers
    assert found is not None
    return found


def folded(model: Path) -> Graph:
    """What the default pipeline makes of a model."""
    return optc.run_passes(optc.load_model(model)).graph


def weights(graph: Graph) -> list[tuple[Node, Value]]:
    """Every product with its constant weight."""
    return [
        (node, value)
        for node in graph.ordered()
        for value in graph.operands(node)[1:2]
        if info(node).has(Trait.MAC) and value is not None and value.constant is not None
    ]


def perturbed(weight: np.ndarray[Any, Any], how: str, seed: int) -> np.ndarray[Any, Any]:
    """All elements 1 % larger, or one, drawn by chance, by 0.001 of their root mean square."""
    if how == "all":
        return weight * np.float32(1.01)
    result = weight.copy()
    place = np.random.default_rng(seed).integers(weight.size)
    result.reshape(-1)[place] += np.float32(1e-3) * np.sqrt(np.mean(weight**2))
    return result


def perturb(graph: Graph, number: int, how: str) -> str:
    """Change one weight of a graph; the label of its operation."""
    node, value = weights(graph)[number]
    assert value.constant is not None
    changed = perturbed(value.constant.numpy(), how, number)
    tensor = Tensor.from_numpy(changed, DType.F32)
    graph.set_operand(node, 1, graph.add_constant(tensor, graph.fresh_name(value.name)))
    return node.label


RESNET_WEIGHTS = range(10)


@pytest.mark.parametrize("number", RESNET_WEIGHTS)
@pytest.mark.parametrize("how", ["one", "all"])
def test_a_perturbed_weight_is_named(number: int, how: str, tmp_path: Path) -> None:
    graph = optc.load_model(RESNET)
    guilty = perturb(graph, number, how)
    optc.save_model(graph, tmp_path / "b.onnx")
    first = layers(RESNET, tmp_path / "b.onnx").first
    assert first is not None
    assert (first.layer, first.layer_b, first.passes) == (guilty, guilty, ())


@pytest.mark.parametrize("number", RESNET_WEIGHTS)
def test_a_weight_that_is_perturbed_after_optimization_is_named(
    number: int, tmp_path: Path
) -> None:
    graph = folded(RESNET)
    guilty = perturb(graph, number, "all")
    optc.save_model(graph, tmp_path / "b.onnx")
    first = layers(RESNET, tmp_path / "b.onnx").first
    assert first is not None
    assert first.layer_b == guilty
    if first.op_b == "Conv":
        assert first.op == "BatchNormalization"
        assert first.passes == ("fold-batchnorm",)
        assert set(first.sources) == {guilty, first.layer}


@needs_openvino
@pytest.mark.parametrize("how", ["one", "all"])
@pytest.mark.parametrize("number", [0, 4, 8])
def test_a_perturbed_constant_of_an_ir_is_named(number: int, how: str, tmp_path: Path) -> None:
    import openvino
    from openvino import opset13 as ops

    from optc.emit.openvino import save_ir

    save_ir(folded(RESNET), tmp_path / "good.xml")
    model = openvino.Core().read_model(tmp_path / "good.xml")
    convolutions = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    constant = convolutions[number].input_value(1).get_node()
    changed = ops.constant(perturbed(constant.get_data(), how, number))
    convolutions[number].input(1).replace_source_output(changed.output(0))
    (user,) = convolutions[number].output(0).get_target_inputs()
    guilty = user.get_node().get_friendly_name()  # the Add of the bias, which ends the operation
    openvino.save_model(model, tmp_path / "b.xml", compress_to_fp16=False)
    first = layers(RESNET, tmp_path / "b.xml").first
    assert first is not None
    assert first.layer_b == guilty
    assert first.op == "BatchNormalization"
    assert first.passes == ("fold-batchnorm",)


@pytest.mark.parametrize("model", [RESNET, MOBILENET], ids=lambda path: path.stem)
def test_folding_makes_no_error(model: Path, tmp_path: Path) -> None:
    optc.save_model(folded(model), tmp_path / "b.onnx")
    found = layers(model, tmp_path / "b.onnx")
    assert found.first is None
    assert any(layer.excess for layer in found.layers)
    norms = sum(node.is_op("BatchNormalization") for node in optc.load_model(model).nodes())
    pairs = sum(layer.op == "BatchNormalization" for layer in found.layers)
    assert pairs == norms
    # An activation or a mean that is raised and lowered again has no counterpart inside.
    assert len(found.only_b) <= 3


@needs_openvino
@pytest.mark.parametrize("model", [RESNET, MOBILENET], ids=lambda path: path.stem)
@pytest.mark.parametrize("form", ["onnx", "ir", "foreign ir"])
def test_kernels_of_another_runtime_make_no_error(model: Path, form: str, tmp_path: Path) -> None:
    import openvino

    from optc.emit.openvino import convert, save_ir

    other = model
    if form == "ir":
        other = tmp_path / "b.xml"
        save_ir(folded(model), other)
    elif form == "foreign ir":  # says nothing about where its layers come from
        other = tmp_path / "b.xml"
        found = openvino.Core().read_model(model)
        convert(found)
        openvino.save_model(found, other, compress_to_fp16=False)
    result = layers(model, other, runtime_b="openvino")
    assert result.first is None
    assert len(result.layers) >= 20
    assert not [layer.tensor for layer in result.layers if layer.problem]
    assert layers(other, model, runtime_a="openvino").first is None


@needs_openvino
def test_two_irs_are_compared(tmp_path: Path) -> None:
    from optc.emit.openvino import save_ir

    save_ir(folded(RESNET), tmp_path / "a.xml")
    graph = folded(RESNET)
    guilty = perturb(graph, 3, "all")
    save_ir(graph, tmp_path / "b.xml")
    assert layers(tmp_path / "a.xml", tmp_path / "a.xml").first is None
    first = layers(tmp_path / "a.xml", tmp_path / "b.xml").first
    assert first is not None
    assert guilty in first.layer


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}'), path)
    return path


def test_a_tensor_of_fewer_bits_is_compared(tmp_path: Path) -> None:
    text = "g (float[8] x) => (float[8] y) {{ {} y = Neg(v) }}"
    chain = "[t] t = Exp(x) [u] u = {} [v] v = {}"
    a = write(tmp_path, "a", text.format(chain.format("Relu(t)", "Identity(u)")))
    b = write(
        tmp_path,
        "b",
        text.format(
            "[t] t = Exp(x) [w] w = Relu(t) [u] u = Cast<to = 10>(w) [v] v = Cast<to = 1>(u)"
        ),
    )
    graph = optc.load_model(b)
    for node in graph.nodes():  # as a pass would record it
        if node.name in ("u", "v"):
            node.metadata = {"optc.pass": "narrow", "optc.sources": f'["{node.name}"]'}
    optc.save_model(graph, b)
    found = layers(a, b, data=None, split="")
    told = {layer.tensor: layer.problem for layer in found.layers}
    assert told == {"t": "", "u": "", "v": "", "y": ""}
    first = found.first
    assert first is not None
    assert (first.tensor, first.passes, first.sources) == ("u", ("narrow",), ("u",))
    assert found.only_b == ("w",)


def test_an_error_that_is_passed_on_is_not_made(tmp_path: Path) -> None:
    # Sub leaves a small difference of large numbers: what comes in is a hundred times as much.
    text = (
        "g (float[1,64] x) => (float[1,64] y) <float c = {{{}}}, float b = {{100.0}}> {{ "
        "s = Mul(x, c) t = Add(s, b) u = Sub(t, b) y = Tanh(u) }}"
    )
    a = write(tmp_path, "a", text.format("1.0"))
    b = write(tmp_path, "b", text.format("1.001"))
    found = layers(a, b, data=None, split="")
    assert [layer.tensor for layer in found.layers if layer.jumps] == ["s"]


def test_memory_is_bounded_by_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = optc.load_model(RESNET)
    guilty = perturb(graph, 5, "all")
    optc.save_model(graph, tmp_path / "b.onnx")
    whole = layers(RESNET, tmp_path / "b.onnx")
    seen: list[int] = []
    monkeypatch.setattr(expose, "_GROUP_BYTES", 100_000)
    original = expose.groups

    def counted(*arguments: Any) -> Any:
        for group in original(*arguments):
            seen.append(len(group))
            yield group

    monkeypatch.setattr(layers_report, "groups", counted)
    parts = layers(RESNET, tmp_path / "b.onnx")
    assert len(seen) > 5
    assert sum(seen) == len(whole.layers) == len(parts.layers)
    assert parts.first is not None
    assert parts.first.layer == guilty
    by_name = {layer.tensor: layer.sqnr for layer in whole.layers}
    for layer in parts.layers:
        assert layer.sqnr == pytest.approx(by_name[layer.tensor], rel=1e-3)


def test_layers_inside_of_subgraphs_are_left_out(tmp_path: Path) -> None:
    model = write(
        tmp_path,
        "a",
        "g (float[4] x, bool c) => (float[4] y) { t = Exp(x) u = If(c) <"
        "then_branch = t1 () => (float[4] p) { p = Relu(t) }, "
        "else_branch = e1 () => (float[4] q) { q = Neg(t) }> y = Tanh(u) }",
    )
    assert [layer.op for layer in layers(model, model, data=None, split="").layers] == [
        "Exp", "If", "Tanh",
    ]  # fmt: skip


def test_a_few_integers_that_flip_are_rounding_and_many_are_not(tmp_path: Path) -> None:
    text = "g (float[1,64] x) => (uint8[1,64] y) <float s = {{{}}}, uint8 z = {{128}}> {{ " \
        "t = Tanh(x) y = QuantizeLinear(t, s, z) }}"  # fmt: skip
    a = write(tmp_path, "a", text.format("0.01"))
    b = write(tmp_path, "b", text.format("0.0100001"))
    few = layers(a, b, data=None, split="")
    assert few.first is None
    c = write(tmp_path, "c", text.format("0.011"))
    first = layers(a, c, data=None, split="").first
    assert first is not None
    assert (first.tensor, first.is_exact) == ("y", True)


def test_a_tensor_that_disturbs_the_model_as_an_output_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenVINO 2026.4 does with results of some int8 convolutions."""
    model = write(
        tmp_path, "a", "g (float[4] x) => (float[4] y) { t = Exp(x) u = Neg(t) y = Tanh(u) }"
    )
    original = expose.Tap.run

    def run(tap: expose.Tap, feeds: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict(original(tap, feeds))
        return {**found, "y": -found["y"]} if "u" in found else found

    monkeypatch.setattr(expose.Tap, "run", run)
    found = layers(model, model, data=None, split="")
    told = {layer.tensor: layer.problem for layer in found.layers}
    assert told == {"t": "", "u": "as an output it changes what the runtime computes", "y": ""}
    assert found.first is None
