"""Names and marks in the XML of an IR, on XML as OpenVINO writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from optc.emit.irxml import finish_xml

if TYPE_CHECKING:
    from collections.abc import Collection

PORT = '<output><port id="0"{names}><dim>2</dim></port></output>'


def layer(id: int, name: str, kind: str, tensors: str = "") -> str:
    names = f' names="{tensors}"' if tensors else ""
    content = f'<data a="1"/>{PORT.format(names=names)}'
    return f'<layer id="{id}" name="{name}" type="{kind}">{content}</layer>'


def net(layers: list[str], edges: list[tuple[int, int]]) -> bytes:
    lines = "".join(
        f'<edge from-layer="{a}" from-port="0" to-layer="{b}" to-port="0"/>' for a, b in edges
    )
    return f"<net><layers>{''.join(layers)}</layers><edges>{lines}</edges></net>".encode()


def names(content: bytes) -> list[str]:
    return [item.get("name", "") for item in ElementTree.fromstring(content).iter("layer")]


CHAIN = [
    layer(0, "x", "Parameter", "x"),
    layer(1, "w", "Const"),
    layer(2, "Multiply_31", "Convolution"),
    layer(3, "Constant_44", "Const"),
    layer(4, "conv", "Add", "a"),
    layer(5, "HSwish_12", "HSwish", "b"),
    layer(6, "gemm/WithoutBiases", "MatMul"),
    layer(7, "y", "Add", "y"),
    layer(8, "y/sink_port_0", "Result"),
]
EDGES = [(0, 2), (1, 2), (2, 4), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8)]
PRODUCERS = {"a": "conv", "b": "swish", "y": "gemm"}


def finish(layers: list[str], keep: Collection[str] = ()) -> bytes:
    return finish_xml(net(layers, EDGES), PRODUCERS, keep, constants={"w"})


def test_every_layer_is_named_after_its_operation() -> None:
    assert names(finish(CHAIN)) == [
        "x",
        "w",
        "conv/Convolution",
        "conv/Const",
        "conv",
        "swish",
        "gemm/MatMul",
        "gemm",
        "y/sink_port_0",
    ]


def test_the_counter_of_the_process_does_not_show() -> None:
    later = [
        line.replace("_31", "_3100").replace("_44", "_4400").replace("_12", "_120")
        for line in CHAIN
    ]
    first = finish(CHAIN)
    assert finish(later) == first


def test_several_layers_of_one_type_are_numbered() -> None:
    layers = [
        layer(0, "Constant_1", "Const"),
        layer(1, "Constant_2", "Const"),
        layer(2, "op", "Add", "t"),
    ]
    found = names(finish_xml(net(layers, [(0, 2), (1, 2)]), {"t": "op"}))
    assert found == ["op/Const", "op/Const_1", "op"]


def test_a_comma_in_a_tensor_name() -> None:
    layers = [layer(0, "Relu_1", "ReLU", r"one\,two,other")]
    assert names(finish_xml(net(layers, []), {"one,two": "relu"})) == ["relu"]


def test_bodies_of_control_flow_are_named_by_themselves() -> None:
    body = net([layer(0, "Relu_77", "ReLU", "inner")], []).decode()
    body = body.replace("<net>", "<body>").replace("</net>", "</body>")
    outer = layer(0, "loop", "Loop", "out").replace("<output>", f"{body}<output>")
    found = names(finish_xml(net([outer], []), {"out": "loop", "inner": "relu"}))
    assert found == ["loop", "relu"]


def test_marks_are_written_in_the_spelling_that_every_version_reads() -> None:
    root = ElementTree.fromstring(finish(CHAIN, {"conv"}))
    marked = {
        item.get("name"): [entry.attrib for entry in item.findall("rt_info/attribute")]
        for item in root.iter("layer")
        if item.find("rt_info") is not None
    }
    mark = [{"name": "precise", "version": "0"}]
    assert marked == {"conv/Convolution": mark, "conv": mark}
