"""raise-shuffles: pixel shuffles and their inverse, in the forms of exporters."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.raise_shuffles import RaiseShuffles


def _three(shapes: str, perm: str, first: str, second: str) -> str:
    data, result = shapes.split(" => ")
    return f"""
    g (float[{data}] x) => (float[{result}] y) <int64[6] s = {{{first}}}, int64[4] t = {{{second}}}>
    {{ a = Reshape (x, s) b = Transpose <perm = [{perm}]> (a) y = Reshape (b, t) }}
    """


REWRITES = {
    # PyTorch 2.13 (both exporters) of x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
    "channels to pixels, CRD": (
        _three("N,8,3,5 => N,2,6,10", "0,1,4,2,5,3", "-1,2,2,2,3,5", "-1,2,6,10"),
        """
        g (float[N,8,3,5] x) => (float[N,2,6,10] y)
        { y = DepthToSpace <blocksize = 2, mode = "CRD"> (x) }
        """,
    ),
    # PyTorch 2.13 of x.view(b, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
    "channels to pixels, DCR": (
        _three("1,8,3,5 => 1,2,6,10", "0,3,4,1,5,2", "1,2,2,2,3,5", "1,2,6,10"),
        """
        g (float[1,8,3,5] x) => (float[1,2,6,10] y)
        { y = DepthToSpace <blocksize = 2, mode = "DCR"> (x) }
        """,
    ),
    # PyTorch 2.13 of x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    "pixels to channels": (
        _three("N,2,6,9 => N,18,2,3", "0,3,5,1,2,4", "0,2,2,3,3,3", "0,18,2,3"),
        "g (float[N,2,6,9] x) => (float[N,18,2,3] y) { y = SpaceToDepth <blocksize = 3> (x) }",
    ),
}


@pytest.mark.parametrize(("before", "expected"), REWRITES.values(), ids=REWRITES)
def test_raises(before: str, expected: str) -> None:
    assert_rewrites(RaiseShuffles(), before, expected, typed=True)


def test_dcr_before_it_had_a_name() -> None:
    header = '<ir_version: 8, opset_import: ["" : 9]>'
    before = _three("1,8,3,5 => 1,2,6,10", "0,3,4,1,5,2", "1,2,2,2,3,5", "1,2,6,10")
    assert_rewrites(
        RaiseShuffles(),
        header + before,
        header
        + """
        g (float[1,8,3,5] x) => (float[1,2,6,10] y) { y = DepthToSpace <blocksize = 2> (x) }
        """,
        typed=True,
    )


# Small integers: sums of products are exact, in whatever order the channels are.
FEEDS = {"x": np.arange(2 * 4 * 6, dtype=np.float32).reshape(1, 2, 4, 6)}

_WEIGHT = "float[1,8,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8}"


def test_pixel_unshuffle_before_a_convolution() -> None:
    # PyTorch 2.13 (both exporters) of PixelUnshuffle(2) and Conv2d(8, 1, 1)
    assert_rewrites(
        RaiseShuffles(),
        f"""
        g (float[1,2,4,6] x) => (float[1,1,2,3] y)
        <{_WEIGHT}, int64[6] s = {{1,2,2,2,3,2}}, int64[4] t = {{1,8,2,3}}>
        {{
           a = Reshape (x, s)
           b = Transpose <perm = [0, 1, 3, 5, 2, 4]> (a)
           c = Reshape (b, t)
           y = Conv (c, w)
        }}
        """,
        """
        g (float[1,2,4,6] x) => (float[1,1,2,3] y)
        <float[1,8,1,1] w = {1, 5, 2, 6, 3, 7, 4, 8}>
        { c = SpaceToDepth <blocksize = 2> (x) y = Conv (c, w) }
        """,
        feeds=FEEDS,
        typed=True,
    )


def _focus(
    order: str = "00,10,01,11",
    weight: str = _WEIGHT,
    conv: str = "Conv (f, w)",
    *,
    end: str = "9223372036854775807",
    more: str = "",
    outs: str = "",
    axis: int = 1,
) -> str:
    starts = [item.strip() for item in order.split(",")]
    constants = "".join(
        f", int64[2] s{i} = {{{start[0]}, {start[1]}}}" for i, start in enumerate(starts)
    )
    slices = " ".join(f"a{i} = Slice (x, s{i}, e, i, k)" for i in range(len(starts)))
    names = ", ".join(f"a{i}" for i in range(len(starts)))
    return f"""
    g (float[1,2,4,6] x) => (float[A,B,C,D] y{outs})
    <{weight}, int64[2] e = {{{end}, {end}}}, int64[2] i = {{2, -1}}, int64[2] k = {{2, 2}}
     {constants}>
    {{ {slices} f = Concat <axis = {axis}> ({names}) y = {conv} {more} }}
    """


def test_the_focus_layer() -> None:
    # PyTorch 2.13 (both exporters, after merge-slices) and paddle2onnx 2.1 of the focus layer of
    # YOLOv5: cat(x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2])
    assert_rewrites(
        RaiseShuffles(),
        _focus(),
        """
        g (float[1,2,4,6] x) => (float[A,B,C,D] y)
        <float[1,8,1,1] w = {1, 2, 5, 6, 3, 4, 7, 8}>
        { f = SpaceToDepth <blocksize = 2> (x) y = Conv (f, w) }
        """,
        feeds=FEEDS,
        typed=True,
        counts={"space-to-depth": 1},
    )


def test_slices_in_the_order_of_onnx_need_no_convolution() -> None:
    before = _focus("00,01,10,11", "float z = {0}", "Add (f, z)", end="99")
    expected = """
    g (float[1,2,4,6] x) => (float[A,B,C,D] y) <float z = {0}>
    { f = SpaceToDepth <blocksize = 2> (x) y = Add (f, z) }
    """
    assert_rewrites(RaiseShuffles(), before, expected, typed=True)


REFUSALS = {
    # PyTorch 2.13 (both exporters) and paddle2onnx 2.1 of ShuffleNet's channel shuffle
    "shuffled channels": (
        """
        g (float[1,4,2,2] x) => (float[1,4,2,2] y)
        <int64[5] s = {1,2,2,2,2}, int64[4] t = {1,4,2,2}>
        { a = Reshape (x, s) b = Transpose <perm = [0, 2, 1, 3, 4]> (a) y = Reshape (b, t) }
        """,
        "y: ONNX has no operator that shuffles channels",
    ),
    "blocks that are not square": (
        _three("1,12,2,2 => 1,2,4,6", "0,1,4,2,5,3", "1,2,2,3,2,2", "1,2,4,6"),
        "y: the blocks are not square, or their size is not known",
    ),
    "joined otherwise": (
        _three("1,8,2,3 => 1,2,6,4", "0,1,4,2,5,3", "1,2,2,2,2,3", "1,2,6,4"),
        "y: the reshapes do not part and join channels and pixels",
    ),
    "an order that nothing takes": (
        _three("1,2,4,6 => 1,8,2,3", "0,1,3,5,2,4", "1,2,2,2,3,2", "1,8,2,3"),
        "y: the order of the channels is not that of SpaceToDepth, and no Conv alone takes it",
    ),
    "integers": (
        _three("1,8,2,3 => 1,2,4,6", "0,1,4,2,5,3", "1,2,2,2,2,3", "1,2,4,6").replace(
            "float", "int32"
        ),
        "y: y is not known to be of floats",
    ),
    "CRD before it had a name": (
        '<ir_version: 8, opset_import: ["" : 10]>'
        + _three("1,8,2,3 => 1,2,4,6", "0,1,4,2,5,3", "1,2,2,2,2,3", "1,2,4,6"),
        "y: opset 10 < 11: DepthToSpace has no mode",
    ),
    "groups": (
        _focus(
            weight="float[2,4,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8}", conv="Conv <group = 2> (f, w)"
        ),
        "f: y has groups",
    ),
    "a shared weight": (
        _focus(more="z = Neg (w)", outs=", float[1,8,1,1] z"),
        "f: the weight of y is shared",
    ),
    "a second user": (
        _focus(more="z = Neg (f)", outs=", float[1,8,2,3] z"),
        "f: the order of the channels is not that of SpaceToDepth, and no Conv alone takes it",
    ),
    "a weight that is not constant": (
        _focus(weight="float v = {1}").replace("x) =>", "x, float[1,8,1,1] w) =>"),
        "f: the weight of y is not constant",
    ),
    "a slice that is used": (
        _focus(more="z = Neg (a1)", outs=", float[1,2,2,3] z"),
        "f: a slice before f is used elsewhere",
    ),
    "along the rows": (
        _focus(weight="float w = {1}", conv="Add (f, w)", axis=2),
        "f: the blocks become no channels: it is another axis",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(RaiseShuffles(), text, typed=True)
    assert [f"{item.node}: {item.reason}" for item in result.refusals] == [reason]


DECOYS = {
    "a part that is missing": _focus(end="3"),
    "twice the same part": _focus("00,10,01,01"),
    # Swin's windows: Reshape, Transpose, Reshape of six dimensions
    "windows": """
        g (float[1,4,4,8] x) => (float[4,4,8] y) <int64[6] s = {1,2,2,2,2,8}, int64[3] t = {4,4,8}>
        { a = Reshape (x, s) b = Transpose <perm = [0, 1, 3, 2, 4, 5]> (a) y = Reshape (b, t) }
        """,
}


@pytest.mark.parametrize("text", DECOYS.values(), ids=DECOYS)
def test_is_no_match(text: str) -> None:
    assert not assert_keeps(RaiseShuffles(), text, typed=True).refusals
