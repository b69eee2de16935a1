"""Regions of convolutions and pools that can be computed in another spatial layout.

A `Layout` says how values, attributes and constants look in the other layout. A region is grown
from convolutions through pools, pads and elementwise operations as far as all of it can be seen
that way; where values enter and leave it, the layout is changed, once for a whole network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from optc.ir import Kind, Tensor, TensorType, ops
from optc.ir.shape_site import shape_of
from optc.rewrite.driver import Builder, replace_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from optc.ir import Graph, Node, Shape, Value

CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
_POOLS: Final = ("MaxPool", "AveragePool")
_WHOLE: Final = ("BatchNormalization", "GlobalAveragePool", "GlobalMaxPool")
_PAD_OPERAND_SINCE: Final = 11
_PER_AXIS: Final = ("kernel_shape", "strides", "dilations", "output_padding")


class Layout(Protocol):
    """Another layout of the spatial axes.

    Attributes:
        rank: dimensions of the values before.
    """

    rank: int

    def fits(self, shape: Shape | None) -> bool:
        """Whether values of this shape can be seen in the layout."""

    def shape(self, shape: Shape) -> Shape:
        """The shape in the layout."""

    def enter(self, build: Builder, value: Value) -> Value:
        """Change a value to the layout."""

    def leave(self, build: Builder, value: Value) -> Value:
        """Change a value back."""

    def per_axis(self, values: Sequence[int]) -> list[int]:
        """An attribute with a number for each spatial axis, by its numbers before."""

    def pads(self, values: Sequence[int]) -> list[int]:
        """Padding at the begins and at the ends of the spatial axes."""

    def array(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A weight, or a constant that is broadcast against values."""

    def window_obstacle(self, graph: Graph, node: Node) -> str | None:
        """Why a convolution or pool cannot be computed in the layout, or None."""


@dataclass(frozen=True)
class Region:
    """Operations that are computed in the layout together, in the order of the graph."""

    nodes: tuple[Node, ...]


def grow(graph: Graph, seed: Node, layout: Layout) -> Region:
    """The region around a convolution that has no obstacle."""
    members = {seed}
    stack = [seed]
    while stack:
        node = stack.pop()
        for other in _neighbours(graph, node):
            if other not in members and obstacle(graph, other, layout) is None:
                members.add(other)
                stack.append(other)
    return Region(tuple(node for node in graph.ordered() if node in members))


def _neighbours(graph: Graph, node: Node) -> Iterator[Node]:
    for value in graph.operands(node):
        if value is not None:
            yield value.node
    for made in node.outputs:
        if made is not None:
            yield from (use.node for use in graph.uses(made))


def obstacle(graph: Graph, node: Node, layout: Layout) -> str | None:
    """Why an operation cannot be computed in the layout, or None when it can."""
    if node.kind is not Kind.OP or sum(value is not None for value in node.outputs) != 1:
        return "not an operation with one result"
    if not layout.fits(shape_of(graph, node.output)):
        return f"the shape of {node.output.name} does not fit"
    if node.is_op(*CONVOLUTIONS, *_POOLS):
        return _window_obstacle(graph, node, layout)
    if node.is_op(*_WHOLE):
        return _data_obstacle(graph, node, layout)
    if node.is_op("Pad"):
        return _pad_obstacle(graph, node, layout)
    if node.is_op("Concat"):
        return _concat_obstacle(graph, node, layout)
    row = ops.info(node)
    if row.has(ops.Trait.UNARY) and not row.has(ops.Trait.RANDOM):
        return _data_obstacle(graph, node, layout)
    if not row.has(ops.Trait.ELEMENTWISE) or row.has(ops.Trait.RANDOM):
        return f"{node.qualified_op} is not elementwise"
    return next(
        (why for v in graph.operands(node) if (why := _operand_obstacle(graph, v, layout))), None
    )


def _data_obstacle(graph: Graph, node: Node, layout: Layout) -> str | None:
    data = graph.operand(node, 0)
    if data is not None and layout.fits(shape_of(graph, data)):
        return None
    return "the shape of its operand does not fit"


def _pad_obstacle(graph: Graph, node: Node, layout: Layout) -> str | None:
    pads = graph.operand(node, 1)
    if graph.opset < _PAD_OPERAND_SINCE or pads is None or pads.constant is None:
        return "its pads are not a constant operand"
    if graph.operand(node, 3) is not None:
        return "it names axes"
    return _data_obstacle(graph, node, layout)


