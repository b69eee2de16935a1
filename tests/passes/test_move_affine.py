"""move-affine: constant maps go to linear operations that they do not touch, or stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.filled import filled_graph
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.ir.text import print_graph
from optc.passes import weights
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes
from optc.passes.move_affine import MoveAffine

if TYPE_CHECKING:
    from optc.passes.linear import Linear
    from optc.passes.weights import ChannelAffine

CONV = "float[2,1,1,1] w = {1, 2}"
IMAGE = "g (float[1,1,4,4] x) => (float[1,2,4,4] y)"


def moved(text: str) -> tuple[str, dict[str, int]]:
    """The operations after the pass, and what applied; numbers are compared with the source's."""
    graph = filled_graph(text)
    source = clone(graph)
    result = run_pass(MoveAffine(), graph)
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    for name, wanted in run(source, feeds).items():
        # Sums of at most 32 terms below 100; each of at most 40 roundings is 2^-24 of that.
        np.testing.assert_allclose(run(graph, feeds)[name], wanted, rtol=1e-5, atol=1e-3)
    rows = [line.strip().partition(" : ")[0] for line in print_graph(graph).splitlines()]
    kept = [row for row in rows if row.startswith("%") and " = const " not in row]
    return "\n".join(kept), dict(result.counts)


UP = {
    "a scale through a Relu": (
        f"""{IMAGE} <{CONV}, float[2,1,1] s = {{2, 4}}>
        {{ a = Conv(x, w)  b = Relu(a)  y = Mul(b, s) }}""",
        ("Conv", "Relu"),
    ),
    "through LeakyRelu, PRelu and MaxPool": (
        f"""g (float[1,1,4,4] x) => (float[1,2,2,2] y) <{CONV}, float s = {{2}}, float[2,1,1] p>
        {{ a = Conv(x, w)  b = LeakyRelu(a)  c = PRelu(b, p)
           d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)  y = Mul(d, s) }}""",
        ("Conv", "LeakyRelu", "PRelu", "MaxPool"),
    ),
    "one value through a Clip, whose bounds are mapped": (
        f"""{IMAGE} <{CONV}, float s = {{2}}, float t = {{1}}, float l = {{0}}, float h = {{1}}>
        {{ a = Conv(x, w)  b = Clip(a, l, h)  c = Mul(b, s)  y = Add(c, t) }}""",
        ("Conv", "Clip"),
    ),
    "a shift and a scale through Transpose, Reshape and Unsqueeze": (
        f"""g (float[1,1,4,4] x) => (float[1,16,1,2] y)
        <{CONV}, float[2] s = {{2, 4}}, float[2] t = {{1, 3}}, int64[3] r = {{1, 2, 16}},
         int64[1] i = {{2}}>
        {{ a = Conv(x, w)  b = Reshape(a, r)  c = Transpose <perm = [0, 2, 1]> (b)
           d = Unsqueeze(c, i)  e = Mul(d, s)  y = Add(e, t) }}""",
        ("Conv", "Reshape", "Transpose", "Unsqueeze"),
    ),
    "into channels that a Reshape splits": (
        """g (float[3,4] x) => (float[3,2,4] y)
        <float[4,8] w, int64[3] r = {3, 2, 4}, float[2,1] s = {2, 4}>
        { a = MatMul(x, w)  b = Reshape(a, r)  y = Mul(b, s) }""",
        ("MatMul", "Reshape"),
    ),
    "into the operands of a Concat": (
        f"""g (float[1,1,4,4] x, float[1,1,4,4] z) => (float[1,4,4,4] y)
        <{CONV}, float[2,1,1,1] v = {{3, 4}}, float[4,1,1] s = {{1, 2, 4, 8}},
         float[4,1,1] t = {{1, 2, 3, 4}}>
        {{ a = Conv(x, w)  b = Conv(z, v)  c = Concat <axis = 1> (a, b)
           d = Mul(c, s)  y = Add(d, t) }}""",
        ("Conv", "Conv", "Concat"),
    ),
    "a constant operand of a Concat": (
        f"""g (float[1,1,4,4] x) => (float[1,3,4,4] y)
        <{CONV}, float[1,1,4,4] k, float s = {{2}}>
        {{ a = Conv(x, w)  c = Concat <axis = 1> (a, k)  y = Mul(c, s) }}""",
        ("Conv", "Concat"),
    ),
    "past a Split, whose other result stays": (
        f"""g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] z)
        <{CONV}, float s = {{2}}, float t = {{1}}>
        {{ a = Conv(x, w)  b, c = Split <axis = 1, num_outputs = 2> (a)
           d = Mul(b, s)  y = Add(d, t)  z = Neg(c) }}""",
        ("Conv", "Split", "Neg"),
    ),
    "into both sides of a residual sum": (
        f"""g (float[1,1,4,4] x, float[1,1,4,4] z) => (float[1,2,4,4] y)
        <{CONV}, float[2,1,1,1] v = {{3, 4}}, float[2,1,1] s = {{2, 4}}, float t = {{1}}>
        {{ a = Conv(x, w)  b = Conv(z, v)  c = Add(a, b)  d = Mul(c, s)  y = Add(d, t) }}""",
        ("Conv", "Conv", "Add"),
    ),
    "into one side of a product": (
        f"""g (float[1,1,4,4] x, float[1,2,1,1] z) => (float[1,2,4,4] y)
        <{CONV}, float[2,1,1] s = {{2, 4}}>
        {{ a = Conv(x, w)  c = Mul(a, z)  y = Mul(c, s) }}""",
        ("Conv", "Mul"),
    ),
    "through a nearest Resize": (
        f"""g (float[1,1,4,4] x) => (float[1,2,8,8] y)
        <{CONV}, float[2,1,1] s = {{2, 4}}, float[2,1,1] t = {{1, 3}}, float[4] f = {{1, 1, 2, 2}}>
        {{ a = Conv(x, w)  b = Resize <mode = "nearest"> (a, , f)  c = Mul(b, s)
           y = Add(c, t) }}""",
        ("Conv", "Resize"),
    ),
    "through a linear Resize and a mean": (
        f"""g (float[1,1,4,4] x) => (float[1,2] y)
        <{CONV}, float[2] s = {{2, 4}}, float[2] t = {{1, 3}}, float[4] f = {{1, 1, 2, 2}},
         int64[2] i = {{-1, 2}}>
        {{ a = Conv(x, w)  b = Resize <mode = "linear"> (a, , f)
           c = ReduceMean <keepdims = 0> (b, i)  d = Mul(c, s)  y = Add(d, t) }}""",
        ("Conv", "Resize", "ReduceMean"),
    ),
    "a BatchNormalization through pools": (
        f"""g (float[1,1,4,4] x) => (float[1,2,1,1] y)
        <{CONV}, float[2] g = {{1, 2}}, float[2] b = {{1, 3}}, float[2] m, float[2] v = {{1, 4}}>
        {{ a = Conv(x, w)
           p = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 0, 0]> (a)
           q = GlobalAveragePool(p)  y = BatchNormalization(q, g, b, m, v) }}""",
        ("Conv", "AveragePool", "GlobalAveragePool"),
    ),
    "a map into a BatchNormalization above a Relu": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2] g = {1, 2}, float[2] m, float[2] v = {1, 4}, float s = {2}>
        { a = BatchNormalization(x, g, m, m, v)  b = Relu(a)  y = Mul(b, s) }""",
        ("BatchNormalization", "Relu"),
    ),
    "a scale into the constants above a Relu": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,1,1] c = {1, 2}, float[2,1,1] k = {3, 5}, float s = {2}>
        { a = Mul(x, c)  b = Add(a, k)  d = Relu(b)  y = Mul(d, s) }""",
        ("Mul", "Add", "Relu"),
    ),
}


