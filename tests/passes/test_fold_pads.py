"""fold-pads: a Pad becomes the padding of what follows."""

from __future__ import annotations

import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.fold_pads import FoldPads

REWRITES = {
    # PyTorch 2.13, TorchScript, of ZeroPad2d((0, 1, 0, 1)) and Conv2d; MobileNetV2 of transformers
    "zeros before a convolution": (
        """
        g (float[N,1,4,4] x, float[2,1,3,3] w) => (float[N,2,A,B] y)
        <int64[8] p = {0, 0, 0, 0, 0, 0, 1, 1}, float v = {0}>
        { a = Pad (x, p, v) y = Conv <pads = [1, 0, 1, 0], strides = [2, 2]> (a, w) }
        """,
        """
        g (float[N,1,4,4] x, float[2,1,3,3] w) => (float[N,2,A,B] y)
        { y = Conv <pads = [1, 0, 2, 1], strides = [2, 2]> (x, w) }
        """,
        {"pad-conv": 1},
    ),
    "the value left out, axes given": (
        """
        g (float[N,1,4,4] x, float[2,1,3,3] w, float[2] b) => (float[N,2,A,B] y)
        <int64[2] p = {2, 1}, int64[1] i = {-1}>
        { a = Pad (x, p, , i) y = Conv <auto_pad = "VALID"> (a, w, b) }
        """,
        """
        g (float[N,1,4,4] x, float[2,1,3,3] w, float[2] b) => (float[N,2,A,B] y)
        { y = Conv <pads = [0, 2, 0, 1]> (x, w, b) }
        """,
        {"pad-conv": 1},
    ),
    "attributes, one dimension": (
        """
        <ir_version: 8, opset_import: ["" : 9]>
        g (float[1,1,4] x, float[2,1,3] w) => (float[1,2,5] y)
        { a = Pad <pads = [0, 0, 1, 0, 0, 2]> (x) y = Conv (a, w) }
        """,
        """
        <ir_version: 8, opset_import: ["" : 9]>
        g (float[1,1,4] x, float[2,1,3] w) => (float[1,2,5] y) { y = Conv <pads = [1, 2]> (x, w) }
        """,
        {"pad-conv": 1},
    ),
    "zeros before an average": (
        """
        g (float[1,1,4,4] x) => (float[1,1,A,B] y) <int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}>
        { a = Pad (x, p) y = AveragePool <kernel_shape = [3, 3]> (a) }
        """,
        """
        g (float[1,1,4,4] x) => (float[1,1,A,B] y)
        {
           y = AveragePool
              <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (x)
        }
        """,
        {"pad-average-pool": 1},
    ),
    # PyTorch 2.13 of F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-inf), 3, 2)
    "minus infinity before a maximum": (
        """
        g (float[1,1,4,4] x) => (float[1,1,A,B] y)
        <int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, float[1] v = {-inf}>
        { a = Pad (x, p, v) y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (a) }
        """,
        """
        g (float[1,1,4,4] x) => (float[1,1,A,B] y)
        { y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x) }
        """,
        {"pad-max-pool": 1},
    ),
    # PyTorch 2.13 and tf2onnx 1.17 of ResNet stems: ReLU, ZeroPad2d, MaxPool2d
    "zeros before a maximum of what is not negative": (
        """
        g (float[1,1,4,4] x) => (float[1,1,A,B] y)
        <int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, float lo = {0}>
        {
           c = Clip (x, lo)
           i = Identity (c)
           a = Pad (i, p)
           y = MaxPool <kernel_shape = [3, 3], pads = [1, 0, 0, 0]> (a)
        }
        """,
        """
        g (float[1,1,4,4] x) => (float[1,1,A,B] y) <float lo = {0}>
        {
           c = Clip (x, lo)
           i = Identity (c)
           y = MaxPool <kernel_shape = [3, 3], pads = [2, 1, 1, 1]> (i)
        }
        """,
        {"pad-max-pool": 1},
    ),
    "two pads": (
        """
        g (float[N,2] x) => (float[A,B] y)
        <int64[4] p = {0, 1, 0, 2}, float v = {3}, int64[2] q = {1, 1}, int64[1] i = {0}>
        { a = Pad (x, p, v) y = Pad (a, q, v, i) }
        """,
        """
        g (float[N,2] x) => (float[A,B] y) <int64[4] p = {1, 1, 1, 2}, float v = {3}>
        { y = Pad (x, p, v) }
        """,
        {"pad-pad": 1},
    ),
    # paddle2onnx 2.1 of ZeroPad2D([0, 1, 0, 1])
    "five dimensions for four": (
        """
        g (float[N,1,4,4] x) => (float[N,1,5,5] y)
        <int64[1] i = {2}, int64[10] p = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, float v = {0}>
        { a = Unsqueeze (x, i) b = Pad (a, p, v) y = Squeeze (b, i) }
        """,
        """
        g (float[N,1,4,4] x) => (float[N,1,5,5] y)
        <int64[8] p = {0, 0, 0, 0, 0, 0, 1, 1}, float v = {0}>
        { y = Pad (x, p, v) }
        """,
        {"pad-view": 1},
    ),
}


