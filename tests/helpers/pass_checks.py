"""Checks that tests of exact passes share: rewriting, refusing, and equal numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from helpers import graph_from_text
from helpers.promises import run_pass
from optc.emit.onnx import serialize
from optc.ir import TensorType, clone
from optc.ir.text import print_graph
from optc.numerics.evaluate import open_session
from optc.passes import InferShapes, LowerOperators, PassContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optc.ir import Graph
    from optc.numerics.values import Array, Feeds, Value
    from optc.passes.base import Pass, PassResult


def assert_rewrites(
    entry: Pass,
    before: str,
    expected: str,
    *,
    counts: Mapping[str, int] | None = None,
    feeds: Mapping[str, Value] | None = None,
    typed: bool = False,
) -> Graph:
    """`before` becomes `expected`; a second run changes nothing; outputs are equal to the bit.

    With `typed`, the types of all values are inferred first, in both.
    """
    graph = _read(before, typed)
    source = clone(graph)
    result = run_pass(entry, graph)
    assert print_graph(graph) == print_graph(_read(expected, typed))
    assert result.changed
    if counts is not None:
        assert dict(result.counts) == counts
    assert_same_numbers(source, graph, feeds)
    return graph


def _read(text: str, typed: bool) -> Graph:
    graph = graph_from_text(text)
    if typed:
        InferShapes().apply(graph, PassContext())
    return graph


def assert_keeps(entry: Pass, text: str, *, typed: bool = False) -> PassResult:
    """Nothing changes; for the refusals of the result."""
    result = run_pass(entry, _read(text, typed))
    assert not result.changed
    assert not result.counts
    return result


def assert_refuses(entry: Pass, text: str, *reasons: str, typed: bool = False) -> None:
    """Nothing changes, and these are the reasons, near misses included."""
    result = assert_keeps(entry, text, typed=typed)
    assert [f"{refusal.node}: {refusal.reason}" for refusal in result.refusals] == list(reasons)


def assert_same_numbers(
    source: Graph, graph: Graph, feeds: Mapping[str, Value] | None = None
) -> None:
    """Both graphs have equal outputs, by name, on seeded inputs."""
    feeds = feeds if feeds is not None else seeded(source)
    wanted, found = run(source, feeds), run(graph, feeds)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


def run(graph: Graph, feeds: Mapping[str, Value]) -> dict[str, Array]:
    """The outputs on onnxruntime, without its own rewriting; canonical operations lowered."""
    lowered = clone(graph)
    LowerOperators().apply(lowered, PassContext())
    results = open_session(serialize(lowered), optimize="none").run(feeds)
    return {name: np.asarray(value) for name, value in results.items()}


def seeded(graph: Graph, size: int = 3) -> Feeds:
    """Random inputs: floats around zero, small integers; symbolic dimensions have one `size`."""
    rng = np.random.default_rng(11)
    feeds: Feeds = {}
    for value in graph.inputs:
        type_ = value.type
        assert isinstance(type_, TensorType)
        assert type_.shape is not None
        shape = [dim if isinstance(dim, int) else size for dim in type_.shape]
        if type_.dtype.is_float:
            feeds[value.name] = rng.standard_normal(shape).astype(type_.dtype.numpy)
        else:
            feeds[value.name] = rng.integers(0, 2, shape).astype(type_.dtype.numpy)
    return feeds
