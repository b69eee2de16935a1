"""Twins that the search for accuracy goals measures."""

from __future__ import annotations

from helpers import graph_from_text
from optc.ir.verify import verify
from optc.passes import InferShapes, PassContext
from optc.passes.precision_search import rounded

MODEL = """
<ir_version: 6, opset_import: ["" : 11]>
g (float[1,2,8,8] x, float[2,2,1,1] w) => (float[1,2,4,4] y) {
  c = Conv (x, w)
  y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
}
"""


def test_the_twin_of_a_model_below_opset_13_has_the_cast_to_bf16() -> None:
    graph = graph_from_text(MODEL)
    InferShapes().apply(graph, PassContext())
    made = rounded(graph, list(graph.ordered()))
    assert made.opset == 13
    assert verify(made) == ()
    assert "Cast" in [node.op_type for node in made.nodes()]
    assert graph.opset == 11
