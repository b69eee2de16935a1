"""Fuse the transposes of matrices into the product that follows.

    Gemm(Transpose(A), B)    = Gemm(A, B, transA=1 - transA)         and B likewise
    MatMul(Transpose(A), B)  = Gemm(A, B, transA=1)                  two matrices

ONNX has no form for the transposed operand of a product of many matrices; runtimes have their own
and make it themselves. Transposes of constants are computed by `fold-constants`.

Source: ONNX operators Gemm-7, -11, -13, MatMul-13, Transpose-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from optc.ir.shape_site import shape_of
from optc.passes.base import RewritePass
from optc.passes.layouts import perm_of
from optc.rewrite.pattern import Rule, optional

if TYPE_CHECKING:
    from optc.ir import Use, Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_OPTIONAL_SINCE: Final = 11  # the third operand of Gemm: required before


class _TransposeGemm(Rule):
    """A transposed operand of a Gemm.

    Refuses: a Transpose that is used by something else than products (it would stay).
    """

    flag: ClassVar[str]
    operand: ClassVar[int]

    def check(self, match: Match) -> Refusal | None:
        """The Transpose goes."""
        use = _kept_by(match)
        return None if use is None else match.refuse_use("Transpose", use)

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The Gemm with the flag turned around."""
        operands = list(match.graph.operands(match.node("Gemm")))
        operands[self.operand] = match.value("a")
        turned = 0 if match.attribute("Gemm", self.flag) else 1
        attributes = {self.flag: turned or None}
        return build.node("Gemm", operands, like=match.node("Gemm"), attributes=attributes).output


class TransposeGemmA(_TransposeGemm):
    """The first operand of a Gemm is transposed (see `_TransposeGemm` for what it refuses)."""

    flag, operand = "transA", 0

    def pattern(self, op: Any, a: Pattern, b: Pattern, c: Pattern) -> Pattern:
        """Gemm(Transpose(a), b, c)."""
        root: Pattern = op.Gemm(op.Transpose(a), b, optional(c))
        return root


class TransposeGemmB(_TransposeGemm):
    """The second operand of a Gemm is transposed (see `_TransposeGemm` for what it refuses)."""

    flag, operand = "transB", 1

    def pattern(self, op: Any, a: Pattern, b: Pattern, c: Pattern) -> Pattern:
        """Gemm(b, Transpose(a), c)."""
        root: Pattern = op.Gemm(b, op.Transpose(a), optional(c))
        return root


class _TransposeMatmul(Rule):
    """A transposed operand of a MatMul of two matrices.

    Refuses: more than two dimensions, or an unknown number; an opset in which Gemm needs a third
    operand; a Transpose that is used by something else than products.
    """

    flag: ClassVar[str]
    operand: ClassVar[int]

    def check(self, match: Match) -> Refusal | None:
        """Both operands are matrices."""
        for value in match.graph.operands(match.node("MatMul")):
            shape = None if value is None else shape_of(match.graph, value)
            if shape is None or len(shape) != 2:
                return match.refuse(
                    "ONNX has no transposed form for products of more than one matrix"
                )
        if perm_of(match.graph, match.node("Transpose")) != (1, 0):
            return match.refuse("the Transpose does not exchange the dimensions")
        if match.graph.opset < _OPTIONAL_SINCE:
            return match.refuse(f"opset {match.graph.opset} < {_OPTIONAL_SINCE}: Gemm needs a bias")
        use = _kept_by(match)
        return None if use is None else match.refuse_use("Transpose", use)

    def rewrite(self, match: Match, build: Builder) -> Value:
        """A Gemm that transposes."""
        operands = list(match.graph.operands(match.node("MatMul")))
        operands[self.operand] = match.value("a")
        return build.node(
            "Gemm", operands, like=match.node("MatMul"), attributes={self.flag: 1}
        ).output


class TransposeMatmulA(_TransposeMatmul):
    """The first operand of a MatMul is transposed (see `_TransposeMatmul` for what it refuses)."""

    flag, operand = "transA", 0

    def pattern(self, op: Any, a: Pattern, b: Pattern) -> Pattern:
        """MatMul(Transpose(a), b)."""
        root: Pattern = op.MatMul(op.Transpose(a), b)
        return root


class TransposeMatmulB(_TransposeMatmul):
    """The second operand of a MatMul is transposed (see `_TransposeMatmul` for what it refuses)."""

    flag, operand = "transB", 1

    def pattern(self, op: Any, a: Pattern, b: Pattern) -> Pattern:
        """MatMul(b, Transpose(a))."""
        root: Pattern = op.MatMul(b, op.Transpose(a))
        return root


class FuseTransposeMatmul(RewritePass):
    """Fuse transposes of matrices into Gemm."""

    name = "fuse-transpose-matmul"
    rules = (TransposeGemmA(), TransposeGemmB(), TransposeMatmulA(), TransposeMatmulB())


def _kept_by(match: Match) -> Use | None:
    """A use of the Transpose that no rule of this pass takes away."""
    transposed = match.node("Transpose").output
    for use in match.graph.uses(transposed):
        if not use.node.is_op("Gemm", "MatMul") or use.key not in (0, 1):
            return use
    return None
