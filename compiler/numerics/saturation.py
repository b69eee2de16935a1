"""Sums of int8 products on CPUs without VNNI, exactly: when they saturate, and what they then are.

VPMADDUBSW multiplies two unsigned bytes by two signed ones and adds both products in signed 16 bits
*with saturation*; only then are sums widened to 32 bits:

    sum over pairs of  clamp(a0 w0 + a1 w1, -32768, 32767)        255 * 127 * 2 = 64770

VNNI adds four products into 32 bits at once, and is exact. Which two terms of a dot product make a
pair is a matter of the kernel. Both runtimes run along the terms of the sum, the channels of a
convolution innermost:

    terms       neighbours of the whole sum: all matrix products, convolutions of ONNX Runtime; the
                last term of an odd sum is alone
    positions   as terms, but each kernel position of a convolution in one group begins anew, which
                pads odd channel counts: OpenVINO on AVX2
    columns     so it does in all convolutions; where a group has one channel, kernel positions are
                the terms, column by column: OpenVINO on AVX-512

A convolution with one channel per group and output has no pairs: its kernels multiply elementwise
in wider integers. Signed activations become unsigned by adding 128, which a term without activation
takes back.

A sum cannot saturate when no pair of weights can drive it there, whatever the activations are. That
is decided from the weights themselves: `find_saturation` proves it or gives a counterexample, and
`safe_scales` finds the finest scales with which it holds, which are never coarser than those of
weights of 7 bits, and mostly finer: a large weight seldom stands beside another of its sign.

Source: Intel SDM, VPMADDUBSW; oneDNN, "Nuances of int8 computations"; the pairs were compared bit
for bit with onnxruntime 1.32 on a CPU with AVX2, and with OpenVINO 2026.4 held at AVX2 and at
AVX-512 without VNNI (tests/test_simulation.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from optc.targets.kernels import PAIRINGS, Pairing

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Integers: TypeAlias = npt.NDArray[np.integer[Any]]
    Floats: TypeAlias = npt.NDArray[np.float32]

ANY: Final[tuple[Pairing, ...]] = tuple(PAIRINGS)
"""Every pairing; what holds for all of them holds on every kernel."""

LOWEST: Final = -(2**15)
HIGHEST: Final = 2**15 - 1
_BYTE: Final = (0, 255)
_ROWS: Final = 4096  # of activations that are widened at once


@dataclass(frozen=True)
class Product:
    """How the weights of an operation make dot products.

    Attributes:
        op: ``Conv``, ``MatMul`` or ``Gemm``; the weights are the second operand of it, as ONNX lays
            them out.
        group: groups of a convolution.
        transposed: whether a Gemm has its weights transposed (``transB``).
    """

    op: Literal["Conv", "MatMul", "Gemm"]
    group: int = 1
    transposed: bool = False

    def has_pairs(self, shape: tuple[int, ...]) -> bool:
        """Whether products of such weights are added in pairs at all.

        Args:
            shape: of the weights.
        """
        return self.op != "Conv" or shape[1] > 1 or self.group != shape[0] or self.group == 1

    def pairs(self, weights: npt.NDArray[Any], pairing: Pairing) -> npt.NDArray[Any]:
        """The weights as [outputs, pairs, 2]; a term without partner has a zero for one.

        Outputs are those of a MatMul with its batches in front, and the channels of a convolution.
        """
        return _paired(self._rows(weights, pairing))

    def indices(self, shape: tuple[int, ...], pairing: Pairing) -> Integers:
        """Places in the flat weights of what `pairs` gives; -1 where it has a zero of its own."""
        count = int(np.prod(shape, dtype=np.int64))
        return self.pairs(np.arange(1, count + 1).reshape(shape), pairing) - 1

    def operand_pairs(self, windows: npt.NDArray[Any], pairing: Pairing) -> npt.NDArray[Any]:
        """Activations as [rows, pairs, 2], to go with `pairs`.

        Args:
            windows: what one row multiplies: [rows, terms], or of a convolution the channels of one
                group as [rows, channels, kernel...].
            pairing: as in `pairs`.
        """
        if self.op == "Conv":
            return _paired(self._ordered(windows, pairing))
        return _paired(windows.reshape(windows.shape[0], -1, windows.shape[-1]))

    def _rows(self, weights: npt.NDArray[Any], pairing: Pairing) -> npt.NDArray[Any]:
        """The weights as [outputs, sums, terms]."""
        if self.op == "Conv":
            return self._ordered(weights, pairing)
        if weights.ndim == 1:
            weights = weights[:, None]
        rows = weights if self.transposed else np.swapaxes(weights, -1, -2)
        return rows.reshape(-1, 1, rows.shape[-1])

    def _ordered(self, array: npt.NDArray[Any], pairing: Pairing) -> npt.NDArray[Any]:
        """What a convolution multiplies, [rows, channels, kernel...], as [rows, sums, terms]."""
        if pairing == "columns" and array.shape[1] == 1:
            axes = (0, *range(array.ndim - 1, 0, -1))
            return array.transpose(axes).reshape(array.shape[0], 1, -1)
        moved = np.moveaxis(array, 1, -1)
        whole = pairing == "terms" or (pairing == "positions" and self.group > 1)
        return moved.reshape(moved.shape[0], 1 if whole else -1, -1 if whole else moved.shape[-1])


def _paired(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows of [sums, terms] cut into pairs, [rows, pairs, 2]."""
    if rows.shape[-1] % 2:
        rows = np.concatenate([rows, np.zeros_like(rows[..., :1])], axis=-1)
    return rows.reshape(rows.shape[0], -1, 2)


