"""How numbers, strings, types, tensors and attributes are written."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optc.ir import (
    Attr,
    AttrKind,
    Dim,
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensor,
    SparseTensorType,
    Tensor,
    TensorType,
    Type,
)
from optc.ir.literals import (
    format_attribute,
    format_bytes,
    format_elements,
    format_float,
    format_name,
    format_sparse,
    format_tensor,
    format_type,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.10000000149011612, "0.1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e-5, "1e-05"),
        (16777216.0, "16777216.0"),
        (1e20, "1e+20"),
        (3.4028234663852886e38, "3.4028235e+38"),
        (1.401298464324817e-45, "1e-45"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
)
def test_floats_are_the_shortest_that_give_the_float32_back(value: float, text: str) -> None:
    assert format_float(value) == text


@given(st.floats(width=32, allow_nan=False))
def test_printed_floats_lose_nothing(value: float) -> None:
    text = format_float(value)
    assert np.float32(text).tobytes() == np.float32(value).tobytes()


@given(st.integers(0, 2**16 - 1))
def test_printed_bfloat16_loses_nothing(bits: int) -> None:
    array = np.array([bits], np.uint16).view(ml_dtypes.bfloat16)
    if not np.isnan(array.astype(np.float32)).any():
        (text,) = format_elements(array, DType.BF16)
        assert ml_dtypes.bfloat16(float(text)).tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (DType.BOOL, [True, False], ["true", "false"]),
        (DType.I64, [-(2**63), 2**63 - 1], ["-9223372036854775808", "9223372036854775807"]),
        (DType.U8, [0, 255], ["0", "255"]),
        (DType.I4, [-8, 7], ["-8", "7"]),
        (DType.U2, [0, 3], ["0", "3"]),
        (DType.F16, [0.1, 65504], ["0.1", "65504.0"]),
        (DType.BF16, [0.1, 3.0], ["0.1", "3.0"]),
        (DType.F64, [0.1, 1 / 3], ["0.1", "0.3333333333333333"]),
        (DType.F8E4M3FN, [0.1, 448], ["0.1", "448.0"]),
        (DType.F4E2M1, [0.5, -6], ["0.5", "-6.0"]),
        (DType.C64, [1 + 2j, -0.1 - 0.5j], ["1.0+2.0j", "-0.1-0.5j"]),
        (DType.C128, [complex(0, math.inf)], ["0.0+infj"]),
    ],
)
def test_elements(dtype: DType, values: list[complex], expected: list[str]) -> None:
    array = np.array(values).astype(dtype.numpy)
    assert format_elements(array, dtype) == expected


def test_nans_with_other_bits_are_told_apart() -> None:
    array = np.array([0x7FC00000, 0xFFC00000, 0x7FC00001], np.uint32).view(np.float32)
    assert format_elements(array, DType.F32) == ["nan", "nan:0xffc00000", "nan:0x7fc00001"]


def test_print_options_of_numpy_do_not_matter() -> None:
    tensor = Tensor.from_numpy(np.array([0.1, 1e10], np.float32))
    with np.printoptions(precision=1, suppress=True, floatmode="fixed"):
        assert format_tensor(tensor) == "f32[2] {0.1, 1e+10}".replace("1e+10", "10000000000.0")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"NOTSET", '"NOTSET"'),
        (b'a"b\\c\n', '"a\\"b\\\\c\\n"'),
        ("größe 尺寸".encode(), '"größe 尺寸"'),
        ("\u202e\x7f".encode(), '"\\u202e\\u007f"'),
        (b"\xff\x00", 'b"\\xff\\x00"'),
        (b"", '""'),
        (b"x" * 256, '"' + "x" * 256 + '"'),
        (b"x" * 257, "bytes[257] sha256:"),
    ],
)
def test_strings(data: bytes, text: str) -> None:
    assert format_bytes(data).startswith(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conv1", "conv1"),
        ("/model/conv.0/Conv_output_0", "/model/conv.0/Conv_output_0"),
        ("input.1:0", "input.1:0"),
        ("12", '"12"'),
        ("1x", '"1x"'),
        ("", '""'),
        ("a b", '"a b"'),
        ("a,b", '"a,b"'),
        ("尺寸", '"尺寸"'),
    ],
)
def test_names_that_could_be_misread_are_quoted(name: str, text: str) -> None:
    assert format_name(name) == text


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (3, "3"),
        (None, "?"),
        ("N", "N"),
        ("2*N + 1", "2*N + 1"),
        ("floor((H + 1)/2)", '"floor((H + 1)/2)"'),
        ("a,b", '"a,b"'),
        ("?", '"?"'),
        ("3", '"3"'),
        ("-1", '"-1"'),
        ("", '""'),
    ],
)
def test_dimensions(dim: Dim, text: str) -> None:
    assert format_type(TensorType(DType.F32, (dim,))) == f"f32[{text}]"


@pytest.mark.parametrize(
    ("type", "text"),
    [
        (None, "?"),
        (TensorType(DType.F32), "f32[*]"),
        (TensorType(DType.I64, ()), "i64[]"),
        (TensorType(DType.UNDEFINED, (1,)), "?[1]"),
        (SequenceType(TensorType(DType.F32, ("N",))), "seq(f32[N])"),
        (OptionalType(SequenceType(None)), "optional(seq(?))"),
        (MapType(DType.I64, TensorType(DType.F32)), "map(i64, f32[*])"),
        (SparseTensorType(DType.F32, (3, 4)), "sparse(f32[3,4])"),
        (OpaqueType("d", "n"), "opaque(d, n)"),
    ],
)
def test_types(type: Type | None, text: str) -> None:
    assert format_type(type) == text


def test_tensors_of_eight_elements_are_printed_and_larger_ones_digested() -> None:
    eight = Tensor.from_numpy(np.arange(8).reshape(2, 4))
    nine = Tensor.from_numpy(np.arange(9, dtype=np.float32))
    assert format_tensor(eight) == "i64[2,4] {0, 1, 2, 3, 4, 5, 6, 7}"
    assert format_tensor(nine) == f"f32[9] sha256:{nine.digest[:8]}"
    assert format_tensor(nine, weights=False) == "f32[9]"
    assert format_tensor(eight, weights=False) == format_tensor(eight)
    assert format_tensor(Tensor.from_numpy(np.float32(3))) == "f32[] {3.0}"
    assert format_tensor(Tensor.from_numpy(np.zeros((0, 3), np.float32))) == "f32[0,3] {}"
    assert format_tensor(Tensor.from_strings([b"a", b"\xff"], (2,))) == 'str[2] {"a", b"\\xff"}'


def test_sparse_tensors_show_values_and_indices() -> None:
    sparse = SparseTensor(
        Tensor.from_numpy([1.5, 2.0], DType.F32), Tensor.from_numpy([1, 7], DType.I64), (3, 4)
    )
    text = "sparse(f32[3,4]) values f32[2] {1.5, 2.0} indices i64[2] {1, 7}"
    assert format_sparse(sparse) == text
    assert format_attribute(Attr(AttrKind.SPARSE_TENSOR, sparse)) == text
    assert format_attribute(Attr(AttrKind.SPARSE_TENSORS, (sparse,))) == f"[{text}]"


@pytest.mark.parametrize(
    ("attribute", "text"),
    [
        (Attr(AttrKind.INT, 3), "3"),
        (Attr(AttrKind.FLOAT, 3.0), "3.0"),
        (Attr(AttrKind.STRING, b"linear"), '"linear"'),
        (Attr(AttrKind.INTS, (1, -1)), "[1, -1]"),
        (Attr(AttrKind.FLOATS, (1.0, 0.5)), "[1.0, 0.5]"),
        (Attr(AttrKind.STRINGS, (b"a", b"b")), '["a", "b"]'),
        (Attr(AttrKind.INTS, ()), "ints[]"),
        (Attr(AttrKind.FLOATS, ()), "floats[]"),
        (Attr(AttrKind.STRINGS, ()), "strings[]"),
        (Attr(AttrKind.TENSOR, Tensor.from_numpy([1, 2])), "i64[2] {1, 2}"),
        (Attr(AttrKind.TENSORS, (Tensor.from_numpy([1]),)), "[i64[1] {1}]"),
        (Attr(AttrKind.TYPE, TensorType(DType.F32, (1,))), "type f32[1]"),
        (Attr(AttrKind.TYPES, (None,)), "[?]"),
        (Attr(AttrKind.FLOAT, None, ref="alpha"), "@alpha"),
        (Attr(AttrKind.INTS, tuple(range(65))), "ints[65] sha256:"),
    ],
)
def test_attributes(attribute: Attr, text: str) -> None:
    shown = format_attribute(attribute)
    assert shown.startswith(text)
    assert shown == text or text.endswith("sha256:")


def test_numbers_of_element_types_are_shown_as_types() -> None:
    assert format_attribute(Attr(AttrKind.INT, 16), "to") == "bf16"
    assert format_attribute(Attr(AttrKind.INT, 16), "axis") == "16"
    assert format_attribute(Attr(AttrKind.INT, 0), "output_dtype") == "0"
    assert format_attribute(Attr(AttrKind.INT, 99), "to") == "99"


def test_subgraphs_are_no_literals() -> None:
    with pytest.raises(ValueError, match="GRAPH holds subgraphs"):
        format_attribute(Attr(AttrKind.GRAPH, None))
