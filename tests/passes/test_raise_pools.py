"""raise-pools: reductions and poolings of all spatial axes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.pass_checks import assert_keeps, assert_rewrites
from optc.passes.raise_pools import RaisePools

# Sums of eight small integers and their eighth are exact, in whatever order they are added.
EXACT = np.arange(48, dtype=np.float32)

REWRITES = {
    # torch.export (PyTorch 2.13) of AdaptiveAvgPool2d(1), opset 18: ReduceMean with keepdims
    "mean with the dimensions kept": (
        """
        g (float[N,3,2,4] x) => (float[N,3,1,1] y) <int64[2] a = {-1, -2}>
        { y = ReduceMean (x, a) }
        """,
        "g (float[N,3,2,4] x) => (float[N,3,1,1] y) { y = GlobalAveragePool (x) }",
    ),
    # PyTorch 2.13, TorchScript opset 17, of x.mean([2, 3]); paddle2onnx 2.1 of x.mean([2, 3])
    "mean with the dimensions dropped, axes in an attribute": (
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,2,4] x) => (float[N,3] y)
        { y = ReduceMean <axes = [2, 3], keepdims = 0> (x) }
        """,
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,2,4] x) => (float[N,3] y)
        { p = GlobalAveragePool (x) y = Flatten <axis = 1> (p) }
        """,
    ),
    # PyTorch 2.13 of x.amax((2, 3)); tf2onnx 1.17 of keras GlobalMaxPooling2D, transposes moved
    "maximum": (
        """
        g (float[N,3,2,4] x) => (float[N,3] y) <int64[2] a = {2, 3}>
        { y = ReduceMax <keepdims = 0> (x, a) }
        """,
        """
        g (float[N,3,2,4] x) => (float[N,3] y)
        { p = GlobalMaxPool (x) y = Flatten <axis = 1> (p) }
        """,
    ),
    # PyTorch 2.13 of x.mean(3).mean(2)
    "one axis after the other": (
        """
        g (float[N,3,2,4] x) => (float[N,3] y) <int64[1] a = {3}, int64[1] b = {2}>
        { p = ReduceMean <keepdims = 0> (x, a) y = ReduceMean <keepdims = 0> (p, b) }
        """,
        """
        g (float[N,3,2,4] x) => (float[N,3] y)
        { p = GlobalAveragePool (x) y = Flatten <axis = 1> (p) }
        """,
    ),
    # PyTorch 2.13 of x.flatten(2).mean(-1)
    "after a reshape": (
        """
        g (float[N,3,2,4] x) => (float[N,3] y) <int64[3] s = {0, 3, -1}, int64[1] a = {-1}>
        { p = Reshape (x, s) y = ReduceMean <keepdims = 0> (p, a) }
        """,
        """
        g (float[N,3,2,4] x) => (float[N,3] y)
        { p = GlobalAveragePool (x) y = Flatten <axis = 1> (p) }
        """,
    ),
    "after a reshape, the dimension kept": (
        """
        g (float[N,3,2,4] x) => (float[N,3,1] y) <int64[3] s = {0, 3, -1}, int64[1] a = {-1}>
        { p = Reshape (x, s) y = ReduceMean (p, a) }
        """,
        """
        g (float[N,3,2,4] x) => (float[N,3,1] y) <int64[3] s = {0, 0, 1}>
        { p = GlobalAveragePool (x) y = Reshape (p, s) }
        """,
    ),
    # PyTorch 2.13 of F.avg_pool2d(x, (2, 4)); tf2onnx 1.17 of keras AveragePooling2D
    "a window over all": (
        """
        g (float[N,3,2,4] x) => (float[N,3,1,1] y)
        { y = AveragePool <kernel_shape = [2, 4], pads = [0, 0, 0, 0], strides = [2, 4]> (x) }
        """,
        "g (float[N,3,2,4] x) => (float[N,3,1,1] y) { y = GlobalAveragePool (x) }",
    ),
    # PyTorch 2.13, TorchScript, of AdaptiveMaxPool2d(1)
    "a maximum over all": (
        """
        g (float[N,3,2,4] x) => (float[N,3,1,1] y)
        { y = MaxPool <kernel_shape = [2, 4], strides = [2, 4]> (x) }
        """,
        "g (float[N,3,2,4] x) => (float[N,3,1,1] y) { y = GlobalMaxPool (x) }",
    ),
    # torch.export (PyTorch 2.13) of Conv1d and AdaptiveAvgPool1d(1)
    "three dimensions behind a convolution": (
        """
        g (float[N,2,8] x) => (float[N,2,1] y) <float[2,1,1] w = {1, 1}, int64[1] a = {-1}>
        { c = Conv <group = 2> (x, w) r = Relu (c) y = ReduceMean (r, a) }
        """,
        """
        g (float[N,2,8] x) => (float[N,2,1] y) <float[2,1,1] w = {1, 1}>
        { c = Conv <group = 2> (x, w) r = Relu (c) y = GlobalAveragePool (r) }
        """,
    ),
}


@pytest.mark.parametrize(("before", "expected"), REWRITES.values(), ids=REWRITES)
def test_raises(before: str, expected: str) -> None:
    shape = (2, 2, 8) if "float[N,2,8]" in before else (2, 3, 2, 4)
    feeds = {"x": np.resize(EXACT, shape)}
    assert_rewrites(RaisePools(), before, expected, feeds=feeds, typed=True)


def _reduce(type_: str, axes: str, op: str = "ReduceMean", out: str = "A,B,C,D") -> str:
    count = axes.count(",") + 1
    kind = type_.split("[")[0]
    return f"""
    g ({type_} x) => ({kind}[{out}] y) <int64[{count}] a = {{{axes}}}> {{ y = {op} (x, a) }}
    """


REFUSALS = {
    "one spatial axis": (_reduce("float[1,3,2,4]", "2"), "axes [2] are not all the spatial ones"),
    "the channels": (_reduce("float[1,3,2,4]", "1,2"), "axes [1, 2] are not all the spatial ones"),
    "channels last": (
        _reduce("float[1,3,2,4]", "1,2", "ReduceMax"),
        "axes [1, 2] are not all the spatial ones",
    ),
    # the mean of a decomposed LayerNormalization
    "a mean of the last axis": (
        _reduce("float[1,3,4]", "-1", out="A,B,C"),
        "no convolution or pooling is seen to make the three dimensions",
    ),
    "two dimensions": (_reduce("float[3,4]", "1", out="A,B"), "the rank is not known, or not 3"),
    "integers": (_reduce("int32[1,3,2,4]", "2,3", "ReduceMax"), "x is not known to be f16, f32"),
    "axes that are not constant": (
        "g (float[1,3,2,4] x, int64[2] a) => (float[A,B,C,D] y) { y = ReduceMean (x, a) }",
        "the axes are not constant",
    ),
    "a symbolic size": (
        "g (float[1,3,H,4] x) => (float[A,B,C,D] y) { y = MaxPool <kernel_shape = [2, 4]> (x) }",
        "the window is not known to cover all of the data",
    ),
    "padding": (
        """
        g (float[1,3,2,4] x) => (float[A,B,C,D] y)
        { y = AveragePool <kernel_shape = [2, 4], pads = [0, 0, 0, 1]> (x) }
        """,
        "it pads",
    ),
    "dilation": (
        """
        g (float[1,3,3,4] x) => (float[A,B,C,D] y)
        { y = MaxPool <kernel_shape = [3, 4], dilations = [1, 1], auto_pad = "SAME_UPPER"> (x) }
        """,
        "it pads",
    ),
    "indices": (
        "g (float[1,3,2,4] x) => (y, i) { y, i = MaxPool <kernel_shape = [2, 4]> (x) }",
        "it gives indices, too",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = assert_keeps(RaisePools(), text, typed=True)
    found = [f"{item.node}: {item.reason}" for item in result.refusals if not item.miss]
    assert len(found) == 1
    assert found[0].startswith(f"y: {reason}")


NESTED = {
    "two kinds": ("ReduceMax", "3", "ReduceMean", "2", "the reductions are of two kinds"),
    "other axes": ("ReduceMean", "3", "ReduceMean", "1", "together they do not reduce all spatial"),
}


@pytest.mark.parametrize(("first", "a", "second", "b", "reason"), NESTED.values(), ids=NESTED)
def test_refuses_nested(first: str, a: str, second: str, b: str, reason: str) -> None:
    text = f"""
    g (float[1,3,2,4] x) => (float[A,B,C,D] y) <int64[1] a = {{{a}}}, int64[1] b = {{{b}}}>
    {{ p = {first} (x, a) y = {second} (p, b) }}
    """
    result = assert_keeps(RaisePools(), text, typed=True)
    found = [item.reason for item in result.refusals if item.rule == "nested-reduction"]
    assert found[0].startswith(reason)
