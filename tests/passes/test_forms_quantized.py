"""lower-operators: forms beside quantized operators, which leave these their kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.executed import executed
from helpers.pass_checks import run
from helpers.promises import run_pass
from optc.ir import clone
from optc.passes.base import PassContext
from optc.passes.forms import DIFFERENCE, DOUBLINGS, ONNX
from optc.passes.infer_shapes import InferShapes
from optc.passes.lower_operators import LowerOperators, LowerOperatorsOptions

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,H,W] x) => (float[1,2,A,B] y)
<float s = {0.05}, uint8 z = {7}, float[4] r = {1, 1, TIMES, TIMES}>
{ q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
  e = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric",
              nearest_mode = "floor"> (d, , r)
  p = QuantizeLinear(e, s, z)  y = DequantizeLinear(p, s, z) }"""


def _pass() -> LowerOperators:
    return LowerOperators(LowerOperatorsOptions(forms={"Resize": (DOUBLINGS, ONNX)}))


@pytest.mark.parametrize(("times", "doublings"), [(2, 1), (4, 2), (8, 3)])
def test_bytes_are_doubled_as_often_as_it_takes(times: int, doublings: int) -> None:
    graph = graph_from_text(TEXT.replace("TIMES", str(times)))
    InferShapes().apply(graph, PassContext())
    source = clone(graph)
    assert run_pass(_pass(), graph).counts == {"resize-doublings": 1}
    kinds = [node.op_type for node in graph.ordered() if node.is_op("Resize", "Reshape")]
    assert kinds == ["Reshape", *["Resize"] * doublings, "Reshape"]
    assert len({node.name for node in graph.nodes() if node.name}) == sum(
        bool(node.name) for node in graph.nodes()
    )
    data = {"x": np.random.default_rng(3).standard_normal((1, 2, 3, 5)).astype(np.float32) * 4}
    wanted, found = run(source, data)["y"], run(graph, data)["y"]
    assert wanted.shape == (1, 2, 3 * times, 5 * times)
    np.testing.assert_array_equal(found, wanted)


OTHERS = {
    "a size that is no power of two": (("TIMES", "3"), "it does not double height and width"),
    "a size that is no whole number": (("TIMES", "2.5"), "it does not double height and width"),
    "half the size": (("TIMES", "0.5"), "it does not double height and width"),
    "the same size": (("TIMES", "1"), "it does not double height and width"),
    "height and width apart": (("TIMES, TIMES", "2, 4"), "it does not double height and width"),
    "pixels that are placed otherwise": (('"asymmetric"', '"half_pixel"'), "does not repeat"),
    "interpolation": (('"nearest"', '"linear"'), "does not repeat"),
}


@pytest.mark.parametrize(("change", "reason"), OTHERS.values(), ids=OTHERS)
def test_what_is_no_doubling_stays(change: tuple[str, str], reason: str) -> None:
    graph = graph_from_text(TEXT.replace(*change).replace("TIMES", "2"))
    result = run_pass(_pass(), graph)
    assert not result.changed
    assert [DOUBLINGS in item.reason and reason in item.reason for item in result.refusals] == [
        True
    ]


def test_axes_that_are_named_stay() -> None:
    text = TEXT.replace(": 17", ": 18").replace("Resize <", "Resize <axes = [2, 3, 0, 1], ")
    result = run_pass(_pass(), graph_from_text(text.replace("TIMES", "2")))
    assert not result.changed


def test_floats_are_not_asked() -> None:
    text = TEXT.replace("(d, , r)", "(x, , r)").replace("TIMES", "2")
    result = run_pass(_pass(), graph_from_text(text))
    assert not result.changed
    assert not result.refusals


PRODUCT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[SHAPE] x) => (float[A] y)
<float s = {0.05}, uint8 z = {128}, int8[4,2] w = {1, -2, 3, -4, 5, -6, 7, -8},
 float[2] t = {0.02, 0.01}, int8[2] n = {0, 0}, float[BIAS] b = {0.5, -0.75}>
{ q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
  v = DequantizeLinear <axis = 1> (w, t, n)  p = MatMul(d, v)  [a] y = Add(SUM) }"""


def _product(shape: str = "3,4", bias: str = "2", summands: str = "p, b") -> Graph:
    text = PRODUCT.replace("SHAPE", shape).replace("BIAS", bias).replace("SUM", summands)
    graph = graph_from_text(text.replace("float[A]", "float[K,2]" if shape == "3,4" else "float"))
    InferShapes().apply(graph, PassContext())
    return graph


def _differences() -> LowerOperators:
    return LowerOperators(LowerOperatorsOptions(forms={"Add": (DIFFERENCE, ONNX)}))


@pytest.mark.parametrize("summands", ["p, b", "b, p"])
@pytest.mark.parametrize(
    ("shape", "bias"), [("3,4", "2"), ("3,4", "1,2"), ("M,4", "2"), ("M,4", "1,2"), ("2,3,4", "2")]
)
def test_a_bias_that_would_make_a_gemm_is_subtracted(
    shape: str, summands: str, bias: str, tmp_path: Path
) -> None:
    graph = _product(shape, bias, summands)
    source = clone(graph)
    assert run_pass(_differences(), graph).counts == {"add-difference": 1}
    assert [node.op_type for node in graph.nodes() if node.name == "a"] == ["Sub"]
    sizes = tuple(5 if size == "M" else int(size) for size in shape.split(","))
    data = {"x": np.random.default_rng(4).standard_normal(sizes).astype(np.float32)}
    np.testing.assert_array_equal(run(graph, data)["y"], run(source, data)["y"])
    # What ONNX Runtime makes of both.
    before, after = (executed(one, tmp_path / "saved.onnx") for one in (source, graph))
    assert "MatMulIntegerToFloat" not in before
    assert "MatMulIntegerToFloat" in after
    assert "Gemm" not in after


@pytest.mark.parametrize(
    ("change", "with_"),
    [("float[SHAPE]", "float[N,M,4]"), ("float[BIAS]", "float[1,BIAS]"), ("(d, v)", "(x, v)")],
    ids=["open sizes", "a bias of two dimensions", "a product of floats"],
)
def test_a_bias_stays_where_no_gemm_is_made(change: str, with_: str) -> None:
    text = PRODUCT.replace(change, with_).replace("SHAPE", "2,3,4").replace("BIAS", "2")
    graph = graph_from_text(text.replace("float[A]", "float").replace("SUM", "p, b"))
    InferShapes().apply(graph, PassContext())
    result = run_pass(_differences(), graph)
    assert not result.changed
    assert not result.refusals
