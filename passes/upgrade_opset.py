"""Raise the model to a newer version of ONNX's operator set.

The nodes whose operator has another definition in the new version are converted by the version
converter of the onnx package, one by one: each is copied into a model in which it stands alone,
with the types of its operands and the values of small constants, and what comes back takes its
place. So weights are not copied, and nothing that the converter does not carry (functions,
subgraphs, metadata, other domains) passes through it. Where its results are known to be wrong they
are corrected or refused: see `optc.passes.opset_corrections`.

Source: ONNX operator changelog; onnx.version_converter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import onnx
import onnx.version_converter
from pydantic import Field

from optc.emit.onnx import build_model
from optc.errors import CapabilityError, ModelError
from optc.frontend.onnx import load_model
from optc.ir import AttrKind, Graph, Kind, ModelInfo, TensorType, ops
from optc.ir.verify import verify
from optc.passes.base import Pass, PassOptions, PassResult
from optc.passes.opset_corrections import correction
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.trace import Refusal, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optc.ir import Attr, Node, Value
    from optc.passes.base import PassContext

_RULE: Final = "raise-opset"
_INLINE_ELEMENTS: Final = 64  # the converter reads axes, scales and shapes, never weights
_IR_VERSION: Final = 8


class UpgradeOpsetOptions(PassOptions):
    """Options of `upgrade-opset`."""

    to: int = Field(
        ge=7,
        description="version of ONNX's own operator set to raise the model to; "
        "a newer model is left alone",
    )


class UpgradeOpset(Pass):
    """Convert a model to a newer opset, all of it or nothing.

    Refuses: to lower the opset; a node that the converter cannot convert, or converts wrongly;
    Scan-8; a model-local function that uses an operator with another definition in the new opset.
    """

    name = "upgrade-opset"
    Options = UpgradeOpsetOptions

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Convert the nodes that need it and import the new opset.

        Raises:
            CapabilityError: the installed onnx package does not know the opset.
        """
        assert isinstance(self.options, UpgradeOpsetOptions)
        to = self.options.to
        newest = onnx.defs.onnx_opset_version()
        if to > newest:
            raise CapabilityError(
                "opset-unknown",
                f"upgrade-opset: opset {to} is newer than the newest that onnx "
                f"{onnx.__version__} knows, {newest}",
                hint=f"set `to` to {newest} or less, or upgrade the onnx package",
            )
        if graph.opset >= to:
            lower = f"the model has opset {graph.opset}, and is not lowered to {to}"
            refusals = (Refusal(_RULE, graph.name, lower),) if graph.opset > to else ()
            return PassResult(False, {}, refusals)
        trace = Trace(self.name)
        _Upgrade(graph, to, trace).run()
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


