"""Patterns, rules and the worklist that applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers import graph_from_text
from optc.emit.onnx import serialize
from optc.errors import InternalError
from optc.ir import DType, Graph, Tensor, TensorType, ops
from optc.ir.nodes import CANONICAL
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.passes import InferShapes, PassContext
from optc.rewrite.driver import Builder, apply_rules, replace_node, to_attr
from optc.rewrite.matching import NearMiss, match_rule
from optc.rewrite.pattern import Match, Rule, const, either, number, optional, output
from optc.rewrite.trace import Trace

if TYPE_CHECKING:
    from optc.ir import Value
    from optc.rewrite.pattern import Pattern
    from optc.rewrite.trace import Refusal

F32 = TensorType(DType.F32, (2,))


class AddAdd(Rule):
    """(x + a) + b = x + (a + b), unless the inner sum is used elsewhere."""

    def pattern(self, op: Any, x: Pattern, a: Pattern, b: Pattern) -> Pattern:
        root: Pattern = op.Add(op.Add(x, const(a), name="inner"), const(b), name="outer")
        return root

    def check(self, match: Match) -> Refusal | None:
        use = match.other_use("inner")
        return match.refuse_use("inner", use) if use else None

    def rewrite(self, match: Match, build: Builder) -> Value:
        total = build.like(match.array("a") + match.array("b"), match.value("a"))
        return build.Add(match.value("x"), total, like=match.node("outer"))


class ReluForever(Rule):
    """A rule that never ends."""

    def pattern(self, op: Any, x: Pattern) -> Pattern:
        root: Pattern = op.Relu(x)
        return root

    def check(self, match: Match) -> Refusal | None:
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.Relu(match.value("x"), like=match.node("Relu"))


class ConvAny(Rule):
    """Never applies; shows optional operands."""

    def pattern(self, op: Any, x: Pattern, w: Pattern, b: Pattern) -> Pattern:
        root: Pattern = op.Relu(op.Conv(x, const(w), optional(b)))
        return root

    def check(self, match: Match) -> Refusal | None:
        bias = match.values["b"]
        return match.refuse("no bias" if bias is None else f"bias {bias.name}")

    def rewrite(self, match: Match, build: Builder) -> Value:
        raise AssertionError


def chain(*, swapped: bool = False, count: int = 3) -> tuple[Graph, list[Value]]:
    graph = Graph("g", {"": 17})
    value = graph.add_input("x", F32)
    made = []
    for i in range(count):
        c = graph.add_constant(Tensor.from_numpy(np.full(2, i + 1, np.float32)), f"c{i}")
        operands = [c, value] if swapped else [value, c]
        node = graph.add("Add", operands, outputs=[f"s{i}"], name=f"add{i}", types=[F32])
        value = node.output
        made.append(value)
    graph.add_output(value, "y")
    return graph, made


@pytest.mark.parametrize("swapped", [False, True])
def test_rules_apply_until_nothing_is_left_and_try_both_orders(swapped: bool) -> None:
    graph, _ = chain(swapped=swapped)
    trace = Trace("test")
    assert apply_rules(graph, (AddAdd(),), trace)
    (node,) = graph.ordered()
    constant = graph.operands(node)[1]
    assert constant is not None
    assert constant.constant is not None
    np.testing.assert_array_equal(constant.constant.numpy(), np.full(2, 6, np.float32))
    assert trace.counts == {"add-add": 2}
    assert node.name == "add2"
    assert node.output.name == "s2"
    assert node.output.type == F32
    assert node.origin is not None
    assert node.origin.sources() == ("add2", "add1", "add0")
    assert node.origin.passes() == ("test",)
    assert [value.name for value in graph.constants()] != []
    assert len(list(graph.constants())) == 1
    assert not apply_rules(graph, (AddAdd(),), Trace("test"))


def test_refusals_name_the_culprit_and_vanish_when_the_rule_applies_after_all() -> None:
    graph, made = chain(count=2)
    graph.add("Relu", [made[0]], outputs=["r"], name="relu")
    trace = Trace("test")
    assert not apply_rules(graph, (AddAdd(),), trace)
    (refusal,) = trace.refusals
    assert (refusal.rule, refusal.node, refusal.miss) == ("add-add", "add1", False)
    assert refusal.reason == "inner output also feeds relu"


def test_a_graph_output_inside_the_pattern_is_a_reason_to_refuse() -> None:
    graph, made = chain(count=2)
    graph.add_output(made[0], "z")
    trace = Trace("test")
    assert not apply_rules(graph, (AddAdd(),), trace)
    assert trace.refusals[0].reason == "inner output is the graph output z"


def test_the_nearest_miss_is_kept_for_a_rule_that_never_matched() -> None:
    graph = Graph("g", {"": 17})
    x, y = graph.add_input("x", F32), graph.add_input("y", F32)
    c = graph.add_constant(Tensor.from_numpy(np.ones(2, np.float32)), "c")
    inner = graph.add("Add", [x, y], outputs=["a"], name="inner").output
    outer = graph.add("Add", [inner, c], outputs=["b"], name="outer").output
    graph.add_output(outer, "out")
    trace = Trace("test")
    assert not apply_rules(graph, (AddAdd(),), trace)
    (refusal,) = trace.refusals
    assert refusal.miss
    assert (refusal.node, refusal.reason) == ("outer", "a is y, which is not constant")


@pytest.mark.parametrize(("bias", "reason"), [(True, "bias b"), (False, "no bias")])
def test_optional_operands(bias: bool, reason: str) -> None:
    graph = Graph("g", {"": 17})
    x = graph.add_input("x", None)
    w = graph.add_constant(Tensor.from_numpy(np.ones((1, 1, 1, 1), np.float32)), "w")
    b = graph.add_constant(Tensor.from_numpy(np.ones(1, np.float32)), "b")
    conv = graph.add("Conv", [x, w, b] if bias else [x, w], outputs=["c"]).output
    graph.add_output(graph.add("Relu", [conv], outputs=["r"]).output, "y")
    trace = Trace("test")
    assert not apply_rules(graph, (ConvAny(),), trace)
    assert [refusal.reason for refusal in trace.refusals] == [reason]


def test_rules_that_do_not_end_are_a_bug_of_ours() -> None:
    graph = Graph("g", {"": 17})
    x = graph.add_input("x", F32)
    graph.add_output(graph.add("Relu", [x], outputs=["r"]).output, "y")
    with pytest.raises(InternalError, match="do not end"):
        apply_rules(graph, (ReluForever(),), Trace("test"))


def test_attributes_from_plain_values() -> None:
    assert to_attr(3).value == 3
    assert to_attr("NOTSET").value == b"NOTSET"
    assert to_attr([1, 2.5]).value == (1.0, 2.5)
    assert to_attr(0.1).value == float(np.float32(0.1))
    with pytest.raises(TypeError, match="no attribute type for set"):
        to_attr({1})


class HalfOrScaled(Rule):
    """The second half of a Split, halved by a product in either order or by a division."""

    def pattern(self, op: Any, x: Pattern) -> Pattern:
        half: Pattern = either(
            op.Mul(output(op.Split(x), 1), number(0.5)), op.Div(output(op.Split(x), 1), number(2))
        )
        return half

    def check(self, match: Match) -> Refusal | None:
        return None

    def rewrite(self, match: Match, build: Builder) -> Value:
        return build.Abs(match.value("x"))


@pytest.mark.parametrize(
    ("product", "fits"),
    [
        ("Mul (b, half)", True),
        ("Mul (half, b)", True),
        ("Div (b, two)", True),
        ("Div (two, b)", False),
        ("Mul (a, half)", False),
        ("Mul (b, two)", False),
    ],
)
def test_numbers_alternatives_and_further_results(product: str, fits: bool) -> None:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[2] x) => (float[1] y)
        <float half = {{0.50000003}}, float[1] two = {{2}}>
        {{ a, b = Split (x)  y = {product} }}
        """
    )
    found = match_rule(HalfOrScaled(), graph, graph.value("y").node)
    assert isinstance(found, Match) == fits
    if isinstance(found, NearMiss):
        assert found.reason


