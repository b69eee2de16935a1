"""Two graphs to damage, and what the verifier says about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers import graph_from_text
from optc.ir import DType, Graph, Tensor, TensorType
from optc.ir.verify import verify

if TYPE_CHECKING:
    from optc.ir import Node

F32 = TensorType(DType.F32, (2,))


def small() -> Graph:
    """``%a = Add(%x, %w)``, ``%b = Relu(%a)``, output ``y = %b``."""
    graph = Graph("g", {"": 21})
    x = graph.add_input("x", F32)
    w = graph.add_constant(Tensor.from_numpy([1.0, 2.0], DType.F32), "w")
    a = graph.add("Add", [x, w], outputs=["a"], name="add", types=[F32])
    b = graph.add("Relu", [a.output], outputs=["b"], name="relu", types=[F32])
    graph.add_output(b.output, "y", F32)
    return graph


def branches() -> Graph:
    return graph_from_text(
        """
        g (bool c, float[2] x) => (float[2] y) {
          [if] y = If (c) <
            then_branch = t () => (float[2] p) { p = Relu (x) },
            else_branch = e () => (float[2] q) { q = Neg (x) }>
        }
        """
    )


def problems(graph: Graph) -> list[str]:
    return [str(violation) for violation in verify(graph)]


def node(graph: Graph, name: str) -> Node:
    return next(node for node in graph.nodes() if node.name == name)


def inner(graph: Graph, name: str = "then_branch") -> Graph:
    return dict(next(graph.nodes()).subgraphs())[name]
