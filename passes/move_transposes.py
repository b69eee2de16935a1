"""Move transposes through operations to where they cancel.

    Transpose(f(Transpose(x, p)), p⁻¹) = f'(x)      f' is f with its axes renamed (see `layouts`)

Models that were written for another layout come with islands: tf2onnx writes a Transpose before
and after every convolution (NHWC around NCHW), ConvNeXt and Swin normalize with the channels last.
Between such transposes stand elementwise operations, reductions, concatenations and the like,
which run in either layout. Which of them move is decided for a whole region at once, as the choice
that transposes the fewest bytes (see `transpose_cut`); only then is the graph changed. Each change
lowers that number, so the pass ends.

Source: ONNX operator Transpose-25.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.errors import InternalError
from optc.ir import Origin, TensorType
from optc.ir.shape_site import shape_of
from optc.passes.base import Pass, PassResult
from optc.passes.layouts import (
    composed,
    constant_like,
    inverse,
    is_single,
    perm_of,
    permuted_constant,
    permuted_type,
)
from optc.passes.transpose_cut import Region
from optc.rewrite.driver import Builder, remove_unused, to_attr
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optc.ir import Graph, Node, Value
    from optc.passes.base import PassContext
    from optc.passes.layouts import Moved, Perm


class MoveTransposes(Pass):
    """Move transposes to where they cancel, or where they move fewer bytes.

    Refuses: a region in which no fewer bytes would be transposed, named with what binds it to its
    layout: a convolution, pooling or Resize, a matrix product or normalization whose own axes
    would move, a reshape, a graph input or output, an operand of another rank, axes that are not
    constant. A Softmax along the last axis moves only when it saves more than the runtime's own
    transposes would cost. Symbolic sizes are taken for 1, 16 and 1024: each must show a gain.
    """

    name = "move-transposes"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        """Region by region, in every graph, until none gains."""
        del context
        trace = Trace(self.name)
        for nested in tuple(graph.walk()):
            budget = len(nested) + 100
            while _improve(nested, trace):
                budget -= 1
                if budget < 0:
                    raise InternalError("rewrite-endless", f"{self.name} does not end")
        return PassResult(bool(trace.counts), trace.counts, trace.refusals)


def _improve(graph: Graph, trace: Trace) -> bool:
    """Change the first region that gains; otherwise record why none does."""
    refused: dict[Node, str] = {}
    for region in _regions(graph):
        plan = region.plan()
        if plan:
            anchor = region.transposes()[0]
            trace.applied("transposes", anchor)
            for node in _Mover(region, plan, trace.pass_name).run():
                trace.forget(node)
            return True
        around = region.transposes()
        if len(around) > 1:
            reason = f"no fewer bytes would be transposed: {region.culprit()}"
            refused.update({node: reason for node in around if node not in refused})
    for node, reason in refused.items():
        trace.refused("transposes", node, reason)
    return False


def _regions(graph: Graph) -> Iterator[Region]:
    seen: set[tuple[Perm, Value]] = set()
    for node in graph.ordered():
        perm = perm_of(graph, node)
        source = graph.operand(node, 0)
        if perm is None or source is None or list(perm) == sorted(perm):
            continue
        for wanted, seed in ((inverse(perm), node.output), (perm, source)):
            if (wanted, seed) in seen:
                continue
            region = Region(graph, wanted)
            region.grow([seed])
            seen.update((wanted, value) for value in region.values)
            if region.nodes:
                yield region


class _Mover:
    """Carries out the plan of one region. Operations change in place; values keep their names."""

    def __init__(self, region: Region, plan: dict[Node, Moved], made_by: str) -> None:
        self._region, self._plan, self._made_by = region, plan, made_by
        self._graph, self._perm = region.graph, region.perm
        self._permuted: dict[Value, Value] = {}
        self._gone: list[Node] = []

    def run(self) -> list[Node]:
        """Change the graph; returns the nodes that are gone."""
        order = [node for node in self._graph.ordered() if node in self._plan]
        around = self._region.transposes()
        self._merge_chains()
        for node in order:
            self._feed(node)
        results = [v for node in order if not self._plan[node].absorbs for v in node.outputs if v]
        closers = {use.node for v in results for use in self._graph.uses(v)} & set(around)
        for node in order:
            self._rewrite(node)
        for value in results:
            self._leave(value, closers)
        return self._gone + remove_unused(self._graph, around)

    def _merge_chains(self) -> None:
        """Let transposes of transposed values read the source: the plan counts on it."""
        graph, region = self._graph, self._region
        for value in region.values:
            first, source = perm_of(graph, value.node), graph.operand(value.node, 0)
            if first is None or source is None or region.is_inside(value.node):
                continue
            for use in list(graph.uses(value)):
                second = perm_of(graph, use.node)
                if second is None or region.is_inside(use.node):
                    continue
                perm = composed(first, second)
                if list(perm) == sorted(perm):
                    graph.replace_uses(use.node.output, source)
                    self._gone += remove_unused(graph, [use.node])
                else:
                    self._set_perm(use.node, perm)
                    graph.set_operand(use.node, 0, source)

    def _set_perm(self, node: Node, perm: Perm) -> None:
        self._graph.set_attributes(node, dict(node.attributes) | {"perm": to_attr(perm)})
        node.origin = Origin(self._made_by, (node.source_origin(),))

    def _is_moved(self, value: Value) -> bool:
        how = self._plan.get(value.node)
        return how is not None and not how.absorbs

    # ---- what comes in -------------------------------------------------------------------------

    def _feed(self, node: Node) -> None:
        """Let the data operands of a node be in the new layout."""
        for index in self._plan[node].data:
            value = self._graph.operand(node, index)
            assert value is not None
            if not self._is_moved(value):
                self._graph.set_operand(node, index, self._in_new_layout(value, node))
                if value.constant is not None:
                    remove_unused(self._graph, [value.node])

    def _in_new_layout(self, value: Value, user: Node) -> Value:
        graph = self._graph
        if is_single(shape_of(graph, value)):
            return value
        found = self._permuted.get(value)
        if found is None or found.node not in graph:
            found = self._permuted[value] = self._transposed(value, user)
        return found

    def _transposed(self, value: Value, user: Node) -> Value:
        graph, maker = self._graph, value.node
        if value.constant is not None:
            build = Builder(graph, self._made_by, (user,))
            return build.constant(
                permuted_constant(value, self._perm), dtype=value.constant.dtype, name=value.name
            )
        source = graph.operand(maker, 0)
        if self._region.is_opener(maker):
            assert source is not None
            return source
        for use in graph.uses(value):
            if use.node not in self._plan and perm_of(graph, use.node) == self._perm:
                return use.node.output
        perm = perm_of(graph, maker)
        if perm is not None and source is not None and not self._is_moved(source):
            return self._transpose(source, composed(perm, self._perm), maker)
        return self._transpose(value, self._perm, user)

    def _transpose(self, source: Value, perm: Perm, parent: Node) -> Value:
        build = Builder(self._graph, self._made_by, (parent,))
        made = build.Transpose(source, perm=perm)
        if isinstance(source.type, TensorType):
            self._graph.set_type(made, permuted_type(source.type, perm))
        return made

    # ---- the operations ------------------------------------------------------------------------

    def _rewrite(self, node: Node) -> None:
        graph, how = self._graph, self._plan[node]
        build = Builder(graph, self._made_by, (node,))
        attributes = dict(node.attributes)
        attributes |= {name: to_attr(value) for name, value in how.attributes.items()}
        graph.set_attributes(node, attributes)
        for index, numbers in how.operands.items():
            old = graph.operand(node, index)
            name = old.name if old is not None else node.key
            graph.set_operand(node, index, build.constant(constant_like(numbers, old), name=name))
            remove_unused(graph, [] if old is None else [old.node])
        node.origin = Origin(self._made_by, (node.source_origin(),))
        for value in () if how.absorbs else node.outputs:
            if value is not None and isinstance(value.type, TensorType):
                graph.set_type(value, permuted_type(value.type, self._perm))

    # ---- what goes out -------------------------------------------------------------------------

    def _leave(self, value: Value, closers: set[Node]) -> None:
        """Give the users of a moved value that did not move what they had."""
        graph, back = self._graph, inverse(self._perm)
        outside = []
        for use in list(graph.uses(value)):
            how = self._plan.get(use.node)
            if how is not None and use.key in how.data:
                continue
            if use.node in closers:
                graph.replace_uses(use.node.output, value)
            elif self._region.is_neutral(use.node):
                perm = perm_of(graph, use.node)
                assert perm is not None
                self._set_perm(use.node, composed(back, perm))
            else:
                outside.append(use)
        if not outside:
            return
        made = self._transpose(value, back, value.node)
        for use in outside:
            graph.set_operand(use.node, use.key, made)
        name = value.name
        graph.rename(value, graph.fresh_name(f"{name}_moved"))
        graph.rename(made, name)
