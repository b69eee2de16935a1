"""fold-branches: an If whose condition is known, or whose branches are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_rewrites, assert_same_numbers, run
from helpers.promises import run_pass
from optc.ir import Origin, clone
from optc.ir.text import print_graph
from optc.passes import FoldConstants, FoldShapes, InferShapes, PassContext, RemoveDead
from optc.passes.fold_branches import FoldBranches

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.passes import PassResult

REWRITES = {
    "the branch that is taken": (
        """
        g (float[N] x) => (float[N] y) <bool c = {1}, float w = {2}>
        {
           a = Relu (x)
           b = If (c) <
              then_branch = t () => (float[N] p) <float k = {3}> { q = Mul (a, k) p = Add (q, w) },
              else_branch = e () => (float[N] r) { r = Neg (x) }>
           y = Sin (b)
        }
        """,
        """
        g (float[N] x) => (float[N] y) <float k = {3}, float w = {2}>
        { a = Relu (x) q = Mul (a, k) b = Add (q, w) y = Sin (b) }
        """,
        {"constant-condition": 1},
    ),
    "the other one, of a condition with one element": (
        """
        g (float[N] x) => (float[N] y) <bool[1] c = {0}>
        {
           y = If (c) <
              then_branch = t () => (float[N] p) { p = Relu (x) },
              else_branch = e () => (float[N] r) { r = Neg (x) }>
        }
        """,
        "g (float[N] x) => (float[N] y) { y = Neg (x) }",
        {"constant-condition": 1},
    ),
    "a captured value, an initializer, and what is not used": (
        """
        g (float[2] x) => (float[2] y, float[2] z) <bool c = {1}>
        {
           a = Relu (x)
           b, k, u = If (c) <
              then_branch = t () => (float[2] p, float[2] q, float[2] s)
                 <float[2] q = {1, 2}> { p = Identity (a) s = Exp (a) },
              else_branch = e () => (float[2] r, float[2] v, float[2] w)
                 { r = Neg (x) v = Neg (x) w = Neg (x) }>
           y = Sin (b)
           z = Add (k, x)
        }
        """,
        """
        g (float[2] x) => (float[2] y, float[2] z) <float[2] k = {1, 2}>
        { a = Relu (x) b = Identity (a) y = Sin (b) z = Add (k, x) }
        """,
        {"constant-condition": 1},
    ),
    # PyTorch 2.13, torch.jit.script, `if flag: … else: …` twice: an If in the branch of another
    "the same condition inside, and its opposite": (
        """
        g (float[N] x, bool c) => (float[N] y)
        {
           y = If (c) <
              then_branch = t () => (float[N] p) {
                 n = Not (c)
                 a = If (n) <
                    then_branch = t2 () => (float[N] q) { q = Relu (x) },
                    else_branch = e2 () => (float[N] r) { r = Sin (x) }>
                 p = Exp (a)
              },
              else_branch = e () => (float[N] s) {
                 b = If (c) <
                    then_branch = t3 () => (float[N] u) { u = Relu (x) },
                    else_branch = e3 () => (float[N] v) { v = Cos (x) }>
                 s = Exp (b)
              }>
        }
        """,
        """
        g (float[N] x, bool c) => (float[N] y)
        {
           y = If (c) <
              then_branch = t () => (float[N] p) { a = Sin (x) p = Exp (a) },
              else_branch = e () => (float[N] s) { b = Cos (x) s = Exp (b) }>
        }
        """,
        {"constant-condition": 2},
    ),
    "a condition whose opposite is asked inside": (
        """
        g (float[N] x, bool c) => (float[N] y)
        {
           n = Not (c)
           y = If (n) <
              then_branch = t () => (float[N] p) {
                 p = If (c) <
                    then_branch = t2 () => (float[N] q) { q = Relu (x) },
                    else_branch = e2 () => (float[N] r) { r = Sin (x) }>
              },
              else_branch = e () => (float[N] s) { s = Exp (x) }>
        }
        """,
        """
        g (float[N] x, bool c) => (float[N] y)
        {
           n = Not (c)
           y = If (n) <
              then_branch = t () => (float[N] p) { p = Sin (x) },
              else_branch = e () => (float[N] s) { s = Exp (x) }>
        }
        """,
        {"constant-condition": 1},
    ),
    "a condition that another If gives, and an If in the branch": (
        """
        g (float[N] x, bool c) => (float[N] y) <bool k = {1}>
        {
           d = If (k) <
              then_branch = t () => (bool p) <bool p = {0}> {},
              else_branch = e () => (bool q) { q = Not (c) }>
           y = If (d) <
              then_branch = t2 () => (float[N] r) { r = Relu (x) },
              else_branch = e2 () => (float[N] s) {
                 s = If (k) <
                    then_branch = t3 () => (float[N] u) { u = Exp (x) },
                    else_branch = e3 () => (float[N] v) { v = Cos (x) }>
              }>
        }
        """,
        "g (float[N] x, bool c) => (float[N] y) { y = Exp (x) }",
        {"constant-condition": 3},
    ),
    "equal branches": (
        """
        g (float[2] x, bool c) => (float[2] y)
        {
           y = If (c) <
              then_branch = t () => (float[2] p)
                 <float[2] k = {1, 2}> { a = Mul (x, k) p = Sin (a) },
              else_branch = e () => (float[2] q)
                 <float[2] l = {1, 2}> { b = Mul (x, l) q = Sin (b) }>
        }
        """,
        """
        g (float[2] x, bool c) => (float[2] y) <float[2] k = {1, 2}>
        { a = Mul (x, k) y = Sin (a) }
        """,
        {"equal-branches": 1},
    ),
    "a loop in the branch keeps what it captures": (
        """
        g (float[2] x) => (float[2] y) <bool c = {1}, int64 m = {2}>
        {
           y = If (c) <
              then_branch = t () => (float[2] p) {
                 a = Relu (x)
                 p = Loop (m, c, x) <body = b (int64 i, bool k, float[2] v) =>
                    (bool l, float[2] w) { l = Identity (k) w = Add (v, a) }>
              },
              else_branch = e () => (float[2] q) { q = Neg (x) }>
        }
        """,
        """
        g (float[2] x) => (float[2] y) <bool c = {1}, int64 m = {2}>
        {
           a = Relu (x)
           y = Loop (m, c, x) <body = b (int64 i, bool k, float[2] v) =>
              (bool l, float[2] w) { l = Identity (k) w = Add (v, a) }>
        }
        """,
        {"constant-condition": 1},
    ),
}


class _Folding(FoldBranches):
    """With what `remove-dead` does then: captured conditions that nothing reads any more."""

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        result = super().apply(graph, context)
        RemoveDead().apply(graph, context)
        return result


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_folds(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(_Folding(), before, expected, counts=counts, typed=True)


def _if(condition: str, then: str, other: str = "r = Neg (x)", more: str = "") -> str:
    return f"""
    g (float[2] x, bool c, int64 n) => (float[2] y) <int64 one = {{1}}>
    {{
       {more}
       [choice] y = If ({condition}) <
          then_branch = t () => (float[2] p) {{ {then} }},
          else_branch = e () => (float[2] r) {{ {other} }}>
    }}
    """


REFUSALS = {
    "an input": (_if("c", "p = Relu (x)"), "the input c"),
    "computed": (
        _if("d", "p = Relu (x)", more="d = Equal (n, one)"),
        "d, a result of Equal",
    ),
    "equal but for an attribute": (
        _if("c", "p = LeakyRelu <alpha = 0.5> (x)", "r = LeakyRelu <alpha = 0.25> (x)"),
        "the input c",
    ),
    "equal but for a constant": (
        _if(
            "c",
            "k = Constant <value_float = 1.0> () p = Add (x, k)",
            "k2 = Constant <value_float = 2.0> () r = Add (x, k2)",
        ),
        "the input c",
    ),
    "equal but for the order of operands": (
        _if("c", "a = Relu (x) p = Sub (x, a)", "b = Relu (x) r = Sub (b, x)"),
        "the input c",
    ),
    "random": (
        _if("c", "p = RandomNormalLike (x)", "r = RandomNormalLike (x)"),
        "the input c",
    ),
}


@pytest.mark.parametrize(("text", "what"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, what: str) -> None:
    assert_refuses(FoldBranches(), text, f"choice: the condition is {what}, known only at run time")


def test_inside_a_loop_a_captured_constant_decides() -> None:
    before = """
        g (float[2] x, int64 m) => (float[2] y) <bool c = {1}>
        {
           y = Loop (m, c, x) <body = b (int64 i, bool k, float[2] v) => (bool l, float[2] w) {
              l = Identity (k)
              w = If (c) <
                 then_branch = t () => (float[2] p) { p = Add (v, x) },
                 else_branch = e () => (float[2] q) { q = Neg (v) }>
           }>
        }
        """
    expected = """
        g (float[2] x, int64 m) => (float[2] y) <bool c = {1}>
        {
           y = Loop (m, c, x) <body = b (int64 i, bool k, float[2] v) => (bool l, float[2] w)
              { l = Identity (k) w = Add (v, x) }>
        }
        """
    feeds = {"x": np.array([1, 2], np.float32), "m": np.array(3)}
    assert_rewrites(_Folding(), before, expected, feeds=feeds, typed=True)


# PyTorch 2.13, torch.onnx.export(torch.jit.script(module), opset_version=11 and 13, dynamo=False),
# of x.squeeze(1): the exporter asks for the size at run time, even where it is fixed
SQUEEZE = """
<ir_version: 7, opset_import: ["" : {opset}]>
g (float[N,{size},M] x) => (float[A,B,C] y)
{{
   one = Constant <value = int64[1] {{1}}> ()
   shape = Shape (x)
   size = Gather <axis = 0> (shape, one)
   c = Equal (size, one)
   a = If (c) <
      then_branch = t () => (float[N,M] p) {{ {squeeze} }},
      else_branch = e () => (float[N,{size},M] q) {{ q = Identity (x) }}>
   y = Relu (a)
}}
"""
FORMS = {
    11: "p = Squeeze <axes = [1]> (x)",
    13: "k = Constant <value = int64[1] {1}> () p = Squeeze (x, k)",
}


@pytest.mark.parametrize("opset", FORMS)
@pytest.mark.parametrize(("size", "left"), [(1, "Squeeze"), (5, "Identity")])
def test_the_squeeze_of_scripted_modules(opset: int, size: int, left: str) -> None:
    text = SQUEEZE.format(opset=opset, size=size, squeeze=FORMS[opset])
    text = text.replace("A,B,C", "N,M" if size == 1 else f"N,{size},M")
    graph = graph_from_text(text)
    source = clone(graph)
    for entry in (InferShapes(), FoldShapes(), FoldConstants()):
        entry.apply(graph, PassContext())
    assert run_pass(FoldBranches(), graph).counts == {"constant-condition": 1}
    assert left in print_graph(graph)
    assert "If(" not in print_graph(graph)
    if size == 1:  # onnxruntime does not load the other model: the branch not taken is not valid
        assert_same_numbers(source, graph)
    else:
        x = np.linspace(-1, 1, 10, dtype=np.float32).reshape(1, 5, 2)
        np.testing.assert_array_equal(run(graph, {"x": x})["y"], np.maximum(x, 0))


def test_provenance_and_names() -> None:
    graph = graph_from_text(
        _if("k", "[act] s = Relu (x) p = Sin (s)").replace("one = {1}", "one = {1}, bool k = {1}")
    )
    run_pass(FoldBranches(), graph)
    node = graph.value("s").node
    assert node.name == "act"
    assert node.origin == Origin("fold-branches", ("act", "choice"))
    assert graph.fresh_name("r") == "r"
