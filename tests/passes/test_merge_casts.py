"""merge-casts: one conversion for two, where the type between loses nothing."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run
from helpers.promises import run_pass
from optc.ir import DType, Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.merge_casts import MergeCasts, holds

ONNX = {"bool": 9, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "float": 1}
ONNX |= {"double": 11, "bfloat16": 16}


def chain(first: str, between: str, last: str, more: str = "", outputs: str = "") -> Graph:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 13]>
        g ({first}[N] x) => ({last}[N] y{outputs}) {{
          r = Identity (x)
          [one] m = Cast <to = {ONNX[between]}> (r)
          [two] y = Cast <to = {ONNX[last]}> (m)
          {more}
        }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


@pytest.mark.parametrize(
    ("first", "between", "last", "left"),
    [
        ("int32", "int64", "float", ["Identity", "Cast"]),
        ("bool", "float", "int64", ["Identity", "Cast"]),
        ("float16", "float", "double", ["Identity", "Cast"]),
        ("int32", "int64", "int32", ["Identity"]),
        ("float", "double", "float", ["Identity"]),
        ("bool", "int32", "bool", ["Identity"]),
        ("float", "double", "int32", ["Identity", "Cast"]),
    ],
)
def test_it_converts_once(first: str, between: str, last: str, left: list[str]) -> None:
    graph = chain(first, between, last)
    source = clone(graph)
    result = run_pass(MergeCasts(), graph)
    assert dict(result.counts) == {"cast-cast": 1}
    assert [node.op_type for node in graph.ordered()] == left
    numbers = np.array([0, 1, 2, 100, 0.5, 3.7, -1.2, 6e4])
    (value,) = graph.inputs
    dtype = next(d for d in DType if d.onnx == ONNX[first])
    feeds = {value.name: numbers.astype(dtype.numpy)}
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"], strict=True)


@pytest.mark.parametrize(
    ("first", "between", "last", "reason"),
    [
        ("float", "bfloat16", "float", "bf16 does not hold every f32 that one gets"),
        ("float16", "bfloat16", "float", "bf16 does not hold every f16 that one gets"),
        ("int64", "float", "int64", "f32 does not hold every i64 that one gets"),
        ("int8", "uint8", "int32", "u8 does not hold every i8 that one gets"),
        ("float", "int64", "float", "i64 does not hold every f32 that one gets"),
        ("uint8", "bool", "uint8", "bool does not hold every u8 that one gets"),
    ],
)
def test_a_type_that_loses_something_stays(
    first: str, between: str, last: str, reason: str
) -> None:
    graph = chain(first, between, last)
    result = run_pass(MergeCasts(), graph)
    assert not result.changed
    assert [(r.rule, r.node, r.reason) for r in result.refusals] == [("cast-cast", "two", reason)]


def test_the_first_cast_stays_for_others() -> None:
    graph = chain("int32", "int64", "float", "z = Neg (m)", ", int64[N] z")
    assert run_pass(MergeCasts(), graph).changed
    ops = sorted(node.op_type for node in graph.ordered())
    assert ops == ["Cast", "Cast", "Identity", "Neg"]


def test_a_graph_output_is_not_its_input() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (int32[N] x) => (int32[N] y) {
          m = Cast <to = 7> (x)
          [two] y = Cast <to = 6> (m)
        }
        """
    )
    InferShapes().apply(graph, PassContext())
    result = run_pass(MergeCasts(), graph)
    assert [r.reason for r in result.refusals] == ["input x would be the output itself"]


def test_what_holds_a_type_brings_every_number_of_it_back() -> None:
    """Against numpy, on all numbers of the 8- and 16-bit types."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    samples = {
        DType.BOOL: np.array([False, True]),
        DType.U8: bits[:256].astype(np.uint8),
        DType.I8: bits[:256].astype(np.uint8).view(np.int8),
        DType.U16: bits,
        DType.I16: bits.view(np.int16),
        DType.F16: bits.view(np.float16),
        DType.BF16: bits.view(ml_dtypes.bfloat16),
    }
    wide = [DType.F32, DType.F64, DType.I32, DType.I64, DType.U32, DType.U64, *samples]
    for narrow, other in product(samples, wide):
        values = samples[narrow]
        with np.errstate(all="ignore"):
            finite = values[np.isfinite(values.astype(np.float64))]
            back = finite.astype(other.numpy).astype(narrow.numpy)
        same = np.array_equal(back.astype(np.float64), finite.astype(np.float64))
        wraps = narrow is not DType.BOOL and other in (DType.U8, DType.I8, DType.U16, DType.I16)
        wraps |= narrow in (DType.I8, DType.I16) and other in (DType.U32, DType.U64)
        if holds(other, narrow):
            assert same, (narrow, other)
        elif not wraps:  # wrapping back and forth is exact too, and not what this asks
            assert not same, (narrow, other)
