"""Evaluate operations on constants with onnxruntime: many at once, as one small model.

A `Bench` is a copy of some operations of a graph in a model of their own. Small constants are its
initializers. Large ones are its inputs, so that their data is neither copied into the model nor
subject to the size limit of protobuf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from optc.emit.onnx import serialize
from optc.errors import ModelError
from optc.ir import DType, Graph, ModelInfo, TensorType, dims, ops, shapes
from optc.ir.joined import joined
from optc.ir.types import static
from optc.numerics.evaluate import failing_node, open_session
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes
from optc.passes.lower_operators import LowerOperators

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Node, Shape, Tensor, Value
    from optc.ir.shape_site import Partial
    from optc.numerics.values import Value as Result

    Region: TypeAlias = list[tuple[Graph, Node]]

_OLDEST_IR: Final = 3  # the emitter raises it to what the operations need
_BITS: Final[Mapping[DType, int]] = {DType.UNDEFINED: 64, DType.STRING: 128}  # upper bound, guess
_FIXED: Final[Mapping[str, DType]] = {"tensor(int64)": DType.I64, "tensor(bool)": DType.BOOL}
_GENERATORS: Final = frozenset({"Range", "BlackmanWindow", "HammingWindow", "HannWindow"})
_RUNTIME_ERRORS: Final = ("runtime-cannot-load", "runtime-failed")


@dataclass(frozen=True)
class Failure:
    """Why onnxruntime cannot evaluate a bench.

    Attributes:
        reason: what it says.
        culprit: the operation of the source that it blames, or None.
        at_load: whether it refused to load the model, which it does by operator and element types;
            else it failed on the data.
    """

    reason: str
    culprit: Node | None
    at_load: bool


class Bench:
    """Operations on constants, as a model that can be evaluated.

    Attributes:
        graph: the model.
        values: its value for each value of the source that it computes or uses.
    """

    def __init__(self, opset: int) -> None:
        self.graph = Graph("constants", {"": opset}, model=ModelInfo(ir_version=_OLDEST_IR))
        self.values: dict[Value, Value] = {}
        self._sources: dict[str, Node] = {}
        self._fed: dict[str, Tensor] = {}
        self._known: dict[Value, Partial] = {}

    def add(self, source: Graph, node: Node) -> Node:
        """Copy an operation of `source`, all operands of which are constants or were added."""
        operands = [
            None if value is None else self._operand(value) for value in source.operands(node)
        ]
        label = (
            node.label if node.label not in self._sources else f"{node.label}#{len(self._sources)}"
        )
        made = self.graph.add(
            node.op_type,
            operands,
            outputs=[
                None if value is None else self.graph.fresh_name(f"v{len(self._sources)}_{i}")
                for i, value in enumerate(node.outputs)
            ],
            domain=node.domain,
            name=label,
            attributes=node.attributes,
        )
        self._sources[label] = node
        for old, new in zip(node.outputs, made.outputs, strict=True):
            if old is not None and new is not None:
                self.values[old] = new
        return made

    def _operand(self, value: Value) -> Value:
        if value not in self.values:
            tensor = value.constant
            assert tensor is not None
            name = f"c{len(self.values)}"
            if tensor.is_small:
                self.values[value] = self.graph.add_constant(tensor, name)
            else:
                self.values[value] = self.graph.add_input(name, tensor.type)
                self._fed[name] = tensor
        return self.values[value]

    def discard(self, node: Node) -> None:
        """Take out the copy of an operation that nothing on the bench uses."""
        made = [self.values.pop(value) for value in node.outputs if value is not None]
        if made:
            self.graph.remove(made[0].node)

    def measure(self, node: Node) -> int | None:
        """Infer the types of the results of an operation that was added, and record them.

        Returns:
            Their size in bytes; None when only evaluation can tell.
        """
        made = [None if value is None else self.values[value] for value in node.outputs]
        copy = next(value.node for value in made if value is not None)
        found = shapes.infer(self.graph, copy, self._known) or (None,) * len(made)
        if copy.op_type in _GENERATORS and not static(found[0]):
            found = (_generated(self.graph, copy),)
        self._known.update(shapes.evaluate(self.graph, copy, self._known, found))
        sizes = []
        for i, (old, new) in enumerate(zip(node.outputs, made, strict=True)):
            if old is not None and new is not None:
                self.graph.set_type(new, self._refined(copy, old, found[i]))
                sizes.append(self.size(old))
        return None if None in sizes else sum(size or 0 for size in sizes)

    def _refined(self, copy: Node, value: Value, shape: Shape | None) -> TensorType:
        """What is known about a result from the source and from its operands."""
        recorded = value.type
        if isinstance(recorded, TensorType):
            shape = dims.refine_shape(shape, recorded.shape)
            if recorded.dtype is not DType.UNDEFINED:
                return TensorType(recorded.dtype, shape)
        return TensorType(_dtype(self.graph, copy, value.index), shape)

    def size(self, value: Value) -> int | None:
        """Size in bytes of a value of the source, as far as the bench knows its type."""
        type_ = self.values[value].type
        elements = type_.elements if isinstance(type_, TensorType) else None
        if elements is None or not isinstance(type_, TensorType):
            return None
        return (elements * _BITS.get(type_.dtype, type_.dtype.bits) + 7) // 8

    def evaluate(self, wanted: Sequence[Value]) -> dict[Value, Result] | Failure:
        """Compute these values of the source.

        Raises:
            ModelError: external data of the source cannot be read.
        """
        names = {value: self.values[value].name for value in wanted}
        for value, name in names.items():
            self.graph.add_output(self.values[value], name)
        if any(node.is_canonical for node in self.graph.nodes()):
            InferShapes().apply(self.graph, PassContext())  # forms go by the types of operands
            LowerOperators().apply(self.graph, PassContext())
        try:
            # One thread and no rewriting: the bits must not depend on the number of cores.
            session = open_session(serialize(self.graph), threads=1, optimize="none")
            found = session.run({name: tensor.numpy() for name, tensor in self._fed.items()})
        except ModelError as error:
            if error.code not in _RUNTIME_ERRORS:
                raise
            culprit = self._sources.get(failing_node(error) or "")
            return Failure(error.message, culprit, error.code == _RUNTIME_ERRORS[0])
        return {value: found[name] for value, name in names.items()}


def _generated(graph: Graph, node: Node) -> Shape | None:
    """The shape that a generator with constant operands gives, but for rounding at the end."""
    numbers = [
        float(value.constant.numpy().reshape(-1)[0])
        for value in graph.operands(node)
        if value is not None and value.constant is not None and value.constant.elements == 1
    ]
    if len(numbers) == 1:
        count = numbers[0]
    elif len(numbers) == 3 and numbers[2]:
        start, limit, delta = numbers
        count = (limit - start) / delta
    else:
        return None
    return (max(math.ceil(count), 0),) if math.isfinite(count) else None


def _dtype(graph: Graph, node: Node, index: int) -> DType:
    """Element type of a result, by the type variables of the schema or the attribute that says it.

    UNDEFINED where this does not tell.
    """
    if node.op_type == "Cast":
        return DType.from_onnx(ops.attribute(graph, node, "to"))
    if node.op_type == "ConstantOfShape":
        fill = node.get("value")
        return DType.F32 if fill is None else fill.dtype
    schema = ops.schema(node.op_type, node.domain, ops.version(graph, node))
    if schema is None or not schema.outputs:
        return DType.UNDEFINED
    variable = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
    if variable in _FIXED:
        return _FIXED[variable]
    last = len(schema.inputs) - 1
    for place, value in enumerate(graph.operands(node)):
        same = schema.inputs[min(place, last)].type_str == variable
        if same and value is not None and isinstance(value.type, TensorType):
            return value.type.dtype
    return DType.UNDEFINED


def is_constant(value: Value) -> bool:
    """Whether a value is a dense constant."""
    return value.constant is not None


def components(region: Region) -> list[Region]:
    """Split operations in order of execution into groups that exchange no values, order kept."""
    graphs = {node: graph for graph, node in region}
    pairs = [
        (node, value.node)
        for graph, node in region
        for value in graph.operands(node)
        if value is not None and value.node in graphs
    ]
    return [[(graphs[node], node) for node in group] for group in joined(graphs, pairs)]


def outside_uses(region: Region) -> list[Value]:
    """The values of a region that something outside of it uses, in order of execution."""
    inside = {node for _, node in region}
    return [
        value
        for graph, node in region
        for value in node.outputs
        if value is not None and any(use.node not in inside for use in graph.uses(value))
    ]
