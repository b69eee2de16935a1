"""The named canonical text, read back: printing gives the same text, broken text one error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import graph_from_text
from helpers.random_graphs import graphs
from optc.errors import ModelError
from optc.ir import Attr, AttrKind, DType, Graph, Origin, SparseTensor, Tensor, TensorType
from optc.ir.diff import diff_graphs
from optc.ir.line import parse_type
from optc.ir.literals import format_type
from optc.ir.reader import read_graph
from optc.ir.text import print_graph
from optc.ir.types import MapType, OpaqueType, OptionalType, SequenceType, SparseTensorType

MODELS = {
    "branches": """
        <ir_version: 9, opset_import: ["com.microsoft" : 1, "" : 17]>
        classifier (float[N,3,32,32] x, bool c) => (float[N,4,32,32] y)
        <float[4,3,1,1] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[1] half = {0.5}> {
          a = Conv <strides = [1, 1], pads = [0, 0, 0, 0]> (x, w)
          b = Mul (a, half)
          d = com.microsoft.Gelu (b)
          y = If (c) <
            then_branch = t () => (float[N,4,32,32] r) { r = Relu (d) },
            else_branch = e () => (float[N,4,32,32] q) { s = Sigmoid (d) q = Mul (s, half) }>
        }""",
    "nested": """
        g (bool c, float[2] x) => (float[2] y) {
          y = If (c) <
            then_branch = t () => (float[2] r) {
              r = If (c) <
                then_branch = a () => (float[2] p) { p = Relu (x) },
                else_branch = b () => (float[2] q) { q = Abs (x) }>
            },
            else_branch = e () => (float[2] s) { s = Neg (x) }>
        }""",
    "loop": """
        g (int64 n, bool c, float[2] x) => (float[2] y) {
          y = Loop (n, c, x) <body = b (int64 i, bool k, float[2] s) => (bool k2, float[2] t) {
            k2 = Identity (k)
            t = Add (s, x)
          }>
        }""",
    "function": """
        <ir_version: 10, opset_import: ["" : 21, "my.ops" : 1]>
        g (float[2] x) => (float[2] y) { y = my.ops.scaled <gamma = 2.0> (x) }
        <domain: "my.ops", opset_import: ["" : 20]>
        scaled <gamma, alpha: float = 0.1> (a) => (r) {
          b = LeakyRelu <alpha: float = @alpha> (a)
          r = Elu <alpha: float = @gamma> (b)
        }""",
}


def shown(graph: Graph) -> str:
    return print_graph(graph, named=True, origins=True)


def check_round_trip(graph: Graph) -> Graph:
    text = shown(graph)
    read = read_graph(text)
    assert shown(read) == text
    assert diff_graphs(read, read_graph(text)).is_empty
    return read


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back(name: str) -> None:
    check_round_trip(graph_from_text(MODELS[name]))


def odd_graph() -> Graph:
    graph = Graph("my graph", {"": 21, "d": 2})
    x = graph.add_input("0", TensorType(DType.F32, ("N", None, 2, "a,b(c)")))
    graph.add_input("k", TensorType(DType.I64, ()), Tensor.from_numpy(np.int64(3)))
    sparse = SparseTensor(Tensor.from_numpy([1.0], DType.F32), Tensor.from_numpy([4]), (9,))
    graph.add_input("s", TensorType(DType.F32, (9,))).node.sparse = sparse
    graph.add_constant(sparse, "unused  # a")
    graph.add_constant(Tensor.from_strings([b'a "b"  # c', b"\xff"], (2,)), "words")
    big = graph.add_constant(Tensor.from_numpy(np.arange(9.0)), "big", Origin("fold-it", ("a",)))
    attributes = {
        "axis": Attr(AttrKind.INT, -1),
        "beta": Attr(AttrKind.FLOAT, float(np.float32(0.1))),
        "mode": Attr(AttrKind.STRING, b'with ", [ and )'),
        "names": Attr(AttrKind.STRINGS, (b"a, b", b")")),
        "none": Attr(AttrKind.INTS, ()),
        "many": Attr(AttrKind.INTS, tuple(range(100))),
        "value": Attr(AttrKind.TENSOR, Tensor.from_numpy(np.ones((2, 2), np.float32))),
        "kind": Attr(AttrKind.TYPE, SequenceType(TensorType(DType.F32))),
        "odd name": Attr(AttrKind.INT, 1),
    }
    made = graph.add(
        "Odd Op",
        [x, None, big],
        outputs=["y", None, "z"],
        domain="a b",
        attributes=attributes,
        types=[TensorType(DType.F32), None, MapType(DType.I64, TensorType(DType.F32))],
        origin=Origin("fold-it", ()),
    )
    graph.add("f", [], outputs=["v"], domain="d").overload = "fast"
    graph.add("Sink", [made.output], outputs=[])
    bodies = tuple(Graph(name, parent=graph) for name in "ab")
    for body in bodies:
        body.add_output(body.add_constant(Tensor.from_numpy([1.0]), f"c_{body.name}"), "r")
    graph.add(
        "Switch", [], outputs=["w"], domain="d", attributes={"cases": Attr(AttrKind.GRAPHS, bodies)}
    )
    graph.add_output(made.output, "out put")
    return graph


def test_odd_names_types_attributes_and_constants_come_back() -> None:
    read = check_round_trip(odd_graph())
    node = read.value("y").node
    assert (node.domain, node.op_type) == ("a b", "Odd Op")
    assert node.origin == Origin("fold-it", ())
    assert read.value("v").node.overload == "fast"
    assert read.value("0").type == TensorType(DType.F32, ("N", None, 2, "a,b(c)"))
    assert node.attributes.keys() == {
        "axis", "beta", "mode", "names", "none", "many", "value", "kind", "odd name",
    }  # fmt: skip


def test_what_is_read_has_no_elements() -> None:
    constant = read_graph(shown(odd_graph())).value("big").constant
    assert constant is not None
    assert constant.type == TensorType(DType.F64, (9,))
    for ask in (constant.numpy, constant.raw, lambda: list(constant.chunks())):
        with pytest.raises(TypeError, match="is a description"):
            ask()


@given(graphs())
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_graphs_come_back(graph: Graph) -> None:
    check_round_trip(graph)


@pytest.mark.parametrize(
    "type_",
    [
        None,
        TensorType(DType.F32),
        TensorType(DType.UNDEFINED, (1, "N", None)),
        TensorType(DType.I4, ("?", "*", "7", "", "floor(N/2)")),
        SequenceType(OptionalType(TensorType(DType.F16, ()))),
        OptionalType(None),
        MapType(DType.STRING, SequenceType(None)),
        OpaqueType("a b", "c"),
        SparseTensorType(DType.BF16, (3, 4)),
    ],
    ids=str,
)
def test_types(type_: TensorType | None) -> None:
    assert parse_type(format_type(type_)) == type_


@pytest.mark.parametrize("text", ["f33[2]", "f32", "seq(f32[1]", "f32[1]]x", ""])
def test_wrong_types(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_type(text)


def test_a_comment_is_skipped() -> None:
    text = shown(graph_from_text(MODELS["loop"]))
    assert shown(read_graph(f"# one\n#two\n{text}")) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Identity(%k)", "Identity(%l)", "expected a value that is defined above, not %l, at"),
        ("%k2 = Identity(%k)", "<<<<<<< HEAD", "expected a name at '<<<<<<< HEAD"),
        (" : bool[]\n      %t", " : boole[]\n      %t", "expected a type instead of boole[]"),
        ("%t =", "%k2 =", "has a value named 'k2' already"),
        ("output y", "output", "expected a name"),
        ("input %n", "input _", "expected the name of an input"),
        ("opsets ai.onnx 21", "opsets ai.onnx new", "expected the number of an opset"),
    ],
)
def test_a_mistake_is_told_with_its_line(old: str, new: str, message: str) -> None:
    text = shown(graph_from_text(MODELS["loop"]))
    assert old in text
    with pytest.raises(ModelError) as caught:
        read_graph(text.replace(old, new), location="g.txt")
    assert caught.value.code == "text-invalid"
    assert message in caught.value.message
    line = text[: text.index(old)].count("\n") + 1
    assert caught.value.location == f"g.txt:{line}"


@given(st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_damaged_text_is_an_error_of_ours_or_another_graph(data: st.DataObject) -> None:
    text = shown(odd_graph())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    damaged = (
        text[:start] + data.draw(st.sampled_from(["", "(", '"', "}\n", "%", "  # "])) + text[end:]
    )
    try:
        read_graph(damaged)
    except ModelError as error:
        assert error.code == "text-invalid"  # noqa: PT017 - both ends are right
