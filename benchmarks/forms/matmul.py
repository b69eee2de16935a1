"""Forms of matrix products with constant weights: bias, transposes, scales, siblings."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .case import Case
from .maker import random

if TYPE_CHECKING:
    from collections.abc import Callable

    from .maker import Maker

    Form = Callable[[Maker], str | list[str]]


def _weight(key: str, k: int, n: int) -> np.ndarray:
    return random(key, (k, n)) / np.float32(np.sqrt(k))


def linear(how: str, m: int, k: int, n: int, *, dynamic: bool = False) -> Form:
    """A layer with bias, then Relu and another layer."""

    def build(g: Maker) -> str:
        x = g.input("x", random("x", (1, m, k)), (1, "m", k) if dynamic else None)
        y = g.Relu(_linear(g, how, x, m, k, n))
        return g.MatMul(y, g.weight("w2", n, 32))

    return build


def _linear(g: Maker, how: str, x: str, m: int, k: int, n: int) -> str:
    w, b = _weight("w", k, n), g.weight("b", n, scale=0.1)
    if how == "MatMul + Add":
        return g.Add(g.MatMul(x, g.constant(w)), b)
    if how == "Add + MatMul (bias first)":
        return g.Add(b, g.MatMul(x, g.constant(w)))
    if how == "Transpose of weight, MatMul":
        return g.Add(g.MatMul(x, g.Transpose(g.constant(w.T), perm=[1, 0])), b)
    if how == "FusedMatMul transB + Add":
        return g.Add(g.ms("FusedMatMul", x, g.constant(w.T), transB=1), b)
    rows = g.Reshape(x, g.ints(-1, k))
    if how == "Gemm":
        y = g.Gemm(rows, g.constant(w), b)
    elif how == "Gemm transB":
        y = g.Gemm(rows, g.constant(w.T), b, transB=1)
    else:
        y = g.Add(g.MatMul(rows, g.constant(w)), b)
    return g.Reshape(y, g.ints(1, -1, n))


_LINEAR = (
    "MatMul + Add",
    "Add + MatMul (bias first)",
    "Gemm",
    "Gemm transB",
    "2D MatMul + Add",
    "Transpose of weight, MatMul",
    "FusedMatMul transB + Add",
)


def no_bias(how: str, m: int, k: int, n: int) -> Form:
    """A layer without bias on 2D data."""

    def build(g: Maker) -> str:
        x, w = g.draw("x", m, k), _weight("w", k, n)
        if how == "MatMul":
            y = g.MatMul(x, g.constant(w))
        elif how == "Gemm":
            y = g.Gemm(x, g.constant(w))
        else:
            y = g.Gemm(x, g.constant(w.T), transB=1)
        return g.MatMul(g.Relu(y), g.weight("w2", n, 32))

    return build


def scaled(how: str, m: int, k: int, n: int) -> Form:
    """A scalar factor around a layer."""

    def build(g: Maker) -> str:
        x, w, b = g.draw("x", 1, m, k), _weight("w", k, n), random("b", (n,)) * np.float32(0.1)
        factor = np.float32(0.125)
        if how == "folded":
            y = g.Add(g.MatMul(x, g.constant(w * factor)), g.constant(b * factor))
        elif how == "Mul after Add":
            y = g.Add(g.MatMul(x, g.constant(w)), g.constant(b))
            y = g.Mul(y, g.constant(0.125))
        elif how == "Mul after MatMul":
            y = g.Mul(g.MatMul(x, g.constant(w)), g.constant(0.125))
            y = g.Add(y, g.constant(b * factor))
        else:
            y = g.MatMul(g.Mul(x, g.constant(0.125)), g.constant(w))
            y = g.Add(y, g.constant(b * factor))
        return g.MatMul(g.Relu(y), g.weight("w2", n, 32))

    return build


def per_channel(how: str, m: int, k: int, n: int) -> Form:
    """A factor per output channel after a layer."""

    def build(g: Maker) -> str:
        x, w = g.draw("x", 1, m, k), _weight("w", k, n)
        scale, b = 1 + 0.1 * random("s", (n,)), random("b", (n,)) * np.float32(0.1)
        if how == "folded":
            y = g.Add(g.MatMul(x, g.constant(w * scale)), g.constant(b))
        else:
            y = g.Add(g.Mul(g.MatMul(x, g.constant(w)), g.constant(scale)), g.constant(b))
        return g.MatMul(g.Relu(y), g.weight("w2", n, 32))

    return build


def siblings(how: str, m: int, k: int, widths: tuple[int, ...], *, bias: bool = True) -> Form:
    """Layers over the same input; each result gets an activation of its own."""

    def build(g: Maker) -> list[str]:
        x = g.draw("x", 1, m, k)
        weights = [_weight(f"w{i}", k, n) for i, n in enumerate(widths)]
        biases = [random(f"b{i}", (n,)) * np.float32(0.1) for i, n in enumerate(widths)]
        if how == "separate":
            parts = [g.MatMul(x, g.constant(w)) for w in weights]
            if bias:
                parts = [g.Add(p, g.constant(b)) for p, b in zip(parts, biases, strict=True)]
        else:
            y = g.MatMul(x, g.constant(np.concatenate(weights, 1)))
            if bias:
                y = g.Add(y, g.constant(np.concatenate(biases)))
            if how == "merged, Split":
                parts = list(g.node("Split", y, g.ints(*widths), axis=-1, outputs=len(widths)))
            else:
                ends = np.cumsum((0, *widths))
                parts = [
                    g.Slice(y, g.ints(int(a)), g.ints(int(z)), g.ints(-1))
                    for a, z in pairwise(ends)
                ]
        return [g.ReduceMax(g.Relu(p), g.ints(1)) for p in parts]

    return build


def by_heads(how: str, m: int, heads: int = 12, size: int = 64) -> Form:
    """Merged projections split before or after the heads are: what follows is QK of attention."""

    def build(g: Maker) -> list[str]:
        k = heads * size
        x = g.draw("x", 1, m, k)
        weights = [_weight(f"w{i}", k, k) for i in range(3)]
        if how == "separate":
            parts = [
                g.Transpose(
                    g.Reshape(g.MatMul(x, g.constant(w)), g.ints(1, m, heads, size)),
                    perm=[0, 2, 1, 3],
                )
                for w in weights
            ]
        else:
            y = g.MatMul(x, g.constant(np.concatenate(weights, 1)))
            if how == "merged, Split, heads":
                parts = [
                    g.Transpose(g.Reshape(p, g.ints(1, m, heads, size)), perm=[0, 2, 1, 3])
                    for p in g.node("Split", y, g.ints(k, k, k), axis=-1, outputs=3)
                ]
            else:
                y = g.Transpose(g.Reshape(y, g.ints(1, m, 3, heads, size)), perm=[2, 0, 3, 1, 4])
                if how == "merged, heads, Gather":
                    parts = [g.Gather(y, g.constant(i, "int64"), axis=0) for i in range(3)]
                else:
                    parts = [
                        g.Squeeze(p, g.ints(0))
                        for p in g.node("Split", y, g.ints(1, 1, 1), axis=0, outputs=3)
                    ]
        q, keys, v = parts
        return [g.MatMul(g.MatMul(q, g.Transpose(keys, perm=[0, 1, 3, 2])), v)]

    return build


def transposed(how: str, m: int, k: int) -> Form:
    """Product with the transpose of a computed matrix."""

    def build(g: Maker) -> str:
        a = g.Relu(g.MatMul(g.draw("x", 12, m, 32), g.weight("wa", 32, k)))
        b = g.Relu(g.MatMul(g.draw("y", 12, m, 32), g.weight("wb", 32, k)))
        if how == "FusedMatMul transB":
            return g.Softmax(g.ms("FusedMatMul", a, b, transB=1, alpha=0.125), axis=-1)
        if how == "Einsum":
            y = g.Einsum(a, b, equation="bik,bjk->bij")
        else:
            y = g.MatMul(a, g.Transpose(b, perm=[0, 2, 1]))
        return g.Softmax(g.Mul(y, g.constant(0.125)), axis=-1)

    return build


def _each(make: Callable[..., Form], names: tuple[str, ...], *sizes: int) -> dict[str, Form]:
    return {name: make(name, *sizes) for name in names}


CASES = (
    *(
        Case("5-matmul", f"linear {m}x{k}x{n}", _each(linear, _LINEAR, m, k, n))
        for m, k, n in (
            (1, 768, 768),
            (16, 384, 384),
            (128, 384, 384),
            (128, 768, 3072),
            (512, 768, 768),
        )
    ),
    Case(
        "5-matmul",
        "linear 128x384x384, rows unknown",
        {name: linear(name, 128, 384, 384, dynamic=True) for name in _LINEAR},
    ),
    *(
        Case(
            "5-matmul",
            f"no bias, 2D, {m}x{k}x{n}",
            _each(no_bias, ("MatMul", "Gemm", "Gemm transB"), m, k, n),
        )
        for m, k, n in ((1, 768, 768), (128, 768, 768))
    ),
    Case(
        "5-matmul",
        "scalar factor 128x384x384",
        _each(scaled, ("folded", "Mul after Add", "Mul after MatMul", "Mul before"), 128, 384, 384),
    ),
    Case(
        "5-matmul",
        "factor per channel 128x384x384",
        _each(per_channel, ("folded", "Mul after"), 128, 384, 384),
    ),
    *(
        Case(
            "5-matmul",
            f"three siblings {m}x{k}x3·{k}{'' if bias else ', no bias'}",
            {
                how: siblings(how, m, k, (k, k, k), bias=bias)
                for how in ("separate", "merged, Split", "merged, Slices")
            },
        )
        for k in (384, 768)
        for m in (1, 16, 128, 512)
        for bias in ((True, False) if m == 128 else (True,))
    ),
    *(
        Case(
            "5-matmul",
            f"two siblings {m}x1024x2·2752, no bias",
            {
                how: siblings(how, m, 1024, (2752, 2752), bias=False)
                for how in ("separate", "merged, Split")
            },
        )
        for m in (1, 128)
    ),
    *(
        Case(
            "5-matmul",
            f"QKV to heads, {m} tokens",
            {
                how: by_heads(how, m)
                for how in (
                    "separate",
                    "merged, Split, heads",
                    "merged, heads, Gather",
                    "merged, heads, Split",
                )
            },
        )
        for m in (16, 128)
    ),
    Case(
        "5-matmul",
        "transposed operand 12x128x64",
        _each(transposed, ("Transpose + MatMul", "FusedMatMul transB", "Einsum"), 128, 64),
    ),
)
