"""Types, tensors and attributes of the IR to ONNX messages.

Source: onnx.proto; the comments of its enum `Version` say which IR version brought what.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optc.ir import (
    AttrKind,
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    SparseTensorType,
    TensorType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import onnx

    from optc.ir import Attr, Origin, Shape, SparseTensor, Tensor, Type

# The IR version that brought an element type; the others have been there from the start.
_DTYPE_SINCE = {
    DType.BF16: 4,
    DType.F8E4M3FN: 9,
    DType.F8E4M3FNUZ: 9,
    DType.F8E5M2: 9,
    DType.F8E5M2FNUZ: 9,
    DType.U4: 10,
    DType.I4: 10,
    DType.F4E2M1: 11,
    DType.F8E8M0: 12,
    DType.U2: 13,
    DType.I2: 13,
    DType.F6E2M3: 14,
    DType.F6E3M2: 14,
}
_MAX_SOURCES = 32


class ProtoWriter:
    """Fills messages and notes the oldest IR version that can express them.

    metadata_props does not count: readers of older IR versions skip the unknown field, and a higher
    version would lock out runtimes that can run the model.

    Attributes:
        ir_version: the lowest IR version that has everything written so far.
    """

    def __init__(self) -> None:
        self.ir_version = 3

    def need(self, ir_version: int) -> None:
        """Note the use of something that this IR version brought."""
        self.ir_version = max(self.ir_version, ir_version)

    # ---- types ---------------------------------------------------------------------------------

    def type(self, proto: onnx.TypeProto, type: Type) -> None:
        """Write a type."""
        if type.denotation:
            proto.denotation = type.denotation
        if isinstance(type, TensorType):
            proto.tensor_type.elem_type = self.dtype(type.dtype)
            self._shape(proto.tensor_type, type.shape, type.dim_denotations)
        elif isinstance(type, SparseTensorType):
            self.need(8)
            proto.sparse_tensor_type.elem_type = self.dtype(type.dtype)
            self._shape(proto.sparse_tensor_type, type.shape, ())
        elif isinstance(type, SequenceType):
            self._element(proto.sequence_type, type.element)
        elif isinstance(type, OptionalType):
            self.need(8)
            self._element(proto.optional_type, type.element)
        elif isinstance(type, MapType):
            proto.map_type.key_type = self.dtype(type.key)
            if type.value is not None:
                self.type(proto.map_type.value_type, type.value)
        else:
            self._opaque(proto, type)

    def dtype(self, dtype: DType) -> int:
        """The number of an element type."""
        if dtype in _DTYPE_SINCE:
            self.need(_DTYPE_SINCE[dtype])
        return dtype.onnx

    def _element(self, proto: Any, element: Type | None) -> None:
        proto.SetInParent()
        if element is not None:
            self.type(proto.elem_type, element)

    def _opaque(self, proto: onnx.TypeProto, type: OpaqueType) -> None:
        proto.opaque_type.SetInParent()
        if type.domain:
            proto.opaque_type.domain = type.domain
        if type.name:
            proto.opaque_type.name = type.name

    def _shape(self, proto: Any, shape: Shape | None, denotations: tuple[str, ...]) -> None:
        if shape is None:
            return
        proto.shape.SetInParent()
        for size in shape:
            dim = proto.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
            elif size is not None:
                dim.dim_param = size
        for dim, denotation in zip(proto.shape.dim, denotations, strict=False):
            if denotation:
                dim.denotation = denotation

    def value_info(
        self,
        proto: onnx.ValueInfoProto,
        name: str,
        type: Type | None,
        doc: str,
        metadata: Mapping[str, str],
    ) -> None:
        """Write what is known about a value."""
        proto.name = name
        if type is not None:
            self.type(proto.type, type)
        if doc:
            proto.doc_string = doc
        add_pairs(proto, metadata)

    # ---- tensors -------------------------------------------------------------------------------

    def tensor(
        self, proto: onnx.TensorProto, tensor: Tensor, name: str = "", *, data: bool = True
    ) -> None:
        """Write a tensor; without `data`, only its type, name and notes."""
        if name:
            proto.name = name
        proto.data_type = self.dtype(tensor.dtype)
        proto.dims.extend(tensor.shape)
        if tensor.doc:
            proto.doc_string = tensor.doc
        for key, value in tensor.metadata:
            proto.metadata_props.add(key=key, value=value)
        if not data:
            return
        if tensor.dtype is DType.STRING:
            proto.string_data.extend(tensor.strings)
        else:
            proto.raw_data = tensor.raw()

    def sparse(self, proto: onnx.SparseTensorProto, tensor: SparseTensor, name: str = "") -> None:
        """Write a sparse tensor; its name is that of its values."""
        self.need(6)
        self.tensor(proto.values, tensor.values, name)
        self.tensor(proto.indices, tensor.indices)
        proto.dims.extend(tensor.shape)

    # ---- attributes ----------------------------------------------------------------------------

    def attribute(self, proto: onnx.AttributeProto, name: str, attr: Attr) -> None:
        """Write an attribute that holds no graph."""
        proto.name = name
        proto.type = attr.kind.value
        if attr.doc:
            proto.doc_string = attr.doc
        if attr.ref:
            proto.ref_attr_name = attr.ref
        elif attr.kind in _SIMPLE:
            _SIMPLE[attr.kind](proto, attr.value)
        else:
            self._compound(proto, attr)

    def _compound(self, proto: onnx.AttributeProto, attr: Attr) -> None:
        if attr.kind is AttrKind.TENSOR:
            self.tensor(proto.t, attr.value)
        elif attr.kind is AttrKind.TENSORS:
            for tensor in attr.value:
                self.tensor(proto.tensors.add(), tensor)
        elif attr.kind is AttrKind.SPARSE_TENSOR:
            self.sparse(proto.sparse_tensor, attr.value)
        elif attr.kind is AttrKind.SPARSE_TENSORS:
            for sparse in attr.value:
                self.sparse(proto.sparse_tensors.add(), sparse)
        elif attr.kind is AttrKind.TYPE:
            proto.tp.SetInParent()
            if attr.value is not None:
                self.type(proto.tp, attr.value)
        else:
            assert attr.kind is AttrKind.TYPES
            for type in attr.value:
                self.type(proto.type_protos.add(), type)


def _set_float(proto: onnx.AttributeProto, value: float) -> None:
    proto.f = value


def _set_int(proto: onnx.AttributeProto, value: int) -> None:
    proto.i = value


def _set_string(proto: onnx.AttributeProto, value: bytes) -> None:
    proto.s = value


_SIMPLE: dict[AttrKind, Callable[[onnx.AttributeProto, Any], None]] = {
    AttrKind.FLOAT: _set_float,
    AttrKind.INT: _set_int,
    AttrKind.STRING: _set_string,
    AttrKind.FLOATS: lambda proto, value: proto.floats.extend(value),
    AttrKind.INTS: lambda proto, value: proto.ints.extend(value),
    AttrKind.STRINGS: lambda proto, value: proto.strings.extend(value),
    AttrKind.GRAPHS: lambda proto, value: None,  # without any graph
}


def add_pairs(proto: Any, metadata: Mapping[str, str]) -> None:
    """Append key-value entries to the metadata_props of a message, in their order."""
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)


def provenance(origin: Origin | None) -> dict[str, str]:
    """Where a node comes from, as metadata: ``optc.pass`` and ``optc.sources``.

    The first names the pass that made the node, then those that made what it was made from; the
    second is a JSON list of the source nodes, cut after 32 names. Nodes of the source model have
    neither.
    """
    if origin is None or not origin.made_by:
        return {}
    sources = list(origin.sources())
    if len(sources) > _MAX_SOURCES:
        sources[_MAX_SOURCES:] = [f"… and {len(sources) - _MAX_SOURCES} more"]
    names = json.dumps(sources, ensure_ascii=False)
    return {"optc.pass": ",".join(origin.passes()), "optc.sources": names}
