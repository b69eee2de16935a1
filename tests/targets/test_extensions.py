"""Instruction set extensions and the kernel names that prove them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from optc.targets import CAPABILITIES, load_target
from optc.targets.extensions import ExtensionTable
from optc.targets.loading import shipped_extensions

ROWS = shipped_extensions().extensions


def test_every_capability_that_is_an_extension_has_a_row() -> None:
    assert set(CAPABILITIES) - set(ROWS) == {"vnni", "bf16"}  # umbrellas over several


@pytest.mark.parametrize(
    ("kernel", "onednn", "src", "wei", "proves"),
    [
        ("brg_conv_fwd:avx512_core", "3.13.0", "f32", "f32", {"avx512"}),
        ("jit:avx512_core", "1.6.0", "f32", "f32", {"avx512"}),
        ("brg_conv_fwd:avx512_core_vnni", "3.13.0", "u8", "s8", {"avx512_vnni"}),
        ("jit_int8:avx512_core_vnni", "2.7.3", "u8", "s8", {"avx512_vnni"}),
        ("brgemm:avx512_core_bf16", "3.13.0", "bf16", "bf16", {"avx512_bf16"}),
        ("jit_bf16:avx512_core", "3.13.0", "bf16", "bf16", {"avx512"}),  # the emulation
        ("brg:avx512_core_amx_int8", "2.7.0", "u8", "s8", {"amx_int8"}),
        ("jit:avx512_core_amx_bf16", "2.7.0", "bf16", "bf16", {"amx_bf16"}),
        ("jit:avx512_core_amx_bf16", "3.2.0", "bf16", "bf16", set()),
        ("brgconv:avx512_core_amx", "3.4.1", "u8", "s8", {"amx_int8"}),
        ("brgconv:avx512_core_amx", "3.4.1", "bf16", "bf16", {"amx_bf16"}),
        ("brg_matmul:avx10_1_512_amx", "3.5.0", "s8", "s8", {"amx_int8"}),
        ("brg_matmul:avx10_1_512_amx", "3.13.0", "bf16", "bf16", {"amx_bf16"}),
        ("brg_matmul:avx10_1_512_amx", "3.13.0", "", "", set()),  # the types decide
        ("gemm:jit", "3.13.0", "f32", "f32", set()),
        (
            "brg_deconv:avx512_core_vnni+brg_conv_fwd:avx512_core_vnni",
            "3.13.0",
            "s8",
            "s8",
            {"avx512_vnni"},
        ),
    ],
)
def test_a_name_proves_an_extension_only_in_its_versions_and_types(
    kernel: str, onednn: str, src: str, wei: str, proves: set[str]
) -> None:
    found = {name for name, row in ROWS.items() if row.proven_by(kernel, onednn, src, wei)}
    assert found == proves


def test_a_target_shows_the_extensions_it_has() -> None:
    assert list(load_target("skx").extensions) == ["avx2", "avx512"]
    assert list(load_target("spr").extensions) == list(ROWS)
    text = load_target("clx").describe()
    assert "  avx512_vnni\n    instructions  VPDPBUSD, VPDPBUSDS, VPDPWSSD, VPDPWSSDS\n" in text
    assert "TDPBUSD" not in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"openvino_name": "("}, "not a regular expression"),
        ({"instructions": []}, "needs at least one entry"),
    ],
)
def test_broken_rows_are_refused(change: dict[str, object], reason: str) -> None:
    data = shipped_extensions().model_dump()
    data["extensions"]["avx2"].update(change)
    with pytest.raises(ValidationError, match=reason):
        ExtensionTable.model_validate(data)


def test_a_row_for_no_capability_is_refused() -> None:
    data = shipped_extensions().model_dump()
    data["extensions"]["sse9"] = data["extensions"]["avx2"]
    with pytest.raises(ValidationError, match="there is no capability sse9"):
        ExtensionTable.model_validate(data)
