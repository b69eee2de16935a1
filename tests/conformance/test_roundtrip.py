"""The comparison that lossless tests rest on sees every kind of difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from onnx import numpy_helper

from conformance.roundtrip import assert_same_model, describe, differences
from frontend.feature_models import (
    attributes,
    captures,
    constant_nodes,
    docs_and_metadata,
    functions,
    sparse_tensors,
    unread_fields,
    value_types,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import GraphProto, ModelProto, TensorProto


def _then(model: ModelProto) -> GraphProto:
    (branch,) = (a.g for a in model.graph.node[1].attribute if a.name == "then_branch")
    return branch


def _shift(indices: TensorProto) -> None:
    indices.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(indices) + 1, indices.name))


_CHANGES: dict[str, tuple[Callable[[], ModelProto], Callable[[ModelProto], object]]] = {
    "opset": (docs_and_metadata, lambda m: setattr(m.opset_import[0], "version", 20)),
    "producer": (docs_and_metadata, lambda m: setattr(m, "producer_name", "q")),
    "model doc": (docs_and_metadata, lambda m: m.ClearField("doc_string")),
    "model metadata": (docs_and_metadata, lambda m: m.metadata_props.pop()),
    "graph name": (docs_and_metadata, lambda m: setattr(m.graph, "name", "other")),
    "graph metadata": (docs_and_metadata, lambda m: m.graph.metadata_props.pop()),
    "input name": (docs_and_metadata, lambda m: setattr(m.graph.input[0], "name", "z")),
    "input doc": (docs_and_metadata, lambda m: m.graph.input[0].ClearField("doc_string")),
    "output metadata": (docs_and_metadata, lambda m: m.graph.output[0].metadata_props.pop()),
    "value type": (docs_and_metadata, lambda m: m.graph.value_info.pop(0)),
    "constant's doc": (docs_and_metadata, lambda m: m.graph.value_info.pop(1)),
    "tensor doc": (docs_and_metadata, lambda m: m.graph.initializer[0].ClearField("doc_string")),
    "tensor metadata": (docs_and_metadata, lambda m: m.graph.initializer[0].metadata_props.pop()),
    "tensor data": (
        docs_and_metadata,
        lambda m: setattr(m.graph.initializer[0], "raw_data", bytes(8)),
    ),
    "node name": (docs_and_metadata, lambda m: m.graph.node[0].ClearField("name")),
    "node doc": (docs_and_metadata, lambda m: m.graph.node[0].ClearField("doc_string")),
    "operand": (docs_and_metadata, lambda m: m.graph.node[0].input.pop()),
    "constant value": (
        constant_nodes,
        lambda m: setattr(m.graph.node[3].attribute[0], "i", 4),
    ),
    "sparse index": (sparse_tensors, lambda m: _shift(m.graph.sparse_initializer[0].indices)),
    "inner node": (captures, lambda m: setattr(_then(m).node[1], "op_type", "Abs")),
    "inner output": (captures, lambda m: setattr(_then(m).output[0], "name", "picked")),
    "function body": (functions, lambda m: m.functions[0].node.pop()),
    "function default": (functions, lambda m: m.functions[0].attribute_proto.pop()),
    "function types": (functions, lambda m: m.functions[0].value_info.pop()),
    "function metadata": (functions, lambda m: m.functions[0].metadata_props.pop()),
    "overload": (functions, lambda m: setattr(m.functions[0], "overload", "v2")),
    "denotation": (value_types, lambda m: m.graph.input[0].type.ClearField("denotation")),
    "dimension": (
        value_types,
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param"),
    ),
    "shape": (value_types, lambda m: m.graph.input[2].type.tensor_type.ClearField("shape")),
    "element": (
        value_types,
        lambda m: m.graph.input[3].type.sequence_type.elem_type.ClearField("optional_type"),
    ),
    "attribute": (attributes, lambda m: m.graph.node[0].attribute.pop()),
    "attribute doc": (attributes, lambda m: m.graph.node[0].attribute[0].ClearField("doc_string")),
    "annotation": (unread_fields, lambda m: m.graph.quantization_annotation.pop()),
    "training": (unread_fields, lambda m: m.training_info.pop()),
    "devices": (unread_fields, lambda m: m.graph.node[0].device_configurations.pop()),
    "configuration": (unread_fields, lambda m: m.configuration.pop()),
}


@pytest.mark.parametrize("name", _CHANGES)
def test_every_change_is_seen(name: str) -> None:
    build, change = _CHANGES[name]
    changed = build()
    change(changed)
    assert changed != build()
    with pytest.raises(AssertionError, match=r"^the models differ:\nmodel\."):
        assert_same_model(build(), changed)


def test_differences_are_named_by_place() -> None:
    source, result = docs_and_metadata(), docs_and_metadata()
    result.graph.node[0].name = "other"
    assert list(differences(describe(source), describe(result))) == [
        "model.graph.nodes[0].name: add -> other"
    ]


def test_what_writers_may_choose_is_no_difference() -> None:
    source, result = docs_and_metadata(), docs_and_metadata()
    result.graph.node.insert(0, result.graph.node.pop())
    for node in result.graph.node:
        node.input.append("")
        node.domain = "ai.onnx"
    values = numpy_helper.to_array(result.graph.initializer[0])
    result.graph.initializer[0].ClearField("raw_data")
    result.graph.initializer[0].float_data.extend(values)
    assert_same_model(source, result)
