"""Run ONNX models: the only place that talks to onnxruntime.

A `Session` hides what onnxruntime's numpy interface lacks: bfloat16, float8 and integers below
8 bits travel as raw tensors, strings are made unicode, foreign byte order is converted (onnxruntime
would read it as native), nothing is logged or printed. Its settings belong to the session: there
is no global state, and the environment is not read.
"""

from __future__ import annotations

import ctypes
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np

from optc.errors import ModelError
from optc.ir.tensor import Tensor
from optc.ir.types import (
    DType,
    MapType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)
from optc.numerics.values import fed, native, text_array

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from optc.ir.types import Shape, Type
    from optc.numerics.values import Array, Feeds, Value

Optimization: TypeAlias = Literal["none", "basic", "extended", "all"]
"""How far onnxruntime rewrites the graph before it runs it: not at all, folding and elimination,
fusions as well, hardware-specific layouts as well."""

_LEVELS: Final = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_SILENT: Final = 4  # onnxruntime's severities: 0 verbose … 4 fatal

# onnxruntime's names of element types: numpy's without underscores, but for these.
_ELEMENTS: Final[Mapping[str, DType]] = {
    dtype.numpy.name.replace("_", ""): dtype for dtype in DType if dtype is not DType.UNDEFINED
} | {
    "float": DType.F32,
    "double": DType.F64,
    "string": DType.STRING,
    "float8e8m0": DType.F8E8M0,
    "float4e2m1": DType.F4E2M1,
}


class Session:
    """A model that is ready to run; made by `open_session`.

    Attributes:
        inputs: types of the inputs that a run must be given, by name, in order. onnxruntime does
            not tell a scalar from a tensor of unknown rank: both have shape None here.
        defaults: types of the inputs that may be left out, because an initializer of the same
            name supplies them.
        outputs: types of the outputs by name, in order.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs: Mapping[str, Type] = _types(session.get_inputs())
        self.defaults: Mapping[str, Type] = _types(session.get_overridable_initializers())
        self.outputs: Mapping[str, Type] = _types(session.get_outputs())

    def run(self, feeds: Mapping[str, Value], outputs: Sequence[str] | None = None) -> Feeds:
        """Run the model once.

        Args:
            feeds: a value for each input; None, or nothing, for an absent optional. Numbers for
                bfloat16 inputs are rounded.
            outputs: names of the outputs to compute; default all.

        Returns:
            The outputs by name, in the order asked for.

        Raises:
            ModelError: ``runtime-failed``: an input is missing, unknown or of the wrong type or
                shape, or a node failed; `failing_node` finds its name.
        """
        names = list(self.outputs if outputs is None else outputs)
        try:
            return self._run(feeds, names)
        except runtime_errors() as error:
            raise ModelError("runtime-failed", f"onnxruntime: {readable(str(error))}") from error

    def bind(self, feeds: Mapping[str, Value]) -> Callable[[], object]:
        """A call that runs the model on these inputs and does little else: what clocks measure.

        Run the inputs once with `run` before, which reports what is wrong with them.
        """
        names = list(self.outputs)
        if any(_has_raw(type_) for type_ in self.outputs.values()):
            return partial(self._run, feeds, names)
        return partial(self._session.run, names, self._prepared(feeds))

    def _prepared(self, feeds: Mapping[str, Value]) -> dict[str, Any]:
        return {name: _feed(fed(value, self.inputs.get(name))) for name, value in feeds.items()}

    def _run(self, feeds: Mapping[str, Value], names: list[str]) -> Feeds:
        from onnxruntime import RunOptions

        options = RunOptions()
        options.log_severity_level = _SILENT
        prepared = self._prepared(feeds)
        raw = [name for name in names if _has_raw(self.outputs.get(name))]
        # A raw output can only be fetched as a raw value. That interface takes tensors alone, and
        # gives no sequences: the other outputs come from a second run, of the plain interface.
        found: dict[str, Value] = {}
        if raw:
            tensors = {n: _raw_feed(n, v) for n, v in prepared.items() if v is not None}
            values = self._session.run_with_ort_values(raw, tensors, options)
            found = {name: _fetch(value) for name, value in zip(raw, values, strict=True)}
        if plain := [name for name in names if name not in found]:
            found.update(zip(plain, self._session.run(plain, prepared, options), strict=True))
        return {name: found[name] for name in names}


def open_session(
    model: bytes | Path,
    *,
    threads: int = 1,
    optimize: Optimization = "all",
    external_dir: Path | None = None,
    exact_integers: bool = False,
) -> Session:
    """Load a model for execution on this machine's CPU.

    Args:
        model: serialized ONNX, or the path of an ONNX file (needed for models beyond 2 GB).
        threads: number of threads one operator may use; 0 for all CPUs of this process. Results
            may differ in the last bits between thread counts: use 1 for what reaches a file.
        optimize: how far onnxruntime rewrites the graph first. With "none", nodes keep the names
            of the model in error messages.
        external_dir: folder of external data for a model given as bytes.
        exact_integers: compute between DequantizeLinear and QuantizeLinear in floating point, as
            it is written; onnxruntime's integer kernels saturate on CPUs without VNNI.

    Raises:
        ModelError: ``runtime-cannot-load``: onnxruntime rejects the model or lacks a kernel.
    """
    import onnxruntime

    assert optimize in get_args(Optimization)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, _LEVELS[optimize]
    )
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    # Waiting threads sleep: sessions of a verification take turns on the same CPUs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if exact_integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if external_dir is not None:
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(external_dir))
    source = str(model) if isinstance(model, Path) else model
    try:
        session = onnxruntime.InferenceSession(
            source,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=0,  # the fallback prints
            read_config_from_model=0,
        )
    except runtime_errors() as error:
        reason = readable(str(error))
        raise ModelError(
            "runtime-cannot-load",
            f"onnxruntime: {reason}",
            location=model.name if isinstance(model, Path) else None,
            hint=_NO_KERNEL if "Could not find an implementation" in reason else None,
        ) from error
    return Session(session)


def reference_run(model: bytes | Path, feeds: Mapping[str, Value]) -> Feeds:
    """Run a model on the reference evaluator of the onnx package: slow, for what onnxruntime lacks.

    Raises:
        ModelError: ``reference-failed``: the evaluator does not support the model either.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(str(model) if isinstance(model, Path) else model)
            results = evaluator.run(None, dict(feeds))
    except _REFERENCE_ERRORS as error:
        reason = readable(str(error)) or type(error).__name__
        raise ModelError("reference-failed", f"the reference evaluator fails: {reason}") from error
    return dict(zip(evaluator.output_names, map(_array, results), strict=True))


