"""Random tensors that are the same bytes on every machine, CPU and numpy version.

Raw output of a seeded PCG64 is fixed by numpy's policy (NEP 19); the distributions of
`numpy.random` are not. So values come from raw words by exact arithmetic: integers, and float64
operations that IEEE 754 rounds in one way only. No libm is involved.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.ir.types import DType

if TYPE_CHECKING:
    import numpy.typing as npt

    from optc.numerics.values import Array

_WORDS: Final = ("", "a", "optc", "two words", "naïve", "0", "longer than a small string buffer")
_BELL_TERMS: Final = 12  # the sum of 12 uniform terms of width 1 has variance 1
_BELL_SCALE: Final = 0.9999  # fills the mantissa: sums on a 2^-16 grid would hide rounding errors


def draw_bell(stream: str, dtype: DType, shape: tuple[int, ...]) -> Array:
    """Bell-shaped numbers with mean 0 and standard deviation 1, all within ±6.

    The sum of twelve uniform numbers (Irwin-Hall). Types without a sign get absolute values.
    """
    if dtype in (DType.C64, DType.C128):
        real = draw_bell(f"{stream}/re", DType.F64, shape)
        return np.asarray((real + 1j * draw_bell(f"{stream}/im", DType.F64, shape)), dtype.numpy)
    count = math.prod(shape)
    parts = _words(stream, count * _BELL_TERMS // 4).view(np.uint16).reshape(count, _BELL_TERMS)
    sums = parts.sum(axis=1, dtype=np.int64) * 2 - _BELL_TERMS * 0xFFFF
    values = sums * (_BELL_SCALE / 0x20000)
    if dtype is DType.F8E8M0:
        values = np.maximum(np.abs(values), 2.0**-8)
    result: Array = values.astype(dtype.numpy).reshape(shape)
    return result


def draw_range(stream: str, dtype: DType, shape: tuple[int, ...], low: float, high: float) -> Array:
    """Numbers spread evenly over `low` to `high`, both included.

    Raises:
        ValueError: the bounds are not in order, not finite, or not values of the type.
    """
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{low} to {high} is not a range")
    count = math.prod(shape)
    if dtype.is_integer or dtype is DType.BOOL:
        values: npt.NDArray[np.generic] = _integers(stream, count, dtype, low, high)
    elif dtype.is_float:
        unit = (_words(stream, count) >> np.uint64(11)) * 2.0**-53
        values = np.clip(low + (high - low) * unit, low, high)
    else:
        raise ValueError(f"elements of type {dtype.value} have no range")
    result: Array = values.astype(dtype.numpy).reshape(shape)
    return result


def draw_strings(stream: str, shape: tuple[int, ...]) -> Array:
    """Short words, the empty one and a non-ASCII one among them."""
    picks = _words(stream, math.prod(shape)) % np.uint64(len(_WORDS))
    return np.array(_WORDS, dtype=object)[picks.astype(np.intp)].reshape(shape)


def integer_limits(dtype: DType) -> tuple[int, int]:
    """Least and greatest value of an integer type; 0 and 1 for bool."""
    if dtype is DType.BOOL:
        return 0, 1
    if dtype.value.startswith("u"):
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def _integers(
    stream: str, count: int, dtype: DType, low: float, high: float
) -> npt.NDArray[np.generic]:
    least, greatest = integer_limits(dtype)
    if low < least or high > greatest or low != int(low) or high != int(high):
        raise ValueError(
            f"{low} to {high} are not both integers from {least} to {greatest} ({dtype.value})"
        )
    span = int(high) - int(low) + 1
    offsets = _words(stream, count)
    if span < 1 << 64:
        offsets = offsets % np.uint64(span)
    # Two's complement: adding modulo 2^64 and reinterpreting is right for signed types as well.
    sums = offsets + np.uint64(int(low) % (1 << 64))
    return sums if dtype.value.startswith("u") else sums.view(np.int64)


def _words(stream: str, count: int) -> npt.NDArray[np.uint64]:
    digest = hashlib.sha256(stream.encode()).digest()
    generator = np.random.PCG64(int.from_bytes(digest[:16], "little"))
    return np.asarray(generator.random_raw(count), dtype=np.uint64)
