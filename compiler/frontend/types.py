"""ONNX TypeProto to the types of the IR.

Source: onnx.proto, messages TypeProto, TensorShapeProto and ValueInfoProto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optc.frontend.strings import text
from optc.ir import (
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx

    from optc.ir import Dim, Graph, Shape, Type, Value


def read_type(proto: onnx.TypeProto) -> Type | None:
    """The type that a TypeProto describes; None when it describes nothing.

    A dimension that is neither a size nor a name is unknown (None). So is a negative size: some
    exporters write -1 for it, and runtimes read it that way.

    Raises:
        ValueError: an element type number that this version does not know.
    """
    case = proto.WhichOneof("value")
    if case == "tensor_type":
        return _read_tensor(proto)
    if case is None:
        return None
    inner = getattr(proto, case)
    denotation = text(proto.denotation)
    if case == "sequence_type":
        return SequenceType(read_type(inner.elem_type), denotation)
    if case == "optional_type":
        return OptionalType(read_type(inner.elem_type), denotation)
    if case == "map_type":
        key = DType.from_onnx(inner.key_type)
        return MapType(key, read_type(inner.value_type), denotation)
    if case == "sparse_tensor_type":
        dtype = DType.from_onnx(inner.elem_type)
        return SparseTensorType(dtype, _read_shape(inner), denotation)
    return OpaqueType(text(inner.domain), text(inner.name), denotation)


def _read_tensor(proto: onnx.TypeProto) -> TensorType:
    inner = proto.tensor_type
    shape = _read_shape(inner)
    dtype = DType.from_onnx(inner.elem_type)
    marks = tuple(text(dim.denotation) for dim in inner.shape.dim) if shape else ()
    return TensorType(dtype, shape, text(proto.denotation), marks if any(marks) else ())


def _read_shape(inner: onnx.TypeProto.Tensor | onnx.TypeProto.SparseTensor) -> Shape | None:
    if not inner.HasField("shape"):
        return None
    return tuple(_read_dim(dim) for dim in inner.shape.dim)


def _read_dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        size: int = dim.dim_value
        return size if size >= 0 else None
    return text(dim.dim_param) or None


def read_types(model: onnx.ModelProto) -> dict[str, Type]:
    """The types that the main graph of a model declares, by value name.

    Covers inputs, outputs and value_info; what says nothing is left out.

    Raises:
        ValueError: an element type number that this version does not know.
    """
    return _declared(model.graph)


def _declared(proto: onnx.GraphProto) -> dict[str, Type]:
    found: dict[str, Type] = {}
    for info in (*proto.value_info, *proto.output, *proto.input):
        type = read_type(info.type)
        if type is not None:
            found[text(info.name)] = type
    return found


def match_types(graph: Graph, model: onnx.ModelProto) -> dict[Value, Type]:
    """The types that a model built from `graph` by `optc.emit` declares, by value of the graph.

    Subgraphs are included. Operations are matched by position, so names do not matter.
    """
    return dict(_match(graph, model.graph))


def _match(graph: Graph, proto: onnx.GraphProto) -> Iterator[tuple[Value, Type]]:
    types = _declared(proto)
    inputs = (info.name for info in proto.input)
    yield from _typed(zip(graph.inputs, inputs, strict=False), types)
    for node, made in zip(graph.ordered(), proto.node, strict=False):
        yield from _typed(zip(node.outputs, made.output, strict=False), types)
        nested = {a.name: (a.g,) if a.HasField("g") else a.graphs for a in made.attribute}
        for name in sorted(node.attributes):
            for inner, part in zip(node.attributes[name].graphs, nested[name], strict=False):
                yield from _match(inner, part)


def _typed(
    pairs: Iterable[tuple[Value | None, str]], types: dict[str, Type]
) -> Iterator[tuple[Value, Type]]:
    for value, name in pairs:
        if value is not None and name in types:
            yield value, types[name]
