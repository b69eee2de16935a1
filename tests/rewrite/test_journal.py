"""The journal: which operations a rewrite removed and made, and what that saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import graph_from_text
from optc.ir import DType, TensorType
from optc.passes import (
    FoldBranches,
    LowerOperators,
    PassContext,
    RaiseActivations,
    RemoveDuplicates,
)
from optc.pipeline import PlannedStep, run_pipeline
from optc.rewrite.driver import Builder, replace_node
from optc.rewrite.journal import Journal
from optc.rewrite.trace import Gain, Trace

if TYPE_CHECKING:
    from optc.ir import Graph, Node
    from optc.passes import Pass

CHAIN = "g (float[4] x) => (float[4] y) { a = Relu (x) b = Sin (a) c = Neg (b) y = Exp (c) }"


def elements(graph: Graph, node: Node) -> float | None:
    """A cost that a test can count: elements of the result; not known for control flow."""
    del graph
    type_ = node.output.type
    known = isinstance(type_, TensorType) and next(node.subgraphs(), None) is None
    return type_.elements if known and isinstance(type_, TensorType) else None


def gains(graph: Graph, journal: Journal) -> dict[str, Gain]:
    return journal.gains(graph)[0]


def swap(graph: Graph, trace: Trace, name: str, rule: str, *, report: str) -> None:
    """Replace an operation and the one above it by Abs; report before or after the removal."""
    node = graph.value(name).node
    build = Builder(graph, "p", [node])
    above = graph.operand(node, 0)
    assert above is not None
    value = build.Abs(graph.operand(above.node, 0))
    if report == "first":
        trace.applied(rule, node)
    replace_node(graph, node, [value], build.made)
    if report == "last":
        trace.applied(rule, node)


def test_every_rule_has_what_it_removed_and_made_whenever_it_reports() -> None:
    for report in ("first", "last"):
        graph = graph_from_text(CHAIN)
        for name in "abc":
            graph.set_type(graph.value(name), graph.inputs[0].type)
        journal, trace = Journal([elements]), Trace("p")
        with journal.watching(graph):
            swap(graph, trace, "b", "one", report=report)
            swap(graph, trace, "y", "other", report=report)
        assert gains(graph, journal) == {"one": Gain(4.0, 1), "other": Gain(4.0, 1)}


def test_an_unknown_cost_counts_nothing() -> None:
    graph = graph_from_text(CHAIN)
    journal, trace = Journal([elements]), Trace("p")
    with journal.watching(graph):
        swap(graph, trace, "b", "one", report="first")
    graph.set_type(graph.value("b"), TensorType(DType.F32, ("N",)))
    assert gains(graph, journal) == {"one": Gain(uncounted=1)}


def test_without_watching_nothing_is_noted() -> None:
    graph = graph_from_text(CHAIN)
    journal, trace = Journal([elements]), Trace("p")
    with journal.watching(graph):
        pass
    swap(graph, trace, "b", "one", report="first")
    assert gains(graph, journal) == {}


def run(text: str, *passes: Pass) -> list[dict[str, Gain]]:
    steps = [PlannedStep(step.name, step) for step in passes]
    made = run_pipeline(lambda: graph_from_text(text), steps, PassContext(), costs=[elements])
    return [dict(step.gains) for step in made.steps_for(0)]


def test_new_operations_are_counted_before_their_types_are_recorded() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 13]>
    g (float[8] x) => (float[8] y)
    <float[8] p, float[8] q, float[8] r, float a = {3}, float lo = {0}, float hi = {6}>
    {
       p = Add (x, a) q = Clip (p, lo, hi) r = Div (q, hi) y = Mul (x, r)
    }
    """
    raised, lowered = run(text, RaiseActivations(), LowerOperators())
    assert raised == {"hard-swish": Gain(24.0, 1)}
    ((_, gain),) = lowered.items()
    assert (gain.counted, gain.uncounted) == (1, 0)
    assert gain.seconds < 0


def test_merged_constants_save_nothing_and_control_flow_is_not_counted() -> None:
    text = """
    g (float[2] x) => (float[2] y) <float[2] k = {1, 2}, float[2] l = {1, 2}, bool c = {1}>
    {
       a = Mul (x, k)
       b = Mul (a, l)
       y = If (c) <
          then_branch = t () => (float[2] p) { p = Relu (b) },
          else_branch = e () => (float[2] q) { q = Neg (b) }>
    }
    """
    merged, folded = run(text, RemoveDuplicates(), FoldBranches())
    assert merged == {"equal-constant": Gain(0.0, 1)}
    assert folded == {"constant-condition": Gain(uncounted=1)}
