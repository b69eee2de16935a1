"""Which target a machine is, from its /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

import pytest

from optc.errors import TargetError
from optc.targets import detect_host, load_target
from optc.targets.host import CPUINFO, host_target

FIXTURES = Path(__file__).parent / "cpuinfo"


@pytest.mark.parametrize(
    ("fixture", "target", "named"),
    [
        ("cascadelake", "cascadelake", "cascadelake"),
        ("cascadelake-fake-stepping", "cascadelake", None),
        ("cooperlake", "cooperlake", "cooperlake"),
        ("icelake", "icelake", "icelake"),
        ("sapphirerapids", "sapphirerapids", "sapphirerapids"),
        ("sapphirerapids-without-amx", "cooperlake", "sapphirerapids"),
        ("emeraldrapids", "emeraldrapids", "emeraldrapids"),
        ("graniterapids", "sapphirerapids", None),
        ("zen4", "cooperlake", None),
        ("skylake", "skylake", "skylake"),
        ("haswell", None, None),
        ("aarch64", None, None),
    ],
)
def test_flags_decide_and_cpuid_only_confirms(
    fixture: str, target: str | None, named: str | None
) -> None:
    host = detect_host(FIXTURES / f"{fixture}.txt")
    assert (host.target.id if host.target else None) == target
    assert (host.named.id if host.named else None) == named
    assert host.is_target == (target is not None and target == named)


def test_a_confirmed_cpu_is_explained_step_by_step() -> None:
    assert detect_host(FIXTURES / "icelake.txt").explain() == (
        "this CPU: Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz "
        "(GenuineIntel, family 6, model 106, stepping 6)",
        "skylake: has all 12 flags",
        "cascadelake: has all 13 flags",
        "cooperlake: missing avx512_bf16",
        "icelake: has all 18 flags",
        "sapphirerapids: missing avx_vnni, avx512_bf16, avx512_fp16, amx_tile, amx_int8, amx_bf16",
        "emeraldrapids: missing avx_vnni, avx512_bf16, avx512_fp16, amx_tile, amx_int8, amx_bf16",
        "icelake, confirmed by family, model and stepping",
    )


def test_another_vendor_gets_a_target_and_is_told_that_it_is_not_that_cpu() -> None:
    lines = detect_host(FIXTURES / "zen4.txt").explain()
    assert lines[0] == (
        "this CPU: AMD EPYC 9654 96-Core Processor (AuthenticAMD, family 25, model 17, stepping 1)"
    )
    assert lines[-1] == (
        "cooperlake by flags only: the same instructions run here, but this is not a Cooper Lake "
        "CPU; its speed, caches and clocks are not those of the descriptor"
    )


def test_hidden_flags_of_a_known_model_are_explained_with_the_usual_reasons() -> None:
    assert detect_host(FIXTURES / "sapphirerapids-without-amx.txt").explain()[-1] == (
        "family, model and stepping are those of sapphirerapids, but amx_tile, amx_int8, amx_bf16 "
        "are hidden; usual reasons: amx needs Linux on the machine itself 5.16; amx needs Linux as "
        "a KVM guest 5.17; a hypervisor that does not pass them on; the BIOS"
    )


@pytest.mark.parametrize(
    ("fixture", "missing"),
    [("haswell", "avx512f, avx512cd, avx512bw, avx512dq, avx512vl")],
)
def test_a_cpu_below_every_target_is_an_error_with_the_missing_flags(
    fixture: str, missing: str
) -> None:
    with pytest.raises(TargetError) as caught:
        host_target(FIXTURES / f"{fixture}.txt")
    assert caught.value.code == "host-unsupported"
    assert caught.value.message.endswith(
        f"is below every target: skylake, the lowest, also needs {missing}"
    )
    assert caught.value.hint == (
        "name a target instead of host, e.g. `targets: [skylake]`: "
        "compiling for a CPU does not need that CPU"
    )
    assert detect_host(FIXTURES / f"{fixture}.txt").explain()[-1] == (
        "no target: the CPU lacks flags of all of them"
    )


def test_an_arm_machine_is_explained_without_cpuid_numbers() -> None:
    assert detect_host(FIXTURES / "aarch64.txt").explain()[0] == "this CPU: unnamed (not x86)"


def test_a_machine_without_proc_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TargetError) as caught:
        detect_host(tmp_path / "cpuinfo")
    assert caught.value.code == "host-unreadable"
    assert caught.value.hint == "name a target instead of host; detection works on Linux"


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs /proc/cpuinfo")
def test_the_name_host_means_this_machine() -> None:
    host = detect_host()
    if host.target is None:
        with pytest.raises(TargetError):
            load_target("host")
    else:
        assert load_target("HOST") is host.target
        assert host.flags.issuperset(host.target.isa.flags)
