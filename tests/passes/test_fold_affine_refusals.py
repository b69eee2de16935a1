from __future__ import annotations

import pytest

from helpers import graph_from_text
from helpers.promises import refused, run_pass
from optc.passes.fold_affine import FoldAffine


def refusals(text: str) -> dict[str, str]:
    """Reasons by rule; the pass must have changed nothing."""
    result = run_pass(FoldAffine(), graph_from_text(text))
    assert not result.changed
    return refused(result)


HEAD = """g (float[1,1,4,4] x, float[2,1,1,1] v, float[2] a, bool k) => (y, q)
    <float[2,1,1,1] w = {1, 2}, float s = {2}, float zero = {0}, float huge = {3e38},
     float[4] places = {1, 2, 3, 4}, float[1,1,1,1,1] deep = {2}, float[3,1,1] three = {1, 2, 3}>"""
FORWARD = {
    "the result is used elsewhere": (
        "[c] z = Conv(x, w)  [r] q = Relu(z)  y = Mul(z, s)",
        "Conv output also feeds r",
    ),
    "the result is a graph output": (
        "[c] q = Conv(x, w)  y = Mul(q, s)",
        "Conv output is the graph output q",
    ),
    "the result is captured": (
        """z = Conv(x, w)  y = Mul(z, s)
        [if] q = If (k) <then_branch = n () => (float[1,2,4,4] i) { i = Relu(z) },
                         else_branch = e () => (float[1,2,4,4] j) { j = Neg(z) }>""",
        "Conv output is captured by a subgraph of if",
    ),
    "the weight is shared": (
        "z = Conv(x, w)  [other] q = Conv(x, w)  y = Mul(z, s)",
        "weight is shared by other",
    ),
    "the weight is an input": (
        "z = Conv(x, v)  q = Relu(x)  y = Mul(z, s)",
        "weight v is not constant",
    ),
    "the bias is an input": (
        "z = Conv(x, w, a)  q = Relu(x)  y = Add(z, s)",
        "bias a is not constant",
    ),
    "a constant per place": (
        "z = Conv(x, w)  q = Relu(x)  y = Mul(z, places)",
        "the constant f32[4] is not one value per channel",
    ),
    "a constant of higher rank": (
        "z = Conv(x, w)  q = Relu(x)  y = Mul(z, deep)",
        "the constant f32[1,1,1,1,1] would enlarge the result",
    ),
    "a constant of other channels": (
        "z = Conv <group = 1> (x, w)  q = Relu(x)  y = Add(z, three)",
        "the constant f32[3,1,1] does not fit 2 channels",
    ),
    "a constant divided by the result": (
        "z = Conv(x, w)  q = Relu(x)  y = Div(s, z)",
        "a constant divided by the data is not affine",
    ),
    "a division by zero": (
        "z = Conv(x, w)  q = Relu(x)  y = Div(z, zero)",
        "scale is not finite",
    ),
    "a weight that overflows": (
        "z = Conv(x, w)  q = Relu(x)  y = Mul(z, huge)",
        "the scaled weight overflows f32",
    ),
}


@pytest.mark.parametrize(("nodes", "reason"), FORWARD.values(), ids=FORWARD)
def test_refuses_into_the_operation_before(nodes: str, reason: str) -> None:
    assert refusals(f"{HEAD} {{ {nodes} }}") == {"conv-affine": reason}


def test_a_weight_that_is_a_graph_output_is_shared() -> None:
    graph = graph_from_text("""g (float[1,1,4] x) => (y, w)
        <float[1,1,1] w = {2}, float s = {2}> { z = Conv(x, w)  y = Mul(z, s) }""")
    result = run_pass(FoldAffine(), graph)
    assert refused(result) == {"conv-affine": "weight is the graph output w"}


def test_a_constant_larger_than_one_output_channel_would_enlarge() -> None:
    text = """g (float[1,1,4] x) => (float[1,3,4] y)
        <float[1,1,1] w = {2}, float[3,1] s = {1, 2, 3}> { z = Conv(x, w)  y = Mul(z, s) }"""
    reason = "the constant f32[3,1] does not fit 1 channels"
    assert refusals(text) == {"conv-affine": reason}


