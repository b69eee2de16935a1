"""Samples that are made one at a time: images, and what installed packages load."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from optc.errors import CapabilityError, DataError, did_you_mean
from optc.ir.types import TensorType
from optc.numerics.batches import Batch
from optc.numerics.columns import convert, convertible
from optc.numerics.inputs import fill_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from optc.ir.types import Type
    from optc.numerics.inputs import InputHints
    from optc.numerics.values import Array, Value

Samples: TypeAlias = "Sequence[Mapping[str, Array]]"
"""Arrays by input name, for each sample; made when an item is asked for."""

Source: TypeAlias = "Callable[[Path, Mapping[str, Type]], Samples]"
"""Opens the samples under a path, for inputs of these types."""

GROUP: Final = "optc.data"
"""Entry points of packages that load data: functions of a path and keyword options that return a
sequence of samples, see `Samples`."""


@dataclass(frozen=True)
class SampleSequence:
    """Samples that are made one at a time; a part of a `Dataset`.

    Attributes:
        path: where they come from.
        items: the samples.
        types: types of all inputs; those without data are filled from `hints`.
        hints: shapes and ranges of the recipe.
    """

    path: Path
    items: Samples
    types: Mapping[str, Type]
    hints: InputHints

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.items)

    def batches(self, size: int, start: int, limit: int) -> Iterator[Batch]:
        """The samples, each a run of its own."""
        for index in range(min(limit, self.samples)):
            feeds: dict[str, Value] = {}
            for name, array in self.items[index].items():
                if name not in self.types:
                    raise DataError(
                        "data-key-missing",
                        f"sample {index} is for an input {name!r} that the model does not have",
                        location=str(self.path),
                        hint=did_you_mean(name, list(self.types)),
                    )
                feeds[name] = self._fitting(name, array)
            number = start + index
            filled = fill_inputs(self.types, feeds, self.hints, stream=f"fill/{number}", batch=1)
            if missing := [name for name in self.types if name not in filled]:
                raise DataError(
                    "data-key-missing",
                    f"sample {index} has nothing for the inputs {', '.join(missing)}",
                    location=str(self.path),
                )
            yield Batch(number, 1, filled, None, 1)

    def _fitting(self, name: str, array: Array) -> Array:
        """The array as the input takes it: with a batch axis in front where it lacks one."""
        kind = self.types[name]
        if not isinstance(kind, TensorType):
            raise DataError("data-shape", f"input {name!r} is no tensor", location=str(self.path))
        if not convertible(array.dtype, kind.dtype):
            raise DataError(
                "data-dtype",
                f"input {name!r} wants {kind.dtype.value}, the sample is of {array.dtype}",
                location=str(self.path),
            )
        shape = kind.shape
        if shape is not None and array.ndim == len(shape) - 1:
            array = array[None]
        fits = shape is None or (
            len(shape) == array.ndim
            and all(
                not isinstance(d, int) or d == n for d, n in zip(shape, array.shape, strict=True)
            )
        )
        if not fits:
            raise DataError(
                "data-shape",
                f"input {name!r} is {kind}, the sample is of shape {list(array.shape)}",
                location=str(self.path),
            )
        # A copy: samples may be one buffer that a loader fills anew, and several run at a time.
        return convert(np.array(array), kind.dtype)


def loaded_samples(
    name: str, options: Mapping[str, Any], path: Path, types: Mapping[str, Type]
) -> Samples:
    """The samples that an installed package loads.

    Args:
        name: of the entry point in the group `GROUP`.
        options: keyword arguments for it.
        path: its first argument.
        types: types of the inputs; not used.

    Raises:
        CapabilityError: ``loader-unknown``: no package has it, or several have.
        DataError: ``loader-failed``: it raised an error, or gave no sequence.
    """
    point = _entry_point(name)
    try:
        samples = point.load()(path, **options)
        len(samples)
    except Exception as error:  # code of others: whatever it raises is about the data
        raise DataError(
            "loader-failed",
            f"{point.value} failed: {type(error).__name__}: {error}",
            location=str(path),
        ) from error
    result: Samples = samples
    return result


def loader_version(name: str) -> str:
    """Name and version of the package that loads data under this name.

    Raises:
        CapabilityError: ``loader-unknown``.
    """
    owner = _entry_point(name).dist
    return f"{owner.name} {owner.version}" if owner else ""


def _entry_point(name: str) -> EntryPoint:
    found = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    named = [point for point in found if point.name == name]
    if len(named) != 1:
        what = "several packages load" if named else "no installed package loads"
        raise CapabilityError(
            "loader-unknown",
            f"{what} data as {name!r} (entry-point group {GROUP})",
            hint=did_you_mean(name, [point.name for point in found]),
        )
    return named[0]
