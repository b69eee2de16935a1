"""Graphs of the IR to ONNX models.

The same graph gives the same bytes, whatever the run. Nodes come in the order of `Graph.ordered`.
The IR version stays that of the source, or rises to the lowest that can express the graph.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import onnx

from optc.emit.graphs import GraphWriter, Inline, Skeleton, Store
from optc.emit.protos import ProtoWriter, add_pairs
from optc.emit.stores import ExternalWriter, Streamed
from optc.errors import OutputError
from optc.files import replacing_file
from optc.ir import DType, Kind
from optc.ir.nodes import CANONICAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optc.ir import Graph, Node

__all__ = ["ExternalWriter", "build_model", "save_model", "serialize"]

_PROTOBUF_LIMIT = (1 << 31) - 1
_INLINE_LIMIT = 3 << 29  # leaves room for nodes and types below the limit of protobuf


def build_model(
    graph: Graph,
    *,
    skeleton: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The graph as a ModelProto.

    Args:
        graph: a root graph.
        skeleton: leave out the data of constants above 4 KiB, and let graph outputs go by the
            names of their values: for shape inference, whose result `match_types` of the frontend
            maps back.
        metadata: added to the metadata_props of the model.

    Raises:
        ModelError: external data of the source cannot be read.
    """
    store: Store = Skeleton() if skeleton else Inline()
    model = onnx.ModelProto()
    writer = GraphWriter(graph, ProtoWriter(), store, internal=skeleton)
    _write(graph, model, model.graph, writer, metadata or {})
    return model


def serialize(graph: Graph, *, metadata: Mapping[str, str] | None = None) -> bytes:
    """The graph as the bytes of a model file without external data.

    Raises:
        OutputError: they would be more than the 2 GiB that protobuf allows.
        ModelError: external data of the source cannot be read.
    """
    return b"".join(_stream(graph, metadata or {}, "<bytes>"))


def save_model(
    graph: Graph,
    path: str | Path,
    *,
    external_data: Literal["auto", "always", "never"] = "auto",
    metadata: Mapping[str, str] | None = None,
    node_names: Mapping[Node, str] | None = None,
    plain_canonical: bool = False,
) -> list[Path]:
    """Write the graph to a file, and its weights to ``<file>.data`` where that is asked for.

    Files are written beside their place and then moved there, so an interrupted call leaves what
    was there before. Weights are streamed: memory does not grow with them.

    Args:
        graph: a root graph.
        path: the model file; its folder must exist.
        external_data: ``auto`` moves weights out when they are more than 1.5 GiB; a model file ends
            at 2 GiB. ``always`` moves out every tensor of 1 KiB and more.
        metadata: added to the metadata_props of the model.
        node_names: names of operations to write instead of their own.
        plain_canonical: write canonical operations as operators of ONNX's own domain, for readers
            that do not go by the opset; else they are an error.

    Returns:
        The files written, the model first.

    Raises:
        OutputError: a file cannot be written, or the model is too large for one file.
        ModelError: external data of the source cannot be read.
    """
    path = Path(path)
    outside = external_data == "always"
    outside |= external_data == "auto" and _weight_bytes(graph) > _INLINE_LIMIT
    paths = [path, path.with_name(f"{path.name}.data")] if outside else [path]
    with ExitStack() as stack:
        # Entered in reverse: the data is in place before the model that refers to it.
        model_file, *data_file = [stack.enter_context(replacing_file(item)) for item in paths]
        if data_file:
            writer = ExternalWriter(data_file[0], paths[1].name)
            model = onnx.ModelProto()
            graphs = GraphWriter(
                graph,
                ProtoWriter(),
                writer,
                node_names=node_names,
                plain_canonical=plain_canonical,
            )
            _write(graph, model, model.graph, graphs, metadata or {})
            model_file.write(model.SerializeToString(deterministic=True))
        else:
            for part in _stream(graph, metadata or {}, str(path), node_names):
                model_file.write(part)
    return paths


def _write(
    graph: Graph,
    model: onnx.ModelProto,
    proto: onnx.GraphProto,
    graphs: GraphWriter,
    metadata: Mapping[str, str],
) -> None:
    """Fill `proto` with the main graph and `model`, which may hold it or not, with the rest."""
    writer = graphs.writer
    graphs.write(proto, graph)
    info = graph.model
    for function in info.functions.values():
        graphs.function(model.functions.add(), function)
    for name, since in (("training_info", 7), ("configuration", 11)):
        for data in info.opaque.get(name, ()):
            writer.need(since)
            getattr(model, name).add().ParseFromString(data)
    for domain, version in graph.opsets.items():
        model.opset_import.add(domain=domain, version=version)
    if graphs.has_canonical:
        model.opset_import.add(domain=CANONICAL, version=1)
    model.ir_version = max(info.ir_version, writer.ir_version)
    for field, value in (
        ("producer_name", info.producer_name),
        ("producer_version", info.producer_version),
        ("domain", info.domain),
        ("model_version", info.model_version),
        ("doc_string", info.doc),
    ):
        if value:
            setattr(model, field, value)
    add_pairs(model, {**info.metadata, **metadata})


def _stream(
    graph: Graph,
    metadata: Mapping[str, str],
    label: str,
    node_names: Mapping[Node, str] | None = None,
) -> Iterator[bytes | memoryview]:
    model, proto = onnx.ModelProto(), onnx.GraphProto()
    store = Streamed(proto)
    writer = GraphWriter(graph, ProtoWriter(), store, node_names=node_names)
    _write(graph, model, proto, writer, metadata)
    size, parts = store.finish(model)
    if size > _PROTOBUF_LIMIT:
        raise OutputError(
            "model-too-large",
            f"the model has {size} bytes; one file can hold less than 2 GiB",
            location=label,
            hint="store the weights beside it: external_data 'auto' or 'always'",
        )
    return parts


def _weight_bytes(graph: Graph) -> int:
    nodes = (node for part in graph.walk() for node in part.nodes(Kind.CONSTANT, Kind.INPUT))
    tensors = (node.tensor for node in nodes if node.tensor is not None)
    return sum(tensor.nbytes for tensor in tensors if tensor.dtype is not DType.STRING)
