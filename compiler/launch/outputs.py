"""What the runs over a dataset gave: figures per output, and all of it as an .npz file."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from optc.errors import DataError
from optc.files import replacing_file
from optc.ir.types import DType
from optc.numerics.comparison import json_number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optc.numerics.values import Array, Value

_BF16: Final = DType.BF16.numpy  # numpy has none and would read opaque bytes; float32 holds them


@dataclass
class OutputFigures:
    """Running figures of one output; numbers are those of the finite elements.

    Attributes:
        dtype: element type.
        shape: shape of the result of the last run.
        elements: number of elements of all runs.
        finite: how many of them are neither NaN nor infinite.
        least: least element.
        greatest: greatest element.
        total: sum of the elements.
    """

    dtype: str = ""
    shape: tuple[int, ...] = ()
    elements: int = 0
    finite: int = 0
    least: float = float("inf")
    greatest: float = float("-inf")
    total: float = 0.0

    def update(self, array: Array) -> None:
        """Add the result of one run."""
        self.dtype, self.shape = str(array.dtype), array.shape
        self.elements += array.size
        if array.dtype.kind not in "biufV" or array.dtype.names:
            return
        numbers = array.astype(np.float64).ravel()
        numbers = numbers[np.isfinite(numbers)]
        if numbers.size:
            self.finite += numbers.size
            self.least = min(self.least, float(numbers.min()))
            self.greatest = max(self.greatest, float(numbers.max()))
            self.total += float(numbers.sum())

    def to_dict(self) -> dict[str, object]:
        """As data; numbers are None where no element has one."""
        numbers = self.finite > 0
        return {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "elements": self.elements,
            "not_finite": self.elements - self.finite if numbers else None,
            "min": json_number(self.least) if numbers else None,
            "max": json_number(self.greatest) if numbers else None,
            "mean": json_number(self.total / self.finite) if numbers else None,
        }

    def __str__(self) -> str:
        sizes = ", ".join(map(str, self.shape))
        text = f"{self.dtype}[{sizes}]"
        if not self.finite:
            return text
        text += f" min {self.least:.4g}, max {self.greatest:.4g}, mean "
        text += f"{self.total / self.finite:.4g}"
        lost = self.elements - self.finite
        return f"{text}, {lost} not finite" if lost else text


@dataclass
class Outputs:
    """The outputs of several runs.

    Attributes:
        keep: whether the arrays are kept, for `save`.
        figures: by name of the output.
    """

    keep: bool = False
    figures: dict[str, OutputFigures] = field(default_factory=dict)
    _rows: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, outputs: Mapping[str, Value], samples: int) -> None:
        """Add the outputs of a run over `samples` samples."""
        for name, value in outputs.items():
            if not isinstance(value, np.ndarray):
                if self.keep:
                    raise DataError(
                        "output-not-an-array", f"output {name!r} is no tensor: .npz cannot hold it"
                    )
                continue
            self.figures.setdefault(name, OutputFigures()).update(value)
            if self.keep:
                # Without a batch dimension, the results of the runs are stacked.
                stored = value.astype(np.float32) if value.dtype == _BF16 else value
                stacked = stored if stored.ndim and len(stored) == samples else stored[np.newaxis]
                self._rows.setdefault(name, []).append(stacked)

    def save(self, path: Path) -> None:
        """Write an array per output, one row per sample, or per run where it has no batch.

        Raises:
            DataError: ``output-ragged``: the shape differs from run to run.
            OutputError: the file cannot be written.
        """
        arrays = {}
        for name, rows in self._rows.items():
            if len({(row.shape[1:], row.dtype) for row in rows}) > 1:
                raise DataError(
                    "output-ragged",
                    f"output {name!r} differs in shape from run to run",
                    hint="run fewer samples (--samples 1), or read the outputs in Python",
                )
            arrays[name] = np.concatenate(rows)
        # Not numpy.savez: an output may be called `file`.
        with replacing_file(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                entry = zipfile.ZipInfo(f"{name}.npy")  # a fixed date: same outputs, same bytes
                with archive.open(entry, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
