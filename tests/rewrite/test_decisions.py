"""Decisions about precision outlive passes that rewrite the operations."""

from __future__ import annotations

from optc.ir import DType, Graph, Kind, Node, Origin, TensorType
from optc.rewrite.decisions import Decisions
from optc.rewrite.trace import StepRecord, Trace


def operation(name: str, origin: Origin | None = None) -> Node:
    node = Node(Kind.OP, "Relu", name)
    node.origin = origin
    return node


def test_the_last_decision_counts() -> None:
    node = operation("a")
    first, second = Trace("one"), Trace("two")
    first.decided("one", node, "int8", "integer kernel")
    second.decided("two", node, "fp32", "too large an error", {"sqnr_db": 3.5})
    steps = [StepRecord(t.pass_name, decisions=t.decisions) for t in (first, second)]
    found = Decisions(steps).of(node)
    assert found is not None
    assert (found.precision, found.reason) == ("fp32", "too large an error")
    assert steps[1].to_dict()["decisions"] == [
        {
            "node": "a",
            "precision": "fp32",
            "rule": "two",
            "reason": "too large an error",
            "figures": {"sqnr_db": 3.5},
        }
    ]
    assert "decisions" not in StepRecord("none").to_dict()


def test_it_speaks_of_what_was_made_from_the_operation() -> None:
    trace = Trace("assign")
    fused = operation("fused", Origin("fuse", ("a", "b")))
    trace.decided("assign", fused, "bf16", "worth it")
    trace.decided("assign", operation("c"), "fp32", "denied")
    found = Decisions([StepRecord("assign", decisions=trace.decisions)])
    lowered = operation("lowered", Origin("lower", (fused.origin or "",)))
    other = operation("other", Origin("lower", ("c",)))
    assert [d.reason for d in map(found.of, (lowered, other)) if d] == ["worth it", "denied"]
    assert found.of(operation("d")) is None
    assert found.of(operation("e", Origin("x", ("a",)))) is None


def test_what_is_gone_has_none() -> None:
    trace, node = Trace("assign"), operation("a")
    trace.decided("assign", node, "bf16", "worth it")
    trace.forget(node)
    assert trace.decisions == ()


def test_operations_of_one_name_have_their_own_decisions() -> None:
    graph = Graph("g", {"": 17})
    x = graph.add_input("x", TensorType(DType.F32, (4,)))
    first = graph.add("Relu", [x], outputs=["y"], name="same")
    second = graph.add("Tanh", [first.output], outputs=["z"], name="same")
    trace = Trace("assign")
    trace.decided("allow", first, "bf16", "worth it")
    trace.decided("deny", second, "fp32", "denied")
    found = Decisions([StepRecord("assign", decisions=trace.decisions)])
    assert [d.precision for d in map(found.of, (first, second)) if d] == ["bf16", "fp32"]


def test_a_later_step_is_added_to_a_copy() -> None:
    node, trace = operation("a"), Trace("assign")
    trace.decided("allow", node, "bf16", "worth it")
    none = Decisions()
    some = none.with_step(StepRecord("assign", decisions=trace.decisions))
    assert none.of(node) is None
    assert not none
    assert some.with_step(StepRecord("idle")) is some
    assert some.of(node) is not None
