from __future__ import annotations

import pytest

from helpers import graph_from_text
from helpers.promises import refused, run_pass
from optc.ir.text import print_graph
from optc.passes.fold_affine import FoldAffine


def fold(text: str) -> str:
    """The canonical text after the pass without inputs, outputs and shapes of results."""
    graph = graph_from_text(text)
    assert run_pass(FoldAffine(), graph).changed
    lines = [line.strip() for line in print_graph(graph).splitlines()]
    kept = (line for line in lines if line.startswith("%"))
    return "\n".join(line if " = const " in line else line.partition(" : ")[0] for line in kept)


def lines(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


# ---- into the operation before -----------------------------------------------------------------

IMAGE = "g (float[1,1,4,4] x) => (float[1,2,4,4] y)"
WEIGHT = "float[2,1,1,1] w = {1, 2}"
FORWARD = {
    "a factor per channel": (
        f"{IMAGE} <{WEIGHT}, float[2,1,1] s = {{2, 3}}> {{ z = Conv(x, w)  y = Mul(z, s) }}",
        """%0 = const f32[2,1,1,1] {2.0, 6.0}
        %1 = Conv(%x, %0)""",
    ),
    "a factor on the left, with batch axis, and a bias": (
        f"""{IMAGE} <{WEIGHT}, float[2] b = {{5, 7}}, float[1,2,1,1] s = {{2, 3}}>
        {{ z = Conv(x, w, b)  y = Mul(s, z) }}""",
        """%0 = const f32[2,1,1,1] {2.0, 6.0}
        %1 = const f32[2] {10.0, 21.0}
        %2 = Conv(%x, %0, %1)""",
    ),
    "one factor, as scalar": (
        f"{IMAGE} <{WEIGHT}, float s = {{2}}> {{ z = Conv(x, w)  y = Mul(z, s) }}",
        """%0 = const f32[2,1,1,1] {2.0, 4.0}
        %1 = Conv(%x, %0)""",
    ),
    "an Add gives a Conv without bias one": (
        f"{IMAGE} <{WEIGHT}, float[1] t = {{3}}> {{ z = Conv(x, w)  y = Add(z, t) }}",
        """%0 = const f32[2,1,1,1] {1.0, 2.0}
        %1 = const f32[2] {3.0, 3.0}
        %2 = Conv(%x, %0, %1)""",
    ),
    "a Sub": (
        f"""{IMAGE} <{WEIGHT}, float[2] b = {{5, 7}}, float[2,1,1] t = {{1, 2}}>
        {{ z = Conv(x, w, b)  y = Sub(z, t) }}""",
        """%0 = const f32[2,1,1,1] {1.0, 2.0}
        %1 = const f32[2] {4.0, 5.0}
        %2 = Conv(%x, %0, %1)""",
    ),
    "a Sub with the constant on the left": (
        f"""{IMAGE} <{WEIGHT}, float[2] b = {{5, 7}}, float[2,1,1] t = {{1, 2}}>
        {{ z = Conv(x, w, b)  y = Sub(t, z) }}""",
        """%0 = const f32[2,1,1,1] {-1.0, -2.0}
        %1 = const f32[2] {-4.0, -5.0}
        %2 = Conv(%x, %0, %1)""",
    ),
    "a Div": (
        f"{IMAGE} <{WEIGHT}, float s = {{4}}> {{ z = Conv(x, w)  y = Div(z, s) }}",
        """%0 = const f32[2,1,1,1] {0.25, 0.5}
        %1 = Conv(%x, %0)""",
    ),
    "the learnable affine block: a factor and a summand": (
        f"""{IMAGE} <{WEIGHT}, float[1] s = {{2}}, float[1] t = {{3}}>
        {{ z = Conv(x, w)  a = Mul(z, s)  y = Add(a, t) }}""",
        """%0 = const f32[2,1,1,1] {2.0, 4.0}
        %1 = const f32[2] {3.0, 3.0}
        %2 = Conv(%x, %0, %1)""",
    ),
    "dynamic batch and places": (
        f"""g (float[N,1,H,W] x) => (float[N,2,H,W] y) <{WEIGHT}, float[2,1,1] s = {{2, 3}}>
        {{ z = Conv(x, w)  y = Mul(z, s) }}""",
        """%0 = const f32[2,1,1,1] {2.0, 6.0}
        %1 = Conv(%x, %0)""",
    ),
    "a Conv that pads": (
        f"""{IMAGE} <{WEIGHT}, float[2,1,1] s = {{2, 3}}>
        {{ z = Conv <auto_pad = "SAME_UPPER"> (x, w)  y = Add(z, s) }}""",
        """%0 = const f32[2,1,1,1] {1.0, 2.0}
        %1 = const f32[2] {2.0, 3.0}
        %2 = Conv(%x, %0, %1, auto_pad="SAME_UPPER")""",
    ),
    "a summand alone, though the weight is an input": (
        """g (float[1,1,4,4] x, float[2,1,1,1] w) => (float[1,2,4,4] y) <float[1] t = {3}>
        { z = Conv(x, w)  y = Add(z, t) }""",
        """%0 = const f32[2] {3.0, 3.0}
        %1 = Conv(%x, %w, %0)""",
    ),
    "a grouped ConvTranspose: the second output channel of the first group is W[0, 1]": (
        """g (float[1,2,1] x) => (float[1,4,1] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[4,1] s = {2, 3, 5, 7}>
        { z = ConvTranspose <group = 2> (x, w)  y = Mul(z, s) }""",
        """%0 = const f32[2,2,1] {2.0, 6.0, 15.0, 28.0}
        %1 = ConvTranspose(%x, %0, group=2)""",
    ),
    "a ConvTranspose with strides and output padding": (
        """g (float[1,2,3] x) => (float[1,1,6] y)
        <float[2,1,1] w = {1, 2}, float[1,1] s = {2}, float t = {3}>
        { z = ConvTranspose <strides = [2], output_padding = [1]> (x, w)
          a = Mul(z, s)  y = Add(a, t) }""",
        """%0 = const f32[2,1,1] {2.0, 4.0}
        %1 = const f32[1] {3.0}
        %2 = ConvTranspose(%x, %0, %1, output_padding=[1], strides=[2])""",
    ),
    "a Gemm: beta goes into the bias, which keeps its shape under one factor": (
        """g (float[3,1] x) => (float[3,2] y)
        <float[1,2] w = {1, 2}, float[3,1] c = {1, 2, 3}, float s = {2}>
        { z = Gemm <alpha = 3.0, beta = 0.5> (x, w, c)  y = Mul(z, s) }""",
        """%0 = const f32[1,2] {2.0, 4.0}
        %1 = const f32[3,1] {1.0, 2.0, 3.0}
        %2 = Gemm(%x, %0, %1, alpha=3.0)""",
    ),
    "a Gemm without bias, its beta without meaning": (
        """g (float[3,1] x) => (float[3,2] y) <float[2,1] w = {1, 2}, float[2] t = {3, 4}>
        { z = Gemm <beta = 0.5, transB = 1> (x, w)  y = Add(z, t) }""",
        """%0 = const f32[2,1] {1.0, 2.0}
        %1 = const f32[2] {3.0, 4.0}
        %2 = Gemm(%x, %0, %1, transB=1)""",
    ),
    "a MatMul": (
        """g (float[M,1] x) => (float[M,2] y) <float[1,2] w = {1, 2}, float[2] s = {2, 4}>
        { z = MatMul(x, w)  y = Div(z, s) }""",
        """%0 = const f32[1,2] {0.5, 0.5}
        %1 = MatMul(%x, %0)""",
    ),
    "a MatMul and its bias": (
        """g (float[M,1] x) => (float[M,2] y)
        <float[1,2] w = {1, 2}, float b = {5}, float[1,2] s = {2, 4}>
        { z = MatMul(x, w)  a = Add(z, b)  y = Mul(a, s) }""",
        """%0 = const f32[1,2] {2.0, 8.0}
        %1 = MatMul(%x, %0)
        %2 = const f32[2] {10.0, 20.0}
        %3 = Add(%1, %2)""",
    ),
    "a MatMul of several matrices, weight on the left": (
        """g (float[2,1,3] x) => (float[2,2,3] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[2,1] s = {2, 3}>
        { z = MatMul(w, x)  y = Mul(z, s) }""",
        """%0 = const f32[2,2,1] {2.0, 6.0, 6.0, 12.0}
        %1 = MatMul(%0, %x)""",
    ),
}


@pytest.mark.parametrize(("before", "after"), FORWARD.values(), ids=FORWARD)
def test_folds_into_the_operation_before(before: str, after: str) -> None:
    assert fold(before) == lines(after)


# ---- into the operation after ------------------------------------------------------------------

BACKWARD = {
    "a factor per channel": (
        """g (float[1,2,4,4] x) => (float[1,1,4,4] y)
        <float[1,2,1,1] w = {1, 2}, float[2,1,1] s = {2, 3}> { z = Mul(x, s)  y = Conv(z, w) }""",
        """%0 = const f32[1,2,1,1] {2.0, 6.0}
        %1 = Conv(%x, %0)""",
    ),
    "a factor in front of a Conv that pads": (
        """g (float[1,1,4] x) => (float[1,1,4] y) <float[1,1,3] w = {1, 2, 3}, float s = {2}>
        { z = Mul(x, s)  y = Conv <pads = [1, 1]> (z, w) }""",
        """%0 = const f32[1,1,3] {2.0, 4.0, 6.0}
        %1 = Conv(%x, %0, pads=[1, 1])""",
    ),
    "factor and summand": (
        """g (float[1,2,4] x) => (float[1,1,3] y)
        <float[1,2,2] w = {1, 2, 3, 4}, float[1] b = {5}, float[2,1] s = {2, 3}, float t = {1}>
        { z = Mul(x, s)  a = Add(z, t)  y = Conv(a, w, b) }""",
        """%0 = const f32[1,2,2] {2.0, 4.0, 9.0, 12.0}
        %1 = const f32[1] {15.0}
        %2 = Conv(%x, %0, %1)""",
    ),
    "a Sub with the constant on the left": (
        """g (float[1,1,4] x) => (float[1,1,3] y) <float[1,1,2] w = {1, 2}, float t = {1}>
        { z = Sub(t, x)  y = Conv(z, w) }""",
        """%0 = const f32[1,1,2] {-1.0, -2.0}
        %1 = const f32[1] {3.0}
        %2 = Conv(%x, %0, %1)""",
    ),
    "grouped: W[o, i / g] meets the input channels of its group": (
        """g (float[1,4,1] x) => (float[1,2,1] y)
        <float[2,2,1] w = {1, 2, 3, 4}, float[4,1] s = {2, 3, 5, 7}, float[4,1] t = {1, 1, 2, 2}>
        { z = Mul(x, s)  a = Add(z, t)  y = Conv <group = 2> (a, w) }""",
        """%0 = const f32[2,2,1] {2.0, 6.0, 15.0, 28.0}
        %1 = const f32[2] {3.0, 14.0}
        %2 = Conv(%x, %0, %1, group=2)""",
    ),
    "SAME padding that is provably none": (
        """g (float[1,1,4] x) => (float[1,1,2] y)
        <float[1,1,4] z, float[1,1,2] w = {1, 2}, float t = {1}>
        { z = Add(x, t)  y = Conv <auto_pad = "SAME_LOWER", strides = [2]> (z, w) }""",
        """%0 = const f32[1,1,2] {1.0, 2.0}
        %1 = const f32[1] {3.0}
        %2 = Conv(%x, %0, %1, auto_pad="SAME_LOWER", strides=[2])""",
    ),
    "pointwise SAME padding of unknown places": (
        """g (float[1,1,W] x) => (float[1,1,W] y) <float[1,1,1] w = {2}, float t = {1}>
        { z = Add(x, t)  y = Conv <auto_pad = "SAME_UPPER"> (z, w) }""",
        """%0 = const f32[1,1,1] {2.0}
        %1 = const f32[1] {2.0}
        %2 = Conv(%x, %0, %1, auto_pad="SAME_UPPER")""",
    ),
    "a factor in front of a ConvTranspose with strides": (
        """g (float[1,2,2] x) => (float[1,1,4] y) <float[2,1,2] w = {1, 2, 3, 4},
        float[2,1] s = {2, 3}> { z = Mul(x, s)  y = ConvTranspose <strides = [2]> (z, w) }""",
        """%0 = const f32[2,1,2] {2.0, 4.0, 9.0, 12.0}
        %1 = ConvTranspose(%x, %0, strides=[2])""",
    ),
    "a transposed Gemm": (
        """g (float[2,3] x) => (float[3,1] y)
        <float[2,1] w = {1, 2}, float[2,1] s = {2, 3}, float c = {5}>
        { z = Mul(x, s)  y = Gemm <transA = 1, alpha = 2.0> (z, w, c) }""",
        """%0 = const f32[2,1] {2.0, 6.0}
        %1 = const f32[] {5.0}
        %2 = Gemm(%x, %0, %1, alpha=2.0, transA=1)""",
    ),
    "a MatMul; a bias that is not constant is not in the way of a factor": (
        """g (float[M,2] x, float[1] b) => (float[M,1] y)
        <float[2,1] w = {1, 2}, float[2] s = {2, 3}>
        { z = Mul(x, s)  a = MatMul(z, w)  y = Add(a, b) }""",
        """%0 = const f32[2,1] {2.0, 6.0}
        %1 = MatMul(%x, %0)
        %2 = Add(%1, %b)""",
    ),
    "a summand in front of a MatMul with bias": (
        """g (float[M,2] x) => (float[M,1] y)
        <float[2,1] w = {1, 2}, float[2] t = {2, 3}, float[1] b = {5}>
        { z = Add(x, t)  a = MatMul(z, w)  y = Add(b, a) }""",
        """%0 = const f32[2,1] {1.0, 2.0}
        %1 = MatMul(%x, %0)
        %2 = const f32[1] {13.0}
        %3 = Add(%1, %2)""",
    ),
    "known channels behind an elementwise operation without type": (
        """g (float[1,1,4,4] x) => (y) <float[2,1,1,1] w = {1, 2}, float[2,1,1] s = {2, 3},
        float[1,2,1,1] u = {1, 1}>
        { a = Conv(x, w)  r = Relu(a)  z = Mul(r, s)  y = Conv(z, u) }""",
        """%0 = const f32[2,1,1,1] {1.0, 2.0}
        %1 = Conv(%x, %0)
        %2 = Relu(%1)
        %3 = const f32[1,2,1,1] {2.0, 3.0}
        %4 = Conv(%2, %3)""",
    ),
    "the factor alone, where the Conv pads": (
        """g (float[1,1,4] x) => (float[1,1,4] y)
        <float[1,1,3] w = {1, 2, 3}, float s = {2}, float t = {3}>
        { z = Mul(x, s)  a = Add(z, t)  y = Conv <pads = [1, 1]> (a, w) }""",
        """%0 = const f32[] {1.5}
        %1 = Add(%x, %0)
        %2 = const f32[1,1,3] {2.0, 4.0, 6.0}
        %3 = Conv(%1, %2, pads=[1, 1])""",
    ),
    "the factor alone, where a MatMul has no bias": (
        """g (float[M,2] x) => (float[M,1] y)
        <float[M,2] a, float[2,1] w = {1, 2}, float[2] s = {2, 4}, float[2] t = {3, 4}>
        { z = Mul(x, s)  a = Sub(t, z)  y = MatMul(a, w) }""",
        """%0 = const f32[2] {-1.5, -1.0}
        %1 = Add(%x, %0)
        %2 = const f32[2,1] {-2.0, -8.0}
        %3 = MatMul(%1, %2)""",
    ),
}


@pytest.mark.parametrize(("before", "after"), BACKWARD.values(), ids=BACKWARD)
def test_folds_into_the_operation_after(before: str, after: str) -> None:
    assert fold(before) == lines(after)


# ---- into each other ---------------------------------------------------------------------------

VECTOR = "g (float[3] x) => (float[3] y)"
MERGED = {
    "factors": (
        f"""{VECTOR} <float a = {{2}}, float[1] b = {{3}}, float c = {{4}}>
        {{ p = Mul(x, a)  q = Mul(b, p)  y = Div(q, c) }}""",
        "%0 = const f32[1] {1.5}\n%1 = Mul(%x, %0)",
    ),
    "summands": (
        f"{VECTOR} <float a = {{2}}, float b = {{3}}> {{ p = Add(x, a)  y = Sub(p, b) }}",
        "%0 = const f32[] {-1.0}\n%1 = Add(%x, %0)",
    ),
    "a constant minus a sum": (
        f"{VECTOR} <float a = {{2}}, float b = {{3}}> {{ p = Add(a, x)  y = Sub(b, p) }}",
        "%0 = const f32[] {1.0}\n%1 = Sub(%0, %x)",
    ),
    "a constant minus a MatMul with bias": (
        """g (float[M,1] x) => (float[M,2] y)
        <float[1,2] w = {1, 2}, float[2] b = {5, 7}, float c = {1}>
        { z = MatMul(x, w)  a = Add(z, b)  y = Sub(c, a) }""",
        """%0 = const f32[1,2] {1.0, 2.0}
        %1 = MatMul(%x, %0)
        %2 = const f32[2] {-4.0, -6.0}
        %3 = Sub(%2, %1)""",
    ),
    "two differences": (
        f"{VECTOR} <float a = {{2}}, float b = {{3}}> {{ p = Sub(a, x)  y = Sub(b, p) }}",
        "%0 = const f32[] {1.0}\n%1 = Add(%x, %0)",
    ),
    "a factor, a summand, a factor": (
        f"""{VECTOR} <float a = {{2}}, float[3] b = {{3, 4, 5}}, float c = {{4}}>
        {{ p = Mul(x, a)  q = Add(p, b)  y = Mul(q, c) }}""",
        """%0 = const f32[] {8.0}
        %1 = Mul(%x, %0)
        %2 = const f32[3] {12.0, 16.0, 20.0}
        %3 = Add(%1, %2)""",
    ),
    "a summand, a factor, a summand": (
        f"""{VECTOR} <float a = {{2}}, float b = {{3}}, float c = {{4}}>
        {{ p = Sub(a, x)  q = Mul(p, b)  y = Add(q, c) }}""",
        """%0 = const f32[] {-3.0}
        %1 = Mul(%x, %0)
        %2 = const f32[] {10.0}
        %3 = Add(%1, %2)""",
    ),
    "what broadcasting enlarges stays enlarged": (
        """g (float[3] x) => (float[2,3] y) <float[2,1] a = {2, 3}, float[3] b = {1, 2, 3}>
        { p = Add(x, a)  y = Add(p, b) }""",
        "%0 = const f32[2,3] {3.0, 4.0, 5.0, 4.0, 5.0, 6.0}\n%1 = Add(%x, %0)",
    ),
}


@pytest.mark.parametrize(("before", "after"), MERGED.values(), ids=MERGED)
def test_merges_chains(before: str, after: str) -> None:
    assert fold(before) == lines(after)


def test_merges_a_long_chain_at_once() -> None:
    steps = [f"[n{i}] v{i + 1} = {'Mul' if i % 2 else 'Add'}(v{i}, c)" for i in range(501)]
    graph = graph_from_text(
        f"g (float[3] v0) => (y) <float c = {{1}}> {{ {' '.join(steps)} y = Relu(v501) }}"
    )
    assert run_pass(FoldAffine(), graph).counts == {"affine-affine": 1}
    assert [node.name for node in graph.ordered()] == ["n499", "n500", ""]


# ---- names and places --------------------------------------------------------------------


def test_keeps_names_and_records_sources() -> None:
    graph = graph_from_text(f"""{IMAGE} <{WEIGHT}, float[1] s = {{2}}, float[1] t = {{3}}>
        {{ [conv] z = Conv(x, w)  [mul] a = Mul(z, s)  [add] y = Add(a, t) }}""")
    run_pass(FoldAffine(), graph)
    (conv,) = graph.ordered()
    names = [value.name for value in graph.operands(conv) if value is not None]
    assert (conv.name, conv.output.name, names) == ("conv", "y", ["x", "w", "a_bias"])
    assert conv.origin is not None
    assert conv.origin.made_by == "fold-affine"
    assert sorted(conv.origin.sources()) == ["add", "conv", "mul"]


def test_a_shared_bias_and_a_shared_factor_are_copied() -> None:
    text = fold(f"""g (float[1,1,4,4] x) => (y, q)
        <{WEIGHT}, float[2,1,1,1] u = {{1, 1}}, float[2] b = {{5, 7}}, float s = {{2}}>
        {{ z = Conv(x, w, b)  y = Mul(z, s)  p = Conv(x, u, b)  q = Add(p, s) }}""")
    assert sorted(line for line in text.splitlines() if "const f32[2] {" in line) == [
        "%1 = const f32[2] {7.0, 9.0}",
        "%4 = const f32[2] {10.0, 14.0}",
    ]


def test_folds_into_both_sides_of_a_chain() -> None:
    graph = graph_from_text("""g (float[1,1,4] x) => (float[1,1,4] y)
        <float[1,1,1] w = {2}, float s = {2}, float t = {3}>
        { [a] a = Mul(x, s)  [b] b = Conv(a, w)  [c] c = Add(b, t)  [d] y = Conv(c, w) }""")
    result = run_pass(FoldAffine(), graph)
    assert result.counts == {"conv-affine": 1}  # the weight is shared: only its bias may change
    assert refused(result) == {"affine-conv": "weight is shared by d"}


def test_folds_in_a_subgraph() -> None:
    graph = graph_from_text(f"""g (bool k, float[1,1,4,4] x) => (float[1,2,4,4] y)
        {{ y = If (k) <
            then_branch = t () => (float[1,2,4,4] i) <{WEIGHT}, float s = {{2}}>
                {{ z = Conv(x, w)  i = Mul(z, s) }},
            else_branch = e () => (float[1,2,4,4] j) <{WEIGHT}> {{ j = Conv(x, w) }}> }}""")
    assert run_pass(FoldAffine(), graph).counts == {"conv-affine": 1}


@pytest.mark.parametrize("opset", [7, 13, 14, 22])
def test_folds_at_every_opset(opset: int) -> None:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]> '
    text = fold(header + FORWARD["the learnable affine block: a factor and a summand"][0])
    assert "Mul" not in text
    assert "Add" not in text
