"""Write wide zero padding of a convolution as a Pad of its own.

    Conv(x, W, pads=(p, q))  =  Conv(Pad(x, q along the last axis), W, pads=(p, 0))

A kernel computes places whose window lies in the data in blocks, and those whose window reaches
into the padding one by one. Where the latter do much of the work, as along the time axis of audio
models, copying the data into a padded image costs less. The runtime must then not fold the Pad back
(descriptors of runtimes, `switched_off`).
Source: ONNX operators Conv-22, Pad-11; benchmarks/forms/convolution.py has the measurement.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

from pydantic import Field

from optc.ir import DType, TensorType
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassOptions, PassResult
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "conv-pads"
_OPERAND_SINCE: Final = 11


class LowerPadsOptions(PassOptions):
    """Options of `lower-pads`."""

    least_work: int = Field(
        default=300,
        ge=0,
        description="multiply-adds at places whose window reaches into the padding, for each "
        "element of the padded data, from which on the padding is written as a Pad",
    )
    least_width: int = Field(default=7, ge=2, description="width of the window from which on it is")


class LowerPads(Pass):
    """Pad the last axis before a convolution where its kernel would be slow at the border.

    Refuses: sizes that are not known; automatic padding; a quantized convolution.
    """

    name: ClassVar[str] = "lower-pads"
    Options: ClassVar[type[PassOptions]] = LowerPadsOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Rewrite in the graph and all its subgraphs."""
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            for node in nested.ordered():
                if node.is_op("Conv") and _width(nested, node) >= self._own.least_width:
                    self._lower(nested, node, trace)
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)

    @property
    def _own(self) -> LowerPadsOptions:
        assert isinstance(self.options, LowerPadsOptions)
        return self.options

    def _lower(self, graph: Graph, node: Node, trace: Trace) -> None:
        pads = [int(pad) for pad in node.get("pads", ())]
        rank = len(pads) // 2
        if node.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            trace.refused(_RULE, node, f"it pads by auto_pad {node.get('auto_pad').decode()}")
            return
        if not pads or not pads[rank - 1] + pads[-1]:
            return
        data = graph.operand(node, 0)
        if data is not None and data.node.is_op("DequantizeLinear"):
            trace.refused(_RULE, node, "it is quantized, and a Pad would stand between")
            return
        work = _work(graph, node, pads)
        if work is None:
            trace.refused(_RULE, node, "the sizes of its data are not known")
        elif work >= self._own.least_work:
            _split(graph, node, pads, trace)


def _width(graph: Graph, node: Node) -> int:
    """The width of the window; 0 when it is not known."""
    weight = graph.operand(node, 1)
    shape = None if weight is None else shape_of(graph, weight)
    kind = None if weight is None else weight.type
    if shape is None or not isinstance(kind, TensorType) or kind.dtype is not DType.F32:
        return 0
    return shape[-1] if len(shape) > 2 and isinstance(shape[-1], int) else 0


def _work(graph: Graph, node: Node, pads: list[int]) -> float | None:
    """Multiply-adds at the border in the last axis for each element of the padded data."""
    data, weight = graph.operand(node, 0), graph.operand(node, 1)
    assert data is not None
    assert weight is not None
    shapes = [shape_of(graph, value) for value in (data, weight, node.output)]
    sizes = [
        [dim for dim in shape[start:] if isinstance(dim, int)]
        for shape, start in zip(shapes, (1, 0, 1), strict=True)
        if shape is not None
    ]
    rank = len(pads) // 2
    if [len(size) for size in sizes] != [rank + 1, rank + 2, rank + 1]:
        return None
    image, kernel, result = sizes
    stride = node.get("strides", (1,) * rank)[-1]
    border = sum(math.ceil(pad / stride) for pad in (pads[rank - 1], pads[-1]))
    places = min(border, result[-1]) * math.prod(result[1:-1])
    padded = math.prod(image[:-1]) * (image[-1] + pads[rank - 1] + pads[-1])
    return places * math.prod(kernel) / padded if padded else None


def _split(graph: Graph, node: Node, pads: list[int], trace: Trace) -> None:
    rank = len(pads) // 2
    wide = [0] * (2 * rank + 4)
    wide[rank + 1], wide[-1] = pads[rank - 1], pads[-1]
    rest = list(pads)
    rest[rank - 1] = rest[-1] = 0
    build = Builder(graph, trace.pass_name, (node,))
    operands = list(graph.operands(node))
    operands[0] = _padded(graph, build, node, wide)
    attributes = {name: item.value for name, item in node.attributes.items() if name != "auto_pad"}
    made = build.node("Conv", operands, attributes={**attributes, "pads": rest})
    made.name = node.name
    trace.applied(_RULE, node)
    replace_node(graph, node, [made.output], build.made)


def _padded(graph: Graph, build: Builder, node: Node, pads: list[int]) -> Value:
    data = graph.operand(node, 0)
    if graph.opset < _OPERAND_SINCE:
        return build.node("Pad", [data], attributes={"pads": pads}).output
    amounts = build.constant(pads, dtype=DType.I64, name=f"{node.key}_pads")
    return build.node("Pad", [data, amounts]).output
