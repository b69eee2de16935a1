"""Opens a model in its runtime with the options of runtime.json, and runs it on numpy arrays."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from optc.errors import CapabilityError, ModelError
from optc.ir.tensor import Tensor
from optc.ir.types import DType, TensorType
from optc.numerics.backends import import_openvino
from optc.numerics.evaluate import Session, openvino_reason, readable, runtime_errors
from optc.numerics.noise import Runner
from optc.numerics.values import fed
from optc.numerics.values import native as native_order
from optc.targets import load_runtime
from optc.targets.fact import version_key
from optc.versions import library_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from optc.ir.types import Type
    from optc.launch.options import LaunchOptions
    from optc.numerics.values import Array, Feeds, Value


class Engine(Runner, Protocol):
    """A model in its runtime."""

    @property
    def native(self) -> Any:
        """The object of the runtime: an InferenceSession or a CompiledModel."""

    @property
    def inputs(self) -> Mapping[str, Type]:
        """Types of the inputs that a run must be given, by name."""

    def bind(self, feeds: Mapping[str, Value]) -> Callable[[], object]:
        """A call that runs the model on these inputs and does little else: what clocks measure.

        Inputs that the runtime takes without a copy are not copied, outputs stay where it leaves
        them. Run the inputs once with `run` before, which reports what is wrong with them.
        """


def require_runtime(name: str) -> None:
    """Refuse a runtime that is not installed, or older than what artefacts are made for.

    Raises:
        CapabilityError: ``runtime-missing`` or ``runtime-too-old``.
    """
    minimum = load_runtime(name).versions.minimum
    found = library_version(name)
    if found is None:
        raise _missing(name, minimum)
    _check_version(name, found, minimum)


def open_engine(model: Path | Any, options: LaunchOptions) -> Engine:
    """Load a model with exactly these options.

    Args:
        model: the file; or, for OpenVINO, an ``openvino.Model`` in memory.
        options: runtime and options.

    Raises:
        CapabilityError: ``runtime-missing`` or ``runtime-too-old``.
        ModelError: ``runtime-cannot-load``: the runtime rejects the model or an option.
    """
    try:
        if options.runtime == "openvino":
            return OpenVinoEngine(model, options)
        return _OnnxRuntime(model, options)
    except ImportError as error:
        raise _missing(options.runtime, options.minimum_version) from error


def _missing(runtime: str, minimum: str) -> CapabilityError:
    return CapabilityError(
        "runtime-missing",
        f"{runtime} is not installed, and the model is compiled for it",
        hint=f"pip install '{runtime}>={minimum}'",
    )


def _check_version(runtime: str, found: str, minimum: str) -> None:
    """Refuse a runtime that is older than what artefacts are made for."""
    if version_key(found) < version_key(minimum):
        raise CapabilityError(
            "runtime-too-old",
            f"{runtime} {found} is installed; artefacts need {minimum}",
            hint=f"pip install '{runtime}>={minimum}'",
        )


class _OnnxRuntime:
    """ONNX Runtime; values that numpy lacks travel as `Session` knows how."""

    def __init__(self, model: Path, options: LaunchOptions) -> None:
        import onnxruntime

        _check_version("onnxruntime", onnxruntime.__version__, options.minimum_version)
        session_options = onnxruntime.SessionOptions()
        enums = (onnxruntime.ExecutionMode, onnxruntime.GraphOptimizationLevel)
        for name, value in options.session_options.items():
            known = next((getattr(e, str(value)) for e in enums if hasattr(e, str(value))), value)
            setattr(session_options, name, known)
        for name, text in options.session_config.items():
            session_options.add_session_config_entry(name, text)
        try:
            self.native = onnxruntime.InferenceSession(
                str(model),
                session_options,
                providers=list(options.providers),
                enable_fallback=0,  # the fallback prints
            )
        except runtime_errors() as error:
            raise ModelError(
                "runtime-cannot-load", f"onnxruntime: {readable(str(error))}", location=str(model)
            ) from error
        self._session = Session(self.native)

    @property
    def inputs(self) -> Mapping[str, Type]:
        return self._session.inputs

    def run(self, feeds: Mapping[str, Value]) -> Feeds:
        return self._session.run(feeds)

    def bind(self, feeds: Mapping[str, Value]) -> Callable[[], object]:
        return self._session.bind(feeds)


class OpenVinoEngine:
    """OpenVINO; all runs share one request, so those of several threads take turns."""

    def __init__(self, model: Path | Any, options: LaunchOptions) -> None:
        openvino = import_openvino()
        _check_version("openvino", openvino.__version__, options.minimum_version)
        source = model if isinstance(model, openvino.Model) else str(model)
        try:
            self.native = openvino.Core().compile_model(source, options.device, options.properties)
        except RuntimeError as error:
            raise ModelError(
                "runtime-cannot-load", f"openvino: {openvino_reason(error)}", location=str(model)
            ) from error
        self._request = self.native.create_infer_request()
        self._turn = threading.Lock()
        self._tensor = openvino.Tensor

    @property
    def inputs(self) -> Mapping[str, Type]:
        """As `Engine.inputs`."""
        return {port_name(port): port_type(port) for port in self.native.inputs}

    def run(self, feeds: Mapping[str, Value]) -> Feeds:
        """As `Runner.run`."""
        fed = self._given(feeds)
        with self._turn:
            try:
                for port, value in zip(self.native.inputs, fed, strict=True):
                    self._request.set_tensor(port, self._fed(port, value))
                self._request.infer()
            except (RuntimeError, TypeError, ValueError) as error:
                raise ModelError("runtime-failed", f"openvino: {openvino_reason(error)}") from error
            return {
                port_name(port): _fetched(self._request.get_tensor(port), port_type(port))
                for port in self.native.outputs
            }

    def bind(self, feeds: Mapping[str, Value]) -> Callable[[], object]:
        """As `Engine.bind`."""
        tensors = {
            number: self._fed(port, feeds[port_name(port)])
            for number, port in enumerate(self.native.inputs)
        }

        def call() -> object:
            self._request.set_input_tensors(tensors)
            return self._request.infer(share_outputs=True)

        return call

    def _given(self, feeds: Mapping[str, Value]) -> list[Value]:
        """The values in the order of the ports; any name of a port's tensor will do.

        OpenVINO leaves out inputs that have no elements: those may be given all the same.
        """
        taken = [next((n for n in p.get_names() if n in feeds), None) for p in self.native.inputs]
        missing = [
            port_name(p) for p, n in zip(self.native.inputs, taken, strict=True) if n is None
        ]
        unknown = (n for n, value in feeds.items() if n not in taken and np.asarray(value).size)
        if wrong := sorted({*missing, *unknown}):
            names = ", ".join(wrong)
            raise ModelError("runtime-failed", f"openvino: missing or unknown inputs: {names}")
        return [feeds[name] for name in taken if name is not None]

    def profile(self) -> dict[str, float]:
        """Seconds of each step of the last run, by name; needs the property PERF_COUNT."""
        infos = self._request.get_profiling_info()
        return {info.node_name: info.real_time.total_seconds() for info in infos}

    def _fed(self, port: Any, value: Value) -> Any:
        """A tensor with a copy of the value; bit by bit for types that numpy itself lacks."""
        type_ = port_type(port)
        array = native_order(np.asarray(fed(value, type_), order="C"))
        if not isinstance(type_, TensorType) or array.dtype != type_.dtype.numpy:
            raise TypeError(f"{port_name(port)} is {type_}, not {array.dtype}")
        tensor = self._tensor(port.get_element_type(), list(array.shape))
        if array.dtype.isbuiltin == 2:
            packed = np.frombuffer(Tensor.from_numpy(array).raw(), np.uint8)
            np.asarray(tensor.data).reshape(-1).view(np.uint8)[...] = packed
        else:
            tensor.data[...] = array
        return tensor


def port_name(port: Any) -> str:
    """The name of an input or output as the model states it; its tensor may have others as well."""
    names = port.get_names()
    own = re.sub(r"/sink_port_\d+$", "", port.get_node().get_friendly_name())
    return own if own in names else str(port.get_any_name())


def port_type(port: Any) -> TensorType:
    """The type of an input or output of OpenVINO; sizes that are not fixed are None."""
    name = str(port.get_element_type().get_type_name())
    shape = port.get_partial_shape()
    dims = None
    if shape.rank.is_static:
        dims = tuple(dim.get_length() if dim.is_static else None for dim in shape)
    return TensorType(_ELEMENTS.get(name, DType.UNDEFINED), dims)


# OpenVINO's names of element types: ours, but for these.
_ELEMENTS = {dtype.value: dtype for dtype in DType} | {
    "boolean": DType.BOOL,
    "string": DType.STRING,
    "f8e4m3": DType.F8E4M3FN,
}


def _fetched(tensor: Any, type_: Type) -> Array:
    """A copy of an output: the next run overwrites the tensor."""
    data = np.array(tensor.data)
    dtype = type_.dtype if isinstance(type_, TensorType) else DType.UNDEFINED
    if dtype is DType.UNDEFINED or dtype.numpy.isbuiltin != 2:
        return data
    packed = data.reshape(-1).view(np.uint8).tobytes()
    return Tensor.from_raw(dtype, tuple(tensor.shape), packed).numpy().copy()
