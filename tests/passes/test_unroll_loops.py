"""unroll-loops: loops of a few trips, written out."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.diff import diff_graphs
from optc.ir.text import print_graph
from optc.passes import FoldConstants, FoldShapes, InferShapes, PassContext
from optc.passes.unroll_loops import UnrollLoops

REWRITES = {
    "carried values and the number of the trip": (
        """
        g (float[N] x, float[N] w) => (float[N] y) <int64 m = {3}, bool t = {1}>
        {
           y = Loop (m, t, x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] r) {
              d = Identity (c)
              f = Cast <to = 1> (i)
              a = Mul (v, w)
              r = Add (a, f)
           }>
        }
        """,
        """
        g (float[N] x, float[N] w) => (float[N] y) <int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}>
        {
           f_0 = Cast <to = 1> (i0)
           a_0 = Mul (x, w)
           r_0 = Add (a_0, f_0)
           f_1 = Cast <to = 1> (i1)
           a_1 = Mul (r_0, w)
           r_1 = Add (a_1, f_1)
           f_2 = Cast <to = 1> (i2)
           a_2 = Mul (r_1, w)
           y = Add (a_2, f_2)
        }
        """,
        {"loop": 1},
    ),
    "scan outputs, a constant of the body, no condition": (
        """
        g (float[2] x) => (float[2] y, float[2,2] z) <int64 m = {2}>
        {
           y, z = Loop (m, , x) <body = b (int64 i, bool c, float[2] v) =>
              (bool d, float[2] r, float[2] s)
              <bool d = {1}, float[2] k = {3, 4}> { r = Mul (v, k) s = Sin (v) }>
        }
        """,
        """
        g (float[2] x) => (float[2] y, float[2,2] z)
        <float[2] k = {3, 4}, int64[1] e = {0}, int64[1] f = {0}>
        {
           r_0 = Mul (x, k)
           s_0 = Sin (x)
           y = Mul (r_0, k)
           s_1 = Sin (r_0)
           a = Unsqueeze (s_0, e)
           b = Unsqueeze (s_1, f)
           z = Concat <axis = 0> (a, b)
        }
        """,
        {"loop": 1},
    ),
    "no trips": (
        """
        g (float[2] x) => (float[2] y, float[0,3] z) <int64 m = {0}>
        {
           v, z = Loop (m, , x) <body = b (int64 i, bool c, float[2] v) =>
              (bool d, float[2] r, float[3] s)
              <float[3] s = {1, 2, 3}> { d = Identity (c) r = Sin (v) }>
           y = Relu (v)
        }
        """,
        "g (float[2] x) => (float[2] y, float[0,3] z) <float[0,3] z = {}> { y = Relu (x) }",
        {"loop": 1},
    ),
    "a condition that does not hold": (
        """
        g (float[2] x, int64 m) => (float[2] y) <bool f = {0}>
        {
           v = Loop (m, f, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] r)
              { d = Identity (c) r = Sin (v) }>
           y = Relu (v)
        }
        """,
        "g (float[2] x, int64 m) => (float[2] y) { y = Relu (x) }",
        {"loop": 1},
    ),
    "a condition that ends it after one trip": (
        """
        g (float[N] x) => (float[N] y)
        {
           y = Loop (, , x) <body = b (int64 i, bool c, float[N] v) => (bool d, float[N] r)
              <bool t = {1}> { d = Not (t) r = Sin (v) }>
        }
        """,
        "g (float[N] x) => (float[N] y) { y = Sin (x) }",
        {"loop": 1},
    ),
    "a loop in a loop, over the number of the trip": (
        """
        g (float[2] x) => (float[2] y) <int64 m = {2}>
        {
           y = Loop (m, , x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] r) {
              d = Identity (c)
              a = Sin (v)
              r = Loop (i, , a) <body = b2 (int64 j, bool e, float[2] u) => (bool f, float[2] s)
                 { f = Identity (e) s = Exp (u) }>
           }>
        }
        """,
        "g (float[2] x) => (float[2] y) { a_0 = Sin (x) a_1 = Sin (a_0) y = Exp (a_1) }",
        {"loop": 3},
    ),
    "a scan, one input forwards and one backwards along its last axis": (
        """
        g (float[2] x, float[2,3] p, float[3,2] q) => (float[2] y, float[3,2] z)
        {
           y, z = Scan <num_scan_inputs = 2, scan_input_axes = [1, 0],
              scan_input_directions = [0, 1], scan_output_directions = [1],
              body = b (float[2] v, float[2] l, float[2] k) => (float[2] r, float[2] s)
              { a = Mul (v, l) r = Add (a, k) s = Neg (a) }> (x, p, q)
        }
        """,
        """
        g (float[2] x, float[2,3] p, float[3,2] q) => (float[2] y, float[3,2] z)
        <int64 i0 = {0}, int64 j0 = {2}, int64 i1 = {1}, int64 j1 = {1},
         int64 i2 = {2}, int64 j2 = {0}, int64[1] e0 = {0}, int64[1] e1 = {0}, int64[1] e2 = {0}>
        {
           l0 = Gather <axis = 1> (p, i0)
           k0 = Gather <axis = 0> (q, j0)
           l1 = Gather <axis = 1> (p, i1)
           k1 = Gather <axis = 0> (q, j1)
           l2 = Gather <axis = 1> (p, i2)
           k2 = Gather <axis = 0> (q, j2)
           a0 = Mul (x, l0)
           r0 = Add (a0, k0)
           s0 = Neg (a0)
           a1 = Mul (r0, l1)
           r1 = Add (a1, k1)
           s1 = Neg (a1)
           a2 = Mul (r1, l2)
           y = Add (a2, k2)
           s2 = Neg (a2)
           u0 = Unsqueeze (s2, e0)
           u1 = Unsqueeze (s1, e1)
           u2 = Unsqueeze (s0, e2)
           z = Concat <axis = 0> (u0, u1, u2)
        }
        """,
        {"scan": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_unrolls(before: str, expected: str, counts: dict[str, int]) -> None:
    graph = graph_from_text(before)
    source = clone(graph)
    assert run_pass(UnrollLoops(), graph).counts == counts
    wanted = graph_from_text(expected)
    for result in (graph, wanted):
        InferShapes().apply(result, PassContext())
    assert diff_graphs(graph, wanted).render() == ""
    assert_same_numbers(source, graph)


def _loop(
    operands: str = "m, , x", body: str = "d = Identity (c) r = Sin (v)", *, trips: int = 3
) -> str:
    return f"""
    g (float[N] x, int64 n, bool t) => (float[N] y) <int64 m = {{{trips}}}>
    {{
       [loop] y = Loop ({operands}) <body = b (int64 i, bool c, float[N] v) =>
          (bool d, float[N] r) {{ {body} }}>
    }}
    """


REFUSALS = {
    "trips": (_loop("n, , x"), "the number of trips is n, which is not constant"),
    "begin": (_loop("m, t, x"), "the condition to begin is t, which is not constant"),
    "many": (_loop(trips=9), "9 trips; max_trips allows 8"),
    "goes on": (
        _loop(body="s = ReduceSum <keepdims = 0> (v) d = Greater (s, s) r = Sin (v)"),
        "the body computes the condition to go on, d",
    ),
    "endless": (_loop(", , x"), "nothing ends it"),
    "random": (
        _loop(body="d = Identity (c) [noise] q = RandomNormalLike (v) r = Add (q, v)"),
        "noise in the body may give another result on each run",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    assert_refuses(UnrollLoops(), text, f"loop: {reason}")


def test_refuses_by_size() -> None:
    few = UnrollLoops(UnrollLoops.Options(max_nodes=5))
    assert_refuses(few, _loop(), "loop: 6 operations in 3 trips; max_nodes allows 5")


def test_refuses_no_trips_of_unknown_shape() -> None:
    text = """
    g (float[N] x) => (float[A,N] y) <int64 m = {0}, bool t = {1}>
    {
       [loop] y = Loop (m, t) <body = b (int64 i, bool c) => (bool d, float[N] r)
          { d = Identity (c) r = Sin (x) }>
    }
    """
    reason = "loop: no trips, and the shape of the scan output y is not known"
    assert_refuses(UnrollLoops(), text, reason)


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("float[N,2] p", "the size of p along axis 0 is not static"),
        ("float[0,2] p", "the scan inputs are empty"),
    ],
)
def test_refuses_a_scan(form: str, reason: str) -> None:
    text = f"""
    g ({form}) => (float[A,2] z)
    {{
       [scan] z = Scan <num_scan_inputs = 1, body = b (float[2] l) => (float[2] s)
          {{ s = Neg (l) }}> (p)
    }}
    """
    assert_refuses(UnrollLoops(), text, f"scan: {reason}")


def test_sizes_that_change_from_trip_to_trip() -> None:
    """The symbol K of the body is another size in each trip: it must not reach the graph."""
    text = """
    g (float[N] x) => (float[M] y) <int64 m = {3}>
    {
       y = Loop (m, , x) <body = b (int64 i, bool c, float[K] v) => (bool d, float[J] r)
          { d = Identity (c) r = Concat <axis = 0> (v, v) }>
    }
    """
    graph = graph_from_text(text)
    source = clone(graph)
    run_pass(UnrollLoops(), graph)
    assert "K" not in print_graph(graph)
    InferShapes().apply(graph, PassContext())
    result = graph.operand(graph.outputs[0], 0)
    assert str(result and result.type) == "f32[8*N]"
    assert_same_numbers(source, graph)


# PyTorch 2.13, torch.onnx.export(torch.jit.script(module), opset_version=11 and 17, dynamo=False),
# of `for i in range(x.size(0)): y = torch.relu(y + i)`; the size by Shape and Gather where dynamic
SCRIPTED = """
<ir_version: 6, opset_import: ["" : 11]>
g (float[3,4] x) => (float[3,4] y)
{
   zero = Constant <value = int64 {0}> ()
   true = Constant <value = bool {1}> ()
   shape = Shape (x)
   trips = Gather <axis = 0> (shape, zero)
   y = Loop (trips, true, x) <body = b (int64 i, bool c, float[3,4] v) =>
      (bool d, float[3,4] r)
      {
         f = Cast <to = 1> (i)
         a = Add (v, f)
         r = Relu (a)
         d = Identity (true)
      }>
}
"""


def test_a_scripted_loop_over_a_size() -> None:
    graph = graph_from_text(SCRIPTED)
    source = clone(graph)
    for entry in (InferShapes(), FoldShapes(), FoldConstants()):
        entry.apply(graph, PassContext())
    assert run_pass(UnrollLoops(), graph).counts == {"loop": 1}
    assert_same_numbers(source, graph, {"x": np.ones((3, 4), np.float32)})
