"""Raise a product of two matrices and its bias to Gemm.

    Add(MatMul(a, b), c)  =  Gemm(a, b, c)      a and b of two dimensions, c broadcast to the result

A product of more dimensions stays MatMul and Add: Gemm has two only. The element types of the two
operators are the same in every opset.
Source: ONNX operators MatMul-13, Add-14, Gemm-13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from optc.ir import dims
from optc.ir.shape_site import shape_of
from optc.passes.base import RewritePass
from optc.rewrite.pattern import Rule

if TYPE_CHECKING:
    from optc.ir import Value
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_RANK: Final = 2


class MatmulAdd(Rule):
    """A MatMul of matrices and an Add become a Gemm.

    Refuses: more or fewer than two dimensions, or a number that is not known; a summand that
    enlarges the product, or may; a product that something else uses.
    """

    def pattern(self, op: Any, a: Pattern, b: Pattern, c: Pattern) -> Pattern:
        """The sum, in either order."""
        root: Pattern = op.Add(op.MatMul(a, b), c)
        return root

    def check(self, match: Match) -> Refusal | None:
        """Refuse what is not matrices, and a summand that a Gemm cannot broadcast."""
        graph = match.graph
        left, right, added = (shape_of(graph, match.value(name)) for name in "abc")
        if left is None or right is None or added is None:
            return match.refuse("the rank of an operand is not known")
        if len(left) != _RANK or len(right) != _RANK:
            return match.refuse(f"MatMul has {len(left)} and {len(right)} dimensions, Gemm has 2")
        if len(added) > _RANK:
            return match.refuse(f"{match.value('c').name} has {len(added)} dimensions")
        columns = zip(reversed((left[0], right[1])), reversed(added), strict=False)
        if not all(dim == 1 or dims.equal(dim, size) for size, dim in columns):
            return match.refuse(f"{match.value('c').name} may enlarge the product")
        if (use := match.other_use("MatMul")) is not None:
            return match.refuse_use("MatMul", use)
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The Gemm."""
        return build.Gemm(match.value("a"), match.value("b"), match.value("c"))


class RaiseGemm(RewritePass):
    """Raise MatMul and Add of matrices to Gemm (see MatmulAdd for what it refuses)."""

    name: ClassVar[str] = "raise-gemm"
    rules: ClassVar[tuple[Rule, ...]] = (MatmulAdd(),)
