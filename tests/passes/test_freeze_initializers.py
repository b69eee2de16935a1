"""freeze-initializers: inputs with a default become constants where nobody can override them."""

from __future__ import annotations

import numpy as np
import pytest

from helpers import graph_from_text
from helpers.pass_checks import assert_keeps, assert_refuses, run
from helpers.promises import run_pass
from optc.ir import Graph, SparseTensor, Tensor
from optc.ir.text import print_graph
from optc.passes.freeze_initializers import FreezeInitializers, FreezeInitializersOptions

BODY = """
g (float[2] x, float[2] w = {1.0, 2.0}, float[2] b = {3.0, 4.0}) => (float[2] y)
{
   a = Mul (x, w)
   y = Add (a, b)
}
"""
FROZEN = """
g (float[2] x) => (float[2] y) <float[2] w = {1.0, 2.0}, float[2] b = {3.0, 4.0}>
{
   a = Mul (x, w)
   y = Add (a, b)
}
"""
OVERRIDABLE = (
    "callers may override this default (IR version 4); `overridable: freeze` makes it a constant"
)


def model(ir_version: int, body: str = BODY) -> str:
    return f'<ir_version: {ir_version}, opset_import: ["" : 9]>{body}'


def freezing() -> FreezeInitializers:
    return FreezeInitializers(FreezeInitializersOptions(overridable="freeze"))


def test_up_to_ir_version_3_listed_initializers_are_constants() -> None:
    graph = graph_from_text(model(3))
    result = run_pass(FreezeInitializers(), graph)
    assert result.counts == {"freeze-initializer": 2}
    assert print_graph(graph) == print_graph(graph_from_text(model(4, FROZEN)))
    x = np.array([5, 6], np.float32)
    np.testing.assert_array_equal(run(graph, {"x": x})["y"], x * [1, 2] + [3, 4])


def test_from_ir_version_4_on_they_are_defaults_and_stay() -> None:
    assert_refuses(FreezeInitializers(), model(4), f"b: {OVERRIDABLE}", f"w: {OVERRIDABLE}")


def test_the_option_freezes_defaults() -> None:
    graph = graph_from_text(model(4))
    assert run_pass(freezing(), graph).counts == {"freeze-initializer": 2}
    assert print_graph(graph) == print_graph(graph_from_text(model(4, FROZEN)))


@pytest.mark.parametrize("ir_version", [3, 8])
def test_without_defaults_there_is_nothing_to_do(ir_version: int) -> None:
    body = "g (float[2] x) => (float[2] y) { y = Relu (x) }"
    assert not assert_keeps(freezing(), model(ir_version, body)).refusals


def test_sparse_defaults_are_frozen_too() -> None:
    graph = Graph("g", {"": 13})
    graph.model.ir_version = 3
    value = graph.add_input("w", None)
    value.node.sparse = SparseTensor(
        Tensor.from_numpy(np.ones(1, np.float32)), Tensor.from_numpy(np.zeros(1, np.int64)), (4,)
    )
    node = graph.add("Identity", [value], outputs=["y"])
    graph.add_output(node.output, "y")
    assert run_pass(FreezeInitializers(), graph).counts == {"freeze-initializer": 1}
    assert graph.inputs == ()


def test_inputs_of_subgraphs_belong_to_their_owner() -> None:
    body = """
    g (float[2] x, int64 n, bool c) => (float[2] y)
    {
       y = Loop (n, c, x) <
          body = b (int64 i, bool k, float[2] s = {1.0, 2.0}) => (bool k2, float[2] t)
          {
             k2 = Identity (k)
             t = Relu (s)
          }
       >
    }
    """
    assert not assert_keeps(freezing(), model(3, body)).refusals
