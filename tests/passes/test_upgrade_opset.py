"""upgrade-opset: the converter's work is spliced in; what it cannot carry is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from helpers import graph_from_text
from helpers.pass_checks import assert_refuses, assert_rewrites, assert_same_numbers, run
from helpers.promises import run_pass
from optc.emit.onnx import serialize
from optc.errors import CapabilityError
from optc.frontend.onnx import load_model
from optc.ir import DType, Graph, Tensor, TensorType, clone
from optc.passes.upgrade_opset import UpgradeOpset, UpgradeOpsetOptions

if TYPE_CHECKING:
    from optc.numerics.values import Feeds


def to(opset: int) -> UpgradeOpset:
    return UpgradeOpset(UpgradeOpsetOptions(to=opset))


def at(opset: int, text: str) -> str:
    return f'<ir_version: 8, opset_import: ["" : {opset}]>{text}'


REWRITES = {
    "attributes that become operands": (
        11,
        13,
        """
        g (float[1,3,4] x) => (float[3,4] y)
        {
           a = ReduceSum <axes = [2], keepdims = 1> (x)
           b = Add (x, a)
           y = Squeeze <axes = [0]> (b)
        }
        """,
        """
        g (float[1,3,4] x) => (float[3,4] y) <int64[1] i = {2}, int64[1] j = {0}>
        {
           a = ReduceSum <keepdims = 1> (x, i)
           b = Add (x, a)
           y = Squeeze (b, j)
        }
        """,
        2,
    ),
    "an operation that becomes several": (
        11,
        13,
        "g (float[2,3,4] x) => (float[2,3,4] y) { y = Softmax <axis = 1> (x) }",
        """
        g (float[2,3,4] x) => (float[2,3,4] y)
        {
           a = Shape (x)
           f = Flatten <axis = 1> (x)
           m = Softmax <axis = -1> (f)
           y = Reshape (m, a)
        }
        """,
        1,
    ),
    "pooling, resizing, clipping in one": (
        9,
        22,
        """
        g (float[1,2,4,4] x) => (float[1,2,4,4] y) <float[4] s = {1, 1, 2, 2}>
        {
           a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
           b = Upsample <mode = "linear"> (a, s)
           y = Clip <min = -0.5> (b)
        }
        """,
        """
        g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[4] s = {1, 1, 2, 2}, float[0] r = {}, float l = {-0.5}>
        {
           a = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
           b = Resize <mode = "linear", coordinate_transformation_mode = "asymmetric"> (a, r, s)
           y = Clip (b, l)
        }
        """,
        2,
    ),
    "nothing but the number": (
        13,
        17,
        "g (float[2] x) => (float[2] y) { a = Relu (x) y = Exp (a) }",
        "g (float[2] x) => (float[2] y) { a = Relu (x) y = Exp (a) }",
        0,
    ),
    "inside of branches": (
        11,
        13,
        """
        g (bool c, float[1,2] x) => (float[2] y)
        {
           y = If (c) <
              then_branch = t () => (float[2] p) { p = Squeeze <axes = [0]> (x) },
              else_branch = e () => (float[2] q) { a = Neg (x) q = Squeeze <axes = [0]> (a) }
           >
        }
        """,
        """
        g (bool c, float[1,2] x) => (float[2] y)
        {
           y = If (c) <
              then_branch = t () => (float[2] p) <int64[1] i = {0}> { p = Squeeze (x, i) },
              else_branch = e () => (float[2] q) <int64[1] j = {0}>
              {
                 a = Neg (x)
                 q = Squeeze (a, j)
              }
           >
        }
        """,
        2,
    ),
}


@pytest.mark.parametrize(
    ("before", "after", "text", "expected", "converted"), REWRITES.values(), ids=REWRITES
)
def test_upgrades(before: int, after: int, text: str, expected: str, converted: int) -> None:
    counts = {"raise-opset": 1} | ({"convert-node": converted} if converted else {})
    graph = assert_rewrites(to(after), at(before, text), at(after, expected), counts=counts)
    onnx.checker.check_model(serialize(graph))


# Where the converter alone gives other numbers, or where the forms before the change differ most.
NUMBERS = {
    "Resize-10, linear": (
        10,
        "g (float[1,1,4,4] x) => (float[1,1,N,M] y) <float[4] s = {1, 1, 1.7, 0.6}>"
        '{ y = Resize <mode = "linear"> (x, s) }',
    ),
    "Resize-10, nearest": (
        10,
        "g (float[1,1,4,4] x) => (float[1,1,N,M] y) <float[4] s = {1, 1, 1.3, 2.6}>"
        "{ y = Resize (x, s) }",
    ),
    "Upsample-7": (
        7,
        "g (float[1,1,4,4] x) => (float[1,1,N,M] y)"
        "{ y = Upsample <scales = [1.0, 1.0, 1.3, 3.0]> (x) }",
    ),
    "Hardmax-11, last axis": (11, "g (float[2,3] x) => (float[2,3] y) { y = Hardmax (x) }"),
    "LogSoftmax-9": (9, "g (float[2,3,4] x) => (float[2,3,4] y) { y = LogSoftmax (x) }"),
    "TopK-7": (
        7,
        "g (float[6] x) => (float[3] y, int64[3] i) { y, i = TopK <k = 3, axis = 0> (x) }",
    ),
    "Dropout-7": (7, "g (float[4] x) => (float[4] y) { y, m = Dropout <ratio = 0.25> (x) }"),
    "Pad-2": (
        7,
        "g (float[2,3] x) => (float[3,5] y){ y = Pad <pads = [1, 1, 0, 1], value = 2.0> (x) }",
    ),
    "Slice-1": (9, "g (float[5] x) => (float[2] y) { y = Slice <starts = [1], ends = [3]> (x) }"),
    "Split-2": (11, "g (float[5] x) => (float[3] z) { y, z = Split <split = [2, 3]> (x) }"),
    "Scatter-9": (
        9,
        "g (float[3] x, int64[1] i, float[1] u) => (float[3] y) { y = Scatter (x, i, u) }",
    ),
    "BatchNormalization-7": (
        7,
        "g (float[2,3,4] x) => (float[2,3,4] y) <float[3] s = {1, 2, 3}, float[3] v = {4, 5, 6}>"
        "{ y = BatchNormalization <spatial = 1> (x, s, s, s, v) }",
    ),
    "ReduceL1-11": (11, "g (float[3] x) => (float y) { y = ReduceL1 <axes=[-1], keepdims=0> (x) }"),
    "GridSample-16": (
        16,
        "g (float[1,1,4,4] x, float[1,2,2,2] p) => (float[1,1,2,2] y)"
        '{ y = GridSample <mode = "bicubic"> (x, p) }',
    ),
}


@pytest.mark.parametrize(("opset", "text"), NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize("target", [11, 13, 18, 22])
def test_results_are_those_of_the_old_opset(opset: int, text: str, target: int) -> None:
    if target <= opset:
        return
    graph = graph_from_text(at(opset, text))
    source = clone(graph)
    assert run_pass(to(target), graph).changed
    assert graph.opset == target
    onnx.checker.check_model(serialize(graph))
    assert_same_numbers(source, graph)


REFUSALS = {
    "Hardmax over several dimensions": (
        at(11, "g (float[2,3,4] x) => (float[2,3,4] y) { [h] y = Hardmax (x) }"),
        13,
        ("h: Hardmax-11 with axis 1 is not known to run along the last dimension",),
    ),
    "Resize that scales down": (
        at(
            10,
            "g (float[1,1,4,4] x) => (float[1,1,N,M] y) <float[4] s = {1, 1, 0.5, 2}>"
            "{ [r] y = Resize (x, s) }",
        ),
        13,
        ("r: which neighbour Resize-10 takes when it scales down is not specified",),
    ),
    "Resize by an unknown factor": (
        at(10, "g (float[1,1,4,4] x, float[4] s) => (y) { [r] y = Resize (x, s) }"),
        13,
        ("r: which neighbour Resize-10 takes when it scales down is not specified",),
    ),
    "the mask of a Dropout": (
        at(10, "g (float[4] x) => (float[4] y, m) { [d] y, m = Dropout (x) }"),
        13,
        ("d: its mask m is used",),
    ),
    "Scan-8": (
        at(
            8,
            """
            g (float[1,3,2] x) => (float[1,3,2] y)
            {
               [s] y = Scan <num_scan_inputs = 1, body = b (float[2] i) => (float[2] o)
               {
                  o = Relu (i)
               }> (, x)
            }
            """,
        ),
        13,
        ("s: Scan-8 has a batch dimension, which Scan-9 does not have",),
    ),
    "statistics that the converter rejects": (
        at(
            9,
            "g (float[1,2,3] x, float[2] s) => (float[1,2,3] y, float[2] b)"
            "{ [n] y, m, v, a, b = BatchNormalization (x, s, s, s, s) [r] z = Relu (y) }",
        ),
        14,
        (
            "n: the version converter fails: BatchNormalization outputs 4 and 5 are not supported "
            "in Opset 14.",
        ),
    ),
    "functions of an older opset": (
        '<ir_version: 8, opset_import: ["" : 11, "f" : 1]>'
        "g (float[1,2] x) => (float[2] y) { y = f.Drop (x) }"
        '<domain: "f", opset_import: ["" : 11]> Drop (u) => (v)'
        "{ [s] v = Squeeze <axes = [0]> (u) }",
        13,
        (
            "s: function Drop uses Squeeze-11, which opset 13 defines anew; bodies of functions "
            "are not converted",
        ),
    ),
    "a lower opset": (
        at(17, "g (float[2] x) => (float[2] y) { y = Relu (x) }"),
        13,
        ("g: the model has opset 17, and is not lowered to 13",),
    ),
    "the same opset": (at(17, "g (float[2] x) => (float[2] y) { y = Relu (x) }"), 17, ()),
}


@pytest.mark.parametrize(("text", "target", "reasons"), REFUSALS.values(), ids=REFUSALS)
def test_refuses(text: str, target: int, reasons: tuple[str, ...]) -> None:
    assert_refuses(to(target), text, *reasons)


def test_all_operators_that_fail_are_named_once() -> None:
    text = at(
        8,
        """
        g (float[1,2,3] x, float[2] s) => (float[1,2,3] y)
        {
           [n1] a = BatchNormalization <spatial = 0> (x, s, s, s, s)
           [n2] b = BatchNormalization <spatial = 1> (a, s, s, s, s)
           [n3] y = BatchNormalization <spatial = 0> (b, s, s, s, s)
        }
        """,
    )
    reason = "the version converter fails: Attribute spatial must have value 1"
    assert_refuses(to(9), text, f"n1: {reason}")


def test_an_opset_that_the_onnx_package_does_not_know_is_an_error() -> None:
    graph = graph_from_text("g (float[2] x) => (float[2] y) { y = Relu (x) }")
    with pytest.raises(CapabilityError, match="opset 999 is newer than the newest"):
        run_pass(to(999), graph)


def test_the_opset_has_to_be_said() -> None:
    with pytest.raises(ValidationError):
        UpgradeOpset()


def test_functions_that_read_the_same_in_both_opsets_stay_as_they_are() -> None:
    text = (
        '<ir_version: 8, opset_import: ["" : 11, "f" : 1]>'
        "g (float[1,2] x) => (float[2] y) { a = f.Twice (x) y = Squeeze <axes = [0]> (a) }"
        '<domain: "f", opset_import: ["" : 11]> Twice (u) => (v) { v = Elu (u) }'
    )
    graph = graph_from_text(text)
    source = clone(graph)
    assert run_pass(to(13), graph).changed
    assert [name for _, name, _ in graph.model.functions] == ["Twice"]
    assert_same_numbers(source, graph)


def test_what_the_converter_does_not_carry_stays() -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 11, "com.microsoft" : 1, "ai.onnx.ml" : 2],
     metadata_props: ["a": "b"], producer_name: "maker", doc_string: "model">
    g (float[1,2] x) => (float[2] y)
    {
       [gelu] a = com.microsoft.Gelu (x)
       [squeeze] y = Squeeze <axes = [0]> (a)
    }
    """
    proto = onnx.parser.parse_model(text)
    proto.graph.node[1].doc_string = "a note"
    proto.graph.node[1].metadata_props.add(key="k", value="v")
    proto.graph.input[0].doc_string = "the input"
    graph = load_model(proto)
    run_pass(to(13), graph)
    assert graph.opsets == {"": 13, "com.microsoft": 1, "ai.onnx.ml": 2}
    assert graph.model.metadata == {"a": "b"}
    assert (graph.model.producer_name, graph.model.doc) == ("maker", "model")
    assert [node.name for node in graph.ordered()] == ["gelu", "squeeze"]
    squeeze = graph.value("y").node
    assert (squeeze.doc, dict(squeeze.metadata)) == ("a note", {"k": "v"})
    assert squeeze.origin is not None
    assert squeeze.origin.sources() == ("squeeze",)
    assert graph.inputs[0].doc == "the input"