@dataclass(frozen=True)
class Witness:
    """Activations that drive a sum beyond 16 bits.

    Attributes:
        output: the output channel or column, batches in front.
        terms: places of both weights in the flat tensor; -1 for the zero beside a single weight.
        weights: both weights.
        activations: both activations, as unsigned bytes.
        total: what the sum is; the CPU gives -32768 or 32767 instead.
    """

    output: int
    terms: tuple[int, int]
    weights: tuple[int, int]
    activations: tuple[int, int]
    total: int

    def __str__(self) -> str:
        (a, b), (v, w) = self.activations, self.weights
        return f"{a} x {v} + {b} x {w} = {self.total} in output {self.output}"


def find_saturation(
    weights: Integers,
    product: Product,
    *,
    activations: tuple[int, int] = _BYTE,
    pairings: Iterable[Pairing] = ANY,
) -> Witness | None:
    """The worst sum of a pair that does not fit into 16 bits; None proves that there is none.

    Args:
        weights: signed integers, as ONNX lays them out.
        product: how they are multiplied.
        activations: least and greatest activation, as unsigned bytes: s8 counts with 128 added.
        pairings: of the kernels that may run.
    """
    if not weights.size or not product.has_pairs(weights.shape):
        return None
    found = (_worst(weights, product, activations, pairing) for pairing in pairings)
    return max(
        (one for one in found if one is not None),
        key=lambda one: abs(one.total),
        default=None,
    )


def _worst(
    weights: Integers, product: Product, activations: tuple[int, int], pairing: Pairing
) -> Witness | None:
    low, high = activations
    pairs = product.pairs(weights.astype(np.int32), pairing)
    most = np.maximum(pairs * low, pairs * high).sum(axis=-1)
    least = np.minimum(pairs * low, pairs * high).sum(axis=-1)
    excess = np.maximum(most - HIGHEST, LOWEST - least)
    worst = np.unravel_index(int(excess.argmax()), excess.shape)
    if excess[worst] <= 0:
        return None
    output, place = int(worst[0]), int(worst[1])
    upward = bool(most[worst] > HIGHEST)
    first, second = (int(weight) for weight in pairs[output, place])
    used = tuple(high if (weight > 0) == upward else low for weight in (first, second))
    places = product.indices(weights.shape, pairing)[output, place]
    return Witness(
        output,
        (int(places[0]), int(places[1])),
        (first, second),
        (used[0], used[1]),
        int(most[worst] if upward else least[worst]),
    )


def keep_safe(
    new: npt.NDArray[Any],
    old: npt.NDArray[Any],
    product: Product,
    *,
    pairings: Iterable[Pairing] = ANY,
) -> npt.NDArray[Any]:
    """The new weights, but the old ones where a pair of new ones may saturate.

    Args:
        new: signed integers, as ONNX lays them out.
        old: the same; no pair of them saturates.
        product: how they are multiplied.
        pairings: of the kernels that may run.
    """
    found, kept = new.copy(), tuple(pairings)
    if not new.size or not product.has_pairs(new.shape):
        return found
    while (places := _unsafe(found, product, kept)).size:
        # Weights that went back stay back, so this ends with the old ones at the latest.
        found.reshape(-1)[places] = old.reshape(-1)[places]
    return found


