"""Calibration and validation data of a recipe, in batches that are ready to be fed.

    x.npz            an array per input, named like it; with a split, named ``split:input``;
                     labels under a name of their own
    x.npy            the data of the only input
    folder           of .npz files, read one after the other;
                     of .npy files: one per input, named like it, or one or more samples per file
                     when the model has one input
    folder           of ONNX ``test_data_set_*`` folders, each one sample
    a source         makes samples of what is there: images with a declared preprocessing
                     (`optc.numerics.images`), or an installed package (`optc.numerics.sequences`)

Arrays hold one sample per leading row. A row either lacks the input's first dimension, the batch
(rows are then stacked as the model allows), or is the complete input (one row per run).
Data is read batch by batch: memory is bounded by one batch, whatever the size of the files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from optc.errors import DataError, did_you_mean, nearest
from optc.ir.types import OptionalType
from optc.numerics.batches import Dataset, SampleFolder, StoredArrays
from optc.numerics.columns import Column, make_column
from optc.numerics.inputs import NO_HINTS
from optc.numerics.npyfile import npz_keys, open_array
from optc.numerics.sequences import SampleSequence
from optc.numerics.sizes import fix_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.ir.types import Type
    from optc.numerics.batches import ReadDatum
    from optc.numerics.inputs import InputHints
    from optc.numerics.npyfile import ArrayFile
    from optc.numerics.sequences import Source

_SET: Final = re.compile(r"test_data_set_(\d+)")


def open_dataset(
    path: Path,
    inputs: Mapping[str, Type],
    *,
    split: str = "",
    labels: str = "",
    limit: int | None = None,
    hints: InputHints = NO_HINTS,
    read_value: ReadDatum | None = None,
    source: Source | None = None,
) -> Dataset:
    """Find the data under `path` and check it against the model; reads headers only.

    Args:
        path: a file or folder, see the module docstring.
        inputs: types of the inputs that a run must be given, from the graph.
        split: prefix of the keys that are meant, e.g. ``test``; empty for keys without one.
        labels: key of the labels; empty when there are none.
        limit: use the first so many samples only.
        hints: shapes fixed by the recipe; ranges fill inputs that the data does not have (a range
            of 0 to 0 for states that start at zero).
        read_value: reads the protobuf files of ``test_data_set_*`` folders: `read_tensor` of the
            ONNX frontend.
        source: opens what is under `path` instead: images, or what a package loads.

    Raises:
        DataError: nothing there, unreadable, a key missing, or wrong shapes or types.
    """
    types = fix_shapes(inputs, hints.shapes)
    wanted = _Wanted(types, hints, split, labels)
    if not path.exists():
        siblings = [item.name for item in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(
            "data-not-found",
            "there is no such file or folder",
            location=str(path),
            hint=did_you_mean(path.name, siblings),
        )
    parts: Sequence[StoredArrays | SampleFolder | SampleSequence]
    if source is not None:
        parts = [_made(path, wanted, source)]
    else:
        parts = _folder(path, wanted, read_value) if path.is_dir() else [_file(path, wanted)]
    dataset = Dataset(tuple(parts), limit)
    if not dataset.samples:
        raise DataError("data-empty", "there are no samples", location=str(path))
    return dataset


@dataclass(frozen=True)
class _Wanted:
    types: Mapping[str, Type]
    hints: InputHints
    split: str
    labels: str

    @property
    def only(self) -> str | None:
        """The input that data without names is for: the one that has no range, if it is one."""
        names = [name for name in self.types if name not in self.hints.ranges]
        return names[0] if len(names) == 1 else None


def _made(path: Path, wanted: _Wanted, source: Source) -> SampleSequence:
    if wanted.labels or wanted.split:
        what = "labels" if wanted.labels else "splits"
        raise DataError(
            "data-format",
            f"images and loaded samples have no {what}",
            location=str(path),
            hint="save the data as .npz",
        )
    named = {name: type_ for name, type_ in wanted.types.items() if name not in wanted.hints.ranges}
    return SampleSequence(path, source(path, named), wanted.types, wanted.hints)


# ---- finding -----------------------------------------------------------------------------------


def _folder(
    path: Path, wanted: _Wanted, read_value: ReadDatum | None
) -> Sequence[StoredArrays | SampleFolder]:
    if sets := _test_sets(path):
        if read_value is None or wanted.labels:
            why = "test data sets hold no labels" if wanted.labels else "no reader for protobuf"
            raise DataError("data-format", why, location=str(path))
        return [SampleFolder(item, wanted.types, wanted.hints, read_value) for item in sets]
    if files := sorted(path.glob("*.npz")):
        return [_npz(file, wanted) for file in files]
    if files := sorted(path.glob("*.npy")):
        return _npy_folder(path, files, wanted)
    raise DataError(
        "data-empty",
        "the folder has no .npz file, no .npy file and no test_data_set_0 folder",
        location=str(path),
    )


def _test_sets(path: Path) -> list[Path]:
    if (path / "input_0.pb").exists():
        return [path]
    numbered = [(_SET.fullmatch(item.name), item) for item in path.iterdir()]
    return [item for _, item in sorted((int(m.group(1)), item) for m, item in numbered if m)]


def _file(path: Path, wanted: _Wanted) -> StoredArrays:
    match path.suffix:
        case ".npz":
            return _npz(path, wanted)
        case ".npy" if wanted.only is not None:
            return _unnamed(path, wanted)
        case ".npy":
            raise DataError(
                "data-format",
                f"one array cannot feed the {len(wanted.types)} inputs of the model",
                location=str(path),
                hint=f"save an .npz with the keys {', '.join(wanted.types)}",
            )
    raise DataError(
        "data-format",
        f"data files are .npz or .npy, not {path.suffix or 'files without suffix'}",
        location=str(path),
    )


def _npz(path: Path, wanted: _Wanted) -> StoredArrays:
    keys = npz_keys(path)
    prefix = f"{wanted.split}:" if wanted.split else ""
    if prefix and not any(key.startswith(prefix) for key in keys):
        raise _no_split(path, keys, wanted.split)
    arrays = {name: f"{prefix}{name}" for name in wanted.types if f"{prefix}{name}" in keys}
    opened = {name: open_array(path, key) for name, key in arrays.items()}
    labels = None
    if wanted.labels:
        own = f"{prefix}{wanted.labels}"
        key = own if own in keys else wanted.labels
        if key not in keys:
            raise _no_key(path, f"labels {wanted.labels!r}", wanted.labels, keys)
        labels = open_array(path, key)
    return _stored(path, wanted, opened, labels, keys)


def _npy_folder(path: Path, files: Sequence[Path], wanted: _Wanted) -> Sequence[StoredArrays]:
    by_stem = {file.stem: file for file in files}
    if wanted.only is None or any(name in by_stem for name in wanted.types):
        opened = {name: open_array(by_stem[name]) for name in wanted.types if name in by_stem}
        labels = None
        if wanted.labels:
            if wanted.labels not in by_stem:
                raise _no_key(path, f"labels {wanted.labels!r}", wanted.labels, list(by_stem))
            labels = open_array(by_stem[wanted.labels])
        return [_stored(path, wanted, opened, labels, list(by_stem))]
    if wanted.labels:
        raise DataError(
            "data-format",
            "labels need one array with all samples, not a file for each sample",
            location=str(path),
            hint=f"save the samples as {wanted.only}.npy and the labels as {wanted.labels}.npy",
        )
    return [_unnamed(file, wanted) for file in files]


def _unnamed(path: Path, wanted: _Wanted) -> StoredArrays:
    """An array for the only input: samples, or one sample."""
    assert wanted.only is not None
    if wanted.labels:
        raise DataError(
            "data-format",
            "a single array has no labels beside it",
            location=str(path),
            hint=f"save an .npz with the keys {wanted.only} and {wanted.labels}",
        )
    type_ = wanted.types[wanted.only]
    column = make_column(wanted.only, type_, open_array(path), one_per_file=True)
    return StoredArrays((column,), None, column.samples, wanted.types, wanted.hints)


def _stored(
    path: Path,
    wanted: _Wanted,
    arrays: Mapping[str, ArrayFile],
    labels: ArrayFile | None,
    keys: Sequence[str],
) -> StoredArrays:
    for name, type_ in wanted.types.items():
        known = name in arrays or name in wanted.hints.ranges or isinstance(type_, OptionalType)
        if not known:
            raise _no_key(path, f"input {name!r}", name, keys)
    columns = tuple(make_column(name, wanted.types[name], file) for name, file in arrays.items())
    if not columns:
        raise DataError("data-empty", "there is no data for any input", location=str(path))
    samples = columns[0].samples
    rows = {column.name: column.samples for column in columns}
    if labels is not None:
        rows[wanted.labels] = labels.shape[0] if labels.shape else 0
    for name, number in rows.items():
        if number != samples:
            raise DataError(
                "data-rows",
                f"{name!r} has {number} rows, {columns[0].name!r} has {samples}",
                location=str(path),
                hint="every array needs one row per sample",
            )
    _check_batch(path, columns)
    return StoredArrays(columns, labels, samples, wanted.types, wanted.hints)


def _check_batch(path: Path, columns: Sequence[Column]) -> None:
    fixed = {column.batch: column.name for column in columns if column.batch is not None}
    mixed = any(column.whole for column in columns) and max(fixed, default=1) > 1
    if len(fixed) > 1 or mixed:
        sizes = ", ".join(f"{name} {batch}" for batch, name in fixed.items())
        raise DataError(
            "data-shape",
            f"the inputs have no common batch ({sizes}): rows cannot be stacked",
            location=str(path),
            hint="let every row be the complete input, for all inputs",
        )


def _no_split(path: Path, keys: Sequence[str], split: str) -> DataError:
    splits = sorted({key.partition(":")[0] for key in keys if ":" in key})
    have = f"its splits are {', '.join(splits)}" if splits else "its keys have no splits"
    return DataError(
        "data-split-missing",
        f"the file has no keys {split}:<input>; {have}",
        location=str(path),
        hint=did_you_mean(split, splits) if splits else "leave out `split:`",
    )


def _no_key(path: Path, what: str, wanted: str, keys: Sequence[str]) -> DataError:
    splits = sorted({key.partition(":")[0] for key in keys if key.endswith(f":{wanted}")})
    if splits:
        hint = f"choose a split: {' or '.join(f'`split: {split}`' for split in splits)}"
    elif (close := nearest(wanted, keys)) is not None:
        hint = f"did you mean {close!r}? A key is the name of an input"
    else:
        hint = (
            "a key is the name of an input; `inputs:` with a range, or --fill, fills an input "
            "without data"
        )
    found = ", ".join(sorted(keys)) or "nothing"
    return DataError(
        "data-key-missing",
        f"there is no data for {what}; found {found}",
        location=str(path),
        hint=hint,
    )
