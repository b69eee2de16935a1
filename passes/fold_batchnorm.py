"""Fold BatchNormalization into the linear operation before or after it.

    bn(y) = gamma * (y - mean) / sqrt(variance + epsilon) + beta
          = s * y + t      s = gamma / sqrt(variance + epsilon),  t = beta - mean * s,  per channel

    after a linear operation     bn(W·x + b)  =  (s W)·x + (s b + t)
    before a linear operation    W·bn(x) + b  =  (W s)·x + (b + W·t)

Forms: Conv and ConvTranspose of any rank, grouped too; Gemm; MatMul, with or without the Add of a
constant as bias. Before a Conv that pads, only with t = 0 (`optc.passes.weights` has the algebra).
A BatchNormalization without such a neighbour stays: runtimes have a kernel for it.
Source: ONNX operators BatchNormalization-7, -9, -14 and -15.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from optc.passes.base import RewritePass
from optc.passes.channel_maps import batchnorm_terms
from optc.passes.linear import bias_adder, linear_of
from optc.passes.weights import ChannelAffine, check_after, check_before, fold_after, fold_before
from optc.rewrite.pattern import Rule, const, optional

if TYPE_CHECKING:
    from optc.ir import Value
    from optc.passes.linear import Linear
    from optc.rewrite.driver import Builder
    from optc.rewrite.pattern import Match, Pattern
    from optc.rewrite.trace import Refusal

_BN: Final = "BatchNormalization"
_PARAMETERS: Final = ("gamma", "beta", "mean", "variance")


@dataclass(frozen=True)
class _Form:
    """A linear operation as a pattern.

    Attributes:
        stem: its part of the rule name.
        op_type: its operator.
        with_adder: a constant is added to the result as bias.
        on_left: the weight is the left operand.
    """

    stem: str
    op_type: str
    with_adder: bool = False
    on_left: bool = False

    def pattern(self, op: Any, x: Any, weight: Any, bias: Any) -> Pattern:
        """The operation on `x`."""
        if self.op_type != "MatMul":
            found: Pattern = getattr(op, self.op_type)(x, weight, optional(bias))
            return found
        product = op.MatMul(weight, x) if self.on_left else op.MatMul(x, weight)
        added: Pattern = op.Add(product, const(bias)) if self.with_adder else product
        return added

    def linear(self, match: Match) -> Linear | str:
        """The matched operation, or why it is not linear."""
        adder = match.node("Add") if self.with_adder else None
        return linear_of(match.graph, match.node(self.op_type), adder)


class BatchnormAfter(Rule):
    """Normalization of the result of a linear operation.

    Refuses: what `_norm_error` and `optc.passes.weights.check_after` refuse, among that a result
    that something else uses, and a weight that is not constant or is shared.
    """

    family = "batchnorm"

    def __init__(self, form: _Form) -> None:
        self.form = form
        super().__init__()
        self.name = f"{form.stem}-batchnorm"

    def pattern(
        self,
        op: Any,
        x: Any,
        weight: Any,
        bias: Any,
        gamma: Any,
        beta: Any,
        mean: Any,
        variance: Any,
    ) -> Pattern:
        """The normalized result."""
        return _norm(op, self.form.pattern(op, x, weight, bias), gamma, beta, mean, variance)

    def check(self, match: Match) -> Refusal | None:
        """Refuse when the forms do not fit or the weight cannot be scaled."""
        linear = self.form.linear(match)
        if isinstance(linear, str):
            return match.refuse(linear)
        reason = _norm_error(match, linear.rank, linear.axis, linear.outputs)
        reason = reason or check_after(match.graph, linear, _affine(match), match.root)
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The operation with scaled weight and bias."""
        linear = self.form.linear(match)
        assert not isinstance(linear, str)
        return fold_after(build, linear, _affine(match))


