"""Makes what one peer tool makes of a model; runs in the environment that has the peers.

usage: python benchmarks/peers.py TOOL SOURCE RESULT [TYPE]
       python benchmarks/peers.py versions

Tools: onnxslim, onnxsim, ort-saved (the model that ONNX Runtime writes after its own optimizations
for this machine), ort-transformers (onnxruntime.transformers.optimizer, for models of TYPE), and
openvino (`ov.convert_model`, weights in float32). Defaults throughout, as a user would call them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("onnx", "onnxruntime", "onnxslim", "onnxsim", "openvino")


def onnxslim(source: str, result: str) -> None:
    """Slim a model."""
    importlib.import_module("onnxslim").slim(source, result)


def onnxsim(source: str, result: str) -> None:
    """Simplify a model."""
    onnx = importlib.import_module("onnx")
    model, valid = importlib.import_module("onnxsim").simplify(source)
    if not valid:
        raise RuntimeError("onnxsim says that its result differs")
    onnx.save(model, result)


def ort_saved(source: str, result: str) -> None:
    """Let ONNX Runtime write what it would execute."""
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = result
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def ort_transformers(source: str, result: str, model_type: str) -> None:
    """Let the transformer optimizer of ONNX Runtime fuse a model; it finds the number of heads."""
    optimizer = importlib.import_module("onnxruntime.transformers.optimizer")
    optimized = optimizer.optimize_model(source, model_type=model_type)
    optimized.save_model_to_file(result)


def openvino(source: str, result: str) -> None:
    """Convert a model as OpenVINO's documentation does."""
    ov = importlib.import_module("openvino")
    ov.save_model(ov.convert_model(source), result, compress_to_fp16=False)


def versions() -> dict[str, str]:
    """Of what is installed here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


TOOLS: dict[str, Callable[..., None]] = {
    "onnxslim": onnxslim,
    "onnxsim": onnxsim,
    "ort-saved": ort_saved,
    "ort-transformers": ort_transformers,
    "openvino": openvino,
}

if __name__ == "__main__":
    if sys.argv[1:] == ["versions"]:
        print(json.dumps(versions()))
    else:
        tool, source, result, *rest = sys.argv[1:]
        TOOLS[tool](source, result, *rest)
