"""Is this graph sound? Structure, operator signatures, element types and shapes.

`verify` never changes the graph and does not stop at the first problem. After a pass, anything but
an empty answer is a bug of that pass. It is linear; signatures are checked once per combination
of operator, types and attributes, and 100,000 operations take between one and two seconds.

The rules are those of the ONNX IR specification and of the operator schemas. What models in use
get away with is let pass: shapes with unknown or symbolic dimensions contradict nothing, a sparse
tensor may stand for a dense one, operators of foreign domains are taken as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from optc.ir.literals import format_type
from optc.ir.nodes import AttrKind, Kind
from optc.ir.ops import version
from optc.ir.shapes import infer
from optc.ir.signature import ABSENT, signature_problems, token
from optc.ir.structure import Violation, structure_problems
from optc.ir.tensor import SparseTensor, Tensor
from optc.ir.types import (
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
    format_shape,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from optc.ir.graph import Graph
    from optc.ir.model import Function
    from optc.ir.nodes import Attr, Node, Value
    from optc.ir.signature import Token
    from optc.ir.types import Shape, Type

    _State: TypeAlias = tuple[Mapping[str, Attr], tuple[Value | None, ...], Sequence[Type | None]]

__all__ = ["Verified", "Violation", "verify"]

_TYPES: Final = (TensorType, SparseTensorType, SequenceType, OptionalType, MapType, OpaqueType)
_PYTHON: Final[Mapping[AttrKind, tuple[type, ...]]] = {
    AttrKind.FLOAT: (float,),
    AttrKind.INT: (int,),
    AttrKind.STRING: (bytes,),
    AttrKind.TENSOR: (Tensor,),
    AttrKind.SPARSE_TENSOR: (SparseTensor,),
    AttrKind.TYPE: _TYPES,
}
_ITEMS: Final[Mapping[AttrKind, AttrKind]] = {
    AttrKind.FLOATS: AttrKind.FLOAT,
    AttrKind.INTS: AttrKind.INT,
    AttrKind.STRINGS: AttrKind.STRING,
    AttrKind.TENSORS: AttrKind.TENSOR,
    AttrKind.SPARSE_TENSORS: AttrKind.SPARSE_TENSOR,
    AttrKind.TYPES: AttrKind.TYPE,
}


class Verified:
    """Operations that were found sound, so that verifying after a small change is cheap.

    An operation is checked again when its attributes, its operands or the types at its ends are
    others than they were. What its shape rule reads further up is not followed: a last `verify`
    without this finds what that misses.
    """

    def __init__(self) -> None:
        self._states: dict[Node, _State] = {}

    def holds(self, node: Node, state: _State) -> bool:
        """Whether the operation was sound in just this state."""
        return self._states.get(node) == state

    def note(self, node: Node, state: _State) -> None:
        """The operation is sound in this state."""
        self._states[node] = state


def verify(graph: Graph, known: Verified | None = None) -> tuple[Violation, ...]:
    """All rules that a graph breaks, with its subgraphs and, for a root, its model's functions.

    Checked are: the edges, names and interface of the graph; that it has no cycle; captures; that
    operators exist at the imported opset, with operands, attributes and element types as their
    schemas say; bodies of control flow against their operation; recorded against inferred and
    declared types.

    Args:
        graph: the graph.
        known: what earlier calls found sound; updated.

    Returns:
        One violation per problem, in order of the graph; empty when it is sound.
    """
    functions = graph.root.model.functions
    found = _Verifier(graph, "", functions, known).violations()
    if graph.parent is None:
        for key in sorted(functions):
            path = f"{key[0]}::{key[1]}/"
            found += _Verifier(functions[key].body, path, functions).violations()
    return tuple(found)


class _Verifier:
    """Checks one graph and, below it, its subgraphs."""

    def __init__(
        self,
        graph: Graph,
        path: str,
        functions: Mapping[tuple[str, str, str], Function],
        known: Verified | None = None,
    ) -> None:
        self._graph = graph
        self._known = known
        self._path = path
        self._functions = functions
        self._sound = True

    def violations(self) -> list[Violation]:
        graph = self._graph
        found = structure_problems(graph, self._path)
        self._sound = not found
        for node in graph.nodes(*Kind):
            problems = self._checked(node) if node.kind is Kind.OP else self._other(node)
            found += [Violation(self._path + node.label, what) for what in problems]
            for name, inner in node.subgraphs() if node.attributes else ():
                path = f"{self._path}{node.label}.{name}/"
                found += _Verifier(inner, path, self._functions, self._known).violations()
        return found

    def _checked(self, node: Node) -> list[str]:
        """The problems of an operation, unless it is known to have none."""
        if self._known is None or not self._sound:
            return self._operation(node)
        operands = self._graph.operands(node)
        types = [None if value is None else value.type for value in (*operands, *node.outputs)]
        state = (node.attributes, operands, types)
        if self._known.holds(node, state):
            return []
        problems = self._operation(node)
        if not problems:
            self._known.note(node, state)
        return problems

    def _other(self, node: Node) -> Iterator[str]:
        if node.kind is Kind.OUTPUT:
            value = self._graph.operand(node, 0)
            if value is not None and conflict(node.declared, value.type):
                declared, recorded = format_type(node.declared), format_type(value.type)
                yield f"is declared as {declared}, but {value.name} is {recorded}"
        else:
            yield from _data_problems(node)

    def _operation(self, node: Node) -> list[str]:
        graph = self._graph
        problems: list[str] = []
        for name, attribute in node.attributes.items():
            if not _holds_its_kind(attribute):
                held = type(attribute.value).__name__
                problems.append(f"attribute {name} is {attribute.kind.name}, but holds {held}")
        if self._functions:
            function = self._functions.get((node.domain, node.op_type, node.overload))
            if function is not None:
                return [*problems, *_call_problems(graph, node, function)]
        opset = version(graph, node) if node.is_canonical else graph.opsets.get(node.domain)
        if opset is None:
            domain = node.domain or "ai.onnx"
            return [*problems, f"is of domain {domain}, which the model does not import"]
        problems += signature_problems(
            node.op_type,
            node.domain,
            opset,
            tuple([_token(value) for value in graph.operands(node)]),
            tuple([_token(value) for value in node.outputs]),
            tuple([(name, attribute.kind) for name, attribute in node.attributes.items()]),
        )
        special = _SPECIAL.get(node.op_type)
        if special is not None and not node.domain:
            problems += special(graph, node)
        if self._sound and not problems:  # shape rules trust the operands that they read
            problems += _shape_problems(graph, node)
        return problems


def _token(value: Value | None) -> Token:
    return ABSENT if value is None else token(value.type)


# ---- attributes and calls ----------------------------------------------------------------------


def _holds_its_kind(attribute: Attr) -> bool:
    kind, value = attribute.kind, attribute.value
    if attribute.ref or attribute.graphs:
        return True
    item = _ITEMS.get(kind)
    if item is not None:
        if not isinstance(value, tuple):
            return False
        if not value:
            return True
        # All items come from one place; looking at one keeps lists of a million items cheap.
        kind, value = item, value[0]
    wanted = _PYTHON.get(kind)
    return wanted is not None and isinstance(value, wanted) and not isinstance(value, bool)


def _call_problems(graph: Graph, node: Node, function: Function) -> Iterator[str]:
    body = function.body
    for what, found, formal in (
        ("operands", len(graph.operands(node)), len(body.inputs)),
        ("results", len(node.outputs), len(body.outputs)),
    ):
        if found > formal:
            yield f"function {node.qualified_op} has {formal} {what}, found {found}"


def _cast_problems(_: Graph, node: Node) -> Iterator[str]:
    # The schema leaves the result type open; the attribute decides.
    number = node.get("to")
    result = _token(node.outputs[0]) if node.outputs else ABSENT
    if isinstance(number, int) and isinstance(result, DType) and result.onnx != number:
        yield f"casts to {DType.from_onnx(number).value}, but its result is {result.value}"


# ---- types and shapes --------------------------------------------------------------------------


def conflict(a: Type | None, b: Type | None) -> bool:
    """Whether no value can have both types. What is not known contradicts nothing."""
    tensors = TensorType | SparseTensorType
    if isinstance(a, tensors) and isinstance(b, tensors):
        known = DType.UNDEFINED not in (a.dtype, b.dtype)
        return (known and a.dtype is not b.dtype) or shape_conflict(a.shape, b.shape)
    match a, b:
        case SequenceType(), SequenceType():
            return conflict(a.element, b.element)
        case OptionalType(), OptionalType():
            return conflict(a.element, b.element)
        case MapType(), MapType():
            return a.key is not b.key or conflict(a.value, b.value)
        case (None, _) | (_, None) | (OptionalType(), _) | (_, OptionalType()):
            return False
        case OpaqueType(), OpaqueType():
            return a != b
        case _:
            return True


def shape_conflict(a: Shape | None, b: Shape | None) -> bool:
    """Whether ranks differ, or two dimensions are different numbers."""
    if a is None or b is None or a == b:
        return False
    if len(a) != len(b):
        return True
    return any(
        one != other and isinstance(one, int) and isinstance(other, int)
        for one, other in zip(a, b, strict=True)
    )


def _shape_problems(graph: Graph, node: Node) -> list[str]:
    found: list[str] = []
    for value, shape in zip(node.outputs, infer(graph, node) or (), strict=False):
        if value is None or not isinstance(value.type, TensorType):
            continue
        if shape_conflict(value.type.shape, shape):
            recorded, right = format_shape(value.type.shape), format_shape(shape)
            found.append(f"{value.name} is recorded as {recorded}, but must be {right}")
    return found


def _data_problems(node: Node) -> Iterator[str]:
    if not node.outputs or node.outputs[0] is None:
        return
    recorded = node.outputs[0].type
    if node.tensor is not None and conflict(recorded, node.tensor.type):
        yield f"is recorded as {format_type(recorded)}, but its data is {node.tensor.type}"
    if node.sparse is not None:
        held = SparseTensorType(node.sparse.values.dtype, node.sparse.shape)
        if conflict(recorded, held):
            yield f"is recorded as {format_type(recorded)}, but its data is {format_type(held)}"


# ---- subgraphs ---------------------------------------------------------------------------------


def _capture_type_problems(graph: Graph, node: Node, inner: Graph) -> Iterator[str]:
    outer = graph.captures(node)
    for capture in inner.nodes(Kind.CAPTURE):
        value = outer.get(capture.output.name)
        if value is not None and conflict(value.type, capture.output.type):
            types = f"{format_type(value.type)}, inside as {format_type(capture.output.type)}"
            yield f"{value.name} is recorded as {types}"


# Bodies against the operation: how many formals there are, and their element types.


def _if_problems(graph: Graph, node: Node) -> Iterator[str]:
    for name, inner in node.subgraphs():
        yield from _capture_type_problems(graph, node, inner)
        yield from _formals(name, inner.inputs, ())
        yield from _results(name, inner, 0, node.outputs)


def _loop_problems(graph: Graph, node: Node) -> Iterator[str]:
    for name, inner in node.subgraphs():
        yield from _capture_type_problems(graph, node, inner)
        # The iteration number and the condition come first, whether the loop has them or not.
        yield from _formals(name, inner.inputs, (None, None, *graph.operands(node)[2:]))
        yield from _results(name, inner, 1, node.outputs)


def _scan_problems(graph: Graph, node: Node) -> Iterator[str]:
    for name, inner in node.subgraphs():
        yield from _capture_type_problems(graph, node, inner)
        if graph.opset >= 9:  # Scan-8 has a batch axis and sequence lengths
            yield from _formals(name, inner.inputs, graph.operands(node))
            yield from _results(name, inner, 0, node.outputs)


def _formals(
    name: str, formals: Sequence[Value], operands: Sequence[Value | None]
) -> Iterator[str]:
    if len(formals) != len(operands):
        yield f"subgraph {name} has {len(formals)} inputs, the operation gives it {len(operands)}"
        return
    for formal, operand in zip(formals, operands, strict=True):
        yield from _element_problems(name, formal, operand)


def _results(name: str, inner: Graph, skip: int, results: Sequence[Value | None]) -> Iterator[str]:
    given = inner.outputs[skip:]
    if len(given) < len(results):
        yield f"subgraph {name} gives {len(given)} results, the operation has {len(results)}"
    for node, result in zip(given, results, strict=False):
        yield from _element_problems(name, inner.operand(node, 0), result)


def _element_problems(name: str, inside: Value | None, outside: Value | None) -> Iterator[str]:
    if inside is None or outside is None:
        return
    one, other = token(inside.type), token(outside.type)
    if one is not None and other is not None and one != other:
        yield (
            f"{inside.name} of subgraph {name} is {format_type(inside.type)}, "
            f"but {outside.name} is {format_type(outside.type)}"
        )


# What the schema leaves open for an operator of ONNX's own domain.
_SPECIAL: Final[Mapping[str, Callable[[Graph, Node], Iterable[str]]]] = {
    "Cast": _cast_problems,
    "BitCast": _cast_problems,
    "If": _if_problems,
    "Loop": _loop_problems,
    "Scan": _scan_problems,
}
