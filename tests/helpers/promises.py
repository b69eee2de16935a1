"""What every pass promises, checked on one graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.passes.base import PassContext

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.passes.base import Pass, PassResult


def run_pass(step: Pass, graph: Graph) -> PassResult:
    """Run a pass and check that the graph is valid, `changed` is true, and a second run idle."""
    before = print_graph(graph)
    result = step.apply(graph, PassContext())
    after = print_graph(graph)
    assert verify(graph) == ()
    assert result.changed == (after != before)
    assert result.changed == bool(result.counts)
    second = step.apply(graph, PassContext())
    assert not second.changed
    assert print_graph(graph) == after
    return result


def refused(result: PassResult) -> dict[str, str]:
    """Reasons by rule of the matches that a run refused, near misses left out."""
    return {item.rule: item.reason for item in result.refusals if not item.miss}
