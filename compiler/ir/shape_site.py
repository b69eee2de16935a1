"""What a shape rule sees: a node, the shapes of its operands and what is known of their values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from optc.ir import dims, ops
from optc.ir.nodes import Kind
from optc.ir.tensor import Tensor
from optc.ir.types import DType, SparseTensorType, TensorType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from optc.ir.graph import Graph
    from optc.ir.nodes import Node, Value
    from optc.ir.types import Dim, Shape

Objects: TypeAlias = "npt.NDArray[np.object_]"
Item: TypeAlias = "int | float | str | None"
"""One element: a number or bool, a symbolic integer, or None when it is not known."""

MAX_ITEMS: Final = 128
"""Tensors with more elements are not followed; those that describe shapes are far smaller."""

_FOLLOWED: Final = frozenset(
    {DType.I64, DType.I32, DType.BOOL, DType.F32, DType.F64, DType.F16, DType.U8, DType.I8}
)


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A small tensor of which some elements may be symbolic or unknown.

    An element that begins with a question mark stands for the unknown size of one dimension of one
    value: it is equal to itself and at least zero; dimension arithmetic takes it for unknown.

    Attributes:
        dtype: element type.
        array: the elements, as an array of Python objects in the shape of the tensor.
    """

    dtype: DType
    array: Objects

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return self.array.shape

    @property
    def items(self) -> tuple[Item, ...]:
        """All elements, row-major."""
        return tuple(self.array.reshape(-1).tolist())

    @property
    def is_known(self) -> bool:
        """Whether every element is a number."""
        return not any(item is None or isinstance(item, str) for item in self.items)

    def tensor(self) -> Tensor:
        """The tensor; ValueError unless every element is a number."""
        if not self.is_known:
            raise ValueError("an element is not a number")
        return Tensor.from_numpy(self.array.astype(self.dtype.numpy), self.dtype)


Known: TypeAlias = "Mapping[Value, Partial]"


def partial(dtype: DType, items: Sequence[Item] | Item, shape: Sequence[int] = ()) -> Partial:
    """A partial tensor from its elements (one element for a scalar) and its shape."""
    flat = items if isinstance(items, list | tuple) else (items,)
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return Partial(dtype, array.reshape(tuple(shape)))


def of_tensor(tensor: Tensor) -> Partial | None:
    """A constant as a partial tensor; None when it is large or of a type that is not followed."""
    if tensor.dtype not in _FOLLOWED or tensor.elements > MAX_ITEMS:
        return None
    return Partial(tensor.dtype, tensor.numpy().astype(object))


def constant_tensor(value: Value) -> Tensor | None:
    """The tensor of an initializer or of a Constant operation; None for anything else."""
    node = value.node
    if node.kind is Kind.CONSTANT:
        return node.tensor
    if not node.is_op("Constant") or len(node.attributes) != 1:
        return None
    (name, attribute), *_ = node.attributes.items()
    if name == "value":
        return attribute.value if isinstance(attribute.value, Tensor) else None
    dtype = _CONSTANT_TYPES.get(name)
    if dtype is None or attribute.value is None:
        return None
    return Tensor.from_numpy(np.asarray(attribute.value), dtype)


_CONSTANT_TYPES: Final = {
    "value_int": DType.I64,
    "value_ints": DType.I64,
    "value_float": DType.F32,
    "value_floats": DType.F32,
}


def shape_of(graph: Graph, value: Value) -> Shape | None:
    """The shape of a value, without placeholders.

    Unnamed dimensions of an input of the model get the name ``<input>_dim_<axis>``, so that what is
    computed from them can be told equal.
    """
    type_ = value.type
    if type_ is None or not isinstance(type_, TensorType | SparseTensorType):
        return None
    shape = dims.clean_shape(type_.shape)
    if shape is None or None not in shape:
        return shape
    if value.node.kind is Kind.INPUT and graph.parent is None:
        return tuple(
            input_symbol(value.name, axis) if dim is None else dim for axis, dim in enumerate(shape)
        )
    return shape


@cache
def input_symbol(name: str, axis: int) -> str:
    """The symbol of an unnamed dimension of a graph input: an identifier, other for other names."""
    base = re.sub(r"[^\w.]", lambda found: f"_{ord(found.group()):x}_", name)
    return f"{'' if base[:1].isalpha() else '_'}{base}_dim_{axis}"


