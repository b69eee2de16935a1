"""Whether two models say the same, up to what ONNX lets a writer choose.

Read with the onnx package alone, so that no mistake of optc can hide here. Free are: node order,
the place of a constant (initializer or `Constant`) outside of functions, trailing operands that are
left out, raw or typed tensor data, names of tensors inside attributes, the spelling of ONNX's own
domain, a missing graph name, negative sizes for unknown ones, and value_info that adds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto


def assert_same_model(source: ModelProto, result: ModelProto, folder: Path | None = None) -> None:
    """Fail, naming every place where `result` does not say what `source` says.

    `folder` is where external data of the source lies.
    """
    found = list(differences(describe(source, folder), describe(result, folder)))
    assert not found, "the models differ:\n" + "\n".join(found[:20])


def differences(source: object, result: object, path: str = "model") -> Iterator[str]:
    """Where two descriptions differ, as ``path: source -> result``."""
    if isinstance(source, dict) and isinstance(result, dict):
        for key in sorted(source.keys() | result.keys(), key=str):
            yield from differences(source.get(key), result.get(key), f"{path}.{key}")
    elif isinstance(source, list) and isinstance(result, list) and len(source) == len(result):
        for index, (one, other) in enumerate(zip(source, result, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif source != result:
        yield f"{path}: {str(source)[:300]} -> {str(result)[:300]}"


def describe(model: ModelProto, folder: Path | None = None) -> dict[str, Any]:
    """Everything that a model says, as plain data that compares equal when it means the same."""
    functions = [_function(function) for function in model.functions]
    return {
        "opsets": _opsets(model.opset_import),
        "producer": (model.producer_name, model.producer_version),
        "domain": model.domain,
        "version": model.model_version,
        "doc": model.doc_string,
        "metadata": _pairs(model.metadata_props),
        "graph": _graph(model.graph, folder),
        "functions": {function["id"]: function for function in functions},
        "training": [part.SerializeToString() for part in model.training_info],
        "configuration": [part.SerializeToString() for part in model.configuration],
    }


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {_domain(item.domain): item.version for item in imports}


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _pairs(entries: Iterable[onnx.StringStringEntryProto]) -> dict[str, str]:
    return {entry.key: entry.value for entry in entries}


def _graph(graph: GraphProto, folder: Path | None) -> dict[str, Any]:
    constants = {tensor.name: _tensor(tensor, folder) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        constant = _constant(node, folder)
        if constant is None:
            nodes.append(_node(node, folder))
        else:
            constants[node.output[0]] = constant
    sparse = {s.values.name: _sparse(s, folder) for s in graph.sparse_initializer}
    made = {name for node in nodes for name in node["outputs"]}
    interface = {info.name for info in (*graph.input, *graph.output)}
    return {
        "name": graph.name or "graph",
        "doc": graph.doc_string,
        "metadata": _pairs(graph.metadata_props),
        "inputs": [_info(info) for info in graph.input],
        "outputs": [_info(info) for info in graph.output],
        "constants": constants,
        "sparse": sparse,
        "nodes": sorted(nodes, key=_order),
        "infos": _infos(graph.value_info, made - interface),
        "constant infos": _notes(graph.value_info, constants.keys() - interface),
        "annotations": [part.SerializeToString() for part in graph.quantization_annotation],
    }


def _function(function: FunctionProto) -> dict[str, Any]:
    nodes = [_node(node, None) for node in function.node]
    names = {*function.input, *(name for node in nodes for name in node["outputs"])}
    return {
        "id": (function.domain, function.name, function.overload),
        "inputs": list(function.input),
        "outputs": list(function.output),
        "attributes": list(function.attribute),
        "defaults": {item.name: _attribute(item, None) for item in function.attribute_proto},
        "opsets": _opsets(function.opset_import),
        "doc": function.doc_string,
        "metadata": _pairs(function.metadata_props),
        "nodes": sorted(nodes, key=_order),
        "infos": _infos(function.value_info, names),
    }


def _order(node: dict[str, Any]) -> tuple[list[str], str]:
    return node["outputs"], node["name"]


def _node(node: NodeProto, folder: Path | None) -> dict[str, Any]:
    inputs = list(node.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    return {
        "op": (_domain(node.domain), node.op_type, node.overload),
        "name": node.name,
        "inputs": inputs,
        "outputs": list(node.output),
        "attributes": {item.name: _attribute(item, folder) for item in node.attribute},
        "doc": node.doc_string,
        "metadata": _pairs(node.metadata_props),
        "devices": [part.SerializeToString() for part in node.device_configurations],
    }


def _attribute(item: AttributeProto, folder: Path | None) -> tuple[Any, ...]:
    values: dict[int, Callable[[], Any]] = {
        AttributeProto.TENSOR: lambda: _tensor(item.t, folder),
        AttributeProto.TENSORS: lambda: [_tensor(tensor, folder) for tensor in item.tensors],
        AttributeProto.SPARSE_TENSOR: lambda: _sparse(item.sparse_tensor, folder),
        AttributeProto.SPARSE_TENSORS: lambda: [_sparse(s, folder) for s in item.sparse_tensors],
        AttributeProto.GRAPH: lambda: _graph(item.g, folder),
        AttributeProto.GRAPHS: lambda: [_graph(graph, folder) for graph in item.graphs],
        AttributeProto.TYPE_PROTO: lambda: _type(item.tp),
        AttributeProto.TYPE_PROTOS: lambda: [_type(type) for type in item.type_protos],
    }
    read = values.get(item.type, lambda: repr(onnx.helper.get_attribute_value(item)))
    value = None if item.ref_attr_name else read()
    return (item.type, item.ref_attr_name, item.doc_string, value)


# ---- tensors -----------------------------------------------------------------------------------


def _tensor(tensor: TensorProto, folder: Path | None) -> dict[str, Any]:
    if tensor.data_type == TensorProto.STRING:
        data: object = list(tensor.string_data)
    else:
        data = numpy_helper.to_array(tensor, str(folder or "")).tobytes()
    return {
        "type": (tensor.data_type, list(tensor.dims)),
        "data": data,
        "doc": tensor.doc_string,
        "metadata": _pairs(tensor.metadata_props),
    }


def _sparse(tensor: onnx.SparseTensorProto, folder: Path | None) -> dict[str, Any]:
    indices = tensor.indices
    if not tensor.HasField("indices"):
        indices = TensorProto(data_type=TensorProto.INT64, dims=[0])
    return {
        "shape": list(tensor.dims),
        "values": _tensor(tensor.values, folder),
        "indices": _tensor(indices, folder),
    }


def _constant(node: NodeProto, folder: Path | None) -> dict[str, Any] | None:
    """The tensor of a `Constant` node that could as well be an initializer."""
    if node.op_type != "Constant" or _domain(node.domain) or not node.output[0]:
        return None
    (item,) = node.attribute
    value = onnx.helper.get_attribute_value(item)
    if item.name == "value":
        tensor = _tensor(value, folder)
    elif item.name == "sparse_value":
        return None
    elif item.name in ("value_string", "value_strings"):
        strings = list(value) if item.name.endswith("s") else [value]
        dims = [len(strings)] if item.name.endswith("s") else []
        tensor = _tensor(TensorProto(data_type=8, dims=dims, string_data=strings), folder)
    else:
        kind = TensorProto.FLOAT if "float" in item.name else TensorProto.INT64
        numbers = list(value) if item.name.endswith("s") else [value]
        dims = [len(numbers)] if item.name.endswith("s") else []
        tensor = _tensor(onnx.helper.make_tensor("", kind, dims, numbers), folder)
    tensor["doc"] = tensor["doc"] or node.doc_string
    tensor["metadata"] |= _pairs(node.metadata_props)
    return tensor


# ---- types -------------------------------------------------------------------------------------


def _notes(infos: Iterable[ValueInfoProto], names: set[str]) -> dict[str, Any]:
    """What value_info says about constants beside their type, which their tensor has."""
    notes = {info.name: (info.doc_string, _pairs(info.metadata_props)) for info in infos}
    return {name: note for name, note in notes.items() if name in names and any(note)}


def _infos(infos: Iterable[ValueInfoProto], names: set[str]) -> dict[str, Any]:
    return {
        info.name: _info(info)
        for info in infos
        if info.name in names and (info.HasField("type") or info.doc_string or info.metadata_props)
    }


def _info(info: ValueInfoProto) -> tuple[Any, ...]:
    return (info.name, _type(info.type), info.doc_string, _pairs(info.metadata_props))


def _type(type: TypeProto) -> tuple[Any, ...]:
    case = type.WhichOneof("value")
    if case is None:
        return ()
    inner = getattr(type, case)
    return (case, type.denotation, *_CONTENT[case](inner))


def _tensor_type(inner: Any) -> tuple[Any, ...]:
    if not inner.HasField("shape"):
        return (inner.elem_type, None)
    return (inner.elem_type, [(_size(dim), dim.denotation) for dim in inner.shape.dim])


def _size(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return str(dim.dim_param) or None


_CONTENT: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "tensor_type": _tensor_type,
    "sparse_tensor_type": _tensor_type,
    "sequence_type": lambda inner: (_type(inner.elem_type),),
    "optional_type": lambda inner: (_type(inner.elem_type),),
    "map_type": lambda inner: (inner.key_type, _type(inner.value_type)),
    "opaque_type": lambda inner: (inner.domain, inner.name),
}
