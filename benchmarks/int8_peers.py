"""INT8 by the peers, with what their documentation says; runs in the environment of the peers.

usage: python benchmarks/int8_peers.py TOOL SOURCE DATA RESULT      TOOL: ort-static or nncf

DATA is an .npz file with keys ``calib:<input>``, one sample per leading row; inputs that it does
not have are zero. 64 samples at most.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

_SAMPLES = 64
_OPSET = 13  # the first with scales per channel
_TRANSFORMERS = ("minilm", "llama", "bert", "gpt2")


def feeds(model: str, data: str) -> list[dict[str, Any]]:
    """Inputs to calibrate on, one sample each."""
    onnx = importlib.import_module("onnx")
    arrays = np.load(data, allow_pickle=False)
    graph = onnx.load(model, load_external_data=False).graph
    constants = {item.name for item in graph.initializer}
    found: list[dict[str, Any]] = []
    count = min(_SAMPLES, *(len(arrays[key]) for key in arrays.files if key.startswith("calib:")))
    for number in range(count):
        sample = {}
        for item in graph.input:
            if item.name in constants:
                continue
            key, kind = f"calib:{item.name}", item.type.tensor_type
            dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
            if key in arrays.files:
                whole = arrays[key].ndim > len(kind.shape.dim)
                row = arrays[key][number] if whole else arrays[key][number : number + 1]
                sample[item.name] = row.astype(dtype)
            else:
                shape = [dim.dim_value or 1 for dim in kind.shape.dim]
                sample[item.name] = np.zeros(shape, dtype)
        found.append(sample)
    return found


def ort_static(source: str, data: str, result: str) -> None:
    """Static QDQ of onnxruntime: preprocessed, u8 activations, s8 weights per channel, min-max."""
    onnx = importlib.import_module("onnx")
    tool = importlib.import_module("onnxruntime.quantization")
    shapes = importlib.import_module("onnxruntime.quantization.shape_inference")

    class Reader(tool.CalibrationDataReader):  # type: ignore[misc, name-defined]  # no types here
        def __init__(self) -> None:
            self._left = iter(feeds(source, data))

        def get_next(self) -> dict[str, Any] | None:
            return next(self._left, None)

    base, prepared = f"{result}.base.onnx", f"{result}.prepared.onnx"
    model = onnx.load(source)
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) < _OPSET:
        model = onnx.version_converter.convert_version(model, _OPSET)
    onnx.save(model, base)
    try:
        shapes.quant_pre_process(base, prepared)
    except Exception:  # raised as such where its symbolic shape inference gives up
        shapes.quant_pre_process(base, prepared, skip_symbolic_shape=True)
    tool.quantize_static(
        prepared,
        result,
        Reader(),
        quant_format=tool.QuantFormat.QDQ,
        per_channel=True,
        activation_type=tool.QuantType.QUInt8,
        weight_type=tool.QuantType.QInt8,
    )


def nncf(source: str, data: str, result: str) -> None:
    """NNCF on the OpenVINO model."""
    tool, ov = importlib.import_module("nncf"), importlib.import_module("openvino")
    samples = feeds(source, data)
    is_transformer = any(word in Path(source).stem for word in _TRANSFORMERS)
    kind = tool.ModelType.TRANSFORMER if is_transformer else None
    model = ov.Core().read_model(source)
    made = tool.quantize(model, tool.Dataset(samples), subset_size=len(samples), model_type=kind)
    ov.save_model(made, result)


if __name__ == "__main__":
    {"ort-static": ort_static, "nncf": nncf}[sys.argv[1]](*sys.argv[2:])
