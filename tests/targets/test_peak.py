"""Peak arithmetic: rates of paths, corrected, times cores and clock."""

from __future__ import annotations

from typing import Any

import pytest

from optc.errors import TargetError
from optc.targets import load_target
from optc.targets.model import Target
from optc.targets.paths import PATH_NEEDS, PATHS_BY_PRECISION, ComputePath
from optc.targets.peak import best_path, peak, rate


def changed(name: str, **sections: dict[str, Any]) -> Target:
    data = load_target(name).model_dump()
    for section, change in sections.items():
        data[section].update(change)
    return Target.model_validate(data)


def fact(value: float | None) -> dict[str, object]:
    if value is None:
        return {"value": None, "confidence": "low", "note": "not told"}
    return {"value": value, "source": "a data sheet", "confidence": "medium"}


@pytest.mark.parametrize(
    ("target", "path", "cores", "ghz", "gops"),
    [
        # 8180: 28 cores x 64 x 1.99 GHz, which Intel's SGEMM reached (3.57 TFLOPS).
        ("skx", "fp32_avx512", 28, 1.99, 3566.08),
        # 8480 at 2.0 GHz: 28.7 TOPS by VNNI, 114.7 and 229.4 T(FL)OPS by AMX.
        ("spr", "int8_vnni", 56, 2.0, 28672),
        ("spr", "bf16_amx", 56, 2.0, 114688),
        ("spr", "int8_amx", 56, 2.0, 229376),
    ],
)
def test_peaks_of_known_machines(
    target: str, path: ComputePath, cores: int, ghz: float, gops: float
) -> None:
    assert peak(load_target(target), path, cores=cores, ghz=ghz).gops == pytest.approx(gops)


def test_one_vector_unit_halves_the_wide_paths_only() -> None:
    target = changed("clx", compute={"fma512_units": fact(1)})
    assert rate(target, "fp32_avx512").value == 32
    assert rate(target, "int8_vnni").value == 128
    assert rate(target, "fp32_avx2").value == 32
    halved = rate(target, "int8_vnni")
    assert halved.confidence == "medium"  # the weaker of the two facts
    assert halved.source is not None
    assert halved.source.startswith("derived: 256 x 1 of 2 units (measured on a Cascade Lake")


def test_amx_does_not_depend_on_the_vector_units() -> None:
    assert rate(changed("spr", compute={"fma512_units": fact(1)}), "int8_amx").value == 2048


def test_an_unknown_number_of_units_makes_the_rate_unknown_with_the_reason() -> None:
    unknown = rate(changed("clx", compute={"fma512_units": fact(None)}), "fp32_avx512")
    assert unknown.value is None
    assert unknown.note == "512-bit units: not told"


def test_an_unknown_rate_or_clock_is_never_filled_in() -> None:
    target = load_target("spr")
    assert peak(target, "bf16_avx512", ghz=2.0).gops is None
    assert peak(target, "bf16_avx512", ghz=2.0).describe().startswith("unknown: between 32")
    assert peak(target, "int8_amx").gops is None
    assert peak(target, "int8_amx").ghz.note == (
        "depends on the SKU and the licence level; no table found"
    )
    assert peak(target, "fp32_avx2").ghz.note == "no clock under 256-bit multiply-adds is kept"


def test_each_path_has_the_clock_of_its_unit() -> None:
    target = changed("spr", frequency={"avx512_ghz": fact(2.4), "amx_ghz": fact(1.9)})
    assert peak(target, "int8_vnni").ghz.value == 2.4
    assert peak(target, "int8_amx").ghz.value == 1.9
    assert peak(target, "fp32_avx2").ghz.value is None
    assert peak(target, "int8_amx", ghz=2.0).ghz.value == 2.0


def test_the_line_for_people_gives_source_and_total() -> None:
    assert peak(load_target("spr"), "int8_amx", cores=4, ghz=2.0).describe() == (
        "2048 operations per cycle and core [PyTorch tutorial on Intel AMX; high]; "
        "1.638e+04 GOPS on 4 cores at 2 GHz"
    )


@pytest.mark.parametrize(
    ("target", "best"),
    [
        ("skx", ("fp32_avx512", None, "int8_avx512")),
        ("clx", ("fp32_avx512", None, "int8_vnni")),
        ("cpx", ("fp32_avx512", "bf16_avx512", "int8_vnni")),
        ("spr", ("fp32_avx512", "bf16_amx", "int8_amx")),
    ],
)
def test_the_best_path_follows_the_capabilities(target: str, best: tuple[str | None, ...]) -> None:
    capabilities = load_target(target).capabilities
    assert tuple(best_path(name, capabilities) for name in ("fp32", "bf16", "int8")) == best


def test_every_path_belongs_to_one_precision() -> None:
    listed = [path for paths in PATHS_BY_PRECISION.values() for path in paths]
    assert sorted(listed) == sorted(PATH_NEEDS)


@pytest.mark.parametrize(("cores", "ghz"), [(0, 2.0), (1, 0.0), (1, -1.0)])
def test_cores_and_clock_must_be_positive(cores: int, ghz: float) -> None:
    with pytest.raises(TargetError, match="cores and clock must be positive"):
        peak(load_target("clx"), "fp32_avx512", cores=cores, ghz=ghz)
