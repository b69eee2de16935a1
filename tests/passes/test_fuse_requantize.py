"""fuse-requantize: quantization that changes nothing goes, operators on integers come."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.observed import quantize
from helpers.pass_checks import run, seeded
from helpers.promises import refused, run_pass
from optc.ir import Graph, clone
from optc.numerics.traffic import precision
from optc.passes import InferShapes, PassContext
from optc.passes.fuse_requantize import FuseRequantize

HEAD = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>'
CONSTANTS = """
<float s = {0.5}, float s2 = {1}, float s3 = {0.7}, float near = {0.50000006}, uint8 z = {0},
 uint8 z1 = {3}, float low = {0}, float six = {127.5}, float five = {5}, float minus = {-1}>
"""


def typed(body: str, inputs: str = "float[4,6] x", output: str = "uint8[4,6] y") -> Graph:
    graph = graph_from_text(f"{HEAD} g ({inputs}) => ({output}) {CONSTANTS} {{ {body} }}")
    InferShapes().apply(graph, PassContext())
    return graph


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.ordered()]


def same(source: Graph, graph: Graph, scale: float = 30.0) -> None:
    """Equal integers on inputs that reach beyond both ends."""
    feeds = {
        name: value * scale if value.dtype == np.float32 else value
        for name, value in seeded(source).items()
        if isinstance(value, np.ndarray)
    }
    expected, found = run(source, feeds), run(graph, feeds)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


@pytest.mark.parametrize(
    ("clamp", "left"),
    [
        ("Relu (x)", ["QuantizeLinear"]),
        ("Clip (x, low, six)", ["QuantizeLinear"]),
        ("Clip (x, low)", ["QuantizeLinear"]),
        ("Clip (x, minus)", ["QuantizeLinear"]),
    ],
)
def test_a_clamp_that_the_integers_make(clamp: str, left: list[str]) -> None:
    graph = typed(f"c = {clamp}  y = QuantizeLinear (c, s, z)")
    source = clone(graph)
    result = run_pass(FuseRequantize(), graph)
    assert operators(graph) == left
    assert dict(result.counts) == {"drop-clamp": 1}
    same(source, graph)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("c = Clip (x, low, five)  y = QuantizeLinear (c, s, z)",
         "cuts off more than the integers from 0 to 127.5 do"),
        ("c = Relu (x)  y = QuantizeLinear (c, s, z1)",
         "cuts off more than the integers from -1.5 to 126 do"),
        ("c = Relu (x)  y = QuantizeLinear (c, s, z)  o = Neg (c)", "is used elsewhere"),
        ("b = Neg (low)  c = Clip (x, b)  y = QuantizeLinear (c, s, z)", "are not constant"),
    ],
)  # fmt: skip
def test_other_clamps_stay(body: str, reason: str) -> None:
    output = "uint8[4,6] y" + (", float[4,6] o" if "o = " in body else "")
    result = run_pass(FuseRequantize(), typed(body, output=output))
    assert not result.changed
    assert reason in refused(result)["drop-clamp"]


@pytest.mark.parametrize("scale", ["s", "near"])
def test_quantizing_what_was_dequantized_alike(scale: str) -> None:
    graph = typed(
        "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z) "
        f"y = QuantizeLinear (d, {scale}, z)"
    )
    source = clone(graph)
    result = run_pass(FuseRequantize(), graph)
    assert dict(result.counts) == {"drop-pair": 1}
    assert operators(graph) == ["QuantizeLinear"]
    same(source, graph)


def test_one_rounding_for_two() -> None:
    graph = typed(
        "q = QuantizeLinear (x, s2, z)  d = DequantizeLinear (q, s2, z) "
        "y = QuantizeLinear (d, s3, z)"
    )
    result = run_pass(FuseRequantize(), graph)
    assert dict(result.counts) == {"merge-pairs": 1}
    (only,) = graph.ordered()
    assert [v.name for v in graph.operands(only) if v is not None] == ["x", "s3", "z"]


def test_two_roundings_stay_where_the_first_cuts_off_more() -> None:
    graph = typed(
        "q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z) y = QuantizeLinear (d, s3, z)"
    )
    result = run_pass(FuseRequantize(), graph)
    assert not result.changed
    assert refused(result)["merge-pairs"] == "q cuts off more than it keeps"


def test_scales_around_a_move_are_unified() -> None:
    graph = typed(
        """
        d = DequantizeLinear (x, s, z)  t = Transpose <perm = [1,0]> (d)
        q = QuantizeLinear (t, s2, z)  y = DequantizeLinear (q, s2, z)
        """,
        "uint8[4,6] x",
        "float[6,4] y",
    )
    result = run_pass(FuseRequantize(), graph)
    assert dict(result.counts) == {"unify-scales": 1}
    x = np.arange(24, dtype=np.uint8).reshape(4, 6)
    np.testing.assert_array_equal(run(graph, {"x": x})["y"], x.T * np.float32(0.5))


@pytest.mark.parametrize(
    ("scale", "output", "reason"),
    [
        ("s3", "y = DequantizeLinear (q, s3, z)", "has an unrelated scale"),
        ("s2", "y = DequantizeLinear (q, s, z)", "used without their scale"),
    ],
)
def test_scales_that_stay(scale: str, output: str, reason: str) -> None:
    graph = typed(
        f"""
        d = DequantizeLinear (x, s, z)  t = Transpose <perm = [1,0]> (d)
        q = QuantizeLinear (t, {scale}, z)  {output}
        """,
        "uint8[4,6] x",
        "float[6,4] y",
    )
    result = run_pass(FuseRequantize(), graph)
    assert not result.changed
    assert reason in refused(result)["unify-scales"]


def test_operators_on_integers_give_what_the_runtime_makes_of_qdq() -> None:
    """QLinear operators round once where floats round twice: an integer may differ by one."""
    graph = graph_from_text(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[1,2,6,6] x) => (float[1,3] y)
        <float[2,2,1,1] w = {1,-2,3,0.5}, float[2] b = {0.25,-1}, float[2,2,1,1] v = {-1,1,2,1},
         float[4,3] m = {1,2,3,-4,5,6,-7,8,9,1,-1,2}, float[3] n = {0.5,1,2}>
        {
          a = Conv (x, w, b)  r = Relu (a)  c = Conv (r, v)  s = Add (c, r)
          k = Concat <axis = 1> (s, r)  p = GlobalAveragePool (k)  f = Flatten (p)
          y = Gemm (f, m, n)
        }
        """
    )
    source = clone(graph)
    quantize(graph, placement="kernels", saturation="avoid")
    written = clone(graph)
    result = run_pass(FuseRequantize(FuseRequantize.Options(form="qoperator")), graph)
    assert operators(graph) == [
        "QuantizeLinear", "QLinearConv", "QLinearConv", "QLinearAdd", "QLinearConcat",
        "QLinearGlobalAveragePool", "Flatten", "QGemm",
    ]  # fmt: skip
    assert result.counts["integer-operator"] == 7
    assert {item.precision for item in result.decisions} == {"int8"}
    feeds = seeded(source)
    expected, found, exact = (run(g, feeds)["y"] for g in (written, graph, source))
    # Weights of 7 bits, five roundings of 8 bits: about 1 % of the result.
    np.testing.assert_allclose(found, expected, atol=0.02 * float(np.abs(exact).max()))
    np.testing.assert_allclose(found, exact, atol=0.06 * float(np.abs(exact).max()))


