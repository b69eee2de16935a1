"""lower-operators: a Resize of bytes as doublings in ONNX's own layout."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run
from helpers.promises import run_pass
from optc.ir import clone
from optc.passes.base import PassContext
from optc.passes.forms import DOUBLINGS, ONNX
from optc.passes.infer_shapes import InferShapes
from optc.passes.lower_operators import LowerOperators, LowerOperatorsOptions

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


def test_floats_are_not_asked() -> None:
    text = TEXT.replace("(d, , r)", "(x, , r)").replace("TIMES", "2")
    result = run_pass(_pass(), graph_from_text(text))
    assert not result.changed
    assert not result.refusals
