"""Replace operations on constants by their results.

What depends on constants only is a region: it is copied into a small model of its own, evaluated by
onnxruntime in one session (one thread, no graph optimization), and those of its values that the
rest of the graph uses become constants. Operations whose size shows only once their operands are
computed wait for another round. Regions of all subgraphs are evaluated together; a captured value
counts as not constant. Large regions are evaluated in parts, so that memory stays bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import Field

from optc.ir import DType, Kind, Origin, Tensor, TensorType, dims, ops
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.constant_regions import Bench, Failure, components, is_constant, outside_uses
from optc.rewrite.driver import remove_unused
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir import Graph, Node, Value
    from optc.numerics.values import Value as Result
    from optc.passes.base import PassContext
    from optc.passes.constant_regions import Region

_RULE: Final = "fold-constant"
_PART_BYTES: Final = 64 << 20  # what a session may read and write, unless one component is larger
_PART_NODES: Final = 1024  # onnxruntime needs time quadratic in their number to make a session
_MAX_FAILURES: Final = 64


class FoldConstantsOptions(PassOptions):
    """Options of `fold-constants`."""

    max_growth: int = Field(
        default=1 << 20,
        ge=0,
        description="bytes by which the result of an operation may exceed its operands; "
        "what would grow more stays computed at run time",
    )


class FoldConstants(Pass):
    """Evaluate what depends on constants only.

    Refuses: quantization (Q/DQ and integer operators), random operations, control flow, function
    calls and operators of other domains; results that are no tensors, that are graph outputs, or
    that a subgraph captures; results that would grow the model; what onnxruntime cannot run.
    """

    name = "fold-constants"
    Options = FoldConstantsOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Fold in rounds, until no operation on constants is left that may be folded."""
        assert isinstance(self.options, FoldConstantsOptions)
        trace = Trace(self.name)
        _Folder(graph, trace, self.options.max_growth).run()
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Folder:
    def __init__(self, root: Graph, trace: Trace, max_growth: int) -> None:
        self.root = root
        self.trace = trace
        self.max_growth = max_growth
        self.failures = 0
        self.origins: dict[Node, Origin] = {}
        self.sizes: dict[Node, int | None] = {}

    def run(self) -> None:
        waiting: Region = []
        for graph in tuple(self.root.walk()):
            waiting += self._candidates(graph)
        while waiting:
            region, waiting = self._plan(waiting)
            if not region:
                return
            left = [item for part in self._parts(region) for item in self._fold(part)]
            waiting = left + waiting

    def _refuse(self, node: Node, reason: str) -> None:
        self.trace.refused(_RULE, node, reason)

    # ---- what may be folded --------------------------------------------------------------------

    def _candidates(self, graph: Graph) -> Region:
        """Operations of one graph that depend on constants only and may be folded."""
        found: Region = []
        known: set[Value] = set()
        for node in graph.ordered():
            operands = _operands(graph, node)
            if not all(value in known or is_constant(value) for value in operands):
                continue
            if reason := _kept(graph, node):
                self._refuse(node, reason)
            elif node.is_op("Identity") and is_constant(operands[0]):
                # Evaluating it would copy the data, of tied weights for example.
                graph.replace_uses(node.output, operands[0])
                graph.remove(node)
                self.trace.applied(_RULE, node)
            else:
                found.append((graph, node))
                known.update(value for value in node.outputs if value is not None)
        return found

    def _plan(self, waiting: Region) -> tuple[Region, Region]:
        """What can be evaluated now, and what needs results of that first."""
        bench = Bench(self.root.opset)
        region: Region = []
        later: Region = []
        unknown: set[Value] = set()  # computed later, or of a size that shows later
        for graph, node in waiting:
            operands = _operands(graph, node)
            if any(value in unknown for value in operands):
                ready = False
            elif not all(is_constant(v) or v in bench.values for v in operands):
                continue  # an operand was refused
            else:
                bench.add(graph, node)
                size = self.sizes[node] = bench.measure(node)
                if reason := self._excess(bench, graph, node, size):
                    bench.discard(node)
                    self._refuse(node, reason)
                    continue
                ready = size is not None or all(map(is_constant, operands))
            (region if ready else later).append((graph, node))
            if not ready or self.sizes[node] is None:
                unknown.update(value for value in node.outputs if value is not None)
        return region, later

    def _excess(self, bench: Bench, graph: Graph, node: Node, size: int | None) -> str | None:
        """Why a node may not be evaluated, judging by the size of its results, or None."""
        operands = _operands(graph, node)
        if size is None:
            grows = ops.info(node).has(ops.Trait.GROWS) and all(map(is_constant, operands))
            return "the size of its result is not known before it is computed" if grows else None
        allowed = sum(bench.size(value) or 0 for value in dict.fromkeys(operands))
        return self._too_large(size, allowed)

    def _too_large(self, size: int, operands: int) -> str | None:
        if size <= operands + self.max_growth:
            return None
        return (
            f"its result has {size} bytes, its operands {operands}; "
            f"max_growth allows {self.max_growth} more"
        )

    # ---- evaluation ----------------------------------------------------------------------------

    def _parts(self, region: Region) -> Iterator[Region]:
        """The region; when it is large, parts of it that exchange no values if possible."""
        part: Region = []
        total = 0
        for group in components(region):
            size = self._traffic(group)
            full = total + size > _PART_BYTES or len(part) + len(group) > _PART_NODES
            if part and full:
                yield part
                part, total = [], 0
            part += group
            total += size
            while len(part) > _PART_NODES:
                yield part[:_PART_NODES]
                part = part[_PART_NODES:]
        yield part

    def _traffic(self, region: Region) -> int:
        constants = {
            value: value.constant.nbytes
            for graph, node in region
            for value in _operands(graph, node)
            if value.constant is not None
        }
        return sum(constants.values()) + sum(self.sizes[node] or 0 for _, node in region)

    def _fold(self, region: Region) -> Region:
        """Evaluate a region and put its results in; returns what another round has to do."""
        region, rest = _ready(region)
        while region:
            bench = Bench(self.root.opset)
            for graph, node in region:
                bench.add(graph, node)
            wanted = outside_uses(region)
            results = bench.evaluate(wanted) if wanted else {}
            if not isinstance(results, Failure):
                self._replace(region, results)
                break
            self.failures += 1
            region, skipped = self._without(region, results)
            rest = skipped + rest
        return rest

    def _without(self, region: Region, failure: Failure) -> tuple[Region, Region]:
        """The region without what failed, and what is left for another round."""
        if self.failures >= _MAX_FAILURES:
            for _, node in region:
                self._refuse(node, f"{_MAX_FAILURES} evaluations failed; last: {failure.reason}")
            return [], []
        culprit = failure.culprit or (region[0][1] if len(region) == 1 else None)
        if culprit is None:
            # Nobody is blamed. The first half is a region as well; in the end one node is left.
            half = len(region) // 2
            return region[:half], region[half:]
        graphs = {node: graph for graph, node in region}
        kernel = _kernel(graphs[culprit], culprit)
        lost: set[Node] = set()
        left: Region = []
        for graph, node in region:
            if node is culprit or (failure.at_load and _kernel(graph, node) == kernel):
                self._refuse(node, failure.reason)
                lost.add(node)
            elif any(value.node in lost for value in _operands(graph, node)):
                lost.add(node)
            else:
                left.append((graph, node))
        return left, []

    # ---- results -------------------------------------------------------------------------------

    def _replace(self, region: Region, results: dict[Value, Result]) -> None:
        graphs = {node: graph for graph, node in region}
        for graph, node in region:
            self._note_origin(graph, node)
        names: list[tuple[Graph, Value, str]] = []
        for value, tensor in self._usable(graphs, results).items():
            graph = graphs[value.node]
            names.append((graph, self._swap(graph, value, tensor), value.name))
        for graph, node in reversed(region):
            for gone in remove_unused(graph, [node]):
                if gone.kind is Kind.OP:
                    self.trace.applied(_RULE, gone)
        for graph, made, name in names:
            if not graph.has_value(name):
                graph.rename(made, name)

    def _usable(
        self, graphs: dict[Node, Graph], results: dict[Value, Result]
    ) -> dict[Value, Tensor]:
        """The results as tensors, but for nodes one of whose results cannot be used."""
        tensors: dict[Value, Tensor] = {}
        refused: set[Node] = set()
        for value, result in results.items():
            tensor = Tensor.from_numpy(result) if isinstance(result, np.ndarray) else None
            if reason := self._wrong(graphs[value.node], value, tensor):
                refused.add(value.node)
                self._refuse(value.node, reason)
            elif tensor is not None:
                tensors[value] = tensor
        return {value: tensor for value, tensor in tensors.items() if value.node not in refused}

    def _swap(self, graph: Graph, value: Value, tensor: Tensor) -> Value:
        made = graph.add_constant(tensor, graph.fresh_name(value.name), self.origins[value.node])
        made.doc, made.metadata = value.doc, value.metadata
        graph.replace_uses(value, made)
        return made

    def _wrong(self, graph: Graph, value: Value, tensor: Tensor | None) -> str | None:
        """Why a result cannot be used, or None."""
        if tensor is None:
            return "its result is not a tensor"
        type_ = value.type
        if isinstance(type_, TensorType):
            same = type_.dtype in (tensor.dtype, DType.UNDEFINED)
            if not same or dims.conflict(type_.shape, tensor.type.shape):
                return f"onnxruntime gives {tensor.type}, the graph says {type_}"
        if self.sizes[value.node] is not None:
            return None
        constants = {v: v.constant for v in _operands(graph, value.node)}
        return self._too_large(tensor.nbytes, sum(c.nbytes for c in constants.values() if c))

    def _note_origin(self, graph: Graph, node: Node) -> None:
        above = dict.fromkeys(value.node for value in _operands(graph, node))
        parents = [self.origins[item] for item in above if item in self.origins]
        self.origins[node] = Origin(self.trace.pass_name, (node.source_origin(), *parents))


