"""Questions about a target, one by one; the table of all answers is in test_golden_queries.py."""

from __future__ import annotations

import pytest

from optc.errors import TargetError
from optc.targets import Question, ask, load_runtime, load_target
from optc.targets.routes import TYPE_NAMES


def test_an_answer_says_kernel_conditions_alternatives_and_peak() -> None:
    answer = load_target("spr").query(op="MatMul", dtype="int8", runtime="openvino")
    assert answer
    assert answer.question == "MatMul in int8 on sapphirerapids with openvino"
    assert answer.kernel == "brgemm:avx10_1_512_amx"
    assert answer.isa == "amx_int8"
    assert answer.becomes == "FullyConnected"
    assert answer.form == (
        "qdq of u8 x s8 (DequantizeLinear before the operator and QuantizeLinear behind it)"
    )
    assert "OpenVINO 2022.3 or newer [Intel support article 000091299]" in answer.conditions
    assert "Linux as a KVM guest 5.17 or newer [Phoronix on AMX in Linux]" in answer.conditions
    assert (
        "without amx_int8: computed in that type by brgemm:avx512_core_vnni on avx512_vnni"
        in answer.otherwise
    )
    assert any(line.startswith("as qdq of u8 x u8: converted") for line in answer.otherwise)
    assert answer.peak is not None
    assert answer.peak.ops_per_cycle.value == 2048
    # Measured on Emerald Rapids, which has the same units.
    assert answer.confidence == "high"


def test_an_old_kernel_takes_the_next_best_path() -> None:
    answer = load_target("spr").query(
        op="MatMul", dtype="int8", runtime="openvino", min_kernel="5.15"
    )
    assert answer
    assert answer.isa == "avx512_vnni"
    assert answer.question.endswith("on sapphirerapids with openvino on Linux 5.15")
    assert answer.confidence == "high"


def test_emulated_is_a_no_that_says_how_slow_and_who_is_better() -> None:
    answer = load_target("clx").query(op="MatMul", dtype="bf16", runtime="openvino")
    assert not answer
    assert answer.outcome == "emulated"
    assert "46 to 48 times slower than fp32" in answer.reason
    assert answer.hint == (
        "targets with bf16: cooperlake, sapphirerapids, emeraldrapids; or keep fp32"
    )
    assert answer.peak is None


def test_bf16_on_onnxruntime_fails_to_load_everywhere() -> None:
    answer = load_target("spr").query(op="Conv", dtype="bf16", runtime="onnxruntime")
    assert not answer
    assert answer.outcome == "rejected"
    assert "NOT_IMPLEMENTED" in answer.reason
    assert answer.hint == "keep fp32 or quantize to int8, or choose `runtime: openvino`"


def test_the_wrong_type_pair_is_told_the_right_one() -> None:
    answer = load_target("clx").query(op="Conv", dtype="u8u8", runtime="openvino")
    assert not answer
    assert answer.outcome == "converted"
    assert answer.hint == (
        "write it as qdq of u8 x s8 "
        "(DequantizeLinear before the operator and QuantizeLinear behind it)"
    )


@pytest.mark.parametrize(("target", "warned"), [("skx", True), ("clx", False), ("spr", False)])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("op", ["Conv", "MatMul"])
def test_saturation_is_a_condition_exactly_where_there_is_no_vnni(
    target: str, warned: bool, runtime: str, op: str
) -> None:
    answer = load_target(target).query(op=op, dtype="int8", runtime=runtime)
    assert answer
    assert any("saturate at 16 bits" in line for line in answer.conditions) is warned


def test_conditions_of_other_cpus_are_left_out() -> None:
    hint = "set INFERENCE_PRECISION_HINT to f32; the default here is bf16"
    asked = Question(op="Conv", dtype="fp32", runtime="openvino")
    assert hint in ask(load_target("cpx"), asked).conditions
    assert hint not in ask(load_target("clx"), asked).conditions


def test_what_no_descriptor_speaks_of_is_unknown_not_no_without_reason() -> None:
    answer = load_target("spr").query(op="MatMul", dtype="f16s8", runtime="onnxruntime")
    assert answer.reason == (
        "unknown: the descriptor says nothing about MatMul in f16s8 with onnxruntime"
    )


def test_the_peak_takes_cores_and_clock() -> None:
    answer = load_target("spr").query(dtype="bf16", runtime="openvino", cores=56, ghz=1.9)
    assert answer.peak is not None
    assert answer.peak.gops == pytest.approx(1024 * 56 * 1.9)
    unknown = load_target("spr").query(dtype="bf16", runtime="openvino")
    assert unknown.peak is not None
    assert unknown.peak.gops is None


@pytest.mark.parametrize(
    ("target", "dtype", "runtime", "yes", "reason"),
    [
        ("icx", "bf16", None, False, "icelake lacks bf16: "),
        ("cpx", "bf16", None, True, "avx512_bf16: bfloat16 dot product on 512-bit vectors"),
        ("spr", "bf16", "onnxruntime", False, "onnxruntime does not compute in bf16: "),
        ("spr", "bf16", "openvino", True, "amx_bf16: bfloat16 matrix multiply on AMX tiles"),
        ("skx", "int8", None, True, "avx512: 512-bit vectors"),
        ("clx", "fp16", "openvino", False, "cascadelake lacks avx512_fp16: "),
    ],
)
def test_a_type_alone_can_be_asked_for(
    target: str, dtype: str, runtime: str | None, yes: bool, reason: str
) -> None:
    answer = load_target(target).query(dtype=dtype, runtime=runtime)
    assert bool(answer) is yes
    assert answer.reason.startswith(reason)


