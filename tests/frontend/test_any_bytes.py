"""Whatever the bytes are: a graph or a ModelError, and soon."""

from __future__ import annotations

import time
from contextlib import suppress

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from frontend.feature_models import captures, f32, flag, graph, model, node, untyped
from optc.errors import ModelError
from optc.frontend.onnx import load_model

_WHOLE = captures().SerializeToString()


def loads_or_refuses(data: bytes) -> None:
    start = time.perf_counter()
    with suppress(ModelError):  # and no other exception
        load_model(data)
    assert time.perf_counter() - start < 2


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.integers(0, len(_WHOLE) - 1))
def test_a_model_cut_anywhere(end: int) -> None:
    loads_or_refuses(_WHOLE[:end])


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), max_size=6))
def test_a_model_with_other_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(_WHOLE)
    for at, byte in changes:
        data[at] = byte
    loads_or_refuses(bytes(data))


def nested(depth: int) -> bytes:
    """A model with that many If inside each other, put together below protobuf's own limit."""
    branch = helper.make_graph([node("Abs", ["x"], ["r"])], "b", [], [untyped("r")])
    data = branch.SerializeToString()
    rest = helper.make_graph([], "b", [], [untyped("r")]).SerializeToString()
    flat = helper.make_graph([], "e", [], [untyped("x")])
    other = node("If", ["cond"], ["r"], else_branch=flat).SerializeToString()
    then = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH)
    for _ in range(depth):
        attribute = then.SerializeToString() + field(6, data)
        data = field(1, other + field(5, attribute)) + rest
    cond = flag("cond")
    empty = model(graph([], [f32("x", 1), cond], [])).SerializeToString()
    return bytes(empty) + field(7, data)  # protobuf merges the two graphs


def field(number: int, data: bytes) -> bytes:
    size = len(data)
    return bytes([number << 3 | 2, size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + data


def test_control_flow_may_be_nested_as_deep_as_protobuf_goes() -> None:
    assert sum(1 for _ in load_model(nested(30)).walk()) == 61


def test_nesting_beyond_that_is_refused() -> None:
    with pytest.raises(ModelError) as info:
        load_model(nested(2000))
    assert info.value.code == "model-truncated"