BACKWARD = {
    "a summand in front of padding": (
        "float[1,1,3] w = {1, 2, 3}, float s = {2}",
        "z = Add(x, s)  y = Conv <pads = [0, 1]> (z, w)",
        "affine-conv",
        "Conv pads its input: the shift would not reach the border",
    ),
    "a summand in front of SAME padding": (
        "float[1,1,3] w = {1, 2, 3}, float s = {2}",
        """z = Add(x, s)  y = Conv <auto_pad = "SAME_UPPER"> (z, w)""",
        "affine-conv",
        "Conv pads its input: the shift would not reach the border",
    ),
    "a summand in front of a ConvTranspose with taps": (
        "float[1,1,2] w = {1, 2}, float s = {2}",
        "z = Add(x, s)  y = ConvTranspose(z, w)",
        "affine-conv-transpose",
        "ConvTranspose is not pointwise: the shift would not reach every place alike",
    ),
    "a summand in front of a ConvTranspose with an output shape": (
        "float[1,1,1] w = {1}, float s = {2}",
        "z = Add(x, s)  y = ConvTranspose <output_shape = [5]> (z, w)",
        "affine-conv-transpose",
        "ConvTranspose is not pointwise: the shift would not reach every place alike",
    ),
    "a summand in front of several matrices": (
        "float[2,4,1] w = {1, 2, 3, 4, 5, 6, 7, 8}, float s = {2}, float[1] b = {1}",
        "z = Add(x, s)  a = MatMul(z, w)  y = Add(a, b)",
        "affine-matmul",
        "weight of MatMul holds several matrices",
    ),
    "a constant that enlarges the channels": (
        "float[1,2,1] w = {1, 2}, float[2,1] s = {1, 2}",
        "z = Mul(x, s)  y = Conv(z, w)",
        "affine-conv",
        "the constant f32[2,1] may enlarge x",
    ),
    "a constant that raises the rank": (
        "float[1,1,1,1] w = {1}, float[1,1,1,1] s = {2}",
        "z = Mul(x, s)  y = Conv(z, w)",
        "affine-conv",
        "the constant f32[1,1,1,1] would enlarge the result",
    ),
    "a weight of a vector": (
        "float[4] w = {1, 2, 3, 4}, float s = {2}",
        "z = Mul(x, s)  y = MatMul(z, w)",
        "affine-matmul",
        "w has one dimension",
    ),
    "a constant divided by the data": (
        "float[1,1,1] w = {1}, float s = {2}",
        "z = Div(s, x)  y = Conv(z, w)",
        "affine-conv",
        "a constant divided by the data is not affine",
    ),
    "the map used elsewhere": (
        "float[1,1,1] w = {1}, float s = {2}",
        "z = Mul(x, s)  [r] p = Relu(z)  c = Conv(z, w)  y = Sub(c, p)",
        "affine-conv",
        "Mul output also feeds r",
    ),
    "the factor and summand used elsewhere": (
        "float[1,1,3] w = {1, 2, 3}, float s = {2}",
        """z = Mul(x, s)  a = Add(z, s)  [r] p = Relu(a)
        c = Conv <pads = [1, 1]> (a, w)  y = Sub(c, p)""",
        "affine-conv",
        "Add output also feeds r",
    ),
    "a factor of zero cannot pass a summand": (
        "float[1,1,3] w = {1, 2, 3}, float s = {0}, float t = {2}",
        "z = Mul(x, s)  a = Add(z, t)  y = Conv <pads = [1, 1]> (a, w)",
        "affine-conv",
        "Conv pads its input: the shift would not reach the border",
    ),
}


@pytest.mark.parametrize(("constants", "nodes", "rule", "reason"), BACKWARD.values(), ids=BACKWARD)
def test_refuses_into_the_operation_after(
    constants: str, nodes: str, rule: str, reason: str
) -> None:
    text = f"g (float[1,1,4] x) => (y) <{constants}> {{ {nodes} }}"
    assert refusals(text) == {rule: reason}


