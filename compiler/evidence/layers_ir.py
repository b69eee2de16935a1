"""The layers of an OpenVINO IR, and the model with tensors of them as outputs.

An IR that optc wrote says which source operations its layers stand for: runtime info
``optc/sources`` and ``optc/passes``, JSON by label (`optc.emit.openvino`). Of any other IR only the
names of its tensors are known.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from optc.errors import ModelError
from optc.evidence.expose import Facts, Tap
from optc.evidence.layers import Layer, Network, Port, known_sources
from optc.launch.engines import open_engine, port_type, require_runtime
from optc.numerics.backends import import_openvino
from optc.numerics.roundings import QUANTIZE_ERROR
from optc.numerics.tolerance import Tolerance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from optc.evidence.subject import Subject
    from optc.ir.types import Type
    from optc.numerics.values import Value as Datum

_FP32: Final = 2.0**-24
_NO_LAYER: Final = frozenset({"Parameter", "Result", "Constant"})
# As in optc.numerics.roundings, by OpenVINO's names.
_UNIT: Final = frozenset({"Sigmoid", "HardSigmoid", "Tanh", "Softmax", "Erf", "SoftSign"})
_UNIT_ERROR: Final = 16 * _FP32
_FUNCTION_ROUNDINGS: Final = 4
_UNKNOWN_LENGTH: Final = 256
_WEIGHT_AXES: Final = {"Convolution": 1, "GroupConvolution": 2}  # axes that number the outputs


class IrModel:
    """An OpenVINO IR whose layers can be looked at.

    Attributes:
        outputs: its outputs, in order.
        network: its layers.
        runtime: what executes it.
        note: in what precision, where that is not the one it states.

    Raises:
        CapabilityError: ``runtime-missing`` or ``runtime-too-old``.
        ModelError: ``runtime-cannot-load``.
    """

    def __init__(self, subject: Subject) -> None:
        require_runtime("openvino")
        self._subject = subject
        self.runtime = "openvino"
        self.note = ""
        model = self._read()
        self.outputs = tuple(map(_output, model.outputs))
        self.network = Network(_layers(model), is_ir=True)

    def _read(self) -> Any:
        try:
            return import_openvino().Core().read_model(str(self._subject.model))
        except RuntimeError as error:
            raise ModelError(
                "runtime-cannot-load",
                "openvino: the file is not an IR that it can read",
                location=str(self._subject.model),
            ) from error

    def open(self) -> Tap:
        """Open it as it is; results have the keys of `outputs`.

        Raises:
            CapabilityError: OpenVINO is not installed or too old.
            ModelError: ``runtime-cannot-load``.
        """
        keys = [[port.key] for port in self.outputs]
        engine = open_engine(self._subject.model, self._subject.options)
        return Tap(engine, self._subject.runtime, keys)

    def inputs(self, engine: Tap) -> Mapping[str, Type]:
        """Types of its inputs."""
        return engine.inputs

    def limits(self) -> Mapping[str, int]:
        """Nothing: an IR is not searched for what indices are valid."""
        return {}

    def facts(self, feeds: Mapping[str, Datum]) -> Facts:
        """What is known of its tensors for inputs of these shapes."""
        model = self._read()
        shapes = {n: list(v.shape) for n, v in feeds.items() if isinstance(v, np.ndarray)}
        with suppress(RuntimeError):  # an input of another kind, or a shape that does not fit
            model.reshape(shapes)
        sizes: dict[str, int] = {}
        bounds: dict[str, Tolerance] = {}
        for key, output in _outputs(model):
            bounds[key] = _bound(output.get_node())
            size = port_type(output).nbytes
            if size is not None:
                sizes[key] = size
        return Facts(sizes, bounds)

    def expose(self, ports: Sequence[Port], folder: Path) -> Tap:
        """Open it in OpenVINO with these tensors as outputs; nothing is written to `folder`.

        Raises:
            ModelError: ``runtime-cannot-load``.
        """
        del folder
        model = self._read()
        wanted = {port.key for port in ports}
        exposed = {key: output for key, output in _outputs(model) if key in wanted}
        for key, output in exposed.items():
            if not output.get_names():
                output.set_names({key})  # the runtime knows outputs by name
        model.add_outputs(list(exposed.values()))
        makers = {_place(output): key for key, output in exposed.items()}
        order = [{makers[_fed(r)]} if _fed(r) in makers else set() for r in model.results]
        for keys, port in zip(order, self.outputs, strict=False):
            keys.add(port.key)
        return Tap(open_engine(model, self._subject.options), self._subject.runtime, order)

    def nudged(self, seed: int) -> IrModel:
        """Itself: of an IR only the inputs are moved."""
        del seed
        return self


def _outputs(model: Any) -> Iterator[tuple[str, Any]]:
    """Everything that layers make, with a key that is the same each time the file is read."""
    for number, op in enumerate(model.get_ordered_ops()):
        if op.get_type_name() not in _NO_LAYER:
            for output in op.outputs():
                yield f"{op.get_friendly_name()}#{number}:{output.get_index()}", output


def _place(output: Any) -> tuple[str, int]:
    """What makes a tensor: a name that is unique in the process, unlike the friendly one."""
    return output.get_node().get_name(), output.get_index()


def _fed(result: Any) -> tuple[str, int]:
    """What makes the tensor that a Result takes."""
    return _place(result.input_value(0))


def _output(output: Any) -> Port:
    names = frozenset(output.get_names())
    return Port(min(names, default=output.get_node().get_friendly_name()), names)


def _layers(model: Any) -> Iterator[Layer]:
    sources, passes = _provenance(model, "sources"), _provenance(model, "passes")
    keys: dict[tuple[str, int], str] = {}
    ports: dict[str, list[Port]] = {}
    for key, output in _outputs(model):
        keys[_place(output)] = key
        port = Port(key, frozenset(output.get_names()) | {key}, port_type(output))
        ports.setdefault(output.get_node().get_name(), []).append(port)
    for op in model.get_ordered_ops():
        if op.get_type_name() in _NO_LAYER:
            continue
        label = op.get_friendly_name()
        reads = (op.input_value(index) for index in range(op.get_input_size()))
        operands = (keys.get(_place(read)) for read in reads)
        own = sources.get(label, [])
        made = passes.get(label, "")
        yield Layer(
            label,
            op.get_type_name(),
            tuple(ports.get(op.get_name(), ())),
            tuple(key for key in operands if key is not None),
            *known_sources(own),
            passes=tuple(filter(None, str(made).split(","))),
        )


def _provenance(model: Any, what: str) -> dict[str, Any]:
    """Runtime info that optc wrote, by label; empty for any other IR."""
    path = ["optc", what]
    if not model.has_rt_info(path):
        return {}
    try:
        found = json.loads(str(model.get_rt_info(path).value))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _bound(op: Any) -> Tolerance:
    kind = op.get_type_name()
    if kind == "FakeQuantize":
        return Tolerance(relative=QUANTIZE_ERROR)
    floor = _UNIT_ERROR if kind in _UNIT else 0.0
    return Tolerance.from_variance(_roundings(op) * _FP32**2, floor=floor)


def _roundings(op: Any) -> int:
    """Additions and multiplications that go into one element; see `optc.numerics.roundings`."""
    kind = op.get_type_name()
    shapes = [port_type(port).shape or () for port in op.inputs()]
    if kind == "MatMul":
        transposed = op.get_attributes().get("transpose_a", False)
        axis = -2 if transposed and len(shapes[0]) > 1 else -1
        return _size(shapes[0][axis]) if shapes[0] else _UNKNOWN_LENGTH
    if kind in _WEIGHT_AXES:
        return math.prod(map(_size, shapes[1][_WEIGHT_AXES[kind] :]))
    if "Convolution" in kind:
        return math.prod(map(_size, (shapes[1][0], *shapes[1][2:])))
    if kind.startswith("Reduce") or "Pool" in kind or kind == "MVN":
        result = port_type(op.output(0)).shape or ()
        return max(math.prod(map(_size, shapes[0])) // max(math.prod(map(_size, result)), 1), 1)
    return _FUNCTION_ROUNDINGS


def _size(dim: object) -> int:
    return dim if isinstance(dim, int) else _UNKNOWN_LENGTH
