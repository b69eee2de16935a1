"""Which operations are computed in bf16, and the reason for each that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydantic import ValidationError

from helpers import graph_from_text
from helpers.observing import SampleObserver
from optc.ir.text import print_graph
from optc.passes import AssignPrecision, InferShapes, PassContext
from optc.rewrite.decisions import Decisions
from optc.rewrite.trace import StepRecord, Trace

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.numerics.values import Array
    from optc.passes import PassResult
    from optc.rewrite.trace import Decision

SPR = PassContext("sapphirerapids", "openvino")
# Large enough that a product saves more than its conversions cost: 2 x 512^3 operations.


def model(body: str, inputs: str = "float[512,512] x", opset: int = 22) -> Graph:
    """A graph with the weight ``w0`` as input with a default, so that it is no constant."""
    graph = graph_from_text(
        f'<ir_version: 10, opset_import: ["" : {opset}]>\n'
        f"g ({inputs}, float[512,512] w0) => (y) {{ {body} }}"
    )
    InferShapes().apply(graph, PassContext())
    return graph


def assigned(
    graph: Graph, context: PassContext = SPR, **options: object
) -> tuple[dict[str, Decision], PassResult]:
    before = print_graph(graph)
    result = AssignPrecision(AssignPrecision.Options.model_validate(options)).apply(graph, context)
    assert not result.changed
    assert not result.counts
    assert print_graph(graph) == before
    return {item.node: item for item in result.decisions}, result


def sides(graph: Graph, context: PassContext = SPR, **options: object) -> dict[str, str]:
    return {name: item.precision for name, item in assigned(graph, context, **options)[0].items()}


def test_neighbours_of_a_product_go_with_it() -> None:
    graph = model("[m] a = MatMul(x, w0) [r] b = Relu(a) [e] c = Exp(b) [s] y = Sigmoid(c)")
    found, result = assigned(graph)
    assert {n: (d.precision, d.rule) for n, d in found.items()} == {
        "m": ("bf16", "allow-list"),
        "r": ("bf16", "clear-list"),
        "e": ("fp32", "deny-list"),
        "s": ("fp32", "placement"),
    }
    assert found["r"].reason.startswith("goes with its neighbours: keeps, negates or clips")
    assert "multiplied by the size of the operand (TensorFlow" in found["e"].reason
    assert found["s"].reason.endswith("bf16 would need more conversions")
    # Two inputs, and what Exp reads: 512 x 512 elements of 4 + 2 bytes each.
    assert result.figures["conversions"] == 3
    assert result.figures["converted_bytes"] == 3 * 6 * 512 * 512


def test_a_product_that_saves_less_than_its_conversions_stays() -> None:
    graph = graph_from_text("g (float[1,64] x, float[64,1] w) => (y) { [m] y = MatMul(x, w) }")
    InferShapes().apply(graph, PassContext())
    found, _ = assigned(graph)
    assert (found["m"].precision, found["m"].rule) == ("fp32", "placement")
    assert "its conversions would cost" in found["m"].reason
    assert sides(graph, allow=["MatMul"]) == {"m": "bf16"}


def test_a_product_of_unknown_size_is_taken_to_be_worth_it() -> None:
    graph = graph_from_text(
        """g (float[4,4] x, float[4] p) => (y) {
           i = NonZero(x)  f = Cast<to = 1>(i)  [m] y = MatMul(f, f) }"""
    )
    InferShapes().apply(graph, PassContext())
    assert sides(graph)["m"] == "bf16"


RULES = {
    "deny over the list": ({"deny": ["Relu"]}, "r", "fp32", "recipe-deny", "deny: op 'Relu'"),
    "keep_fp32 by name": (
        {"keep_fp32": ["m"]},
        "m",
        "fp32",
        "recipe-keep-fp32",
        "keep_fp32: name 'm'",
    ),
    "allow over a deny list": (
        {"allow": ["Exp"]},
        "e",
        "bf16",
        "recipe-allow",
        "allow: op 'Exp', where the list says deny",
    ),
    "infer over a deny list": (
        {"infer": ["Exp"]},
        "e",
        "bf16",  # one conversion on either side of it: it saves time in between
        "recipe-infer",
        "goes with its neighbours: infer: op 'Exp', where the list says deny",
    ),
    "a name wins over an operator": (
        {"deny": ["MatMul"], "allow": ["m"]},
        "m",
        "bf16",
        "recipe-allow",
        "allow: name 'm', where the list says allow",
    ),
    "deny wins among equals": (
        {"deny": ["MatMul"], "allow": ["MatMul"]},
        "m",
        "fp32",
        "recipe-deny",
        "deny: op 'MatMul'",
    ),
}


@pytest.mark.parametrize("case", RULES.values(), ids=RULES)
def test_the_recipe_overrides_and_says_which_rule_won(
    case: tuple[dict[str, list[str]], str, str, str, str],
) -> None:
    options, name, precision, rule, reason = case
    graph = model("[m] a = MatMul(x, w0) [r] b = Relu(a) [e] y = Exp(b)")
    found = assigned(graph, SPR, **options)[0][name]
    assert (found.precision, found.rule) == (precision, rule)
    assert reason in found.reason


FIXED = {
    "no bf16 form": ("[n] y = Shrink(x)", "schema", "ONNX has no bf16 form of Shrink"),
    "above the limit": (
        '[n] y = Einsum<equation = "ij,jk->ik">(x, w0)',
        "schema",
        "Einsum in bf16 needs opset 28, above max_opset 24",
    ),
    "no kernel": ("[n] y = Log(x)", "kernel", "openvino: as hint of bf16: converted"),
    "on no list": ("[n] y = Hardmax(x)", "deny-list", "small differences decide"),
    "control flow": (
        """c = ReduceMax<keepdims = 0>(x)  z = Cast<to = 9>(c)
           [n] y = If (z) <then_branch = t () => (float[512,512] p) { [in] p = Relu(x) },
                           else_branch = e () => (float[512,512] q) { q = Neg(x) }>""",
        "control-flow",
        "it runs subgraphs",
    ),
    "whole numbers to fp32": (
        "i = Cast<to = 7>(x)  [n] y = Cast<to = 1>(i)",
        "cast",
        "converts to or from fp32",
    ),
    "a constant that overflows": (
        "z = Constant<value = float[1] {-3.4028e38}>()  [n] y = Add(x, z)",
        "range",
        "its constant z holds 3.4e+38, which bf16 rounds to infinity",
    ),
}


@pytest.mark.parametrize("case", FIXED.values(), ids=FIXED)
def test_what_stays_has_a_reason(case: tuple[str, str, str]) -> None:
    body, rule, reason = case
    found, _ = assigned(model(body))
    assert (found["n"].precision, found["n"].rule) == ("fp32", rule)
    assert reason in found["n"].reason


def test_bodies_of_control_flow_are_placed_by_themselves() -> None:
    graph = model(
        """c = ReduceMax<keepdims = 0>(x)  z = Cast<to = 9>(c)
        [n] y = If (z) <
          then_branch = t () => (float[512,512] p) { [in] s = MatMul(x, w0) [r] p = Relu(s) },
          else_branch = e () => (float[512,512] q) { [out] q = Neg(x) }>"""
    )
    found = sides(graph)
    assert (found["in"], found["r"], found["out"]) == ("bf16", "bf16", "fp32")


def test_calls_of_functions_stay() -> None:
    graph = graph_from_text(
        """<ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        g (float[2] x) => (y) { [n] y = own.Twice(x) }
        <domain: "own", opset_import: ["" : 21]> Twice (x) => (y) { y = Add(x, x) }"""
    )
    assert assigned(graph)[0]["n"].rule == "function"


def test_quantized_operations_are_fixed() -> None:
    graph = model(
        """s = Constant<value = float {0.1}>()  z = Constant<value = int8 {0}>()
        q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
        qw = QuantizeLinear(w0, s, z)  dw = DequantizeLinear(qw, s, z)
        [m] a = MatMul(d, dw)  [r] b = Relu(a)  [p] y = MatMul(b, w0)"""
    )
    found = sides(graph)
    assert {name: found[name] for name in ("m", "p")} == {"m": "int8", "p": "bf16"}
    assert "q" not in found  # nobody computes there

    trace = Trace("quantize-int8")
    trace.decided("int8", next(n for n in graph.nodes() if n.name == "p"), "int8", "integer kernel")
    record = StepRecord("quantize-int8", decisions=trace.decisions)
    before = PassContext("sapphirerapids", "openvino", decisions=Decisions([record]))
    assert "p" not in sides(graph, before)


def test_without_native_bf16_everything_stays() -> None:
    graph = model("[m] y = MatMul(x, w0)")
    for target, runtime in (("cascadelake", "openvino"), ("sapphirerapids", "onnxruntime")):
        found, _ = assigned(graph, PassContext(target, runtime))
        assert (found["m"].precision, found["m"].rule) == ("fp32", "target")
    assert (
        "cascadelake lacks bf16"
        in assigned(graph, PassContext("cascadelake", "openvino"))[0]["m"].reason
    )


def test_what_the_model_has_in_bf16_stays_in_bf16() -> None:
    graph = model("c = Cast<to = 16>(x) [r] d = Relu(c) [e] e = Cast<to = 1>(d) [n] y = Neg(e)")
    found, result = assigned(graph)
    assert found["r"].rule == "as-written"
    assert (found["n"].precision, found["n"].rule) == ("bf16", "clear-list")
    assert result.figures["conversions"] == 2


def test_selectors_that_fit_nothing_warn() -> None:
    graph = model("[m] y = MatMul(x, w0)")
    _, result = assigned(graph, deny=["Softmax", "/head/.*"])
    assert result.warnings == (
        "deny: no node fits op 'Softmax'",
        "deny: no node fits name '/head/.*'",
    )


def test_an_operator_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValidationError, match="there is no operator 'Conv2d'") as caught:
        AssignPrecision.Options.model_validate({"allow": ["Conv2d"]})
    (problem,) = caught.value.errors()
    assert problem["ctx"]["hint"].startswith("did you mean 'Conv")
    AssignPrecision.Options.model_validate({"allow": [{"op": "Own", "domain": "own"}, "conv_.*"]})


# ---- values ------------------------------------------------------------------------------------


def observed(graph: Graph, *samples: dict[str, Array]) -> dict[str, Decision]:
    context = PassContext("sapphirerapids", "openvino", observer=SampleObserver(samples))
    return assigned(graph, context)[0]


BIG = np.float32(3.4e38)
RNG = np.random.default_rng(3)
NOISE = RNG.normal(size=(512, 512)).astype(np.float32)
VALUES = {
    "range": ("[n] a = Neg(z) [m] y = MatMul(a, w0)", BIG * np.sign(NOISE), "3.4e+38"),
    "whole-numbers": (
        "o = Constant<value = float[1] {1}>()  [n] a = Add(z, o) [m] y = MatMul(a, w0)",
        np.arange(512 * 512, dtype=np.float32).reshape(512, 512) % 1000,
        "whole numbers up to 1000",
    ),
    "cancellation": (
        "[n] a = Sub(z, x) [m] y = MatMul(a, w0)",
        NOISE + 1000,
        "times as large as the result",
    ),
    "resolution": (
        "e = Constant<value = float {1e-6}>()  [n] a = Add(z, e) [m] y = MatMul(a, w0)",
        np.abs(NOISE) + 1,
        "the 1e-06 that it adds is below the resolution",
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_that_bf16_does_not_keep_deny(kind: str) -> None:
    body, z, reason = VALUES[kind]
    graph = model(body, "float[512,512] x, float[512,512] z")
    feeds = {"x": NOISE * 0.5 + 1000, "z": z.astype(np.float32), "w0": NOISE}
    found = observed(graph, feeds)["n"]
    assert (found.precision, found.rule) == ("fp32", kind)
    assert reason in found.reason
    assert found.reason.endswith("(on samples of a test)")
    tame = {"x": NOISE * 100, "z": NOISE, "w0": NOISE}
    assert observed(graph, tame)["n"].rule != kind


def test_means_and_normalizations_of_nearly_equal_values_deny() -> None:
    graph = model(
        """s = Constant<value = float[1] {1}>()  b = Expand(s, t)
        [l] n = LayerNormalization(z, b, b) [m] y = MatMul(n, w0)""",
        "float[512,512] z, int64[1] t",
    )
    size = np.array([512])
    feeds = {"z": NOISE + 1000, "t": size, "w0": NOISE}
    assert observed(graph, feeds)["l"].rule == "cancellation"
    assert observed(graph, feeds | {"z": NOISE})["l"].rule == "placement"


def test_whole_numbers_that_bf16_has_are_no_reason() -> None:
    graph = model("[n] a = Add(z, z) [m] y = MatMul(a, w0)", "float[512,512] z")
    for number, rule in ((384, "infer-list"), (385, "whole-numbers")):
        feeds = {"z": np.full((512, 512), number, np.float32), "w0": NOISE}
        assert observed(graph, feeds)["n"].rule == rule


def test_a_model_that_does_not_run_warns() -> None:
    graph = model("[m] y = MatMul(x, w0)")
    observer = SampleObserver([{"x": NOISE[:5], "w0": NOISE}])
    context = PassContext("sapphirerapids", "openvino", observer=observer)
    _, result = assigned(graph, context)
    assert [text.split(":")[0] for text in result.warnings] == ["values were not looked at"]
