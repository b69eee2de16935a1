"""merge-upsampling: transposed convolutions in a row rearrange their pixels once."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.filled import filled_graph
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import clone
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes
from optc.passes.merge_upsampling import MergeUpsampling

CASES = {
    "the head of a text detector": (
        """g (float[N,3,H,W] x) => (float[N,1,A,B] y)
        <float[3,5,2,2] a, float[5] b, float[5,1,2,2] c, float[1] d>
        { u = ConvTranspose <strides = [2, 2]> (x, a, b)  v = Relu(u)
          y = ConvTranspose <strides = [2, 2], kernel_shape = [2, 2]> (v, c, d) }""",
        ["Conv", "Relu", "Conv", "DepthToSpace"],
    ),
    "two results, no biases, nothing in between": (
        """g (float[2,3,4,5] x) => (float[2,2,16,20] y) <float[3,4,2,2] a, float[4,2,2,2] c>
        { u = ConvTranspose <strides = [2, 2]> (x, a)
          y = ConvTranspose <strides = [2, 2], auto_pad = "VALID"> (u, c) }""",
        ["Conv", "Conv", "DepthToSpace"],
    ),
    "blocks that are square together only": (
        """g (float[1,3,4,5] x) => (float[1,2,12,15] y)
        <float[3,4,3,1] a, float[4,2,1,3] c, float[2] d>
        { u = ConvTranspose <strides = [3, 1]> (x, a)  v = LeakyRelu <alpha = 0.125> (u)
          w = HardSwish(v)  y = ConvTranspose <strides = [1, 3]> (w, c, d) }""",
        ["Conv", "LeakyRelu", "HardSwish", "Conv", "DepthToSpace"],
    ),
    "three in a row, the last two": (
        """g (float[1,2,2,2] x) => (float[1,1,16,16] y)
        <float[2,9,2,2] a, float[9,3,2,2] b, float[3,1,2,2] c>
        { u = ConvTranspose <strides = [2, 2]> (x, a)  v = ConvTranspose <strides = [2, 2]> (u, b)
          y = ConvTranspose <strides = [2, 2]> (v, c) }""",
        ["ConvTranspose", "Conv", "Conv", "DepthToSpace"],
    ),
}


@pytest.mark.parametrize(("text", "left"), CASES.values(), ids=CASES)
def test_merges(text: str, left: list[str]) -> None:
    graph = filled_graph(f'<ir_version: 10, opset_import: ["" : 22]> {text}')
    source = clone(graph)
    assert run_pass(MergeUpsampling(), graph).counts == {"conv-transposes": 1}
    assert [node.op_type for node in graph.ordered() if node.is_op(*left)] == left
    assert not InferShapes().apply(graph, PassContext()).changed  # all types were given
    feeds = seeded(source)
    # Quarters, but for what the activations make: the same sums, with zeros on top.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], atol=1e-4, rtol=0, strict=True
    )


def test_each_pixel_comes_from_its_own_place() -> None:
    """Equal to the bit on whole numbers, where a wrong order of channels shows everywhere."""
    graph = filled_graph(CASES["the head of a text detector"][0])
    source = clone(graph)
    run_pass(MergeUpsampling(), graph)
    data = np.random.default_rng(2).integers(-9, 10, (2, 3, 3, 4)).astype(np.float32)
    wanted, found = run(source, {"x": data})["y"], run(graph, {"x": data})["y"]
    assert wanted.shape == (2, 1, 12, 16)
    assert len(np.unique(wanted)) > 100
    np.testing.assert_array_equal(found, wanted)


PAIR = """g (float[1,3,4,5] x) => (float[1,P,A,B] y) <float[3,4,2,2] a, float[4,1,2,2] c>
{ [u] u = ConvTranspose <strides = [2, 2]> (x, a)  v = Relu(u)
  [y] y = ConvTranspose <strides = [2, 2]> (v, c) }"""
REFUSALS = {
    "blocks that overlap": (
        PAIR.replace("[4,1,2,2] c", "[4,1,3,3] c"),
        "the blocks of y overlap or leave gaps",
    ),
    "gaps": (PAIR.replace("[3,4,2,2] a", "[3,4,1,1] a"), "the blocks of u overlap or leave gaps"),
    "padding": (
        PAIR.replace("[2, 2]> (x", "[2, 2], pads = [1, 0, 0, 0]> (x"),
        "u is padded or cut off",
    ),
    "more pixels at the end": (
        PAIR.replace("[2, 2]> (v", "[2, 2], output_padding = [1, 1]> (v"),
        "y is padded or cut off",
    ),
    "a size that is asked for": (
        PAIR.replace("[2, 2]> (v", "[2, 2], output_shape = [16, 20]> (v"),
        "y is padded or cut off",
    ),
    "groups": (
        PAIR.replace("[2, 2]> (v", "[2, 2], group = 2> (v"),
        "y has groups",
    ),
    "blocks that are not square": (
        PAIR.replace("[4,1,2,2] c", "[4,1,2,3] c").replace("[2, 2]> (v", "[2, 3]> (v"),
        "the blocks of both together are not square",
    ),
    "many results": (
        PAIR.replace("[4,1,2,2] c", "[4,3,2,2] c"),
        "36 multiplications by zero for each element in between; at most 24 pay",
    ),
    "one dimension": (
        """g (float[1,3,4] x) => (float[1,1,16] y) <float[3,4,2] a, float[4,1,2] c>
        { [u] u = ConvTranspose <strides = [2]> (x, a)
          y = ConvTranspose <strides = [2]> (u, c) }""",
        "u is not on images of floats",
    ),
    "a result that is used elsewhere": (
        PAIR.replace("y)", "y, float[1,4,8,10] z)", 1).replace("v = Relu", "z = Neg(u) v = Relu"),
        "u has other uses",
    ),
    "a weight that is computed": (
        """g (float[1,3,4,5] x, float[4,1,2,2] c) => (float[1,1,16,20] y) <float[3,4,2,2] a>
        { u = ConvTranspose <strides = [2, 2]> (x, a)
          [y] y = ConvTranspose <strides = [2, 2]> (u, c) }""",
        "a weight or bias of y is not constant",
    ),
}


@pytest.mark.parametrize(("text", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, reason: str) -> None:
    result = run_pass(MergeUpsampling(), filled_graph(text))
    assert not result.changed
    assert [item.reason for item in result.refusals] == [reason]


@pytest.mark.parametrize(
    "between",
    ["v = Add(u, u)", "v = Softmax <axis = 1> (u)", "v = Dropout(u)", "v = Resize(u,, s)"],
)
def test_operations_in_between_that_are_no_functions_of_one_element(between: str) -> None:
    text = PAIR.replace("v = Relu(u)", between)
    if "Resize" in between:
        text = text.replace("a, float", "a, float[4] s = {1, 1, 1, 1}, float")
    result = run_pass(MergeUpsampling(), filled_graph(text))
    assert not result.changed
    assert not result.refusals
