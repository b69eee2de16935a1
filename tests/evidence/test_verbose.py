"""Lines of ONEDNN_VERBOSE, as several versions of oneDNN print them."""

from __future__ import annotations

import pytest

from optc.evidence.verbose import Primitive, created_primitives, onednn_version

HEAD = "onednn_verbose,v1,info,oneDNN v3.13.0 (commit 1289c3b65dd6)"
CONV = (
    "onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,brg_conv_fwd:avx512_core_vnni,"
    "forward_inference,src:u8::blocked:acdb::f0 wei:s8:a:blocked:Acdb16a4b::f0 bia:undef::undef:::"
    " dst:u8::blocked:acdb::f0,attr-scratchpad:user attr-scales:wei:1:f32:1::,"
    "alg:convolution_direct,mb1_ic16oc32_ih32oh16kh3sh2dh0ph1_iw32ow16kw3sw2dw0pw1,0.0561523"
)
MATMUL = (
    "onednn_verbose,v1,primitive,create:cache_hit,cpu,matmul,brg_matmul:avx10_1_512_amx,undef,"
    "src:s8::blocked:abc::f0 wei:s8::blocked:abc::f0 dst:f32::blocked:abc::f0,"
    "attr-scratchpad:user,,2x8x64:2x64x32,0.01"
)
PRODUCT = (
    "onednn_verbose,v1,primitive,create:cache_miss,cpu,inner_product,x64:gemm_s8u8s32:jit,"
    "forward_inference,src:u8::blocked:ab::f0 wei:s8::blocked:ab::f0 bia:undef::undef::: "
    "dst:f32::blocked:ab::f0,attr-scratchpad:user,,mb4ic64oc10,0.02"
)
OLD = (
    "onednn_verbose,create:cache_miss,cpu,convolution,jit:avx512_core_amx_bf16,forward_inference,"
    "src_bf16:blocked:aBcd16b:f0 wei_bf16:blocked:ABcd16b16a2b:f0 dst_bf16:blocked:aBcd16b:f0,,"
    "alg:convolution_direct,mb1_ic64oc64_ih56oh56kh3,0.1"
)
EXECUTED = CONV.replace("create:cache_miss", "exec")
DISPATCH = "onednn_verbose,v1,primitive,create:dispatch,convolution,bad flags,jit.cpp:1,a,b,c,d"


def test_what_was_created_in_order() -> None:
    assert created_primitives([HEAD, CONV, DISPATCH, EXECUTED, MATMUL, "noise", PRODUCT]) == [
        Primitive("convolution", "brg_conv_fwd:avx512_core_vnni", "u8", "s8", 32 * 16 * 16),
        Primitive("matmul", "brg_matmul:avx10_1_512_amx", "s8", "s8", 2 * 8 * 32),
        Primitive("inner_product", "x64:gemm_s8u8s32:jit", "u8", "s8", 4 * 10),
    ]


def test_lines_before_version_3() -> None:
    (found,) = created_primitives([OLD])
    assert (found.kind, found.implementation) == ("convolution", "jit:avx512_core_amx_bf16")


def test_the_version() -> None:
    assert onednn_version([HEAD, CONV]) == "3.13.0"
    assert onednn_version(["oneDNN v1.0 in another line"]) is None


@pytest.mark.parametrize(
    ("line", "isa"), [(CONV, "avx512_vnni"), (MATMUL, "amx_int8"), (PRODUCT, None)]
)
def test_a_name_proves_an_instruction_set(line: str, isa: str | None) -> None:
    (found,) = created_primitives([line])
    assert found.isa("3.13.0") == isa


def test_a_truncated_line_is_no_primitive() -> None:
    assert created_primitives([CONV[:60], "onednn_verbose", ""]) == []
