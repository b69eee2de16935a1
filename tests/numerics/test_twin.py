"""The fp32 twin rounds as bfloat16 does, on any CPU and at every level of optimization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from helpers import graph_from_text
from optc.emit.onnx import build_model, serialize
from optc.ir import DType, Tensor, TensorType
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.numerics.evaluate import Optimization, open_session
from optc.numerics.twin import computing, twin, widen
from optc.passes import InferShapes
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.numerics.values import Array

BF16 = ml_dtypes.bfloat16
HEAD = '<ir_version: 10, opset_import: ["" : 22]>\n'


def typed(text: str, **constants: Array) -> Graph:
    """A graph from text with the types of its values; some inputs are made constants."""
    graph = graph_from_text(HEAD + text)
    for name, array in constants.items():
        old = graph.value(name)
        new = graph.add_constant(Tensor.from_numpy(array), graph.fresh_name(name))
        graph.replace_uses(old, new)
        graph.remove(old.node)
        graph.rename(new, name)
    InferShapes().apply(graph, PassContext())
    return graph


def run(graph: Graph, optimize: Optimization = "none", **feeds: Array) -> list[Any]:
    assert verify(graph) == ()
    return list(open_session(serialize(graph), optimize=optimize).run(feeds).values())


def rounded(array: Array) -> Array:
    found: Array = np.asarray(array).astype(BF16).astype(np.float32)
    return found


def bits(*numbers: int) -> Array:
    found: Array = np.array(numbers, np.uint32).view(np.float32)
    return found


CASTS = "g (float[N] x) => (float[N] y) { b = Cast <to = 16> (x) y = Cast <to = 1> (b) }"


@pytest.mark.parametrize("optimize", get_args(Optimization))
def test_rounding_is_to_nearest_even_at_every_level(optimize: Optimization) -> None:
    drawn = np.random.default_rng(0).integers(0, 1 << 32, 4096, np.uint32).view(np.float32)
    ties = bits(0x3F808000, 0x3F818000, 0xBF808000, 0x3F807FFF, 0x3F808001)
    edges = bits(0x7F7FFFFF, 0x7F7F7FFF, 0x7F800000, 0xFF800000, 0, 0x80000000, 0x00018000)
    x = np.concatenate([drawn[~np.isnan(drawn)], ties, edges])
    (y,) = run(twin(typed(CASTS)), optimize, x=x)
    with np.errstate(over="ignore"):
        assert np.array_equal(y.view(np.uint32), rounded(x).view(np.uint32))
    assert y[-12:-7].tolist() == [1.0, 1.015625, -1.0, 1.0, 1.0078125]  # ties go to even


@pytest.mark.parametrize("optimize", get_args(Optimization))
def test_each_result_is_rounded_once(optimize: Optimization) -> None:
    text = """
    g (float[8,64] x, bfloat16[64,32] w) => (float[8,32] y)
    { b = Cast <to = 16> (x) m = MatMul (b, w) s = Mul (m, m) y = Cast <to = 1> (s) }
    """
    drawn = np.random.default_rng(1)
    w = drawn.standard_normal((64, 32)).astype(BF16)
    graph = typed(text, w=w)
    x = drawn.standard_normal((8, 64), np.float32)
    (y,) = run(twin(graph), optimize, x=x)
    product = rounded(rounded(x).astype(np.float64) @ w.astype(np.float64))
    expected = rounded(product * product)
    # Sums of float32 are off by some 2^-24, so one in 2^13 falls on the other side of a tie.
    assert np.mean(y != expected) < 1e-3
    assert np.array_equal(y, rounded(y))


def test_moving_and_choosing_is_not_rounded_again() -> None:
    text = """
    g (bfloat16[2,3] x) => (bfloat16[3,2] y)
    { t = Transpose <perm = [1, 0]> (x) r = Relu (t) y = Tanh (r) }
    """
    made = twin(typed(text))
    assert [node.op_type for node in made.ordered()] == [
        "Cast",  # the input keeps its type
        "Transpose",
        "Relu",
        "Tanh",
        "Cast",
        "Cast",
        "Cast",  # and so does the output
    ]
    assert [value.type for value in made.inputs] == [TensorType(DType.BF16, (2, 3))]


def test_values_keep_their_names_and_the_source_stays() -> None:
    graph = typed(CASTS.replace("y = Cast", "a = Exp (b) y = Cast").replace("(b) }", "(a) }"))
    before = print_graph(graph)
    made = twin(graph)
    assert print_graph(graph) == before
    assert made.value("a").type == TensorType(DType.F32, ("N",))
    assert made.value("a").node.op_type == "Cast"  # rounded: what bf16 gives
    assert made.value("b").node.op_type == "Cast"


def test_subgraphs_and_what_they_capture() -> None:
    text = """
    g (bool c, float[4] x) => (float[4] y) {
      b = Cast <to = 16> (x)
      z = If (c) <
        then_branch = t () => (bfloat16[4] p) { p = Mul (b, b) },
        else_branch = e () => (bfloat16[4] q) { q = Neg (b) }>
      y = Cast <to = 1> (z)
    }
    """
    graph = typed(text)
    made = twin(graph)
    x = np.array([1.01, 2.3, -0.7, 1e-3], np.float32)
    for flag, expected in ((True, rounded(rounded(x) * rounded(x))), (False, -rounded(x))):
        assert np.array_equal(run(made, c=np.array(flag), x=x)[0], expected)
    assert sorted(node.op_type for node in computing(graph)) == ["Mul", "Neg"]


def test_denormals_become_zero_where_asked() -> None:
    small = np.float32(2.0**-127)
    x = np.array([small, -small, 2.0**-126, 1.0, np.nan, np.inf], np.float32)
    kept = run(twin(typed(CASTS)), x=x)[0]
    assert kept[0] == small
    flushed = run(twin(typed(CASTS), flush_denormals=True), x=x)[0]
    assert flushed[:4].tolist() == [0.0, 0.0, 2.0**-126, 1.0]
    assert np.isnan(flushed[4])
    assert np.isinf(flushed[5])


def test_denormal_constants_and_results_become_zero_where_asked() -> None:
    text = """
    g (float[2] x, bfloat16[2] w) => (float[2] y)
    { b = Cast <to = 16> (x) p = Mul (b, w) y = Cast <to = 1> (p) }
    """
    w = np.array([2.0**-127, 2.0**-120], np.float32).astype(BF16)
    graph = typed(text, w=w)
    x = np.array([2.0**20, 2.0**-10], np.float32)
    assert run(twin(graph), x=x)[0].tolist() == [2.0**-107, 2.0**-130]
    assert run(twin(graph, flush_denormals=True), x=x)[0].tolist() == [0.0, 0.0]


def test_attributes_that_name_bfloat16_follow() -> None:
    text = """
    g (int64[1] n, float[4] x) => (float[4] z) {
      c = ConstantOfShape <value = bfloat16[1] {16448}> (n)
      b = Cast <to = 16> (x)
      s = Add (b, c)
      z = Cast <to = 1> (s)
    }
    """
    found = run(twin(typed(text)), n=np.array([4]), x=np.full(4, 1.01, np.float32))[0]
    assert found.tolist() == [4.0] * 4  # 16448 is 3 in bits; 4.0078125 lies below 4.015625


def test_quantized_regions_stay_as_they_are() -> None:
    text = """
    g (float[4] x, bfloat16 t) => (float[4] y) <float s = {0.1}, uint8 z = {128}> {
      q = QuantizeLinear (x, s, z)
      d = DequantizeLinear (q, t, z)
      e = Mul (d, d)
      y = Cast <to = 1> (e)
    }
    """
    made = twin(typed(text, t=np.array(0.125, BF16)))
    assert "u8[4]" in print_graph(made)
    x = np.array([0.31, -0.52, 1.5, 12.0], np.float32)
    steps = np.clip(np.rint(x / np.float32(0.1)), -128, 127) * 0.125
    assert np.array_equal(run(made, x=x)[0], rounded(rounded(steps) ** 2))


@pytest.mark.parametrize(
    ("body", "shapes"),
    [
        ("y = Conv <pads = [1, 1, 1, 1]> (a, b)", ((1, 8, 9, 9), (16, 8, 3, 3))),
        ("y = MatMul (a, b)", ((3, 17, 64), (64, 33))),
        ("y = Gemm <transB = 1> (a, b)", ((5, 64), (7, 64))),
        ("y = ConvTranspose <strides = [2, 2]> (a, b)", ((1, 8, 5, 5), (8, 4, 2, 2))),
        ("y = Mul (a, b)", ((4, 64), (64,))),
        ("c = Add (a, b) y = Tanh (c)", ((4, 64), (64,))),
    ],
)
def test_it_agrees_with_the_reference_evaluator(
    body: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    """The evaluator of the onnx package computes bf16 by itself, in other code."""
    inputs = ", ".join(
        f"bfloat16[{','.join(map(str, shape))}] {name}"
        for name, shape in zip("ab", shapes, strict=True)
    )
    graph = typed(f"g ({inputs}) => (bfloat16 y) {{ {body} }}")
    drawn = np.random.default_rng(2)
    feeds = {n: drawn.standard_normal(s).astype(BF16) for n, s in zip("ab", shapes, strict=True)}
    (mine,) = run(twin(graph), "none", **feeds)
    (theirs,) = ReferenceEvaluator(build_model(graph)).run(None, feeds)
    assert mine.dtype == BF16
    apart = np.abs(order(mine) - order(np.asarray(theirs)))
    # Both round sums of float32 that are at most a few 2^-24 apart: a tie in 2^14 goes two ways.
    assert np.mean(apart > 1) <= 1e-3
    assert np.mean(apart > 0) <= 1e-2


def order(array: Array) -> Array:
    """Numbers of bfloat16 counted from zero, so that neighbours differ by one."""
    raw = array.astype(BF16).view(np.int16).astype(np.int32)
    found: Array = np.where(raw < 0, -(raw & 0x7FFF), raw)
    return found


def test_widened_graphs_round_nothing_and_tell_what_was_lowered() -> None:
    text = """
    g (float[2,8] x, bfloat16[8,4] w) => (float[2,4] y) {
      b = Cast <to = 16> (x)
      m = MatMul (b, w)
      f = Cast <to = 1> (m)
      y = Softmax (f)
    }
    """
    w = np.random.default_rng(3).standard_normal((8, 4)).astype(BF16)
    made = widen(typed(text, w=w))
    assert [node.op_type for node in made.graph.ordered()] == ["MatMul", "Softmax"]
    assert [node.op_type for node in made.lowered] == ["MatMul"]
    assert verify(made.graph) == ()
    constant = made.graph.value("w").constant
    assert constant is not None
    assert np.array_equal(constant.numpy(), w.astype(np.float32))


def test_a_graph_without_bf16_is_its_own_twin() -> None:
    graph = typed("g (float[2] x) => (float[2] y) { a = Abs (x) y = Tanh (a) }")
    assert print_graph(twin(graph)) == print_graph(graph)
    assert not list(computing(graph))
    assert widen(graph).lowered == frozenset()


def test_equal_text_on_every_run() -> None:
    text = "g (bfloat16[2] x) => (bfloat16[2] y) { a = Exp (x) b = Sin (x) y = Add (a, b) }"
    one, two = (twin(typed(text), flush_denormals=True) for _ in range(2))
    assert serialize(one) == serialize(two)
    onnx.checker.check_model(build_model(one), full_check=True)
