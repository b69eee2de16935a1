"""Measuring the machine: the code that is run, and what is made of the numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from optc.errors import OutputError, TargetError
from optc.targets import detect_host, load_target
from optc.targets.capabilities import capabilities_of
from optc.targets.machine_code import (
    BF16_512,
    FMA_256,
    FMA_512,
    IMUL_LATENCY,
    VNNI_512,
    Instruction,
    clock_body,
    loop,
    rate_body,
)
from optc.targets.paths import PATH_NEEDS, ComputePath
from optc.targets.probe import INSTRUCTIONS, Measured, Probe, probe, write_descriptor

FIXTURES = Path(__file__).parent / "cpuinfo"


@pytest.mark.parametrize(
    ("instruction", "destination", "source", "code"),
    [
        # As GNU as 2.40 assembles them.
        (FMA_256, 0, 15, "c4 c2 05 b8 c7"),
        (FMA_256, 9, 2, "c4 62 6d b8 ca"),
        (FMA_512, 0, 15, "62 d2 05 48 b8 c7"),
        (FMA_512, 11, 15, "62 52 05 48 b8 df"),
        (FMA_512, 7, 3, "62 f2 65 48 b8 fb"),
        (VNNI_512, 11, 15, "62 52 05 48 50 df"),
        (VNNI_512, 9, 2, "62 72 6d 48 50 ca"),
        (BF16_512, 0, 15, "62 d2 06 48 52 c7"),
        (BF16_512, 7, 3, "62 f2 66 48 52 fb"),
    ],
)
def test_instructions_are_encoded_as_the_assembler_does(
    instruction: Instruction, destination: int, source: int, code: str
) -> None:
    assert instruction.encode(destination, source) == bytes.fromhex(code)


def test_a_loop_jumps_back_to_its_body() -> None:
    body = rate_body(FMA_512)
    code = loop(body)
    size = len(b"".join(body))
    jump = code.index(b"\x0f\x85")
    displacement = int.from_bytes(code[jump + 2 : jump + 6], "little", signed=True)
    start = jump + 6 + displacement
    assert code[start : start + size] == b"".join(body)
    assert code[:start] == bytes.fromhex("f3 0f 1e fa c5 fc 77")  # endbr64, vzeroall
    assert code[jump + 6 :] == bytes.fromhex("c5 f8 77 c3")  # vzeroupper, ret


def test_the_clock_is_decided_by_the_chain_even_with_one_vector_unit() -> None:
    body = clock_body(FMA_512)
    chain = [part for part in body if part == bytes.fromhex("48 0f af c0")]
    assert len(body) - len(chain) < len(chain) * IMUL_LATENCY


def test_instructions_belong_to_their_paths() -> None:
    lanes = {"fp32_avx2": 8, "fp32_avx512": 16, "int8_vnni": 64, "bf16_avx512": 32}
    for path, instruction in INSTRUCTIONS.items():
        assert instruction.operations == 2 * lanes[path]


def measurable() -> bool:
    return Path("/proc/cpuinfo").exists() and "avx2" in capabilities_of(detect_host().flags)


@pytest.mark.skipif(not measurable(), reason="the machine has no AVX2")
def test_the_machine_is_measured() -> None:
    try:
        found = probe(1.0)
    except TargetError as error:
        pytest.skip(error.message)
    capabilities = capabilities_of(found.host.flags)
    assert list(found.paths) == [p for p in INSTRUCTIONS if PATH_NEEDS[p] in capabilities]
    for path, measured in found.paths.items():
        # No x86-64 server clocks below or above this, even as a busy virtual machine.
        assert 0.5 < measured.ghz < 7
        # One unit or two. Rate and clock are each the best of many slices; where a busy machine
        # disturbs all of one, their ratio is off by as much: half leaves room for that.
        per_unit = INSTRUCTIONS[path].operations
        assert 0.5 * per_unit <= measured.ops_per_cycle <= 1.5 * 2 * per_unit


@pytest.fixture
def spr() -> Probe:
    host = detect_host(FIXTURES / "sapphirerapids.txt")
    paths: dict[ComputePath, Measured] = {
        "fp32_avx2": Measured(3.01, 32.0),
        "fp32_avx512": Measured(2.404, 64.1),
        "int8_vnni": Measured(2.41, 255.7),
        "bf16_avx512": Measured(2.4, 127.96),
    }
    return Probe(host, 3.1, paths)


def test_a_descriptor_holds_what_the_target_did_not_know(spr: Probe, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    write_descriptor(spr, file)
    target, base = load_target(file), load_target("spr")
    assert target.id == "sapphirerapids-measured"
    assert target.frequency.avx512_ghz.value == 2.4
    assert target.frequency.avx512_ghz.source == (
        "measured with optc targets probe on Intel(R) Xeon(R) Platinum 8480+"
    )
    assert target.compute.ops_per_cycle["bf16_avx512"].value == 128.0
    # What the target knows from better sources stays.
    assert target.compute.ops_per_cycle["int8_vnni"] == base.compute.ops_per_cycle["int8_vnni"]
    assert target.compute.fma512_units == base.compute.fma512_units
    assert target.frequency.amx_ghz == base.frequency.amx_ghz


def test_half_the_rate_is_a_core_with_one_unit(spr: Probe, tmp_path: Path) -> None:
    paths = {**spr.paths, "fp32_avx512": Measured(2.4, 32.2)}
    file = tmp_path / "mine.yaml"
    write_descriptor(dataclasses.replace(spr, paths=paths), file)
    assert load_target(file).compute.fma512_units.value == 1


@pytest.mark.parametrize("fixture", ["zen4", "cascadelake-fake-stepping", "haswell"])
def test_a_machine_that_is_no_target_gets_no_descriptor(fixture: str, tmp_path: Path) -> None:
    found = Probe(detect_host(FIXTURES / f"{fixture}.txt"), 3.0, {})
    with pytest.raises(TargetError) as caught:
        write_descriptor(found, tmp_path / "mine.yaml")
    assert caught.value.code == "probe-no-target"
    assert caught.value.hint == "use the measured clock with `--ghz`"
    assert not (tmp_path / "mine.yaml").exists()


def test_a_file_that_cannot_be_written_is_an_error_with_its_path(
    spr: Probe, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="mine") as caught:
        write_descriptor(spr, tmp_path / "none" / "mine.yaml")
    assert caught.value.code == "output-unwritable"


def test_measurements_are_text_and_data(spr: Probe) -> None:
    lines = spr.describe().splitlines()
    assert lines[1] == "scalar code: 3.10 GHz"
    assert lines[3] == (
        "fp32_avx512: 2.40 GHz, 64.1 operations per cycle and core (VFMADD231PS zmm)"
    )
    assert lines[-1] == "AMX is not measured"
    assert spr.to_dict()["paths"] == {
        "fp32_avx2": {"ghz": 3.01, "ops_per_cycle": 32.0},
        "fp32_avx512": {"ghz": 2.4, "ops_per_cycle": 64.1},
        "int8_vnni": {"ghz": 2.41, "ops_per_cycle": 255.7},
        "bf16_avx512": {"ghz": 2.4, "ops_per_cycle": 128.0},
    }
