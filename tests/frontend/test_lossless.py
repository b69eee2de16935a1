"""A model that is loaded and written again says what it said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conformance.roundtrip import assert_same_model
from frontend.feature_models import FEATURES, f32, flag, graph, model, node, untyped
from optc.emit.onnx import serialize
from optc.frontend.onnx import load_model
from optc.ir import DType, clone

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

_each_feature = pytest.mark.parametrize("feature", FEATURES, ids=lambda item: item.__name__)


def written(source: ModelProto) -> ModelProto:
    return onnx.ModelProto.FromString(serialize(load_model(source)))


@_each_feature
def test_nothing_is_lost(feature: Callable[[], ModelProto]) -> None:
    assert_same_model(feature(), written(feature()))


@_each_feature
def test_source_is_left_as_it_is(feature: Callable[[], ModelProto]) -> None:
    source = feature()
    load_model(source)
    assert source == feature()


@_each_feature
def test_a_clone_says_the_same(feature: Callable[[], ModelProto]) -> None:
    graph_ = load_model(feature())
    assert serialize(clone(graph_)) == serialize(graph_)


@_each_feature
def test_second_round_changes_no_byte(feature: Callable[[], ModelProto]) -> None:
    first = serialize(load_model(feature()))
    assert serialize(load_model(first)) == first


_NUMERIC = [dtype for dtype in DType if dtype.bits]


@pytest.mark.parametrize("form", ["raw", "typed"])
@pytest.mark.parametrize("dtype", _NUMERIC, ids=lambda dtype: dtype.value)
def test_every_element_type_survives(dtype: DType, form: str) -> None:
    count = 33  # odd, so that packed elements do not fill the last byte
    bits = np.resize(np.arange(256).astype(np.uint8), count * max(8, dtype.bits) // 8)
    if dtype.bits < 8 or dtype is DType.BOOL:
        bits = bits % (1 << dtype.bits if dtype is not DType.BOOL else 2)
    elements = bits.view(dtype.numpy)
    if form == "raw":
        tensor = numpy_helper.from_array(elements, "c")
    else:
        tensor = helper.make_tensor("c", dtype.onnx, elements.shape, elements)
    assert tensor.HasField("raw_data") is (form == "raw")
    info = helper.make_tensor_value_info("y", dtype.onnx, [count])
    source = model(graph([node("Identity", ["c"], ["y"])], [], [info], [tensor]), {"": 25}, ir=14)
    assert_same_model(source, written(source))
    loaded = load_model(source).value("c").constant
    assert loaded is not None
    wanted, found = numpy_helper.to_array(tensor), loaded.numpy()
    if dtype in (DType.I4, DType.I2):  # the high bits of the byte in memory mean nothing
        wanted, found = wanted.astype(np.int8), found.astype(np.int8)
    assert found.tobytes() == wanted.tobytes()


def test_strings_are_bytes() -> None:
    tensor = helper.make_tensor("c", TensorProto.STRING, [2], [b"\xff", "ä".encode()])
    info = helper.make_tensor_value_info("y", TensorProto.STRING, [2])
    source = model(graph([node("Identity", ["c"], ["y"])], [], [info], [tensor]))
    assert_same_model(source, written(source))


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [node("Neg", ["b"], ["y"]), node("Abs", ["a"], ["b"]), node("Sqrt", ["x"], ["a"])]
    source = model(graph(nodes, [f32("x", 1)], [f32("y", 1)]))
    result = written(source)
    assert [item.op_type for item in result.graph.node] == ["Sqrt", "Abs", "Neg"]
    assert_same_model(source, result)


def test_a_capture_defined_later_is_sorted_before_its_use() -> None:
    branch = helper.make_graph([node("Neg", ["late"], ["r"])], "b", [], [untyped("r")])
    nodes = [
        node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch),
        node("Abs", ["x"], ["late"]),
    ]
    cond = flag("cond")
    source = model(graph(nodes, [cond, f32("x", 1)], [f32("y", 1)]))
    result = written(source)
    assert [item.op_type for item in result.graph.node] == ["Abs", "If"]
    assert_same_model(source, result)


def test_outputs_of_a_subgraph_may_share_a_value() -> None:
    body = helper.make_graph(
        [node("Neg", ["s"], ["t"])],
        "body",
        [untyped("i"), untyped("go"), untyped("s")],
        [untyped("go"), untyped("t"), untyped("t")],
    )
    loop = node("Loop", ["n", "", "x"], ["last", "all"], body=body)
    n = numpy_helper.from_array(np.array(2, np.int64), "n")
    source = model(graph([loop], [f32("x", 1)], [f32("last", 1), f32("all", 2, 1)], [n]))
    result = written(source)
    inner = result.graph.node[0].attribute[0].g
    assert [info.name for info in inner.output] == ["go", "t", "t_1"]
    assert [(item.op_type, *item.input) for item in inner.node] == [("Neg", "s"), ("Identity", "t")]
    onnx.checker.check_model(result, full_check=True)


def test_an_inner_name_that_hides_an_outer_one_is_renamed() -> None:
    """ONNX forbids such names; runtimes accept them, and the nearest definition counts."""
    branch = helper.make_graph([node("Neg", ["x"], ["a"])], "b", [], [untyped("a")])
    nodes = [
        node("Abs", ["x"], ["a"]),
        node("If", ["cond"], ["y"], then_branch=branch, else_branch=branch),
        node("Add", ["a", "y"], ["z"]),
    ]
    cond = flag("cond")
    result = written(model(graph(nodes, [cond, f32("x", 1)], [f32("z", 1)])))
    onnx.checker.check_model(result, full_check=True)
    inner = result.graph.node[1].attribute[0].g
    assert [info.name for info in inner.output] == ["a_1"]


def test_a_negative_dimension_of_a_type_is_an_unknown_one() -> None:
    source = model(graph([node("Neg", ["x"], ["y"])], [f32("x", 1)], [f32("y", 1)]))
    source.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    type = load_model(source).value("x").type
    assert str(type) == "f32[?]"


def test_text_that_is_not_utf8_is_carried_escaped() -> None:
    source = model(graph([node("Neg", ["xx"], ["yy"], doc_string="dd")], [f32("xx")], [f32("yy")]))
    data = source.SerializeToString()
    for name in (b"xx", b"yy", b"dd"):
        data = data.replace(name, b"\xff" + name[1:])
    loaded = load_model(data)
    assert [value.name for value in loaded.inputs] == ["\\xffx"]
    assert [node_.doc for node_ in loaded.ordered()] == ["\\xffd"]
    assert load_model(serialize(loaded)).has_value("\\xffy")
