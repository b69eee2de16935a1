"""Elementwise operations with a constant, seen as affine maps x * scale + shift.

    x * c    scale c                x + c    shift c
    x / c    scale 1 / c            x - c    shift -c
                                    c - x    scale -1, shift c

Scale and shift are float64 arrays that broadcast as the constant does. Maps compose:

    (x * m + t) * m' + t'  =  x * (m m') + (t m' + t')

`c / x` is not affine. Source: ONNX operators Mul-14, Add-14, Sub-14, Div-14.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from optc.passes.linear import other_use, use_text
from optc.passes.weights import FLOATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph, Node, Tensor, Value

Array: TypeAlias = npt.NDArray[np.float64]

AFFINE: Final = ("Mul", "Add", "Sub", "Div")
"""Operators that `affine_of` understands."""


@dataclass(frozen=True)
class Terms:
    """The numbers of an affine map.

    Attributes:
        scale: factors; None for none.
        shift: summands; None for none.
    """

    scale: Array | None
    shift: Array | None

    def then(self, outer: Terms) -> Terms:
        """This map followed by another; what overflows becomes infinite."""
        with np.errstate(all="ignore"):
            shift = None if self.shift is None else _both(np.multiply, self.shift, outer.scale)
            scale = _both(np.multiply, self.scale, outer.scale)
            return Terms(scale, _both(np.add, shift, outer.shift))


def _both(combine: np.ufunc, first: Array | None, second: Array | None) -> Array | None:
    """Two terms combined, or the one that is there."""
    if first is None or second is None:
        return second if first is None else first
    return np.asarray(combine(first, second))


@dataclass(frozen=True)
class Affine:
    """An elementwise operation with one constant operand.

    Attributes:
        node: the operation.
        data: the operand that is not constant.
        constant: the other one.
        flipped: the constant is the left operand of a Sub or Div.
    """

    node: Node
    data: Value
    constant: Value
    flipped: bool

    @property
    def tensor(self) -> Tensor:
        """Data of the constant."""
        assert self.constant.constant is not None
        return self.constant.constant

    @property
    def scales(self) -> bool:
        """True for Mul and Div: a map without shift."""
        return self.node.op_type in ("Mul", "Div")

    @property
    def is_quotient(self) -> bool:
        """True for a constant divided by the data, which is not affine."""
        return self.flipped and self.node.op_type == "Div"

    def terms(self) -> Terms:
        """Scale and shift; infinite where a divisor is zero. Not for a quotient."""
        constant = self.tensor.numpy().astype(np.float64)
        match self.node.op_type:
            case "Mul":
                return Terms(constant, None)
            case "Div":
                with np.errstate(divide="ignore"):
                    return Terms(1.0 / constant, None)
            case "Sub" if self.flipped:
                return Terms(np.array(-1.0), constant)
            case "Sub":
                return Terms(None, -constant)
            case _:
                return Terms(None, constant)


def affine_of(graph: Graph, node: Node) -> Affine | None:
    """A node as elementwise operation with exactly one constant operand, or None."""
    if not node.is_op(*AFFINE):
        return None
    left, right = graph.operands(node)
    assert left is not None
    assert right is not None
    if (left.constant is None) == (right.constant is None):
        return None
    if right.constant is not None:
        return Affine(node, left, right, flipped=False)
    return Affine(node, right, left, flipped=node.op_type in ("Sub", "Div"))


# ---- chains ------------------------------------------------------------------------------------

_LONGEST: Final = 3
_FREE_BYTES: Final = 4096


def chains_ending_at(graph: Graph, node: Node) -> list[list[Affine]]:
    """Chains of affine operations that end at a node and have a shorter equal, longest first.

    Three operations suffice: what one chain becomes can be merged with its neighbours again.
    """
    chain: list[Affine] = []
    while len(chain) < _LONGEST and (affine := affine_of(graph, node)) is not None:
        if affine.is_quotient:
            break
        chain.insert(0, affine)
        node = affine.data.node
    parts = [chain[start:] for start in range(len(chain) - 1)]
    return [part for part in parts if len(part) > merged_length(part)]


def whole_chain(graph: Graph, node: Node) -> list[Affine]:
    """The longest chain of affine operations that ends at a node and that nothing else uses.

    Empty when it has no shorter equal, or when the node is inside a longer chain.
    """
    use = graph.only_use(node.output) if node.is_op(*AFFINE) else None
    if use is not None and affine_of(graph, use.node) is not None:
        return []
    chain: list[Affine] = []
    while (affine := affine_of(graph, node)) is not None and not affine.is_quotient:
        chain.append(affine)
        node = affine.data.node
        if not node.is_op(*AFFINE) or graph.only_use(affine.data) is None:
            break
    chain.reverse()
    return chain if len(chain) > merged_length(chain) else []


def float_chain(graph: Graph, node: Node) -> list[Affine]:
    """The longest chain of affine operations on floats that ends at a node.

    Empty for other nodes, and for one whose only use continues the chain.
    """
    if not node.is_op(*AFFINE):
        return []
    use = graph.only_use(node.output)
    if use is not None and affine_of(graph, use.node) is not None:
        return []
    chain: list[Affine] = []
    while (affine := affine_of(graph, node)) is not None and not affine.is_quotient:
        if affine.tensor.dtype not in FLOATS:
            return []
        chain.append(affine)
        node = affine.data.node
        if graph.only_use(affine.data) is None:
            break
    chain.reverse()
    return chain


def merged_length(chain: Sequence[Affine]) -> int:
    """How many operations a chain needs: one when all scale or none does, else two."""
    return len({affine.scales for affine in chain})


def composed(chain: Sequence[Affine]) -> Terms:
    """A chain as one map."""
    total = Terms(None, None)
    for affine in chain:
        total = total.then(affine.terms())
    return total


def used_elsewhere(graph: Graph, chain: Sequence[Affine], last: Node) -> str | None:
    """Why a value inside a chain must stay, or None when only the chain uses it.

    Args:
        graph: the graph.
        chain: consecutive operations.
        last: the node that uses the chain's result; the last operation of the chain itself when
            that value does not matter.
    """
    nodes = [affine.node for affine in chain]
    for node, consumer in zip(nodes, [*nodes[1:], last], strict=True):
        if node is not consumer and (other := other_use(graph, node.output, (consumer,))):
            return f"{node.op_type} output {use_text(other, 'also feeds')}"
    return None


def merged_shapes(chain: Sequence[Affine]) -> list[tuple[int, ...]]:
    """Shapes of the scale and the shift of `composed`, as far as there are such, unread."""
    scale: tuple[int, ...] | None = None
    shift: tuple[int, ...] | None = None
    for affine in chain:
        shape = affine.tensor.shape
        if affine.scales:
            scale = np.broadcast_shapes(scale or (), shape)
        if shift is not None or not affine.scales:
            shift = np.broadcast_shapes(shift or (), shape)
    return [shape for shape in (scale, shift) if shape is not None]


def growth_error(
    graph: Graph, chain: Sequence[Affine], shapes: Sequence[tuple[int, ...]]
) -> str | None:
    """Why new constants would make the model larger, or None when they do not.

    Args:
        graph: the graph.
        chain: operations whose constants the new ones replace.
        shapes: shapes of the new constants, of the same element type.
    """
    size = chain[0].tensor.dtype.numpy.itemsize
    wanted = sum(math.prod(shape) for shape in shapes) * size
    inside = {affine.node for affine in chain}
    freed = sum(
        constant.node.tensor.nbytes
        for constant in {affine.constant: None for affine in chain}
        if constant.node.tensor and not other_use(graph, constant, inside)
    )
    if wanted <= max(freed, _FREE_BYTES):
        return None
    return f"the merged constants take {wanted} bytes, those that they replace {freed}"
