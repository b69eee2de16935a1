"""What is refused, how it is said, and that nothing else ever comes out of a broken file."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from frontend.feature_models import (
    captures,
    const,
    f32,
    functions,
    graph,
    model,
    node,
)
from optc.errors import ModelError
from optc.frontend.onnx import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto, NodeProto


def neg() -> ModelProto:
    return model(graph([node("Neg", ["x"], ["y"])], [f32("x", 1)], [f32("y", 1)]))


def refusal(source: Any, **options: Any) -> ModelError:
    with pytest.raises(ModelError) as info:
        load_model(source, **options)
    return info.value


# ---- files -------------------------------------------------------------------------------------

_FILES = {
    "empty": (b"", "model-empty", "the file is empty"),
    "text": (
        b"ir_version: 8\ngraph {}\n",
        "model-truncated",
        "the file is truncated or not an ONNX model: its protobuf does not decode",
    ),
    "truncated": (
        neg().SerializeToString()[:-9],
        "model-truncated",
        "the file is truncated or not an ONNX model: its protobuf does not decode",
    ),
    "tensor": (
        const("t", 1, 2).SerializeToString(),
        "not-a-model",
        "this is a tensor, not a model",
    ),
    "no graph": (
        onnx.ModelProto(ir_version=8, producer_name="p").SerializeToString(),
        "not-a-model",
        "this is not an ONNX model: it holds no graph",
    ),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "not-a-model",
        "this is a Git LFS pointer, not the model",
    ),
    "torch": (b"PK\x03\x04rest", "not-a-model", "this is a zip archive"),
    "openvino": (b"<?xml version='1.0'?>", "not-a-model", "this is an XML file"),
    "tflite": (b"\x1c\x00\x00\x00TFL3", "not-a-model", "this is a TensorFlow Lite model"),
}


@pytest.mark.parametrize("name", _FILES)
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    data, code, message = _FILES[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    error = refusal(path)
    assert (error.code, error.message, error.location) == (code, message, str(path))
    assert error.hint


def test_missing_file(tmp_path: Path) -> None:
    error = refusal(str(tmp_path / "none.onnx"))
    assert (error.code, error.message) == ("model-missing", "no such file")


def test_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path).code == "model-is-folder"


def test_path_with_a_null_byte() -> None:
    assert refusal("a\0b.onnx").code in {"model-missing", "model-unreadable"}


def test_file_beyond_the_limit_of_protobuf_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(1 << 31)  # a hole: takes no space
    start = time.perf_counter()
    error = refusal(path)
    assert error.code == "model-too-large"
    assert "save_as_external_data" in str(error.hint)
    assert time.perf_counter() - start < 1


def test_digest_decides(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(neg().SerializeToString())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(load_model(path, sha256=digest.upper())) == 1
    error = refusal(path, sha256="0" * 64)
    assert error.code == "model-sha256-mismatch"
    assert error.message == f"the SHA-256 of the model is {digest}, expected {'0' * 64}"


# ---- versions ----------------------------------------------------------------------------------


def test_ir_version_from_the_future() -> None:
    source = neg()
    source.ir_version = onnx.IR_VERSION + 1
    error = refusal(source)
    assert error.code == "ir-version-unknown"
    assert error.message == (
        f"the model has IR version {onnx.IR_VERSION + 1}; known are versions up to "
        f"{onnx.IR_VERSION}"
    )


@pytest.mark.parametrize(
    ("opsets", "code", "message"),
    [
        ({"": 6}, "opset-too-old", "the model uses opset 6; supported are opsets from 7"),
        ({"": 999}, "opset-unknown", "the model uses opset 999 of ai.onnx; known are versions"),
        ({"ai.onnx.ml": 99, "": 20}, "opset-unknown", "the model uses opset 99 of ai.onnx.ml"),
        ({"own": 1}, "opset-missing", "Neg 'y' is of domain 'ai.onnx', which the model does not"),
    ],
)
def test_opsets(opsets: dict[str, int], code: str, message: str) -> None:
    source = model(neg().graph, opsets)
    error = refusal(source)
    assert error.code == code
    assert error.message.startswith(message)
    assert error.hint


def test_no_opset_at_all() -> None:
    source = neg()
    del source.opset_import[:]
    assert refusal(source).code == "opset-missing"


def test_an_old_opset_can_be_carried() -> None:
    source = model(neg().graph, {"": 6}, ir=3)
    assert load_model(source, oldest_opset=1).opset == 6


# ---- graphs ------------------------------------------------------------------------------------


def broken(*nodes: NodeProto, **changes: Any) -> ModelProto:
    main = graph(nodes, [f32("x", 1)], [f32("y", 1)], [const("c", 1)])
    for field, value in changes.items():
        getattr(main, field).append(value)
    return model(main, {"": 21, "own": 1})


def _recursive() -> ModelProto:
    source = functions()
    source.functions[0].node.append(node("Twice", ["p", "c"], ["z"], domain="own"))
    return source


def _twice_the_function() -> ModelProto:
    source = functions()
    source.functions.append(source.functions[0])
    return source


def _twice_the_attribute() -> ModelProto:
    source = broken(node("Elu", ["x"], ["y"], name="e", alpha=1.0))
    source.graph.node[0].attribute.append(source.graph.node[0].attribute[0])
    return source


def _untyped_attribute() -> ModelProto:
    source = broken(node("Elu", ["x"], ["y"], alpha=1.0))
    source.graph.node[0].attribute[0].ClearField("type")
    return source


def _bad_capture() -> ModelProto:
    source = captures()
    branch = next(item.g for item in source.graph.node[1].attribute if item.name == "then_branch")
    branch.node[-1].input[0] = "nowhere"
    return source


_NEG = node("Neg", ["x"], ["y"])
_GRAPHS = {
    "value defined twice": (
        broken(_NEG, node("Abs", ["x"], ["y"])),
        "duplicate-value",
        "'y' is defined twice in one graph",
    ),
    "input defined twice": (
        broken(_NEG, input=f32("x", 1)),
        "duplicate-value",
        "'x' is defined twice in one graph",
    ),
    "initializer defined twice": (
        broken(_NEG, initializer=const("c", 2)),
        "duplicate-value",
        "'c' is defined twice in one graph",
    ),
    "node defines an initializer": (
        broken(_NEG, node("Abs", ["x"], ["c"])),
        "duplicate-value",
        "'c' is defined twice in one graph",
    ),
    "output named twice": (
        broken(_NEG, output=f32("y", 1)),
        "duplicate-output",
        "the graph has two outputs named 'y'",
    ),
    "initializer without name": (
        broken(_NEG, initializer=const("", 2)),
        "unnamed-value",
        "an input or initializer has no name",
    ),
    "undefined operand": (
        broken(node("Neg", ["z"], ["y"], name="n")),
        "undefined-value",
        "Neg 'n' uses 'z', which nothing defines",
    ),
    "undefined output": (
        broken(),
        "undefined-value",
        "a graph output uses 'y', which nothing defines",
    ),
    "undefined capture": (
        _bad_capture(),
        "undefined-value",
        "Neg 'res' uses 'nowhere', which nothing defines",
    ),
    "cycle": (
        broken(node("Add", ["x", "b"], ["y"]), node("Neg", ["y"], ["b"])),
        "graph-cycle",
        "the nodes of graph 'main' form a cycle",
    ),
    "self loop": (
        broken(node("Add", ["x", "y"], ["y"])),
        "graph-cycle",
        "the nodes of graph 'main' form a cycle",
    ),
    "operator misspelt": (
        broken(node("Relo", ["x"], ["y"])),
        "unknown-operator",
        "Relo 'y': ai.onnx has no operator Relo",
    ),
    "operator of a later opset": (
        model(broken(node("Gelu", ["x"], ["y"])).graph, {"": 17}),
        "unknown-operator",
        "Gelu 'y': opset 17 has no operator Gelu",
    ),
    "operator withdrawn": (
        broken(node("Upsample", ["x", "c"], ["y"])),
        "unknown-operator",
        "Upsample 'y': operator Upsample is deprecated since opset 10",
    ),
    "domain not imported": (
        broken(node("Op", ["x"], ["y"], domain="elsewhere")),
        "opset-missing",
        "Op 'y' is of domain 'elsewhere', which the model does not import",
    ),
    "attribute given twice": (
        _twice_the_attribute(),
        "attribute-invalid",
        "node 'e' has two attributes named 'alpha'",
    ),
    "attribute without type": (
        _untyped_attribute(),
        "attribute-invalid",
        "attribute 'alpha' has type number 0, which is none of ONNX",
    ),
    "function calls itself": (
        _recursive(),
        "function-recursive",
        "function 'Scaled' calls itself",
    ),
    "function defined twice": (
        _twice_the_function(),
        "duplicate-function",
        "function 'Scaled' is defined twice",
    ),
    "element type from the future": (
        broken(_NEG, value_info=helper.make_tensor_value_info("y", 99, [1])),
        "type-invalid",
        "the type of 'y' is not valid: unknown element type number 99",
    ),
}


@pytest.mark.parametrize("name", _GRAPHS)
def test_broken_graphs(name: str) -> None:
    source, code, message = _GRAPHS[name]
    error = refusal(source.SerializeToString())
    assert (error.code, error.message, error.location) == (code, message, "<bytes>")


def test_a_misspelt_operator_gets_a_suggestion() -> None:
    assert refusal(_GRAPHS["operator misspelt"][0]).hint == "did you mean 'Relu'?"


# ---- tensors -----------------------------------------------------------------------------------


def tensor(**fields: Any) -> TensorProto:
    return TensorProto(**{"name": "w", "data_type": 1, "dims": [2], **fields})


_TENSORS = {
    "negative size": (tensor(dims=[-1], raw_data=b""), "its shape [-1] has a negative size"),
    "no type": (tensor(data_type=0, raw_data=b""), "it has no element type"),
    "unknown type": (tensor(data_type=99), "unknown element type number 99"),
    "too few bytes": (tensor(raw_data=b"1234"), "f32[2] needs 8 bytes, got 4"),
    "too many bytes": (tensor(raw_data=b"1" * 12), "f32[2] needs 8 bytes, got 12"),
    "too few numbers": (tensor(float_data=[1]), "f32[2] needs 8 bytes, got 4"),
    "wrong field": (tensor(int64_data=[1, 2]), "f32[2] needs 8 bytes, got 0"),
    "shape beyond memory": (
        tensor(dims=[1 << 40, 1 << 40], raw_data=b"1"),
        f"f32[{1 << 40},{1 << 40}] needs {1 << 82} bytes, got 1",
    ),
    "too few strings": (
        tensor(data_type=8, string_data=[b"a"]),
        "str[2] needs 2 strings, got 1",
    ),
    "segment": (
        tensor(float_data=[1], segment=TensorProto.Segment(begin=0, end=1)),
        "it is stored in segments, which no exporter writes",
    ),
    "strings outside": (
        tensor(data_type=8, data_location=1),
        "strings cannot be stored in a file",
    ),
}


@pytest.mark.parametrize("name", _TENSORS)
def test_broken_tensors(name: str) -> None:
    proto, reason = _TENSORS[name]
    error = refusal(broken(_NEG, initializer=proto))
    assert error.code == "tensor-invalid"
    assert error.message == f"tensor 'w' is not valid: {reason}"


def test_sparse_values_must_match_their_indices() -> None:
    proto = onnx.SparseTensorProto(values=const("s", 1, 2), dims=[4])
    proto.indices.CopyFrom(numpy_helper.from_array(np.array([1], np.int64)))
    error = refusal(broken(_NEG, sparse_initializer=proto))
    assert error.message == (
        "tensor 's' is not valid: f32[2] sparse values do not go with i64[1] indices"
    )