@pytest.mark.parametrize(("before", "expected", "counts"), REWRITES.values(), ids=REWRITES)
def test_folds(before: str, expected: str, counts: dict[str, int]) -> None:
    assert_rewrites(FoldPads(), before, expected, counts=counts, typed=True)


def _conv(
    pads: str = "0, 0, 1, 1, 0, 0, 1, 1",
    value: str = "0",
    pad: str = "",
    user: str = "Conv (a, w)",
    more: str = "",
    outs: str = "",
) -> str:
    return f"""
    g (float[1,1,4,4] x, float[1,1,3,3] w, int64[8] q, float u) => (float[1,1,A,B] y{outs})
    <int64[8] p = {{{pads}}}, float v = {{{value}}}>
    {{ a = Pad {pad} (x, p, v) y = {user} {more} }}
    """


_POOL = "kernel_shape = [3, 3]"

REFUSALS = {
    "another value": (_conv(value="1"), "it pads with 1"),
    # PyTorch 2.13 of Conv2d(padding_mode="reflect")
    "another mode": (_conv(pad='<mode = "reflect">'), "it pads by mode reflect"),
    "channels": (
        _conv("0, 1, 0, 0, 0, 0, 0, 0").replace("float[1,1,3,3] w", "float[1,2,3,3] w"),
        "it pads batch or channels",
    ),
    "a cut": (_conv("0, 0, -1, 1, 0, 0, 1, 1"), "it cuts elements off"),
    "pads that are not constant": (
        _conv().replace("(x, p, v)", "(x, q, v)"),
        "the pads of a are not constant",
    ),
    "a value that is not constant": (
        _conv().replace("(x, p, v)", "(x, p, u)"),
        "the value of a is not constant",
    ),
    "automatic padding": (
        _conv(user='Conv <auto_pad = "SAME_UPPER"> (a, w)'),
        "Conv pads by auto_pad SAME_UPPER",
    ),
    "used elsewhere": (
        _conv(more="[n] z = Neg (a)", outs=", float[1,1,6,6] z"),
        "Pad output also feeds n",
    ),
    "a graph output": (_conv(outs=", float[1,1,6,6] a"), "Pad output is the graph output a"),
    "an average that does not count": (
        _conv(user=f"AveragePool <{_POOL}, pads = [1, 1, 1, 1]> (a)"),
        "the average does not count its own padding",
    ),
    "an average of other numbers": (
        _conv(value="2", user=f"AveragePool <{_POOL}> (a)"),
        "it pads with 2",
    ),
    "rounding up": (
        _conv(user=f"AveragePool <{_POOL}, ceil_mode = 1> (a)"),
        "the number of windows is rounded up",
    ),
    "a pad as wide as the window": (
        _conv("0, 0, 3, 0, 0, 0, 0, 0", user=f"AveragePool <{_POOL}> (a)"),
        "a pad is not smaller than the window",
    ),
    "dilation": (
        _conv(user=f"AveragePool <{_POOL}, dilations = [2, 2]> (a)"),
        "the window is dilated",
    ),
    "zeros beside what may be negative": (
        _conv(user=f"MaxPool <{_POOL}> (a)"),
        "x may be smaller than the 0 beside it",
    ),
    "numbers above": (
        _conv(value="1", user=f"MaxPool <{_POOL}> (a)"),
        "x may be smaller than the 1 beside it",
    ),
    "indices": (
        _conv(value="-inf", user=f"MaxPool <{_POOL}> (a)").replace("y = Max", "y, i = Max"),
        "it gives indices, too",
    ),
    "two values": (
        _conv(user="Pad (a, p)", value="1"),
        "they pad with 1 and 0",
    ),
    "one cuts": (_conv("0, 0, -1, 0, 0, 0, 1, 1", user="Pad (a, p)"), "one cuts elements off"),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(FoldPads(), text, typed=True)
    found = [f"{item.node}: {item.reason}" for item in result.refusals if not item.miss]
    assert found == [f"y: {reason}"]


def test_keeps_a_pad_along_the_axis_in_between() -> None:
    text = """
    g (float[1,4] x) => (float[1,A] y)
    <int64[1] i = {0}, int64[6] p = {1, 0, 0, -1, 0, 1}>
    { a = Unsqueeze (x, i) b = Pad (a, p) y = Squeeze (b, i) }
    """
    result = assert_keeps(FoldPads(), text, typed=True)
    assert [item.reason for item in result.refusals if not item.miss] == [
        "it pads along an axis that is dropped"
    ]
