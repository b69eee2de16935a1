"""Files of test_data_set folders, and what a model says about types."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.shape_inference
import pytest
from onnx import TensorProto, helper, numpy_helper

from frontend.feature_models import captures, sparse, value_types
from optc.emit.onnx import build_model
from optc.errors import ModelError
from optc.frontend.onnx import load_model, match_types, read_tensor, read_types
from optc.ir import (
    DType,
    MapType,
    OptionalType,
    SequenceType,
    SparseTensor,
    SparseTensorType,
    Tensor,
    TensorType,
    Type,
)

_FLOATS = TensorType(DType.F32)
_ONE, _TWO = np.array([1, 2], np.float32), np.array([[3]], np.float32)


def plain(datum: Any) -> Any:
    if isinstance(datum, Tensor):
        return datum.numpy().tolist()
    if isinstance(datum, tuple):
        return [plain(item) for item in datum]
    if isinstance(datum, dict):
        return {key: plain(item) for key, item in datum.items()}
    return datum


def _map() -> onnx.MapProto:
    values = numpy_helper.from_list([_ONE, _TWO], "values")
    return onnx.MapProto(name="m", key_type=8, string_keys=[b"a", b"b"], values=values)


_SEQUENCE, _NESTED = SequenceType(_FLOATS), SequenceType(SequenceType(_FLOATS))
_FILES: dict[str, tuple[Any, Type | None, str, Any]] = {
    "tensor": (numpy_helper.from_array(_ONE, "t"), None, "t", [1, 2]),
    "typed": (numpy_helper.from_array(_ONE, "t"), _FLOATS, "t", [1, 2]),
    "sequence": (numpy_helper.from_list([_ONE, _TWO], "s"), _SEQUENCE, "s", [[1, 2], [[3]]]),
    "nested": (numpy_helper.from_list([[_ONE], []], "s"), _NESTED, "s", [[[1, 2]], []]),
    "empty sequence": (numpy_helper.from_list([], "s", dtype=1), _SEQUENCE, "s", []),
    "optional": (numpy_helper.from_optional(_ONE, "o"), OptionalType(_FLOATS), "o", [1, 2]),
    "absent": (numpy_helper.from_optional(None, "o", 1), OptionalType(_FLOATS), "o", None),
    "map": (_map(), MapType(DType.STRING, _FLOATS), "m", {b"a": [1, 2], b"b": [[3]]}),
}


@pytest.mark.parametrize("name", _FILES)
def test_test_data_is_read(name: str) -> None:
    proto, type, called, wanted = _FILES[name]
    found, datum = read_tensor(proto.SerializeToString(), type)
    assert (found, plain(datum)) == (called, wanted)


def test_sparse_test_data_is_read() -> None:
    name, datum = read_tensor(
        sparse("s", [1], [4]).SerializeToString(), SparseTensorType(DType.F32)
    )
    assert name == "s"
    assert isinstance(datum, SparseTensor)
    assert datum.shape == (4,)


def test_broken_test_data_is_refused() -> None:
    with pytest.raises(ModelError) as info:
        read_tensor(numpy_helper.from_array(_ONE).SerializeToString()[:-1])
    assert info.value.message == "the data is truncated or not an ONNX tensor"


def test_a_map_with_more_keys_than_values_is_refused() -> None:
    proto = _map()
    proto.string_keys.append(b"c")
    with pytest.raises(ModelError) as info:
        read_tensor(proto.SerializeToString(), MapType(DType.STRING, _FLOATS))
    assert info.value.code == "data-invalid"


def test_declared_types_by_name() -> None:
    types = {name: str(type) for name, type in read_types(value_types()).items()}
    assert types == {
        f"{side}{i}": text
        for side in "xy"
        for i, text in enumerate(
            (
                "f32[n,?,3]",
                "bf16[*]",
                "f32[]",
                "seq(optional(f32[n,?,3]))",
                "map(str, seq(f32[n,?,3]))",
                "sparse(i32[4,m])",
                "opaque(own, thing)",
                "seq(?)",
            )
        )
    }


def test_inferred_types_find_their_values_in_subgraphs_too() -> None:
    graph = load_model(captures())
    inferred = onnx.shape_inference.infer_shapes(build_model(graph, skeleton=True))
    types = {value.name: str(type) for value, type in match_types(graph, inferred).items()}
    assert types["outer"] == "f32[2]"
    # Inside both branches, two levels deep, and in the body of the loop.
    assert types["picked"] == "f32[*]"
    assert types["local"] == "f32[2]"
    assert types["scanned"] == "f32[*]"


def test_names_that_emission_would_change_do_not_confuse_types() -> None:
    info = helper.make_tensor_value_info
    source = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Shape", ["x"], ["a"]),
                helper.make_node("Neg", ["x"], ["b"]),
            ],
            "g",
            [info("x", TensorProto.FLOAT, [2, 3])],
            [info("a", TensorProto.INT64, [2]), info("b", TensorProto.FLOAT, [2, 3])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    graph = load_model(source)
    for node in graph.outputs:  # let each output take the value that has the other's name
        value = graph.operand(node, 0)
        other = graph.value("b" if node.name == "a" else "a")
        assert value is not None
        graph.set_operand(node, 0, other)
        node.declared = None
    for value in (graph.value("a"), graph.value("b")):
        graph.set_type(value, None)
    inferred = onnx.shape_inference.infer_shapes(build_model(graph, skeleton=True))
    types = match_types(graph, inferred)
    assert {value.name: str(type) for value, type in types.items()} == {
        "x": "f32[2,3]",
        "a": "i64[2]",
        "b": "f32[2,3]",
    }
