"""Opens a model in a runtime, single threaded and in fp32, and tells what it made of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

    Run = Callable[[], Sequence[np.ndarray]]

ort.set_default_logger_severity(4)
RUNTIMES = ("onnxruntime", "openvino")


def open_model(
    model: bytes | str, feeds: Mapping[str, np.ndarray], runtime: str, keys: Mapping[str, str]
) -> Run:
    """A call that runs the model once; `keys` are session entries or properties."""
    return (_open_onnxruntime if runtime == "onnxruntime" else _open_openvino)(model, feeds, keys)


def _options(keys: Mapping[str, str]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for key, value in keys.items():
        if key == "level":
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, value)
        elif key in ("enable_mem_pattern", "enable_cpu_mem_arena"):
            setattr(options, key, value == "1")
        else:
            options.add_session_config_entry(key, value)
    return options


def _session(model: bytes | str, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(model, options, ["CPUExecutionProvider"])


def _open_onnxruntime(
    model: bytes | str, feeds: Mapping[str, np.ndarray], keys: Mapping[str, str]
) -> Run:
    session = _session(model, _options(keys))
    binding = session.io_binding()
    for name, value in feeds.items():
        binding.bind_cpu_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)

    def run() -> Sequence[np.ndarray]:
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()

    return run


def _compile(model: bytes | str, keys: Mapping[str, str]) -> object:
    import openvino as ov

    core = ov.Core()
    read = core.read_model(model)
    fixed = {"INFERENCE_NUM_THREADS": "1", "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    return core.compile_model(read, "CPU", {**fixed, **keys})


def _open_openvino(
    model: bytes | str, feeds: Mapping[str, np.ndarray], keys: Mapping[str, str]
) -> Run:
    import openvino as ov

    request = _compile(model, keys).create_infer_request()  # type: ignore[attr-defined]
    for name, value in feeds.items():
        request.set_tensor(name, ov.Tensor(value, shared_memory=True))

    def run() -> Sequence[np.ndarray]:
        request.infer()
        return [tensor.data for tensor in request.output_tensors]

    return run


def executed(model: bytes | str, runtime: str, keys: Mapping[str, str]) -> str:
    """The operations that a runtime executes, counted."""
    if runtime == "onnxruntime":
        with tempfile.TemporaryDirectory() as folder:
            options = _options(keys)
            options.optimized_model_filepath = str(Path(folder) / "m.onnx")
            _session(model, options)
            made = onnx.load(options.optimized_model_filepath, load_external_data=False)
        return _counted([node.op_type for node in made.graph.node])
    info = [n.get_rt_info() for n in _compile(model, keys).get_runtime_model().get_ordered_ops()]  # type: ignore[attr-defined]
    kinds = [str(i["layerType"].value) for i in info]
    return _counted([k for k in kinds if k not in ("Input", "Output", "Const")])


def _counted(kinds: Sequence[str]) -> str:
    return " ".join(k if n == 1 else f"{n}·{k}" for k, n in Counter(kinds).items())
