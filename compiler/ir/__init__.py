"""The graph IR: types, tensors behind handles, op knowledge, the graph, verifier, text and diff."""

from optc.ir.clone import clone
from optc.ir.graph import Graph
from optc.ir.model import Function, ModelInfo
from optc.ir.nodes import Attr, AttrKind, Kind, Node, Origin, Use, Value
from optc.ir.tensor import ExternalData, SparseTensor, Tensor
from optc.ir.types import (
    Dim,
    DType,
    MapType,
    OpaqueType,
    OptionalType,
    SequenceType,
    Shape,
    SparseTensorType,
    TensorType,
    Type,
)

__all__ = [
    "Attr",
    "AttrKind",
    "DType",
    "Dim",
    "ExternalData",
    "Function",
    "Graph",
    "Kind",
    "MapType",
    "ModelInfo",
    "Node",
    "OpaqueType",
    "OptionalType",
    "Origin",
    "SequenceType",
    "Shape",
    "SparseTensor",
    "SparseTensorType",
    "Tensor",
    "TensorType",
    "Type",
    "Use",
    "Value",
    "clone",
]
