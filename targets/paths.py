"""Compute paths: the kinds of arithmetic whose peak a descriptor states.

A path is an element type on an execution unit, e.g. int8 by VNNI on the 512-bit vector units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from optc.targets.capabilities import Precision

ComputePath = Literal[
    "fp32_avx2",
    "fp32_avx512",
    "int8_avx512",
    "int8_vnni",
    "bf16_avx512",
    "fp16_avx512",
    "bf16_amx",
    "int8_amx",
]
PATH_NEEDS: dict[ComputePath, str] = {
    "fp32_avx2": "avx2",
    "fp32_avx512": "avx512",
    "int8_avx512": "avx512",
    "int8_vnni": "avx512_vnni",
    "bf16_avx512": "avx512_bf16",
    "fp16_avx512": "avx512_fp16",
    "bf16_amx": "amx_bf16",
    "int8_amx": "amx_int8",
}
"""The capability behind each compute path; a descriptor lists exactly the paths it has."""

VECTOR_PATHS: dict[ComputePath, tuple[int, int]] = {
    "fp32_avx512": (32, 1),
    "int8_avx512": (8, 3),
    "int8_vnni": (8, 1),
    "bf16_avx512": (16, 1),
    "fp16_avx512": (16, 1),
}
"""Paths on the 512-bit FMA units: bits of an element, instructions for one multiply-add."""

PATHS_BY_PRECISION: dict[Precision, tuple[ComputePath, ...]] = {
    "fp32": ("fp32_avx512", "fp32_avx2"),
    "fp16": ("fp16_avx512",),
    "bf16": ("bf16_amx", "bf16_avx512"),
    "int8": ("int8_amx", "int8_vnni", "int8_avx512"),
}
"""Compute paths of a precision, the fastest first."""

PRECISION_NEEDS: dict[Precision, str] = {
    "fp32": "avx2",
    "fp16": "avx512_fp16",
    "bf16": "bf16",
    "int8": "avx512",
}
"""The weakest capability that gives a path of the precision."""


def vector_rate(units: int, bits: int, instructions: int = 1) -> float:
    """Operations per cycle and core: FMA units x 2 x 512 / bits.

    int8 without VNNI takes three instructions (multiply, widen, add) and so a third of it.

    Source: Intel, Intel Processors for Deep Learning Training (2017), for fp32; the division by
    three is confirmed by measurement (1.33 x fp32 on Cascade Lake).
    """
    return units * 2 * 512 / bits / instructions
