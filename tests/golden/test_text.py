"""Golden texts: what is in them, what counts as a difference, and what cannot be stable is not."""

from __future__ import annotations

import numpy as np
import pytest

import optc
from helpers import graph_from_text
from optc.errors import ModelError
from optc.golden import compare_with, golden_text
from optc.ir import Attr, AttrKind, DType, Graph, Origin, Tensor, TensorType, clone
from optc.ir.text import print_graph

RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)
X = TensorType(DType.F32, (1, 3, 8, 8))


def graph(
    weights: object = WEIGHTS,
    bias: object = (0.1, 0.2, 0.3, 0.4),
    *,
    made: bool = True,
    name: str = "w",
    alpha: float = 0.125,
) -> Graph:
    """A convolution whose weights a pass computed (or not), and a shape that stays."""
    found = Graph("g", {"": 21})
    x = found.add_input("x", X)
    origin = Origin("fold-batchnorm", ("c", "bn")) if made else None
    w = found.add_constant(Tensor.from_numpy(np.asarray(weights, np.float32)), name, origin)
    b = found.add_constant(Tensor.from_numpy(np.asarray(bias, np.float32)), "b", origin)
    conv = found.add("Conv", [x, w, b], outputs=["c"], name="conv", origin=origin)
    slope = {"alpha": Attr(AttrKind.FLOAT, float(np.float32(alpha)))}
    relu = found.add("LeakyRelu", [conv.output], outputs=["r"], attributes=slope, origin=origin)
    shape = found.add_constant(Tensor.from_numpy(np.array([1, -1])), "shape")
    y = found.add("Reshape", [relu.output, shape], outputs=["y"])
    found.add_output(y.output, "y", TensorType(DType.F32, (1, "K")))
    return found


def differences(one: Graph, other: Graph, *, structure: bool = False) -> list[str]:
    """What `compare_with` says, but for the last line of counts."""
    return compare_with(golden_text(one), other, structure=structure).render().splitlines()[:-1]


def test_what_it_looks_like() -> None:
    assert golden_text(graph(bias=(0.1, 1 / 3, 0, -2)), {"target": "cascadelake"}) == (
        "# optc golden graph, form 1\n"
        "# target: cascadelake\n"
        "\n"
        "opsets ai.onnx 21\n"
        "\n"
        "graph g {\n"
        "  input %x : f32[1,3,8,8]\n"
        "  %w = const f32[4,3,3,3] ~9.1404e-01 (0.1189 -0.9307 -0.6515 -0.4827)  # fold-batchnorm\n"
        "  %b = const f32[4] ~{0.1, 0.333333, 0.0, -2.0}  # fold-batchnorm\n"
        "  %c = Conv(%x, %w, %b)  # fold-batchnorm\n"
        "  %r = LeakyRelu(%c, alpha=0.125)  # fold-batchnorm\n"
        "  %shape = const i64[2] {1, -1}\n"
        "  %y = Reshape(%r, %shape)\n"
        "  output y = %y : f32[1,K]\n"
        "}\n"
    )


def test_weights_of_the_model_are_there_by_digest() -> None:
    text = golden_text(graph(made=False))
    assert "  %w = const f32[4,3,3,3] sha256:" in text
    assert "  %b = const f32[4] {0.1, 0.2, 0.3, 0.4}\n" in text


def test_equal_graphs_have_no_difference() -> None:
    assert compare_with(golden_text(graph()), clone(graph())).is_empty
    assert compare_with(golden_text(graph()), graph()).render() == ""


# ---- weights -----------------------------------------------------------------------------------

ULP = np.nextafter(WEIGHTS, np.float32(9), dtype=np.float32)


def test_last_bits_of_what_a_pass_computed_do_not_count() -> None:
    other = graph(ULP, np.nextafter(np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.float32(9)))
    assert not differences(graph(), other)


def test_last_bits_of_what_the_model_has_count() -> None:
    found = differences(graph(made=False), graph(ULP, made=False))
    assert found[0] == "~ constant w"
    assert found[1].startswith("    f32[4,3,3,3] sha256:")


def test_other_computed_weights_count() -> None:
    assert differences(graph(), graph(WEIGHTS * 1.01))[0] == "~ constant w (made by fold-batchnorm)"
    assert differences(graph(), graph(bias=(0.1, 0.2, 0.3, 0.401))) == [
        "~ constant b (made by fold-batchnorm)",
        "    f32[4] ~{0.1, 0.2, 0.3, 0.4} -> f32[4] ~{0.1, 0.2, 0.3, 0.401}",
    ]


def test_a_float_that_a_pass_computed_for_an_attribute() -> None:
    eighth = np.nextafter(np.float32(0.1234567), np.float32(1))
    assert not differences(graph(alpha=0.1234567), graph(alpha=float(eighth)))
    assert differences(graph(alpha=0.1234), graph(alpha=0.1235))[1] == (
        "    attribute alpha: 0.1234 -> 0.1235"
    )


def test_a_new_text_takes_over_numbers_that_are_close() -> None:
    """So an update on another machine changes nothing."""
    old = golden_text(graph())
    noise = 1 + 1e-4 * RNG.normal(size=WEIGHTS.shape)
    other = graph(WEIGHTS * noise, (0.1000004, 0.2, 0.3, 0.4))
    assert golden_text(other) != old
    assert golden_text(other, like=old) == old
    far = golden_text(graph(WEIGHTS * 1.01), like=old)
    assert far != old
    assert golden_text(graph(WEIGHTS * noise, name="weight"), like=old) == old.replace(
        "%w", "%weight"
    )


