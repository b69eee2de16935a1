"""narrow-dequantize: DequantizeLinear that writes bf16, where nothing else is rounded by that."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses
from helpers.promises import run_pass
from optc.emit.onnx import serialize
from optc.ir import clone
from optc.ir.text import print_graph
from optc.numerics.evaluate import open_session
from optc.numerics.twin import twin
from optc.passes import InferShapes, NarrowDequantize, PassContext

# 0.25 in bits of bf16 is 16000.
BEFORE = """
<ir_version: 10, opset_import: ["" : 22]>
g (float[4] x) => (float[4] y) <float s = {0.25}, uint8 z = {128}> {
  q = QuantizeLinear (x, s, z)
  [deq] d = DequantizeLinear (q, s, z)
  [cast] b = Cast <to = 16> (d)
  c = Mul (b, b)
  y = Cast <to = 1> (c)
}
"""
AFTER = """
<ir_version: 10, opset_import: ["" : 22]>
g (float[4] x) => (float[4] y) <float s = {0.25}, uint8 z = {128}, bfloat16 t = {16000}> {
  q = QuantizeLinear (x, s, z)
  d = DequantizeLinear (q, t, z)
  c = Mul (d, d)
  y = Cast <to = 1> (c)
}
"""


def check(before: str, after: str) -> None:
    graph, expected = graph_from_text(before), graph_from_text(after)
    for each in (graph, expected):
        InferShapes().apply(each, PassContext())
    source = clone(graph)
    result = run_pass(NarrowDequantize(), graph)
    assert result.changed
    assert print_graph(graph) == print_graph(expected)
    assert not run_pass(NarrowDequantize(), graph).changed
    feeds = {"x": np.array([0.3, -31.9, 40.0, -40.0], np.float32)}
    results = [open_session(serialize(twin(g))).run(feeds) for g in (source, graph)]
    for name, value in results[0].items():
        assert np.array_equal(np.asarray(value), np.asarray(results[1][name]))


def test_a_cast_behind_dequantize_is_written_by_it() -> None:
    check(BEFORE, AFTER)


def test_other_users_keep_their_fp32() -> None:
    extra = "c = Mul (b, b)", "e = Neg (d) c = Mul (b, b)"
    before = BEFORE.replace(*extra).replace("(float[4] y)", "(float[4] y, float[4] e)")
    after = AFTER.replace("c = Mul", "f = DequantizeLinear (q, s, z) e = Neg (f) c = Mul").replace(
        "(float[4] y)", "(float[4] y, float[4] e)"
    )
    check(before, after)


def test_a_symmetric_type_without_a_zero_point() -> None:
    def signed(text: str) -> str:
        return text.replace("uint8 z = {128}", "int8 z = {0}").replace("(q, s, z)", "(q, s)")

    check(signed(BEFORE), signed(AFTER).replace("(q, t, z)", "(q, t)"))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"" : 22', '"" : 18', "opset 18 < 19"),
        ("s = {0.25}", "s = {0.1}", "bf16 would round its scale"),
        ("s = {0.25}", "s = {0.2578125}", "bf16 would round its greatest number"),  # 33/128 x 127
        ("float[4] x)", "float[4] x, float t)", "its scale or zero point is not constant"),
    ],
)
def test_refusals(old: str, new: str, reason: str) -> None:
    text = BEFORE.replace(old, new)
    if "float t" in new:
        text = text.replace("DequantizeLinear (q, s", "DequantizeLinear (q, t")
    assert_refuses(NarrowDequantize(), text, f"cast: {reason}", typed=True)


def test_integers_of_32_bits_are_refused() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 22]>
    g (int32[4] q) => (float[4] y) <float s = {0.25}> {
      d = DequantizeLinear (q, s) b = Cast <to = 16> (d) c = Abs (b) y = Cast <to = 1> (c)
    }
    """
    assert_refuses(NarrowDequantize(), text, "b: it takes i32, not 8 bits", typed=True)


def test_casts_of_other_values_are_no_matter() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 22]>
    g (float[4] x) => (float[4] y) {
      b = Cast <to = 16> (x) c = Abs (b) y = Cast <to = 1> (c)
    }
    """
    graph = graph_from_text(text)
    result = run_pass(NarrowDequantize(), graph)
    assert not result.changed
    assert result.refusals == ()
