"""Stages of a pipeline in a store: what is re-used, and that the result does not tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from optc.cache import MemoryStore
from optc.emit.onnx import serialize
from optc.groups import read_source, run_groups
from optc.passes.base import Pass, PassContext, PassResult
from optc.pipeline import PlannedStep, run_pipeline
from optc.prepare import prepare
from optc.recipe import load_recipe, resolve_pipeline
from optc.rewrite.near_misses import near_misses
from optc.stages import Stages, step_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from optc.ir import Graph
    from optc.pipeline import PassRun

MODEL = Path(__file__).resolve().parents[1] / "recipes" / "quickstart" / "mnist_mobilenet.onnx"
STEPS = ["infer-shapes", "fold-constants", "fold-batchnorm", "fold-affine", "remove-identity"]
SOURCE = "0" * 64
RECIPE = load_recipe({"schema_version": 1, "model": str(MODEL), "targets": ["cascadelake"]})


def source() -> Graph:
    return read_source(RECIPE)


def planned(steps: Sequence[object]) -> list[PlannedStep]:
    return [PlannedStep(step.name, step.create()) for step in resolve_pipeline(steps)]


def one(graph: object, node: object) -> float:
    """A cost function: every operation takes a second."""
    return 1.0


def run(
    steps: Sequence[PlannedStep], store: MemoryStore | None, costs: Sequence[str] = ("c",)
) -> PassRun:
    memo = None
    if store is not None:
        memo = Stages(store, SOURCE, step_keys(SOURCE, steps, "target"), costs, steps)
    return run_pipeline(source, steps, PassContext(), costs=[one] * len(costs), memo=memo)


def facts(found: PassRun) -> list[Any]:
    return [
        serialize(found.graph),
        json.dumps([step.to_dict() for step in found.steps_for(0)]),
        [miss.to_dict() for miss in near_misses(found.steps, found.graph)],
        found.seconds,
        found.unknown,
    ]


def without(store: MemoryStore, keys: Sequence[str], kind: str | None = None) -> MemoryStore:
    """A store that has lost the entries of these keys."""
    part = MemoryStore()
    for (what, key), data in store._entries.items():
        if key not in keys or kind not in (None, what):
            part.put(what, key, data)
    return part


def test_from_every_step_on_the_rest_gives_the_same_bytes() -> None:
    plan = prepare(RECIPE).plans[0]
    want = facts(run(plan.steps, None))
    store = MemoryStore()
    assert facts(run(plan.steps, store)) == want
    keys = step_keys(SOURCE, plan.steps, "target")
    for count in range(1, len(keys) + 1, 5):
        again = without(store, keys[count:])
        found = run(plan.steps, again)
        assert facts(found) == want
        assert found.resumed in (count, 0)
        assert again._entries == store._entries
    assert run(plan.steps, store).resumed == len(keys)


def test_a_change_in_the_fifth_step_reuses_the_first_four() -> None:
    store = MemoryStore()
    assert run(planned(STEPS), store).resumed == 0
    other = planned([*STEPS[:4], "remove-dead"])
    found = run(other, store)
    assert found.resumed == 4
    assert facts(found) == facts(run(other, None))
    options = planned([STEPS[0], {STEPS[1]: {"max_growth": 0}}, *STEPS[2:]])
    assert run(options, store).resumed == 1


def test_what_is_not_there_is_made_again() -> None:
    steps, store = planned(STEPS), MemoryStore()
    want, last = facts(run(steps, store)), step_keys(SOURCE, steps, "target")[-1]
    kinds = {kind for kind, _ in store._entries}
    assert kinds == {"step", "graph", "pack"}
    for kind in kinds:
        for key in [key for what, key in store._entries if what == kind]:
            found = run(steps, without(store, [key], kind))
            assert facts(found) == want
            assert (found.resumed < len(steps)) or key != last


def test_gains_for_another_target_are_made_and_both_are_kept() -> None:
    steps, store = planned(STEPS), MemoryStore()
    run(steps, store, ["c"])
    assert run(steps, store, ["d"]).resumed == 0
    for costs in (["c"], ["d"], ["c", "d"], ["d", "c"]):
        found = run(steps, store, costs)
        assert found.resumed == len(steps)
        assert found.gains == run(steps, None, costs).gains


class Stamp(Pass):
    """Writes the target into the graph."""

    name = "stamp"
    asks_target: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        graph.metadata["target"] = context.target
        return PassResult(True, {"stamp": 1})


class Look(Pass):
    """Depends on calibration data."""

    name = "look"
    observes: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        return PassResult(False)


def test_keys_hold_what_a_step_may_know() -> None:
    first = planned(STEPS[:2])
    steps = [*first, PlannedStep("stamp", Stamp()), *planned(STEPS[2:3])]
    one, other = step_keys(SOURCE, steps, "clx"), step_keys(SOURCE, steps, "spr")
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])
    steps = [*first, PlannedStep("look", Look()), *planned(STEPS[2:3])]
    one = step_keys(SOURCE, steps, "clx", "data")
    other = step_keys(SOURCE, steps, "spr", "other data")
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])
    assert step_keys(SOURCE, steps, "spr", "data") == one
    assert not set(step_keys("1" * 64, steps, "clx")) & set(step_keys(SOURCE, steps, "clx"))


def test_a_skipped_step_changes_no_key_and_says_why() -> None:
    steps = planned(STEPS[:3])
    skipping = [*steps[:1], PlannedStep("fold-affine", None, "no bf16"), *steps[1:]]
    keys = step_keys(SOURCE, skipping, "t")
    assert [keys[0], keys[2], keys[3]] == step_keys(SOURCE, steps, "t")
    store = MemoryStore()
    run(steps, store)
    found = run(skipping, store)
    assert found.resumed == 4
    assert found.steps[1].skipped == "no bf16"
    assert facts(found) == facts(run(skipping, None))


def test_targets_share_the_steps_before_one_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    from optc.passes import FoldBatchnorm

    plain = FoldBatchnorm.apply

    def counted(self: FoldBatchnorm, graph: Graph, context: PassContext) -> PassResult:
        runs.append(context.target)
        return plain(self, graph, context)

    monkeypatch.setattr(FoldBatchnorm, "apply", counted)
    steps = [*STEPS[:3], {"remove-dead": {}, "when": "amx_int8"}, "fold-affine"]
    prepared = prepare(
        {
            "schema_version": 1,
            "model": str(MODEL),
            "targets": ["cascadelake", "sapphirerapids"],
            "pipeline": steps,
        }
    )
    found = list(run_groups(prepared, source, {}, None, None))
    assert [[plan.target.id for plan in group] for group, _ in found] == [
        ["cascadelake"],
        ["sapphirerapids"],
    ]
    assert runs == ["cascadelake"]
    assert [len(made.seconds) for _, made in found] == [1, 1]
    alone = [
        next(iter(run_groups(prepare(only_for(name, steps)), source, {}, None, None)))[1]
        for name in ("cascadelake", "sapphirerapids")
    ]
    assert [facts(made) for _, made in found] == [facts(made) for made in alone]


def only_for(target: str, steps: Sequence[object]) -> dict[str, object]:
    return {"schema_version": 1, "model": str(MODEL), "targets": [target], "pipeline": steps}


def test_a_graph_whose_recorded_types_are_stale_is_kept_as_it_was_read() -> None:
    from optc.frontend.onnx import load_model
    from optc.ir import DType, TensorType

    def stale() -> Graph:
        graph = load_model(MODEL)
        value = next(iter(graph.nodes())).output
        graph.set_type(value, TensorType(DType.I64, (7,)))
        return graph

    steps, store = planned(["remove-dead", "fold-batchnorm"]), MemoryStore()

    def again() -> PassRun:
        memo = Stages(store, SOURCE, step_keys(SOURCE, steps, "t"), ["c"], steps)
        return run_pipeline(stale, steps, PassContext(), costs=[one], memo=memo)

    first, second = again(), again()
    assert first.steps[0].name == second.steps[0].name == "read"
    assert (first.resumed, second.resumed) == (0, 2)
    assert facts(first) == facts(second)
    assert second.steps[0].refusals == first.steps[0].refusals


class Lower(Pass):
    """Lowers precision, as far as the pipeline knows."""

    name = "lower"
    quantizes: ClassVar[bool] = True

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        graph.metadata["lowered"] = "yes"
        return PassResult(True, {"lower": 1})


class Compare(Pass):
    """Looks at the graph before that."""

    name = "compare"
    needs_reference: ClassVar[bool] = True
    seen: ClassVar[list[bool]] = []

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        self.seen.append(context.reference is not None)
        return PassResult(False)


def test_a_step_that_looks_back_gets_what_it_looks_at() -> None:
    first = [*planned(STEPS[:2]), PlannedStep("lower", Lower()), *planned(STEPS[2:3])]
    store, steps = MemoryStore(), [*first, PlannedStep("compare", Compare())]
    run(steps, store)
    assert run(steps, store).resumed == len(steps)
    other = [*first, *planned(["remove-dead"]), PlannedStep("compare", Compare())]
    assert run(other, store).resumed == 2
    assert Compare.seen == [True, True]