@pytest.mark.parametrize(("text", "expected"), UP.values(), ids=UP)
def test_moves_up(text: str, expected: tuple[str, ...]) -> None:
    found, counts = moved(text)
    assert sorted(row.split(" = ")[1].split("(")[0] for row in found.splitlines()) == sorted(
        expected
    )
    assert sum(counts.values()) == 1
    assert set(counts) <= {"affine-up", "batchnorm-up", "scale-past-shift"}


DOWN = {
    # PP-LCNetV3 of PaddleOCR (paddle2onnx, opset 12) feeds two branches from one affine block.
    "a map into all that uses it": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <float[2,2,1,1] w, float[2,2,1,1] v, float s = {2}, float t = {3}>
        { a = Mul(x, s)  b = Add(a, t)  y = Conv(b, w)  z = Conv(b, v) }""",
        ("Conv", "Conv"),
        "affine-down",
    ),
    "a scale past a shift that padding holds back": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <float[2,2,3,3] w, float[2,2,1,1] v, float s = {2}, float t = {3}>
        { a = Mul(x, s)  b = Add(a, t)  y = Conv <pads = [1, 1, 1, 1]> (b, w)
          z = Conv(b, v) }""",
        ("Add", "Conv", "Conv"),
        "scale-past-shift",
    ),
    "a scale into a gated product and its gate": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2,2,1,1] w, float[2,2,1,1] v, float s = {2}>
        { a = Mul(x, s)  p = GlobalAveragePool(a)  q = Conv(p, w)  h = Sigmoid(q)
          m = Mul(a, h)  y = Conv(m, v) }""",
        ("Conv", "Conv", "GlobalAveragePool", "Mul", "Sigmoid"),
        "affine-down",
    ),
    "a shift through a residual sum": (
        """g (float[1,2,4,4] x, float[1,2,4,4] r) => (float[1,2,4,4] y)
        <float[2,2,1,1] w, float[2,1,1] t = {1, 3}>
        { a = Add(x, t)  b = Sub(r, a)  y = Conv(b, w) }""",
        ("Conv", "Sub"),
        "affine-down",
    ),
    "through a Concat, as identity for the others": (
        """g (float[1,2,4,4] x, float[1,1,4,4] r) => (float[1,2,4,4] y)
        <float[2,3,1,1] w, float s = {2}, float t = {3}>
        { a = Mul(x, s)  b = Add(a, t)  c = Concat <axis = 1> (r, b)  y = Conv(c, w) }""",
        ("Concat", "Conv"),
        "affine-down",
    ),
    "through a Split, in parts": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <float[2,1,1,1] w, float[2,1,1,1] v, float[2,1,1] s = {2, 4}, float t = {3}>
        { a = Mul(x, s)  b = Add(a, t)  c, d = Split <axis = 1, num_outputs = 2> (b)
          y = Conv(c, w)  z = Conv(d, v) }""",
        ("Conv", "Conv", "Split"),
        "affine-down",
    ),
    # BatchNormalization → Flatten → Linear, as torchvision's and Keras's classifiers have it.
    "a BatchNormalization through Flatten into a Gemm": (
        """g (float[3,2,2,2] x) => (float[3,5] y)
        <float[8,5] w, float[2] g = {1, 2}, float[2] b = {1, 3}, float[2] m, float[2] v = {1, 4}>
        { a = BatchNormalization(x, g, b, m, v)  f = Flatten(a)  y = Gemm(f, w) }""",
        ("Flatten", "Gemm"),
        "batchnorm-down",
    ),
    "through Relu and MaxPool into a BatchNormalization": (
        """g (float[1,2,4,4] x) => (float[1,2,3,3] y)
        <float[2] g = {1, 2}, float[2] m, float[2] v = {1, 4}, float s = {2}>
        { a = Mul(x, s)  b = Relu(a)  c = MaxPool <kernel_shape = [2, 2]> (b)
          y = BatchNormalization(c, g, m, m, v) }""",
        ("BatchNormalization", "MaxPool", "Relu"),
        "affine-down",
    ),
    "a shift into a BatchNormalization with shared parameters": (
        """g (float[1,2,4,4] x) => (float[1,2,3,3] y)
        <float[2] g = {1, 2}, float[2] m = {1, 2}, float[2] v = {1, 4}, float t = {2}>
        { a = Add(x, t)  c = MaxPool <kernel_shape = [2, 2]> (a)
          y = BatchNormalization(c, g, m, m, v) }""",
        ("BatchNormalization", "MaxPool"),
        "affine-down",
    ),
    "through a Clip": (
        """g (float[3,4] x) => (float[3,2] y)
        <float[4,2] w, float s = {2}, float t = {1}, float h = {1}>
        { a = Mul(x, s)  b = Add(a, t)  c = Clip(b, , h)  y = Gemm(c, w) }""",
        ("Clip", "Gemm"),
        "affine-down",
    ),
    "through a MatMul into its bias": (
        """g (float[3,4] x) => (float[4,2] y) <float[3,2] w, float[2] b, float t = {1}>
        { a = Add(x, t)  c = Transpose(a)  d = MatMul(c, w)  y = Add(d, b) }""",
        ("Add", "MatMul", "Transpose"),
        "affine-down",
    ),
}


