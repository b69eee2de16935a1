"""remove-duplicates: what is equal to the bit is computed and stored once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_rewrites
from helpers.promises import run_pass
from optc.ir import DType, ExternalData, Graph, Tensor, TensorType
from optc.passes.remove_duplicates import RemoveDuplicates

if TYPE_CHECKING:
    from pathlib import Path

REWRITES = {
    "equal operations, and what depends on them": (
        """
        g (float[2] x) => (float[2] y)
        {
           a = Relu (x)
           b = Relu (x)
           c = Neg (a)
           d = Neg (b)
           y = Add (c, d)
        }
        """,
        """
        g (float[2] x) => (float[2] y)
        {
           a = Relu (x)
           c = Neg (a)
           y = Add (c, c)
        }
        """,
        {"equal-operation": 2},
    ),
    "operands in another order": (
        """
        g (float[2] x, float[2] z) => (float[2] y)
        {
           a = Add (x, z)
           b = Add (z, x)
           y = Mul (a, b)
        }
        """,
        """
        g (float[2] x, float[2] z) => (float[2] y)
        {
           a = Add (x, z)
           y = Mul (a, a)
        }
        """,
        {"equal-operation": 1},
    ),
    "equal constants, and operations on them": (
        """
        g (float[2] x) => (float[2] y) <float[2] v = {1, 2}, float[2] w = {1, 2}>
        {
           a = Add (x, v)
           b = Add (x, w)
           y = Mul (a, b)
        }
        """,
        """
        g (float[2] x) => (float[2] y) <float[2] v = {1, 2}>
        {
           a = Add (x, v)
           y = Mul (a, a)
        }
        """,
        {"equal-constant": 1, "equal-operation": 1},
    ),
    "operations with several results": (
        """
        g (float[4] x) => (float[2] y)
        {
           a, b = Split <num_outputs = 2> (x)
           c, d = Split <num_outputs = 2> (x)
           e = Add (a, d)
           f = Add (c, b)
           y = Mul (e, f)
        }
        """,
        """
        g (float[4] x) => (float[2] y)
        {
           a, b = Split <num_outputs = 2> (x)
           e = Add (a, b)
           y = Mul (e, e)
        }
        """,
        {"equal-operation": 2},
    ),
    "tensors in attributes": (
        """
        g (int64[1] n) => (float[N] y)
        {
           a = ConstantOfShape <value = float[1] {2}> (n)
           b = ConstantOfShape <value = float[1] {2}> (n)
           c = ConstantOfShape <value = float[1] {3}> (n)
           d = Add (a, b)
           y = Mul (c, d)
        }
        """,
        """
        g (int64[1] n) => (float[N] y)
        {
           a = ConstantOfShape <value = float[1] {2}> (n)
           c = ConstantOfShape <value = float[1] {3}> (n)
           d = Add (a, a)
           y = Mul (c, d)
        }
        """,
        {"equal-operation": 1},
    ),
    "one of two is an output": (
        """
        g (float[2] x) => (float[2] y, float[2] z)
        {
           a = Exp (x)
           y = Exp (x)
           z = Neg (a)
        }
        """,
        """
        g (float[2] x) => (float[2] y, float[2] z)
        {
           y = Exp (x)
           z = Neg (y)
        }
        """,
        {"equal-operation": 1},
    ),
    "inside of branches, each for itself": (
        """
        g (bool c, float[2] x) => (float[2] y)
        {
           e = Exp (x)
           f = Exp (x)
           y = If (c) <
              then_branch = t () => (float[2] p) { a = Neg (e) b = Neg (f) p = Add (a, b) },
              else_branch = u () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
        """
        g (bool c, float[2] x) => (float[2] y)
        {
           e = Exp (x)
           y = If (c) <
              then_branch = t () => (float[2] p) { a = Neg (e) p = Add (a, a) },
              else_branch = u () => (float[2] q) { q = Neg (x) }
           >
        }
        """,
        {"equal-operation": 2},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_merges(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(RemoveDuplicates(), before, expected, counts=counts)


REFUSALS = {
    "random operations": (
        "g (float[2] x) => (float[2] y)"
        "{ a = RandomNormalLike (x) [r] b = RandomNormalLike (x) y = Add (a, b) }",
        ("r: RandomNormalLike may give another result on each run",),
    ),
    "custom operators": (
        '<ir_version: 8, opset_import: ["" : 17, "my" : 1]>'
        "g (float[2] x) => (float[2] y) { a = my.Op (x) b = my.Op (x) y = Add (a, b) }",
        ("b: my::Op may give another result on each run",),
    ),
    "dropout in training mode": (
        "g (float[2] x, float r, bool t) => (float[2] y)"
        "{ a = Dropout (x, r, t) b = Dropout (x, r, t) y = Add (a, b) }",
        ("b: Dropout may give another result on each run",),
    ),
    "control flow": (
        """
        g (bool c, float[2] x) => (float[2] y)
        {
           a = If (c) <then_branch = t () => (float[2] p) { p = Neg (x) },
                       else_branch = e () => (float[2] q) { q = Abs (x) }>
           b = If (c) <then_branch = t () => (float[2] p) { p = Neg (x) },
                       else_branch = e () => (float[2] q) { q = Abs (x) }>
           y = Add (a, b)
        }
        """,
        ("b: If has subgraphs, which are not compared",),
    ),
    "copies for two outputs": (
        "g (float[2] x) => (float[2] y, float[2] z) { y = Identity (x) z = Identity (x) }",
        ("z: whether an Identity is needed is decided by remove-identity",),
    ),
    "a constant that is an output": (
        "g (float[2] x) => (float[2] y, float[1] w) <float[1] v = {1}, float[1] w = {1}>"
        "{ y = Add (x, v) }",
        ("w: it is the graph output w",),
    ),
}


@pytest.mark.parametrize(("text", "reasons"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reasons: tuple[str, ...]) -> None:
    assert_refuses(RemoveDuplicates(), text, *reasons)


DIFFERENT = {
    "operand order of a subtraction": (
        "g (float[2] x, float[2] z) => (float[2] y){ a = Sub (x, z) b = Sub (z, x) y = Mul (a, b) }"
    ),
    "attributes": (
        "g (float[2,2] x) => (float[2,2] y)"
        "{ a = Softmax <axis = 0> (x) b = Softmax <axis = 1> (x) y = Add (a, b) }"
    ),
    "left-out results": (
        "g (float[1,1,4,4] x) => (float[1,1,3,3] y, int64[1,1,3,3] i)"
        "{ a = MaxPool <kernel_shape = [2, 2]> (x) b, i = MaxPool <kernel_shape = [2, 2]> (x)"
        "  y = Add (a, b) }"
    ),
    "left-out operands": (
        "g (float[2] x, float l) => (float[2] y)"
        "{ a = Clip (x, l) b = Clip (x, , l) y = Add (a, b) }"
    ),
    "the sign of zero": (
        "g (float[2] x) => (float[2] y) <float p = {0.0}, float n = {-0.0}>"
        "{ a = Div (x, p) b = Div (x, n) y = Add (a, b) }"
    ),
    "the sign of zero in an attribute": (
        "g (int64[1] n) => (float[N] y)"
        "{ a = ConstantOfShape <value = float[1] {0.0}> (n)"
        "  b = ConstantOfShape <value = float[1] {-0.0}> (n) y = Div (a, b) }"
    ),
    "types of equal bits": (
        "g (int32[1] x, float[1] z) => (int32[1] y, float[1] w)"
        "<int32[1] i = {0}, float[1] f = {0}>"
        "{ y = Add (x, i) w = Add (z, f) }"
    ),
    "shapes of equal bits": (
        "g (float[2] x) => (float[2] y) <float[1] i = {0}, float f = {0}>"
        "{ a = Add (x, i) y = Add (a, f) }"
    ),
    "a graph and its subgraph": (
        "g (bool c, float[2] x) => (float[2] y, float[2] z)"
        "{ z = Neg (x) y = If (c) <then_branch = t () => (float[2] p) { p = Neg (x) },"
        "  else_branch = e () => (float[2] q) { q = Abs (x) }> }"
    ),
}


@pytest.mark.parametrize("text", DIFFERENT.values(), ids=DIFFERENT)
def test_keeps_what_differs(text: str) -> None:
    assert_refuses(RemoveDuplicates(), text)


def test_strings_small_floats_and_zero_sized_constants() -> None:
    graph = Graph("g", {"": 21})
    tensors = [
        Tensor.from_strings([b"a", b"b"], (2,)),
        Tensor.from_numpy(np.array([1, 2]), DType.BF16),
        Tensor.from_numpy(np.array([1, -2, 3]), DType.I4),
        Tensor.from_numpy(np.zeros((0, 3), np.float32)),
    ]
    for i, tensor in enumerate(tensors):
        for j in range(2):
            copy = Tensor.from_numpy(tensor.numpy(), tensor.dtype)
            value = graph.add_constant(copy, f"c{i}{j}")
            node = graph.add("Shape", [value], outputs=[f"s{i}{j}"])
            graph.add_output(node.output, f"s{i}{j}")
    assert run_pass(RemoveDuplicates(), graph).counts == {"equal-constant": 4, "equal-operation": 4}


def test_the_name_that_comes_first_survives_whatever_the_order_in_the_file() -> None:
    for names in (("a", "b"), ("b", "a")):
        graph = Graph("g", {"": 21})
        x = graph.add_input("x", TensorType(DType.F32, (1,)))
        for name in names:
            w = graph.add_constant(Tensor.from_numpy(np.ones(1, np.float32)), name)
            graph.add_output(graph.add("Add", [x, w], outputs=[f"y{name}"]).output, f"y{name}")
        run_pass(RemoveDuplicates(), graph)
        assert [value.name for value in graph.constants()] == ["a"]


def test_constants_that_differ_in_the_first_bytes_are_not_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    sha256 = hashlib.sha256

    def counted(data: bytes) -> object:
        hashed.append(len(data))
        return sha256(data)

    graph = Graph("g", {"": 21})
    x = graph.add_input("x", TensorType(DType.F32, (64,)))
    path = tmp_path / "weights"
    path.write_bytes(np.arange(3 * 64, dtype=np.float32).tobytes())
    for i in range(3):
        data = ExternalData(path, 256 * i, 256)
        w = graph.add_constant(Tensor.external(DType.F32, (64,), data), f"w{i}")
        x = graph.add("Add", [x, w], outputs=[f"y{i}"]).output
    graph.add_output(x, "y")
    monkeypatch.setattr(hashlib, "sha256", counted)
    assert not RemoveDuplicates().apply(graph, None).changed  # type: ignore[arg-type] # not asked
    assert hashed == []


def test_shared_constants_cost_no_more_than_their_uses() -> None:
    lines = " ".join(f"v{i} = Add (x, w{i % 2})" for i in range(400))
    sums = ", ".join(f"v{i}" for i in range(400))
    graph = graph_from_text(
        "g (float[1] x) => (float[1] y) <float[1] w0 = {1}, float[1] w1 = {1}>"
        f"{{ {lines} y = Sum ({sums}) }}"
    )
    assert run_pass(RemoveDuplicates(), graph).counts == {
        "equal-constant": 1,
        "equal-operation": 399,
    }
