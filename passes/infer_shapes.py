"""Record what can be proved about the type of every value.

Two inferences are merged: ONNX's own, which knows every standard operator but calls a dimension
unknown as soon as it is computed, and the symbolic rules of `optc.ir.shapes`, which carry
``floor((H + 1)/2)`` through the operators that real models use and follow the shapes that models
compute for themselves. Per dimension a number beats an expression, an expression beats nothing.

What the model records fills the gaps. Where it contradicts what is proved it is stale (a batch
size that was edited in the inputs only, what another tool left behind) and gives way; so does a
recorded number to a proved expression, which holds for every size of the inputs. Types of graph
inputs stay as they are; a declared output type only gains sizes, unless it is provably wrong.

Source: ONNX IR specification ("Shape inference"), onnx.shape_inference, the operator pages.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from optc.emit.onnx import build_model
from optc.frontend.types import match_types
from optc.ir import DType, Kind, OptionalType, SequenceType, TensorType, dims, ops
from optc.ir.result_types import result_dtype
from optc.ir.shapes import capture_values, evaluate, infer, rule_of
from optc.passes.base import Pass, PassResult
from optc.rewrite.trace import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optc.ir import Graph, Node, Shape, Type, Value
    from optc.ir.shape_site import Partial
    from optc.passes.base import PassContext

_ROUNDS: Final = 4


class InferShapes(Pass):
    """Record the types of all values, in nested graphs too.

    Refuses to believe, and says so: a recorded type that contradicts inference (``recorded-type``;
    those that are computed from it are not listed), a declared output type that does
    (``declared-type``), ONNX's inference where it fails or contradicts the rules here
    (``onnx-inference``).
    """

    name = "infer-shapes"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Merge both inferences into the recorded types."""
        del context
        before = [(value, value.type) for _, value in _results(tuple(graph.walk()))]
        sweep = _Sweep()
        if _is_settled(graph):
            sweep.run(graph, {})
        else:
            _infer(graph, sweep)
        declared = _declare_outputs(graph, sweep.refusals)
        news = sum(value.type != type_ for value, type_ in before)
        counts = {"value-type": news, "output-type": declared}
        return PassResult(
            bool(news or declared),
            {name: count for name, count in counts.items() if count},
            tuple(sorted(set(sweep.refusals), key=lambda item: (item.rule, item.node))),
        )


def _results(graphs: Sequence[Graph]) -> Iterator[tuple[Graph, Value]]:
    """All values whose types may change, with their graphs."""
    for graph in graphs:
        kinds = (Kind.OP, Kind.CAPTURE, Kind.INPUT) if graph.parent else (Kind.OP,)
        for node in graph.nodes(*kinds):
            for value in node.outputs:
                if value is not None:
                    yield graph, value


def _infer(graph: Graph, sweep: _Sweep) -> None:
    """Infer by both, again while ONNX could say more."""
    for number in range(_ROUNDS):
        found, failure = infer_by_onnx(graph, trusting=number > 0)
        sweep.refusals += failure if number == 0 else ()
        sweep.run(graph, found)
        if not sweep.unfinished:
            break


def _is_settled(graph: Graph) -> bool:
    """Whether ONNX's inference has nothing to add.

    So it is where every result has a recorded type without gaps, and rules here that judge it; a
    size that has a name is no gap.
    """
    for inner in graph.walk():
        if inner.parent is not None:
            return False
        for node in inner.nodes():
            if rule_of(inner, node) is None:
                return False
            for index, value in enumerate(node.outputs):
                if value is not None and (
                    not isinstance(value.type, TensorType)
                    or _is_open(value)
                    or result_dtype(inner, node, index) is None
                ):
                    return False
    return True


# ---- ONNX's inference --------------------------------------------------------------------------


def infer_by_onnx(graph: Graph, *, trusting: bool) -> tuple[dict[Value, Type], tuple[Refusal, ...]]:
    """The types that ONNX infers, without the names that it makes up for unknown sizes.

    Unless `trusting`, what is recorded for results of standard operators is kept from it, because
    it would take stale types for true. Declared outputs always are.
    """
    from onnx import shape_inference

    with _hidden(graph, trusting=trusting) as visible:
        texts = {text for type_ in visible for text in _dim_texts(type_)}
        model = build_model(graph, skeleton=True)
    try:
        found = match_types(graph, shape_inference.infer_shapes(model, data_prop=True))
    except shape_inference.InferenceError as error:
        reason = f"ONNX's inference fails: {' '.join(str(error).split())}"
        return {}, (Refusal("onnx-inference", graph.name or "graph", reason),)
    return {value: _only_known(type_, texts) for value, type_ in found.items()}, ()