@pytest.mark.parametrize("s", ["float[1] s = {2}", "float[2] s = {2, 3}"])
def test_refuses_a_constant_on_data_of_unknown_rank(s: str) -> None:
    text = f"""g (float[N] i) => (y) <float[2,1] w = {{1, 2}}, {s}>
        {{ x = com.example.Op(i)  z = Mul(x, s)  y = MatMul(z, w) }}"""
    text = f'<ir_version: 10, opset_import: ["" : 21, "com.example" : 1]> {text}'
    size = s.partition("]")[0][-1]
    reason = f"the constant f32[{size}] may enlarge the result"
    assert refusals(text) == {"affine-matmul": reason}


def test_a_scalar_fits_data_of_unknown_rank() -> None:
    graph = graph_from_text("""<ir_version: 10, opset_import: ["" : 21, "com.example" : 1]>
        g (float[N] i) => (y) <float[2,1] w = {1, 2}, float s = {2}>
        { x = com.example.Op(i)  z = Mul(x, s)  y = MatMul(z, w) }""")
    assert run_pass(FoldAffine(), graph).counts == {"affine-matmul": 1}


def test_refuses_a_one_dimensional_operand() -> None:
    text = """g (float[2] x) => (y) <float[2,1] w = {1, 2}, float s = {2}>
        { z = MatMul(x, w)  y = Mul(z, s) }"""
    assert refusals(text) == {"matmul-affine": "x has one dimension"}


def test_refuses_integers() -> None:
    text = """g (int32[M,2] x) => (y) <int32[2,1] w = {1, 2}, int32 s = {2}>
        { z = MatMul(x, w)  a = Mul(z, s)  y = Mul(a, s) }"""
    assert refusals(text) == {
        "matmul-affine": "i32 arithmetic is not folded",
        "affine-affine": "i32 arithmetic is not folded",
    }


def test_refuses_an_empty_weight() -> None:
    text = """g (float[M,0] x) => (y) <float[0,1] w = {}, float s = {2}>
        { z = MatMul(x, w)  y = Mul(z, s) }"""
    assert refusals(text) == {"matmul-affine": "weight w is empty"}


MERGE = {
    "the first result is used elsewhere": (
        "float s = {2}",
        "z = Mul(x, s)  [r] p = Relu(z)  a = Mul(z, s)  y = Sub(a, p)",
        "Mul output also feeds r",
    ),
    "the product underflows": (
        "float s = {1e-30}",
        "z = Mul(x, s)  y = Mul(z, s)",
        "the product underflows f32",
    ),
    "the product overflows": (
        "float s = {1e30}",
        "z = Mul(x, s)  y = Mul(z, s)",
        "the product overflows f32",
    ),
}


@pytest.mark.parametrize(("constants", "nodes", "reason"), MERGE.values(), ids=MERGE)
def test_refuses_to_merge(constants: str, nodes: str, reason: str) -> None:
    text = f"g (float[1,1,4] x) => (y) <{constants}> {{ {nodes} }}"
    assert refusals(text) == {"affine-affine": reason}


def test_refuses_to_merge_into_a_larger_constant() -> None:
    text = """g (float[40,40] x) => (y) <float[40,1] s = {S}, float[40] t = {S}>
        { z = Mul(x, s)  y = Mul(z, t) }""".replace("S", ", ".join("2" * 40))
    reason = "the merged constants take 6400 bytes, those that they replace 320"
    assert refusals(text) == {"affine-affine": reason}


def test_only_a_constant_and_a_value_make_an_affine_map() -> None:
    text = """g (float[1,1,4] x, float s) => (y)
        <float[1,1,1] w = {1}, float a = {1}, float b = {2}>
        { c = Add(a, b)  z = Conv(x, w)  p = Mul(z, s)  y = Add(p, c) }"""
    assert refusals(text) == {}


def test_the_nearest_miss_says_what_stood_there() -> None:
    graph = graph_from_text("""g (float[1,1,4] x) => (y) <float[1,1,1] w = {1}, float s = {1}>
        { z = Conv(x, w)  r = Relu(z)  y = Mul(r, s) }""")
    result = run_pass(FoldAffine(), graph)
    assert [(item.rule, item.node, item.reason) for item in result.refusals if item.miss] == [
        ("affine-conv", "z", "expected Mul or Add or Sub or Div, found the input x"),
        ("conv-affine", "y", "expected Conv or ConvTranspose or Gemm or MatMul, found Relu"),
    ]
