"""Compute with a common factor once.

    a * x + b * x          =  (a + b) * x          also differences, and x constant
    x + b * x              =  (b + 1) * x          also differences; b has fewer elements than x
    (q * c) @ (k * d)      =  (q * c d) @ k        c and d one constant number each

The second is squeeze-and-excitation with a shortcut (RSEFPN of PP-OCR). The third is what
scaled_dot_product_attention of PyTorch exports: the square root of the scale on both sides. What is
left of that is one factor, which `fold-affine` and `move-affine` may fold.
Measurement of the second: benchmarks/results/gates-2026-11.md.
Source: ONNX operators Mul-14, Add-14, Sub-14, MatMul-13.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optc.ir import TensorType
from optc.ir.dims import equal
from optc.ir.shape_site import shape_of
from optc.passes.base import RewritePass
from optc.passes.weights import FLOATS, factor_error
from optc.rewrite.pattern import Rule, const, either

if TYPE_CHECKING:
    from optc.ir import Value
    from optc.ir.types import Shape
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal


class SumOfProducts(Rule):
    """A sum or difference of two products with a factor in common takes it after.

    Refuses: products that share no factor; other factors of different shapes, whose sum may be
    larger than either; a product that something else uses, which would stay.
    """

    def pattern(self, op: Any, a: Pattern, x: Pattern, b: Pattern, y: Pattern) -> Pattern:
        """The sum of two products."""
        first, second = op.Mul(a, x, name="first"), op.Mul(b, y, name="second")
        root: Pattern = op.any("Add", "Sub")(first, second, name="sum")
        return root

    def check(self, match: Match) -> Refusal | None:
        """Refuse unless both products go and the factor is the same."""
        factor = self._factor(match)
        if factor is None:
            return match.refuse("the products have no factor in common")
        if match.node("first") is match.node("second"):
            return match.refuse("both summands are the same product")
        left, right = (shape_of(match.graph, value) for value in factor[:2])
        if (
            left is None
            or right is None
            or len(left) != len(right)
            or not all(map(equal, left, right))
        ):
            return match.refuse("the other factors are not known to have the same shape")
        for name in ("first", "second"):
            if (use := match.other_use(name)) is not None:
                return match.refuse_use(name, use)
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """One product."""
        factor = self._factor(match)
        assert factor is not None
        left, right, common = factor
        total = match.node("sum")
        combined = build.node(total.op_type, (left, right), like=total).output
        build.graph.set_type(combined, left.type)
        return build.Mul(combined, common, like=match.node("first"))

    def _factor(self, match: Match) -> tuple[Value, Value, Value] | None:
        """What is left of each product, and the common factor."""
        first = (match.value("a"), match.value("x"))
        second = (match.value("b"), match.value("y"))
        for i, left in enumerate(first):
            for j, right in enumerate(second):
                if _equal(left, right):
                    return first[1 - i], second[1 - j], left
        return None


class SumWithProduct(Rule):
    """A sum or difference of a value and its product takes the value after.

    The sum is then of the elements of the other factor, which are fewer: the gates of channels.

    Refuses: another factor that is not known to have fewer elements; a product that something else
    uses, which would stay.
    """

    def pattern(self, op: Any, x: Pattern, b: Pattern) -> Pattern:
        """The value and its product, in the order of a difference."""
        product, sums = op.Mul(x, b, name="product"), op.any("Add", "Sub")
        return either(sums(x, product, name="sum"), sums(product, x, name="sum"))

    def check(self, match: Match) -> Refusal | None:
        """Refuse unless the product goes and its other factor is smaller."""
        x, factor = match.value("x"), match.value("b")
        if not isinstance(x.type, TensorType) or x.type.dtype not in FLOATS:
            return match.refuse("only floats are factored")
        if not _is_smaller(shape_of(match.graph, factor), shape_of(match.graph, x)):
            return match.refuse(f"{factor.name} is not known to have fewer elements than {x.name}")
        if (use := match.other_use("product")) is not None:
            return match.refuse_use("product", use)
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """One more than the factor, or the difference from one, and one product."""
        x, factor, total = match.value("x"), match.value("b"), match.node("sum")
        assert isinstance(x.type, TensorType)
        one = build.constant(1.0, dtype=x.type.dtype, name=f"{total.key}_one")
        first = match.graph.operand(total, 0) is x
        terms = (one, factor) if first else (factor, one)
        gain = build.node(total.op_type, terms, like=total).output
        build.graph.set_type(gain, factor.type)
        return build.Mul(x, gain, like=match.node("product"))


def _is_smaller(shape: Shape | None, other: Shape | None) -> bool:
    """Whether a shape broadcasts to the other one, and an axis of it for sure."""
    if shape is None or other is None or len(shape) > len(other):
        return False
    axes = list(zip((1,) * (len(other) - len(shape)) + tuple(shape), other, strict=True))
    fits = all(size == 1 or equal(size, whole) for size, whole in axes)
    return fits and any(size == 1 != whole for size, whole in axes)


def _equal(left: Value, right: Value) -> bool:
    """Whether two values are the same one, or equal constants."""
    if left is right:
        return True
    a, b = left.constant, right.constant
    return a is not None and b is not None and a.same_as(b)


class ProductOfScaled(Rule):
    """Of a constant number on both sides of a product, one side gets both.

    Refuses: constants of more than one element; a scaled value that something else uses; a product
    of the two that overflows or becomes subnormal.
    """

    def pattern(self, op: Any, q: Pattern, c: Pattern, k: Pattern, d: Pattern) -> Pattern:
        """The product of two scaled values."""
        left, right = op.Mul(q, const(c), name="left"), op.Mul(k, const(d), name="right")
        root: Pattern = op.MatMul(left, right)
        return root

    def check(self, match: Match) -> Refusal | None:
        """Refuse unless both constants are numbers whose product the type holds."""
        for name in ("c", "d"):
            tensor = match.tensor(name)
            assert tensor is not None
            if tensor.elements != 1 or len(tensor.shape) > 1:
                return match.refuse(f"{match.value(name).name} is not one number")
            if tensor.dtype not in FLOATS:
                return match.refuse(f"{tensor.dtype.value} arithmetic is not folded")
        if match.node("left") is match.node("right"):
            return match.refuse("both sides are the same value")
        for name in ("left", "right"):
            if (use := match.other_use(name)) is not None:
                return match.refuse_use(name, use)
        dtype = match.tensor("c")
        assert dtype is not None
        reason = factor_error(self._product(match), dtype.dtype, "the product")
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The first value scaled by both, and the second as it is."""
        factor = build.like(self._product(match), match.value("c"))
        scaled = build.Mul(match.value("q"), factor, like=match.node("left"))
        build.graph.set_type(scaled, match.node("left").output.type)
        return build.MatMul(scaled, match.value("k"), like=match.node("MatMul"))

    def _product(self, match: Match) -> np.ndarray[Any, np.dtype[np.float64]]:
        with np.errstate(all="ignore"):
            number = match.array("c").reshape(-1)[0] * match.array("d").reshape(-1)[0]
            return np.full(match.array("c").shape, number)


class CommonFactors(RewritePass):
    """Compute with a common factor once (see the rules for what they refuse)."""

    name: ClassVar[str] = "common-factors"
    rules: ClassVar[tuple[Rule, ...]] = (SumOfProducts(), SumWithProduct(), ProductOfScaled())