@contextmanager
def _hidden(graph: Graph, *, trusting: bool) -> Iterator[set[Type]]:
    """Hide types from ONNX's inference for a moment; give those that it sees."""
    graphs = tuple(graph.walk())
    hidden: list[tuple[Graph, Value, Type]] = []
    visible = {value.type for value in graph.inputs if value.type is not None}
    for inner, value in _results(graphs):
        if value.type is None:
            continue
        if not trusting and value.node.kind is Kind.OP and _is_inferable(inner, value.node):
            hidden.append((inner, value, value.type))
        else:
            visible.add(value.type)
    declared = [(node, node.declared) for inner in graphs for node in inner.outputs]
    try:
        for inner, value, _ in hidden:
            inner.set_type(value, None)
        for node, _ in declared:
            graph.set_declared(node, None)
        yield visible
    finally:
        for inner, value, type_ in hidden:
            inner.set_type(value, type_)
        for node, old in declared:
            graph.set_declared(node, old)


def _is_inferable(graph: Graph, node: Node) -> bool:
    """Whether ONNX has a schema for an operation, or the model a function."""
    if node.is_canonical:
        return False
    version = graph.opsets.get(node.domain, 0)
    if ops.schema(node.op_type, node.domain, version) is not None:
        return True
    return (node.domain, node.op_type, node.overload) in graph.model.functions


def _dim_texts(type_: Type | None) -> Iterator[str]:
    if isinstance(type_, SequenceType | OptionalType):
        yield from _dim_texts(type_.element)
    elif isinstance(type_, TensorType) and type_.shape is not None:
        yield from (dim for dim in type_.shape if isinstance(dim, str))


def _only_known(type_: Type, texts: set[str]) -> Type:
    """The type with dimensions of other names than these made unknown."""
    if isinstance(type_, SequenceType | OptionalType):
        if type_.element is None:
            return type_
        return replace(type_, element=_only_known(type_.element, texts))
    if not isinstance(type_, TensorType) or type_.is_static or type_.shape is None:
        return type_
    shape = tuple(dim if isinstance(dim, int) or dim in texts else None for dim in type_.shape)
    return type_ if shape == type_.shape else _tensor_type(type_.dtype, shape)


@lru_cache(maxsize=1 << 14)
def _tensor_type(dtype: DType, shape: Shape | None) -> TensorType:
    # A model has many values and few types; making one of these frozen objects is slow.
    return TensorType(dtype, shape)


def _with(type_: TensorType, dtype: DType, shape: Shape | None) -> TensorType:
    """The type with another element type and shape; what it denotes stays."""
    if type_.dtype is dtype and type_.shape == shape:
        return type_
    if type_.denotation or type_.dim_denotations:
        return replace(type_, dtype=dtype, shape=shape)
    return _tensor_type(dtype, shape)


# ---- merging -----------------------------------------------------------------------------------


class _Sweep:
    """Walks a graph in order and records the merged types.

    Attributes:
        refusals: what was found wrong.
        unfinished: whether ONNX could say more about an operator now that its operands are known.
    """

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.unfinished = False
        self._theirs: Mapping[Value, Type] = {}
        self._known: dict[Value, Partial] = {}
        self._overridden: set[Value] = set()

    def run(self, graph: Graph, theirs: Mapping[Value, Type]) -> None:
        """Record the types of all values; `theirs` is what ONNX infers."""
        self.unfinished = False
        self._theirs, self._known = theirs, {}
        self._graph(graph)

    def _graph(self, graph: Graph) -> None:
        for node in graph.ordered():
            for _, inner in node.subgraphs() if node.attributes else ():
                self._enter(graph, node, inner)
            shapes = infer(graph, node, self._known)
            for index, value in enumerate(node.outputs):
                if value is not None:
                    dtype = result_dtype(graph, node, index)
                    self._record(graph, value, dtype, shapes[index] if shapes else None)
            self._known.update(evaluate(graph, node, self._known, shapes))
            self.unfinished |= shapes is None and self._is_unfinished(graph, node)

    def _enter(self, graph: Graph, node: Node, inner: Graph) -> None:
        outside = graph.captures(node)
        for capture in inner.nodes(Kind.CAPTURE):
            value = outside.get(capture.name)
            if value is not None and value.type is not None:
                inner.set_type(capture.output, value.type)
        for value in inner.inputs:
            inner.set_type(value, _filled(value.type, self._theirs.get(value)))
        capture_values(graph, node, inner, self._known)
        self._graph(inner)

    def _record(self, graph: Graph, value: Value, dtype: DType | None, shape: Shape | None) -> None:
        recorded, theirs = value.type, self._theirs.get(value)
        inferred = theirs
        if isinstance(theirs, TensorType) or (theirs is None and dtype is not None):
            inferred = self._inferred(value, dtype, shape, theirs)
        elif theirs is None and isinstance(recorded, TensorType):
            inferred = _with(recorded, recorded.dtype, shape)
        self._compare(graph, value, recorded, inferred)
        graph.set_type(value, _merged(recorded, inferred))

    def _inferred(
        self, value: Value, dtype: DType | None, shape: Shape | None, theirs: TensorType | None
    ) -> TensorType:
        """One type from both inferences; the rules here win, and say so."""
        if theirs is None:
            return _tensor_type(dtype or DType.UNDEFINED, dims.clean_shape(shape))
        wrong = dtype is not None and theirs.dtype not in (dtype, DType.UNDEFINED)
        ours = _tensor_type(dtype or theirs.dtype, dims.clean_shape(shape))
        if wrong or dims.conflict(ours.shape, theirs.shape):
            reason = f"ONNX infers {theirs} for {value.name}, which is {ours}"
            self.refusals.append(Refusal("onnx-inference", value.node.label, reason))
            return ours
        return _with(ours, ours.dtype, dims.refine_shape(ours.shape, theirs.shape))

    def _compare(
        self, graph: Graph, value: Value, recorded: Type | None, inferred: Type | None
    ) -> None:
        if not _contradicts(recorded, inferred):
            return
        self._overridden.add(value)
        follows = any(operand in self._overridden for operand in graph.operands(value.node))
        if not follows and not graph.is_output(value):  # of outputs, the declared type is judged
            reason = f"{value.name} is recorded as {recorded}, but is {inferred}"
            self.refusals.append(Refusal("recorded-type", value.node.label, reason))

    def _is_unfinished(self, graph: Graph, node: Node) -> bool:
        """Whether an operator without a rule here has more to go by than ONNX had."""
        if rule_of(graph, node) is not None or not any(map(_is_open, node.outputs)):
            return False
        if ops.schema(node.op_type, node.domain, graph.opsets.get(node.domain, 0)) is None:
            return False
        return any(
            operand is not None
            and operand.node.kind is Kind.OP
            and operand.type != self._theirs.get(operand)
            for operand in graph.operands(node)
        )


