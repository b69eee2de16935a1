"""The test cases that the onnx package carries."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper

if TYPE_CHECKING:
    from onnx import ModelProto, TypeProto, ValueInfoProto

_DATA = Path(onnx.backend.test.__file__).parent / "data"
_KINDS = ("simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class Case:
    """One test case.

    Attributes:
        name: kind and name, e.g. ``node/test_abs``.
        model: the source model.
        data_sets: inputs and expected outputs, each in order of the graph.
        rtol: relative tolerance that the case allows.
        atol: absolute tolerance that the case allows.
    """

    name: str
    model: ModelProto
    data_sets: tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]
    rtol: float
    atol: float


@cache
def all_cases() -> tuple[Case, ...]:
    """All cases, in an order that spreads expensive neighbours over shards."""
    return (*_node_cases(), *_folder_cases(), *_light_cases())


def _node_cases() -> list[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # generators divide by zero and overflow on purpose
        found = collect_testcases(None)
    return [
        Case(
            f"node/{case.name}",
            case.model,
            tuple((_plain(inputs), _plain(outputs)) for inputs, outputs in case.data_sets),
            case.rtol,
            case.atol,
        )
        for case in sorted(found, key=lambda case: case.name)
    ]


def _plain(values: Any) -> tuple[Any, ...]:
    return tuple(
        numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        for value in values
    )


def _folder_cases() -> list[Case]:
    cases = []
    for file in sorted(path for kind in _KINDS for path in _DATA.glob(f"{kind}/*/model.onnx")):
        folder = file.parent
        model = onnx.load(file)
        settings = folder / "data.json"
        limits = json.loads(settings.read_text()) if settings.exists() else {}
        data_sets = tuple(
            (
                _values(data, "input", list(model.graph.input)),
                _values(data, "output", list(model.graph.output)),
            )
            for data in sorted(folder.glob("test_data_set_*"))
        )
        name = f"{folder.parent.name}/{folder.name}"
        rtol, atol = limits.get("rtol", 1e-3), limits.get("atol", 1e-7)
        cases.append(Case(name, model, data_sets, rtol, atol))
    return cases


def _values(folder: Path, stem: str, infos: list[ValueInfoProto]) -> tuple[Any, ...]:
    count = len(list(folder.glob(f"{stem}_*.pb")))
    return tuple(
        _value((folder / f"{stem}_{i}.pb").read_bytes(), infos[i].type) for i in range(count)
    )


def _value(data: bytes, type: TypeProto) -> Any:
    case = type.WhichOneof("value")
    if case == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if case == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _light_cases() -> list[Case]:
    """Big networks whose weights are generated in the graph; the input is a ramp."""
    cases = []
    for settings in sorted(_DATA.glob("real/*/data.json")):
        limits = json.loads(settings.read_text())
        file = _DATA / "light" / Path(limits["url"]).name
        model = onnx.load(file)
        defaults = {tensor.name for tensor in model.graph.initializer}
        inputs = [info for info in model.graph.input if info.name not in defaults]
        feeds = tuple(_ramp(info) for info in inputs)
        expected = _light_outputs(file, model)
        name = f"light/{settings.parent.name}"
        cases.append(Case(name, model, ((feeds, expected),), limits["rtol"], limits["atol"]))
    return cases


def _light_outputs(file: Path, model: ModelProto) -> tuple[Any, ...]:
    names = [f"{file.stem}_output_{i}.pb" for i in range(len(model.graph.output))]
    return tuple(
        _value(file.with_name(name).read_bytes(), info.type)
        for name, info in zip(names, model.graph.output, strict=True)
    )


def _ramp(info: ValueInfoProto) -> np.ndarray[Any, np.dtype[np.float32]]:
    dims = info.type.tensor_type.shape.dim
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else 1 for dim in dims)
    size = int(np.prod(shape))
    return (np.arange(size).reshape(shape) / size).astype(np.float32)
