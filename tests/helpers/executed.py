"""What ONNX Runtime makes of a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnxruntime as ort

from optc.emit.onnx import serialize

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph


def executed(graph: Graph, saved: Path) -> list[str]:
    """The operators that ONNX Runtime runs; its optimized model is saved on the way."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(saved)
    ort.InferenceSession(serialize(graph), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(saved).graph.node]
