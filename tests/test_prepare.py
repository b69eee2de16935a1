"""What target or runtime cannot honour is an error that names what is missing and who has it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest

import optc
from optc import passes
from optc.errors import CapabilityError, ModelError, RecipeError, TargetError
from optc.passes import FuseRequantize, LowerOperators
from optc.passes.base import Pass, PassContext, PassResult
from optc.passes.forms import CANONICAL, ONNX
from optc.passes.int8_options import QuantizeInt8Options
from optc.passes.lower_operators import LowerOperatorsOptions, form_names
from optc.prepare import TargetPlan, lowering_steps, prepare
from optc.targets import RUNTIME_NAMES, load_runtime

if TYPE_CHECKING:
    from optc.ir import Graph

MODEL = Path(__file__).resolve().parents[1] / "recipes" / "quickstart" / "mnist_mobilenet.onnx"


class NeedsBf16(Pass):
    """Stands for a pass that computes in bfloat16."""

    name: ClassVar[str] = "needs-bf16"
    requires: ClassVar[tuple[str, ...]] = ("bf16",)

    def apply(self, graph: Graph, context: PassContext) -> PassResult:
        return PassResult(changed=False)


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr(passes, "ALL_PASSES", (*passes.ALL_PASSES, NeedsBf16))
    return {
        "schema_version": 1,
        "model": str(MODEL),
        "targets": ["cascadelake"],
        "runtime": "openvino",
        "pipeline": ["needs-bf16"],
    }


def test_a_target_without_the_capability(recipe: dict[str, object]) -> None:
    with pytest.raises(CapabilityError) as caught:
        prepare(recipe)
    text = str(caught.value)
    assert "step 'needs-bf16' cannot run: cascadelake lacks bf16" in text
    assert "cooperlake, sapphirerapids, emeraldrapids" in text
    assert "`when: bf16`" in text


def test_a_runtime_that_does_not_use_the_capability(recipe: dict[str, object]) -> None:
    with pytest.raises(CapabilityError) as caught:
        prepare({**recipe, "targets": ["spr"], "runtime": "onnxruntime"})
    text = str(caught.value)
    assert "onnxruntime does not use bf16" in text
    assert "openvino" in text


def test_a_guarded_step_is_skipped_with_the_reason(recipe: dict[str, object]) -> None:
    guarded = {
        **recipe,
        "pipeline": [{"needs-bf16": {}, "when": "bf16"}],
        "targets": ["clx", "spr"],
    }
    skipped, ready = (plan.steps[0] for plan in prepare(guarded).plans)
    assert skipped.run is None
    assert skipped.skipped == "when: bf16, which cascadelake with openvino does not have"
    assert ready.run is not None


def test_bf16_at_launch_on_a_target_without_it(recipe: dict[str, object]) -> None:
    with pytest.raises(CapabilityError) as caught:
        prepare({**recipe, "pipeline": [], "launch": {"precision": "bf16"}})
    assert caught.value.message == (
        "launch.precision: bf16 cannot be had: cascadelake lacks bf16: native bfloat16 arithmetic, "
        "on vectors or tiles (CPU flags avx512_bf16, or amx_tile with amx_bf16)"
    )
    assert caught.value.hint == (
        "targets with bf16: cooperlake, sapphirerapids, emeraldrapids; runtimes that use it: "
        "openvino. Write `precision: fp32`, or leave cascadelake out of `targets`"
    )


def test_bf16_at_launch_with_a_runtime_without_it(recipe: dict[str, object]) -> None:
    asked = {"pipeline": [], "launch": {"precision": "bf16"}, "targets": ["spr"]}
    with pytest.raises(CapabilityError) as caught:
        prepare({**recipe, **asked, "runtime": "onnxruntime"})
    assert caught.value.message == (
        "launch.precision: bf16 cannot be had: onnxruntime does not use bf16 (bf16: no bf16 "
        "arithmetic kernels and no inserted casts, so a bf16 MatMul or Conv fails to load)"
    )
    assert caught.value.hint == (
        "targets with bf16: cooperlake, sapphirerapids, emeraldrapids; runtimes that use it: "
        "openvino. Write `precision: fp32`. Or: keep fp32 or quantize to int8, or choose "
        "`runtime: openvino`"
    )
    prepare({**recipe, **asked})


def test_emit_opset_is_a_pass_at_the_end(recipe: dict[str, object]) -> None:
    (plan,) = prepare({**recipe, "pipeline": [], "emit": {"opset": 20}}).plans
    assert [step.name for step in plan.pipeline] == ["upgrade-opset"]


LOWERING = [
    "lower-operators",
    "merge-transposes",
    "merge-reshapes",
    "remove-duplicates",
    "infer-shapes",
]


def lowering(plan: TargetPlan) -> LowerOperatorsOptions:
    """How operators are lowered, before the last inference of shapes."""
    run = next(step.run for step in plan.lowering if step.name == "lower-operators")
    assert run is not None
    assert isinstance(run.options, LowerOperatorsOptions)
    return run.options


def test_the_forms_of_the_runtime_are_lowered_to_after_the_pipeline(
    recipe: dict[str, object],
) -> None:
    asked = {**recipe, "pipeline": ["remove-dead"], "runtime": "onnxruntime"}
    runtime = load_runtime("onnxruntime")
    added = [*(step.name for step in runtime.lowering), *LOWERING]
    (plan,) = prepare(asked).plans
    assert [step.name for step in plan.steps] == ["remove-dead", *added]
    assert lowering(plan) == LowerOperators.Options(
        forms={entry.op: entry.forms for entry in runtime.forms}, domains=("com.microsoft",)
    )


@pytest.mark.parametrize("runtime", RUNTIME_NAMES)
def test_without_lowering_operators_get_the_forms_that_every_runtime_has(
    recipe: dict[str, object], runtime: str
) -> None:
    asked = {**recipe, "pipeline": ["remove-dead"], "runtime": runtime, "emit": {"lower": False}}
    (plan,) = prepare(asked).plans
    assert [step.name for step in plan.lowering] == LOWERING
    options = lowering(plan)
    assert not options.forms
    assert options.domains == load_runtime(runtime).domains


@pytest.mark.parametrize(
    ("emit", "domains", "keeps"),
    [
        ({}, ("com.microsoft",), False),
        ({"domains": []}, (), False),
        ({"domains": ["com.microsoft"]}, ("com.microsoft",), False),
    ],
)
def test_foreign_domains_are_those_of_the_runtime_unless_the_recipe_says_which(
    recipe: dict[str, object], emit: dict[str, object], domains: tuple[str, ...], keeps: bool
) -> None:
    (plan,) = prepare({**recipe, "pipeline": [], "runtime": "onnxruntime", "emit": emit}).plans
    options = lowering(plan)
    assert (options.domains, options.keep_canonical) == (domains, keeps)


def test_openvino_ir_holds_canonical_operations(recipe: dict[str, object]) -> None:
    pytest.importorskip("openvino")
    (plan,) = prepare(
        {**recipe, "pipeline": [], "runtime": "openvino", "emit": {"format": "openvino"}}
    ).plans
    assert lowering(plan).keep_canonical


@pytest.mark.parametrize("name", RUNTIME_NAMES)
def test_every_form_of_a_descriptor_can_be_written(name: str) -> None:
    runtime = load_runtime(name)
    assert lowering_steps(runtime)
    for entry in runtime.forms:
        assert set(entry.forms) <= {ONNX, CANONICAL, *form_names(entry.op)}, entry.op


def test_targets_given_in_the_call_replace_those_of_the_recipe(recipe: dict[str, object]) -> None:
    prepared = prepare({**recipe, "pipeline": []}, targets=["SPR", "icelake", "spr"])
    assert [plan.target.id for plan in prepared.plans] == ["sapphirerapids", "icelake"]
    with pytest.raises(TargetError, match="there is no target 'sprr'"):
        prepare({**recipe, "pipeline": []}, targets=["sprr"])


def test_a_missing_model_is_found_before_any_work(recipe: dict[str, object]) -> None:
    with pytest.raises(ModelError) as caught:
        optc.plan({**recipe, "pipeline": [], "model": "no/such.onnx"})
    assert caught.value.code == "model-missing"


def int8_options(recipe: dict[str, object], step: object, **more: object) -> QuantizeInt8Options:
    (plan,) = prepare({**recipe, "pipeline": [step], **more}).plans
    run = plan.pipeline[0].run
    assert run is not None
    assert isinstance(run.options, QuantizeInt8Options)
    return run.options


@pytest.mark.parametrize(
    ("target", "runtime", "expected"),
    [
        ("skylake", "onnxruntime", ("u8", "u8", "s32", "avoid")),
        ("cascadelake", "onnxruntime", ("u8", "u8", "s32", "allow")),
        ("cascadelake", "openvino", ("u8", "s8-symmetric", "f32", "allow")),
        ("skylake", "openvino", ("u8", "s8-symmetric", "f32", "avoid")),
    ],
)
def test_options_that_a_recipe_leaves_out_are_the_runtime_s(
    recipe: dict[str, object], target: str, runtime: str, expected: tuple[str, ...]
) -> None:
    more = {"targets": [target], "runtime": runtime}
    found = int8_options(recipe, "quantize-int8", **more)
    given = (found.activations, found.product_activations, found.bias, found.saturation)
    assert given == expected
    step = {"quantize-int8": {"saturation": "allow", "activations": "s8"}}
    own = int8_options(recipe, step, **more)
    assert (own.saturation, own.activations, own.bias) == ("allow", "s8", expected[2])


def test_operators_on_integers_are_written_at_the_end_of_the_pipeline(
    recipe: dict[str, object],
) -> None:
    asked = {**recipe, "pipeline": [], "runtime": "onnxruntime", "emit": {"int8": "qoperator"}}
    (plan,) = prepare(asked).plans
    assert [step.name for step in plan.pipeline] == ["fuse-requantize"]
    assert plan.pipeline[0].run is not None
    assert plan.pipeline[0].run.options == FuseRequantize.Options(form="qoperator")


def test_operators_on_integers_are_for_onnxruntime(recipe: dict[str, object]) -> None:
    asked = {**recipe, "pipeline": [], "runtime": "openvino", "emit": {"int8": "qoperator"}}
    with pytest.raises(RecipeError, match="does not compute the operators of 'qoperator'"):
        prepare(asked)


@pytest.mark.parametrize(
    ("targets", "runtime", "asked", "warned"),
    [
        (["spr"], "onnxruntime", None, "onnxruntime does not use bf16"),
        (["clx"], "openvino", None, "cascadelake lacks bf16"),
        (["clx", "spr"], "openvino", None, ""),
        (["clx", "spr"], "openvino", ["clx"], ""),  # a part of a fleet
    ],
)
def test_a_condition_that_no_target_fulfils_is_a_warning(
    targets: list[str], runtime: str, asked: list[str] | None, warned: str
) -> None:
    recipe = {
        "schema_version": 1,
        "model": str(MODEL),
        "targets": targets,
        "runtime": runtime,
        "pipeline": {"preset": "int8-bf16"},
    }
    found = prepare(recipe, targets=asked).warnings
    if warned:
        (text,) = found
        assert text.startswith("cast-bf16 and narrow-dequantize run for no target: ")
        assert warned in text
        assert "runtimes that use it: openvino" in text
    else:
        assert found == ()
