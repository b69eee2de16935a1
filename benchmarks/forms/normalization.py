"""Forms of layer, RMS, group and instance normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .case import Case
from .maker import random

if TYPE_CHECKING:
    from collections.abc import Callable

    from .maker import Maker

    Norm = Callable[[Maker, str, int], str]

EPSILON = 1e-5


def mean(g: Maker, x: str, *axes: int) -> str:
    """ReduceMean that keeps the axes, as the opset writes it."""
    if g.opset >= 18:
        return g.ReduceMean(x, g.ints(*axes))
    return g.ReduceMean(x, axes=axes)


def affine(g: Maker, x: str, n: int, *tail: int) -> tuple[str, str]:
    """Scale and bias of n channels."""
    return (
        g.constant(1 + 0.1 * random("scale", (n, *tail))),
        g.weight("bias", n, *tail, scale=0.1),
    )


def layer(power: str = "Pow", root: str = "Div", epsilon: float = EPSILON) -> Norm:
    """LayerNormalization in primitives."""

    def build(g: Maker, x: str, n: int) -> str:
        scale, bias = affine(g, x, n)
        d = g.Sub(x, mean(g, x, -1))
        square = g.Pow(d, g.constant(2.0)) if power == "Pow" else g.Mul(d, d)
        deviation = g.Sqrt(g.Add(mean(g, square, -1), g.constant(epsilon)))
        y = g.Div(d, deviation) if root == "Div" else g.Mul(d, g.Reciprocal(deviation))
        return g.Add(g.Mul(y, scale), bias)

    return build


def layer_op(g: Maker, x: str, n: int) -> str:
    """The operation."""
    return g.LayerNormalization(x, *affine(g, x, n), epsilon=EPSILON)


def layer_no_affine(g: Maker, x: str, n: int) -> str:
    """The operation with ones, and Mul and Add after."""
    scale, bias = affine(g, x, n)
    one = g.constant(random("scale", (n,)) * 0 + 1)
    return g.Add(g.Mul(g.LayerNormalization(x, one, epsilon=EPSILON), scale), bias)


def rms(g: Maker, x: str, n: int) -> str:
    """RMSNormalization in primitives, as Llama is exported."""
    scale, _ = affine(g, x, n)
    root = g.Sqrt(g.Add(mean(g, g.Pow(x, g.constant(2.0)), -1), g.constant(EPSILON)))
    return g.Mul(scale, g.Mul(x, g.Div(g.constant(1.0), root)))


def rms_div(g: Maker, x: str, n: int) -> str:
    """RMSNormalization in primitives, divided."""
    scale, _ = affine(g, x, n)
    root = g.Sqrt(g.Add(mean(g, g.Mul(x, x), -1), g.constant(EPSILON)))
    return g.Mul(g.Div(x, root), scale)


def rms_reciprocal(g: Maker, x: str, n: int) -> str:
    """RMSNormalization in primitives, with Reciprocal."""
    scale, _ = affine(g, x, n)
    root = g.Sqrt(g.Add(mean(g, g.Pow(x, g.constant(2.0)), -1), g.constant(EPSILON)))
    return g.Mul(scale, g.Mul(x, g.Reciprocal(root)))


def rms_simplified(g: Maker, x: str, n: int) -> str:
    """The operation that ONNX Runtime has in the ONNX domain."""
    return g.SimplifiedLayerNormalization(x, affine(g, x, n)[0], epsilon=EPSILON, axis=-1)


def rms_op(g: Maker, x: str, n: int) -> str:
    """The operation of opset 23."""
    g.needs(23)
    return g.RMSNormalization(x, affine(g, x, n)[0], epsilon=EPSILON)


def between(norm: Norm, n: int, tokens: int, opset: int = 18) -> Callable[[Maker], str]:
    """MatMul, the normalization, MatMul."""

    def build(g: Maker) -> str:
        g.opset = opset
        x = g.MatMul(g.draw("x", 1, tokens, 64), g.weight("w1", 64, n))
        return g.MatMul(norm(g, x, n), g.weight("w2", n, 64))

    return build


def _add(norm: Norm) -> Callable[[Maker, str, str, int], tuple[str, str]]:
    def build(g: Maker, x: str, y: str, n: int) -> tuple[str, str]:
        total = g.Add(x, y)
        return norm(g, total, n), total

    return build


def _skip(g: Maker, x: str, y: str, n: int) -> tuple[str, str]:
    outputs = g.ms("SkipLayerNormalization", x, y, *affine(g, x, n), outputs=4, epsilon=EPSILON)
    return outputs[0], outputs[3]


def _skip_rms(g: Maker, x: str, y: str, n: int) -> tuple[str, str]:
    outputs = g.ms(
        "SkipSimplifiedLayerNormalization", x, y, affine(g, x, n)[0], outputs=4, epsilon=EPSILON
    )
    return outputs[0], outputs[3]


def residual(
    add: Callable[[Maker, str, str, int], tuple[str, str]], n: int, tokens: int, *, post: bool
) -> Callable[[Maker], str]:
    """X + MatMul(x) + bias, normalized; with `post` the sum is not used again (as in BERT)."""

    def build(g: Maker) -> str:
        x = g.MatMul(g.draw("x", 1, tokens, 64), g.weight("w1", 64, n))
        x = g.Add(x, g.weight("b1", n, scale=0.1))
        y = g.MatMul(g.draw("x2", 1, tokens, 64), g.weight("w2", 64, n))
        y = g.Add(y, g.weight("b2", n, scale=0.1))
        normed, total = add(g, y, x, n)
        out = g.MatMul(normed, g.weight("w3", n, 64))
        if post:
            return out
        return g.Add(total, g.MatMul(g.Relu(out), g.weight("w4", 64, n)))

    return build


def group_primitives(g: Maker, x: str, c: int, size: int, groups: int) -> str:
    """GroupNormalization in primitives."""
    scale, bias = affine(g, x, c, 1, 1)
    r = g.Reshape(x, g.ints(1, groups, -1))
    d = g.Sub(r, mean(g, r, -1))
    root = g.Sqrt(g.Add(mean(g, g.Mul(d, d), -1), g.constant(EPSILON)))
    y = g.Reshape(g.Div(d, root), g.ints(1, c, size, size))
    return g.Add(g.Mul(y, scale), bias)


def group_instance(g: Maker, x: str, c: int, size: int, groups: int) -> str:
    """GroupNormalization as PyTorch exports it."""
    scale, bias = affine(g, x, c, 1, 1)
    r = g.Reshape(x, g.ints(0, groups, -1))
    one, zero = random("scale", (groups,)) * 0 + 1, random("scale", (groups,)) * 0
    y = g.InstanceNormalization(r, g.constant(one), g.constant(zero), epsilon=EPSILON)
    return g.Add(g.Mul(g.Reshape(y, g.ints(1, c, size, size)), scale), bias)


def group_layer(g: Maker, x: str, c: int, size: int, groups: int) -> str:
    """GroupNormalization over LayerNormalization of the flattened group."""
    scale, bias = affine(g, x, c, 1, 1)
    r = g.Reshape(x, g.ints(1, groups, -1))
    ones = g.constant(random("scale", (c // groups * size * size,)) * 0 + 1)
    y = g.LayerNormalization(r, ones, epsilon=EPSILON)
    return g.Add(g.Mul(g.Reshape(y, g.ints(1, c, size, size)), scale), bias)


def group_op(g: Maker, x: str, c: int, size: int, groups: int) -> str:
    """The operation of opset 21."""
    g.needs(21)
    return g.GroupNormalization(x, *affine(g, x, c), epsilon=EPSILON, num_groups=groups)


def instance_op(g: Maker, x: str, c: int, size: int, groups: int) -> str:
    """The operation."""
    return g.InstanceNormalization(x, *affine(g, x, c), epsilon=EPSILON)


def instance_primitives(g: Maker, x: str, c: int, size: int, groups: int) -> str:
    """InstanceNormalization in primitives."""
    scale, bias = affine(g, x, c, 1, 1)
    d = g.Sub(x, mean(g, x, 2, 3))
    root = g.Sqrt(g.Add(mean(g, g.Mul(d, d), 2, 3), g.constant(EPSILON)))
    return g.Add(g.Mul(g.Div(d, root), scale), bias)


def channel_transposed(g: Maker, x: str, c: int) -> str:
    """LayerNormalization over channels of an image: Transpose, op, Transpose."""
    t = g.Transpose(x, perm=[0, 2, 3, 1])
    return g.Transpose(layer_op(g, t, c), perm=[0, 3, 1, 2])


def channel_primitives(g: Maker, x: str, c: int) -> str:
    """LayerNormalization over channels of an image in primitives (ConvNext)."""
    scale, bias = affine(g, x, c, 1, 1)
    d = g.Sub(x, mean(g, x, 1))
    root = g.Sqrt(g.Add(mean(g, g.Pow(d, g.constant(2.0)), 1), g.constant(EPSILON)))
    return g.Add(g.Mul(g.Div(d, root), scale), bias)


def convs(norm: Callable[..., str], c: int, size: int, *more: int) -> Callable[[Maker], str]:
    """Conv 1x1, the normalization, Conv 1x1."""

    def build(g: Maker) -> str:
        x = g.Conv(g.draw("x", 1, 32, size, size), g.weight("k1", c, 32, 1, 1))
        y = norm(g, x, c, *more)
        return g.Conv(y, g.weight("k2", 32, c, 1, 1))

    return build


_OFF = {"optimization.disable_specified_optimizers": "SkipLayerNormFusion"}
CASES = (
    *(
        Case(
            "3-norm",
            f"LayerNorm {tokens}x{n}",
            {
                "op": between(layer_op, n, tokens),
                "op opset 17": between(layer_op, n, tokens, 17),
                "Pow, Div": between(layer(), n, tokens),
                "Pow, Div opset 14": between(layer(), n, tokens, 14),
                "Mul, Div": between(layer("Mul"), n, tokens),
                "Pow, Reciprocal": between(layer("Pow", "Reciprocal"), n, tokens),
                "op + Mul + Add": between(layer_no_affine, n, tokens),
            },
        )
        for n in (384, 768, 1024)
        for tokens in (128,)
    ),
    *(
        Case(
            "3-norm",
            f"Add + LayerNorm {tokens}x{n} {'post' if post else 'pre'}",
            {
                "Add, op": residual(_add(layer_op), n, tokens, post=post),
                "Add, op, fusion off": residual(_add(layer_op), n, tokens, post=post),
                "SkipLayerNormalization": residual(_skip, n, tokens, post=post),
                "primitives": residual(_add(layer()), n, tokens, post=post),
                "primitives, fusion off": residual(_add(layer()), n, tokens, post=post),
            },
            keys={"Add, op, fusion off": _OFF, "primitives, fusion off": _OFF},
        )
        for n, tokens in ((384, 128), (768, 128), (1024, 128), (768, 1))
        for post in (True, False)
    ),
    *(
        Case(
            "3-norm",
            f"RMSNorm {tokens}x{n}",
            {
                "Pow, 1/Sqrt": between(rms, n, tokens),
                "Mul, x/Sqrt": between(rms_div, n, tokens),
                "Pow, Reciprocal": between(rms_reciprocal, n, tokens),
                "SimplifiedLayerNormalization": between(rms_simplified, n, tokens),
                "RMSNormalization-23": between(rms_op, n, tokens),
            },
        )
        for n, tokens in ((768, 128), (2048, 128), (1024, 1))
    ),
    *(
        Case(
            "3-norm",
            f"Add + RMSNorm {tokens}x{n} pre",
            {
                "Add, Pow, 1/Sqrt": residual(_add(rms), n, tokens, post=False),
                "Add, Pow, Reciprocal": residual(_add(rms_reciprocal), n, tokens, post=False),
                "Add, SimplifiedLayerNorm": residual(_add(rms_simplified), n, tokens, post=False),
                "Add, RMSNormalization-23": residual(_add(rms_op), n, tokens, post=False),
                "Add, RMSNorm-23, fusion off": residual(_add(rms_op), n, tokens, post=False),
                "SkipSimplifiedLayerNorm": residual(_skip_rms, n, tokens, post=False),
            },
            keys={"Add, RMSNorm-23, fusion off": _OFF},
        )
        for n, tokens in ((768, 128), (1024, 1))
    ),
    *(
        Case(
            "3-norm",
            f"GroupNorm {c}x{s}x{s}, 32 groups",
            {
                "InstanceNorm, Mul, Add": convs(group_instance, c, s, s, 32),
                "GroupNormalization-21": convs(group_op, c, s, s, 32),
                "primitives": convs(group_primitives, c, s, s, 32),
                "LayerNormalization, Mul, Add": convs(group_layer, c, s, s, 32),
            },
        )
        for c, s in ((128, 32), (320, 64))
    ),
    Case(
        "3-norm",
        "InstanceNorm 64x56x56",
        {
            "op": convs(instance_op, 64, 56, 56, 64),
            "primitives": convs(instance_primitives, 64, 56, 56, 64),
            "GroupNormalization-21": convs(group_op, 64, 56, 56, 64),
        },
    ),
    Case(
        "3-norm",
        "LayerNorm over channels 96x56x56",
        {
            "primitives NCHW": convs(channel_primitives, 96, 56),
            "Transpose, op, Transpose": convs(channel_transposed, 96, 56),
        },
    ),
)