def _ready(region: Region) -> tuple[Region, Region]:
    """What depends on constants and on itself only, and what does not: a part before it failed."""
    made: set[Value] = set()
    ready: Region = []
    rest: Region = []
    for graph, node in region:
        if all(value in made or is_constant(value) for value in _operands(graph, node)):
            ready.append((graph, node))
            made.update(value for value in node.outputs if value is not None)
        else:
            rest.append((graph, node))
    return ready, rest


def _operands(graph: Graph, node: Node) -> list[Value]:
    return [value for value in graph.operands(node) if value is not None]


def _kernel(graph: Graph, node: Node) -> tuple[object, ...]:
    """What decides whether onnxruntime has a kernel: the operator and its element types."""
    types = (value.type for value in _operands(graph, node))
    return (node.op_type, *(t.dtype if isinstance(t, TensorType) else None for t in types))


def _kept(graph: Graph, node: Node) -> str | None:
    """Why an operation on constants is not folded whatever its size, or None."""
    info = ops.info(node)
    if node.operator[0] or node.overload or (*node.operator, "") in graph.model.functions:
        return f"{node.qualified_op} is no operator of ONNX's own domain"
    if info.has(ops.Trait.CONTROL_FLOW) or next(node.subgraphs(), None):
        return f"{node.op_type} is control flow"
    if info.has(ops.Trait.QUANTIZE):
        return f"{node.op_type} carries quantization, which is kept"
    if not info.known:
        return f"{node.op_type} is not in the table of operators"
    if not ops.is_deterministic(graph, node):
        return f"{node.op_type} may give another result on each run"
    for value in node.outputs:
        if value is not None and (reason := _kept_value(graph, value)):
            return reason
    return None


def _kept_value(graph: Graph, value: Value) -> str | None:
    if not _is_tensor(graph, value):
        return f"its result {value.name} is not a tensor"
    for use in graph.uses(value):
        if use.node.kind is Kind.OUTPUT:
            return f"its result is the graph output {use.node.name}"
        if isinstance(use.key, str):
            return f"its result is captured by a subgraph of {use.node.label}"
    return None


def _is_tensor(graph: Graph, value: Value) -> bool:
    if value.type is not None:
        return isinstance(value.type, TensorType)
    schema = ops.schema(value.node.op_type, value.node.domain, graph.opset)
    if schema is None or not schema.outputs:
        return False
    formal = schema.outputs[min(value.index, len(schema.outputs) - 1)]
    return any(text.startswith("tensor(") for text in formal.types)
