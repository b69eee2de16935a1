"""Round weights up or down so that the error of their products is least, not that of themselves.

    min over q:  |X q - Y|²            X: rows of data in whole steps, Y: the products to reach

Rounding to nearest minimizes the error of each weight. Errors of weights whose data is correlated
can cancel in the sum, though, so that rounding some of them to the other side is better. With
G = XᵀX and the error of rounding D = q - V, V the weights in steps, the objective is quadratic:

    Dᵀ G D + 2 Dᵀ B                    B = Xᵀ (X V - Y): what rounding of the data adds

Single weights are moved to their other neighbour as long as that is a gain (coordinate descent),
from two starts. A multiple of the mean square of the data on the diagonal of G keeps the
moves from fitting the few rows that stand for the data. Where a bias takes back the mean error, G
and B are those of the data less its mean: data behind a Relu is mostly mean, and with that in G no
single move is a gain.

All numbers are integers that float64 holds exactly: a sum does not depend on its order, so the
result does not depend on the number of threads.
Source: Nagel et al.: Up or Down? Adaptive Rounding for Post-Training Quantization (2020), which
has the objective and relaxes it instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from optc.numerics.quantize import QuantParams

    Array = npt.NDArray[np.float64]

_FRACTION: Final = 2.0**8
"""Parts of a step that differences are rounded to."""
_FIRST: Final = 2.0**6
"""Steps of data that is not quantized, up to the greatest magnitude of the first rows."""
_MOST: Final = 2.0**8 - 1
"""Steps of any data."""
_WEIGHT: Final = 2.0**4
"""Parts of a step of a weight that the error of data is multiplied with."""
_ROWS: Final = 256
_BLOCK: Final = 32
_SWEEPS: Final = 4


class Products:
    """The sums that decide, over rows of data: 2^14 of 2^8 steps stay exact with 2^14 terms.

    Args:
        weights: [groups, terms, outputs], in steps.
        params: how the data is quantized, with one scale; None: it is not.
    """

    def __init__(self, weights: npt.NDArray[Any], params: QuantParams | None) -> None:
        groups, terms, _ = weights.shape
        self._weights = weights.astype(np.float64)
        self._coarse = np.rint(self._weights * _WEIGHT) / _WEIGHT
        self._params = params
        self._step = 0.0
        self._gram = np.zeros((groups, terms, terms))
        self._pull = np.zeros(weights.shape)
        self._sum = np.zeros((groups, terms, 1))
        self._added = np.zeros((groups, 1, weights.shape[2]))
        self.rows = 0

    def add(self, rows: npt.NDArray[Any]) -> None:
        """Take rows in: [rows, groups, terms]."""
        for start in range(0, len(rows), _ROWS):
            self._add(rows[start : start + _ROWS].transpose(1, 0, 2))
        self.rows += len(rows)

    def _add(self, rows: npt.NDArray[Any]) -> None:
        if self._params is None:
            self._step = self._step or float(np.abs(rows).max(initial=0.0)) / _FIRST
            whole = np.clip(np.rint(rows / (self._step or 1.0)), -_MOST, _MOST).astype(np.float32)
        else:
            params = self._params
            whole = params.quantize(rows).astype(np.float32) - np.float32(params.zero_points[0])
            lost = whole - rows.astype(np.float64) / params.scales[0]
            added = np.rint(np.rint(lost * _FRACTION) @ self._coarse)
            self._pull += whole.transpose(0, 2, 1).astype(np.float64) @ added
            self._added += added.sum(axis=1, keepdims=True)
        # So few rows of so few steps are exact in float32, at twice the speed.
        self._gram += whole.transpose(0, 2, 1) @ whole
        self._sum += whole.astype(np.float64).sum(axis=1)[:, :, None]

    def shift(self, integers: Array) -> Array:
        """The mean error of the products, in steps: [groups, 1, outputs]."""
        error = np.rint((integers - self._weights) * _FRACTION)
        total = self._sum.transpose(0, 2, 1) @ error + self._added
        return np.asarray(total / (_FRACTION * max(self.rows, 1)), np.float64)

    def round(
        self,
        nearest: npt.NDArray[Any],
        limits: tuple[Any, Any],
        damping: float,
        *,
        centred: bool,
    ) -> Array:
        """The integers of the weights, each one of its two neighbours.

        Args:
            nearest: the integers by rounding to nearest.
            limits: least and greatest integer; numbers, or arrays that broadcast to the weights.
            damping: how many times the mean square of the data is added on the diagonal of G.
            centred: whether the mean error does not count, since a bias takes it back.
        """
        gram, pull = self._gram.copy(), self._pull
        if centred:
            # The mean in whole steps keeps sums exact.
            mean = np.rint(self._sum / max(self.rows, 1))
            cross = mean @ self._sum.transpose(0, 2, 1)
            gram += self.rows * (mean @ mean.transpose(0, 2, 1))
            gram -= cross + cross.transpose(0, 2, 1)
            pull = pull - mean @ self._added
        squares = np.diagonal(gram, axis1=1, axis2=2).mean(axis=1)
        gram += np.rint(damping * squares)[:, None, None] * np.eye(gram.shape[1])
        near = np.rint((nearest - self._weights) * _FRACTION)
        other = nearest - np.where(near > 0, 1.0, -1.0)
        # A clipped weight is more than half a step away, and has no other neighbour.
        fixed = (other < limits[0]) | (other > limits[1]) | (np.abs(near) > _FRACTION / 2)
        far = np.where(fixed, near, np.rint((other - self._weights) * _FRACTION))
        # From nearest, and from weights that are rounded one after the other, each so that it
        # makes up for those before it.
        tries = [_descend(gram, pull, (near, far), start) for start in (near, np.zeros_like(near))]
        best = np.where(tries[1][1] < tries[0][1], tries[1][0], tries[0][0])
        return np.where(best == near, nearest, other)


def _descend(
    gram: Array, pull: Array, choices: tuple[Array, Array], start: Array
) -> tuple[Array, Array]:
    """A local optimum of the errors, and its objective: [groups, 1, outputs]."""
    error, slope = start.copy(), gram @ start + pull
    for _ in range(_SWEEPS):
        if not _sweep(gram, slope, error, choices):
            break
    return error, (error * (slope + pull)).sum(axis=1, keepdims=True)


def _sweep(gram: Array, slope: Array, error: Array, choices: tuple[Array, Array]) -> bool:
    """Give each error the better of its choices; keep `slope`, which is G D + B, up to date."""
    any_moved = False
    for start in range(0, gram.shape[1], _BLOCK):
        block = slice(start, min(start + _BLOCK, gram.shape[1]))
        local, square = slope[:, block].copy(), gram[:, block, block]
        change = np.zeros(local.shape)
        for row in range(local.shape[1]):
            index, twice, own = start + row, 2 * local[:, row], square[:, row, row, None]
            one, two = (choice[:, index] - error[:, index] for choice in choices)
            delta = np.where(two * (twice + two * own) < one * (twice + one * own), two, one)
            columns = np.flatnonzero(delta.any(axis=0))
            if not columns.size:
                continue
            change[:, row] = delta
            error[:, index] += delta
            local[:, :, columns] += square[:, :, row, None] * delta[:, None, columns]
            any_moved = True
        slope += gram[:, :, block] @ change
    return any_moved
