"""Class scores: where the classes are, and which rank a class has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from optc.errors import DataError
from optc.numerics.values import float_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from optc.numerics.values import Array, Value

_CHUNK: Final = 1 << 15  # scores at a time: all temporaries stay in cache


class Hits:
    """Counts positions where a wanted class is among the `k` best of the result.

    Wanted is the label, or else the best class of the source. A NaN score is never among the best.
    Of equal scores the first class is the better one, so the best one is what ArgMax gives.
    """

    def __init__(self, k: int, *, labelled: bool = False) -> None:
        self._k = k
        self._labelled = labelled
        self._hits = 0
        self._count = 0

    def update(
        self, expected: Mapping[str, Value], actual: Mapping[str, Value], labels: Array | None
    ) -> None:
        """Add the outputs of one run, and the labels of its samples when they are wanted."""
        found = dict(float_tensors(actual))
        if self._labelled:
            name, rows, wanted = _labelled(found, labels)
        else:
            name, source = _first_scores(dict(float_tensors(expected)))
            if name not in found or found[name].shape != source.shape:
                self._count += source.size // max(source.shape[class_axis(source.ndim)], 1)
                return
            rows = _rows(found[name], class_axis(source.ndim))
            wanted = best(_rows(source, class_axis(source.ndim)))
        kept = wanted >= 0
        if kept.any() and wanted.max() >= rows.shape[1]:
            raise DataError(
                "label-out-of-range",
                f"there is a label {wanted.max()}, but output {name!r} has {rows.shape[1]} classes",
                hint="a negative label leaves a position out",
            )
        self._count += int(np.count_nonzero(kept))
        self._hits += int(np.count_nonzero(ranks(rows[kept], wanted[kept]) < self._k))

    def compute(self) -> float:
        """The share of hits."""
        if not self._count:
            raise DataError("metric-not-applicable", "there is no labelled position to judge")
        return self._hits / self._count


def best(rows: Array) -> npt.NDArray[np.int64]:
    """The class with the highest score in each row."""
    result = np.empty(len(rows), dtype=np.int64)
    for start, scores in _scores(rows):
        result[start : start + len(scores)] = scores.argmax(axis=1)
    return result


def ranks(rows: Array, classes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many classes of each row are better than the given one; beyond all for a NaN score."""
    result = np.empty(len(rows), dtype=np.int64)
    for start, scores in _scores(rows):
        stop = start + len(scores)
        wanted = classes[start:stop, np.newaxis]
        own = np.take_along_axis(scores, wanted, axis=1)
        before = np.arange(scores.shape[1]) < wanted
        better = (scores > own) | ((scores == own) & before)
        unusable = np.isnan(np.take_along_axis(rows[start:stop], wanted, axis=1)[:, 0])
        result[start:stop] = np.where(unusable, scores.shape[1], better.sum(axis=1))
    return result


def _scores(rows: Array) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Some rows at a time, NaN below everything."""
    step = max(1, _CHUNK // max(rows.shape[1], 1))
    for start in range(0, len(rows), step):
        scores = rows[start : start + step].astype(np.float64)
        yield start, np.where(np.isnan(scores), -np.inf, scores)


def class_axis(rank: int) -> int:
    """The axis that holds classes in outputs of this rank, which is 2 or more."""
    return rank - 1 if rank <= 3 else 1


def _rows(array: Array, axis: int) -> Array:
    """One row of scores per position, positions in row-major order."""
    moved = np.moveaxis(array, axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def _first_scores(outputs: Mapping[str, Array]) -> tuple[str, Array]:
    for name, array in outputs.items():
        if array.ndim >= 2:
            return name, array
    raise _no_scores(outputs, "")


def _labelled(
    outputs: Mapping[str, Array], labels: Array | None
) -> tuple[str, Array, npt.NDArray[np.int64]]:
    """The output that fits the labels: its name, rows of scores, and the labels of the rows."""
    if labels is None:
        raise DataError(
            "labels-missing",
            "the metric compares with labels, and the data has none",
            hint="name the array that holds them: `labels:` under `data: validation:`",
        )
    if labels.dtype.kind not in "iu":
        raise DataError(
            "labels-not-classes",
            f"labels are numbers of classes, not {labels.dtype.name}",
            hint="save the index of each sample's class with .astype(numpy.int64)",
        )
    for name, array in outputs.items():
        for axis in _axes(array.ndim):
            places = (*array.shape[:axis], *array.shape[axis + 1 :])
            flattened = array.ndim == 2 and labels.size == array.shape[0]
            if flattened or _without_ones(places) == _without_ones(labels.shape):
                return name, _rows(array, axis), labels.reshape(-1).astype(np.int64)
    raise _no_scores(outputs, f" for labels of shape {labels.shape}")


def _axes(rank: int) -> list[int]:
    """Axes that may hold classes, the likeliest first; never the batch."""
    likely = class_axis(rank)
    return [likely, *(axis for axis in range(1, rank) if axis != likely)] if rank >= 2 else []


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _no_scores(outputs: Mapping[str, Array], why: str) -> DataError:
    have = ", ".join(f"{name} {array.shape}" for name, array in outputs.items()) or "none"
    return DataError(
        "metric-not-applicable",
        f"no output has class scores{why}; floating-point outputs: {have}",
    )
