"""The pipeline verifies, records, dumps, and names the pass that breaks a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from helpers import graph_from_text
from optc.errors import InternalError, ModelError
from optc.ir import DType, Kind, TensorType
from optc.ir.text import print_graph
from optc.ir.verify import Verified, Violation, verify
from optc.passes import InferShapes, LowerOperators, RaiseActivations, RemoveIdentity
from optc.passes.base import Pass, PassContext, PassResult
from optc.pipeline import PlannedStep, graph_after, run_pipeline
from optc.rewrite.driver import to_attr
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from pathlib import Path

    from optc.ir import Graph, Node

TEXT = """
g (float[2] x) => (float[2] y) {
  a = Relu (x)
  y = Neg (a)
}
"""


class Honest(Pass):
    """Does nothing."""

    name: ClassVar[str] = "honest"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        return PassResult(changed=False)


class WrongType(Pass):
    """Records a type that is wrong."""

    name: ClassVar[str] = "wrong-type"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        graph.set_type(graph.value("a"), TensorType(DType.F32, (3,)))
        return PassResult(changed=True, counts={"damage": 1})


class Silent(Pass):
    """Removes an operation and does not say so."""

    name: ClassVar[str] = "silent"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        graph.replace_uses(graph.value("a"), graph.value("x"))
        graph.remove(graph.value("a").node)
        return PassResult(changed=False)


def planned(*passes: Pass) -> tuple[PlannedStep, ...]:
    return tuple(PlannedStep(step.name, step) for step in passes)


def run(*passes: Pass, **options: Path) -> object:
    return run_pipeline(
        lambda: graph_from_text(TEXT), planned(*passes), PassContext(), dump_dir=options.get("dump")
    )


@pytest.mark.parametrize("after", [(), (Honest(),)])
def test_a_pass_that_breaks_the_graph_is_named_with_its_diff(after: tuple[Pass, ...]) -> None:
    with pytest.raises(InternalError) as caught:
        run(Honest(), WrongType(), *after)
    assert caught.value.code == "pass-broke-graph"
    assert caught.value.message.startswith("wrong-type broke the graph: ")
    assert "-  %0 = Relu(%x)\n" in caught.value.detail
    assert "+  %0 = Relu(%x) : f32[3]" in caught.value.detail


def test_a_pass_that_hides_a_change_is_named() -> None:
    with pytest.raises(InternalError, match=r"silent broke the graph: .*changed nothing, and it"):
        run(Silent())


def test_stale_recorded_types_are_dropped_and_reported() -> None:
    graph = graph_from_text(TEXT)
    graph.set_type(graph.value("a"), TensorType(DType.F32, (3,)))
    run = run_pipeline(lambda: graph, planned(Honest()), PassContext())
    assert [step.name for step in run.steps] == ["read", "honest"]
    assert [refusal.rule for refusal in run.steps[0].refusals] == ["recorded-type"] * 2
    assert run.graph.value("a").type is None


def test_a_model_that_is_not_sound_is_the_users_matter() -> None:
    graph = graph_from_text(TEXT)
    graph.set_attributes(graph.value("a").node, {"alpha": to_attr(1.0)})
    with pytest.raises(ModelError) as caught:
        run_pipeline(lambda: graph, planned(Honest()), PassContext())
    assert caught.value.code == "model-invalid"
    assert "alpha" in caught.value.message


def test_dumps_are_numbered_by_step(tmp_path: Path) -> None:
    run(Honest(), Honest(), dump=tmp_path / "deep" / "dumps")
    files = sorted(path.name for path in (tmp_path / "deep" / "dumps").iterdir())
    assert files == ["00-honest.txt", "01-honest.txt"]


@pytest.mark.parametrize("skipped_after", [0, 2])
def test_the_last_step_that_runs_is_verified_in_full(
    monkeypatch: pytest.MonkeyPatch, skipped_after: int
) -> None:
    full: list[Graph] = []

    def spy(graph: Graph, known: Verified | None = None) -> tuple[Violation, ...]:
        if known is None:
            full.append(graph)
        return verify(graph, known)

    monkeypatch.setattr("optc.pipeline.verify", spy)
    steps = (
        *planned(Honest(), Honest()),
        *[PlannedStep("later", None, "when: amx")] * skipped_after,
    )
    run_pipeline(lambda: graph_from_text(TEXT), steps, PassContext())
    assert len(full) == 1


def test_skipped_steps_are_recorded_with_the_reason() -> None:
    steps = (PlannedStep("cast-bf16", None, "when: bf16"), *planned(Honest()))
    records = run_pipeline(lambda: graph_from_text(TEXT), steps, PassContext()).steps
    assert records[0].to_dict() == {"pass": "cast-bf16", "skipped": "when: bf16"}
    assert records[1].nodes_before == records[1].nodes_after == 2


def test_between_steps_a_graph_is_lowered_as_it_would_be_emitted() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 13]>
    g (float[8] x) => (float[8] y) <float a = {3}, float lo = {0}, float hi = {6}>
    { p = Add (x, a) q = Clip (p, lo, hi) r = Div (q, hi) s = Identity (r) y = Mul (x, s) }
    """
    steps = planned(
        InferShapes(),
        RemoveIdentity(),
        RaiseActivations(),
        Honest(),
        LowerOperators(),
        InferShapes(),
    )
    for count, left in enumerate((5, 5, 4, 2, 2, 2, 2)):
        graph = graph_after(lambda: graph_from_text(text), steps, count, PassContext())
        assert not any(node.is_canonical for node in graph.nodes())
        assert len(graph) == left
    bare = graph_after(lambda: graph_from_text(text), steps[:3], 3, PassContext())
    assert [node.qualified_op for node in bare.nodes()] == ["optc::HardSwish"]


