"""remove-broadcasts: operations that broadcast read past Expand and Tile."""

from __future__ import annotations

import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.remove_broadcasts import RemoveBroadcasts

REWRITES = {
    # PyTorch 2.13 (TorchScript, torch.export) and paddle2onnx 2.1 of x * s.expand_as(x)
    "expand before a product": (
        """
        g (float[N,2,3] x, float[N,2,1] s) => (float[N,2,3] y) <int64[3] e = {1, 1, 3}>
        { a = Expand (s, e) y = Mul (a, x) }
        """,
        "g (float[N,2,3] x, float[N,2,1] s) => (float[N,2,3] y) { y = Mul (s, x) }",
        1,
    ),
    # tf2onnx 1.17 of x * tf.tile(tf.reduce_mean(x, [1, 2], keepdims=True), [1, 4, 4, 1])
    "tile before a product": (
        """
        g (float[1,4,4,2] x, float[1,1,1,2] s) => (float[1,4,4,2] y) <int64[4] r = {1, 4, 4, 1}>
        { a = Tile (s, r) y = Mul (x, a) }
        """,
        "g (float[1,4,4,2] x, float[1,1,1,2] s) => (float[1,4,4,2] y) { y = Mul (x, s) }",
        1,
    ),
    # torch.export (PyTorch 2.13) of BERT: the mask of an attention
    "a condition, of a lower rank": (
        """
        g (bool[3] c, float[2,3] x, float z) => (float[2,3] y) <int64[2] e = {2, 3}>
        { a = Expand (c, e) b = Expand (z, e) y = Where (a, x, b) }
        """,
        "g (bool[3] c, float[2,3] x, float z) => (float[2,3] y) { y = Where (c, x, z) }",
        2,
    ),
    "batches of a product of matrices": (
        """
        g (float[4,N,2,3] x, float[1,3,5] w) => (float[4,N,2,5] y) <int64[4] e = {4, 1, 3, 5}>
        { a = Expand (w, e) y = MatMul (x, a) }
        """,
        "g (float[4,N,2,3] x, float[1,3,5] w) => (float[4,N,2,5] y) { y = MatMul (x, w) }",
        1,
    ),
    "expand of expand": (
        """
        g (float[1,1,3] x) => (float[4,2,3] y) <int64[3] e = {1, 2, 3}, int64[3] f = {4, 2, 1}>
        { a = Expand (x, e) y = Expand (a, f) }
        """,
        """
        g (float[1,1,3] x) => (float[4,2,3] y) <int64[3] f = {4, 2, 1}> { y = Expand (x, f) }
        """,
        1,
    ),
    "one of two that decide together": (
        """
        g (float[1,3] x, float[1,3] z) => (float[2,3] y) <int64[2] e = {2, 3}>
        { a = Expand (x, e) b = Expand (z, e) y = Add (a, b) }
        """,
        """
        g (float[1,3] x, float[1,3] z) => (float[2,3] y) <int64[2] e = {2, 3}>
        { b = Expand (z, e) y = Add (x, b) }
        """,
        1,
    ),
}


@pytest.mark.parametrize(("before", "expected", "count"), REWRITES.values(), ids=REWRITES)
def test_removes(before: str, expected: str, count: int) -> None:
    assert_rewrites(RemoveBroadcasts(), before, expected, counts={"broadcast": count}, typed=True)


def test_an_expansion_with_another_use_stays_for_that() -> None:
    assert_rewrites(
        RemoveBroadcasts(),
        """
        g (float[2,3] x, float[3] s) => (float[2,3] y, float[2,3] a) <int64[2] e = {2, 3}>
        { a = Expand (s, e) y = Mul (a, x) }
        """,
        """
        g (float[2,3] x, float[3] s) => (float[2,3] y, float[2,3] a) <int64[2] e = {2, 3}>
        { a = Expand (s, e) y = Mul (s, x) }
        """,
        typed=True,
    )


def _add(x: str, s: str, e: str, op: str = "Expand", user: str = "Add (a, x)") -> str:
    count = e.count(",") + 1
    return f"""
    g ({x} x, {s} s, int64[2] k) => (float[A,B] y) <int64[{count}] e = {{{e}}}>
    {{ [e] a = {op} (s, e) y = {user} }}
    """


REFUSALS = {
    "it decides a dimension": (
        _add("float[1,3]", "float[1,3]", "2,3"),
        "e decides dimension 0 of the result",
    ),
    "it decides the rank": (
        _add("float[3]", "float[3]", "1,3"),
        "e decides the rank of the result",
    ),
    "a symbol that may be one": (
        _add("float[M,3]", "float[1,3]", "2,3"),
        "e decides dimension 0 of the result",
    ),
    "a tile of several elements": (
        _add("float[4,3]", "float[2,3]", "2,1", "Tile"),
        "e is not known to repeat only single elements",
    ),
    "a tile of an unknown size": (
        _add("float[4,3]", "float[M,3]", "2,1", "Tile"),
        "e is not known to repeat only single elements",
    ),
    "columns of a product": (
        _add("float[2,4]", "float[1,3]", "4,3", user="MatMul (x, a)"),
        "the shape of the result is not known",
    ),
    "a shape that is not constant": (
        _add("float[M,3]", "float[1,3]", "2,3").replace("(s, e)", "(s, k)"),
        "e decides dimension 0 of the result",
    ),
    "nothing is known": (
        "g (x, s, int64[2] k) => (y) { [e] a = Expand (s, k) y = Add (a, x) }",
        "the shape before or after e is not known",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(RemoveBroadcasts(), text, typed=True)
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == [f"y: {reason}"]
