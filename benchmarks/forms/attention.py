"""Forms of attention: of its core, and of its projections."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .case import Case
from .maker import random

if TYPE_CHECKING:
    from collections.abc import Callable

    from .maker import Maker

    Core = Callable[[Maker, str, str, str, "Shape"], str]


@dataclass(frozen=True)
class Shape:
    """Sizes of one layer.

    `mask` is none, bool (keep), additive (0 or a large negative, made from a bool in the graph) or
    causal. `width` is that of the input, and of the output; as many as hidden when 0: a narrow one
    makes the projections cheap, so that the core shows.
    """

    tokens: int
    heads: int = 12
    size: int = 64
    mask: str = "none"
    width: int = 0

    @property
    def hidden(self) -> int:
        """Heads times size."""
        return self.heads * self.size

    @property
    def inner(self) -> int:
        """The width of input and output."""
        return self.width or self.hidden

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return 1.0 / math.sqrt(self.size)


def keep(g: Maker, s: Shape) -> str:
    """The bool mask of keys, 1 for the first three quarters: an input of shape 1x1x1xtokens."""
    if "keep" in g.feeds:
        return "keep"
    mask = np.arange(s.tokens) < (3 * s.tokens // 4)
    return g.input("keep", mask.reshape(1, 1, 1, -1))


def additive(g: Maker, s: Shape) -> str:
    """The float mask, made in the graph."""
    if s.mask == "causal":
        triangle = np.triu(np.full((s.tokens, s.tokens), -1e9, np.float32), 1)
        return g.constant(triangle[None, None])
    return g.Where(keep(g, s), g.constant(0.0), g.constant(-1e9))


def split_heads(g: Maker, x: str, s: Shape, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """From tokensxhidden to headsxtokensxsize."""
    return g.Transpose(g.Reshape(x, g.ints(1, s.tokens, s.heads, s.size)), perm=perm)


def join_heads(g: Maker, x: str, s: Shape) -> str:
    """The way back."""
    return g.Reshape(g.Transpose(x, perm=[0, 2, 1, 3]), g.ints(1, s.tokens, s.hidden))


def masked(g: Maker, scores: str, s: Shape, how: str) -> str:
    """Scores under the mask."""
    if s.mask == "none":
        return scores
    if how == "where":
        return g.Where(keep(g, s), scores, g.constant(-1e9))
    return g.Add(scores, additive(g, s))


def unfused(where: str = "scores div", how: str = "add", *, guard: bool = False) -> Core:
    """MatMul, Softmax, MatMul; `where` says what is scaled, and how."""

    def build(g: Maker, q: str, k: str, v: str, s: Shape) -> str:
        a = split_heads(g, q, s)
        b = split_heads(g, k, s, (0, 2, 3, 1))
        if where == "q":
            a = g.Mul(a, g.constant(s.scale))
        if where == "both":
            root = g.constant(math.sqrt(s.scale))
            a, b = g.Mul(a, root), g.Mul(b, root)
        scores = g.MatMul(a, b)
        if where == "scores div":
            scores = g.Div(scores, g.constant(1.0 / s.scale))
        if where == "scores mul":
            scores = g.Mul(scores, g.constant(s.scale))
        weights = g.Softmax(masked(g, scores, s, how), axis=-1)
        if guard:
            weights = g.Where(g.IsNaN(weights), g.constant(0.0), weights)
        return join_heads(g, g.MatMul(weights, split_heads(g, v, s)), s)

    return build


def multi_head(g: Maker, q: str, k: str, v: str, s: Shape) -> str:
    """com.microsoft::MultiHeadAttention on 3D operands, with an additive mask."""
    extra: tuple[str, ...] = ()
    more = {}
    if s.mask == "causal":
        more["unidirectional"] = 1
    elif s.mask != "none":
        shape = g.constant(np.zeros((1, 1, s.tokens, s.tokens), np.float32))
        extra = ("", "", g.Add(additive(g, s), shape))
    return g.ms("MultiHeadAttention", q, k, v, *extra, num_heads=s.heads, scale=s.scale, **more)


def multi_head_keys(g: Maker, q: str, k: str, v: str, s: Shape) -> str:
    """The same with the mask of keys as int32 (only the kind of mask that pads)."""
    if s.mask != "bool":
        return multi_head(g, q, k, v, s)
    mask = g.Reshape(g.Cast(keep(g, s), to=6), g.ints(1, s.tokens))
    return g.ms(
        "MultiHeadAttention",
        q,
        k,
        v,
        "",
        mask,
        num_heads=s.heads,
        scale=s.scale,
        mask_filter_value=-1e9,
    )


def attention_op(*, four: bool, boolean: bool, expand: bool = False) -> Core:
    """ONNX Attention-23, on 3D or 4D operands, with a bool or an additive mask."""

    def build(g: Maker, q: str, k: str, v: str, s: Shape) -> str:
        g.needs(23)
        mask: tuple[str, ...] = ()
        more = {"scale": s.scale}
        if s.mask == "causal":
            more["is_causal"] = 1
        elif s.mask != "none":
            mask = (keep(g, s) if boolean else additive(g, s),)
            if expand:
                mask = (g.Expand(mask[0], g.ints(1, 1, s.tokens, s.tokens)),)
        if four:
            parts = [split_heads(g, x, s) for x in (q, k, v)]
            return join_heads(g, g.Attention(*parts, *mask, **more), s)
        more |= {"q_num_heads": s.heads, "kv_num_heads": s.heads}
        return g.Attention(q, k, v, *mask, **more)

    return build


def three(core: Core, s: Shape, fold: float = 1.0) -> Callable[[Maker], str]:
    """Three MatMul + Add, the core, and the projection of the output.

    `fold` is multiplied into weight and bias of the query.
    """

    def build(g: Maker) -> str:
        x = g.draw("x", 1, s.tokens, s.inner)
        parts = []
        for n, factor in zip("qkv", (fold, 1.0, 1.0), strict=True):
            weight, bias = weights_of(n, s)
            y = g.MatMul(x, g.constant(weight * np.float32(factor)))
            parts.append(g.Add(y, g.constant(bias * np.float32(factor))))
        return g.MatMul(core(g, *parts, s), g.weight("wo", s.hidden, s.inner))

    return build


def weights_of(n: str, s: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the query, key or value."""
    weight = random(f"w{n}", (s.inner, s.hidden)) / np.float32(math.sqrt(s.inner))
    return weight, random(f"b{n}", (s.hidden,)) * np.float32(0.1)