class _Upgrade:
    def __init__(self, graph: Graph, to: int, trace: Trace) -> None:
        self.root = graph
        self.to = to
        self.trace = trace
        self.jobs: list[tuple[Graph, Node]] = []
        self.written: dict[Node, Mapping[str, Any]] = {}
        self.refused = False

    def run(self) -> None:
        for graph in self.root.walk():
            for node in graph.ordered():
                self._inspect(graph, node)
        for function in self.root.model.functions.values():
            self._inspect_function(function.body)
        if self.refused:
            return
        converted = self._convert(self.jobs)
        if isinstance(converted, str):
            self._blame()
            return
        results = {node.name: converted.operand(node, 0) for node in converted.outputs}
        groups = _by_job(converted)
        for index, (graph, node) in enumerate(self.jobs):
            splice = _Splice(graph, node, index, converted, results)
            if splice.put(self.trace.pass_name, groups[index], self.written[node]):
                self.trace.applied("convert-node", node)
        self.root.set_opset("", self.to)
        self.trace.counts[_RULE] = 1

    def _refuse(self, node: Node, reason: str) -> None:
        self.refused = True
        self.trace.refused(_RULE, node, reason)

    # ---- what has to be converted --------------------------------------------------------------

    def _inspect(self, graph: Graph, node: Node) -> None:
        if node.domain or (node.domain, node.op_type, node.overload) in graph.model.functions:
            return
        if ops.since(node.op_type, graph.opset) == ops.since(node.op_type, self.to):
            return
        if next(node.subgraphs(), None) is None:
            found = correction(graph, node, self.to)
            if isinstance(found, str):
                self._refuse(node, found)
            else:
                self.jobs.append((graph, node))
                self.written[node] = found
        elif node.is_op("Scan") and graph.opset < 9 <= self.to:
            self._refuse(node, "Scan-8 has a batch dimension, which Scan-9 does not have")
        # If and Loop, and Scan from 9 on, have only been extended.

    def _inspect_function(self, body: Graph) -> None:
        for graph in body.walk():
            for node in graph.nodes():
                before = ops.since(node.op_type, graph.opset)
                if not node.domain and before != ops.since(node.op_type, self.to):
                    self._refuse(
                        node,
                        f"function {body.name} uses {node.op_type}-{before}, which opset "
                        f"{self.to} defines anew; bodies of functions are not converted",
                    )

    def _blame(self) -> None:
        """Find one node of each operator that the converter fails on."""
        kinds: dict[str, list[tuple[Graph, Node]]] = {}
        for graph, node in self.jobs:
            kinds.setdefault(node.op_type, []).append((graph, node))
        for jobs in kinds.values():
            reason = self._convert(jobs)
            while isinstance(reason, str) and len(jobs) > 1:
                half = jobs[: len(jobs) // 2]
                first = self._convert(half)
                jobs = half if isinstance(first, str) else jobs[len(half) :]
                reason = self._convert(jobs)
            if isinstance(reason, str):
                self._refuse(jobs[0][1], reason)

    # ---- conversion ----------------------------------------------------------------------------

    def _convert(self, jobs: Sequence[tuple[Graph, Node]]) -> Graph | str:
        """The nodes at the new opset, each by itself, or why the converter cannot do it."""
        apart = Graph("apart", {"": self.root.opset}, model=ModelInfo(ir_version=_IR_VERSION))
        for index, (graph, node) in enumerate(jobs):
            _copy(apart, graph, node, index)
        try:
            model = onnx.version_converter.convert_version(build_model(apart), self.to)
        except (RuntimeError, onnx.version_converter.ConvertError) as error:
            return f"the version converter fails: {_readable(str(error))}"
        try:
            converted = load_model(model)
        except ModelError as error:
            return f"the version converter makes an invalid model: {error.message}"
        problems = verify(converted)
        return (
            f"the version converter makes an invalid node: {problems[0]}" if problems else converted
        )


def _readable(text: str) -> str:
    """The message of a C++ assertion without its place, on one line."""
    return " ".join(text.split("failed: ")[-1].split())


def _copy(apart: Graph, graph: Graph, node: Node, index: int) -> None:
    operands: list[Value | None] = []
    for place, value in enumerate(graph.operands(node)):
        name = _operand_name(index, place)
        if value is None:
            operands.append(None)
        elif value.constant is not None and value.constant.elements <= _INLINE_ELEMENTS:
            operands.append(apart.add_constant(value.constant, name))
        else:
            operands.append(apart.add_input(name, _tensor_type(value)))
    made = apart.add(
        node.op_type,
        operands,
        outputs=[
            None if value is None else f"{index}/result/{place}"
            for place, value in enumerate(node.outputs)
        ],
        attributes=node.attributes,
    )
    for old, new in zip(node.outputs, made.outputs, strict=True):
        if old is not None and new is not None:
            apart.add_output(new, new.name, _tensor_type(old))


def _operand_name(index: int, place: int) -> str:
    return f"{index}/operand/{place}"


def _tensor_type(value: Value) -> TensorType | None:
    return value.type if isinstance(value.type, TensorType) else None


def _by_job(converted: Graph) -> dict[int, list[Node]]:
    """The operations that each job has become, in order of execution."""
    owner: dict[Node, int] = {}
    groups: dict[int, list[Node]] = {}
    for output in converted.outputs:
        groups.setdefault(_job(output.name), [])
    for node in reversed(converted.ordered()):
        for value in node.outputs:
            for use in converted.uses(value) if value is not None else ():
                ends = use.node.kind is Kind.OUTPUT
                owner[node] = _job(use.node.name) if ends else owner[use.node]
        groups[owner[node]].append(node)
    return {job: nodes[::-1] for job, nodes in groups.items()}


def _job(name: str) -> int:
    return int(name.partition("/")[0])


class _Splice:
    """Puts what one node has become in the place of the node."""

    def __init__(
        self,
        graph: Graph,
        node: Node,
        index: int,
        converted: Graph,
        results: Mapping[str, Value | None],
    ) -> None:
        self.graph = graph
        self.node = node
        self.converted = converted
        self.results = [
            (old, results[f"{index}/result/{place}"])
            for place, old in enumerate(node.outputs)
            if old is not None
        ]
        self.values: dict[Value, Value] = {}
        for place, value in enumerate(graph.operands(node)):
            name = _operand_name(index, place)
            if value is not None and converted.has_value(name):
                self.values[converted.value(name)] = value

    def put(self, pass_name: str, made: Sequence[Node], written: Mapping[str, Any]) -> bool:
        """Replace the node unless it has stayed as it was; whether it was replaced."""
        if not written and len(made) == 1 and self._unchanged(made[0]):
            return False
        build = Builder(self.graph, pass_name, [self.node])
        same = [item for item in made if item.op_type == self.node.op_type]
        heir = (same or list(made))[-1]
        for item in made:
            self._build(build, item, written if item is heir else {}, heir=item is heir)
        values = [self.values[new] for _, new in self.results if new is not None]
        replace_node(self.graph, self.node, values, build.made)
        return True

    def _unchanged(self, new: Node) -> bool:
        old = self.node
        operands = tuple(
            None if value is None else self.values.get(value)
            for value in self.converted.operands(new)
        )
        return (
            new.op_type == old.op_type
            and operands == self.graph.operands(old)
            and len(new.outputs) == len(old.outputs)
            and new.attributes.keys() == old.attributes.keys()
            and all(_same(new.attributes[name], old.attributes[name]) for name in old.attributes)
        )

    def _build(self, build: Builder, item: Node, written: Mapping[str, Any], *, heir: bool) -> None:
        operands = [
            None if value is None else self._operand(build, value)
            for value in self.converted.operands(item)
        ]
        node = build.node(
            item.op_type,
            operands,
            attributes={**item.attributes, **written},
            outputs=len(item.outputs),
            domain="",  # the opset is raised when all is converted
        )
        if heir:
            node.name, node.doc = self.node.name, self.node.doc
            node.metadata, node.opaque = self.node.metadata, self.node.opaque
        for old, new in zip(item.outputs, node.outputs, strict=True):
            if old is None and new is not None:
                self.graph.drop_output(new)
            elif old is not None and new is not None:
                self.values[old] = new

    def _operand(self, build: Builder, value: Value) -> Value:
        if value not in self.values:
            # An attribute that has become an operand.
            assert value.constant is not None
            self.values[value] = build.constant(value.constant, name=f"{self.node.key}_const")
        return self.values[value]


def _same(a: Attr, b: Attr) -> bool:
    if a.kind is AttrKind.TENSOR and b.kind is AttrKind.TENSOR:
        return bool(a.value.same_as(b.value))
    return a == b
