"""What a CPU must have for an artefact, and what makes it fast."""

from __future__ import annotations

import pytest

from optc.launch.needs import needs_of, tile_flags, used_precisions
from optc.targets import Precision, load_runtime, load_target


def flags(target: str, runtime: str, *precisions: Precision) -> list[tuple[str, ...]]:
    found = needs_of(load_target(target), load_runtime(runtime), precisions)
    return [need.any_of for need in found]


@pytest.mark.parametrize(
    ("target", "runtime", "precisions", "expected"),
    [
        ("clx", "onnxruntime", ("fp32",), [("sse2",)]),
        ("spr", "openvino", ("fp32",), [("sse4_1",)]),
        ("spr", "openvino", ("bf16", "fp32"), [("sse4_1",), ("avx512_bf16",)]),
        (
            "clx",
            "onnxruntime",
            ("fp32", "int8"),
            [("sse2",), ("avx2",), ("avx512_vnni", "avx_vnni")],
        ),
        ("icx", "openvino", ("int8",), [("sse4_1",), ("avx2",), ("avx512_vnni", "avx_vnni")]),
    ],
)
def test_needed_flags(
    target: str, runtime: str, precisions: tuple[Precision, ...], expected: list[tuple[str, ...]]
) -> None:
    assert flags(target, runtime, *precisions) == expected


def test_int8_for_a_target_without_vnni_needs_none() -> None:
    target = load_target("clx")
    bare = target.isa.model_copy(
        update={"flags": tuple(f for f in target.isa.flags if "vnni" not in f)}
    )
    found = needs_of(target.model_copy(update={"isa": bare}), load_runtime("onnxruntime"), ["int8"])
    assert [need.any_of for need in found] == [("sse2",), ("avx2",)]


@pytest.mark.parametrize(
    ("target", "runtime", "precisions", "expected"),
    [
        ("spr", "onnxruntime", ("fp32",), ()),
        ("spr", "onnxruntime", ("int8",), ("amx_tile", "amx_int8")),
        ("spr", "onnxruntime", ("bf16",), ()),  # has no bf16 kernels
        ("spr", "openvino", ("int8", "bf16"), ("amx_tile", "amx_int8", "amx_bf16")),
        ("icx", "openvino", ("int8", "bf16"), ()),
    ],
)
def test_tile_flags(
    target: str, runtime: str, precisions: tuple[Precision, ...], expected: tuple[str, ...]
) -> None:
    assert tile_flags(load_target(target), load_runtime(runtime), precisions) == expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"Conv": {"fp32": 3}, "Shape": {"other": 1}}, {"fp32"}),
        ({"Conv": {"int8": 3, "fp32": 1}}, {"fp32", "int8"}),
        ({"Conv": {"fp32": 3}, "QuantizeLinear": {"other": 4}}, {"fp32", "int8"}),
        ({"com.microsoft.QuantizeLinear": {"other": 4}}, {"int8"}),
        # Weights that are only stored in 8 bits are multiplied in fp32.
        ({"MatMul": {"fp32": 3}, "DequantizeLinear": {"fp32": 3}}, {"fp32"}),
        ({"Gemm": {"bf16": 1, "fp64": 1}}, {"bf16"}),
    ],
)
def test_the_precisions_of_a_model_follow_from_its_report(
    counts: dict[str, dict[str, int]], expected: set[str]
) -> None:
    assert used_precisions(counts) == expected