def identified_shape(graph: Graph, value: Value) -> Shape | None:
    """The shape with each unknown size replaced by a text that only it has (see `Partial`)."""
    shape = shape_of(graph, value)
    if shape is None or None not in shape:
        return shape
    return tuple(f"?{value.name}:{axis}" if dim is None else dim for axis, dim in enumerate(shape))


class Site:
    """A node with access to shapes, known values and attributes, by operand index.

    Attributes:
        graph: the graph.
        node: the node.
        operands: its operands.
    """

    __slots__ = ("_known", "graph", "node", "operands")

    def __init__(self, graph: Graph, node: Node, known: Known) -> None:
        self.graph = graph
        self.node = node
        self.operands = graph.operands(node)
        self._known = known

    @property
    def opset(self) -> int:
        """Version of the node's operator set."""
        return ops.version(self.graph, self.node)

    def value(self, index: int) -> Value | None:
        """An operand, or None when it is left out."""
        return self.operands[index] if index < len(self.operands) else None

    def shape(self, index: int) -> Shape | None:
        """The shape of an operand; None when it is left out or its rank is not known."""
        value = self.value(index)
        return None if value is None else shape_of(self.graph, value)

    def shapes(self) -> list[Shape | None]:
        """The shapes of all operands."""
        return [self.shape(index) for index in range(len(self.operands))]

    def length(self, index: int) -> int | None:
        """The number of elements of a vector operand, as far as it is a number."""
        shape = self.shape(index)
        if shape is None or len(shape) != 1:
            return None
        return shape[0] if isinstance(shape[0], int) else None

    def partial(self, index: int) -> Partial | None:
        """What is known of the elements of an operand."""
        value = self.value(index)
        return None if value is None else self.of(value)

    def of(self, value: Value) -> Partial | None:
        """What is known of the elements of a value."""
        found = self._known.get(value)
        if found is None and (tensor := constant_tensor(value)) is not None:
            return of_tensor(tensor)
        return found

    def may_know(self, value: Value) -> bool:
        """Whether it is worth asking `of`: cheap, reads no data."""
        return (
            value in self._known or value.node.kind is Kind.CONSTANT or value.node.is_op("Constant")
        )

    def sizes(self, index: int) -> tuple[Dim, ...] | None:
        """The elements of an integer operand, row-major, as dimensions."""
        found = self.partial(index)
        if found is None or not found.dtype.is_integer:
            return None
        return tuple(dims.clean(item) for item in found.items)  # type: ignore[arg-type] # integers

    def integers(self, index: int) -> tuple[int, ...] | None:
        """The elements of an integer operand when all are numbers."""
        found = self.sizes(index)
        if found is None or not all(isinstance(item, int) for item in found):
            return None
        return found  # type: ignore[return-value] # checked above

    def attr(self, name: str) -> Any:
        """An attribute, or its default in the graph's opset."""
        return ops.attribute(self.graph, self.node, name)

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute, its default in the graph's opset, or `default`."""
        found = self.attr(name)
        return found if isinstance(found, int) else default

    def text(self, name: str, default: str = "") -> str:
        """A string attribute, its default in the graph's opset, or `default`."""
        found = self.attr(name)
        return found.decode(errors="replace") if isinstance(found, bytes) else default

    def int_list(self, name: str, count: int | None = None, default: int = 0) -> tuple[int, ...]:
        """An attribute that is a list of integers; `count` times `default` when not written."""
        found = self.attr(name)
        if isinstance(found, tuple) and found and all(isinstance(item, int) for item in found):
            return found
        return (default,) * (count or 0)

    def parameter(self, name: str, index: int) -> tuple[int, ...] | None:
        """Integers that older operator sets keep in an attribute and newer ones in an operand."""
        if name in self.node.attributes:
            return self.int_list(name)
        return self.integers(index)


Rule: TypeAlias = "Callable[[Site], Sequence[Shape | None] | None]"
"""Gives the shapes of the first outputs; None when nothing can be said."""


def normal_axis(axis: int, rank: int) -> int | None:
    """A possibly negative axis counted from the front; None when there is no such axis."""
    axis = axis + rank if axis < 0 else axis
    return axis if 0 <= axis < rank else None


def normal_axes(axes: Sequence[int], rank: int) -> list[int] | None:
    """Several axes counted from the front; None when one does not exist or stands twice."""
    found = [normal_axis(axis, rank) for axis in axes]
    known = [axis for axis in found if axis is not None]
    return known if len(set(known)) == len(axes) else None