@pytest.mark.parametrize(("text", "expected", "rule"), DOWN.values(), ids=DOWN)
def test_moves_down(text: str, expected: tuple[str, ...], rule: str) -> None:
    found, counts = moved(text)
    assert sorted(row.split(" = ")[1].split("(")[0] for row in found.splitlines()) == sorted(
        expected
    )
    assert counts == {rule: 1}


def test_a_leading_scale_moves_up_alone() -> None:
    text = f"""{IMAGE} <{CONV}, float[2,1,1] s = {{2, 4}}, float t = {{1}}>
    {{ a = Conv(x, w)  b = Relu(a)  c = Mul(b, s)  y = Add(c, t) }}"""
    found, counts = moved(text)
    assert counts == {"scale-up": 1}
    assert "Mul" not in found


def test_clip_bounds_of_an_old_opset_and_without_limit() -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 10]>
    {IMAGE} <{CONV}, float s = {{2}}>
    {{ a = Conv(x, w)  b = Clip <min = 0.0, max = 3.4028234663852886e38> (a)  y = Mul(b, s) }}"""
    graph = graph_from_text(text)
    assert run_pass(MoveAffine(), graph).changed
    clip = next(node for node in graph.nodes() if node.is_op("Clip"))
    assert clip.get("max") == float(np.finfo(np.float32).max)


def test_before_and_after() -> None:
    text = f"""{IMAGE} <{CONV}, float[2,1,1] s = {{2, 4}}>
    {{ a = Conv(x, w)  b = Relu(a)  y = Mul(b, s) }}"""
    expected = f"""{IMAGE} <float[2,1,1,1] w = {{2, 8}}>
    {{ a = Conv(x, w)  y = Relu(a) }}"""
    graph = graph_from_text(text)
    run_pass(MoveAffine(), graph)
    assert print_graph(graph) == print_graph(graph_from_text(expected))


def kept(text: str) -> list[str]:
    """Why the pass leaves the graph as it is."""
    result = run_pass(MoveAffine(), filled_graph(text))
    assert not result.changed
    return [f"{item.node}: {item.reason}" for item in result.refusals]


TWO = "g (float[1,1,4,4] x) => (float[1,2,4,4] y)"
REFUSALS = {
    "nothing that takes it": (
        "g (float[2,3] x) => (float[2,3] y) <float s = {2}> { a = Relu(x)  y = Mul(a, s) }",
        "y: up: x is a graph input or captured; down: y is the graph output y",
    ),
    "a shift above a Relu": (
        f"{TWO} <{CONV}, float t = {{2}}> {{ a = Conv(x, w)  b = Relu(a)  y = Add(b, t) }}",
        "y: up: a shift does not cross Relu b; down: y is the graph output y",
    ),
    "a negative scale": (
        f"{TWO} <{CONV}, float s = {{-2}}> {{ a = Conv(x, w)  b = Relu(a)  y = Mul(b, s) }}",
        "y: up: a scale that is not positive does not cross Relu b; down: y is the graph output y",
    ),
    "a value on the way that is used elsewhere": (
        f"""g (float[1,1,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  b = Relu(a)  y = Mul(b, s)  [n] z = Neg(b) }}""",
        "y: up: b also feeds n; down: y is the graph output y",
    ),
    "a value on the way that is a graph output": (
        f"""g (float[1,1,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] b)
        <{CONV}, float s = {{2}}> {{ a = Conv(x, w)  b = Relu(a)  y = Mul(b, s) }}""",
        "y: up: b is the graph output b; down: y is the graph output y",
    ),
    "a value on the way that is captured": (
        f"""g (bool c, float[1,1,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  b = Relu(a)  y = Mul(b, s)
           [i] z = If (c) < then_branch = t () => (float[1,2,4,4] p) {{ p = Relu(b) }},
                        else_branch = e () => (float[1,2,4,4] q) {{ q = Neg(b) }} > }}""",
        "y: up: b is captured by a subgraph of i; down: y is the graph output y",
    ),
    "a value that one operation uses twice": (
        f"""{TWO} <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  b = Add(a, a)  y = Mul(b, s) }}""",
        "y: up: a feeds b twice; down: y is the graph output y",
    ),
    "one side of a sum does not take it": (
        f"""g (float[1,1,4,4] x, float[1,2,4,4] r) => (float[1,2,4,4] y)
        <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  b = Add(a, r)  y = Mul(b, s) }}""",
        "y: up: r is a graph input or captured; down: y is the graph output y",
    ),
    "an operand of a Concat does not take it": (
        f"""g (float[1,1,4,4] x, float[1,2,4,4] r) => (float[1,4,4,4] y)
        <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  [k] b = Concat <axis = 1> (a, r)  y = Mul(b, s) }}""",
        "y: up: r is a graph input or captured (an operand of Concat k); "
        "down: y is the graph output y",
    ),
    "cubic interpolation": (
        f"""g (float[1,1,4,4] x) => (float[1,2,8,8] y)
        <{CONV}, float s = {{2}}, float[4] f = {{1, 1, 2, 2}}>
        {{ a = Conv(x, w)  b = Resize <mode = "cubic"> (a, , f)  y = Mul(b, s) }}""",
        "y: up: cubic interpolation of b is not crossed; down: y is the graph output y",
    ),
    "padding that a mean counts": (
        f"""g (float[1,1,4,4] x) => (float[1,2,4,4] y) <{CONV}, float t = {{2}}>
        {{ a = Conv(x, w)  b = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1],
           count_include_pad = 1> (a)  y = Add(b, t) }}""",
        "y: up: a shift does not cross AveragePool b, which counts its padding; "
        "down: y is the graph output y",
    ),
    "a per-channel map and a Clip": (
        f"""{TWO} <{CONV}, float[2,1,1] s = {{2, 4}}, float h = {{1}}>
        {{ a = Conv(x, w)  b = Clip(a, , h)  y = Mul(b, s) }}""",
        "y: up: a map per channel does not cross Clip b, whose bounds are one value; "
        "down: y is the graph output y",
    ),
    "bounds that are not constant": (
        f"""g (float[1,1,4,4] x, float h) => (float[1,2,4,4] y) <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  b = Clip(a, , h)  y = Mul(b, s) }}""",
        "y: up: a bound of Clip b is not constant; down: y is the graph output y",
    ),
    "a shift before padding": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,3,3] w, float t = {1}>
        { a = Relu(x)  b = Add(a, t)  c = Transpose <perm = [0, 1, 3, 2]> (b)
          [p] y = Conv <pads = [1, 1, 1, 1]> (c, w) }""",
        "b: up: a shift does not cross Relu a; "
        "down: p: Conv pads its input: the shift would not reach the border",
    ),
    "a MatMul without bias": (
        """g (float[3,4] x) => (float[4,2] y) <float[3,2] w, float t = {1}>
        { a = Add(x, t)  c = Transpose(a)  [m] y = MatMul(c, w) }""",
        "a: up: x is a graph input or captured; down: MatMul m has no bias that could take a shift",
    ),
    "one operation reached twice": (
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[2,2,1,1] w, float s = {2}>
        { a = Mul(x, s)  b = Relu(a)  c = Mul(a, b)  y = Conv(c, w) }""",
        "a: up: x is a graph input or captured; down: Mul c is reached twice",
    ),
    "a scale of one summand": (
        """g (float[1,2,4,4] x, float[1,2,4,4] r) => (float[1,2,4,4] y)
        <float[2,2,1,1] w, float s = {2}>
        { a = Mul(x, s)  b = Add(a, r)  y = Conv(b, w) }""",
        "a: up: x is a graph input or captured; down: a scale of one summand does not cross Add b",
    ),
    "channels that a Reshape spreads": (
        """g (float[3,4] x) => (float[3,2,2] y)
        <float[4] s = {1, 2, 4, 8}, int64[3] r = {3, 2, 2}, float[2,2] w>
        { a = Mul(x, s)  b = Reshape(a, r)  y = MatMul(b, w) }""",
        "a: up: x is a graph input or captured; "
        "down: a Reshape spreads the channels over several axes",
    ),
    "a dynamic size": (
        """g (float[N,M] x) => (float[K] y) <float[2] s = {1, 2}>
        { a = Relu(x)  b = Mul(a, s)  y = Neg(b) }""",
        "b: the constant f32[2] may enlarge a",
    ),
    "a value per place": (
        """g (float[2,3] x) => (float[2,3] y) <float[2,3] s>
        { a = Relu(x)  y = Mul(a, s) }""",
        "y: the constants of y are not one value per channel",
    ),
    "a weight that is shared": (
        f"""g (float[1,1,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z)
        <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  b = Relu(a)  y = Mul(b, s)  [o] z = Conv(x, w) }}""",
        "y: up: a: weight is shared by o; down: y is the graph output y",
    ),
    "a MaxPool that gives indices": (
        f"""g (float[1,1,4,4] x) => (float[1,2,3,3] y, int64[1,2,3,3] i)
        <{CONV}, float s = {{2}}>
        {{ a = Conv(x, w)  b, i = MaxPool <kernel_shape = [2, 2]> (a)  y = Mul(b, s) }}""",
        "y: up: MaxPool b also gives indices; down: y is the graph output y",
    ),
    "a BatchNormalization in training form": (
        """g (float[1,2,4,4] x, float[2] g) => (float[1,2,4,4] y) <float[2] m, float[2] v = {1, 4}>
        { y = BatchNormalization(x, g, m, m, v) }""",
        "y: g is not constant",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    assert kept(text) == [reason]


def test_integers_and_quotients_are_no_maps() -> None:
    text = """g (int64[3] x, float[3] z) => (int64[3] y, float[3] q) <int64 s = {2}, float c = {1}>
    { y = Mul(x, s)  q = Div(c, z) }"""
    assert not kept(text)


def test_the_bias_of_a_matmul_is_where_it_belongs() -> None:
    text = """g (float[2,3] x) => (float[2,4] y) <float[3,4] w, float[4] b>
    { a = MatMul(x, w)  y = Add(a, b) }"""
    assert not kept(text)


def blocks(count: int, end: str) -> str:
    """Convolutions around a sum that each of them adds to, after a shift."""
    body = "".join(
        f"b{i} = Conv(a{i}, w{i})  c{i} = Relu(b{i})\n"
        f"d{i} = Add(c{i}, s)  a{i + 1} = Add(a{i}, d{i})\n"
        for i in range(count)
    )
    filters = ", ".join(f"float[2,2,1,1] w{i}" for i in range(count))
    return f"""g (float[1,2,4,4] a0) => (float[1,2,4,4] y)
    <float[2,1,1] s = {{1, 2}}, float[2,2,1,1] w, {filters}> {{ {body} {end} }}"""


@pytest.mark.parametrize("count", [4, 16])
def test_weights_are_read_when_nothing_else_is_in_the_way(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shift reaches every later convolution: of large models, minutes if each was read."""
    read: list[str] = []
    asked = weights.overflow_before

    def counted(linear: Linear, affine: ChannelAffine) -> str | None:
        read.append(linear.node.label)
        return asked(linear, affine)

    monkeypatch.setattr("optc.passes.downward.overflow_before", counted)
    stuck = filled_graph(blocks(count, f"y = Sigmoid(a{count})"))
    assert not run_pass(MoveAffine(), stuck).changed
    assert read == []
    free = filled_graph(blocks(count, f"y = Conv(a{count}, w)"))
    assert run_pass(MoveAffine(), free).counts == {"affine-down": count}
    assert read
