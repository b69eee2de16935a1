"""infer-shapes: types are proved, gaps are filled, stale records give way and are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_same_numbers
from helpers.promises import run_pass
from optc.ir import DType, TensorType, clone
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.passes.base import PassResult

OPSETS = '"" : 21, "com.microsoft" : 1, "own" : 1'


def model(body: str) -> Graph:
    return graph_from_text(f"<ir_version: 10, opset_import: [{OPSETS}]> {body}")


def infer(body: str) -> tuple[Graph, PassResult]:
    graph = model(body)
    return graph, run_pass(InferShapes(), graph)


def types(graph: Graph) -> dict[str, str]:
    """The types of the results of all operations, by value name, subgraphs included."""
    return {
        value.name: str(value.type)
        for part in graph.walk()
        for node in part.ordered()
        for value in node.outputs
        if value is not None
    }


def reasons(result: PassResult) -> list[str]:
    return [f"{item.rule} {item.node}: {item.reason}" for item in result.refusals]


CASES = {
    "sizes are carried as expressions": (
        """
        g (float[N,3,H,W] x, float[8,3,3,3] w) => (y) {
            a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w)
            b = Relu (a)
            y = GlobalAveragePool (b)
        }
        """,
        {
            "a": "f32[N,8,floor((H + 1)/2),floor((W + 1)/2)]",
            "b": "f32[N,8,floor((H + 1)/2),floor((W + 1)/2)]",
            "y": "f32[N,8,1,1]",
        },
    ),
    "computed shapes are followed": (
        """
        g (float[N,L,384] x) => (y) <int64[1] z = {0}, int64[3] t = {-1, 12, 32}>
        { s = Shape (x) n = Gather (s, z) c = Concat <axis = 0> (n, t) y = Reshape (x, c) }
        """,
        {"s": "i64[3]", "n": "i64[1]", "c": "i64[4]", "y": "f32[N,L,12,32]"},
    ),
    "unnamed sizes of inputs are told apart": (
        "g (float[?,4] x) => (y) { a = Relu (x) y = Add (a, x) }",
        {"a": "f32[x_dim_0,4]", "y": "f32[x_dim_0,4]"},
    ),
    "names that ONNX makes up stay out": (
        "g (float[N] x) => (y) { z = NonZero (x) t = Transpose (z) y = Cast <to = 1> (t) }",
        {"z": "i64[1,?]", "t": "i64[?,1]", "y": "f32[?,1]"},
    ),
    "operators of ONNX Runtime, and what follows them": (
        """
        g (float[N,L,8] x, float[8] b) => (y) {
            a = com.microsoft.BiasGelu (x, b)
            m = com.microsoft.FusedMatMul <transB = 1> (a, x)
            y = Softmax (m)
        }
        """,
        {"a": "f32[N,L,8]", "m": "f32[N,L,L]", "y": "f32[N,L,L]"},
    ),
    "an unknown operator hides what follows it": (
        "g (float[N] x) => (float[N] y) { a = own.Op (x) b = Relu (a) y = Abs (x) }",
        {"a": "None", "b": "None", "y": "f32[N]"},
    ),
    "what is recorded of an unknown operator is used": (
        "g (float[N] x) => (y) <float[N,7] a>"
        " { a = own.Op (x) b = Relu (a) c = Unique (b) y = Neg (b) }",
        {"a": "f32[N,7]", "b": "f32[N,7]", "c": "f32[?]", "y": "f32[N,7]"},
    ),
    "ONNX gets a second look with what the rules found": (
        """
        g (int64 m, bool c, float[N,6] x) => (y) <int64[1] z = {0}, int64[2] t = {2, 3}>
        {
            s = Shape <start = 0, end = 1> (x)
            p = Concat <axis = 0> (s, t)
            r = Reshape (x, p)
            q = com.microsoft.Gelu (r)
            u, v = Loop (m, c, q) <body = b (int64 i, bool k, a) => (bool k2, a2, o) {
                k2 = Identity (k)
                a2 = Relu (a)
                o = Shape (q)
            }>
            y = Cast <to = 1> (v)
        }
        """,
        {
            "s": "i64[1]", "p": "i64[3]", "r": "f32[N,2,3]", "q": "f32[N,2,3]",
            "u": "f32[*]", "v": "i64[?,3]", "k2": "bool[]", "a2": "f32[*]", "o": "i64[3]",
            "y": "f32[?,3]",
        },
    ),
    "branches, and what they capture": (
        """
        g (bool c, float[N,4] x) => (y) {
            z = Relu (x)
            y = If (c) <
                then_branch = t () => (a) { p = Neg (z) a = Abs (p) },
                else_branch = e () => (b) { q = Exp (x) b = Add (q, z) }
            >
        }
        """,
        {"z": "f32[N,4]", "p": "f32[N,4]", "a": "f32[N,4]", "q": "f32[N,4]", "b": "f32[N,4]",
         "y": "f32[N,4]"},
    ),
    "sequences": (
        "g (float[N,4] x) => (y)"
        " { s = SequenceConstruct (x, x) i = SequenceLength (s) y = Relu (x) }",
        {"s": "seq(f32[N,4])", "i": "i64[]", "y": "f32[N,4]"},
    ),
    "model-local functions": (
        """
        g (float[2,3] x) => (y) { a = own.Flip (x) y = Relu (a) }
        <opset_import: ["" : 21], domain: "own"> Flip (p) => (q) { q = Transpose (p) }
        """,
        {"a": "f32[3,2]", "y": "f32[3,2]"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_types(name: str) -> None:
    body, expected = CASES[name]
    graph = model(body)
    result = run_pass(InferShapes(), graph)
    assert types(graph) == expected
    assert reasons(result) == []


def test_numbers_stay() -> None:
    body, _ = CASES["computed shapes are followed"]
    graph = model(body)
    source = clone(graph)
    run_pass(InferShapes(), graph)
    assert_same_numbers(source, graph)


def test_what_is_inferred_already_is_no_change() -> None:
    _, result = infer("g (float[N] x) => (float[N] y) <float[N] a> { a = Relu (x) y = Abs (a) }")
    assert not result.changed
    assert result.counts == {}


# ---- records of the model ----------------------------------------------------------------------


def test_gaps_are_filled_from_records() -> None:
    graph, result = infer(
        "g (float[N] x, int64[2] s) => (float[?,?] y) <float[4,R] y> { y = Reshape (x, s) }"
    )
    assert types(graph) == {"y": "f32[4,R]"}
    assert reasons(result) == []


def test_a_recorded_spelling_stays_when_it_is_equal() -> None:
    graph = model("g (float[N,2] x) => (y) { y = Relu (x) }")
    value = graph.value("y")
    graph.set_type(value, TensorType(DType.F32, ("N + 0", 2)))
    assert not run_pass(InferShapes(), graph).changed
    assert types(graph) == {"y": "f32[N + 0,2]"}


def test_a_recorded_number_gives_way_to_a_proved_expression() -> None:
    graph, result = infer(
        "g (float[N,4] x) => (float[1,4] y) <float[1,4] a> { a = Relu (x) y = Neg (a) }"
    )
    assert types(graph) == {"a": "f32[N,4]", "y": "f32[N,4]"}
    assert str(graph.outputs[0].declared) == "f32[1,4]"
    assert reasons(result) == []


def test_a_contradicting_record_is_overridden_and_named_at_its_root() -> None:
    graph, result = infer(
        "g (float[N,4] x) => (y) <float[N,5] a, float[N,5] b> {"
        " a = Relu (x) b = Neg (a) y = Exp (b) }"
    )
    assert types(graph) == {"a": "f32[N,4]", "b": "f32[N,4]", "y": "f32[N,4]"}
    assert reasons(result) == ["recorded-type a: a is recorded as f32[N,5], but is f32[N,4]"]


@pytest.mark.parametrize(
    ("recorded", "found"),
    [("int64[2]", "i64[2]"), ("float[2,1]", "f32[2,1]"), ("float[1]", "f32[1]")],
)
def test_element_type_rank_and_size_can_contradict(recorded: str, found: str) -> None:
    # The verifier holds these against an imported graph; the pass repairs them.
    graph = model(f"g (float[2] x) => (y) <{recorded} a> {{ a = Relu (x) y = Exp (a) }}")
    result = InferShapes().apply(graph, PassContext())
    assert types(graph) == {"a": "f32[2]", "y": "f32[2]"}
    assert reasons(result) == [f"recorded-type a: a is recorded as {found}, but is f32[2]"]
    assert not run_pass(InferShapes(), graph).changed


def test_a_wrong_declared_output_is_corrected_and_named() -> None:
    graph, result = infer("g (float[2,4] x) => (float[2,5] y) { y = Relu (x) }")
    assert str(graph.outputs[0].declared) == "f32[2,4]"
    assert reasons(result) == ["declared-type y: output y is declared as f32[2,5], but is f32[2,4]"]


def test_a_declared_output_gains_what_is_known() -> None:
    graph, result = infer(
        "g (float[N,4] x, float[?,4] z) => (float[?,?] y, float[M,M] v, float[?,4] u) {"
        " y = Relu (x) v = Concat <axis = 0> (x, x) u = Abs (z) }"
    )
    declared = [str(node.declared) for node in graph.outputs]
    # A name of the interface stays, and no name is made up there.
    assert declared == ["f32[N,4]", "f32[M,4]", "f32[?,4]"]
    assert types(graph) == {"y": "f32[N,4]", "v": "f32[2*N,4]", "u": "f32[z_dim_0,4]"}
    assert dict(result.counts) == {"value-type": 3, "output-type": 2}


def test_denotations_stay() -> None:
    graph = model("g (float[N,4] x) => (float[N,4] y) { a = Relu (x) y = Neg (a) }")
    value = graph.value("a")
    type_ = TensorType(DType.F32, None, "IMAGE", ("BATCH", ""))
    graph.set_type(value, type_)
    run_pass(InferShapes(), graph)
    assert isinstance(value.type, TensorType)
    assert str(value.type) == "f32[N,4]"
    assert (value.type.denotation, value.type.dim_denotations) == ("IMAGE", ("BATCH", ""))


# ---- failing -----------------------------------------------------------------------------------


def test_a_failure_of_onnx_is_a_refusal_and_the_rules_still_work() -> None:
    graph = model("g (float[N,4] x) => (y) { a = Relu (x) y = Neg (a) }")
    # ONNX's inference stops at a domain that the model does not import.
    graph.add("Op", [graph.value("a")], outputs=["b"], domain="strange")
    result = InferShapes().apply(graph, PassContext())
    assert types(graph) == {"a": "f32[N,4]", "b": "None", "y": "f32[N,4]"}
    (refusal,) = result.refusals
    assert refusal.rule == "onnx-inference"
    assert refusal.reason.startswith("ONNX's inference fails: ")
    assert "strange" in refusal.reason


@pytest.mark.parametrize(
    "line", ["y = MatMul (x, x)", "y = Transpose <perm = [0, 7]> (x)", "y = Reshape (x, x)"]
)
def test_a_broken_operation_is_no_crash(line: str) -> None:
    graph = model(f"g (float[2,3] x) => (float[2] y) {{ {line} }}")
    InferShapes().apply(graph, PassContext())
    assert not InferShapes().apply(graph, PassContext()).changed
