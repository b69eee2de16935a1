"""raise-group-norms: normalizations of reshaped groups."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import run, seeded
from helpers.promises import run_pass
from optc.ir import Graph, clone
from optc.passes import InferShapes, PassContext
from optc.passes.raise_group_norms import RaiseGroupNorms

INSTANCE = "n = InstanceNormalization <epsilon = 0.001> (p, one, zero)"


def model(norm: str = INSTANCE, extra: str = "", outputs: str = "float[2,4,3,5] y") -> Graph:
    """torch.nn.GroupNorm(2, 4) as torch 2.13 exports it through TorchScript, opset 14."""
    graph = graph_from_text(
        f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2,4,3,5] x) => ({outputs})
        <int64[3] parts = {{0,2,-1}}, int64[4] whole = {{2,4,3,5}}, float[2] one = {{1,1}},
         float[2] zero = {{0,0}}, float[2] two = {{1,2}}, float[4,1,1] s = {{1,2,3,4}},
         float[1,4,1,1] b = {{-1,0,1,2}}, float[30] ones = {{{",".join(["1"] * 30)}}}>
        {{ p = Reshape (x, parts)  [n] {norm}  q = Reshape (n, whole)  m = Mul (q, s)
           [a] y = Add (m, b) {extra} }}
        """
    )
    InferShapes().apply(graph, PassContext())
    return graph


@pytest.mark.parametrize("norm", [INSTANCE, "n = LayerNormalization <epsilon = 0.001> (p, ones)"])
def test_groups(norm: str) -> None:
    graph = model(norm)
    source = clone(graph)
    assert dict(run_pass(RaiseGroupNorms(), graph).counts) == {"group-normalization": 1}
    (node,) = graph.nodes()
    assert node.is_op("GroupNormalization")
    assert node.get("num_groups") == 2
    feeds = seeded(source)
    np.testing.assert_allclose(
        run(graph, feeds)["y"], run(source, feeds)["y"], rtol=1e-5, atol=2e-6, strict=True
    )


@pytest.mark.parametrize(
    ("norm", "extra", "outputs", "reason"),
    [
        (
            INSTANCE.replace("one", "two"),
            "",
            "float[2,4,3,5] y",
            "a: the normalization has a scale or bias of its own",
        ),
        (
            INSTANCE,
            "[k] z = Neg (q)",
            "float[2,4,3,5] y, float[2,4,3,5] z",
            "a: join output also feeds k",
        ),
    ],
)
def test_what_is_refused(norm: str, extra: str, outputs: str, reason: str) -> None:
    result = run_pass(RaiseGroupNorms(), model(norm, extra, outputs))
    assert not result.changed
    assert [f"{r.node}: {r.reason}" for r in result.refusals] == [reason]
