"""The shipped CPU descriptors: complete, sourced, and consistent with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

import optc.targets
from optc.targets import CAPABILITIES, Fact, load_runtime, load_target, runtime_names, target_names
from optc.targets.fact import Descriptor
from optc.targets.model import Target
from optc.targets.paths import PATH_NEEDS, VECTOR_PATHS, vector_rate

FOLDER = Path(optc.targets.__file__).parent

VECTORS = {"avx2", "avx512", "avx512_vnni", "vnni"}
TILES = {"bf16", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx", "amx_int8", "amx_bf16"}
EXPECTED_CAPABILITIES = {
    "skylake": {"avx2", "avx512"},
    "cascadelake": VECTORS,
    "cooperlake": VECTORS | {"bf16", "avx512_bf16"},
    "icelake": VECTORS,
    "sapphirerapids": VECTORS | TILES,
    "emeraldrapids": VECTORS | TILES,
}


def facts(value: object, path: str = "") -> Iterator[tuple[str, Fact[object]]]:
    if isinstance(value, Fact):
        yield path, value
    elif isinstance(value, Descriptor):
        for name in type(value).model_fields:
            yield from facts(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from facts(item, f"{path}.{name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from facts(item, f"{path}[{index}]")


def bare_numbers(value: object, path: str = "") -> Iterator[str]:
    """Paths of numbers that are not inside a fact."""
    if isinstance(value, Descriptor) and not isinstance(value, Fact):
        for name in type(value).model_fields:
            yield from bare_numbers(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from bare_numbers(item, f"{path}.{name}")
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from bare_numbers(item, f"{path}[{index}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def test_every_descriptor_file_is_registered_and_carries_its_own_name() -> None:
    assert sorted(p.stem for p in (FOLDER / "cpus").iterdir()) == sorted(target_names())
    assert sorted(p.stem for p in (FOLDER / "runtimes").iterdir()) == sorted(runtime_names())
    assert [load_target(name).id for name in target_names()] == list(target_names())
    assert [load_target(name).name for name in target_names()] == list(target_names())
    assert [load_runtime(name).id for name in runtime_names()] == list(runtime_names())


@pytest.mark.parametrize("name", target_names())
def test_every_number_outside_the_cpuid_block_is_a_sourced_fact(name: str) -> None:
    target = load_target(name)
    outside = [
        path
        for path in bare_numbers(target)
        if not path.startswith((".identification.", ".schema_version"))
    ]
    assert outside == []
    assert target.identification.source
    for path, fact in facts(target):
        if fact.value is None:
            assert fact.note, path
        else:
            assert fact.source, path


@pytest.mark.parametrize("name", target_names())
def test_sources_are_titles_that_a_reader_can_look_up(name: str) -> None:
    text = (FOLDER / "cpus" / f"{name}.yaml").read_text(encoding="utf-8")
    assert not re.search(r"\bS\d:|\[H\]|\b(AMXR|DNN|OVd|XST)\b", text)
    for _, fact in facts(load_target(name)):
        assert fact.source is None or len(fact.source) >= 8


@pytest.mark.parametrize("name", target_names())
def test_peak_bandwidth_is_channels_times_rate_times_eight_bytes(name: str) -> None:
    memory = load_target(name).memory
    channels, rate, peak = memory.channels.value, memory.mts_1dpc.value, memory.peak_gbps.value
    assert channels is not None
    assert rate is not None
    # The data sheets round to 0.1 GB/s.
    assert peak == pytest.approx(channels * rate * 8 / 1000, abs=0.05)


@pytest.mark.parametrize("name", target_names())
def test_last_level_cache_of_the_largest_part_is_cores_times_slice(name: str) -> None:
    target = load_target(name)
    cores, slice_kib = (
        target.topology.max_cores_per_socket.value,
        target.caches.l3_kib_per_core.value,
    )
    assert cores is not None
    assert slice_kib is not None
    assert target.caches.l3_mib_max.value == pytest.approx(cores * slice_kib / 1024)


@pytest.mark.parametrize("name", target_names())
def test_vector_throughput_follows_from_the_number_of_units(name: str) -> None:
    compute = load_target(name).compute
    units = compute.fma512_units.value
    assert units is not None
    for path, fact in compute.ops_per_cycle.items():
        if path in VECTOR_PATHS and fact.value is not None:
            bits, instructions = VECTOR_PATHS[path]
            # Rates are written with two decimals.
            assert fact.value == pytest.approx(vector_rate(units, bits, instructions), abs=0.005)


def test_peak_formula_gives_the_known_rates() -> None:
    assert vector_rate(2, 32) == 64
    assert vector_rate(2, 8) == 256
    assert vector_rate(2, 8, 3) == pytest.approx(85.33, abs=0.005)
    assert vector_rate(1, 16) == 64


@pytest.mark.parametrize("name", target_names())
def test_capabilities_follow_from_the_flags(name: str) -> None:
    assert load_target(name).capabilities == EXPECTED_CAPABILITIES[name]
    assert load_target(name).capabilities <= set(CAPABILITIES)


def test_third_generation_is_two_targets_and_only_one_has_bf16() -> None:
    cooper, ice = load_target("cooperlake"), load_target("icelake")
    assert "3rd Gen" in cooper.names.brand
    assert "3rd Gen" in ice.names.brand
    assert "bf16" in cooper.capabilities
    assert "bf16" not in ice.capabilities


def test_every_target_extends_the_lowest_and_the_highest_has_all() -> None:
    sets = {name: set(load_target(name).isa.flags) for name in target_names()}
    assert all(sets["skylake"] <= flags for flags in sets.values())
    assert all(flags <= sets["sapphirerapids"] for flags in sets.values())
    assert sets["emeraldrapids"] == sets["sapphirerapids"]
    by_rank = sorted(target_names(), key=lambda name: load_target(name).rank)
    assert by_rank == [
        "skylake",
        "cascadelake",
        "icelake",
        "cooperlake",
        "sapphirerapids",
        "emeraldrapids",
    ]


def test_names_and_cpuid_values_are_unambiguous() -> None:
    targets = [load_target(name) for name in target_names()]
    words = [word for target in targets for word in (target.id, *target.aliases)]
    assert len(words) == len(set(words))
    cpuids = [
        (target.identification.family, known.model, stepping)
        for target in targets
        for known in target.identification.models
        for stepping in known.steppings
    ]
    assert len(cpuids) == len(set(cpuids))


@pytest.mark.parametrize("name", target_names())
def test_every_runtime_runs_fp32_on_every_target(name: str) -> None:
    flags = set(load_target(name).isa.flags)
    for runtime in runtime_names():
        assert set(load_runtime(runtime).precisions["fp32"].baseline_flags) <= flags


def test_compute_paths_name_known_capabilities() -> None:
    assert set(PATH_NEEDS.values()) <= set(CAPABILITIES)


def test_unknown_numbers_are_shown_with_their_reason() -> None:
    lines = load_target("spr").describe().splitlines()
    unknown = [line.strip() for line in lines if "unknown:" in line]
    assert (
        "bf16_avx512  unknown: between 32 (LLVM scheduling model) and 128 (as on Cooper Lake); "
        "AMX is used instead"
    ) in unknown
    assert len(unknown) == sum(1 for _, fact in facts(load_target("spr")) if fact.value is None)
    assert "  l2_kib           2048  [ComputerBase report on Sapphire Rapids; high]" in lines


def test_description_starts_with_names_and_capabilities() -> None:
    head = load_target("clx").describe().splitlines()[:3]
    assert head == [
        "Cascade Lake (2nd Gen Intel Xeon Scalable)",
        "capabilities: avx2, avx512, avx512_vnni, vnni",
        "",
    ]


def test_only_the_baseline_saturates_in_int8() -> None:
    saturating = [
        name for name in target_names() if load_target(name).numerics.int8_saturates_int16.value
    ]
    assert saturating == ["skylake"]


def test_conflicting_advice_names_its_generation_and_source() -> None:
    said: dict[str, set[tuple[str, str]]] = {}
    for name in target_names():
        for entry in load_target(name).advice:
            said.setdefault(entry.topic, set()).add((entry.generation, entry.advice))
            assert entry.source
    assert ("Ice Lake", "enabled in the BIOS") in said["hyper-threading"]
    assert ("Sapphire Rapids", "disabled in the BIOS") in said["hyper-threading"]


def test_identity_changes_when_any_fact_changes() -> None:
    target = load_target("clx")
    assert re.fullmatch(r"cascadelake@[0-9a-f]{12}", target.identity)
    data = target.model_dump()
    data["memory"]["channels"]["note"] = "other"
    assert Target.model_validate(data).identity != target.identity
    assert Target.model_validate(target.model_dump()).identity == target.identity


def test_dictionary_form_holds_capabilities_and_reads_back() -> None:
    data = load_target("spr").to_dict()
    assert data["capabilities"] == sorted(EXPECTED_CAPABILITIES["sapphirerapids"])
    assert data["identity"] == load_target("spr").identity
    derived = {"identity", "capabilities", "extensions"}
    rest = {key: value for key, value in data.items() if key not in derived}
    assert Target.model_validate(rest) == load_target("spr")


def test_descriptors_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_target("clx").id = "other"


@pytest.mark.parametrize(
    ("fact", "reason"),
    [
        ({"value": 6, "confidence": "high"}, "a known value needs its source"),
        (
            {"value": None, "confidence": "low"},
            "an unknown value (null) needs a note that says why it is unknown",
        ),
        (
            {"value": None, "confidence": "high", "note": "not published"},
            "an unknown value (null) has confidence: low",
        ),
        ({"value": 6, "source": " ", "confidence": "high"}, "at least 1 character"),
        ({"value": True, "source": "a document", "confidence": "high"}, "valid integer"),
        ({"value": "6", "source": "a document", "confidence": "high"}, "valid integer"),
        ({"value": 0, "source": "a document", "confidence": "high"}, "greater than 0"),
        ({"value": 6, "source": "a document", "confidence": "sure"}, "'high', 'medium' or 'low'"),
    ],
)
def test_facts_without_evidence_are_refused(fact: dict[str, object], reason: str) -> None:
    data = load_target("clx").model_dump()
    data["memory"]["channels"] = fact
    with pytest.raises(ValidationError, match=re.escape(reason)):
        Target.model_validate(data)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"compute": {"ops_per_cycle": {"int8_amx": None}}}, "int8_amx: the target has amx_int8"),
        ({"amx_tile": None}, "amx_tile: the target has amx"),
        ({"numerics": {"bf16_rounding": None}}, "bf16_rounding: the target has bf16"),
        ({"frequency": {"amx_ghz": None}}, "frequency.amx_ghz: the target has amx"),
    ],
)
def test_numbers_must_be_there_for_hardware_that_is_there(
    edit: dict[str, object], reason: str
) -> None:
    data = load_target("spr").model_dump()
    for section, change in edit.items():
        if not isinstance(change, dict):
            data[section] = change
        elif section == "compute":
            del data["compute"]["ops_per_cycle"]["int8_amx"]
        else:
            data[section].update(change)
    with pytest.raises(ValidationError, match=re.escape(reason)):
        Target.model_validate(data)


def test_numbers_for_hardware_that_is_not_there_are_refused() -> None:
    data = load_target("clx").model_dump()
    data["compute"]["ops_per_cycle"]["bf16_avx512"] = data["compute"]["ops_per_cycle"]["fp32_avx2"]
    with pytest.raises(ValidationError, match="bf16_avx512: the target lacks avx512_bf16"):
        Target.model_validate(data)
    data = load_target("clx").model_dump()
    data["software"][0]["capability"] = "amx"
    with pytest.raises(ValidationError, match="software: the target lacks amx"):
        Target.model_validate(data)


@pytest.mark.parametrize(
    ("section", "name", "value", "reason"),
    [
        ("memory", "peak_gbps", 140.0, "peak_gbps: 140.0 is not 6 channels x 2933 MT/s x 8 bytes"),
        (
            "compute",
            "fp32_avx512",
            128.0,
            "ops_per_cycle.fp32_avx512: 128 is more than two 512-bit units can do (64)",
        ),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(
    section: str, name: str, value: float, reason: str
) -> None:
    data = load_target("clx").model_dump()
    holder = data["compute"]["ops_per_cycle"] if section == "compute" else data[section]
    holder[name] = {"value": value, "source": "a document", "confidence": "high"}
    with pytest.raises(ValidationError, match=re.escape(reason)):
        Target.model_validate(data)
