"""Graphs in two precisions: run `cast-bf16` on them, and look at their Casts."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import cast as cast_type

from helpers import graph_from_text
from optc.emit.onnx import serialize
from optc.ir import DType, TensorType
from optc.ir.text import print_graph
from optc.ir.verify import verify
from optc.numerics.evaluate import open_session
from optc.passes import CastBf16, InferShapes, PassContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    import optc
    from optc.ir import Graph
    from optc.numerics.values import Array, Feeds
    from optc.passes import PassResult

SPR = PassContext("sapphirerapids", "openvino")


def model(text: str, opset: int = 22) -> Graph:
    graph = graph_from_text(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{text}')
    InferShapes().apply(graph, PassContext())
    return graph


def cast(graph: Graph, context: PassContext = SPR, **options: object) -> PassResult:
    """Run the pass, and check what every pass promises."""
    before = print_graph(graph)
    result = CastBf16(CastBf16.Options.model_validate(options)).apply(graph, context)
    after = print_graph(graph)
    assert verify(graph) == ()
    assert result.changed == (after != before) == bool(result.counts)
    again = CastBf16(CastBf16.Options.model_validate(options)).apply(graph, context)
    assert not again.changed
    assert print_graph(graph) == after
    assert_lean(graph)
    return result


def assert_lean(graph: Graph) -> None:
    """No value is converted twice to one type, and none there and back."""
    seen = set()
    for nested in graph.walk():
        for node in nested.nodes():
            source = nested.operand(node, 0)
            if not node.is_op("Cast") or source is None:
                continue
            to = DType.from_onnx(node.get("to"))
            assert (source, to) not in seen
            seen.add((source, to))
            if {dtype(source), to} == {DType.F32, DType.BF16} and source.node.is_op("Cast"):
                there = nested.operand(source.node, 0)
                assert there is not None
                assert dtype(there) is not to


def dtype(value: optc.ir.Value) -> DType:
    assert isinstance(value.type, TensorType)
    return value.type.dtype


def body(graph: Graph) -> list[str]:
    """The operations in canonical text, without header and types of constants."""
    return [line.strip() for line in print_graph(graph).splitlines() if "= const" not in line][3:-1]


def casts(graph: Graph) -> dict[str, str]:
    """What is converted to what, over all Casts."""
    found = {}
    for node in graph.nodes():
        source = graph.operand(node, 0)
        if node.is_op("Cast") and source is not None:
            found[source.name] = f"{dtype(source).value}->{dtype(node.output).value}"
    return found


def run(graph: Graph, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    """The outputs in onnxruntime."""
    found = open_session(serialize(graph)).run(cast_type("Feeds", feeds))
    return cast_type("Mapping[str, Array]", found)