@pytest.mark.parametrize(
    ("isa", "kernel", "runtime", "yes", "reason"),
    [
        ("amx_bf16", None, None, True, "sapphirerapids has bfloat16 matrix multiply on AMX tiles"),
        ("amx_bf16", "5.15", None, False, "amx needs Linux on the machine itself 5.16 [Phoronix"),
        ("amx_bf16", "5.16", None, True, "sapphirerapids has"),
        ("amx_bf16", None, "onnxruntime", False, "onnxruntime does not use amx_bf16"),
        ("amx_tile", None, None, True, "sapphirerapids has the CPU flag amx_tile"),
        ("amx_tile", "5.10", None, False, "amx needs Linux on the machine itself 5.16 [Phoronix"),
        ("avx512ifma", None, None, True, "sapphirerapids has the CPU flag avx512ifma"),
    ],
)
def test_instruction_sets_and_flags_can_be_asked_for(
    isa: str, kernel: str | None, runtime: str | None, yes: bool, reason: str
) -> None:
    answer = load_target("spr").query(isa=isa, min_kernel=kernel, runtime=runtime)
    assert bool(answer) is yes
    assert answer.reason.startswith(reason)


def test_a_kernel_alone_can_be_asked_for() -> None:
    assert load_target("clx").query(min_kernel="4.15")
    assert load_target("spr").query(min_kernel="5.16")
    answer = load_target("spr").query(min_kernel="5.4")
    assert not answer
    assert answer.reason.startswith("amx, amx_int8, amx_bf16: amx needs Linux on the machine")


def test_an_old_runtime_is_a_no() -> None:
    query = load_target("spr").query
    answer = query(op="Conv", dtype="int8", runtime="onnxruntime", runtime_version="1.16.3")
    assert not answer
    assert answer.reason == (
        "artefacts are made for ONNX Runtime, CPU execution provider, 1.23 and newer"
    )
    assert query(op="Conv", dtype="int8", runtime="onnxruntime", runtime_version="1.23.0")


def test_a_runtime_object_is_as_good_as_its_name() -> None:
    asked = Question(op="Conv", dtype="int8", runtime=load_runtime("openvino"))
    assert ask(load_target("clx"), asked) == load_target("clx").query(
        op="Conv", dtype="int8", runtime="openvino"
    )


@pytest.mark.parametrize(
    ("question", "code", "message", "hint"),
    [
        (
            Question(),
            "query-incomplete",
            "nothing is asked for",
            "name a type, an operator with a type and a runtime, an isa, or a kernel",
        ),
        (
            Question(op="Conv", runtime="openvino"),
            "query-incomplete",
            "a question about an operator needs its type and a runtime",
            "types: fp32, fp16, bf16, int8, int4, or e.g. u8s8; runtimes: onnxruntime, openvino",
        ),
        (
            Question(isa="amx", dtype="int8"),
            "query-incomplete",
            "ask for an instruction set or for a type, not for both at once",
            None,
        ),
        (
            Question(dtype="u8s8"),
            "query-incomplete",
            "'u8s8' can only be asked for an operator",
            "without one, ask for fp32, fp16, bf16, int8",
        ),
        (
            Question(op="Convv", dtype="int8", runtime="openvino"),
            "op-unknown",
            "there is no operator 'Convv'",
            "did you mean 'Conv'?",
        ),
        (
            Question(op="Conv", dtype="in8", runtime="openvino"),
            "dtype-unknown",
            "there is no type 'in8'; known: fp32, fp16, bf16, int8, int4, or element types of "
            "activation, weight and result such as u8s8 or u8s8f32",
            "did you mean 'int8'?",
        ),
        (
            Question(isa="amx_bf61"),
            "capability-unknown",
            "there is no capability or CPU flag 'amx_bf61'; capabilities: avx2, avx512, vnni, "
            "avx512_vnni, avx_vnni, bf16, avx512_bf16, avx512_fp16, amx, amx_int8, amx_bf16",
            "did you mean 'amx_bf16'?",
        ),
        (
            Question(min_kernel="new"),
            "query-invalid",
            "min_kernel: 'new' is not a version, e.g. 5.16",
            None,
        ),
    ],
)
def test_questions_that_cannot_be_answered_are_explained(
    question: Question, code: str, message: str, hint: str | None
) -> None:
    with pytest.raises(TargetError) as caught:
        ask(load_target("spr"), question)
    assert (caught.value.code, caught.value.message, caught.value.hint) == (code, message, hint)


@pytest.mark.parametrize(
    "dtype", ["u8s8", "u8s8u8", "u8s8f32", "s8s8", "f32s4", "bf16", *TYPE_NAMES]
)
def test_types_are_read_in_the_notation_of_onednn(dtype: str) -> None:
    assert load_target("clx").query(op="MatMul", dtype=dtype, runtime="onnxruntime").reason


def test_the_result_type_chooses_the_route() -> None:
    query = load_target("clx").query
    quantized = query(op="MatMul", dtype="u8s8u8", runtime="onnxruntime")
    floating = query(op="MatMul", dtype="u8s8f32", runtime="onnxruntime")
    assert quantized.becomes == "QLinearMatMul"
    assert floating.becomes == "MatMulIntegerToFloat"


def test_an_answer_is_data_as_well() -> None:
    data = load_target("spr").query(op="MatMul", dtype="int8", runtime="openvino").to_dict()
    assert data["yes"] is True
    assert data["path"] == "int8_amx"
    peak = data["peak"]
    assert isinstance(peak, dict)
    assert peak["ops_per_cycle"]["source"] == "PyTorch tutorial on Intel AMX"