class BatchnormBefore(Rule):
    """Normalization of the data of a linear operation.

    Refuses: what `_norm_error` and `optc.passes.weights.check_before` refuse, among that a
    normalized value that something else uses, and a shift in front of a Conv that pads.
    """

    family = "batchnorm"

    def __init__(self, form: _Form) -> None:
        self.form = form
        super().__init__()
        self.name = f"batchnorm-{form.stem}"

    def pattern(
        self,
        op: Any,
        x: Any,
        weight: Any,
        bias: Any,
        gamma: Any,
        beta: Any,
        mean: Any,
        variance: Any,
    ) -> Pattern:
        """The operation on normalized data."""
        return self.form.pattern(op, _norm(op, x, gamma, beta, mean, variance), weight, bias)

    def check(self, match: Match) -> Refusal | None:
        """Refuse when the forms do not fit, the weight cannot be scaled, or a border is shifted."""
        linear = self.form.linear(match)
        if isinstance(linear, str):
            return match.refuse(linear)
        norm = match.node(_BN)
        reason = _norm_error(match, linear.data_rank, linear.data_axis, linear.inputs)
        if reason:
            return match.refuse(reason)
        affine = _affine(match)
        adder = bias_adder(match.graph, linear.node) if match.root.is_op("MatMul") else None
        if adder and affine.shift is not None:
            return match.refuse(f"left to the bias {adder.label}")
        reason = check_before(match.graph, linear, affine, norm)
        return match.refuse(reason) if reason else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        """The operation on the data itself, with scaled weight and shifted bias."""
        linear = self.form.linear(match)
        assert not isinstance(linear, str)
        return fold_before(build, linear, _affine(match), match.value("x"))


def _norm(op: Any, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> Pattern:
    found: Pattern = op.BatchNormalization(
        x, const(gamma), const(beta), const(mean), const(variance)
    )
    return found


def _norm_error(match: Match, rank: int | None, axis: int, channels: int) -> str | None:
    """Why a normalization is not one affine map per channel of a linear operation, or None.

    Args:
        match: the match.
        rank: dimensions of the normalized value, None when not known.
        axis: the operation's channel axis in it, counted from the end.
        channels: the operation's number of channels in it.
    """
    if match.attribute(_BN, "training_mode"):
        return f"{_BN} is in training mode"
    if sum(value is not None for value in match.node(_BN).outputs) > 1:
        return f"{_BN} has the outputs of the training form"
    if match.attribute(_BN, "spatial") == 0:
        return f"{_BN} has parameters per place (spatial = 0)"
    if rank is None:
        return f"rank of the normalized value is not known, so {_BN}'s channel axis is not"
    if rank + axis != 1:
        return f"{_BN}'s channels are axis 1, the operation's are axis {rank + axis}"
    for name in _PARAMETERS:
        tensor = match.tensor(name)
        if tensor is not None and tensor.shape != (channels,):
            return f"{name} {tensor.type} does not fit {channels} channels"
    return None


def _affine(match: Match) -> ChannelAffine:
    """The normalization as scale and shift; not finite when the variance is not positive."""
    scale, shift = batchnorm_terms(match.graph, match.node(_BN))
    return ChannelAffine(scale, shift)


_CONV: Final = _Form("conv", "Conv")
_CONV_TRANSPOSE: Final = _Form("conv-transpose", "ConvTranspose")
_GEMM: Final = _Form("gemm", "Gemm")
_MATMUL: Final = _Form("matmul", "MatMul")
_MATMUL_BIAS: Final = _Form("matmul-bias", "MatMul", with_adder=True)
_MATMUL_LEFT: Final = _Form("matmul", "MatMul", on_left=True)
_MATMUL_LEFT_BIAS: Final = _Form("matmul-bias", "MatMul", with_adder=True, on_left=True)


class FoldBatchnorm(RewritePass):
    """Fold BatchNormalization into the Conv, ConvTranspose, Gemm or MatMul before or after it."""

    name = "fold-batchnorm"
    rules: ClassVar[tuple[Rule, ...]] = (
        *map(BatchnormAfter, (_CONV, _CONV_TRANSPOSE, _GEMM, _MATMUL, _MATMUL_BIAS)),
        *map(BatchnormBefore, (_CONV, _CONV_TRANSPOSE, _GEMM, _MATMUL, _MATMUL_BIAS)),
        *map(BatchnormBefore, (_MATMUL_LEFT, _MATMUL_LEFT_BIAS)),
    )