def _array(value: Any) -> Value:
    """The value, with a numpy scalar made a tensor without dimensions."""
    if isinstance(value, list):
        return [_array(item) for item in value]
    array: Value = np.asarray(value) if isinstance(value, np.generic) else value
    return array


# The evaluator is plain Python over numpy; operators raise whatever numpy and Python raise.
_REFERENCE_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def available_cpus() -> int:
    """Number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


# ---- values ------------------------------------------------------------------------------------


def _is_raw(dtype: DType) -> bool:
    """Whether numpy itself has no such type, so that onnxruntime cannot exchange it as array."""
    return dtype is not DType.UNDEFINED and dtype.numpy.isbuiltin == 2


def _has_raw(type_: Type | None) -> bool:
    if isinstance(type_, OptionalType):
        return _has_raw(type_.element)
    return isinstance(type_, TensorType) and _is_raw(type_.dtype)


def _feed(value: Value) -> Any:
    if isinstance(value, list):
        return [_feed(item) for item in value]
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind in "OUST":
        return text_array(value)  # of bytes, onnxruntime would take the text "b'…'"
    value = native(value)
    return _raw_value(value) if value.dtype.isbuiltin == 2 else value


def _raw_value(array: Array) -> Any:
    """An OrtValue that owns a packed copy of the elements."""
    from onnxruntime import OrtValue

    tensor = Tensor.from_numpy(array)
    packed = tensor.raw()
    value = OrtValue.ortvalue_from_shape_and_type(list(tensor.shape), tensor.dtype.onnx)
    if packed:
        ctypes.memmove(value.data_ptr(), packed, len(packed))
    return value


def _raw_feed(name: str, value: Any) -> Any:
    from onnxruntime import OrtValue

    if not isinstance(value, np.ndarray):
        if isinstance(value, OrtValue):
            return value
        raise TypeError(f"{name}: a sequence or map, in a model with outputs that numpy lacks")
    return OrtValue.ortvalue_from_numpy(value)


def _fetch(value: Any) -> Value:
    if not value.has_value():
        return None
    dtype = DType.from_onnx(value.element_type())
    if not _is_raw(dtype):
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    size = TensorType(dtype, shape).nbytes
    packed = ctypes.string_at(value.data_ptr(), size) if size else b""
    return Tensor.from_raw(dtype, shape, packed).numpy().copy()


# ---- types -------------------------------------------------------------------------------------


def _types(infos: Sequence[Any]) -> dict[str, Type]:
    return {info.name: _parse_type(info.type, _shape(info.shape)) for info in infos}


def _shape(dims: Sequence[int | str | None]) -> Shape | None:
    return tuple(dims) or None


def _parse_type(text: str, shape: Shape | None) -> Type:
    """The type that onnxruntime writes as e.g. ``optional(seq(tensor(float)))``."""
    head, _, rest = text.partition("(")
    inner = rest.removesuffix(")")
    match head:
        case "tensor":
            return TensorType(_ELEMENTS.get(inner, DType.UNDEFINED), shape)
        case "sparse_tensor":
            return SparseTensorType(_ELEMENTS.get(inner, DType.UNDEFINED), shape)
        case "seq":
            return SequenceType(_parse_type(inner, None))
        case "optional":
            return OptionalType(_parse_type(inner, shape))
        case "map":
            key, _, value = inner.partition(",")
            return MapType(_ELEMENTS[key], _parse_type(value, None))
        case _:
            raise ValueError(f"onnxruntime reports the unknown type {text!r}")


# ---- errors ------------------------------------------------------------------------------------

# Wordings of onnxruntime (checked with 1.31) that name a node, in the order of trust. Names may
# hold quotes and parentheses, so each pattern runs up to the text that follows the name.
_NODE_PATTERNS: Final = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"Non-zero status code returned while running \S+ node\. Name:'(.*?)' Status Message:",
        r"Could not find an implementation for \S+ node with name '(.*)'",
        r'In Node, \("(.*?)", [^,"]*, "[^"]*", -?\d+\) : ',
        r"Node:? ?\((.*?)\) Op \(",
        r"\bin node \((.*?)\)(?:\.| is invalid)",
        r"\bof node \((.*?)\) does not match",
        r"Node with name '?(.*?)'? is not",
    )
)
_STATUS_PREFIX: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE_PLACE: Final = re.compile(
    r"/\S+\.(?:h|hpp|cc|cpp):\d+ (?:[\w:<>~&*, ]+\(.*?\)(?: const)? )?", re.DOTALL
)
_LONGEST: Final = 400
_NO_KERNEL: Final = "onnxruntime has no CPU kernel for these element types"


def failing_node(error: str | BaseException) -> str | None:
    """The name of the node that an error blames, or None.

    Takes what `open_session` and `Session.run` raise, or onnxruntime's own text. For a failure
    inside a subgraph the result is the outermost node that the text names. None as well when the
    guilty node has no name.
    """
    # The message of a ModelError is shortened; its cause has the full text.
    text = error if isinstance(error, str) else str(error.__cause__ or error)
    for pattern in _NODE_PATTERNS:
        if found := pattern.search(text):
            return found.group(1) or None
    return None


def runtime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a model or inputs that it does not take."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception)]
    # The binding itself raises the built-in ones: missing inputs, types it cannot convert.
    return (*own, RuntimeError, TypeError, ValueError)


def readable(text: str) -> str:
    """The message on one line, without status code, source places and function signatures."""
    text = _SOURCE_PLACE.sub("", _STATUS_PREFIX.sub("", text))
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def openvino_reason(error: Exception) -> str:
    """What an OpenVINO message says: its last line; those before name places in source code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith(("Exception from src", "Check '"))]
    return readable((own or lines or [type(error).__name__])[-1])
