"""Forms of data movement and of small elementwise ideas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .case import Case
from .maker import random

if TYPE_CHECKING:
    from collections.abc import Callable

    from .maker import Maker

    Form = Callable[[Maker], str | list[str]]
    Body = Callable[[Maker, str], str | list[str]]


def after(body: Body, tokens: int, width: int, *, batch: int = 1) -> Form:
    """A layer, then the idea; a product with a constant after it when it gives one value of 3D."""

    def build(g: Maker) -> str | list[str]:
        x = g.MatMul(g.draw("x", batch, tokens, 32), g.weight("w1", 32, width))
        return body(g, x)

    return build


def enclosed(body: Body, tokens: int, width: int) -> Form:
    """A layer, an idea that keeps the shape, a layer."""

    def build(g: Maker) -> str:
        x = g.MatMul(g.draw("x", 1, tokens, 32), g.weight("w1", 32, width))
        return g.MatMul(body(g, x), g.weight("w2", width, 32))  # type: ignore[arg-type]

    return build


def cut(how: str) -> Body:
    """Three parts of the last axis, each used by itself."""

    def body(g: Maker, x: str) -> list[str]:
        n = 256
        if how == "Split":
            parts = list(g.node("Split", x, g.ints(n, n, n), axis=-1, outputs=3))
        elif how == "Slices":
            parts = [g.Slice(x, g.ints(i * n), g.ints(i * n + n), g.ints(-1)) for i in range(3)]
        else:
            y = g.Reshape(x, g.ints(1, 128, 3, n))
            parts = [g.Gather(y, g.constant(i, "int64"), axis=2) for i in range(3)]
        return [g.MatMul(g.Add(g.Mul(parts[0], parts[1]), parts[2]), g.weight("w2", n, 32))]

    return body


def one_token(how: str) -> Body:
    """The first token (as the pooler of BERT takes it)."""

    def body(g: Maker, x: str) -> str:
        if how == "Gather":
            y = g.Gather(x, g.constant(0, "int64"), axis=1)
        elif how == "Slice, Squeeze":
            y = g.Squeeze(g.Slice(x, g.ints(0), g.ints(1), g.ints(1)), g.ints(1))
        else:
            y = g.Reshape(g.Gather(x, g.ints(0), axis=1), g.ints(1, -1))
        return g.Tanh(g.MatMul(y, g.weight("w2", 768, 32)))

    return body


def gate(how: str) -> Body:
    """Half of the channels times the sigmoid of the other half."""

    def body(g: Maker, x: str) -> str:
        if how == "Split":
            a, b = g.node("Split", x, g.ints(384, 384), axis=-1, outputs=2)
        elif how == "Slices":
            a = g.Slice(x, g.ints(0), g.ints(384), g.ints(-1))
            b = g.Slice(x, g.ints(384), g.ints(768), g.ints(-1))
        else:
            a = g.Gather(x, g.constant(np.arange(384)), axis=-1)
            b = g.Gather(x, g.constant(np.arange(384, 768)), axis=-1)
        return g.MatMul(g.Mul(a, g.Sigmoid(b)), g.weight("w2", 384, 32))

    return body


def heads(how: str) -> Body:
    """Four dimensions to heads and back."""

    def body(g: Maker, x: str) -> str:
        if how == "one Transpose":
            y = g.Transpose(g.Reshape(x, g.ints(1, 128, 12, 64)), perm=[0, 2, 3, 1])
        elif how == "two Transposes":
            y = g.Transpose(g.Reshape(x, g.ints(1, 128, 12, 64)), perm=[0, 2, 1, 3])
            y = g.Transpose(y, perm=[0, 1, 3, 2])
        else:
            y = g.Transpose(x, perm=[0, 2, 1])
            y = g.Reshape(y, g.ints(1, 12, 64, 128))
        return g.ReduceMax(g.Relu(y), g.ints(-1), keepdims=0)

    return body


def merged(how: str) -> Body:
    """Reshapes in a row."""

    def body(g: Maker, x: str) -> str:
        y = g.Relu(x)
        if how == "three":
            y = g.Reshape(y, g.ints(128, 768))
            y = g.Unsqueeze(g.Reshape(y, g.ints(128, 12, 64)), g.ints(0))
        else:
            y = g.Reshape(y, g.ints(1, 128, 12, 64))
        return g.ReduceMax(y, g.ints(-1), keepdims=0)

    return body


def joined(how: str) -> Form:
    """Many pieces joined along the last axis: Concat of eight, of pairs, or ScatterND-free sums."""

    def build(g: Maker) -> str:
        x = g.draw("x", 1, 128, 32)
        parts = [g.Relu(g.MatMul(x, g.weight(f"w{i}", 32, 96))) for i in range(8)]
        if how == "one Concat":
            y = g.Concat(*parts, axis=-1)
        elif how == "chain of Concats":
            y = parts[0]
            for part in parts[1:]:
                y = g.Concat(y, part, axis=-1)
        else:
            while len(parts) > 1:
                parts = [
                    g.Concat(a, b, axis=-1) for a, b in zip(parts[::2], parts[1::2], strict=True)
                ]
            y = parts[0]
        return g.MatMul(y, g.weight("wo", 768, 32))

    return build


def _scores(how: str) -> Form:
    """Softmax of scores over an axis that is last or not, with the guard, under masks."""

    def build(g: Maker) -> str:
        a = g.draw("a", 12, 128, 64)
        s = g.MatMul(a, g.weight("k", 12, 64, 128, scale=0.1))
        keep = np.arange(128)[None, None] < 100
        if how in ("Where with mask", "Add mask from Where"):
            g.input("keep", keep)
        if how == "Where with mask":
            s = g.Where("keep", s, g.constant(-1e9))
        elif how == "Add mask":
            s = g.Add(s, g.input("add", np.where(keep, 0, -1e9).astype(np.float32)))
        elif how == "Add mask from Where":
            s = g.Add(s, g.Where("keep", g.constant(0.0), g.constant(-1e9)))
        elif how == "Add full mask":
            full = np.broadcast_to(np.where(keep, 0, -1e9), (1, 128, 128)).astype(np.float32)
            s = g.Add(s, g.input("add", np.ascontiguousarray(full)))
        p = g.Softmax(s, axis=-1)
        if how == "with guard":
            p = g.Where(g.IsNaN(p), g.constant(0.0), p)
        return g.MatMul(p, g.weight("v", 12, 128, 64))

    return build


def einsum(how: str) -> Form:
    """Scores of attention from data that is not transposed."""

    def build(g: Maker) -> str:
        q = g.Relu(g.draw("q", 1, 128, 12, 64))
        k = g.Relu(g.draw("k", 1, 128, 12, 64))
        if how == "Einsum":
            y = g.Einsum(q, k, equation="bqhd,bkhd->bhqk")
        else:
            a, b = g.Transpose(q, perm=[0, 2, 1, 3]), g.Transpose(k, perm=[0, 2, 3, 1])
            y = g.MatMul(a, b)
        return g.Softmax(y, axis=-1)

    return build


def rotary(how: str) -> Form:
    """Rotary embedding of queries, then scores."""

    def build(g: Maker) -> str:
        angles = np.arange(128)[:, None] / 10000 ** (np.arange(32)[None] / 32)
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        x = g.MatMul(g.draw("x", 1, 128, 32), g.weight("w1", 32, 768))
        q = g.Transpose(g.Reshape(x, g.ints(1, 128, 12, 64)), perm=[0, 2, 1, 3])
        ids = g.constant(np.arange(128)[None])
        if how == "RotaryEmbedding-23 4D":
            g.needs(23)
            q = g.RotaryEmbedding(q, g.constant(cos), g.constant(sin), ids)
        elif how == "RotaryEmbedding-23 4D, caches 3D":
            g.needs(23)
            q = g.RotaryEmbedding(q, g.constant(cos[None]), g.constant(sin[None]))
        elif how == "RotaryEmbedding-23 3D":
            g.needs(23)
            x = g.RotaryEmbedding(x, g.constant(cos), g.constant(sin), ids, num_heads=12)
            q = g.Transpose(g.Reshape(x, g.ints(1, 128, 12, 64)), perm=[0, 2, 1, 3])
        elif how == "RotaryEmbedding (microsoft) 4D":
            q = g.ms("RotaryEmbedding", q, ids, g.constant(cos), g.constant(sin), interleaved=0)
        else:
            if how == "Slice, Neg, Concat":
                a = g.Slice(q, g.ints(0), g.ints(32), g.ints(-1))
                b = g.Slice(q, g.ints(32), g.ints(2**62), g.ints(-1))
            else:
                a, b = g.node("Split", q, g.ints(32, 32), axis=-1, outputs=2)
            c, s = (g.constant(np.concatenate([t, t], 1)[None, None]) for t in (cos, sin))
            q = g.Add(g.Mul(q, c), g.Mul(g.Concat(g.Neg(b), a, axis=-1), s))
        return g.Softmax(g.MatMul(q, g.weight("k", 12, 64, 128, scale=0.1)), axis=-1)

    return build


def lstm(how: str) -> Form:
    """Zero start of an LSTM: left out, constant, or computed."""

    def build(g: Maker) -> str:
        x = g.draw("x", 64, 1, 128)
        w, r = g.weight("w", 1, 512, 128, scale=0.05), g.weight("r", 1, 512, 128, scale=0.05)
        start: tuple[str, ...] = ()
        if how == "constant":
            start = ("", g.constant(np.zeros((1, 1, 128), np.float32))) * 1
            start = ("", start[1], start[1])
        elif how == "ConstantOfShape":
            size = g.Concat(
                g.ints(1), g.Slice(g.Shape(x), g.ints(1), g.ints(2)), g.ints(128), axis=0
            )
            zero = g.ConstantOfShape(size)
            start = ("", zero, zero)
        y = g.node(
            "LSTM", x, w, r, g.weight("b", 1, 1024, scale=0.1), *start, outputs=3, hidden_size=128
        )
        return g.Squeeze(y[0], g.ints(1))

    return build


def space_to_depth(how: str) -> Form:
    """Pixels of 2x2 to channels, before a convolution (Focus; patch merging)."""

    def build(g: Maker) -> str:
        x = g.draw("x", 1, 16, 64, 64)
        y = g.Relu(g.Conv(x, g.weight("k0", 32, 16, 1, 1)))
        k = random("k1", (32, 128, 1, 1)) / np.float32(12)
        if how == "four Slices, Concat":
            corners = [(0, 0), (1, 0), (0, 1), (1, 1)]
            parts = [
                g.Slice(y, g.ints(a, b), g.ints(2**62, 2**62), g.ints(2, 3), g.ints(2, 2))
                for a, b in corners
            ]
            return g.Conv(g.Concat(*parts, axis=1), g.constant(k))
        if how == "SpaceToDepth":
            order = np.asarray([0, 2, 1, 3])
            w = k.reshape(32, 4, 32, 1, 1)[:, order].reshape(32, 128, 1, 1)
            return g.Conv(g.SpaceToDepth(y, blocksize=2), g.constant(w))
        w = k.reshape(32, 4, 32)[:, [0, 2, 1, 3]].reshape(32, 2, 2, 32).transpose(0, 3, 1, 2)
        return g.Conv(y, g.constant(np.ascontiguousarray(w)), strides=[2, 2])

    return build


def _named(make: Callable[[str], Form], *names: str) -> dict[str, Form]:
    return {name: make(name) for name in names}


def bodies(place: Callable[..., Form], make: Callable[[str], Body], *names: str) -> dict[str, Form]:
    """The named forms, each on 128x768."""
    return {name: place(make(name), 128, 768) for name in names}


_CASES: tuple[tuple[str, dict[str, Form]], ...] = (
    ("three parts 128x768", bodies(after, cut, "Split", "Slices", "Reshape, Gathers")),
    ("first token", bodies(after, one_token, "Gather", "Slice, Squeeze", "Gather, Reshape")),
    ("halves, gated", bodies(after, gate, "Split", "Slices", "Gathers")),
    (
        "to heads",
        bodies(after, heads, "one Transpose", "two Transposes", "Transpose, Reshape"),
    ),
    ("reshapes", bodies(after, merged, "one", "three")),
    ("eight parts joined", _named(joined, "one Concat", "chain of Concats", "tree of Concats")),
    ("NaN guard of Softmax", _named(_scores, "plain", "with guard")),
    (
        "mask of scores",
        _named(
            _scores,
            "Add mask",
            "Add full mask",
            "Where with mask",
            "Add mask from Where",
        ),
    ),
    ("Einsum bqhd,bkhd→bhqk", _named(einsum, "Transpose, MatMul", "Einsum")),
    (
        "rotary embedding",
        _named(
            rotary,
            "Slice, Neg, Concat",
            "Split, Neg, Concat",
            "RotaryEmbedding-23 4D",
            "RotaryEmbedding-23 4D, caches 3D",
            "RotaryEmbedding-23 3D",
            "RotaryEmbedding (microsoft) 4D",
        ),
    ),
    (
        "space to depth",
        _named(space_to_depth, "four Slices, Concat", "SpaceToDepth", "Conv 2x2 stride 2"),
    ),
)
CASES = (
    *(Case("7-movement", name, forms) for name, forms in _CASES),
    Case("8-recurrent", "LSTM from zero", _named(lstm, "left out", "constant", "ConstantOfShape")),
)