def test_operators_that_the_opset_does_not_have_become_canonical_ones() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 13]>
        g (float[2,3] x) => (float[2,3] y) { y = Relu (x) }
        """
    )
    relu = graph.value("y").node
    build = Builder(graph, "a-pass", (relu,))
    gelu = build.Gelu(graph.value("x"), approximate="tanh")
    replace_node(graph, relu, [gelu], build.made)
    assert verify(graph) == ()
    assert gelu.node.is_op("Gelu")
    assert gelu.node.is_canonical
    assert ops.attribute(graph, gelu.node, "approximate") == b"tanh"
    assert ops.info(gelu.node).has(ops.Trait.UNARY)
    assert '%0 = optc::Gelu(%x, approximate="tanh") : f32[2,3]' in print_graph(graph)
    assert not InferShapes().apply(graph, PassContext()).changed
    with pytest.raises(InternalError, match="optc::Gelu has not been lowered"):
        serialize(graph)


def test_operators_that_the_opset_has_stay_in_its_domain() -> None:
    graph = graph_from_text(
        """
        <ir_version: 8, opset_import: ["" : 20]>
        g (float[2,3] x) => (float[2,3] y) { y = Relu (x) }
        """
    )
    build = Builder(graph, "a-pass", (graph.value("y").node,))
    assert not build.Gelu(graph.value("x")).node.is_canonical
    assert build.GroupNormalization(graph.value("x")).node.is_canonical  # 18 has another meaning


def test_a_canonical_operation_must_fit_the_newest_schema() -> None:
    graph = Graph("g", {"": 13})
    x = graph.add_input("x", F32)
    gelu = graph.add("Gelu", [x, x], outputs=["y"], domain=CANONICAL)
    graph.add_output(gelu.output, "y", F32)
    assert [problem.what for problem in verify(graph)] == ["Gelu-20 has at most 1 operand, found 2"]
