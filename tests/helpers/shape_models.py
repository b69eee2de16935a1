"""Models that compute shapes, for the tests of fold-shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import graph_from_text
from optc.passes.base import PassContext
from optc.passes.infer_shapes import InferShapes

if TYPE_CHECKING:
    from optc.ir import Graph
    from optc.passes.base import PassResult

# Constants that most models here use, and size 0 and 1 of x as vectors of one element.
KNOWN = "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[1] m1 = {-1}, int64[2] heads = {12, 4}"
SIZES = "s = Shape (x) n = Gather (s, i0) l = Gather (s, i1)"


def typed(body: str, opset: int = 21) -> Graph:
    """The graph with all shapes inferred."""
    graph = graph_from_text(f'<ir_version: 10, opset_import: ["" : {opset}]> {body}')
    InferShapes().apply(graph, PassContext())
    return graph


def model(inputs: str, line: str, constants: str = "", known: str = KNOWN) -> str:
    """A model whose constants are `known` and `constants`; unused ones do not print."""
    listed = ", ".join(part for part in (known, constants) if part)
    return f"g ({inputs}) => (y) <{listed}> {{ {line} }}"


def reasons(result: PassResult) -> list[str]:
    return [f"{item.rule} {item.node}: {item.reason}" for item in result.refusals]
