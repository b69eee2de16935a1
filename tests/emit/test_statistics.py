"""Figures about precision: the table, the shares, the ranges."""

from __future__ import annotations

from helpers import graph_from_text
from optc.emit.precision_table import is_mixed, precision_table
from optc.emit.statistics import constant_bytes, product_shares, quantized_ranges
from optc.passes import InferShapes
from optc.passes.base import PassContext

COUNTS = {
    "Conv": {"fp32": 1, "int8": 3},
    "Softmax": {"bf16": 2},
    "Add": {"fp32": 5},
    "Shape": {"other": 1},
    "Cast": {"fp64": 1, "other": 2},
}


def test_table_puts_lower_precision_first_and_sums_up() -> None:
    assert precision_table(COUNTS) == [
        ["operator", "total", "INT8", "BF16", "FP32", "other"],
        ["Conv", "4", "3", "-", "1", "-"],
        ["Softmax", "2", "-", "2", "-", "-"],
        ["Add", "5", "-", "-", "5", "-"],
        ["Cast", "3", "-", "-", "-", "3"],
        ["Shape", "1", "-", "-", "-", "1"],
        ["all", "15", "3", "2", "6", "4"],
    ]


def test_brief_table_has_one_row_for_the_rest() -> None:
    assert precision_table(COUNTS, brief=True)[3:] == [
        ["3 others", "9", "-", "-", "5", "4"],
        ["all", "15", "3", "2", "6", "4"],
    ]
    single = {"Conv": {"int8": 1}, "Add": {"fp32": 1}}
    assert precision_table(single, brief=True) == precision_table(single)


def test_only_small_types_are_mixed() -> None:
    assert is_mixed(COUNTS)
    assert not is_mixed({"Conv": {"fp32": 1}, "Shape": {"other": 2}, "Exp": {"fp64": 1}})


GRAPH = """
g (float[N,4] x) => (float[N,2] y)
<float s = {0.5}, uint8 z = {128}, int8[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, int8 wz = {0}, float[2,2] v = {1, 2, 3, 4}>
{
  xq = QuantizeLinear (x, s, z)
  xf = DequantizeLinear (xq, s, z)
  wf = DequantizeLinear (w, s, wz)
  a = MatMul (xf, wf)
  y = MatMul (a, v)
}
"""  # noqa: E501


def test_ranges_and_shares() -> None:
    graph = graph_from_text(GRAPH)
    InferShapes().apply(graph, PassContext())
    assert quantized_ranges(graph) == [
        {
            "tensor": "x",
            "dtype": "uint8",
            "low": -64.0,
            "high": 63.5,
            "scale": 0.5,
            "zero_point": 128,
        }
    ]
    assert constant_bytes(graph) == 4 + 1 + 8 + 1 + 16
    assert product_shares(graph, {"N": 3}) == {"fp32": 0.3333, "int8": 0.6667}
    assert product_shares(graph, {}) == {}
