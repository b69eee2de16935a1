"""Forms of attention with past keys and values, one token a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .case import Case

if TYPE_CHECKING:
    from collections.abc import Callable

    from .maker import Maker


@dataclass(frozen=True)
class Step:
    """Sizes: heads of queries, heads of keys and values, tokens now, tokens before."""

    heads: int
    shared: int
    past: int
    tokens: int = 1
    size: int = 64

    @property
    def total(self) -> int:
        """Tokens that are attended to."""
        return self.past + self.tokens


def start(g: Maker, s: Step) -> tuple[str, str, str, str, str]:
    """Query, key and value as projections, and what is past."""
    x = g.draw("x", 1, s.tokens, 512)
    q = g.MatMul(x, g.weight("wq", 512, s.heads * s.size))
    k = g.MatMul(x, g.weight("wk", 512, s.shared * s.size))
    v = g.MatMul(x, g.weight("wv", 512, s.shared * s.size))
    shape = (1, s.shared, s.past, s.size)
    return q, k, v, g.draw("past_k", *shape), g.draw("past_v", *shape)


def finish(g: Maker, y: str, s: Step) -> str:
    """The projection of the output; y is tokensxhidden."""
    return g.MatMul(y, g.weight("wo", s.heads * s.size, 512))


def heads_first(g: Maker, x: str, heads: int, s: Step) -> str:
    """From tokensxhidden to headsxtokensxsize."""
    return g.Transpose(g.Reshape(x, g.ints(1, s.tokens, heads, s.size)), perm=[0, 2, 1, 3])


def back(g: Maker, y: str, s: Step) -> str:
    """The way back."""
    return g.Reshape(g.Transpose(y, perm=[0, 2, 1, 3]), g.ints(1, s.tokens, s.heads * s.size))


def repeat(g: Maker, x: str, s: Step) -> str:
    """Every head of keys for the queries that share it."""
    if s.heads == s.shared:
        return x
    times = s.heads // s.shared
    wide = g.Expand(g.Unsqueeze(x, g.ints(2)), g.ints(1, s.shared, times, s.total, s.size))
    return g.Reshape(wide, g.ints(1, s.heads, s.total, s.size))


def unfused(s: Step, *, grouped: bool = False) -> Callable[[Maker], list[str]]:
    """Concat, MatMul, Softmax, MatMul; `grouped` multiplies groups instead of repeating keys."""

    def build(g: Maker) -> list[str]:
        q, k, v, past_k, past_v = start(g, s)
        keys = g.Concat(past_k, heads_first(g, k, s.shared, s), axis=2)
        values = g.Concat(past_v, heads_first(g, v, s.shared, s), axis=2)
        a = heads_first(g, q, s.heads, s)
        if grouped:
            rows = s.heads // s.shared * s.tokens
            a = g.Reshape(a, g.ints(1, s.shared, rows, s.size))
            b, c = keys, values
        else:
            b, c = repeat(g, keys, s), repeat(g, values, s)
        scores = g.MatMul(a, g.Transpose(b, perm=[0, 1, 3, 2]))
        weights = g.Softmax(g.Mul(scores, g.constant(s.size**-0.5)), axis=-1)
        y = g.MatMul(weights, c)
        if grouped:
            y = g.Reshape(y, g.ints(1, s.heads, s.tokens, s.size))
        return [finish(g, back(g, y, s), s), keys, values]

    return build


def attention_op(s: Step, *, four: bool) -> Callable[[Maker], list[str]]:
    """ONNX Attention-23 with past."""

    def build(g: Maker) -> list[str]:
        g.needs(23)
        q, k, v, past_k, past_v = start(g, s)
        more: dict[str, int] = {}
        if four:
            q, k, v = (
                heads_first(g, x, h, s) for x, h in ((q, s.heads), (k, s.shared), (v, s.shared))
            )
        else:
            more = {"q_num_heads": s.heads, "kv_num_heads": s.shared}
        y, keys, values = g.node("Attention", q, k, v, "", past_k, past_v, outputs=3, **more)
        return [finish(g, back(g, y, s) if four else y, s), keys, values]

    return build


def attention_concat(s: Step) -> Callable[[Maker], list[str]]:
    """ONNX Attention-23 4D over concatenated keys and values."""

    def build(g: Maker) -> list[str]:
        g.needs(23)
        q, k, v, past_k, past_v = start(g, s)
        keys = g.Concat(past_k, heads_first(g, k, s.shared, s), axis=2)
        values = g.Concat(past_v, heads_first(g, v, s.shared, s), axis=2)
        y = g.Attention(heads_first(g, q, s.heads, s), keys, values)
        return [finish(g, back(g, y, s), s), keys, values]

    return build


def multi_head(s: Step) -> Callable[[Maker], list[str]]:
    """com.microsoft::MultiHeadAttention with past."""

    def build(g: Maker) -> list[str]:
        q, k, v, past_k, past_v = start(g, s)
        y, keys, values = g.node(
            "MultiHeadAttention",
            q,
            k,
            v,
            "",
            "",
            "",
            past_k,
            past_v,
            outputs=3,
            domain="com.microsoft",
            num_heads=s.heads,
        )
        return [finish(g, y, s), keys, values]

    return build


def group_query(s: Step) -> Callable[[Maker], list[str]]:
    """com.microsoft::GroupQueryAttention, causal by definition."""

    def build(g: Maker) -> list[str]:
        q, k, v, past_k, past_v = start(g, s)
        last = g.constant(np.asarray([s.total - 1], np.int32))
        total = g.constant(np.asarray(s.total, np.int32))
        y, keys, values = g.node(
            "GroupQueryAttention",
            q,
            k,
            v,
            past_k,
            past_v,
            last,
            total,
            outputs=3,
            domain="com.microsoft",
            num_heads=s.heads,
            kv_num_heads=s.shared,
        )
        return [finish(g, y, s), keys, values]

    return build


def _forms(s: Step) -> dict[str, Callable[[Maker], list[str]]]:
    found = {
        "unfused": unfused(s),
        "Attention-23 3D, past": attention_op(s, four=False),
        "Attention-23 4D, past": attention_op(s, four=True),
        "Attention-23 4D, Concat": attention_concat(s),
        "GroupQueryAttention": group_query(s),
    }
    if s.heads == s.shared:
        return found | {"MultiHeadAttention, past": multi_head(s)}
    return found | {"unfused, grouped MatMul": unfused(s, grouped=True)}


CASES = tuple(
    Case("4-attention", f"decode {s.heads}/{s.shared}x64, {s.past} past", _forms(s))
    for s in (Step(12, 12, 128), Step(16, 4, 128), Step(16, 4, 1024))
)
