"""Every pass on random graphs: it verifies, keeps signature and numbers, and ends where it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.random_graphs import graphs
from optc.emit.onnx import serialize
from optc.ir import Graph, Kind, clone
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.numerics.compare import compare_outputs
from optc.numerics.evaluate import open_session
from optc.numerics.tolerance import Tolerance
from optc.passes import ALL_PASSES, LowerOperators, Pass, PassContext, UpgradeOpset
from optc.recipe import resolve_pipeline

if TYPE_CHECKING:
    from optc.numerics.values import Feeds

CONTEXT = PassContext()
# Passes that keep what a graph computes and takes, and need no data for it.
EXACT = tuple(
    entry
    for entry in ALL_PASSES
    if not entry.quantizes and not entry.observes and entry.keeps_interface
)
# Twelve operations with dot products of at most 100 terms, each a rounding.
TOLERANCE = Tolerance.for_fp32(12 * 100)
INPUTS = {"x": np.random.default_rng(7).uniform(-1, 1, (2, 3, 4, 4)).astype(np.float32)}
FEW = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def make(entry: type[Pass]) -> Pass:
    return entry(UpgradeOpset.Options(to=20)) if entry is UpgradeOpset else entry()


def run(graph: Graph) -> Feeds:
    lowered = clone(graph)
    LowerOperators().apply(lowered, CONTEXT)
    session = open_session(serialize(lowered), optimize="none")
    return session.run(INPUTS)


def signature(graph: Graph) -> list[tuple[str, str]]:
    ends = [(v.name, str(v.type)) for v in graph.inputs]
    return ends + [(node.name, str(node.declared)) for node in graph.outputs]


def reordered(graph: Graph) -> Graph:
    """The same graph, its constants inserted in the opposite order."""
    copy = Graph(graph.name, graph.opsets)
    values = {v: copy.add_input(v.name, v.type) for v in graph.inputs}
    for value in reversed(list(graph.constants())):
        assert value.constant is not None
        values[value] = copy.add_constant(value.constant, value.name)
    for node in graph.nodes(Kind.OP):
        operands = [None if v is None else values[v] for v in graph.operands(node)]
        made = copy.add(
            node.op_type,
            operands,
            outputs=[node.output.name],
            name=node.name,
            attributes=node.attributes,
            types=[node.output.type],
        )
        values[node.output] = made.output
    for output in graph.outputs:
        operand = graph.operand(output, 0)
        assert operand is not None
        copy.add_output(values[operand], output.name, output.declared)
    return copy


@given(graph=graphs())
@FEW
def test_random_graphs_are_valid_and_print_the_same_in_any_insertion_order(graph: Graph) -> None:
    assert verify(graph) == ()
    assert print_graph(reordered(graph)) == print_graph(graph)
    assert print_graph(clone(graph)) == print_graph(graph)


@pytest.mark.parametrize("entry", EXACT, ids=lambda entry: entry.name)
def test_a_pass_keeps_what_the_graph_computes(entry: type[Pass]) -> None:
    @given(graph=graphs())
    @FEW
    def check(graph: Graph) -> None:
        source, before = clone(graph), print_graph(graph)
        result = make(entry).apply(graph, CONTEXT)
        assert verify(graph) == ()
        assert signature(graph) == signature(source)
        assert result.changed == (print_graph(graph) != before)
        comparison = compare_outputs(run(source), run(graph), TOLERANCE)
        assert comparison.passed, comparison.worst
        again = print_graph(graph)
        assert not make(entry).apply(graph, CONTEXT).changed
        assert print_graph(graph) == again

    check()


@given(graph=graphs(), data=st.data())
@FEW
def test_any_sequence_of_passes_keeps_what_the_graph_computes(
    graph: Graph, data: st.DataObject
) -> None:
    source = clone(graph)
    for entry in data.draw(st.lists(st.sampled_from(EXACT), min_size=2, max_size=6)):
        make(entry).apply(graph, CONTEXT)
        assert verify(graph) == (), entry.name
    comparison = compare_outputs(run(source), run(graph), TOLERANCE)
    assert comparison.passed, comparison.worst


@given(graph=graphs())
@FEW
def test_the_preset_keeps_what_the_graph_computes_and_grows_nothing(graph: Graph) -> None:
    source = clone(graph)
    for step in resolve_pipeline("fp32"):
        step.create().apply(graph, CONTEXT)
        assert verify(graph) == (), step.name
    assert signature(graph) == signature(source)
    assert len(graph) <= len(source)
    comparison = compare_outputs(run(source), run(graph), TOLERANCE)
    assert comparison.passed, comparison.worst