def _concat_obstacle(graph: Graph, node: Node, layout: Layout) -> str | None:
    if ops.attribute(graph, node, "axis") not in (0, 1):
        return "it does not join batches or channels"
    values = (value for value in graph.operands(node) if value is not None)
    return next((why for v in values if (why := _operand_obstacle(graph, v, layout))), None)


def _operand_obstacle(graph: Graph, value: Value | None, layout: Layout) -> str | None:
    if value is None:
        return None
    shape = shape_of(graph, value)
    if shape == () or layout.fits(shape):
        return None
    if value.constant is not None and _broadcasts(value.constant, layout):
        return None
    return f"the shape of {value.name} does not fit"


def _broadcasts(tensor: Tensor, layout: Layout) -> bool:
    """Whether a constant of fewer axes can be broadcast in the layout as it is outside."""
    rank = len(tensor.shape)
    return rank < layout.rank and layout.fits((1,) * (layout.rank - rank) + tensor.shape)


def _window_obstacle(graph: Graph, node: Node, layout: Layout) -> str | None:
    if reason := _data_obstacle(graph, node, layout):
        return reason
    if ops.attribute(graph, node, "auto_pad") not in (b"NOTSET", b"VALID", None):
        return "it pads by auto_pad"
    if node.get("output_shape"):
        return "it has an output_shape"
    if node.is_op(*CONVOLUTIONS):
        weight = graph.operand(node, 1)
        assert weight is not None
        if weight.constant is None:
            return f"weight {weight.name} is not constant"
        if other := next((u for u in graph.uses(weight) if u.node is not node), None):
            return f"weight is shared by {other.node.label}"
    return layout.window_obstacle(graph, node)


def rewrite(graph: Graph, region: Region, layout: Layout, made_by: str) -> None:
    """Compute a region in the layout."""
    inside = set(region.nodes)
    new: dict[Value, Value] = {}
    made: list[Node] = []
    for node in region.nodes:
        build = Builder(graph, made_by, (node,))
        _copy(build, node, layout, new)
        made.extend(build.made)
    for node in reversed(region.nodes):
        if node in graph and any(use.node not in inside for use in graph.uses(node.output)):
            build = Builder(graph, made_by, (node,))
            back = layout.leave(build, new[node.output])
            replace_node(graph, node, [back], [*made, *build.made])


def _copy(build: Builder, node: Node, layout: Layout, new: dict[Value, Value]) -> None:
    operands = [
        None if value is None else _operand(build, node, index, value, layout, new)
        for index, value in enumerate(build.graph.operands(node))
    ]
    changed: dict[str, object] = {
        name: layout.per_axis(node.get(name)) for name in _PER_AXIS if node.get(name)
    }
    if node.get("pads"):
        changed["pads"] = layout.pads(node.get("pads"))
    made = build.node(
        node.op_type, operands, like=node, attributes=changed, domain=node.domain
    ).output
    kind = node.output.type
    if isinstance(kind, TensorType) and kind.shape is not None:
        build.graph.set_type(made, TensorType(kind.dtype, layout.shape(kind.shape)))
    new[node.output] = made


def _operand(
    build: Builder,
    node: Node,
    index: int,
    value: Value,
    layout: Layout,
    new: dict[Value, Value],
) -> Value:
    if node.is_op("Pad") and index == 1:
        return _whole_pads(build, value, layout)
    if value in new:
        return new[value]
    parameter = index > 0 and ops.info(node).has(ops.Trait.UNARY)
    parameter |= index > 0 and node.is_op("BatchNormalization")
    parameter |= index > 1 and node.is_op(*CONVOLUTIONS, "Pad")
    if parameter or shape_of(build.graph, value) == ():
        return value
    if value.constant is not None:
        array = layout.array(value.constant.numpy())
        tensor = Tensor.from_numpy(array, value.constant.dtype)
        new[value] = build.constant(tensor, name=value.name)
    else:
        new[value] = layout.enter(build, value)
    return new[value]


def _whole_pads(build: Builder, value: Value, layout: Layout) -> Value:
    """The pads of a Pad, which also speak of batches and channels."""
    assert value.constant is not None
    numbers = [int(number) for number in value.constant.numpy()]
    rank = len(numbers) // 2
    begins, ends = numbers[:rank], numbers[rank:]
    turned = layout.pads([*begins[2:], *ends[2:]])
    half = len(turned) // 2
    return build.constant(
        [*begins[:2], *turned[:half], *ends[:2], *turned[half:]],
        dtype=value.constant.dtype,
        name=value.name,
    )
