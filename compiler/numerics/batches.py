"""Samples in batches that are ready to be fed, read as they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from optc.errors import DataError, ModelError
from optc.numerics.inputs import fill_inputs
from optc.numerics.values import from_datum, native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from optc.ir.types import Type
    from optc.numerics.columns import Column
    from optc.numerics.inputs import InputHints
    from optc.numerics.npyfile import ArrayFile
    from optc.numerics.sequences import SampleSequence
    from optc.numerics.values import Array, Datum, Feeds, Value

ReadDatum: TypeAlias = "Callable[[bytes, Type | None], tuple[str, Datum]]"
"""Reads a serialized value of an ONNX test data set, of the type given: its name and content."""


@dataclass(frozen=True)
class Batch:
    """Some samples, for one run.

    Attributes:
        start: number of the first sample in the dataset.
        count: how many samples this is.
        feeds: the inputs. They hold more rows than `count` when the model's batch is fixed and the
            data ends before: the last sample is repeated.
        labels: the labels of the samples, or None.
        rows: leading rows of the batched inputs.
    """

    start: int
    count: int
    feeds: Feeds
    labels: Array | None
    rows: int

    def trim(self, outputs: Mapping[str, Value]) -> Feeds:
        """Outputs without the rows of repeated samples."""
        if self.rows == self.count:
            return dict(outputs)
        return {name: self._trim(value) for name, value in outputs.items()}

    def _trim(self, value: Value) -> Value:
        if isinstance(value, np.ndarray) and value.ndim and len(value) == self.rows:
            return value[: self.count]
        return value


@dataclass(frozen=True)
class Dataset:
    """Data that fits a model; made by `open_dataset`. Can be read any number of times.

    Attributes:
        parts: what it consists of, in order.
        limit: only so many samples are used, the first ones; None for all.
    """

    parts: tuple[StoredArrays | SampleFolder | SampleSequence, ...]
    limit: int | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        total = sum(part.samples for part in self.parts)
        return total if self.limit is None else min(total, self.limit)

    def batches(self, size: int = 1) -> Iterator[Batch]:
        """The samples in order.

        Args:
            size: samples per run, where the model and the data leave a choice: a batch that the
                model fixes is kept, and rows that are complete inputs are fed one by one.

        Raises:
            DataError: a file is damaged.
        """
        start = 0
        for part in self.parts:
            left = self.samples - start
            if not left:
                return
            for batch in part.batches(size, start, left):
                yield batch
                start += batch.count


@dataclass(frozen=True)
class StoredArrays:
    """Arrays with the same number of samples.

    Attributes:
        columns: the inputs that have data.
        labels: the labels, or None.
        samples: number of samples.
        types: types of all inputs; those without data are filled from `hints`.
        hints: shapes and ranges of the recipe.
    """

    columns: tuple[Column, ...]
    labels: ArrayFile | None
    samples: int
    types: Mapping[str, Type]
    hints: InputHints

    def batches(self, size: int, start: int, limit: int) -> Iterator[Batch]:
        """Up to `limit` samples, numbered from `start`."""
        fixed = max((column.batch or 0 for column in self.columns), default=0)
        whole = any(column.whole for column in self.columns)
        step = 1 if whole else fixed or size
        left = min(limit, self.samples)
        streams = [column.blocks(step) for column in self.columns]
        labels = self.labels.blocks(step) if self.labels else None
        while left > 0:
            used = min(step, left)
            feeds: dict[str, Value] = {}
            for column, stream in zip(self.columns, streams, strict=True):
                block = _resize(next(stream), used, fixed)
                feeds[column.name] = block[0, ...] if column.whole else block
            rows = max(fixed, used)
            filled = fill_inputs(self.types, feeds, self.hints, stream=f"fill/{start}", batch=rows)
            truth = native(next(labels)[:used]) if labels else None
            yield Batch(start, used, filled, truth, rows)
            start += used
            left -= used


@dataclass(frozen=True)
class SampleFolder:
    """One ONNX test data set: ``input_0.pb`` and so on, in the order of the inputs.

    Attributes:
        path: its folder.
        types: types of the inputs.
        hints: shapes and ranges of the recipe.
        read: reads one file.
        samples: always one.
    """

    path: Path
    types: Mapping[str, Type]
    hints: InputHints
    read: ReadDatum
    samples: int = 1

    def batches(self, size: int, start: int, limit: int) -> Iterator[Batch]:
        """The one sample; a run takes it as it is."""
        feeds: dict[str, Value] = {}
        for index, (place, type_) in enumerate(self.types.items()):
            file = self.path / f"input_{index}.pb"
            if not file.exists():
                break
            name, datum = self._content(file, type_)
            feeds[name if name in self.types else place] = from_datum(datum)
        filled = fill_inputs(self.types, feeds, self.hints, stream=f"fill/{start}", batch=1)
        if missing := [name for name in self.types if name not in filled]:
            raise DataError(
                "data-key-missing",
                f"there is no file for the inputs {', '.join(missing)}",
                location=str(self.path),
            )
        yield Batch(start, 1, filled, None, 1)

    def _content(self, file: Path, type_: Type) -> tuple[str, Datum]:
        try:
            return self.read(file.read_bytes(), type_)
        except (ModelError, OSError) as error:
            reason = error.message if isinstance(error, ModelError) else str(error)
            raise DataError(
                "data-unreadable",
                f"the file cannot be read: {reason}",
                location=str(file),
                hint="the file is damaged or incomplete: write or copy it again",
            ) from error


def _resize(block: Array, used: int, fixed: int) -> Array:
    """The rows in use; with a fixed batch, the last one repeated up to it."""
    block = block[:used]
    if used >= fixed:
        return block
    return np.concatenate([block, np.repeat(block[-1:], fixed - used, axis=0)])
