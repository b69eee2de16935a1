"""Quantization parameters: chosen from ranges and weights, applied exactly as ONNX defines it.

    QuantizeLinear    q = saturate(round(x / scale) + zero_point)      round: half to even
    DequantizeLinear  x = (q - zero_point) * scale

Everything is computed in float32, as runtimes do, so that results here are theirs bit for bit.
Ranges always include zero: padding and Relu produce it, and it must be exact.
Source: ONNX operators QuantizeLinear-25 and DequantizeLinear-25; Jacob et al.: Quantization and
Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference (2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.ir import DType, Tensor

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Integers = npt.NDArray[np.integer[Any]]

LIMITS: Final = {
    DType.U8: (0, 255),
    DType.I8: (-128, 127),
    DType.I32: (-(2**31), 2**31 - 1),
    DType.U4: (0, 15),
    DType.I4: (-8, 7),
}
"""Least and greatest integer of the types that numbers are quantized to."""
_TINY: Final = float(np.finfo(np.float32).tiny)
_BIAS_STEPS: Final = 2**24
"""Steps of a bias where no weight decides its scale; enough for every bit of a float32."""
_BIAS_LIMIT: Final = 2**30
"""The largest bias: the other half of int32 is left to the products."""


@dataclass(frozen=True)
class QuantParams:
    """How the elements of one tensor are quantized.

    Attributes:
        dtype: the integer type.
        scales: one, or one per slice along `axis`; float32 numbers above zero.
        zero_points: as many.
        axis: the axis that scales differ along; None: one scale for the whole tensor.
    """

    dtype: DType
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        low, high = LIMITS[self.dtype]
        if len(self.scales) != len(self.zero_points):
            raise ValueError("a scale needs its zero point")
        if self.axis is None and len(self.scales) != 1:
            raise ValueError("several scales need an axis")
        if not all(0 < scale < math.inf for scale in self.scales):
            raise ValueError("a scale must be a positive number")
        if not all(low <= zero <= high for zero in self.zero_points):
            raise ValueError(f"a zero point is not of type {self.dtype.value}")

    @property
    def limits(self) -> tuple[int, int]:
        """Least and greatest integer of the type."""
        return LIMITS[self.dtype]

    @property
    def is_symmetric(self) -> bool:
        """Whether all zero points are the middle: 0 for s8, 128 for u8."""
        low, high = self.limits
        return set(self.zero_points) == {(low + high + 1) // 2}

    @property
    def interval(self) -> tuple[float, float]:
        """Least and greatest real number that the first scale represents."""
        low, high = self.limits
        zero, scale = self.zero_points[0], np.float32(self.scales[0])
        return float(np.float32(low - zero) * scale), float(np.float32(high - zero) * scale)

    @property
    def scale_array(self) -> Floats:
        """The scales as an operand: a scalar, or a vector along `axis`."""
        found = np.array(self.scales, np.float32)
        return found.reshape(()) if self.axis is None else found

    @property
    def zero_point_array(self) -> Integers:
        """The zero points as an operand, in the integer type."""
        found = np.array(self.zero_points).astype(self.dtype.numpy)
        return found.reshape(()) if self.axis is None else found

    def quantize(self, values: npt.NDArray[Any]) -> Integers:
        """The integers of real numbers: QuantizeLinear of float32."""
        low, high = self.limits
        scale, zero = self._spread(values.ndim)
        # float64 holds what float32 cannot: the largest int32.
        with np.errstate(over="ignore"):
            steps = np.rint(values.astype(np.float32) / scale).astype(np.float64)
        integers: Integers = np.clip(steps + zero, low, high).astype(self.dtype.numpy)
        return integers

    def dequantize(self, integers: npt.NDArray[Any]) -> Floats:
        """The real numbers of integers: DequantizeLinear to float32."""
        scale, zero = self._spread(integers.ndim)
        steps = (integers.astype(np.int64) - zero).astype(np.float32)
        return (steps * scale).astype(np.float32)

    def _spread(self, rank: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        scale, zero = np.array(self.scales, np.float32), np.array(self.zero_points, np.int64)
        shape = [1] * rank
        if self.axis is not None:
            shape[self.axis] = -1
        return scale.reshape(shape), zero.reshape(shape)


def activation_params(
    low: float,
    high: float,
    dtype: DType = DType.U8,
    *,
    symmetric: bool = False,
    bits: int = 8,
) -> QuantParams:
    """Parameters of a tensor whose elements lie between `low` and `high`.

    Args:
        low: least element; the range is widened to include zero.
        high: greatest element.
        dtype: `U8` or `I8`.
        symmetric: let the zero point be the middle of the type; else the range is used up.
        bits: significant bits of the integers; with fewer than 8 the upper ones stay unused.

    Raises:
        ValueError: a limit is not a finite number, or the limits are in the wrong order.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{low:g} to {high:g} is no range of numbers")
    low, high = min(low, 0.0), max(high, 0.0)
    least, most = _narrowed(dtype, bits)
    if symmetric:
        zero = (least + most + 1) // 2
        scale = _scale(max(-low, high) / (most - zero))
        return QuantParams(dtype, (scale,), (zero,))
    scale = _scale((high - low) / (most - least))
    zero = int(np.clip(round(least - low / scale), least, most))
    return QuantParams(dtype, (scale,), (zero,))