def _is_open(value: Value | None) -> bool:
    if value is None:
        return False
    type_ = value.type
    if not isinstance(type_, TensorType):
        return type_ is None
    return type_.shape is None or None in type_.shape


def _contradicts(recorded: Type | None, inferred: Type | None) -> bool:
    if not isinstance(recorded, TensorType) or not isinstance(inferred, TensorType):
        return None not in (recorded, inferred) and type(recorded) is not type(inferred)
    if recorded.dtype is not inferred.dtype and DType.UNDEFINED not in (
        recorded.dtype,
        inferred.dtype,
    ):
        return True
    return dims.conflict(recorded.shape, inferred.shape)


def _filled(recorded: Type | None, found: Type | None) -> Type | None:
    """The recorded type with its gaps filled."""
    if not isinstance(recorded, TensorType) or not isinstance(found, TensorType):
        return found if recorded is None else recorded
    dtype = found.dtype if recorded.dtype is DType.UNDEFINED else recorded.dtype
    return _with(recorded, dtype, dims.refine_shape(recorded.shape, found.shape))


def _merged(recorded: Type | None, inferred: Type | None) -> Type | None:
    """The inferred type with its gaps filled from the recorded one, in its spelling."""
    if inferred is None or recorded is None:
        return recorded if inferred is None else inferred
    if not isinstance(recorded, TensorType) or not isinstance(inferred, TensorType):
        return recorded if type(recorded) is type(inferred) else inferred
    if _contradicts(recorded, inferred):
        return _with(recorded, inferred.dtype, inferred.shape)
    dtype = recorded.dtype if inferred.dtype is DType.UNDEFINED else inferred.dtype
    shape, old = inferred.shape, dims.clean_shape(recorded.shape)
    if shape is None or old is None:
        return _with(recorded, dtype, old if shape is None else shape)
    merged = tuple(
        own if dim is None or dims.equal(dim, own) else dim
        for dim, own in zip(shape, old, strict=True)
    )
    return _with(recorded, dtype, merged)


# ---- declared outputs --------------------------------------------------------------------------


def _declare_outputs(graph: Graph, refusals: list[Refusal]) -> int:
    """Add what is known to the declared types of the outputs; return how many changed."""
    symbols = {
        name
        for value in graph.inputs
        for text in _dim_texts(value.type)
        for name in dims.symbols(text)
    }
    changed = 0
    for inner in graph.walk():
        for node in inner.outputs:
            value = inner.operand(node, 0)
            type_ = _declared(node, value, symbols, refusals)
            changed += inner.set_declared(node, type_)
    return changed


def _declared(
    node: Node, value: Value | None, symbols: set[str], refusals: list[Refusal]
) -> Type | None:
    declared, known = node.declared, None if value is None else value.type
    if declared is None or known is None:
        return declared
    if _contradicts(declared, known):
        reason = f"output {node.name} is declared as {declared}, but is {known}"
        refusals.append(Refusal("declared-type", node.label, reason))
        if not isinstance(declared, TensorType) or not isinstance(known, TensorType):
            return known
        return _with(declared, known.dtype, known.shape)
    if not isinstance(declared, TensorType) or not isinstance(known, TensorType):
        return declared
    shape = known.shape
    if shape is not None:
        shape = tuple(dim if dims.symbols(dim) <= symbols else None for dim in shape)
    return _filled(declared, _with(known, known.dtype, shape))
