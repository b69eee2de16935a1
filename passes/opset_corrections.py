"""What the version converter of the onnx package gets wrong, found by running both versions.

Each entry is for an operator whose meaning changes at one version, which the converter passes over.
It either says what to write into the converted node to keep the old meaning, or why there is no way
to keep it. Checked with onnx 1.23 against onnxruntime on both sides of the change.
Source: ONNX operator changelog, at the versions named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from optc.ir import ops
from optc.ir.shape_site import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from optc.ir import Graph, Node

    Correction: TypeAlias = Callable[[Graph, Node], Mapping[str, Any] | str]


def correction(graph: Graph, node: Node, to: int) -> Mapping[str, Any] | str:
    """Attributes to write into the conversion of a node to opset `to`, or why it has none."""
    version, correct = _CORRECTIONS.get(node.op_type, (0, None))
    if correct is None or not graph.opset < version <= to:
        return {}
    return correct(graph, node)


def _hardmax(graph: Graph, node: Node) -> Mapping[str, Any] | str:
    """From 13 on along one axis; before, over all dimensions from that axis on."""
    value = graph.operand(node, 0)
    shape = None if value is None else shape_of(graph, value)
    axis = ops.attribute(graph, node, "axis")
    if shape is not None and axis in (-1, len(shape) - 1):
        return {"axis": -1}
    return f"Hardmax-{graph.opset} with axis {axis} is not known to run along the last dimension"


def _resize(graph: Graph, node: Node) -> Mapping[str, Any] | str:
    """From 11 on centres of pixels are aligned unless told otherwise; before, corners."""
    attributes = {"coordinate_transformation_mode": "asymmetric"}
    if ops.attribute(graph, node, "mode") != b"nearest":
        return attributes
    scales = graph.operand(node, 1)
    tensor = None if scales is None else scales.constant
    upward = node.op_type == "Upsample" or (tensor is not None and (tensor.numpy() >= 1).all())
    if not upward:
        return "which neighbour Resize-10 takes when it scales down is not specified"
    return {**attributes, "nearest_mode": "floor"}


def _dropout(graph: Graph, node: Node) -> Mapping[str, Any] | str:
    """From 12 on the mask of inference mode is all true; before, it was not specified."""
    mask = node.outputs[1] if len(node.outputs) > 1 else None
    return f"its mask {mask.name} is used" if mask is not None and graph.is_used(mask) else {}


_CORRECTIONS: Final[Mapping[str, tuple[int, Correction]]] = {
    "Dropout": (12, _dropout),
    "Hardmax": (13, _hardmax),
    "Resize": (11, _resize),
    "Upsample": (11, _resize),
}
"""By operator: the first opset with the new meaning, and the correction."""
