"""Forms of pooling, resizing and affines between convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .case import Case
from .convolution import each, first, kernel, last
from .maker import random

if TYPE_CHECKING:
    from .convolution import Form
    from .maker import Maker


def squeeze(how: str, c: int, size: int) -> Form:
    """Squeeze and excite."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        pool, _, inner = how.partition(", ")
        if pool == "ReduceMean":
            p = g.ReduceMean(x, g.ints(2, 3))
        elif pool == "AveragePool":
            p = g.AveragePool(x, kernel_shape=[size, size])
        else:
            p = g.GlobalAveragePool(x)
        a, b = kernel("ka", c // 4, c, 1, 1), kernel("kb", c, c // 4, 1, 1)
        ba, bb = g.weight("ba", c // 4, scale=0.1), g.weight("bb", c, scale=0.1)
        if inner == "Gemm":
            p = g.Reshape(p, g.ints(1, c))
            p = g.Relu(g.Gemm(p, g.constant(a[:, :, 0, 0]), ba, transB=1))
            p = g.Gemm(p, g.constant(b[:, :, 0, 0]), bb, transB=1)
            p = g.Reshape(p, g.ints(1, c, 1, 1))
        else:
            p = g.Conv(g.Relu(g.Conv(p, g.constant(a), ba)), g.constant(b), bb)
        return last(g, g.Mul(x, g.HardSigmoid(p, alpha=1 / 6, beta=0.5)), c)

    return build


def head(how: str, c: int, size: int, classes: int = 1000) -> Form:
    """The classifier after the last convolution."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        w, b = kernel("w", classes, c), g.weight("b", classes, scale=0.1)
        if how == "ReduceMean, Gemm":
            p = g.ReduceMean(x, g.ints(2, 3), keepdims=0)
        else:
            p = g.GlobalAveragePool(x)
        if how == "GlobalAveragePool, Conv":
            return g.Flatten(g.Conv(p, g.constant(w[:, :, None, None]), b))
        if how == "GlobalAveragePool, Flatten, MatMul":
            return g.Add(g.MatMul(g.Flatten(p), g.constant(w.T)), b)
        p = p if how == "ReduceMean, Gemm" else g.Flatten(p)
        return g.Gemm(p, g.constant(w), b, transB=1)

    return build


def resize(how: str, c: int, size: int) -> Form:
    """Twice the size, nearest."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        scales = g.constant(np.asarray([1, 1, 2, 2], np.float32))
        sizes = g.ints(1, c, 2 * size, 2 * size)
        floor = {
            "mode": "nearest",
            "nearest_mode": "floor",
            "coordinate_transformation_mode": "asymmetric",
        }
        if how == "scales, asymmetric floor":
            y = g.Resize(x, "", scales, **floor)
        elif how == "sizes, asymmetric floor":
            y = g.Resize(x, "", "", sizes, **floor)
        elif how == "scales, half_pixel":
            y = g.Resize(x, "", scales, mode="nearest", nearest_mode="round_prefer_floor")
        elif how == "sizes, half_pixel":
            y = g.Resize(x, "", "", sizes, mode="nearest", nearest_mode="round_prefer_floor")
        elif how == "Expand":
            y = g.Expand(
                g.Reshape(x, g.ints(1, c, size, 1, size, 1)), g.ints(1, c, size, 2, size, 2)
            )
            y = g.Reshape(y, g.ints(1, c, 2 * size, 2 * size))
        else:
            k = np.ones((c, 1, 2, 2), np.float32)
            y = g.ConvTranspose(x, g.constant(k), strides=[2, 2], group=c)
        return last(g, y, c)

    return build


def linear_resize(how: str, c: int, size: int) -> Form:
    """Twice the size, linear."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        scales = g.constant(np.asarray([1, 1, 2, 2], np.float32))
        if how == "scales":
            y = g.Resize(x, "", scales, mode="linear")
        elif how == "sizes":
            y = g.Resize(x, "", "", g.ints(1, c, 2 * size, 2 * size), mode="linear")
        else:
            y = g.Resize(
                x, "", scales, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"
            )
        return last(g, y, c)

    return build


def up(how: str, cin: int, cout: int, size: int) -> Form:
    """ConvTranspose of 2x2 with stride 2."""

    def build(g: Maker) -> str:
        x = first(g, cin, size)
        k = kernel("k1", cin, cout, 2, 2)
        b = random("b1", (cout,)) * np.float32(0.1)
        if how == "ConvTranspose":
            y = g.ConvTranspose(x, g.constant(k), g.constant(b), strides=[2, 2])
        elif how == "Conv, DepthToSpace CRD":
            w = k.transpose(1, 2, 3, 0).reshape(4 * cout, cin, 1, 1)
            y = g.Conv(x, g.constant(w), g.constant(np.repeat(b, 4)))
            y = g.DepthToSpace(y, blocksize=2, mode="CRD")
        elif how == "Conv, DepthToSpace DCR":
            w = k.transpose(2, 3, 1, 0).reshape(4 * cout, cin, 1, 1)
            y = g.Conv(x, g.constant(w), g.constant(np.tile(b, 4)))
            y = g.DepthToSpace(y, blocksize=2, mode="DCR")
        else:
            w = k.transpose(1, 2, 3, 0).reshape(4 * cout, cin)
            y = g.MatMul(g.constant(w), g.Reshape(x, g.ints(1, cin, -1)))
            y = g.Add(y, g.constant(np.repeat(b, 4)[:, None]))
            y = g.Transpose(
                g.Reshape(y, g.ints(1, cout, 2, 2, size, size)), perm=[0, 1, 4, 2, 5, 3]
            )
            y = g.Reshape(y, g.ints(1, cout, 2 * size, 2 * size))
        return last(g, g.Relu(y), cout)

    return build


def pool(how: str, c: int, size: int) -> Form:
    """Pooling forms."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        if how == "MaxPool":
            y = g.MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
        else:
            y = g.node("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])[0]
        return last(g, y, c)

    return build


def batchnorm(how: str, c: int, size: int) -> Form:
    """BatchNormalization that no convolution precedes (after Relu, before Conv with padding)."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        s, b = 1 + 0.1 * random("s", (c,)), random("b", (c,)) * np.float32(0.1)
        m, v = random("m", (c,)) * np.float32(0.1), np.abs(1 + 0.1 * random("v", (c,)))
        factor = (s / np.sqrt(v + 1e-5)).astype(np.float32)
        offset = (b - m * factor).astype(np.float32)
        if how.startswith("BatchNormalization"):
            y = g.BatchNormalization(x, *map(g.constant, (s, b, m, v)))
        elif how == "Mul, Add":
            y = g.Add(
                g.Mul(x, g.constant(factor[:, None, None])), g.constant(offset[:, None, None])
            )
        else:
            y = g.Conv(x, g.constant(factor[:, None, None, None]), g.constant(offset), group=c)
        y = g.Relu(y) if how.endswith("Relu") else y
        return g.Conv(y, g.constant(kernel("k1", 16, c, 3, 3)), pads=[1] * 4)

    return build


def scale_after(how: str, c: int, size: int) -> Form:
    """A scalar affine between convolutions (as in PP-LCNet)."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        if how == "Mul, Add":
            x = g.Add(g.Mul(x, g.constant(1.1)), g.constant(0.1))
        elif how == "Mul, Add of channels":
            full = np.full((1, c, 1, 1), 1.1, np.float32)
            x = g.Add(g.Mul(x, g.constant(full)), g.constant(full * 0 + np.float32(0.1)))
        elif how == "depthwise Conv":
            w = np.full((c, 1, 1, 1), 1.1, np.float32)
            x = g.Conv(x, g.constant(w), g.constant(w[:, 0, 0, 0] * 0 + np.float32(0.1)), group=c)
        elif how == "BatchNormalization":
            one = np.ones(c, np.float32)
            x = g.BatchNormalization(
                x,
                g.constant(one * np.float32(1.1)),
                g.constant(one * np.float32(0.1)),
                g.constant(one * 0),
                g.constant(one - np.float32(1e-5)),
            )
        return g.Conv(x, g.constant(kernel("k1", 16, c, 3, 3)), pads=[1] * 4)

    return build


_CASES: tuple[tuple[str, dict[str, Form]], ...] = (
    *(
        (
            f"squeeze-excite {c}x{s}x{s}",
            each(
                squeeze,
                (
                    "GlobalAveragePool, Conv",
                    "ReduceMean, Conv",
                    "AveragePool, Conv",
                    "GlobalAveragePool, Gemm",
                ),
                c,
                s,
            ),
        )
        for c, s in ((64, 56), (256, 14))
    ),
    (
        "classifier 1280x7x7",
        each(
            head,
            (
                "GlobalAveragePool, Gemm",
                "ReduceMean, Gemm",
                "GlobalAveragePool, Conv",
                "GlobalAveragePool, Flatten, MatMul",
            ),
            1280,
            7,
        ),
    ),
    (
        "nearest 2* 64x28x28",
        each(
            resize,
            (
                "scales, asymmetric floor",
                "sizes, asymmetric floor",
                "scales, half_pixel",
                "sizes, half_pixel",
                "Expand",
                "ConvTranspose",
            ),
            64,
            28,
        ),
    ),
    ("linear 2* 64x28x28", each(linear_resize, ("scales", "sizes", "pytorch_half_pixel"), 64, 28)),
    *(
        (
            f"ConvTranspose k2 s2 {a}→{b}, {s}x{s}",
            each(
                up,
                (
                    "ConvTranspose",
                    "Conv, DepthToSpace CRD",
                    "Conv, DepthToSpace DCR",
                    "MatMul, Transpose",
                ),
                a,
                b,
                s,
            ),
        )
        for a, b, s in ((128, 64, 32), (24, 24, 80))
    ),
    ("MaxPool 64x56x56", each(pool, ("MaxPool", "MaxPool with indices"), 64, 56)),
    (
        "BatchNorm alone 64x56x56",
        each(batchnorm, ("BatchNormalization", "Mul, Add", "depthwise Conv"), 64, 56),
    ),
    (
        "BatchNorm alone, Relu 64x56x56",
        each(batchnorm, ("BatchNormalization, Relu", "depthwise Conv, Relu"), 64, 56),
    ),
    (
        "scalar affine 64x56x56",
        each(
            scale_after,
            ("none", "Mul, Add", "Mul, Add of channels", "depthwise Conv", "BatchNormalization"),
            64,
            56,
        ),
    ),
)
CASES = tuple(Case("6-conv", name, forms) for name, forms in _CASES)
