"""Which step computes what the runtime fused away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers import graph_from_text
from optc.emit.owners import owners_of
from optc.evidence.executed import Execution, Kernel, with_fused
from optc.evidence.fused import Attribution

if TYPE_CHECKING:
    from optc.ir import Graph, Node

BLOCK = """
g (float[1,1,4,4] x) => (float[1,1,4,4] y)
<float[1,1,1,1] w = {1}, int8[1,1,1,1] v = {1}, float s = {1}, int8 z = {0}, float[1] b = {0}>
{
  [c1] a = Conv (x, w, b)
  [r1] d = Relu (a)
  [q] e = QuantizeLinear (d, s, z)
  [dq] f = DequantizeLinear (e, s, z)
  [dw] h = DequantizeLinear (v, s, z)
  [c2] i = Conv (f, h)
  [add] j = Add (i, d)
  [r2] y = Relu (j)
}
"""


def graph() -> Graph:
    return graph_from_text(BLOCK)


def steps(*named: str) -> dict[str, str | None]:
    made = graph()
    nodes: dict[str, Node] = {node.name: node for node in made.nodes()}
    found = Attribution(made, {nodes[name]: name for name in named})
    return {name: found.step(node) for name, node in nodes.items()}


def test_steps_that_bear_the_names_of_products() -> None:
    assert steps("c1", "c2") == {
        "c1": "c1",
        "r1": "c1",
        "q": "c1",
        "dq": "c2",
        "dw": "c2",
        "c2": "c2",
        "add": "c2",
        "r2": "c2",
    }


def test_steps_that_bear_the_names_of_what_follows_a_product() -> None:
    found = steps("r1", "q", "r2")
    assert found["c1"] == "r1"
    assert found["c2"] == "r2"
    assert found["add"] == "r2"
    assert found["dq"] == "r2"


def test_what_is_constant_has_no_step() -> None:
    made = graph_from_text(
        """
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}>
        { [k] a = Neg (w)  [m] y = Mul (x, a) }
        """
    )
    nodes = {node.name: node for node in made.nodes()}
    assert Attribution(made, {nodes["m"]: 0}).step(nodes["k"]) is None


def test_the_first_step_counts_as_one() -> None:
    made = graph()
    labels = {node: node.name for node in made.nodes()}
    kernels = [Kernel(n, "Conv", "", "fp32", None, "", (n,), 1.0) for n in ("c1", "c2")]
    found = with_fused(Execution("1", "", tuple(kernels)), made, labels)
    assert set(found.kernels[0].nodes) == {"c1", "r1", "q"}
    assert set(found.kernels[1].nodes) == {"c2", "dq", "dw", "add", "r2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b", ("a", "b")),
        ("a/Conv,a,other", ("a",)),
        ("with,comma,b", ("with,comma", "b")),
        ("with,comma/Add", ()),
        ("/x/y/WithoutBiases/Scale", ("/x/y",)),
        ("", ()),
    ],
)
def test_layer_names_joined_by_commas(text: str, expected: tuple[str, ...]) -> None:
    known = {name: name for name in ("a", "b", "with,comma", "/x/y")}
    assert owners_of(text, known) == expected
