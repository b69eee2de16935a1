"""One small model per feature of ONNX that the frontend must carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

OPSETS = {"": 21}


def model(
    graph: GraphProto, opsets: dict[str, int] | None = None, ir: int = 10, **fields: Any
) -> ModelProto:
    imports = [helper.make_opsetid(*item) for item in (opsets or OPSETS).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, **fields)


def graph(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] = (),
    outputs: Sequence[ValueInfoProto] = (),
    constants: Sequence[TensorProto] = (),
    **fields: Any,
) -> GraphProto:
    return helper.make_graph(nodes, "main", inputs, outputs, constants, **fields)


def f32(name: str, *shape: int | str | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def untyped(name: str) -> ValueInfoProto:
    return onnx.ValueInfoProto(name=name)


def const(name: str, *values: float) -> TensorProto:
    return numpy_helper.from_array(np.array(values, np.float32), name)


node = helper.make_node


def docs_and_metadata() -> ModelProto:
    add = node("Add", ["x", "c"], ["y"], name="add", doc_string="adds")
    neg = node("Neg", ["y"], ["z"])
    main = graph([add, neg], [f32("x", 2)], [f32("z", 2)], [const("c", 1, 2)], doc_string="doc")
    main.value_info.append(f32("y", 2))
    main.initializer[0].doc_string = "a constant"
    for item in (main, main.node[0], main.input[0], main.output[0], main.value_info[0]):
        item.metadata_props.add(key="k", value=str(item.DESCRIPTOR.name))
    main.initializer[0].metadata_props.add(key="scale", value="1")
    for info in (main.input[0], main.output[0], main.value_info[0]):
        info.doc_string = f"about {info.name}"
    main.value_info.add(name="c", doc_string="about a constant")
    result = model(
        main, producer_name="p", producer_version="1", domain="d", doc_string="m", model_version=7
    )
    helper.set_model_props(result, {"b": "1", "a": "2"})
    return result


def node_names() -> ModelProto:
    nodes = [node("Neg", ["x"], ["a"], name="n"), node("Neg", ["a"], ["b"], name="n")]
    return model(graph([*nodes, node("Neg", ["b"], ["y"])], [f32("x", 1)], [f32("y", 1)]))


def inputs_with_defaults() -> ModelProto:
    main = graph([node("Add", ["x", "w"], ["y"])], [f32("x", 2), f32("w", 2)], [f32("y", 2)])
    main.initializer.append(const("w", 1, 2))
    return model(main, {"": 9}, ir=3)


def outputs_that_nothing_computes() -> ModelProto:
    return model(graph([], [f32("x", 2)], [f32("x", 2), f32("c", 1)], [const("c", 3)]))


def empty_tensors() -> ModelProto:
    empty = helper.make_tensor("e", TensorProto.FLOAT, [0, 3], [])
    none = helper.make_tensor("s", TensorProto.STRING, [0], [])
    nodes = [node("Concat", ["x", "e"], ["y"], axis=0), node("Identity", ["s"], ["t"])]
    text = helper.make_tensor_value_info("t", TensorProto.STRING, [0])
    return model(graph(nodes, [f32("x", 0, 3)], [f32("y", 0, 3), text], [empty, none]))


def constant_nodes() -> ModelProto:
    forms: list[dict[str, Any]] = [
        {"value": numpy_helper.from_array(np.arange(6, dtype=np.int8).reshape(2, 3), "inner")},
        {"value_float": 0.1},
        {"value_floats": [0.1, float("inf")]},
        {"value_int": -3},
        {"value_ints": [1 << 40, -1]},
        {"value_string": "häuser"},
        {"value_strings": ["a", ""]},
        {"value": helper.make_tensor("", TensorProto.STRING, [1, 1], [b"\xff"])},
    ]
    nodes = [node("Constant", [], [f"c{i}"], name=f"n{i}", **f) for i, f in enumerate(forms)]
    nodes[1].doc_string = "a doc"
    nodes[1].metadata_props.add(key="stack", value="trace")
    uses = [node("Identity", [f"c{i}"], [f"y{i}"]) for i in range(len(forms))]
    outputs = [helper.make_empty_tensor_value_info(f"y{i}") for i in range(len(forms))]
    return model(graph([*nodes, *uses], [], outputs))


def constant_node_as_output() -> ModelProto:
    return model(graph([node("Constant", [], ["y"], value_float=1.0)], [], [f32("y")]))


def sparse(name: str, indices: Sequence[Any], shape: Sequence[int]) -> onnx.SparseTensorProto:
    at = numpy_helper.from_array(np.array(indices, np.int64), "at")
    values = const(name, *range(1, len(indices) + 1))
    return helper.make_sparse_tensor(values, at, shape)


def sparse_tensors() -> ModelProto:
    parts = [sparse("linear", [0, 5], [2, 3]), sparse("pairs", [[0, 1], [1, 2]], [2, 3])]
    main = graph([node("Op", ["linear", "pairs", "dense"], ["y"], domain="own")], [], [f32("y")])
    main.node.insert(0, node("Constant", [], ["dense"], sparse_value=sparse("", [1], [4])))
    main.sparse_initializer.extend(parts)
    return model(main, {"": 21, "own": 1})


def _branch(name: str, result: str, *nodes: NodeProto) -> GraphProto:
    return helper.make_graph(nodes, name, [], [untyped(result)])


def flag(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.BOOL, [])


def captures() -> ModelProto:
    """Two levels of If over a Loop over values of the main graph, with one name in two branches."""
    body = helper.make_graph(
        [
            node("Add", ["state", "x"], ["next"]),
            node("Mul", ["next", "outer"], ["scanned"]),
            node("Identity", ["go"], ["on"]),
        ],
        "body",
        [untyped("i"), flag("go"), untyped("state")],
        [untyped("on"), untyped("next"), untyped("scanned")],
    )
    deep = _branch(
        "deep",
        "out",
        node("Loop", ["n", "", "x"], ["final", "out"], body=body),
        node("Neg", ["x"], ["local"]),
    )
    flat = _branch("flat", "out", node("Unsqueeze", ["outer", "axis"], ["out"]))
    inner = node("If", ["cond"], ["picked"], name="inner", then_branch=deep, else_branch=flat)
    then = _branch("then", "res", inner, node("Neg", ["picked"], ["res"]))
    other = _branch(
        "else",
        "res",
        node("Constant", [], ["k"], value_floats=[2.0]),
        node("Mul", ["outer", "k"], ["res"]),
    )
    nodes = [
        node("Sqrt", ["x"], ["outer"]),
        node("If", ["cond"], ["y"], name="outer_if", then_branch=then, else_branch=other),
    ]
    n = numpy_helper.from_array(np.array(3, np.int64), "n")
    axis = numpy_helper.from_array(np.array([0], np.int64), "axis")
    return model(graph(nodes, [f32("x", 2), flag("cond")], [f32("y", None)], [n, axis]))


def scan() -> ModelProto:
    body = helper.make_graph(
        [node("Add", ["s", "e"], ["t"]), node("Mul", ["t", "k"], ["u"])],
        "body",
        [f32("s", 2), f32("e", 2)],
        [f32("t", 2), f32("u", 2)],
        [const("k", 1, 2)],
    )
    body.doc_string = "a body"
    scan_node = node("Scan", ["s0", "xs"], ["last", "all"], body=body, num_scan_inputs=1)
    return model(
        graph([scan_node], [f32("s0", 2), f32("xs", 4, 2)], [f32("last", 2), f32("all", 4, 2)])
    )


def branches_of_constants() -> ModelProto:
    constant = node("Constant", [], ["v"], value_floats=[1.0])
    one = helper.make_graph([constant], "one", [], [f32("v", 1)])
    two = helper.make_graph([], "two", [], [f32("w", 1)], [const("w", 2)])
    nodes = [node("If", ["cond"], ["y"], then_branch=one, else_branch=two)]
    return model(graph(nodes, [flag("cond")], [f32("y", 1)]))


def functions() -> ModelProto:
    alpha = AttributeProto(name="value_float", ref_attr_name="alpha", type=AttributeProto.FLOAT)
    constant = node("Constant", [], ["a"])
    constant.attribute.append(alpha)
    then = _branch("t", "r", node("Mul", ["p", "a"], ["r"]))
    other = _branch("e", "r", node("Identity", ["p"], ["r"]))
    choose = node("If", ["c"], ["q"], then_branch=then, else_branch=other)
    scaled = helper.make_function(
        "own",
        "Scaled",
        ["p", "c"],
        ["q"],
        [constant, choose],
        [helper.make_opsetid("", 21)],
        attributes=["beta"],
        attribute_protos=[helper.make_attribute("alpha", 0.5)],
        doc_string="scales",
        overload="v1",
        value_info=[f32("p", 2), f32("a"), f32("q", 2)],
    )
    scaled.metadata_props.add(key="from", value="here")
    twice = helper.make_function(
        "own",
        "Twice",
        ["p", "c"],
        ["q"],
        [
            node("Scaled", ["p", "c"], ["m"], domain="own", overload="v1", beta=1.0),
            node("Scaled", ["m", "c"], ["q"], domain="own", overload="v1", beta=1.0, alpha=2.0),
        ],
        [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)],
    )
    main = graph(
        [node("Twice", ["x", "c"], ["y"], domain="own")], [f32("x", 2), flag("c")], [f32("y", 2)]
    )
    return model(main, {"": 21, "own": 1}, functions=[scaled, twice])


def value_types() -> ModelProto:
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", None, 3], ["d", "", "e"])
    tensor.denotation = "IMAGE"
    types = [
        tensor,
        helper.make_tensor_type_proto(TensorProto.BFLOAT16, None),
        helper.make_tensor_type_proto(TensorProto.FLOAT, []),
        helper.make_sequence_type_proto(helper.make_optional_type_proto(tensor)),
        helper.make_map_type_proto(TensorProto.STRING, helper.make_sequence_type_proto(tensor)),
        helper.make_sparse_tensor_type_proto(TensorProto.INT32, [4, "m"]),
        onnx.TypeProto(opaque_type=onnx.TypeProto.Opaque(domain="own", name="thing")),
        onnx.TypeProto(sequence_type=onnx.TypeProto.Sequence()),
    ]
    inputs = [helper.make_value_info(f"x{i}", type) for i, type in enumerate(types)]
    nodes = [node("Any", [f"x{i}"], [f"y{i}"], domain="own") for i in range(len(types))]
    outputs = [helper.make_value_info(f"y{i}", type) for i, type in enumerate(types)]
    return model(graph(nodes, inputs, outputs), {"": 21, "own": 3})


def unread_fields() -> ModelProto:
    main = graph([node("Neg", ["x"], ["y"], name="neg")], [f32("x", 1)], [f32("y", 1)])
    note = onnx.TensorAnnotation(tensor_name="y")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="s")
    main.quantization_annotation.append(note)
    main.node[0].device_configurations.add(configuration_id="two", pipeline_stage=1)
    result = model(main, ir=11)
    result.configuration.add(name="two", num_devices=2)
    result.training_info.add().algorithm.CopyFrom(graph([node("Abs", ["y"], ["loss"])]))
    return result


def attributes() -> ModelProto:
    inner = helper.make_graph([node("Neg", ["x"], ["n"])], "inner", [], [untyped("n")])
    kind = helper.make_tensor_type_proto(TensorProto.INT8, [2, "k"])
    values: dict[str, Any] = {
        "float": 0.1,
        "int": -(1 << 62),
        "string": b"\x00\xff",
        "tensor": const("name", 1, 2),
        "graph": inner,
        "floats": [1e-45, float("nan"), -0.0],
        "ints": [0, 1],
        "strings": ["a", "b"],
        "tensors": [const("", 1), const("", 2)],
        "graphs": [inner, inner],
        "sparse": sparse("", [1], [3]),
        "sparse_list": [sparse("", [1], [3])],
        "type": kind,
        "types": [kind, kind],
    }
    made = node("Op", ["x"], ["y"], domain="own", **values)
    for index, item in enumerate(made.attribute):
        item.doc_string = f"doc {index}"
    for number in (6, 7, 8, 9, 10, 12, 14):
        made.attribute.add(name=f"empty{number}", type=number)
    return model(graph([made], [f32("x", 1)], [f32("y", 1)]), {"": 21, "own": 1})


def omitted_operands_and_outputs() -> ModelProto:
    nodes = [
        node("Clip", ["x", "", "high"], ["a"]),
        node("Resize", ["a", "", "scales", ""], ["b"], mode="nearest"),
        node("LSTM", ["seq", "w", "r", "", "", ""], ["", "last", ""], hidden_size=1),
    ]
    inputs = [f32("x", 1, 1, 2, 2), f32("seq", 2, 1, 1), f32("w", 1, 4, 1), f32("r", 1, 4, 1)]
    constants = [helper.make_tensor("high", 1, [], [1.0]), const("scales", 1, 1, 2, 2)]
    return model(graph(nodes, inputs, [f32("b", 1, 1, 4, 4), f32("last", 1, 1, 1)], constants))


def spelled_out_domain() -> ModelProto:
    made = node("Neg", ["x"], ["y"], domain="ai.onnx")
    return model(graph([made], [f32("x", 1)], [f32("y", 1)]), {"ai.onnx": 21, "ai.onnx.ml": 3})


def contrib_operators() -> ModelProto:
    nodes = [
        node("FusedMatMul", ["x", "x"], ["a"], domain="com.microsoft", alpha=0.5, transB=1),
        node("Scaler", ["a"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0]),
    ]
    opsets = {"com.microsoft": 1, "": 21, "ai.onnx.ml": 3}
    return model(graph(nodes, [f32("x", 2, 2)], [f32("y", 2, 2)]), opsets)


FEATURES = (
    docs_and_metadata,
    node_names,
    inputs_with_defaults,
    outputs_that_nothing_computes,
    empty_tensors,
    constant_nodes,
    constant_node_as_output,
    sparse_tensors,
    captures,
    scan,
    branches_of_constants,
    functions,
    value_types,
    unread_fields,
    attributes,
    omitted_operands_and_outputs,
    spelled_out_domain,
    contrib_operators,
)
