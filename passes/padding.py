"""What a Pad adds: read from a match, in all forms that the operator has had.

Source: ONNX operator Pad-2 (attributes), Pad-11 (operands), Pad-18 (axes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optc.ir import ops
from optc.ir.shape_site import Site, constant_tensor, normal_axes, shape_of

if TYPE_CHECKING:
    from optc.ir import Graph, Node


@dataclass(frozen=True)
class Padding:
    """Constant padding.

    Attributes:
        before: elements put before the first, by axis.
        after: elements put behind the last, by axis.
        value: the number that is put there.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float

    @property
    def is_spatial(self) -> bool:
        """Whether it leaves the first two axes, batch and channels, as they are."""
        return not any((*self.before[:2], *self.after[:2]))

    @property
    def grows(self) -> bool:
        """Whether nothing is cut off."""
        return all(amount >= 0 for amount in (*self.before, *self.after))


def padding_of(graph: Graph, node: Node) -> Padding | str:
    """What a Pad adds, or why that is not known."""
    if (mode := ops.attribute(graph, node, "mode")) not in (b"constant", None):
        return f"it pads by mode {mode.decode()}"
    site = Site(graph, node, {})
    pads = site.parameter("pads", 1)
    if pads is None:
        return f"the pads of {node.label} are not constant"
    value = _value(graph, node)
    if value is None:
        return f"the value of {node.label} is not constant"
    axes = _axes(graph, node, len(pads) // 2)
    if isinstance(axes, str):
        return axes
    rank, chosen = axes
    before, after = [0] * rank, [0] * rank
    for place, axis in enumerate(chosen):
        before[axis], after[axis] = pads[place], pads[place + len(chosen)]
    return Padding(tuple(before), tuple(after), value)


def _axes(graph: Graph, node: Node, count: int) -> tuple[int, list[int]] | str:
    """The rank, and the axes that the numbers are for."""
    if graph.operand(node, 3) is None:
        return count, list(range(count))
    data = graph.operand(node, 0)
    shape = None if data is None else shape_of(graph, data)
    given = Site(graph, node, {}).integers(3)
    axes = None if given is None or shape is None else normal_axes(given, len(shape))
    if shape is None or axes is None or len(axes) != count:
        return f"the axes of {node.label} are not known"
    return len(shape), axes


def _value(graph: Graph, node: Node) -> float | None:
    if graph.opset < 11:
        return float(node.get("value", 0.0))
    operand = graph.operand(node, 2)
    if operand is None:
        return 0.0
    tensor = constant_tensor(operand)
    if tensor is None or tensor.elements != 1:
        return None
    number = float(tensor.numpy().reshape(-1)[0])
    return None if math.isnan(number) else number
