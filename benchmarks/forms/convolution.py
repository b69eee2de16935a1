"""Forms of convolutions and what stands beside them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from .case import Case
from .maker import random

if TYPE_CHECKING:
    from collections.abc import Callable

    from .maker import Maker

    Form = Callable[[Maker], str | list[str]]


def kernel(key: str, *shape: int) -> np.ndarray:
    """Weights of a convolution."""
    return random(key, shape) / np.float32(np.sqrt(np.prod(shape[1:])))


def first(g: Maker, channels: int, size: int) -> str:
    """A convolution at the start, so that what follows is in the runtime's layout."""
    x = g.draw("x", 1, 16, size, size)
    return g.Relu(
        g.Conv(x, g.constant(kernel("k0", channels, 16, 1, 1)), g.weight("b0", channels, scale=0.1))
    )


def last(g: Maker, x: str, channels: int) -> str:
    """A convolution at the end."""
    return g.Conv(x, g.constant(kernel("k9", 16, channels, 1, 1)))


def activated(how: str, op: str, channels: int, size: int) -> Form:
    """Conv and activation, left to the runtime or fused by hand."""
    more = {"LeakyRelu": [0.1], "HardSigmoid": [1 / 6, 0.5], "Clip": [0.0, 6.0]}

    def build(g: Maker) -> str:
        x = first(g, channels, size)
        w = g.constant(kernel("k1", channels, channels, 3, 3))
        operands = (x, w, g.weight("b1", channels, scale=0.1))
        if how == "FusedConv":
            params = {"activation_params": more[op]} if op in more else {}
            y = g.ms("FusedConv", *operands, pads=[1] * 4, activation=op, **params)
        else:
            y = g.Conv(*operands, pads=[1] * 4)
            if op == "Clip":
                y = g.Clip(y, g.constant(0.0), g.constant(6.0))
            elif op == "LeakyRelu":
                y = g.LeakyRelu(y, alpha=0.1)
            elif op == "HardSigmoid":
                y = g.HardSigmoid(y, alpha=1 / 6, beta=0.5)
            else:
                y = g.node(op, y)
        return last(g, y, channels)

    return build


def wide(how: str, channels: int, width: int, taps: int) -> Form:
    """A long window over one axis: padding in the convolution or before it."""

    def build(g: Maker) -> str:
        x = g.draw("x", 1, channels, 1, width)
        for i in range(2):
            w = g.constant(kernel(f"k{i}", channels, channels, 1, taps))
            before, after = (taps - 1) // 2, taps // 2
            if how == "pads":
                x = g.Conv(x, w, pads=[0, before, 0, after])
            else:
                x = g.Pad(x, g.ints(0, 0, 0, before, 0, 0, 0, after), g.constant(0.0))
                x = g.Conv(x, w)
            x = g.Relu(x)
        return x

    return build


def padded(how: str, channels: int, size: int) -> Form:
    """Padding in the convolution or before it."""

    def build(g: Maker) -> str:
        x = first(g, channels, size)
        w = g.constant(kernel("k1", channels, 1, 3, 3))
        if how == "pads":
            y = g.Conv(x, w, pads=[0, 0, 1, 1], strides=[2, 2], group=channels)
        else:
            x = g.Pad(x, g.ints(0, 0, 0, 0, 0, 0, 1, 1), g.constant(0.0))
            y = g.Conv(x, w, strides=[2, 2], group=channels)
        return last(g, g.Relu(y), channels)

    return build


def pointwise(how: str, cin: int, cout: int, size: int) -> Form:
    """A 1x1 convolution between convolutions."""

    def build(g: Maker) -> str:
        x = first(g, cin, size)
        k, b = kernel("k1", cout, cin, 1, 1), random("b1", (cout,)) * np.float32(0.1)
        if how == "Conv":
            y = g.Conv(x, g.constant(k), g.constant(b))
        elif how == "MatMul W·X":
            y = g.MatMul(g.constant(k[:, :, 0, 0]), g.Reshape(x, g.ints(1, cin, -1)))
            y = g.Reshape(g.Add(y, g.constant(b[:, None])), g.ints(1, cout, size, size))
        else:
            t = g.Transpose(x, perm=[0, 2, 3, 1])
            t = g.Add(g.MatMul(t, g.constant(k[:, :, 0, 0].T)), g.constant(b))
            y = g.Transpose(t, perm=[0, 3, 1, 2])
        return last(g, g.Relu(y), cout)

    return build


