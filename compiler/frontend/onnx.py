"""ONNX models to graphs of the IR.

Lossless: written out again unchanged, a graph gives the model back up to node order, the place of
constants (initializer or `Constant`), trailing empty operands, value_info of values that do not
exist, and the representation of tensor data. Model files are not trusted: every size is checked
against the bytes that are there before anything is allocated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.collecting import rare_collections
from optc.frontend.checks import (
    OLDEST_OPSET,
    OperatorCheck,
    check_functions,
    check_versions,
    read_opsets,
)
from optc.frontend.graphs import GraphReader
from optc.frontend.source import open_source
from optc.frontend.strings import pairs, text
from optc.frontend.tensors import Datum, read_tensor
from optc.frontend.types import match_types, read_types
from optc.ir import Function, Graph, ModelInfo

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

__all__ = ["Datum", "load_model", "match_types", "read_tensor", "read_types"]


@rare_collections()
def load_model(
    source: str | Path | bytes | onnx.ModelProto,
    *,
    sha256: str | None = None,
    oldest_opset: int = OLDEST_OPSET,
) -> Graph:
    """Load an ONNX model of any opset from 7 to the newest that the onnx package knows.

    External data is not read: its tensors keep a handle on their file.

    Args:
        source: path of the model, its bytes, or a parsed model, which is left as it is.
        sha256: digest that the file must have, in hexadecimal.
        oldest_opset: refuse models of older opsets. Passes know no operators from before opset 7;
            a lower number is for carrying a model through unchanged.

    Raises:
        ModelError: there is no such file, it is not a model, or not a valid one; the code says
            what, the hint what to do about it.
    """
    parsed = open_source(source, sha256)
    model, place = parsed.model, parsed.source
    check_versions(model, place, oldest_opset)
    check_functions(model, place)
    graph = Graph(text(model.graph.name), read_opsets(model.opset_import), model=_info(model))
    reader = GraphReader(place, OperatorCheck(place, model))
    for proto in model.functions:
        function = _function(proto, reader)
        graph.model.functions[function.domain, function.name, function.overload] = function
    reader.read(model.graph, graph, parsed.weights)
    return graph


def _info(model: onnx.ModelProto) -> ModelInfo:
    info = ModelInfo(
        ir_version=model.ir_version,
        producer_name=text(model.producer_name),
        producer_version=text(model.producer_version),
        domain=text(model.domain),
        model_version=model.model_version,
        doc=text(model.doc_string),
        metadata=pairs(model.metadata_props),
    )
    for name in ("training_info", "configuration"):
        if parts := tuple(part.SerializeToString() for part in getattr(model, name)):
            info.opaque[name] = parts
    return info


def _function(proto: onnx.FunctionProto, reader: GraphReader) -> Function:
    body = Graph(text(proto.name), read_opsets(proto.opset_import))
    reader.read_function(proto, body)
    return Function(
        name=text(proto.name),
        domain=text(proto.domain),
        overload=text(proto.overload),
        body=body,
        attributes=tuple(map(text, proto.attribute)),
        defaults={text(item.name): reader.attribute(item) for item in proto.attribute_proto},
        doc=text(proto.doc_string),
        metadata=pairs(proto.metadata_props),
    )