def _unsafe(weights: Integers, product: Product, pairings: Iterable[Pairing]) -> Integers:
    """Places in the flat weights of all pairs that may saturate with any activations."""
    steps = HIGHEST // _BYTE[1]
    found = []
    for pairing in pairings:
        pairs = product.pairs(weights.astype(np.int32), pairing)
        upward, downward = np.maximum(pairs, 0).sum(-1), -np.minimum(pairs, 0).sum(-1)
        places = product.indices(weights.shape, pairing)[np.maximum(upward, downward) > steps]
        found.append(places[places >= 0])
    return np.unique(np.concatenate(found))


def safe_scales(
    weights: npt.NDArray[Any],
    scales: npt.NDArray[Any],
    product: Product,
    *,
    highest: int = 255,
    pairings: Iterable[Pairing] = ANY,
) -> Floats:
    """The finest scales, none finer than `scales`, with which no pair of weights saturates.

    A sum of two weights of one sign may be up to 32767 / `highest` steps. A scale that lets the
    largest sum of a channel be that many is tried, then two that leave room for the rounding of
    both weights.

    Args:
        weights: real numbers, as ONNX lays them out.
        scales: one for all, or one per output channel (the last axis of a MatMul, and of a Gemm
            that is not transposed; the first axis else); zero points are 0.
        product: how the weights are multiplied.
        highest: greatest activation as an unsigned byte; the least is taken to be 0.
        pairings: of the kernels that may run.

    Returns:
        float32 scales in the shape of `scales`.
    """
    if not weights.size or not product.has_pairs(weights.shape):
        return scales.astype(np.float32)
    found = scales.astype(np.float32)
    for pairing in pairings:
        found = _safe(product.pairs(weights.astype(np.float64), pairing), found, highest)
    return found


def _safe(pairs: npt.NDArray[np.float64], scales: Floats, highest: int) -> Floats:
    steps = HIGHEST // max(highest, 1)
    upward, downward = np.maximum(pairs, 0).sum(-1), -np.minimum(pairs, 0).sum(-1)
    largest = _per_scale(np.maximum(upward, downward).max(axis=-1), scales.size)
    found = scales.reshape(-1)
    bad = np.ones(scales.size, np.bool_)
    for room in (0.0, 0.5, 1.0):
        coarser = np.maximum(found, (largest / (steps - room)).astype(np.float32))
        found = np.where(bad, coarser, found)
        saturated = _saturates(pairs, np.resize(found, pairs.shape[0]), steps)
        bad = _per_scale(saturated, scales.size)
    return found.reshape(scales.shape)


def _per_scale(outputs: npt.NDArray[Any], scales: int) -> npt.NDArray[Any]:
    """The largest of the outputs that share a scale."""
    most: npt.NDArray[Any] = outputs.reshape(-1, scales).max(axis=0)
    return most if scales > 1 else outputs.max(keepdims=True)


def _saturates(pairs: npt.NDArray[np.float64], scales: Floats, steps: int) -> npt.NDArray[np.bool_]:
    """By output, whether a pair of rounded weights sums up to more than so many steps."""
    integers = np.rint(pairs.astype(np.float32) / scales[:, None, None])
    upward, downward = np.maximum(integers, 0).sum(-1), -np.minimum(integers, 0).sum(-1)
    found: npt.NDArray[np.bool_] = np.maximum(upward, downward).max(axis=-1) > steps
    return found


def saturated_dot(activations: Integers, pairs: Integers) -> npt.NDArray[np.int64]:
    """The dot products as a CPU without VNNI computes them.

    Saturation is rare: what is cut off is taken from the exact product, pair by pair and only
    where the weights allow it.

    Args:
        activations: unsigned bytes as [rows, pairs, 2], arranged as the weights.
        pairs: signed weights as [outputs, pairs, 2].

    Returns:
        Sums as [rows, outputs].
    """
    most = np.maximum(pairs, 0).astype(np.int32).sum(-1) * _BYTE[1]
    least = np.minimum(pairs, 0).astype(np.int32).sum(-1) * _BYTE[1]
    risky = (most > HIGHEST) | (least < LOWEST)
    weights = pairs.reshape(pairs.shape[0], -1).T.astype(np.float64)  # exact: sums below 2^53
    found = np.empty((activations.shape[0], pairs.shape[0]), np.int64)
    for start in range(0, len(found), _ROWS):
        part = activations[start : start + _ROWS]
        exact = np.rint(part.reshape(len(part), -1).astype(np.float64) @ weights)
        found[start : start + _ROWS] = exact
    for place in np.flatnonzero(risky.any(axis=0)):
        affected = np.flatnonzero(risky[:, place])
        total = activations[:, place].astype(np.int32) @ pairs[affected, place].astype(np.int32).T
        found[:, affected] -= total - np.clip(total, LOWEST, HIGHEST)
    return found
