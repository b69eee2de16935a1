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
        "cooperlake by flags only: the same instructions run here, but this CPU of AuthenticAMD is "
        "not Cooper Lake by family, model and stepping; its speed, caches and clocks are not those "
        "of the descriptor"
    )


HIDDEN = (
    "family, model and stepping are those of sapphirerapids, but amx_tile, amx_int8, amx_bf16 "
    "are hidden; usual reasons: "
)
OTHERS = "; a hypervisor that does not pass them on; the BIOS"


@pytest.mark.parametrize(
    ("kernel", "virtual", "reason"),
    [
        (
            None,
            True,
            "amx needs Linux on the machine itself 5.16; amx needs Linux as a KVM guest 5.17",
        ),
        (
            "5.15.0-91-generic",
            True,
            "amx needs Linux as a KVM guest 5.17 (5.15.0-91-generic is too old)",
        ),
        ("6.8.0", True, "amx needs Linux as a KVM guest 5.17 (6.8.0 is new enough)"),
        ("5.15.0", False, "amx needs Linux on the machine itself 5.16 (5.15.0 is too old)"),
        ("5.16", False, "amx needs Linux on the machine itself 5.16 (5.16 is new enough)"),
    ],
)
def test_hidden_flags_of_a_known_model_are_explained_with_the_usual_reasons(
    kernel: str | None, virtual: bool, reason: str, tmp_path: Path
) -> None:
    text = (FIXTURES / "sapphirerapids-without-amx.txt").read_text(encoding="utf-8")
    file = tmp_path / "cpuinfo"
    file.write_text(text if virtual else text.replace(" hypervisor", ""), encoding="utf-8")
    host = detect_host(file, kernel=kernel)
    assert host.is_virtual is virtual
    assert HIDDEN + reason + OTHERS in host.explain()
    assert host.explain()[-1].startswith("a virtual machine") is virtual


def test_the_same_flags_are_told_apart_by_family_model_and_stepping() -> None:
    emerald = detect_host(FIXTURES / "emeraldrapids.txt")
    assert emerald.explain()[-1] == "emeraldrapids, confirmed by family, model and stepping"
    assert detect_host(FIXTURES / "sapphirerapids.txt").target is load_target("spr")


def test_a_host_as_data_says_what_is_missing_and_why() -> None:
    data = detect_host(FIXTURES / "cascadelake.txt", kernel="6.1").to_dict()
    assert data["target"] == "cascadelake"
    assert data["is_target"] is True
    assert data["kernel"] == "6.1"
    assert data["missing"] == {
        "skylake": [],
        "cascadelake": [],
        "cooperlake": ["avx512_bf16"],
        "icelake": list(ICELAKE_EXTRAS),
        "sapphirerapids": list(TILE_EXTRAS),
        "emeraldrapids": list(TILE_EXTRAS),
    }


ICELAKE_EXTRAS = (
    "avx512ifma",
    "avx512vbmi",
    "avx512_vbmi2",
    "avx512_bitalg",
    "avx512_vpopcntdq",
)
TILE_EXTRAS = (
    "avx_vnni",
    *ICELAKE_EXTRAS,
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
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
