"""bf16 types and Casts: where they are, how many, and what the numbers become."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import pytest

import optc
from helpers import graph_from_text
from helpers.bf16 import SPR, assert_lean, body, cast, casts, dtype, model, run
from helpers.observing import SampleObserver
from optc.errors import CapabilityError
from optc.ir import DType, clone
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.numerics.twin import twin
from optc.passes import AssignPrecision, CastBf16, InferShapes, PassContext
from optc.recipe import resolve_pipeline
from optc.rewrite.decisions import Decisions
from optc.rewrite.trace import StepRecord

if TYPE_CHECKING:
    from optc.numerics.values import Array

ROOT = Path(__file__).resolve().parents[2]
MODELS = (
    ROOT / "recipes" / "quickstart" / "mnist_mobilenet.onnx",
    ROOT / "tests" / "models" / "mnist_resnet.onnx",
)

SIDES = {
    "one for all users": (
        """g (float[512,512] x, float[512,512] w) => (y) {
           a = MatMul(x, w)  b = MatMul(x, a)  y = Add(a, b) }""",
        {"x": "f32->bf16", "w": "f32->bf16", "y_bf16": "bf16->f32"},
    ),
    "one back for all users": (
        """g (float[512,512] x, float[512,512] w) => (y, z, a) {
           a = MatMul(x, w)  y = Exp(a)  z = Sin(a) }""",
        {"x": "f32->bf16", "w": "f32->bf16", "a_bf16": "bf16->f32"},
    ),
    "in front of an Expand": (
        """g (float[1,512] x, float[512,512] w, int64[2] s) => (y) {
           e = Expand(x, s)  f = Reshape(e, s)  y = MatMul(f, w) }""",
        {"x": "f32->bf16", "w": "f32->bf16", "y_bf16": "bf16->f32"},
    ),
    "in front of a Concat": (
        """g (float[8,512] x, float[512,512] w) => (y) {
           d = Concat<axis = 0>(x, x)  e = Concat<axis = 0>(d, x)  y = MatMul(e, w) }""",
        {"x": "f32->bf16", "w": "f32->bf16", "y_bf16": "bf16->f32"},
    ),
    "behind a Slice": (
        """g (float[512,512] x, float[512,512] w) => (y) {
           a = MatMul(x, w)  b = Transpose(a)
           s = Constant<value = int64[1] {0}>()  e = Constant<value = int64[1] {2}>()
           c = Slice(b, s, e)  y = Exp(c) }""",
        {"x": "f32->bf16", "w": "f32->bf16", "c_bf16": "bf16->f32"},
    ),
    "behind a reduction": (
        """g (float[512,512] x, float[512,512] w) => (y) {
           a = MatMul(x, w)  m = ReduceMax<keepdims = 0>(a)  y = Exp(m) }""",
        {"x": "f32->bf16", "w": "f32->bf16", "m_bf16": "bf16->f32"},
    ),
    "none where a shape is read": (
        """g (float[512,512] x, float[512,512] w) => (y, s) {
           a = MatMul(x, w)  s = Shape(a)  y = ArgMax(a) }""",
        {"x": "f32->bf16", "w": "f32->bf16"},
    ),
    "a flag becomes bf16 at once": (
        """g (float[512,512] x, float[512,512] w, bool[512,512] k) => (y) {
           f = Cast<to = 1>(k)  n = Mul(f, x)  y = MatMul(n, w) }""",
        {"k": "bool->bf16", "x": "f32->bf16", "w": "f32->bf16", "y_bf16": "bf16->f32"},
    ),
}


@pytest.mark.parametrize("case", SIDES.values(), ids=SIDES)
def test_casts_stand_on_the_smaller_side(case: tuple[str, dict[str, str]]) -> None:
    text, expected = case
    graph = model(text)
    result = cast(graph, allow=["MatMul"])
    assert casts(graph) == expected
    assert result.counts["insert-cast"] == len(expected) - ("k" in expected)


def test_the_graph_in_words() -> None:
    graph = model(
        """g (float[2,3] x) => (y) <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {1, 2}> {
           [m] a = MatMul(x, w)  [a] c = Add(a, b)  [e] y = Exp(c) }"""
    )
    result = cast(graph, allow=["MatMul"])
    assert body(graph) == [
        "input %x : f32[2,3]",
        "%0 = Cast(%x, to=bf16) : bf16[2,3]",
        "%2 = MatMul(%0, %1) : bf16[2,2]",
        "%4 = Add(%2, %3) : bf16[2,2]",
        "%5 = Cast(%4, to=f32) : f32[2,2]",
        "%6 = Exp(%5) : f32[2,2]",
        "output y = %6",
    ]
    assert result.counts == {"compute-bf16": 2, "insert-cast": 2, "convert-constant": 2}
    assert {d.node: d.precision for d in result.decisions} == {
        "m": "bf16",
        "a": "bf16",
        "e": "fp32",
    }


def test_constants_are_rounded_to_nearest_even_and_shared() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    weights[0, :4] = [1 + 2**-8, 1 + 3 * 2**-8, -3.4028235e38, 2.0**-130]  # ties, range, denormal
    graph = model(
        """g (float[64,64] x, float[64,64] w) => (y, z) {
           a = MatMul(x, w)  b = MatMul(a, w)  y = Relu(b)  z = Exp(w) }"""
    )
    value = graph.value("w")
    fresh = graph.add_constant(optc.ir.Tensor.from_numpy(weights, DType.F32), "weights")
    graph.replace_uses(value, fresh)
    result = cast(graph, allow=["MatMul"])
    assert result.counts["convert-constant"] == 1
    (stored,) = (v.constant for v in graph.constants() if dtype(v) is DType.BF16)
    assert stored is not None
    expected = weights.astype(ml_dtypes.bfloat16)
    expected[0, 2] = ml_dtypes.finfo(ml_dtypes.bfloat16).min  # kept finite: it masks
    assert stored.raw() == expected.tobytes()
    assert dtype(graph.value("weights")) is DType.F32  # Exp reads it


def test_casts_of_the_model_are_used_and_dissolved() -> None:
    graph = model(
        """g (float[512,512] x, float[512,512] w) => (y, z) {
           c = Cast<to = 16>(x)  d = Cast<to = 1>(c)  e = Cast<to = 16>(x)  f = Cast<to = 1>(c)
           a = MatMul(x, w)  b = MatMul(d, a)  y = Add(b, f)  g1 = Cast<to = 16>(b)
           h = Neg(g1)  z = Cast<to = 1>(h)  unused = Neg(e) }"""
    )
    result = cast(graph, allow=["MatMul"])
    # x has one Cast for all; what read it back reads the bf16; that of b was for nothing.
    assert casts(graph) == {
        "x": "f32->bf16",
        "w": "f32->bf16",
        "h": "bf16->f32",
        "y_bf16": "bf16->f32",
    }
    assert result.counts["remove-cast"] == 4
    assert result.counts["insert-cast"] == 2


def test_captured_values_keep_their_types() -> None:
    graph = model(
        """g (bool c, float[512,512] x, float[512,512] w) => (y) {
           a = MatMul(x, w)
           y = If (c) <
             then_branch = t () => (float[512,512] p) { s = MatMul(a, w)  p = Relu(s) },
             else_branch = e () => (float[512,512] q) { q = Neg(a) }> }"""
    )
    cast(graph, allow=["MatMul"])
    (branch,) = (n for n in graph.nodes() if n.is_op("If"))
    captured = graph.captures(branch)
    assert {dtype(value) for value in captured.values()} == {DType.F32}
    then = dict(branch.subgraphs())["then_branch"]
    assert sorted(casts(then).values()) == ["bf16->f32", "f32->bf16", "f32->bf16"]


def test_calls_of_functions_are_left_alone() -> None:
    graph = graph_from_text(
        """<ir_version: 10, opset_import: ["" : 22, "own" : 1]>
        g (float[512,512] x, float[512,512] w) => (float[512,512] y) {
           a = MatMul(x, w)  y = own.Twice(a) }
        <domain: "own", opset_import: ["" : 22]> Twice (x) => (y) { y = Add(x, x) }"""
    )
    InferShapes().apply(graph, PassContext())
    cast(graph, allow=["MatMul"])
    call = graph.ordered()[-1]
    operand = graph.operand(call, 0)
    assert call.op_type == "Twice"
    assert operand is not None
    assert dtype(operand) is DType.F32


# ---- opset -------------------------------------------------------------------------------------

CONV = """g (float[1,64,64,64] x, float[64,64,3,3] w) => (y) {
          [c] a = Conv<pads = [1, 1, 1, 1]>(x, w)  y = Relu(a) }"""


def test_the_opset_is_raised_only_when_needed() -> None:
    graph = model(CONV, 17)
    result = cast(graph)
    assert graph.opset == 22
    assert result.counts["raise-opset"] == 1
    assert (result.figures["raised_from"], result.figures["raised_to"]) == (17, 22)
    (decision,) = (d for d in result.decisions if d.node == "c")
    assert decision.figures["needs_opset"] == 22
    plain = model("g (float[512,512] x, float[512,512] w) => (y) { y = MatMul(x, w) }", 13)
    assert "raise-opset" not in cast(plain, allow=["MatMul"]).counts
    assert plain.opset == 13


def test_an_opset_that_is_too_low_is_an_error_where_it_must_stay() -> None:
    graph = model(CONV, 17)
    before = print_graph(graph)
    with pytest.raises(CapabilityError) as caught:
        CastBf16(CastBf16.Options(raise_opset=False)).apply(graph, SPR)
    assert caught.value.code == "opset-too-low"
    assert caught.value.message == ("cast-bf16: Conv in bf16 needs opset 22, and the model has 17")
    assert caught.value.hint is not None
    assert "`upgrade-opset: {to: 22}`" in caught.value.hint
    assert print_graph(graph) == before


def test_where_the_opset_cannot_be_raised_the_rest_is_placed_without() -> None:
    # The body of a function uses an operator that opset 22 defines anew: upgrade-opset refuses.
    graph = graph_from_text(
        """<ir_version: 10, opset_import: ["" : 17, "own" : 1]>
        g (float[1,64,64,64] x, float[64,64,3,3] w, float[64,64] v) => (float[1,64,64,64] y) {
           a = Conv<pads = [1, 1, 1, 1]>(x, w)  b = MatMul(a, v)  y = own.Pool(b) }
        <domain: "own", opset_import: ["" : 17]> Pool (x) => (y) { y = HardSwish(x) }"""
    )
    InferShapes().apply(graph, PassContext())
    result = CastBf16().apply(graph, SPR)
    assert graph.opset == 17
    assert "raise-opset" not in result.counts
    assert (
        "Conv in bf16 needs opset 22, and the model has 17; it cannot be raised"
        in (result.warnings[0])
    )
    assert any("bodies of functions are not converted" in r.reason for r in result.refusals)
    found = {d.node: (d.precision, d.rule) for d in result.decisions}
    assert found["a"] == ("fp32", "schema")
    assert found["b"][0] == "bf16"
    assert verify(graph) == ()


# ---- decisions ---------------------------------------------------------------------------------


def test_decisions_of_an_earlier_step_are_carried_out() -> None:
    graph = model(
        "g (float[512,512] x, float[512,512] w) => (y) { [m] a = MatMul(x, w) [r] y = Relu(a) }"
    )
    made = AssignPrecision(AssignPrecision.Options.model_validate({"deny": ["Relu"]})).apply(
        graph, SPR
    )
    decisions = Decisions([StepRecord("assign-precision", decisions=made.decisions)])
    told = PassContext("sapphirerapids", "openvino", decisions=decisions)
    result = CastBf16(CastBf16.Options.model_validate({"deny": ["MatMul"]})).apply(
        graph, told
    )  # not asked
    assert result.counts["compute-bf16"] == 1
    assert result.decisions == ()
    assert dtype(graph.value("a_bf16")) is DType.BF16


def test_without_native_bf16_nothing_is_done() -> None:
    graph = model(CONV)
    assert not CastBf16().apply(graph, PassContext("cascadelake", "openvino")).changed


# ---- numbers -----------------------------------------------------------------------------------


def test_masks_stay_finite() -> None:
    text = """g (float[1,1,4,4] m, float[512,4] x, float[512,512] w, float[4,4] v) => (y) {
        big = Constant<value = float {-3.4028235e38}>()
        zero = Constant<value = float {0}>()  t = Constant<value = float {0.5}>()
        k = Greater(m, t)  mask = Where(k, big, zero)
        a = MatMul(w, x)  s = Constant<value = int64[4] {1, 512, 1, 4}>()
        b = Reshape(a, s)  c = Add(b, mask)  p = Softmax<axis = -1>(c)
        y = MatMul(p, v) }"""
    graph = model(text)
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {
        "m": np.array([[1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]], np.float32)[
            None, None
        ],
        "x": rng.normal(size=(512, 4)).astype(np.float32),
        "w": rng.normal(size=(512, 512)).astype(np.float32) / 23,
        "v": np.eye(4, dtype=np.float32),
    }
    expected = run(graph, feeds)["y"]
    observer = SampleObserver([feeds])
    context = PassContext("sapphirerapids", "openvino", observer=observer)
    result = CastBf16(CastBf16.Options.model_validate({"allow": ["MatMul"]})).apply(graph, context)
    found = run(twin(graph), feeds)["y"]
    assert np.isfinite(found).all()  # a row that is masked everywhere is uniform, not NaN
    # Logits of about 1 with an error of 2^-9 each, some of them added: 2^-6 is ample.
    np.testing.assert_allclose(found, expected, atol=2**-6)
    # Left to the early step, which cannot keep them finite, the masks stay fp32.
    early = AssignPrecision(AssignPrecision.Options.model_validate({"allow": ["MatMul"]})).apply(
        model(text), context
    )
    found_early = {d.node: d.rule for d in early.decisions}
    assert found_early["mask"] == found_early["c"] == "range"
    assert {d.node: d.precision for d in result.decisions}["c"] == "bf16"


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("placement", ["min-cut", "paint"])
def test_models_convert_no_more_than_painting_and_keep_their_numbers(
    path: Path, placement: str
) -> None:
    source = optc.load_model(path)
    graph = optc.run_passes(source, "fp32", runtime="openvino").graph
    fp32 = clone(graph)
    result = cast(graph, placement=placement)
    assert result.counts["compute-bf16"] > 20
    assert result.figures["conversions"] == len(casts(graph))
    assert result.figures["converted_bytes"] <= result.figures["converted_bytes_by_painting"]
    (name,) = (value.name for value in graph.inputs)
    image = np.random.default_rng(1).random((4, 1, 32, 32), np.float32)
    (expected,) = run(fp32, {name: image}).values()
    (found,) = run(twin(graph), {name: image}).values()
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    # Roundings of 2^-9 / sqrt(3) each, independent, over fewer than 60 operations in a row.
    assert 0 < error < 2**-9 * np.sqrt(60 / 3)


def test_the_whole_pipeline_from_preset_to_lowering() -> None:
    run = optc.run_passes(
        optc.load_model(MODELS[0]), "bf16", target="sapphirerapids", runtime="openvino"
    )
    assert_lean(run.graph)
    names = [step.name for step in run.steps]
    assert [s.skipped for s in run.steps if s.name == "cast-bf16"] == [""]
    assert names.index("cast-bf16") < names.index("lower-operators")
    (skipped,) = (
        step.skipped
        for step in optc.run_passes(optc.load_model(MODELS[0]), "bf16", runtime="openvino").steps
        if step.name == "cast-bf16"
    )
    assert skipped == "when: bf16, which cascadelake with openvino does not have"


def test_the_preset_is_that_of_fp32_with_bf16_at_the_end() -> None:
    exact, lower = ([step.name for step in resolve_pipeline(preset)] for preset in ("fp32", "bf16"))
    assert lower == [*exact, "cast-bf16", "remove-duplicates"]