def test_names_of_results_and_of_the_main_node_stay() -> None:
    graph = graph_from_text(
        at(
            11,
            "g (float[2,3,4] x) => (float[2,3,4] y) { [s] a = Softmax <axis = 1> (x) y = Exp (a) }",
        )
    )
    run_pass(to(13), graph)
    assert graph.has_value("a")
    assert [node.op_type for node in graph.ordered() if node.name == "s"] == ["Softmax"]
    assert {n.origin.made_by for n in graph.ordered() if n.origin} == {"upgrade-opset"}


def test_weights_are_not_given_to_the_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.random.default_rng(5).standard_normal((64, 64)).astype(np.float32)
    graph = Graph("g", {"": 11})
    x = graph.add_input("x", TensorType(DType.F32, (2, 64)))
    w = graph.add_constant(Tensor.from_numpy(weight), "w")
    b = graph.add("Gemm", [x, w], outputs=["b"]).output
    graph.add_output(graph.add("Relu", [b], outputs=["y"]).output, "y")
    sizes: list[int] = []
    convert = onnx.version_converter.convert_version

    def measured(model: onnx.ModelProto, target: int) -> onnx.ModelProto:
        sizes.append(model.ByteSize())
        return convert(model, target)

    monkeypatch.setattr(onnx.version_converter, "convert_version", measured)
    feeds = {"x": np.ones((2, 64), np.float32)}
    before = run(graph, feeds)
    tensor = w.constant
    assert run_pass(to(17), graph).counts == {"raise-opset": 1}
    assert graph.value("w").constant is tensor
    assert len(sizes) == 1
    assert sizes[0] < 1000
    np.testing.assert_array_equal(run(graph, feeds)["y"], before["y"])


def test_sequences_and_unknown_types_pass() -> None:
    text = at(
        12,
        """
        g (seq(float[2]) s, float[2] x) => (float[2] y, seq(float[2]) t)
        {
           t = SequenceInsert (s, x)
           a = SequenceAt (t, i)
           i = Constant <value_int = 0> ()
           b = Identity (a)
           y = Add (b, x)
        }
        """,
    )
    graph = graph_from_text(text)
    source = clone(graph)
    assert run_pass(to(16), graph).changed
    feeds: Feeds = {"s": [np.zeros(2, np.float32)], "x": np.ones(2, np.float32)}
    assert_same_numbers(source, graph, feeds)