def test_names_inside_the_graph_do_not_count() -> None:
    assert not differences(graph(), graph(name="another"))
    assert not differences(graph(made=False), graph(made=False, name="another"))


def test_without_weights_training_does_not_count() -> None:
    retrained = graph(WEIGHTS[::-1] * 2, (5, 6, 7, 8))
    text = golden_text(graph(), weights=False)
    assert "# weights: left out\n" in text
    assert "  %w = const f32[4,3,3,3]  # fold-batchnorm\n" in text
    assert "  %b = const f32[4]  # fold-batchnorm\n" in text
    assert "  %shape = const i64[2] {1, -1}\n" in text
    assert compare_with(text, retrained).is_empty
    assert not differences(graph(), retrained, structure=True)
    assert differences(graph(), retrained)


def test_without_weights_the_shape_of_a_weight_counts() -> None:
    found = differences(graph(), graph(np.ones((4, 3, 1, 1))), structure=True)
    assert found[0] == "~ constant w (made by fold-batchnorm)"
    assert found[1] == "    f32[4,3,3,3] -> f32[4,3,1,1]"


QUANTIZED = """
g (uint8[1,3] x) => (float[1,3] y)
<uint8[3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}, uint8 z = {128}, float s = {0.5},
 int32[3] b = {100, 200, 300}, int32[1] axis = {1}> {
  c = MatMulInteger (x, w, z)
  d = DequantizeLinear (b, s)
  e = CumSum <exclusive = 0> (d, axis)
  f = Cast <to = 1> (c)
  y = Add (f, e)
}
"""


def test_what_quantization_reads_is_a_weight_and_other_integers_are_structure() -> None:
    text = golden_text(graph_from_text(QUANTIZED), weights=False)
    for line in (
        "%w = const u8[3,3]\n", "%z = const u8[]\n", "%s = const f32[]\n", "%b = const i32[3]\n",
        "%axis = const i32[1] {1}\n",
    ):  # fmt: skip
        assert f"  {line}" in text
    other = QUANTIZED.replace("{1, 2,", "{9, 2,").replace("128", "127").replace("100,", "101,")
    assert compare_with(text, graph_from_text(other)).is_empty
    other = QUANTIZED.replace("axis = {1}", "axis = {0}")
    assert not compare_with(text, graph_from_text(other)).is_empty


# ---- structure ---------------------------------------------------------------------------------


def test_nodes_name_the_pass_that_made_them() -> None:
    other = graph()
    y = other.value("y").node
    extra = other.add("Relu", [other.value("r")], outputs=["e"], origin=Origin("raise-x", ()))
    other.set_operand(y, 0, extra.output)
    assert differences(graph(), other) == [
        "~ node Reshape y",
        "    operand 0: %r -> %e",
        "+ node Relu e (made by raise-x)",
        "    (%r) -> %e",
    ]
    assert compare_with(golden_text(other), graph()).render().splitlines()[:2] == [
        "- node Relu e (made by raise-x)",
        "    (%r) -> %e",
    ]


def test_another_maker_of_the_same_node_is_no_difference_but_is_told_with_one() -> None:
    assert not differences(graph(), graph(made=False, weights=WEIGHTS), structure=True)
    found = differences(graph(), graph(made=False, alpha=0.5), structure=True)
    assert found == [
        "~ node LeakyRelu r",
        "    attribute alpha: 0.125 -> 0.5",
        "    made by: fold-batchnorm -> the source model",
    ]


MODEL = """
g (float[N,4] x) => (float[N,4] y, float[N,4] z)
<float[4,4] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}, float[1] s = {0.5}> {
  [product] a = MatMul (x, w) [scale] y = Mul (a, s) [other] z = EXTRA
}
"""


def test_a_pipeline_tells_which_passes_did_another_thing_and_why() -> None:
    free = graph_from_text(MODEL.replace("EXTRA", "Exp (x)"))
    shared = graph_from_text(MODEL.replace("EXTRA", "Exp (a)"))
    steps = ["fold-affine"]
    text = golden_text(optc.run_passes(free, steps))
    assert "# pass fold-affine: matmul-affine 1\n" in text
    found = compare_with(text, optc.run_passes(shared, steps)).render().splitlines()
    assert "    fold-affine left it: MatMul output also feeds other" in found
    assert "pass fold-affine: matmul-affine 1 -> nothing" in found


def test_passes_that_applied_otherwise_to_the_same_end_are_no_difference() -> None:
    run = optc.run_passes(graph_from_text(MODEL.replace("EXTRA", "Exp (x)")), ["fold-affine"])
    text = golden_text(run).replace("matmul-affine 1", "matmul-affine 7")
    assert compare_with(text, run).is_empty


def test_json() -> None:
    found = compare_with(golden_text(graph()), graph(alpha=0.5)).to_dict()
    assert found["equal"] is False
    assert found["counts"] == {"added": 0, "removed": 0, "changed": 1}
    assert found["changes"][0]["made_by"] == "fold-batchnorm"


@pytest.mark.parametrize("text", ["", "opsets ai.onnx 21\n", print_graph(graph())])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="not a golden graph") as caught:
        compare_with(text, graph(), location="g.txt")
    assert (caught.value.code, caught.value.location) == ("golden-invalid", "g.txt")


def test_a_broken_text_is_refused_with_its_line() -> None:
    text = golden_text(graph()).replace("%shape = const i64[2]", "%shape = const")
    with pytest.raises(ModelError) as caught:
        compare_with(text, graph(), location="g.txt")
    assert (caught.value.code, caught.value.location) == ("text-invalid", "g.txt:11")