def with_its_ends(low: float, high: float, bits: int = 8) -> tuple[float, float]:
    """The smallest range whose integers, used up by it, reach `low` and `high`.

    Zero has an integer, so the least and the greatest integer may else stand for a number up to
    half a step inside of the range. What lies beyond the ends comes out as the ends here, which
    is exact where a function behind has one result from there on.

    Args:
        low: at most zero.
        high: at least zero.
        bits: of the integers.
    """
    levels = 2**bits - 1
    if low == 0 or high == 0:
        return low, high
    zero = min(math.ceil(-low / ((high - low) / levels)), levels - 1)
    scale = max(-low / zero, high / (levels - zero))
    return -zero * scale, (levels - zero) * scale


def weight_params(
    weights: npt.NDArray[Any],
    axis: int | None,
    dtype: DType = DType.I8,
    *,
    symmetric: bool = True,
    bits: int = 8,
) -> QuantParams:
    """Parameters of a constant tensor from its own elements.

    Args:
        weights: the elements.
        axis: one scale per slice along this axis; None: one for all.
        dtype: the integer type.
        symmetric: let the zero point be 0 (`I8`, `I4`) or the middle (`U8`, `U4`), and the
            integers be as many above it as below.
        bits: significant bits of the integers; 7 keeps sums of two products with u8 activations
            within 16 bits.
    """
    flat = weights.reshape(1, -1) if axis is None else np.moveaxis(weights, axis, 0)
    flat = flat.reshape(flat.shape[0], -1).astype(np.float64)
    low = np.minimum(flat.min(axis=1, initial=0.0), 0.0)
    high = np.maximum(flat.max(axis=1, initial=0.0), 0.0)
    found = [
        activation_params(a, b, dtype, symmetric=symmetric, bits=min(bits, dtype.bits))
        for a, b in zip(low.tolist(), high.tolist(), strict=True)
    ]
    scales = tuple(one.scales[0] for one in found)
    return QuantParams(dtype, scales, tuple(one.zero_points[0] for one in found), axis)


def fit_bias(
    params: QuantParams,
    weights: npt.NDArray[Any],
    bias: npt.NDArray[Any],
    activation: float,
) -> QuantParams:
    """Weight parameters with which a bias fits into int32.

    The bias is added to sums of products, so its scale is that of the activation times that of the
    weights: no choice. Where that overflows, the weights get a coarser scale. A channel of weights
    that are all zero has no scale of its own, and takes one that keeps the bias exact.

    Args:
        params: symmetric parameters of the weights, as `weight_params` made them.
        weights: the weights.
        bias: one element per channel.
        activation: scale of the activations.
    """
    if params.axis is None:
        used, largest = np.array([weights.any()]), np.array([np.abs(bias).max(initial=0.0)])
    else:
        others = tuple(axis for axis in range(weights.ndim) if axis != params.axis)
        used, largest = np.asarray(weights.any(axis=others)), np.abs(bias)
    least = largest.astype(np.float64) / (_BIAS_LIMIT * activation)
    exact = largest.astype(np.float64) / (_BIAS_STEPS * activation)
    scales = np.maximum(params.scales, least)
    scales = np.where(used | (exact == 0), scales, exact)
    found = tuple(map(_scale, scales.tolist()))
    return QuantParams(params.dtype, found, params.zero_points, params.axis)


def bias_params(weights: QuantParams, activation: float) -> QuantParams:
    """Parameters of the int32 bias of a product: scale of the activations times the weights'."""
    scales = np.array(weights.scales, np.float32) * np.float32(activation)
    zeros = (0,) * len(weights.scales)
    axis = None if weights.axis is None else 0
    return QuantParams(DType.I32, tuple(map(_scale, scales.tolist())), zeros, axis)


def quantize_tensor(tensor: Tensor, params: QuantParams) -> Tensor:
    """A constant tensor in integers."""
    return Tensor.from_numpy(params.quantize(tensor.numpy()), params.dtype)


def _narrowed(dtype: DType, bits: int) -> tuple[int, int]:
    """Least and greatest integer of a type with `bits` significant bits."""
    low, high = LIMITS[dtype]
    if bits >= dtype.bits:
        return low, high
    return (0, 2**bits - 1) if low == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _scale(scale: float) -> float:
    """The scale as a normal float32 number; 1 in place of zero, for a tensor of zeros."""
    return float(np.float32(max(scale, _TINY))) if scale else 1.0
