"""Inputs in a file, for processes that run models: bytes in an .npz, and a table in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optc.errors import ModelError
from optc.ir.tensor import Tensor
from optc.ir.types import DType
from optc.numerics.values import native

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optc.numerics.values import Feeds, Value


def write_feeds(path: Path, feeds: Sequence[Feeds]) -> list[dict[str, Any]]:
    """Write inputs to a file; returns the table that finds them there, one entry per run.

    Raises:
        ModelError: ``map-input``: an input is a map.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    table = [{name: _stored(value, arrays) for name, value in run.items()} for run in feeds]
    np.savez(path, allow_pickle=False, **arrays)
    return table


def read_feeds(path: Path, table: Sequence[Mapping[str, Any]]) -> list[Feeds]:
    """What was written."""
    with np.load(path, allow_pickle=False) as arrays:
        return [{name: _loaded(entry, arrays) for name, entry in run.items()} for run in table]


def _stored(value: Value, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The entry of a value: of a tensor, its type and the key of its bytes; a list for a list."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_stored(item, arrays) for item in value]
    if isinstance(value, dict):
        raise ModelError("map-input", "an input is a map, which no other process can be handed")
    array = np.asarray(value)
    if array.dtype.kind in "OUST":
        return {"strings": [str(item) for item in array.ravel()], "shape": array.shape}
    tensor = Tensor.from_numpy(native(array))
    key = str(len(arrays))
    arrays[key] = np.frombuffer(tensor.raw(), dtype=np.uint8)
    return {"dtype": tensor.dtype.value, "shape": tensor.shape, "key": key}


def _loaded(entry: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> Value:
    if entry is None:
        return None
    if isinstance(entry, list):
        return [_loaded(item, arrays) for item in entry]
    if "strings" in entry:
        return np.array(entry["strings"], dtype=object).reshape(entry["shape"])
    raw = arrays[entry["key"]].tobytes()
    return Tensor.from_raw(DType(entry["dtype"]), entry["shape"], raw).numpy()