def test_products_with_floats_behind_become_microsoft_s() -> None:
    graph = graph_from_text(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[2,4] x) => (float[2,3] y)
        <float[4,3] m = {1,2,3,-4,5,6,-7,8,9,1,-1,2}>
        { y = MatMul (x, m) }
        """
    )
    quantize(graph, placement="kernels", saturation="avoid")
    run_pass(FuseRequantize(FuseRequantize.Options(form="qoperator")), graph)
    assert operators(graph) == ["QuantizeLinear", "MatMulIntegerToFloat"]
    assert graph.opsets["com.microsoft"] == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("d = DequantizeLinear (x, s, z)  y = Sigmoid (d)", "its result is not quantized"),
        (
            "d = DequantizeLinear (x, s, z)  t = Transpose (d)  y = QuantizeLinear (t, s3, z)",
            "its operand and its result have different scales",
        ),
        ("d = DequantizeLinear (x, s, z)  a = Add (d, s)  y = QuantizeLinear (a, s, z)",
         "an operand or its result is not quantized"),
    ],
)  # fmt: skip
def test_what_has_no_operator_on_integers(body: str, reason: str) -> None:
    kind = "float" if "Sigmoid" in body else "uint8"
    graph = typed(body, "uint8[4,4] x", f"{kind}[4,4] y")
    result = run_pass(FuseRequantize(FuseRequantize.Options(form="qoperator")), graph)
    assert not result.changed
    assert refused(result)["integer-operator"] == reason


def test_what_is_computed_on_integers_is_planned_in_int8() -> None:
    """Sums and pools between quantization, and the operators of ONNX Runtime for them."""
    graph = graph_from_text(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[1,2,6,6] x) => (float[1,2,1,1] y)
        <float[2,2,1,1] w = {1,-2,3,0.5}, float[2,2,1,1] v = {-1,1,2,1}>
        { a = Conv (x, w)  c = Conv (a, v)  s = Add (c, a)  t = Tanh (s)
          p = GlobalAveragePool (s)  y = Conv (p, v) }
        """
    )
    quantize(graph, placement="kernels")
    for form in ("qdq", "qoperator"):
        run_pass(FuseRequantize(FuseRequantize.Options(form=form)), graph)
        found = {node.op_type: precision(graph, node) for node in graph.ordered()}
        assert found.pop("Tanh") == "fp32"
        assert found.pop("QuantizeLinear") == "fp32"
        assert found.pop("DequantizeLinear") == "fp32"
        assert set(found.values()) == {"int8"}, form
        assert len(found) == 3
