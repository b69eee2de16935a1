"""Equalize the ranges of the channels between linear operations that follow each other.

    W2 · f(W1 · x + b)  →  (W2 s) · f((W1 / s) · x + b / s)        f(x / s) = f(x) / s

f is what a positive factor crosses: Relu, pools, Transpose, Reshape, Concat, sums, see
`optc.passes.upward`. s is found per operation by search, see `optc.passes.rescaling`; it holds
powers of two, so the result is bit for bit what it was, and no operation is added.
Source: Nagel et al.: Data-Free Quantization through Weight Equalization and Bias Correction (2019).
"""

from __future__ import annotations

from typing import ClassVar

from optc.passes.rescale_channels import RescaleChannels, RescaleOptions


class EqualizeChannels(RescaleChannels):
    """Rescale the channels between convolutions, where what makes the data takes the factors.

    Refuses: data that was not finite or had no element; data that something else uses, or that an
    operation makes which a factor does not cross; factors that gain less than `min_gain`.
    """

    name: ClassVar[str] = "equalize-channels"
    Options = RescaleOptions
    operators: ClassVar[tuple[str, ...]] = ("Conv",)
