"""Move the spread of channels from activations into the weights of matrix products.

    norm(x) @ W            →  norm'(x) @ (s W)           1 / s is folded where x is made
    x @ W                  →  (x * 1/s) @ (s W)          or becomes a Mul, where x is used elsewhere

s is found per product by search, see `optc.passes.rescaling`. The result is bit for bit what it
was: s holds powers of two. What is gained is precision of activations with one scale, once
`quantize-int8` follows.
Source: Xiao et al.: SmoothQuant (2023).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from optc.passes.rescale_channels import RescaleChannels, RescaleOptions


class SmoothActivationsOptions(RescaleOptions):
    """Options of `smooth-activations`."""

    alphas: tuple[float, ...] = Field(
        default=(0.2, 0.35, 0.5, 0.65, 0.8),
        min_length=1,
        description="what to try: 1 moves all of the spread of activations into the weights, 0 "
        "all of the spread of the weights into activations",
    )
    insert: bool = Field(
        default=True,
        description="multiply by the factors where they cannot be folded into what makes the "
        "data: one elementwise operation more",
    )


class SmoothActivations(RescaleChannels):
    """Rescale what matrix products with constant weights multiply.

    Refuses: data that was not finite or had no element; factors that gain less than `min_gain`;
    with `insert: false`, data whose factors cannot be folded into what makes it.
    """

    name: ClassVar[str] = "smooth-activations"
    Options = SmoothActivationsOptions
    operators: ClassVar[tuple[str, ...]] = ("MatMul", "Gemm")

    @property
    def may_insert(self) -> bool:
        """Whether a Mul may be added."""
        assert isinstance(self.options, SmoothActivationsOptions)
        return self.options.insert
