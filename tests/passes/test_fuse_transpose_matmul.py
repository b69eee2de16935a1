"""fuse-transpose-matmul: transposes of matrices go into Gemm."""

from __future__ import annotations

import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.fuse_transpose_matmul import FuseTransposeMatmul

REWRITES = {
    # torch.export (PyTorch 2.13) of torch.addmm(b, x.t(), w.t()), the weight folded
    "both operands of a Gemm": (
        """
        g (float[4,5] x, float[3,4] w, float[3] b) => (float[5,3] y)
        { a = Transpose (x) c = Transpose <perm = [1, 0]> (w) y = Gemm <alpha = 0.5> (a, c, b) }
        """,
        """
        g (float[4,5] x, float[3,4] w, float[3] b) => (float[5,3] y)
        { y = Gemm <alpha = 0.5, transA = 1, transB = 1> (x, w, b) }
        """,
        {"transpose-gemm-a": 1, "transpose-gemm-b": 1},
    ),
    "a flag that is set already": (
        """
        g (float[5,4] x, float[3,4] w) => (float[5,3] y)
        { a = Transpose (w) y = Gemm (x, a) }
        """,
        "g (float[5,4] x, float[3,4] w) => (float[5,3] y) { y = Gemm <transB = 1> (x, w) }",
        {"transpose-gemm-b": 1},
    ),
    "two transposes in one": (
        """
        g (float[5,4] x, float[4,3] w) => (float[5,3] y)
        { a = Transpose (w) y = Gemm <transB = 1> (x, a) }
        """,
        "g (float[5,4] x, float[4,3] w) => (float[5,3] y) { y = Gemm (x, w) }",
        {"transpose-gemm-b": 1},
    ),
    # tf2onnx 1.17 of tf.linalg.matmul(x, w, transpose_a=True)
    "a MatMul, the first": (
        "g (float[4,N] x, float[4,3] w) => (float[N,3] y) { a = Transpose (x) y = MatMul (a, w) }",
        "g (float[4,N] x, float[4,3] w) => (float[N,3] y) { y = Gemm <transA = 1> (x, w) }",
        {"transpose-matmul-a": 1},
    ),
    "a MatMul with itself": (
        "g (float[4,5] x) => (float[4,4] y) { a = Transpose (x) y = MatMul (x, a) }",
        "g (float[4,5] x) => (float[4,4] y) { y = Gemm <transB = 1> (x, x) }",
        {"transpose-matmul-b": 1},
    ),
    "two products of one transpose": (
        """
        g (float[4,5] x, float[4,3] v, float[4,3] w) => (float[5,3] y, float[5,3] z)
        { a = Transpose (x) y = MatMul (a, v) z = Gemm (a, w) }
        """,
        """
        g (float[4,5] x, float[4,3] v, float[4,3] w) => (float[5,3] y, float[5,3] z)
        { y = Gemm <transA = 1> (x, v) z = Gemm <transA = 1> (x, w) }
        """,
        None,
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_fuses(before: str, expected: str, counts: dict[str, int] | None) -> None:
    assert_rewrites(FuseTransposeMatmul(), before, expected, counts=counts, typed=True)


REFUSALS = {
    "used elsewhere": (
        """
        g (float[4,5] x, float[4,3] w) => (float[5,3] y, float[5,4] z)
        { a = Transpose (x) y = Gemm (a, w) [n] z = Neg (a) }
        """,
        "Transpose output also feeds n",
    ),
    "a graph output": (
        """
        g (float[4,5] x, float[4,3] w) => (float[5,3] y, float[5,4] a)
        { a = Transpose (x) y = MatMul (a, w) }
        """,
        "Transpose output is the graph output a",
    ),
    # the keys of every attention
    "a batch": (
        """
        g (float[2,4,5] x, float[2,4,3] w) => (float[2,5,3] y)
        { a = Transpose <perm = [0, 2, 1]> (x) y = MatMul (a, w) }
        """,
        "ONNX has no transposed form for products of more than one matrix",
    ),
    "an unknown rank": (
        "g (x, float[4,3] w) => (y) { a = Transpose <perm = [1, 0]> (x) y = MatMul (a, w) }",
        "ONNX has no transposed form for products of more than one matrix",
    ),
    "a bias that is missing": (
        """
        <ir_version: 8, opset_import: ["" : 9]>
        g (float[4,5] x, float[4,3] w) => (float[5,3] y) { a = Transpose (x) y = MatMul (a, w) }
        """,
        "opset 9 < 11: Gemm needs a bias",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(FuseTransposeMatmul(), text, typed=True)
    found = [f"{item.node}: {item.reason}" for item in result.refusals if not item.miss]
    assert found == [f"y: {reason}"]
