"""Compiles ONNX models with OpenVINO and reports which layers the CPU plugin made of them.

Run as a program, because the ISA that oneDNN may use is read once per process:
``python openvino_audit.py JOBS RESULT``. JOBS is JSON: ``[[path, precision hint, number or null],
…]``; RESULT gets JSON: per model either ``{"error": text}`` or the layers ``[layer type, precision,
primitive]`` of the runtime model, and the first element of the result for an input that holds the
number everywhere. A line ``case N`` on stdout stands before what ONEDNN_VERBOSE says about model N.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

SKIPPED = {"Input", "Output", "Const", "Constant", "Parameter", "Result"}


def main(jobs: Path, result: Path) -> None:
    """Audit every job in its order."""
    import openvino

    core = openvino.Core()
    flush = ctypes.CDLL(None).fflush
    found = []
    for index, (path, hint, number) in enumerate(json.loads(jobs.read_text(encoding="utf-8"))):
        os.write(1, f"case {index}\n".encode())
        found.append(audit(openvino, core, path, hint, number))
        flush(None)
    result.write_text(json.dumps(found), encoding="utf-8")


def audit(openvino: Any, core: Any, path: str, hint: str, number: float | None) -> dict[str, Any]:
    """The layers that the CPU plugin made of a model, and what it computes."""
    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": hint}
    try:
        compiled = core.compile_model(core.read_model(path), "CPU", config)
    except RuntimeError as error:
        return {"error": str(error)}
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind, precision, primitive = (
            text(info, key) for key in ("layerType", "runtimePrecision", "primitiveType")
        )
        if kind not in SKIPPED:
            layers.append([kind, precision, primitive])
    result = None if number is None else compute(compiled, number)
    return {"layers": layers, "version": openvino.__version__, "result": result}


def compute(compiled: Any, number: float) -> float:
    """The first element of the result for an input that holds the number everywhere."""
    import numpy as np

    values = np.full(compiled.input(0).shape, number, np.float32)
    return float(compiled(values)[0].ravel()[0])


def text(info: Any, key: str) -> str:
    """An entry of the runtime information, empty when it is missing."""
    if key not in info:
        return ""
    value = info[key]
    return str(getattr(value, "value", value))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
