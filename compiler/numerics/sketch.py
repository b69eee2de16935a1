"""A few numbers that tell large tensors apart and that the last bits of elements do not change.

    rms(x) = sqrt(mean(x^2))        p_j(x) = sum_i s_ij x_i / (sqrt(n) rms(x)),   s_ij = +1 or -1

The signs are pseudo-random, from the position alone. For two tensors that differ by d (relative, in
the Euclidean norm) each p_j differs by about d, normally distributed, whichever elements differ
(Johnson and Lindenstrauss, 1984; signs: Achlioptas, 2003). So rounding errors of 1e-7 stay below a
tolerance of 3e-4, and a difference of ten times the tolerance passes all four with p < 1e-4. A
digest of rounded elements would not do: of a million elements some always lie at the edge between
two rounded values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.ir import DType

if TYPE_CHECKING:
    from optc.ir import Tensor
    from optc.numerics.values import Array

_PROJECTIONS: Final = 4
_PART: Final = 1 << 20  # elements that are looked at together
_TOLERANCE: Final = 3e-4  # three units of the last digit that is written

# One unit in the last place, relative: what a last bit that falls the other way changes at most.
_UNIT: Final = {DType.F16: 2.0**-10, DType.BF16: 2.0**-7}
_NARROW: Final = 2.0**-5  # eight bits and less: codes that fall to the neighbouring one
_CODES: Final = (
    2.0**-8
)  # wider codes, the biases of int8 products: hundreds of steps, few of them fall


@dataclass(frozen=True)
class Sketch:
    """What is kept of a tensor.

    Attributes:
        rms: root mean square of the finite elements.
        projections: their sums with pseudo-random signs, over sqrt(n) rms.
        odd: number of elements that are not finite.
    """

    rms: float
    projections: tuple[float, ...]
    odd: int = 0

    def __str__(self) -> str:
        odd = f" nonfinite {self.odd}" if self.odd else ""
        # Adding zero turns -0.0 into 0.0.
        numbers = " ".join(f"{round(item, 4) + 0.0:.4f}" for item in self.projections)
        return f"~{self.rms:.4e} ({numbers}){odd}"

    @classmethod
    def parse(cls, text: str) -> Sketch | None:
        """The sketch that is written so; None when the text is none."""
        head, _, rest = text.partition(" (")
        numbers, _, odd = rest.partition(")")
        try:
            projections = tuple(float(item) for item in numbers.split())
            count = int(odd.removeprefix(" nonfinite ") or 0)
            return cls(float(head.removeprefix("~")), projections, count)
        except ValueError:
            return None

    def close_to(self, other: Sketch, dtype: DType) -> bool:
        """Whether tensors of this element type may differ in the rounding of elements only."""
        near = tolerance(dtype)
        if self.odd != other.odd or len(self.projections) != len(other.projections):
            return False
        if abs(self.rms - other.rms) > near * max(self.rms, other.rms):
            return False
        pairs = zip(self.projections, other.projections, strict=True)
        return all(abs(one - two) <= near for one, two in pairs)


def tolerance(dtype: DType, least: float = _TOLERANCE) -> float:
    """Relative difference up to which tensors of this element type count as the same."""
    if dtype.bits <= 8:
        return max(least, _NARROW)
    return max(least, _CODES if dtype.is_integer else _UNIT.get(dtype, 0.0))


def sketch(tensor: Tensor) -> Sketch:
    """The sketch of a tensor of real numbers; its elements are read once."""
    flat = tensor.numpy().reshape(-1)
    scale = max((_largest(flat[i : i + _PART]) for i in range(0, flat.size, _PART)), default=0.0)
    squares, odd = 0.0, 0
    sums = np.zeros(_PROJECTIONS)
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART].astype(np.float64)
        finite = np.isfinite(part)
        odd += int(part.size - finite.sum())
        part = np.where(finite, part, 0.0) / (scale or 1.0)
        squares += float(np.square(part).sum())
        bits = _hash(np.arange(start, start + part.size, dtype=np.uint64))
        for index in range(_PROJECTIONS):
            negative = (bits >> np.uint64(index)) & np.uint64(1)
            sums[index] += np.where(negative, -part, part).sum()
    norm = float(np.sqrt(squares)) or 1.0
    rms = scale * float(np.sqrt(squares / max(flat.size - odd, 1)))
    return Sketch(rms, tuple(float(item) / norm for item in sums), odd)


def _largest(part: Array) -> float:
    values = np.abs(part.astype(np.float64))
    return float(values[np.isfinite(values)].max(initial=0.0))


def _hash(numbers: Any) -> Any:
    """SplitMix64 (Steele, Lea and Flood, 2014): 64 mixed bits per number, modulo 2^64."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
