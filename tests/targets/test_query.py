"""What a target and a runtime can do together."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from optc.errors import TargetError
from optc.targets import (
    CAPABILITIES,
    Runtime,
    available_capabilities,
    load_runtime,
    load_target,
    missing_capability,
    runtime_names,
    runtimes_with,
    target_names,
    targets_with,
)
from optc.targets.capabilities import TABLE, capabilities_of

INT8 = {"avx2", "avx512", "avx512_vnni", "vnni"}
AVAILABLE = {
    ("skylake", "onnxruntime"): {"avx2", "avx512"},
    ("skylake", "openvino"): {"avx2", "avx512"},
    ("cascadelake", "onnxruntime"): INT8,
    ("cascadelake", "openvino"): INT8,
    ("cooperlake", "onnxruntime"): INT8,
    ("cooperlake", "openvino"): INT8 | {"bf16", "avx512_bf16"},
    ("icelake", "onnxruntime"): INT8,
    ("icelake", "openvino"): INT8,
    ("sapphirerapids", "onnxruntime"): INT8 | {"avx_vnni", "amx", "amx_int8"},
    ("sapphirerapids", "openvino"): set(CAPABILITIES),
    ("emeraldrapids", "onnxruntime"): INT8 | {"avx_vnni", "amx", "amx_int8"},
    ("emeraldrapids", "openvino"): set(CAPABILITIES),
}


@pytest.mark.parametrize("target", target_names())
@pytest.mark.parametrize("runtime", runtime_names())
def test_a_capability_is_available_when_the_cpu_has_it_and_the_runtime_uses_it(
    target: str, runtime: str
) -> None:
    cpu, engine = load_target(target), load_runtime(runtime)
    assert available_capabilities(cpu, engine) == AVAILABLE[target, runtime]
    for name in CAPABILITIES:
        missing = missing_capability(name, cpu, engine)
        assert (missing is None) == (name in AVAILABLE[target, runtime])


def test_a_target_without_bf16_names_those_that_have_it() -> None:
    missing = missing_capability("bf16", load_target("clx"), load_runtime("openvino"))
    assert missing is not None
    assert missing.lacks_it == "target"
    assert missing.message == (
        "cascadelake lacks bf16: native bfloat16 arithmetic, on vectors or tiles "
        "(CPU flags avx512_bf16, or amx_tile with amx_bf16)"
    )
    assert missing.hint == (
        "targets with bf16: cooperlake, sapphirerapids, emeraldrapids; runtimes that use it: "
        "openvino. To skip the step on the others, write `when: bf16`"
    )


def test_a_runtime_without_bf16_names_the_evidence_and_the_way_out() -> None:
    missing = missing_capability("bf16", load_target("spr"), load_runtime("onnxruntime"))
    assert missing is not None
    assert missing.lacks_it == "runtime"
    assert missing.message == (
        "onnxruntime does not use bf16 (bf16: no bf16 arithmetic kernels and no inserted casts, "
        "so a bf16 MatMul or Conv fails to load)"
    )
    assert missing.hint == (
        "targets with bf16: cooperlake, sapphirerapids, emeraldrapids; runtimes that use it: "
        "openvino. Or: keep fp32 or quantize to int8, or choose `runtime: openvino`"
    )


def test_an_unknown_capability_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(TargetError) as caught:
        missing_capability("amx_bf15", load_target("spr"), load_runtime("openvino"))
    assert caught.value.code == "capability-unknown"
    assert caught.value.hint == "did you mean 'amx_bf16'?"


def test_owners_of_a_capability_are_listed_in_order() -> None:
    assert targets_with("bf16") == ("cooperlake", "sapphirerapids", "emeraldrapids")
    assert targets_with("vnni") == target_names()[1:]
    assert runtimes_with("amx_int8") == ("onnxruntime", "openvino")
    assert runtimes_with("amx_bf16") == ("openvino",)


def test_every_capability_has_one_line_for_people() -> None:
    assert all(text and "\n" not in text for text in CAPABILITIES.values())
    assert list(CAPABILITIES) == list(TABLE)


@pytest.mark.parametrize(
    ("flags", "capabilities"),
    [
        (["avx2"], set()),
        (["avx2", "fma", "avx_vnni"], {"avx2", "avx_vnni", "vnni"}),
        (["amx_bf16"], set()),
        (["amx_tile", "amx_bf16"], {"amx", "amx_bf16", "bf16"}),
        (["avx512f", "avx512bw", "avx512dq", "avx512vl"], set()),
    ],
)
def test_a_capability_needs_all_flags_of_one_alternative(
    flags: list[str], capabilities: set[str]
) -> None:
    assert capabilities_of(flags) == capabilities


def test_onnxruntime_computes_no_bf16_and_reads_no_openmp_variables() -> None:
    runtime = load_runtime("onnxruntime")
    assert not runtime.computes("bf16")
    assert runtime.computes("int8")
    assert runtime.honours("intra_op_num_threads")
    assert runtime.honours("ORT_INTRA_OP_NUM_THREADS")
    assert not runtime.honours("OMP_NUM_THREADS")
    assert not runtime.honours("KMP_AFFINITY")
    assert not runtime.honours("never heard of")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("drop-precision", "precisions: missing fp16"),
        ("repeat-knob", "knobs: listed twice: intra_op_num_threads"),
        ("drop-instead", "a precision that is not computed needs `instead`"),
        ("drop-flags", "a precision that is computed needs baseline_flags"),
    ],
)
def test_incomplete_runtime_descriptors_are_refused(change: str, reason: str) -> None:
    data = load_runtime("onnxruntime").model_dump()
    if change == "drop-precision":
        del data["precisions"]["fp16"]
    elif change == "repeat-knob":
        data["knobs"] = [*data["knobs"], data["knobs"][0]]
    elif change == "drop-instead":
        data["precisions"]["bf16"]["instead"] = None
    else:
        data["precisions"]["fp32"]["baseline_flags"] = []
    with pytest.raises(ValidationError, match=re.escape(reason)):
        Runtime.model_validate(data)