def stacked(g: Maker, s: Shape) -> tuple[str, str]:
    """Weights and biases of the three, side by side."""
    weights, biases = zip(*(weights_of(n, s) for n in "qkv"), strict=True)
    return g.constant(np.concatenate(weights, axis=1)), g.constant(np.concatenate(biases))


def merged(core: Core, s: Shape) -> Callable[[Maker], str]:
    """One MatMul + Add, Split, the core, and the projection of the output."""

    def build(g: Maker) -> str:
        weights, biases = stacked(g, s)
        y = g.Add(g.MatMul(g.draw("x", 1, s.tokens, s.inner), weights), biases)
        parts = g.Split(y, g.ints(*[s.hidden] * 3), axis=-1, outputs=3)
        return g.MatMul(core(g, *parts, s), g.weight("wo", s.hidden, s.inner))

    return build


def packed(s: Shape) -> Callable[[Maker], str]:
    """com.microsoft::Attention."""

    def build(g: Maker) -> str:
        x = g.draw("x", 1, s.tokens, s.inner)
        operands = [x, *stacked(g, s)]
        more: dict[str, int | float] = {"num_heads": s.heads, "scale": s.scale}
        if s.mask == "causal":
            more["unidirectional"] = 1
        elif s.mask == "bool":
            operands.append(g.Reshape(g.Cast(keep(g, s), to=6), g.ints(1, s.tokens)))
            more["mask_filter_value"] = -1e9
        y = g.ms("Attention", *operands, **more)
        return g.MatMul(y, g.weight("wo", s.hidden, s.inner))

    return build


def forms(s: Shape) -> dict[str, Callable[[Maker], str]]:
    """All forms for one shape."""
    found = {
        "unfused, scores ÷": three(unfused(), s),
        "unfused, scores *": three(unfused("scores mul"), s),
        "unfused, q *": three(unfused("q"), s),
        "unfused, q and k *": three(unfused("both"), s),
        "unfused, scale in weights": three(unfused("none"), s, s.scale),
        "unfused, NaN guard": three(unfused(guard=True), s),
        "unfused, merged QKV": merged(unfused("scores mul"), s),
        "MultiHeadAttention": three(multi_head, s),
        "MultiHeadAttention, merged QKV": merged(multi_head, s),
        "Attention packed (microsoft)": packed(s),
        "Attention-23 3D": three(attention_op(four=False, boolean=False), s),
        "Attention-23 4D": three(attention_op(four=True, boolean=False), s),
        "Attention-23 4D, merged QKV": merged(attention_op(four=True, boolean=False), s),
    }
    if s.mask == "bool":
        found["unfused, Where bool"] = three(unfused("scores mul", "where"), s)
        found["MultiHeadAttention, key mask"] = three(multi_head_keys, s)
        found["Attention-23 3D, bool"] = three(attention_op(four=False, boolean=True), s)
        found["Attention-23 3D, bool expanded"] = three(
            attention_op(four=False, boolean=True, expand=True), s
        )
        found["Attention-23 4D, expanded"] = three(
            attention_op(four=True, boolean=False, expand=True), s
        )
    return found


def _name(s: Shape) -> str:
    narrow = ", core" if s.width else ""
    return f"{s.heads}x{s.size}, {s.tokens} tokens, {s.mask}{narrow}"


CASES = tuple(
    Case("4-attention", _name(s), forms(s))
    for s in (
        Shape(128, mask="bool", width=32),
        Shape(384, mask="bool", width=32),
        Shape(128, mask="causal", width=32),
        Shape(384, width=32),
        Shape(128, 12, 32, mask="bool", width=32),
        Shape(128, mask="bool"),
        Shape(384, mask="bool"),
        Shape(128, 12, 32, mask="bool"),
    )
)
