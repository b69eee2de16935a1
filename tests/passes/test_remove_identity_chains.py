"""remove-identity: shortcuts past conversions, copies that ONNX needs, and neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_rewrites, assert_same_numbers
from helpers.promises import run_pass
from optc.ir import Tensor, clone
from optc.passes.remove_identity import RemoveIdentity

SHORTCUTS = {
    "casts through a wider float": (
        "g (float16[4] x) => (float16[4] y) {"
        "  a = Cast <to = 1> (x) b = Cast <to = 10> (a) y = Abs (b) }",
        "g (float16[4] x) => (float16[4] y) { y = Abs (x) }",
        {"cast-of-cast": 1, "no-op-cast": 1},
    ),
    "casts to a third type": (
        "g (int8[4] x) => (float[4] y) { a = Cast <to = 7> (x) y = Cast <to = 1> (a) }",
        "g (int8[4] x) => (float[4] y) { y = Cast <to = 1> (x) }",
        {"cast-of-cast": 1},
    ),
    "casts with an inner result that is used": (
        "g (float[4] x) => (float16[4] y, double[4] z) {"
        "  a = Cast <to = 11> (x) y = Cast <to = 10> (a) z = Neg (a) }",
        "g (float[4] x) => (float16[4] y, double[4] z) {"
        "  a = Cast <to = 11> (x) y = Cast <to = 10> (x) z = Neg (a) }",
        {"cast-of-cast": 1},
    ),
    "truth values through a float": (
        "g (bool[4] x) => (bool[4] y, int64[4] z) {"
        "  a = Cast <to = 1> (x) b = Cast <to = 9> (a) y = Not (b) z = Cast <to = 7> (a) }",
        "g (bool[4] x) => (bool[4] y, int64[4] z) { y = Not (x) z = Cast <to = 7> (x) }",
        {"cast-of-cast": 2, "no-op-cast": 1},
    ),
    "integers through a float that holds them": (
        "g (int32[4] x, uint8[4] u) => (int32[4] y, int32[4] z) {"
        "  a = Cast <to = 11> (x) b = Cast <to = 6> (a) y = Abs (b)"
        "  c = Cast <to = 10> (u) z = Cast <to = 6> (c) }",
        "g (int32[4] x, uint8[4] u) => (int32[4] y, int32[4] z) {"
        "  y = Abs (x) z = Cast <to = 6> (u) }",
        {"cast-of-cast": 2, "no-op-cast": 1},
    ),
    "reshapes in a row": (
        "g (float[N,6] x) => (float[P,2] y) <int64[3] s = {0, 3, 2}, int64[2] t = {-1, 2}> {"
        "  a = Reshape (x, s) y = Reshape (a, t) }",
        "g (float[N,6] x) => (float[P,2] y) <int64[2] t = {-1, 2}> { y = Reshape (x, t) }",
        {"reshape-of-view": 1},
    ),
    "a reshape that copies a dimension that is the same": (
        "g (float[N,6] x) => (float[N,3,2] y)"
        "  <int64[2] s = {0, -1}, int64[3] t = {0, 3, 2}, float[N,1,6] a> {"
        "  a = Unsqueeze (x, i) y = Reshape (a, t) i = Constant <value_ints = [1]> () }",
        "g (float[N,6] x) => (float[N,3,2] y) <int64[2] s = {0, -1}, int64[3] t = {0, 3, 2}> {"
        "  y = Reshape (x, t) }",
        {"reshape-of-view": 1},
    ),
    "a view and back": (
        "g (float[N,6] x) => (float[N,6] y) <int64[1] i = {1}, float[N,1,6] a, float[N,6] b> {"
        "  a = Unsqueeze (x, i) b = Squeeze (a, i) y = Exp (b) }",
        "g (float[N,6] x) => (float[N,6] y) { y = Exp (x) }",
        {"no-op-squeeze": 1},
    ),
    "negation twice": (
        "g (float[4] x) => (float[4] y) { a = Neg (x) b = Neg (a) y = Exp (b) }",
        "g (float[4] x) => (float[4] y) { y = Exp (x) }",
        {"no-op-neg": 1},
    ),
    "not not": (
        "g (bool[4] x) => (bool[4] y, bool[4] z) { z = Not (x) b = Not (z) y = And (b, x) }",
        "g (bool[4] x) => (bool[4] y, bool[4] z) { z = Not (x) y = And (x, x) }",
        {"no-op-not": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), SHORTCUTS.values(), ids=SHORTCUTS)
def test_shortcuts(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


KEPT_CHAINS = {
    "a narrower float": (
        "g (float[4] x) => (float[4] y) { a = Cast <to = 10> (x) [c] y = Cast <to = 1> (a) }",
        ("c: f16 does not hold every value of f32",),
    ),
    "integers through a float": (
        "g (int32[4] x) => (int32[4] y) { a = Cast <to = 1> (x) [c] y = Cast <to = 6> (a) }",
        ("c: f32 does not hold every value of i32",),
    ),
    "integers through a float to narrower ones": (
        "g (int16[4] x) => (int8[4] y) { a = Cast <to = 1> (x) [c] y = Cast <to = 3> (a) }",
        (),
    ),
    "signed through unsigned": (
        "g (int8[4] x) => (int8[4] y) { a = Cast <to = 13> (x) [c] y = Cast <to = 3> (a) }",
        ("c: u64 does not hold every value of i8",),
    ),
    "a float that becomes an integer": (
        "g (float16[4] x) => (int32[4] y) { a = Cast <to = 1> (x) y = Cast <to = 6> (a) }",
        (),
    ),
    "a shape that is not constant": (
        "g (float[N,6] x, int64[2] s) => (float[P,Q] y) <int64[3] t = {0, 3, 2}>"
        "{ a = Reshape (x, t) [r] y = Reshape (a, s) }",
        ("r: the new shape s is not constant",),
    ),
    "a shape that copies a dimension that may have changed": (
        "g (float[N,4] x) => (float[P,Q,R] y) <int64[2] s = {4, -1}, int64[3] t = {0, 2, -1}>"
        "{ a = Reshape (x, s) [r] y = Reshape (a, t) }",
        ("r: the new shape copies dimension 0, which a may have changed",),
    ),
}


@pytest.mark.parametrize(("text", "reasons"), KEPT_CHAINS.values(), ids=KEPT_CHAINS)
def test_keeps_chains(text: str, reasons: tuple[str, ...]) -> None:
    assert_refuses(RemoveIdentity(), text, *reasons)


# ---- outputs -----------------------------------------------------------------------------------

ENDS = {
    "an operation's result may become the output": (
        "g (float[2] x) => (float[2] y) { a = Relu (x) y = Identity (a) }",
        "g (float[2] x) => (float[2] y) { y = Relu (x) }",
        {"no-op-identity": 1},
    ),
    "what reads a needed copy reads the source": (
        "g (float[2] x) => (float[2] y, float[2] z) { y = Identity (x) z = Relu (y) }",
        "g (float[2] x) => (float[2] y, float[2] z) { y = Identity (x) z = Relu (x) }",
        {"bypass-identity": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), ENDS.values(), ids=ENDS)
def test_outputs(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


def test_another_no_op_before_an_output_goes_even_if_the_emitter_has_to_copy() -> None:
    text = "g (float[2] x) => (float[2] y) { y = Dropout (x) }"
    graph = graph_from_text(text)
    source = clone(graph)
    assert run_pass(RemoveIdentity(), graph).counts == {"no-op-dropout": 1}
    assert len(graph) == 0
    assert_same_numbers(source, graph)


NEEDED = {
    "graph input": (
        "g (float[2] x) => (float[2] y) { [i] y = Identity (x) }",
        ("i: it makes the graph input x an output",),
    ),
    "constant": (
        "g (float[2] x) => (float[2] y, float[1] z) <float[1] c = {1.0}>"
        "{ y = Relu (x) [i] z = Identity (c) }",
        ("i: it makes the constant c an output",),
    ),
    "second output": (
        "g (float[2] x) => (float[2] y, float[2] z) { y = Relu (x) [i] z = Identity (y) }",
        ("i: it makes a second output of y",),
    ),
    "captured value": (
        "g (bool c, float[2] x) => (float[2] y) { y = If (c) <"
        " then_branch = t () => (float[2] p) { [i] p = Identity (x) },"
        " else_branch = e () => (float[2] q) { q = Relu (x) }> }",
        ("i: it makes the captured value x an output",),
    ),
}


@pytest.mark.parametrize(("text", "reasons"), NEEDED.values(), ids=NEEDED)
def test_an_identity_that_onnx_needs_stays(text: str, reasons: tuple[str, ...]) -> None:
    assert_refuses(RemoveIdentity(), text, *reasons)


def test_the_first_of_two_copies_goes() -> None:
    before = """
    g (float[2] x) => (float[2] y, float[2] z)
    {
       a = Relu (x)
       y = Identity (a)
       z = Identity (a)
    }
    """
    expected = """
    g (float[2] x) => (float[2] y, float[2] z)
    {
       y = Relu (x)
       z = Identity (y)
    }
    """
    assert_rewrites(RemoveIdentity(), before, expected, counts={"no-op-identity": 1})


# ---- neighbours --------------------------------------------------------------------------------


def test_chains_and_shared_operands_go_in_one_run() -> None:
    before = """
    g (float[2,3] x) => (float[2,3] y) <float one = {1.0}, float zero = {0.0}, int64[2] s = {2, 3}>
    {
       a = Mul (x, one)
       b = Add (a, zero)
       c = Reshape (b, s)
       d = Mul (one, c)
       e = Identity (d)
       y = Add (e, a)
    }
    """
    expected = "g (float[2,3] x) => (float[2,3] y) { y = Add (x, x) }"
    counts = {"no-op-mul": 2, "no-op-add": 1, "no-op-reshape": 1, "no-op-identity": 1}
    # The shape of a is that of x, which is known; nothing else in the chain has a type.
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


def test_inside_of_branches_and_for_captured_values() -> None:
    before = """
    g (bool c, float[2] x) => (float[2] y)
    {
       a = Identity (x)
       y = If (c) <
          then_branch = t () => (float[2] p) { q = Dropout (a) p = Abs (q) },
          else_branch = e () => (float[2] r) { r = Exp (a) }
       >
    }
    """
    expected = """
    g (bool c, float[2] x) => (float[2] y)
    {
       y = If (c) <
          then_branch = t () => (float[2] p) { p = Abs (x) },
          else_branch = e () => (float[2] r) { r = Exp (x) }
       >
    }
    """
    counts = {"no-op-identity": 1, "no-op-dropout": 1}
    assert_rewrites(RemoveIdentity(), before, expected, counts=counts)


def test_a_number_in_a_weight_is_not_looked_for() -> None:
    graph = graph_from_text(
        "g (float[200,200] x, float[1] o) => (float[200,200] y) { y = Mul (x, o) }"
    )
    node = graph.value("y").node
    large = graph.add_constant(Tensor.from_numpy(np.ones((200, 200), np.float32)), "ones")
    graph.set_operand(node, 1, large)
    assert not run_pass(RemoveIdentity(), graph).changed


def test_operators_of_other_domains_are_not_taken_for_these() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
        "g (float[2] x) => (float[2] y) { a = my.Identity (x) y = Relu (a) }"
    )
    assert_refuses(RemoveIdentity(), text)


def test_the_type_of_the_result_is_kept_where_the_operand_has_none() -> None:
    text = """
    g (float[N] x) => (float[M] y) <float[M] b> { a = NonZero (x) c = Cast <to = 1> (a)
       d = Identity (c) e = Identity (d) y = ReduceMax <keepdims = 0> (e, i)
       i = Constant <value_ints = [0]> () }
    """
    graph = graph_from_text(text)
    assert run_pass(RemoveIdentity(), graph).counts == {"no-op-identity": 2}
