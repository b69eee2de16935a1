"""Cutting the weights out of a serialized model loses nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frontend.feature_models import FEATURES, captures, const, graph, model
from optc.frontend.wire import cut_weights


def restored(data: bytes) -> onnx.ModelProto:
    rest, weights = cut_weights(data)
    result = onnx.ModelProto.FromString(rest)
    for index, raw in weights.items():
        assert not result.graph.initializer[index].HasField("raw_data")
        result.graph.initializer[index].raw_data = bytes(raw)
    return result


def with_weights(*sizes: int) -> onnx.ModelProto:
    weights = [const(f"w{i}", *np.arange(size)) for i, size in enumerate(sizes)]
    return model(graph([], [], [], weights))


@pytest.mark.parametrize("feature", FEATURES, ids=lambda item: item.__name__)
def test_models_without_large_weights_stay_as_they_are(feature: object) -> None:
    assert callable(feature)
    data = feature().SerializeToString()
    assert cut_weights(data) == (data, {})


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.lists(st.sampled_from([0, 1, 4000, 5000, 40000]), max_size=6))
def test_large_weights_are_cut_and_nothing_else(sizes: list[int]) -> None:
    source = with_weights(*sizes)
    _, weights = cut_weights(source.SerializeToString())
    assert list(weights) == [i for i, size in enumerate(sizes) if size > 4096]
    assert restored(source.SerializeToString()) == source


def test_fields_may_come_in_any_order_and_in_pieces() -> None:
    one, two = with_weights(3, 5000), with_weights(6000)
    merged = onnx.ModelProto.FromString(one.SerializeToString() + two.SerializeToString())
    assert restored(one.SerializeToString() + two.SerializeToString()) == merged


_DATA = captures().SerializeToString()


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.integers(0, len(_DATA)), st.integers(0, 255))
def test_other_bytes_give_a_message_or_a_value_error(at: int, byte: int) -> None:
    data = _DATA[:at] + bytes([byte]) + _DATA[at + 1 :]
    try:
        rest, weights = cut_weights(data)
    except ValueError:
        return
    assert (rest, weights) == (data, {})
