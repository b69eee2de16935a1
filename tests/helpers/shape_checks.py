"""Infers a graph node by node, for the tests of shape rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import graph_from_text
from optc.ir import DType, TensorType, shapes

if TYPE_CHECKING:
    from optc.ir import Graph, Shape


def infer_all(graph: Graph) -> list[Shape | None]:
    """Record the shapes that the rules give; those of the last node."""
    known = shapes.values(graph)
    results: tuple[Shape | None, ...] | None = None
    for node in graph.ordered():
        results = shapes.infer(graph, node, known)
        for value, shape in zip(node.outputs, results or (), strict=False):
            if value is not None and shape is not None:
                dtype = value.type.dtype if isinstance(value.type, TensorType) else DType.F32
                graph.set_type(value, TensorType(dtype, shape))
        known.update(shapes.evaluate(graph, node, known, results))
    return list(results or ())


def infer_line(inputs: str, line: str, constants: str = "", opset: int = 21) -> list[Shape | None]:
    """The shapes that the last node of `line` gets."""
    header = f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    known = f"<{constants}>" if constants else ""
    return infer_all(graph_from_text(f"{header} g ({inputs}) => (float y) {known} {{ {line} }}"))