def tokens(how: str, width: int, size: int) -> Form:
    """Mlp of ConvNext, channels last: MatMul, or 1x1 convolutions."""

    def build(g: Maker) -> str:
        x = first(g, width, size)
        x = g.Conv(x, g.constant(kernel("dw", width, 1, 7, 7)), pads=[3] * 4, group=width)
        a, b = kernel("ka", 4 * width, width, 1, 1), kernel("kb", width, 4 * width, 1, 1)
        if how == "Conv":
            y = g.Conv(g.Relu(g.Conv(x, g.constant(a))), g.constant(b))
        else:
            t = g.Transpose(x, perm=[0, 2, 3, 1])
            t = g.Relu(g.MatMul(t, g.constant(a[:, :, 0, 0].T)))
            t = g.MatMul(t, g.constant(b[:, :, 0, 0].T))
            y = g.Transpose(t, perm=[0, 3, 1, 2])
        return last(g, y, width)

    return build


def wave(how: str, cin: int, cout: int, length: int, width: int) -> Form:
    """A 1-D convolution: 1-D or 2-D with a height of 1."""

    def build(g: Maker) -> str:
        k = [kernel("k0", cin, 1, width), kernel("k1", cout, cin, width), kernel("k2", 16, cout, 1)]
        x = g.draw("x", 1, 1, length)
        if how == "Conv1D":
            x = g.Relu(g.Conv(x, g.constant(k[0]), pads=[width // 2] * 2))
            x = g.Relu(g.Conv(x, g.constant(k[1]), pads=[width // 2] * 2))
            x = g.MaxPool(x, kernel_shape=[2], strides=[2])
            return g.Conv(x, g.constant(k[2]))
        tall = how == "Conv2D, width 1"
        at = -1 if tall else 2
        wide = [width // 2, 0, width // 2, 0] if tall else [0, width // 2, 0, width // 2]
        k = [np.expand_dims(w, at) for w in k]
        x = g.Unsqueeze(x, g.ints(at))
        x = g.Relu(g.Conv(x, g.constant(k[0]), pads=wide))
        x = g.Relu(g.Conv(x, g.constant(k[1]), pads=wide))
        pool = [2, 1] if tall else [1, 2]
        x = g.MaxPool(x, kernel_shape=pool, strides=pool)
        return g.Squeeze(g.Conv(x, g.constant(k[2])), g.ints(at))

    return build


def two_pointwise(how: str, c: int, inner: int, size: int) -> Form:
    """Two 1x1 convolutions with nothing between."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        a, b = kernel("ka", inner, c, 1, 1), kernel("kb", c, inner, 1, 1)
        if how == "two":
            y = g.Conv(g.Conv(x, g.constant(a)), g.constant(b))
        else:
            y = g.Conv(x, g.constant((b[:, :, 0, 0] @ a[:, :, 0, 0])[:, :, None, None]))
        return last(g, g.Relu(y), c)

    return build


def sibling_convs(how: str, c: int, widths: tuple[int, ...], size: int, side: int = 1) -> Form:
    """Convolutions over the same input."""

    def build(g: Maker) -> list[str]:
        x = first(g, c, size)
        pads = [side // 2] * 4
        ks = [kernel(f"k{i}", n, c, side, side) for i, n in enumerate(widths)]
        if how == "separate":
            parts = [g.Relu(g.Conv(x, g.constant(k), pads=pads)) for k in ks]
        else:
            y = g.Relu(g.Conv(x, g.constant(np.concatenate(ks)), pads=pads))
            parts = list(g.node("Split", y, g.ints(*widths), axis=1, outputs=len(widths)))
        return [last(g, part, n) for part, n in zip(parts, widths, strict=True)]

    return build


def residual(how: str, channels: int, size: int) -> Form:
    """Conv, Add of a skip, Relu."""

    def build(g: Maker) -> str:
        x = first(g, channels, size)
        shape = (channels, channels, 3, 3)
        y = g.Relu(g.Conv(x, g.constant(kernel("k1", *shape)), pads=[1] * 4))
        operands = (g.constant(kernel("k2", *shape)), g.weight("b2", channels, scale=0.1))
        if how == "FusedConv with sum":
            y = g.ms("FusedConv", y, *operands, x, pads=[1] * 4, activation="Relu")
            return last(g, y, channels)
        y = g.Conv(y, *operands, pads=[1] * 4)
        if how == "Sum(conv, skip)":
            y = g.Sum(y, x)
        else:
            y = g.Add(x, y) if how == "Add(skip, conv)" else g.Add(y, x)
        return last(g, g.Relu(y), channels)

    return build


def grouped(how: str, c: int, size: int, groups: int) -> Form:
    """A grouped convolution; dense with zeros; split, convolve, join."""

    def build(g: Maker) -> str:
        x = first(g, c, size)
        w = kernel("k1", c, c // groups, 3, 3)
        n = c // groups
        if how == "group":
            y = g.Conv(x, g.constant(w), pads=[1] * 4, group=groups)
        elif how == "dense":
            dense = np.zeros((c, c, 3, 3), np.float32)
            for i in range(groups):
                dense[i * n : (i + 1) * n, i * n : (i + 1) * n] = w[i * n : (i + 1) * n]
            y = g.Conv(x, g.constant(dense), pads=[1] * 4)
        else:
            parts = g.node("Split", x, g.ints(*[n] * groups), axis=1, outputs=groups)
            done = [
                g.Conv(part, g.constant(w[i * n : (i + 1) * n]), pads=[1] * 4)
                for i, part in enumerate(parts)
            ]
            y = g.Concat(*done, axis=1)
        return last(g, g.Relu(y), c)

    return build


def each(make: Callable[..., Form], names: tuple[str, ...], *sizes: object) -> dict[str, Form]:
    """The named forms for one choice of sizes."""
    return {name: partial(make, name)(*sizes) for name in names}


_CASES: tuple[tuple[str, dict[str, Form]], ...] = (
    *(
        (f"Conv 3x3 64x28x28, {op}", each(activated, ("Conv", "FusedConv"), op, 64, 28))
        for op in ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh")
    ),
    ("padding, depthwise 3x3 s2 64x56x56", each(padded, ("pads", "Pad"), 64, 56)),
    *(
        (
            f"1x1 {a}→{b}, {s}x{s}",
            each(pointwise, ("Conv", "MatMul W·X", "MatMul of Transpose"), a, b, s),
        )
        for a, b, s in ((64, 128, 28), (24, 48, 28), (320, 1280, 7))
    ),
    ("ConvNext mlp 96x28x28", each(tokens, ("MatMul", "Conv"), 96, 28)),
    *(
        (
            f"1-D {a}→{b}, length {n}, kernel {k}",
            each(wave, ("Conv1D", "Conv2D, height 1", "Conv2D, width 1"), a, b, n, k),
        )
        for a, b, n, k in ((128, 16, 256, 64), (64, 64, 1024, 5))
    ),
    ("two 1x1 64→128→64, 28x28", each(two_pointwise, ("two", "one"), 64, 128, 28)),
    ("two 1x1 64→16→64, 28x28", each(two_pointwise, ("two", "one"), 64, 16, 28)),
    (
        "sibling 1x1 64→64,64,64 28x28",
        each(sibling_convs, ("separate", "merged"), 64, (64, 64, 64), 28),
    ),
    (
        "sibling 1x1 192→64,96,16 28x28",
        each(sibling_convs, ("separate", "merged"), 192, (64, 96, 16), 28),
    ),
    (
        "sibling 3x3 64→32,32 28x28",
        each(sibling_convs, ("separate", "merged"), 64, (32, 32), 28, 3),
    ),
    (
        "residual 64x28x28",
        each(
            residual,
            ("Add(conv, skip)", "Add(skip, conv)", "Sum(conv, skip)", "FusedConv with sum"),
            64,
            28,
        ),
    ),
    (
        "grouped 3x3 64x28x28, 4 groups",
        each(grouped, ("group", "dense", "Split, Concat"), 64, 28, 4),
    ),
    ("grouped 3x3 128x28x28, 32 groups", each(grouped, ("group", "dense"), 128, 28, 32)),
)
_OFF = {"optimization.disable_specified_optimizers": "Pad_Fusion"}
CASES = (
    *(Case("6-conv", name, forms) for name, forms in _CASES),
    *(
        Case(
            "6-conv",
            f"window of {k} over {c}x1x{n}",
            each(wide, ("pads", "Pad", "Pad, fusion off"), c, n, k),
            keys={"Pad, fusion off": _OFF},
        )
        for c, n, k in ((32, 256, 7), (32, 256, 63), (32, 64, 31), (128, 64, 7), (128, 64, 31))
    ),
)
