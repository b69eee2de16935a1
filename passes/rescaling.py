"""Move the spread of channels between activations and weights: exact, and easier to quantize.

    x @ W  =  (x / s) @ (s W)            s: one power of two per input channel

Activations have one scale for the whole tensor, so a channel with large values takes the steps from
all others; weights have a scale per output channel. With

    s = max|x|^a / max|W|^(1 - a)        per input channel

part of the spread moves into the weight: all of it for a = 1, none for what a = 0 keeps of the
weights. The best a is that with which the quantized layer differs least from the real one, on rows
of calibration data. Powers of two make the rewriting exact: only exponents change.
Source: Xiao et al.: SmoothQuant (2023); Nagel et al.: Data-Free Quantization through Weight
Equalization and Bias Correction (2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from optc.passes.layers import decibels, energy, outputs_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Node
    from optc.passes.layers import Floats, Layer, LayerData

Array = npt.NDArray[np.float64]

_LARGEST: Final = 10.0  # exponent of the greatest factor: far from where float32 ends


@dataclass(frozen=True)
class Rescaling:
    """Factors for the input channels of layers that share their data.

    Attributes:
        alpha: how much of the spread moves into the weights.
        scale: s above.
        before: signal-to-noise ratio of the quantized layers without factors, in dB.
        after: that with factors.
    """

    alpha: float
    scale: Array
    before: float
    after: float

    @property
    def gain(self) -> float:
        """What the factors gain, in dB."""
        return self.after - self.before


def best_rescaling(
    layers: Sequence[Layer],
    data: Mapping[Node, LayerData],
    alphas: Sequence[float],
    *,
    symmetric: bool = False,
) -> Rescaling | None:
    """The factors with the least error of the quantized layers; None when no factors are better.

    Args:
        layers: all that multiply the same value with a weight.
        data: what was seen of it.
        alphas: what to try.
        symmetric: whether activations are quantized symmetrically around zero.
    """
    whole = np.ones(len(data[layers[0].node].peaks))
    real = [outputs_of(data[layer.node].rows, layer.matrix) for layer in layers]
    before = _sqnr(layers, data, real, whole, symmetric)
    best: Rescaling | None = None
    for alpha in alphas:
        scale = factors(layers, data[layers[0].node], alpha)
        if (scale == scale[0]).all():
            continue
        after = _sqnr(layers, data, real, scale, symmetric)
        if best is None or after > best.after:
            best = Rescaling(alpha, scale, before, after)
    return best if best is not None and best.gain > 0 else None


def factors(layers: Sequence[Layer], data: LayerData, alpha: float) -> Array:
    """Powers of two, with a geometric mean near one; one for a channel that is always zero."""
    weights = np.max([layer.channel_peaks() for layer in layers], axis=0).astype(np.float64)
    activations = data.peaks.astype(np.float64)
    live = (weights > 0) & (activations > 0)
    exponents = np.zeros(len(weights))
    exponents[live] = alpha * np.log2(activations[live]) - (1 - alpha) * np.log2(weights[live])
    if live.any():
        exponents[live] -= np.median(exponents[live])
    # Rounded first to what does not depend on the kernels that computed the data.
    steps = np.rint(np.round(np.clip(exponents, -_LARGEST, _LARGEST), 3))
    return np.asarray(np.exp2(steps), np.float64)


def _sqnr(
    layers: Sequence[Layer],
    data: Mapping[Node, LayerData],
    real: Sequence[Floats],
    scale: Array,
    symmetric: bool,
) -> float:
    """Signal-to-noise ratio of the quantized layers in dB, rounded; `real` is their outputs."""
    signal = noise = 0.0
    for layer, expected in zip(layers, real, strict=True):
        seen = data[layer.node]
        spread = layer.by_channel(scale).astype(np.float32)
        low, high = seen.low / scale, seen.high / scale
        rows = fake_activations(seen.rows / spread, float(low.min()), float(high.max()), symmetric)
        weights = fake_weights(layer.matrix * spread[:, :, None])
        got = outputs_of(rows, weights)
        signal += energy(expected)
        noise += energy(got - expected)
    return decibels(signal, noise)


def fake_activations(rows: Floats, low: float, high: float, symmetric: bool) -> Floats:
    """Rows as they come back from eight bits with one scale."""
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    step = (high - low) / 255
    if not step:
        return rows
    zero = np.rint(-low / step)
    levels = np.clip(np.rint(rows / step), -zero, 255 - zero)
    found: Floats = (levels * step).astype(np.float32)
    return found


def fake_weights(matrix: npt.NDArray[Any]) -> Floats:
    """Weights as they come back from eight bits with a scale per output channel."""
    step = np.abs(matrix).max(axis=1, keepdims=True, initial=0.0) / 127
    step[step == 0] = 1.0
    found: Floats = (np.rint(matrix / step) * step).astype(np.float32)
    return found
