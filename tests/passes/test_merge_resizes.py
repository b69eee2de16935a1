"""merge-resizes: one Resize for two, and coordinates that cost least."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.merge_resizes import MergeResizes

HALF = 'coordinate_transformation_mode = "half_pixel"'
FLOOR = 'coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'
NEAREST = f'mode = "nearest", {HALF}'


def model(body: str, outputs: str = "", opset: int = 13) -> Graph:
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,2,3,5] x) => (float[A,B,C,D] y{outputs})
        <float[4] two = {{1,1,2,2}}, float[4] tall = {{1,1,3,1}}, float[4] odd = {{1,1,1.5,2}},
         float[4] half = {{1,1,0.5,2}}, float[0] none = {{}}>
        {{ {body} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


@pytest.mark.parametrize("opset", [11, 13, 19])
@pytest.mark.parametrize(
    "body",
    [
        f'm = Resize <mode = "nearest", {FLOOR}> (x, none, two) '
        f'y = Resize <mode = "nearest", {FLOOR}> (m, none, tall)',
        f"m = Resize <{NEAREST}> (x, none, tall)  y = Resize <{NEAREST}> (m, none, two)",
        f'm = Resize <{NEAREST}, nearest_mode = "round_prefer_ceil"> (x, none, two) '
        f'y = Resize <mode = "nearest", {FLOOR}> (m, none, two)',
        'm = Resize <coordinate_transformation_mode = "pytorch_half_pixel"> (x, none, two) '
        f"y = Resize <{NEAREST}> (m, none, two)",
    ],
)
def test_repetitions_are_multiplied(body: str, opset: int) -> None:
    graph = model(body, opset=opset)
    source = clone(graph)
    result = run_pass(MergeResizes(), graph)
    assert dict(result.counts) == {"resize-resize": 1}
    (only,) = graph.ordered()
    assert only.get("nearest_mode") == b"floor"
    feeds = seeded(source, size=2)
    np.testing.assert_array_equal(run(graph, feeds)["y"], run(source, feeds)["y"], strict=True)


@pytest.mark.parametrize(
    ("attributes", "scales", "rule"),
    [
        (NEAREST, "two", "nearest-coordinates"),
        (f'{NEAREST}, nearest_mode = "round_prefer_ceil"', "tall", "nearest-coordinates"),
        (
            'mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"',
            "odd",
            "linear-coordinates",
        ),
    ],
)
def test_coordinates_that_give_the_same(attributes: str, scales: str, rule: str) -> None:
    graph = model(f"y = Resize <{attributes}> (x, none, {scales})")
    source = clone(graph)
    result = run_pass(MergeResizes(), graph)
    assert dict(result.counts) == {rule: 1}
    feeds = seeded(source, size=2)
    # Linear: products of the same weights, perhaps added up in another order.
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-6, atol=1e-6, strict=True
    )


@pytest.mark.parametrize(
    ("attributes", "scales"),
    [
        (NEAREST, "odd"),
        (NEAREST, "half"),
        (f'{NEAREST}, nearest_mode = "floor"', "two"),
        (f'mode = "nearest", {FLOOR}', "two"),
        (f'mode = "linear", {HALF}', "two"),
        ('mode = "linear", coordinate_transformation_mode = "pytorch_half_pixel"', "half"),
        ('mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel"', "two"),
    ],
)
def test_other_coordinates_stay(attributes: str, scales: str) -> None:
    graph = model(f"y = Resize <{attributes}> (x, none, {scales})")
    result = run_pass(MergeResizes(), graph)
    assert not result.changed
    assert not result.refusals


PLAIN = f'mode = "nearest", {FLOOR}'


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        (
            f"[a] m = Resize <{PLAIN}> (x, none, odd)  [b] y = Resize <{PLAIN}> (m, none, two)",
            "",
            "a: its scales are not whole",
        ),
        (
            f"[a] m = Resize <{PLAIN}> (x, none, two)  "
            f'[b] y = Resize <mode = "linear", {HALF}> (m, none, two)',
            "",
            "b: it interpolates",
        ),
        (
            f"[a] m = Resize <{PLAIN}> (x, none, two)  [b] y = Resize <{PLAIN}> (m, none, two)  "
            "[c] z = Neg (m)",
            ", float[E,F,G,H] z",
            "the result of a also feeds c",
        ),
        (
            '[a] m = Resize <mode = "nearest", nearest_mode = "ceil"> (x, none, two)  '
            f"[b] y = Resize <{PLAIN}> (m, none, two)",
            "",
            "a: it takes other elements (half_pixel, ceil)",
        ),
    ],
)
def test_it_refuses(body: str, outputs: str, reason: str) -> None:
    graph = model(body, outputs)
    result = run_pass(MergeResizes(), graph)
    assert not result.changed
    assert [(r.rule, r.node, r.reason) for r in result.refusals] == [("resize-resize", "b", reason)]
