"""Near misses over a pipeline: grouped, the last word counts, what was done after all is out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import graph_from_text
from optc.passes import FoldBatchnorm, MergeTransposes, PassContext, RemoveIdentity
from optc.passes.base import PassResult
from optc.pipeline import PlannedStep, run_pipeline
from optc.rewrite.near_misses import near_misses
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optc.ir import Graph
    from optc.passes import Pass
    from optc.rewrite.near_misses import NearMiss


class Refuse(RemoveIdentity):
    """Refuses every Identity, and says the size of nothing."""

    name = "refuse"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        trace = Trace(self.name)
        for number, node in enumerate(graph.ordered()):
            if node.is_op("Identity"):
                trace.refused("copy", node, f"size {number} is odd", family="copies")
        return PassResult(False, trace.counts, trace.refusals)


TEXT = """
g (float[2] x, float[2] k) => (float[2] y, float[2] z)
{
   [first] a = Identity (x)
   [second] b = Identity (k)
   y = Add (a, b)
   z = Sub (a, b)
}
"""


def misses(text: str, passes: Sequence[Pass]) -> tuple[NearMiss, ...]:
    steps = [PlannedStep(step.name, step) for step in passes]
    run = run_pipeline(lambda: graph_from_text(text), steps, PassContext())
    return near_misses(run.steps, run.graph)


def test_equal_reasons_are_one_entry_up_to_numbers() -> None:
    (found,) = misses(TEXT, [Refuse()])
    assert (found.family, found.reason, found.passes) == ("copies", "size 0 is odd", ("refuse",))
    assert [place.node for place in found.places] == ["first", "second"]
    assert not found.is_uniform


def test_a_pass_that_runs_twice_says_it_once() -> None:
    (found,) = misses(TEXT, [Refuse(), Refuse()])
    assert len(found.places) == 2


def test_what_a_later_step_rewrote_is_left_out() -> None:
    assert misses(TEXT, [Refuse(), RemoveIdentity()]) == ()


def test_by_node_of_the_source_model() -> None:
    (found,) = misses(TEXT, [Refuse()])
    only = found.at("second")
    assert only is not None
    assert [place.node for place in only.places] == ["second"]
    assert only.reason == "size 1 is odd"
    assert found.at("third") is None


def test_a_near_miss_needs_most_of_a_pattern() -> None:
    """A Conv that nothing but a Conv is near to is none; weights that are not constant are."""
    text = """
    g (float[1,2,4,4] x, float[2,2,1,1] w) => (float[1,2,4,4] y)
    <float[2] s = {1, 2}, float[2] b = {1, 2}, float[2] m = {1, 2}, float[2] v = {1, 2}>
    { c = Conv (x, w) [norm] y = BatchNormalization (c, s, b, m, v) }
    """
    (found,) = misses(text, [FoldBatchnorm()])
    assert found.family == "batchnorm"
    assert "not constant" in found.reason
    lone = "g (float[1,2] x) => (float[2,1] y) { y = Transpose <perm = [1, 0]> (x) }"
    assert misses(lone, [MergeTransposes()]) == ()