class Decides(Pass):
    """Decides about every operation."""

    name: ClassVar[str] = "decides"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        trace = Trace(self.name)
        for node in graph.nodes():
            trace.decided("always", node, "bf16", "because")
        return PassResult(False, decisions=trace.decisions)


class Asks(Pass):
    """Takes away what was decided to be computed in bf16."""

    name: ClassVar[str] = "asks"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        node = graph.value("a").node
        if context.decisions.of(node) is None:
            return PassResult(False)
        graph.replace_uses(node.output, graph.value("x"))
        graph.remove(node)
        return PassResult(True, {"asked": 1})


def test_steps_know_what_earlier_ones_decided() -> None:
    steps = planned(Asks(), Decides(), Asks())
    run = run_pipeline(lambda: graph_from_text(TEXT), steps, PassContext())
    assert [step.changed for step in run.steps] == [False, False, True]
    again = graph_after(lambda: graph_from_text(TEXT), steps, 3, PassContext())
    assert print_graph(again) == print_graph(run.graph)


class Lowers(Pass):
    """Stands for a pass that quantizes."""

    name: ClassVar[str] = "lowers"
    quantizes: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        graph.replace_uses(graph.value("a"), graph.value("x"))
        graph.remove(graph.value("a").node)
        return PassResult(True, {"lowered": 1})


class LooksBack(Honest):
    """Asks for the graph before that."""

    name: ClassVar[str] = "looks-back"
    needs_reference: ClassVar[bool] = True


def test_the_graph_before_quantizing_is_kept_for_a_step_that_asks() -> None:
    def source() -> Graph:
        return graph_from_text(TEXT)

    steps = planned(Honest(), Lowers(), LooksBack())
    run = run_pipeline(source, steps, PassContext())
    assert run.before is not None
    kept, again = (
        graph_after(source, steps, 1, PassContext(), known=known) for known in (run.before, None)
    )
    assert print_graph(kept) == print_graph(again) == print_graph(run.before)
    assert print_graph(run.before) != print_graph(run.graph)
    assert run_pipeline(source, steps[:2], PassContext()).before is None


class Warns(Pass):
    """Warns."""

    name: ClassVar[str] = "warns"

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        return PassResult(False, warnings=("no node fits name 'x.*'",))


def test_warnings_of_a_pass_are_in_its_record() -> None:
    run = run_pipeline(lambda: graph_from_text(TEXT), planned(Warns()), PassContext())
    assert [step.warnings for step in run.steps] == [("no node fits name 'x.*'",)]


class Halves(Pass):
    """Lets every value be bf16, where it stands."""

    name: ClassVar[str] = "halves"
    retypes: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        for node in graph.nodes(Kind.INPUT, Kind.OP):
            graph.set_type(node.output, TensorType(DType.BF16, (2,)))
        for node in graph.outputs:
            graph.set_declared(node, TensorType(DType.BF16, (2,)))
        return PassResult(changed=True, counts={"half": 1})


def test_what_a_pass_saves_that_retypes_is_seen_on_the_whole_graph() -> None:
    def price(graph: Graph, node: Node) -> float | None:
        kind = node.output.type
        return kind.nbytes if isinstance(kind, TensorType) else None

    run = run_pipeline(
        lambda: graph_from_text(TEXT),
        planned(InferShapes(), Halves()),
        PassContext(),
        costs=[price],
    )
    assert run.gains[1][0]["halves"].seconds == 8.0  # two values of 8 bytes become 4 each
    assert run.seconds == (8.0,)
